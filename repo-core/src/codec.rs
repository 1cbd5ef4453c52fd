//! The one way stored values become bytes and back: bincode 2 standard encoding (`docs/format.md` section 2), made strict.
//!
//! Decoding refuses trailing bytes and anything that would not encode to the very same bytes again, so that a value has
//! exactly one encoding and ids made from encodings cannot be played with.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

/// Largest encoding that is read; bounds what a claimed length can make the decoder allocate.
const LIMIT_BYTES: usize = crate::limits::DIRECTORY_BYTES_MAX;

const CONFIG: Configuration<LittleEndian, Varint, Limit<LIMIT_BYTES>> = bincode::config::standard().with_limit();

/// Why bytes are not the encoding of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Ends too early, or holds something the type cannot.
    #[error("not a valid encoding: {0}")]
    Malformed(String),
    /// There are bytes behind the value.
    #[error("{0} bytes follow the encoded value")]
    Trailing(usize),
    /// A longer encoding of the same value than the one we write.
    #[error("not the canonical encoding")]
    NotCanonical,
}

/// Encodes a value.
///
/// # Panics
/// Never for the stored types: they hold only what the encoding can express (a test encodes each of them).
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes);
    bytes
}

/// Appends the encoding of a value.
///
/// # Panics
/// As [`encode`].
pub fn encode_into<T: Serialize>(value: &T, into: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, into, bincode::config::standard())
        .expect("stored types can be encoded, and memory can be written");
}

/// Decodes a value from exactly these bytes.
///
/// # Errors
/// When the bytes are anything but what [`encode`] makes of some value.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, consumed): (T, usize) =
        bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|error| CodecError::Malformed(error.to_string()))?;
    if consumed != bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - consumed));
    }
    if !encodes_to(&value, bytes) {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}

/// Whether `value` encodes to exactly `bytes`, without building the encoding.
fn encodes_to<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    /// Compares what is written with what is expected.
    struct Compare<'a>(&'a [u8]);

    impl std::io::Write for Compare<'_> {
        fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.strip_prefix(part).ok_or(std::io::ErrorKind::InvalidData)?;
            Ok(part.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut compare = Compare(bytes);
    bincode::serde::encode_into_std_write(value, &mut compare, bincode::config::standard()).is_ok()
        && compare.0.is_empty()
}

/// Appends a length or a number as the encoding writes it (for types that are put together by hand).
pub fn encode_length(length: usize, into: &mut Vec<u8>) {
    encode_into(&(length as u64), into);
}
