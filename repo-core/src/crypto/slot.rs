//! Key slots: the master key, wrapped by a password (`docs/format.md` section 4).
//!
//! A slot is readable with nothing but the password and this layout; everything in it has a fixed width.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    crypto::{
        aead::{Cipher, Nonce, TAG_BYTES},
        kdf::{self, KdfCost, KdfError},
        keys::{Keys, MasterKey, ObjectKey, ObjectKind},
    },
    id::RepositoryId,
    runtime::Runtime,
    time::Timestamp,
};

/// First bytes of every object of a repository.
pub const MAGIC: [u8; 8] = *b"COFFER\r\n";

/// Newest format this program reads, and the one it writes.
pub const FORMAT_VERSION: u16 = 1;

/// Bytes of the labels in a slot: host and user that made it, for `key list`.
const LABEL_BYTES: usize = 64;

const HEADER_BYTES: usize = 8 + 2 + 1 + 1 + 4 + 4 + 4 + 32 + 32;
const WRAPPED_BYTES: usize = 32 + 32 + TAG_BYTES;
const INFO_BYTES: usize = 8 + 4 + 2 * (1 + LABEL_BYTES) + TAG_BYTES;

/// Stored size of every slot.
pub const SLOT_BYTES: usize = HEADER_BYTES + WRAPPED_BYTES + INFO_BYTES;

/// Argon2id with the layout of version 1.
const KDF_ARGON2ID: u8 = 1;

/// What an opened slot holds.
pub struct Slot {
    /// The key of everything.
    pub master: MasterKey,
    /// The repository it opens.
    pub repository: RepositoryId,
}

/// Who made a slot, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// When.
    pub created: Timestamp,
    /// On which machine.
    pub host: String,
    /// Which user.
    pub user: String,
}

/// Why a slot does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// It is another password's slot.
    #[error("the password does not open this key")]
    WrongPassword,
    /// It is no slot, or was changed.
    #[error("not a key slot, or damaged: {0}")]
    Damaged(&'static str),
    /// It has a newer format.
    #[error("key slot format version {0} is newer than this program")]
    Newer(u16),
    /// The password could not be turned into a key.
    #[error(transparent)]
    Kdf(#[from] KdfError),
}

/// Wraps the master key with a password into a new slot.
///
/// # Errors
/// When the costs are out of bounds or the memory for the derivation cannot be had.
pub fn wrap(
    keys: &Keys,
    info: &SlotInfo,
    password: &[u8],
    cost: KdfCost,
    runtime: &dyn Runtime,
) -> Result<Vec<u8>, SlotError> {
    let salt = runtime.random_32();
    let (key, commitment) = wrapping_key(password, &salt, cost)?;

    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&[ObjectKind::KeySlot as u8, KDF_ARGON2ID]);
    for cost in [cost.memory_kib, cost.passes, cost.lanes] {
        bytes.extend_from_slice(&cost.to_le_bytes());
    }
    bytes.extend_from_slice(&salt);
    bytes.extend_from_slice(&commitment);
    debug_assert_eq!(bytes.len(), HEADER_BYTES);

    let header = bytes.clone();
    bytes.extend_from_slice(keys.master().expose());
    bytes.extend_from_slice(&keys.repository().0);
    Cipher::new(&key).seal(Nonce::frame(0), &header, &mut bytes, HEADER_BYTES);

    let before = bytes.clone();
    bytes.extend_from_slice(&info.created.seconds().to_le_bytes());
    bytes.extend_from_slice(&info.created.nanoseconds().to_le_bytes());
    put_label(&mut bytes, &info.host);
    put_label(&mut bytes, &info.user);
    info_cipher(keys, &salt).seal(Nonce::frame(0), &before, &mut bytes, before.len());
    debug_assert_eq!(bytes.len(), SLOT_BYTES);
    Ok(bytes)
}

/// Who made a slot of this repository: readable with the master key, whatever password the slot is for.
///
/// # Errors
/// When it is no slot of this repository, was changed, or is newer than this program.
pub fn info(bytes: &[u8], keys: &Keys) -> Result<SlotInfo, SlotError> {
    Fields(bytes).version()?;
    let damaged = || SlotError::Damaged("its description does not authenticate");
    let (before, sealed) = bytes.split_at_checked(HEADER_BYTES + WRAPPED_BYTES).ok_or_else(damaged)?;
    let salt = before.get(24..).and_then(|bytes| bytes.first_chunk()).ok_or_else(damaged)?;
    let mut plain = Vec::new();
    info_cipher(keys, salt).open(Nonce::frame(0), before, sealed, &mut plain).map_err(|_| damaged())?;
    let mut fields = Fields(&plain);
    Ok(SlotInfo {
        created: Timestamp::new(i64::from_le_bytes(fields.take()?), u32::from_le_bytes(fields.take()?))
            .map_err(|_| SlotError::Damaged("its time is none"))?,
        host: fields.label()?,
        user: fields.label()?,
    })
}

/// The cipher of a slot's description: another key than the one that wraps, derived from the master key and the slot's salt.
fn info_cipher(keys: &Keys, salt: &[u8; 32]) -> Cipher {
    Cipher::new(&keys.object_key(ObjectKind::KeySlot, salt))
}

