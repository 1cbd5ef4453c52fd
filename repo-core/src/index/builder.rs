//! Putting the tables of a new run together.

use std::collections::HashSet;

use crate::{
    blob::BlobKind,
    crypto::keys::Keys,
    error::{Error, Result},
    id::PackId,
    index::{
        run::{RunWriter, StoredRun},
        table::{BlobPrefix, Counts, FrameRow, LocationRow, PackRow, Table, TableBytes},
    },
    limits,
    pack::{directory::PackDirectory, reader::PackKey},
    runtime::Runtime,
};

/// Collects packs and their blobs, and makes an index run of them. 32 bytes a blob, and what its frames and packs take.
#[derive(Default, Clone)]
pub struct IndexBuilder {
    data: Vec<BlobRow>,
    tree: Vec<BlobRow>,
    frames: Vec<FrameRow>,
    packs: Vec<PackRow>,
    known: HashSet<PackId>,
}

/// A blob and where it is.
#[derive(Clone, Copy)]
struct BlobRow {
    prefix: BlobPrefix,
    location: LocationRow,
}

impl IndexBuilder {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Packs in it.
    #[must_use]
    pub fn packs(&self) -> usize {
        self.packs.len()
    }

    /// Blobs in it.
    #[must_use]
    pub fn blobs(&self) -> usize {
        self.data.len() + self.tree.len()
    }

    /// Whether this pack is in it, or passed over.
    #[must_use]
    pub fn names(&self, pack: &PackId) -> bool {
        self.known.contains(pack)
    }

    /// From now on passes over these packs.
    pub fn leave_out(&mut self, packs: impl IntoIterator<Item = PackId>) {
        self.known.extend(packs);
    }

    /// Adds a pack with everything in it, unless it is there already.
    pub fn add_pack(&mut self, id: PackId, key: PackKey, size_bytes: u32, kind: BlobKind, directory: &PackDirectory) {
        if !self.known.insert(id) {
            return;
        }
        let first_frame = to_row(self.frames.len());
        let pack = to_row(self.packs.len());
        let frames = to_row(directory.frames.len());
        self.packs.push(PackRow { id, key, size_bytes, first_frame, frames, kind });
        let rows = match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.tree,
        };
        for (frame, blobs) in directory.locations(id) {
            let number = to_row(self.frames.len());
            self.frames.push(FrameRow {
                pack,
                offset_bytes: frame.offset_bytes,
                stored_bytes: frame.stored_bytes,
                plain_bytes: frame.plain_bytes,
                compression: frame.compression,
            });
            let mut offset_bytes = 0;
            for blob in blobs {
                let location = LocationRow { frame: number, offset_bytes, length_bytes: blob.length_bytes };
                rows.push(BlobRow { prefix: (&blob.id).into(), location });
                offset_bytes += blob.length_bytes;
            }
        }
    }

    /// Adds everything of a run, but for packs that are there already.
    pub fn add_table<B: TableBytes>(&mut self, table: &Table<B>) {
        let counts = table.counts();
        let mut new_frame = vec![None; counts.frames as usize];
        for pack in (0..counts.packs).filter_map(|number| table.pack(number)) {
            if !self.known.insert(pack.id) {
                continue;
            }
            let number = to_row(self.packs.len());
            self.packs.push(PackRow { first_frame: to_row(self.frames.len()), ..pack });
            for row in pack.first_frame..pack.first_frame.saturating_add(pack.frames) {
                if let (Some((frame, _)), Some(new)) = (table.frame(row), new_frame.get_mut(row as usize)) {
                    *new = Some(to_row(self.frames.len()));
                    self.frames.push(FrameRow { pack: number, ..frame });
                }
            }
        }
        for kind in BlobKind::ALL {
            let rows = match kind {
                BlobKind::Data => &mut self.data,
                BlobKind::Tree => &mut self.tree,
            };
            for (prefix, location) in table.blobs(kind) {
                if let Some(frame) = new_frame.get(location.frame as usize).copied().flatten() {
                    rows.push(BlobRow { prefix, location: LocationRow { frame, ..location } });
                }
            }
        }
    }

    /// Makes the run.
    ///
    /// # Errors
    /// When it would be larger than any run may be, or what was sealed does not open again.
    pub fn finish(mut self, keys: &Keys, runtime: &dyn Runtime) -> Result<StoredRun> {
        if self.blobs() > limits::INDEX_ENTRIES_MAX {
            return Err(Error::Invalid(format!("an index run holds at most {} blobs", limits::INDEX_ENTRIES_MAX)));
        }
        drop(std::mem::take(&mut self.known));
        let counts = Counts {
            data: to_row(self.data.len()),
            tree: to_row(self.tree.len()),
            frames: to_row(self.frames.len()),
            packs: to_row(self.packs.len()),
        };
        let mut writer = RunWriter::new(keys, counts, runtime);
        // Of several copies of a blob the order of their locations decides, so that the bytes depend on nothing else.
        for rows in [&mut self.data, &mut self.tree] {
            rows.sort_unstable_by_key(|row| (row.prefix, row.location.frame, row.location.offset_bytes));
        }
        for row in self.data.iter().chain(&self.tree) {
            writer.write(&row.prefix.0)?;
        }
        for row in self.data.iter().chain(&self.tree) {
            writer.write(&row.location.encode())?;
        }
        for frame in &self.frames {
            writer.write(&frame.encode())?;
        }
        for pack in &self.packs {
            writer.write(&pack.encode())?;
        }
        writer.finish()
    }
}

/// A row's number. Runs are bounded far below 2^32 rows; a number beyond it would be refused with the run.
fn to_row(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
