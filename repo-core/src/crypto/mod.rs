//! Keys and ciphers. Nothing here touches a store.
//!
//! `docs/format.md` sections 3 and 4 are the specification: one master key, subkeys by BLAKE3 key derivation, a fresh
//! AES-256-GCM key for every stored object, passwords through Argon2id with key commitment.

pub mod aead;
pub mod kdf;
pub mod keys;
pub mod slot;

#[cfg(any(test, feature = "test-support"))]
pub mod recorder;