/// Opens a slot with a password. The commitment is compared before anything is decrypted, so that no ciphertext can
/// open under two passwords.
///
/// # Errors
/// When the password is another one, or the bytes are no slot.
pub fn unwrap(bytes: &[u8], password: &[u8]) -> Result<Slot, SlotError> {
    let mut fields = Fields(bytes);
    let version = fields.version()?;
    if bytes.len() != SLOT_BYTES {
        return Err(SlotError::Damaged("its size is not that of a key slot"));
    }
    if version == 0 || fields.take()? != [ObjectKind::KeySlot as u8, KDF_ARGON2ID] {
        return Err(SlotError::Damaged("its header is not that of a key slot"));
    }
    let mut cost = || fields.take().map(u32::from_le_bytes);
    let cost = KdfCost { memory_kib: cost()?, passes: cost()?, lanes: cost()? };
    let salt = fields.take()?;
    let stored_commitment: [u8; 32] = fields.take()?;

    let (key, commitment) = wrapping_key(password, &salt, cost)?;
    if !bool::from(commitment.ct_eq(&stored_commitment)) {
        return Err(SlotError::WrongPassword);
    }
    let (header, sealed) = bytes.split_at(HEADER_BYTES);
    let sealed = sealed.get(..WRAPPED_BYTES).unwrap_or_default();
    let mut plain = Zeroizing::new(Vec::new());
    Cipher::new(&key)
        .open(Nonce::frame(0), header, sealed, &mut plain)
        .map_err(|_| SlotError::Damaged("its content does not authenticate"))?;

    let mut fields = Fields(&plain);
    Ok(Slot { master: MasterKey::from_bytes(fields.take()?), repository: RepositoryId(fields.take()?) })
}

/// The key that wraps, and the commitment to it that is stored.
fn wrapping_key(password: &[u8], salt: &[u8; 32], cost: KdfCost) -> Result<(ObjectKey, [u8; 32]), KdfError> {
    let derived = kdf::derive(password, salt, cost)?;
    let (mut key, mut commitment) = ([0; 32], [0; 32]);
    let (first, second) = derived.split_at(32);
    key.copy_from_slice(first);
    commitment.copy_from_slice(second);
    Ok((ObjectKey::from_bytes(key), commitment))
}

/// A length byte and a fixed room; longer labels are cut at a character.
fn put_label(bytes: &mut Vec<u8>, label: &str) {
    let mut length = label.len().min(LABEL_BYTES);
    while !label.is_char_boundary(length) {
        length -= 1;
    }
    bytes.push(u8::try_from(length).unwrap_or(0));
    bytes.extend_from_slice(label.as_bytes().get(..length).unwrap_or_default());
    bytes.resize(bytes.len() + LABEL_BYTES - length, 0);
}

/// Reads fixed-width fields from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SlotError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(SlotError::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(*field)
    }

    /// Takes magic and version, whatever comes behind them.
    fn version(&mut self) -> Result<u16, SlotError> {
        if self.take::<8>()? != MAGIC {
            return Err(SlotError::Damaged("it does not begin with coffer's magic bytes"));
        }
        let version = u16::from_le_bytes(self.take()?);
        if version > FORMAT_VERSION { Err(SlotError::Newer(version)) } else { Ok(version) }
    }

    fn label(&mut self) -> Result<String, SlotError> {
        let [length] = self.take()?;
        let room: [u8; LABEL_BYTES] = self.take()?;
        room.get(..usize::from(length))
            .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
            .ok_or(SlotError::Damaged("a label in it is not text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SystemRuntime;

    fn keys() -> Keys {
        Keys::new(MasterKey::from_bytes([3; 32]), RepositoryId([4; 32]))
    }

    fn slot_info() -> SlotInfo {
        SlotInfo { created: Timestamp::from_seconds(77), host: "h".into(), user: "ü".repeat(50) }
    }

    fn slot() -> Vec<u8> {
        wrap(&keys(), &slot_info(), b"secret", KdfCost::TEST, &SystemRuntime).unwrap()
    }

    #[test]
    fn wraps_and_unwraps() {
        let bytes = slot();
        let opened = unwrap(&bytes, b"secret").unwrap();
        assert_eq!(opened.master.expose(), keys().master().expose());
        assert_eq!(opened.repository, keys().repository());
        assert_eq!(info(&bytes, &keys()).unwrap(), SlotInfo { user: "ü".repeat(32), ..slot_info() });
        assert_eq!(unwrap(&bytes, b"Secret").err(), Some(SlotError::WrongPassword));
    }

    #[test]
    fn every_flip_and_cut_is_noticed() {
        let bytes = slot();
        for position in 0..bytes.len() {
            // The highest bytes of the costs would make Argon2 run with up to 4 GiB; the bounds have their own test.
            if (13..16).contains(&position) {
                continue;
            }
            let mut changed = bytes.clone();
            changed[position] ^= 0x40;
            let opens = unwrap(&changed, b"secret").is_ok();
            assert_eq!(opens, position >= HEADER_BYTES + WRAPPED_BYTES, "byte {position}");
            assert!(info(&changed, &keys()).is_err(), "byte {position}");
            assert!(unwrap(&bytes[..position], b"secret").is_err(), "cut at {position}");
            assert!(info(&bytes[..position], &keys()).is_err(), "cut at {position}");
        }
        assert!(unwrap(&[bytes.as_slice(), &[0]].concat(), b"secret").is_err());
    }

    /// A slot whose commitment is another key's must not be decrypted at all, even where the tag would fit.
    #[test]
    fn commitment_comes_first() {
        let mut bytes = slot();
        bytes[HEADER_BYTES - 1] ^= 1;
        assert_eq!(unwrap(&bytes, b"secret").err(), Some(SlotError::WrongPassword));
    }
}
