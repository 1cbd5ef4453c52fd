//! Stand-alone objects: config, snapshot bodies, seals, sessions, marks, expire notes.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    blob::Compression,
    codec,
    compress::{Compressor, Level, decompress},
    crypto::{
        aead::{Nonce, TAG_BYTES},
        keys::{Keys, ObjectKind},
    },
    envelope::header::{HEADER_BYTES, Header, ObjectCipher},
    error::{Damage, Error, Result},
    limits,
    runtime::Runtime,
};

/// Before the packed value: packed length (4), plain length (4), compression (1).
const PREFIX_BYTES: usize = 9;

/// Plain bytes of a sealed object are a multiple of this, but for seals.
const STEP_BYTES: usize = 64;

/// Plain bytes of a seal: no multiple of the step, so that its stored size is one no other object has.
const SEAL_PLAIN_BYTES: usize = 500;

/// Most bytes of the value that a seal holds.
pub const SEAL_VALUE_BYTES_MAX: usize = SEAL_PLAIN_BYTES - PREFIX_BYTES;

/// Stored size of every seal. Seals and snapshot bodies lie side by side; this size tells them apart without a look inside.
pub const SEAL_BYTES: u64 = (HEADER_BYTES + SEAL_PLAIN_BYTES + TAG_BYTES) as u64;

const _: () = assert!(!SEAL_PLAIN_BYTES.is_multiple_of(STEP_BYTES));
const _: () = assert!(SEAL_VALUE_BYTES_MAX > 32 * limits::SEAL_BODIES_MAX);

/// Seals a value as a new object.
///
/// # Errors
/// When the value is too large for an object of its kind, or what was sealed does not open again.
pub fn seal<T: Serialize>(keys: &Keys, kind: ObjectKind, value: &T, runtime: &dyn Runtime) -> Result<Vec<u8>> {
    let plain = codec::encode(value);
    let (plain_bytes, too_large) = match u32::try_from(plain.len()) {
        Ok(length) => (length, plain.len() > limits::OBJECT_BYTES_MAX),
        Err(_) => (0, true),
    };
    if too_large {
        return Err(Error::Invalid(format!("{kind:?} is larger than {} bytes", limits::OBJECT_BYTES_MAX)));
    }
    let mut packed = Vec::new();
    let compression = match kind {
        // A fixed size needs no compression, and must not depend on how well it works.
        ObjectKind::Seal => {
            packed = plain;
            Compression::Raw
        }
        _ => Compressor::new(Level::AUTO).compress(&plain, &mut packed),
    };
    let mut content = Vec::with_capacity(PREFIX_BYTES + packed.len() + STEP_BYTES);
    content.extend_from_slice(&u32::try_from(packed.len()).unwrap_or(u32::MAX).to_le_bytes());
    content.extend_from_slice(&plain_bytes.to_le_bytes());
    content.push(compression_byte(compression));
    content.extend_from_slice(&packed);
    let padded_bytes = match kind {
        ObjectKind::Seal => SEAL_PLAIN_BYTES,
        _ => content.len().next_multiple_of(STEP_BYTES),
    };
    if content.len() > padded_bytes {
        return Err(Error::Invalid(format!("one seal commits at most {} snapshots", limits::SEAL_BODIES_MAX)));
    }
    content.resize(padded_bytes, 0);
    let header = Header::new(kind, runtime.random_32());
    let mut bytes = header.bytes().to_vec();
    ObjectCipher::new(keys, &header).seal(Nonce::frame(0), &content, &mut bytes, &mut Vec::new())?;
    Ok(bytes)
}

/// Opens an object of `kind`. `name` names it in errors.
///
/// # Errors
/// When it is damaged, of another kind or repository, or newer than this program.
pub fn open<T: Serialize + DeserializeOwned>(
    keys: &Keys,
    kind: ObjectKind,
    bytes: &[u8],
    name: &dyn std::fmt::Display,
) -> Result<T> {
    let damage = |reason: &dyn std::fmt::Display| Error::from(Damage::new(name, reason));
    let header = Header::parse(bytes, kind, name)?;
    let sealed = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let mut content = Vec::new();
    ObjectCipher::new(keys, &header)
        .open(Nonce::frame(0), sealed, &mut content)
        .map_err(|_| damage(&"it does not authenticate (changed, or of another repository)"))?;

    let malformed = || damage(&"its content is malformed");
    let (packed_bytes, rest) = content.split_first_chunk::<4>().ok_or_else(malformed)?;
    let (plain_bytes, rest) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
    let ([compression], rest) = rest.split_first_chunk::<1>().ok_or_else(malformed)?;
    let to_length = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).unwrap_or(usize::MAX);
    let (packed_bytes, plain_bytes) = (to_length(packed_bytes), to_length(plain_bytes));
    let (packed, zeros) = rest.split_at_checked(packed_bytes).ok_or_else(malformed)?;
    if plain_bytes > limits::OBJECT_BYTES_MAX || zeros.iter().any(|byte| *byte != 0) {
        return Err(malformed());
    }
    let compression = compression_from_byte(*compression).ok_or_else(malformed)?;
    let mut plain = Vec::new();
    decompress(compression, packed, plain_bytes, &mut plain).map_err(|error| damage(&error))?;
    codec::decode(&plain).map_err(|error| damage(&error))
}

/// The stored number of a compression.
pub(super) const fn compression_byte(compression: Compression) -> u8 {
    match compression {
        Compression::Raw => 0,
        Compression::Zstd => 1,
    }
}

/// The compression with this stored number.
pub(super) const fn compression_from_byte(byte: u8) -> Option<Compression> {
    match byte {
        0 => Some(Compression::Raw),
        1 => Some(Compression::Zstd),
        _ => None,
    }
}
