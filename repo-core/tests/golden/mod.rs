//! What the golden tests share: fixed keys, and a world in which everything can be foreseen.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "every test uses a part of it")]

pub mod listing;
pub mod values;

use std::sync::atomic::{AtomicU64, Ordering};

use repo_core::{
    crypto::keys::{Keys, MasterKey},
    id::RepositoryId,
    runtime::Runtime,
    time::Timestamp,
};
use sha2::{Digest, Sha256};

/// A fixed time of day, and bytes that are the BLAKE3 output of a counter.
#[derive(Default)]
pub struct Foreseen(AtomicU64);

impl Runtime for Foreseen {
    fn now(&self) -> Timestamp {
        Timestamp::new(1_795_219_200, 123_456_789).unwrap()
    }

    fn random(&self, into: &mut [u8]) {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&number.to_le_bytes());
        hasher.finalize_xof().fill(into);
    }

    fn sleep_ms(&self, _: u64) {}
}

/// Master key 00 01 02 … 1f, repository id 20 21 22 … 3f.
pub fn keys() -> Keys {
    Keys::new(MasterKey::from_bytes(ascending(0)), RepositoryId(ascending(0x20)))
}

/// 32 bytes that count up.
pub fn ascending(from: u8) -> [u8; 32] {
    std::array::from_fn(|i| from + u8::try_from(i).unwrap())
}

/// Bytes that nothing can compress, and that are the same every time.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn noise_32(seed: u64) -> [u8; 32] {
    noise(seed, 32).try_into().unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
