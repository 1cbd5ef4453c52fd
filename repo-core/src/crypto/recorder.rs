//! Remembers every (key, nonce) pair that was sealed with, so that tests fail when one comes twice.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

static RECORDING: AtomicBool = AtomicBool::new(false);
static SEALED: AtomicU64 = AtomicU64::new(0);
static SEEN: Mutex<Option<HashSet<KeyAndNonce>>> = Mutex::new(None);

/// The key by its hash.
type KeyAndNonce = ([u8; 32], u32);

/// Starts to remember, for the rest of the process.
pub fn start() {
    RECORDING.store(true, Ordering::SeqCst);
}

/// How many pairs were remembered, so that a test can show that it saw any.
pub fn sealed() -> u64 {
    SEALED.load(Ordering::SeqCst)
}

/// Called by the cipher before every seal; the key is given by its hash.
///
/// # Panics
/// When the pair was used before.
pub(super) fn record(key_fingerprint: &[u8; 32], nonce: u32) {
    if !RECORDING.load(Ordering::Relaxed) {
        return;
    }
    SEALED.fetch_add(1, Ordering::SeqCst);
    let mut seen = SEEN.lock().expect("no panic while locked, but the one below, which ends the test");
    let fresh = seen.get_or_insert_default().insert((*key_fingerprint, nonce));
    drop(seen);
    assert!(fresh, "a (key, nonce) pair was used twice: nonce {nonce}");
}
