//! The blobs a session has met for the first time.

use hashbrown::HashTable;

use crate::{id::BlobId, index::table::BlobPrefix};

/// A set of ids, of each as much as the index keeps: they are in a vector, and a table has their positions. 26 to 31 bytes a blob.
#[derive(Default)]
pub(super) struct NewBlobs {
    table: HashTable<u32>,
    ids: Vec<BlobPrefix>,
}

impl NewBlobs {
    /// Ids are hashes already.
    fn hash(id: &BlobPrefix) -> u64 {
        u64::from_le_bytes(*id.0.first_chunk().unwrap_or(&[0; 8]))
    }

    fn has(&self, id: &BlobPrefix) -> bool {
        self.table.find(Self::hash(id), |position| self.ids.get(*position as usize) == Some(id)).is_some()
    }

    /// Whether it is there.
    pub(super) fn contains(&self, id: &BlobId) -> bool {
        self.has(&id.into())
    }

    /// Adds an id; whether it was not there before.
    pub(super) fn insert(&mut self, id: &BlobId) -> bool {
        let id = BlobPrefix::from(id);
        if self.has(&id) {
            return false;
        }
        let Ok(position) = u32::try_from(self.ids.len()) else { return true };
        self.ids.push(id);
        let ids = &self.ids;
        self.table
            .insert_unique(Self::hash(&id), position, |position| ids.get(*position as usize).map_or(0, Self::hash));
        true
    }
}
