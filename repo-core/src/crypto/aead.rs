//! AES-256-GCM (NIST SP 800-38D) under a key that belongs to one stored object, with a counter for a nonce.
//!
//! The salt of every object is fresh, so its key is, and within the object each nonce is handed out once: frame
//! ordinals count up from zero, the parts that every object has use the reserved numbers below [`u32::MAX`].

use crate::crypto::keys::ObjectKey;

/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;

/// Says that bytes were not sealed with this key, nonce and associated data, or were changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct OpenError;

/// Number of a sealed part within one object; used once per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(u32);

impl Nonce {
    /// The directory of a container.
    pub const DIRECTORY: Self = Self(u32::MAX - 2);
    /// The padding of a container.
    pub const PADDING: Self = Self(u32::MAX - 1);
    /// The trailer of a container.
    pub const TRAILER: Self = Self(u32::MAX);

    /// The n-th frame.
    #[must_use]
    pub const fn frame(ordinal: u32) -> Self {
        assert!(ordinal < Self::DIRECTORY.0, "frame ordinals stay below the reserved nonces");
        Self(ordinal)
    }

    /// 96 bits: the number, little-endian, then zeros.
    const fn bytes(self) -> [u8; 12] {
        let n = self.0.to_le_bytes();
        [n[0], n[1], n[2], n[3], 0, 0, 0, 0, 0, 0, 0, 0]
    }
}

/// Seals and opens the parts of one object.
pub struct Cipher {
    inner: backend::Key,
    #[cfg(any(test, feature = "test-support"))]
    fingerprint: [u8; 32],
}

impl Cipher {
    /// A cipher for the object that `key` was derived for.
    #[must_use]
    pub fn new(key: &ObjectKey) -> Self {
        Self {
            inner: backend::Key::new(key.expose()),
            #[cfg(any(test, feature = "test-support"))]
            fingerprint: *blake3::hash(key.expose()).as_bytes(),
        }
    }

    /// Encrypts `bytes[from..]` where it lies and appends the tag.
    pub fn seal(&self, nonce: Nonce, associated: &[u8], bytes: &mut Vec<u8>, from: usize) {
        #[cfg(any(test, feature = "test-support"))]
        crate::crypto::recorder::record(&self.fingerprint, nonce.0);
        let tag = self.inner.seal(&nonce.bytes(), associated, bytes.get_mut(from..).unwrap_or_default());
        bytes.extend_from_slice(&tag);
    }

    /// Opens `sealed` (ciphertext and tag) into `into`, replacing what was there.
    ///
    /// # Errors
    /// When it was not sealed with this key, nonce and associated data; `into` is then empty.
    pub fn open(&self, nonce: Nonce, associated: &[u8], sealed: &[u8], into: &mut Vec<u8>) -> Result<(), OpenError> {
        into.clear();
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(OpenError)?;
        let (ciphertext, tag) = sealed.split_at(length);
        let result = self.inner.open(&nonce.bytes(), associated, ciphertext, tag, into);
        if result.is_err() {
            into.clear();
        }
        result
    }
}

#[cfg(feature = "fast-aead")]
mod backend {
    //! aws-lc: one pass, AVX-512 where there is any.
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::{OpenError, TAG_BYTES};

    pub(super) struct Key(LessSafeKey);

    impl Key {
        pub(super) fn new(key: &[u8; 32]) -> Self {
            Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes")))
        }

        pub(super) fn seal(&self, nonce: &[u8; 12], associated: &[u8], bytes: &mut [u8]) -> [u8; TAG_BYTES] {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let tag = self
                .0
                .seal_in_place_separate_tag(nonce, Aad::from(associated), bytes)
                .expect("an object's part is far below the cipher's limit of 2^36 bytes");
            let mut out = [0; TAG_BYTES];
            out.copy_from_slice(tag.as_ref());
            out
        }

        pub(super) fn open(
            &self,
            nonce: &[u8; 12],
            associated: &[u8],
            ciphertext: &[u8],
            tag: &[u8],
            into: &mut Vec<u8>,
        ) -> Result<(), OpenError> {
            into.resize(ciphertext.len(), 0);
            let nonce = Nonce::assume_unique_for_key(*nonce);
            self.0.open_separate_gather(nonce, Aad::from(associated), ciphertext, tag, into).map_err(|_| OpenError)
        }
    }
}

