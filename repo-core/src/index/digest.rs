//! What is said of a pack, as one number: the same wherever the pack is described the same.
//!
//! Nobody's safety hangs on it: the index is a hint, and what is read by it is verified.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{
    blob::{BlobKind, FrameLocation},
    id::PackId,
    index::table::{BlobPrefix, Table, TableBytes},
    pack::reader::PackSummary,
};

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn blob(prefix: BlobPrefix, frame: &FrameLocation, offset_bytes: u32, length_bytes: u32) -> u64 {
    hash((prefix, frame.ordinal, offset_bytes, length_bytes))
}

/// Of every pack of a run, by row.
pub fn of_packs<B: TableBytes>(table: &Table<B>) -> Vec<u64> {
    let counts = table.counts();
    let rows = (0..counts.packs).map(|number| table.pack(number));
    let mut digests: Vec<u64> =
        rows.map(|row| row.map_or(0, |row| hash((row.key, row.size_bytes, row.frames, row.kind)))).collect();
    let mut add = |pack: u32, more: u64| {
        if let Some(digest) = digests.get_mut(pack as usize) {
            *digest = digest.wrapping_add(more);
        }
    };
    for (row, frame) in (0..counts.frames).filter_map(|number| table.frame(number)) {
        add(row.pack, hash(frame));
    }
    for kind in BlobKind::ALL {
        for (prefix, location) in table.blobs(kind) {
            if let Some((row, frame)) = table.frame(location.frame) {
                add(row.pack, blob(prefix, &frame, location.offset_bytes, location.length_bytes));
            }
        }
    }
    digests
}

/// Of a pack, by its own directory.
#[must_use]
pub fn of_directory(pack: PackId, size_bytes: u32, summary: &PackSummary) -> u64 {
    let frames = u32::try_from(summary.directory.frames.len()).unwrap_or(u32::MAX);
    let mut digest = hash((summary.key, size_bytes, frames, summary.kind));
    for (frame, blobs) in summary.directory.locations(pack) {
        digest = digest.wrapping_add(hash(frame));
        let mut offset_bytes = 0;
        for packed in blobs {
            digest = digest.wrapping_add(blob((&packed.id).into(), &frame, offset_bytes, packed.length_bytes));
            offset_bytes += packed.length_bytes;
        }
    }
    digest
}
