//! Directories on their way into packs: those with much below them are held back, and end up side by side.
//!
//! A directory is stored behind all that is in it, so that those on the way from the root to a file would lie all over the packs. So pages of
//! trees are gathered in frames by how many entries are below them, and the frames of those with many, which are few, go into the
//! pack behind all others: a reader far away has the upper part of a path with one request (see `kept`).

use std::sync::Mutex;

use crate::{
    blob::{BlobKind, Compression},
    error::Result,
    id::BlobId,
    pack::{builder::PackedFrame, directory::PackBlob},
    repository::{
        frames::Frame,
        session::Session,
        shared::{Shared, lock},
    },
};

/// Entries in and below a page of a tree from which on it lies in frames of the next level.
const LEVELS: [u64; 2] = [1 << 10, 1 << 16];

/// Most packed bytes of a level that are held back.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Pages of trees, by how many entries are below them, the fewest first.
pub(super) struct Directories([Mutex<Level>; LEVELS.len() + 1]);

struct Level {
    frame: Frame,
    held: Vec<HeldFrame>,
}

/// A frame that waits for its place in a pack.
struct HeldFrame {
    packed: Vec<u8>,
    compression: Compression,
    plain_bytes: u32,
    blobs: Vec<PackBlob>,
}

impl Directories {
    pub(super) fn new(shared: &Shared) -> Self {
        let level = || Level { frame: Frame::new(shared, BlobKind::Tree), held: Vec::new() };
        Self(std::array::from_fn(|_| Mutex::new(level())))
    }
}

impl Level {
    /// Holds back what the frame has gathered; whether that is as much as may be.
    fn hold(&mut self) -> Result<bool> {
        if let Some(PackedFrame { packed, compression, plain_bytes, blobs }) = self.frame.pack()? {
            self.held.push(HeldFrame { packed: packed.to_vec(), compression, plain_bytes, blobs });
        }
        Ok(self.held.iter().map(|frame| frame.packed.len()).sum::<usize>() >= HELD_BYTES_MAX)
    }
}

impl Session {
    /// Adds a page of a tree that has so many entries in it and below it; whether it is new.
    pub(super) fn add_directory(&self, id: BlobId, plain: &[u8], entries: u64) -> Result<bool> {
        let number = LEVELS.partition_point(|least| *least <= entries);
        // Locked before it is claimed: whoever finds it claimed and then flushes has stored it.
        let mut level = lock(self.directories.0.get(number).expect("there is a frame for each level"));
        if !self.claim(BlobKind::Tree, &id) {
            return Ok(false);
        }
        level.frame.add(id, plain);
        if level.frame.is_full() {
            self.shared.check()?;
            if number == 0 || level.hold().map_err(|error| self.shared.fail(error))? {
                self.store_level(&mut level)?;
            }
        }
        Ok(true)
    }

    /// Stores all that was gathered and held back.
    pub(super) fn store_directories(&self) -> Result<()> {
        self.directories.0.iter().try_for_each(|level| self.store_level(&mut lock(level)))
    }

    fn store_level(&self, level: &mut Level) -> Result<()> {
        for HeldFrame { packed, compression, plain_bytes, blobs } in level.held.drain(..) {
            self.store_packed(BlobKind::Tree, PackedFrame { packed: &packed, compression, plain_bytes, blobs })?;
        }
        self.store_frame(&mut level.frame)
    }
}