#[cfg(not(feature = "fast-aead"))]
use portable as backend;

#[cfg(any(test, not(feature = "fast-aead")))]
mod portable {
    //! `RustCrypto`: no C, any machine.
    use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag, aead::AeadInOut};

    use super::{OpenError, TAG_BYTES};

    pub(super) struct Key(Aes256Gcm);

    impl Key {
        pub(super) fn new(key: &[u8; 32]) -> Self {
            Self(Aes256Gcm::new(&(*key).into()))
        }

        pub(super) fn seal(&self, nonce: &[u8; 12], associated: &[u8], bytes: &mut [u8]) -> [u8; TAG_BYTES] {
            self.0
                .encrypt_inout_detached(&Nonce::from(*nonce), associated, bytes.into())
                .expect("an object's part is far below the cipher's limit of 2^36 bytes")
                .into()
        }

        pub(super) fn open(
            &self,
            nonce: &[u8; 12],
            associated: &[u8],
            ciphertext: &[u8],
            tag: &[u8],
            into: &mut Vec<u8>,
        ) -> Result<(), OpenError> {
            let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| OpenError)?;
            into.extend_from_slice(ciphertext);
            self.0
                .decrypt_inout_detached(&Nonce::from(*nonce), associated, into.as_mut_slice().into(), &Tag::from(tag))
                .map_err(|_| OpenError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> ObjectKey {
        ObjectKey::for_test([byte; 32])
    }

    #[test]
    fn both_implementations_agree() {
        for length in [0, 1, 15, 16, 17, 255, 4096, 70_001] {
            let plain: Vec<u8> = (0..length).map(|i: u32| i.wrapping_mul(31).to_le_bytes()[0]).collect();
            let (fast, plain_rust) = (backend::Key::new(&[7; 32]), portable::Key::new(&[7; 32]));
            let (mut x, mut y) = (plain.clone(), plain.clone());
            let nonce = Nonce::frame(length).bytes();
            let (tag, other_tag) = (fast.seal(&nonce, b"aad", &mut x), plain_rust.seal(&nonce, b"aad", &mut y));
            assert_eq!((&x, tag), (&y, other_tag), "{length}");
            let mut out = Vec::new();
            fast.open(&nonce, b"aad", &y, &tag, &mut out).unwrap();
            assert_eq!(out, plain);
            out.clear();
            plain_rust.open(&nonce, b"aad", &x, &tag, &mut out).unwrap();
            assert_eq!(out, plain);
        }
    }

    /// Test case 16 of the GCM specification (`McGrew` and Viega), the one with AES-256 and associated data.
    #[test]
    fn published_vector() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let key: [u8; 32] = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308").try_into().unwrap();
        let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let mut bytes = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let tag = backend::Key::new(&key).seal(&nonce, &hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), &mut bytes);
        assert_eq!(tag.to_vec(), hex("76fc6ece0f4e1768cddf8853bb2d551b"));
        assert_eq!(bytes[..8], hex("522dc1f099567d07")[..]);
    }

    #[test]
    fn any_change_is_refused() {
        let cipher = Cipher::new(&key(1));
        let mut sealed = b"head".to_vec();
        sealed.extend_from_slice(b"the plain bytes");
        cipher.seal(Nonce::frame(3), b"role", &mut sealed, 4);
        let sealed = &sealed[4..];
        let mut out = Vec::new();
        cipher.open(Nonce::frame(3), b"role", sealed, &mut out).unwrap();
        assert_eq!(out, b"the plain bytes");
        assert_eq!(cipher.open(Nonce::frame(4), b"role", sealed, &mut out), Err(OpenError));
        assert_eq!(cipher.open(Nonce::frame(3), b"rule", sealed, &mut out), Err(OpenError));
        assert_eq!(Cipher::new(&key(2)).open(Nonce::frame(3), b"role", sealed, &mut out), Err(OpenError));
        for position in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[position] ^= 1;
            assert_eq!(cipher.open(Nonce::frame(3), b"role", &changed, &mut out), Err(OpenError));
            assert_eq!(cipher.open(Nonce::frame(3), b"role", &sealed[..position], &mut out), Err(OpenError));
            assert!(out.is_empty());
        }
    }
}
