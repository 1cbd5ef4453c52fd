//! The one way stored values become bytes and back: bincode 2 standard encoding (`docs/format.md` section 2), made strict.
//!
//! Decoding refuses trailing bytes and anything that would not encode to the very same bytes again, so that a value has
//! exactly one encoding and ids made from encodings cannot be played with.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use std::cell::RefCell;

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

/// Whether `value` encodes to exactly `bytes`.
fn encodes_to<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    thread_local! {
        // Kept, since this runs for every page of every directory; no larger than what was decoded.
        static AGAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    AGAIN.with_borrow_mut(|again| {
        again.clear();
        encode_into(value, again);
        *again == bytes
    })
}

/// Appends a length or a number as the encoding writes it (for types that are put together by hand).
pub fn encode_length(length: usize, into: &mut Vec<u8>) {
    encode_into(&(length as u64), into);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict() {
        let value = (7u64, vec![1u32, 300, 70_000], -1i64, Some("text".to_string()));
        let bytes = encode(&value);
        assert_eq!(decode::<(u64, Vec<u32>, i64, Option<String>)>(&bytes).unwrap(), value);
        for length in 0..bytes.len() {
            let cut = decode::<(u64, Vec<u32>, i64, Option<String>)>(&bytes[..length]);
            assert!(matches!(cut, Err(CodecError::Malformed(_))), "{length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode::<(u64, Vec<u32>, i64, Option<String>)>(&longer), Err(CodecError::Trailing(1)));
    }

    #[test]
    fn overlong_numbers_are_refused() {
        assert_eq!(encode(&1u32), [1]);
        for overlong in [&[251, 1, 0][..], &[252, 1, 0, 0, 0]] {
            assert_eq!(decode::<u32>(overlong), Err(CodecError::NotCanonical));
        }
    }

    #[test]
    fn absurd_lengths_allocate_nothing() {
        let mut bytes = vec![253];
        bytes.extend_from_slice(&(1u64 << 62).to_le_bytes());
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<String>(&bytes), Err(CodecError::Malformed(_))));
    }
}
