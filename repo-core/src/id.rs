//! Names of things: fixed 32-byte identifiers, one type per thing that is named.
//!
//! Two families share the form. *Object* ids ([`PackId`], [`IndexId`], [`SnapshotId`], …) are the SHA-256 of an
//! object's stored bytes, so that anybody can verify a store with `sha256sum` and no key. [`BlobId`] is a keyed
//! BLAKE3 of a blob's plain bytes, so that it tells nothing to those without the key.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Length of every identifier.
pub const ID_BYTES: usize = 32;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identifier is 64 lower-case hexadecimal digits")]
pub struct ParseIdError;

/// Writes `bytes` as lower-case hexadecimal digits.
fn write_hex(bytes: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        write!(out, "{byte:02x}")?;
    }
    Ok(())
}

fn parse_hex(text: &str) -> Result<[u8; ID_BYTES], ParseIdError> {
    fn digit(byte: u8) -> Result<u8, ParseIdError> {
        match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(ParseIdError),
        }
    }
    let text = text.as_bytes();
    if text.len() != 2 * ID_BYTES {
        return Err(ParseIdError);
    }
    let mut id = [0; ID_BYTES];
    for (byte, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return Err(ParseIdError) };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(id)
}

macro_rules! id_types {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub [u8; ID_BYTES]);

        impl $name {
            /// The first eight hexadecimal digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }

            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; ID_BYTES] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, out)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "("))?;
                write_hex(self.0.get(..4).unwrap_or_default(), out)?;
                write!(out, "…)")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    )+};
}

id_types! {
    /// SHA-256 of a stored object's bytes, whatever the object is: its name in the store.
    ObjectId,
    /// Names a pack below `data/`.
    PackId,
    /// Names an index run below `index/`.
    IndexId,
    /// Names a snapshot body below `snapshots/`; what people call the snapshot's id.
    SnapshotId,
    /// Names a seal below `snapshots/`.
    SealId,
    /// Names a key slot below `keys/`.
    KeyId,
    /// Names a transient object below `locks/`: a session, a mark or an expire note.
    NoteId,
    /// Keyed BLAKE3-256 of a blob's plain bytes: the unit of deduplication.
    BlobId,
    /// Random name of a repository, bound into everything that is sealed for it.
    RepositoryId,
}

macro_rules! object_ids {
    ($($name:ident),+) => {$(
        impl From<ObjectId> for $name {
            fn from(id: ObjectId) -> Self {
                Self(id.0)
            }
        }
        impl From<$name> for ObjectId {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }
    )+};
}

object_ids!(PackId, IndexId, SnapshotId, SealId, KeyId, NoteId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip_and_strictness() {
        let id = PackId(std::array::from_fn(|i| u8::try_from(i * 7).unwrap_or(0)));
        assert_eq!(id.to_string().parse::<PackId>(), Ok(id));
        assert_eq!(id.short(), "00070e15");
        for bad in ["", "00", &id.to_string().to_uppercase(), &format!("{id}0"), &"é".repeat(32)] {
            assert_eq!(bad.parse::<PackId>(), Err(ParseIdError), "{bad}");
        }
    }
}
