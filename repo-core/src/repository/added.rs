//! How much a session stored.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::blob::BlobKind;

/// What a session stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// New data blobs.
    pub data_blobs: u64,
    /// Their plain bytes.
    pub data_bytes: u64,
    /// What they take in packs.
    pub data_packed_bytes: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Their plain bytes.
    pub tree_bytes: u64,
    /// What they take in packs.
    pub tree_packed_bytes: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    blobs: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    packed_bytes: [AtomicU64; 2],
}

impl Counts {
    /// All that was counted so far.
    pub(super) fn added(&self) -> Added {
        let get = |numbers: &[AtomicU64; 2], kind| numbers.get(slot(kind)).map_or(0, |n| n.load(Ordering::Relaxed));
        Added {
            data_blobs: get(&self.blobs, BlobKind::Data),
            data_bytes: get(&self.bytes, BlobKind::Data),
            data_packed_bytes: get(&self.packed_bytes, BlobKind::Data),
            tree_blobs: get(&self.blobs, BlobKind::Tree),
            tree_bytes: get(&self.bytes, BlobKind::Tree),
            tree_packed_bytes: get(&self.packed_bytes, BlobKind::Tree),
        }
    }

    /// Counts the blobs of a frame.
    pub(super) fn add(&self, kind: BlobKind, blobs: usize, plain_bytes: usize, packed_bytes: usize) {
        for (numbers, more) in [(&self.blobs, blobs), (&self.bytes, plain_bytes), (&self.packed_bytes, packed_bytes)] {
            if let Some(number) = numbers.get(slot(kind)) {
                number.fetch_add(more as u64, Ordering::Relaxed);
            }
        }
    }
}

pub(super) const fn slot(kind: BlobKind) -> usize {
    match kind {
        BlobKind::Data => 0,
        BlobKind::Tree => 1,
    }
}
