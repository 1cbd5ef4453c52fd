//! The first 48 bytes of every object, and the cipher that belongs to them.

use crate::{
    crypto::{
        aead::{Cipher, Nonce, OpenError, TAG_BYTES},
        keys::{Keys, ObjectKind},
        slot::{FORMAT_VERSION, MAGIC},
    },
    error::{Damage, Error},
    id::ID_BYTES,
};

/// Length of a header.
pub const HEADER_BYTES: usize = 48;

/// Magic, version, kind and salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: ObjectKind,
    /// The version of the format it was written in.
    pub version: u16,
    /// Fresh for each object; makes its key.
    pub salt: [u8; 32],
}

impl Header {
    /// The header of a new object.
    #[must_use]
    pub const fn new(kind: ObjectKind, salt: [u8; 32]) -> Self {
        Self { kind, version: FORMAT_VERSION, salt }
    }

    /// The stored form: magic (8), version (2), kind (1), zeros (5), salt (32).
    #[must_use]
    pub fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let parts: [&[u8]; 5] = [&MAGIC, &self.version.to_le_bytes(), &[self.kind as u8], &[0; 5], &self.salt];
        for (byte, value) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *value;
        }
        bytes
    }

    /// Reads a header and requires it to be of `kind`. `object` names the object in errors.
    ///
    /// # Errors
    /// When it is none, of another kind, or of a version this program does not know.
    pub fn parse(bytes: &[u8], kind: ObjectKind, object: &dyn std::fmt::Display) -> Result<Self, Error> {
        let damage = |reason: &str| Error::from(Damage::new(object, reason));
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(damage("it is too short to be an object of a repository"));
        };
        let Some((found, rest)) = header.split_first_chunk::<8>() else { return Err(damage("too short")) };
        if *found != MAGIC {
            return Err(damage("it does not begin with coffer's magic bytes"));
        }
        let [version_low, version_high, found_kind, zeros @ ..] = rest else { return Err(damage("too short")) };
        let version = u16::from_le_bytes([*version_low, *version_high]);
        if version > FORMAT_VERSION {
            return Err(Error::NewerFormat { object: object.to_string(), found: version, known: FORMAT_VERSION });
        }
        let Some((zeros, salt)) = zeros.split_first_chunk::<5>() else { return Err(damage("too short")) };
        if version == 0 || *zeros != [0; 5] {
            return Err(damage("its header is not valid"));
        }
        if *found_kind != kind as u8 {
            return Err(damage("it is an object of another kind"));
        }
        let salt = *salt.first_chunk().ok_or_else(|| damage("too short"))?;
        Ok(Self { kind, version, salt })
    }
}

/// Seals and opens the parts of one object; binds each to the object's header and to the repository.
pub struct ObjectCipher {
    cipher: Cipher,
    associated: [u8; HEADER_BYTES + ID_BYTES],
}

impl ObjectCipher {
    /// The cipher for the object with this header.
    #[must_use]
    pub fn new(keys: &Keys, header: &Header) -> Self {
        let mut associated = [0; HEADER_BYTES + ID_BYTES];
        let (first, second) = associated.split_at_mut(HEADER_BYTES);
        first.copy_from_slice(&header.bytes());
        second.copy_from_slice(&keys.repository().0);
        Self { cipher: Cipher::new(&keys.object_key(header.kind, &header.salt)), associated }
    }

    /// Appends `plain` to `bytes` as a sealed part, opens the result again into `scratch` and compares, so that a fault of
    /// memory or cipher is found before anything is stored.
    ///
    /// # Errors
    /// When what was sealed does not open to what it was.
    pub fn seal(&self, nonce: Nonce, plain: &[u8], bytes: &mut Vec<u8>, scratch: &mut Vec<u8>) -> Result<(), Damage> {
        let from = bytes.len();
        bytes.extend_from_slice(plain);
        self.cipher.seal(nonce, &self.associated, bytes, from);
        let opened = self.cipher.open(nonce, &self.associated, bytes.get(from..).unwrap_or_default(), scratch);
        if opened.is_err() || scratch != plain {
            return Err(Damage::new("a part just sealed", "it does not open to what it was; the memory may be faulty"));
        }
        Ok(())
    }

    /// Opens a sealed part into `into`.
    ///
    /// # Errors
    /// When it is not what was sealed.
    pub fn open(&self, nonce: Nonce, sealed: &[u8], into: &mut Vec<u8>) -> Result<(), OpenError> {
        self.cipher.open(nonce, &self.associated, sealed, into)
    }
}

/// Stored length of a part with so many plain bytes.
#[must_use]
pub const fn sealed_bytes(plain_bytes: usize) -> usize {
    plain_bytes + TAG_BYTES
}
