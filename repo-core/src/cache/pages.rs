//! Pages of index runs, as stored, where a run is not kept as a whole.
//!
//! Each file has BLAKE3's keyed hash of name of the run ‖ number of the page ‖ page, 32 bytes, and then the page. A page authenticates by
//! itself; the hash binds it to the name, so that nobody can put one run's pages in another one's place.

use std::collections::BTreeSet;

use super::{Cache, Part};
use crate::{
    id::{IndexId, ObjectId},
    limits,
};

/// Length of the hash.
const HASH_BYTES: usize = 32;

/// The end of a run, with its directory, in place of a page's number.
pub const DIRECTORY: u32 = u32::MAX;

impl Cache {
    /// A page of a run, as stored, if it is here.
    #[must_use]
    pub fn page(&self, run: IndexId, number: u32) -> Option<Vec<u8>> {
        if !self.keeps_objects() {
            return None;
        }
        let name = page_name(run, number);
        let mut bytes = self.read(Part::Pages, &name, HASH_BYTES as u64 + limits::INDEX_BYTES_MAX)?;
        let is_whole = bytes
            .split_first_chunk::<HASH_BYTES>()
            .is_some_and(|(hash, page)| self.page_hash(run, number, page) == *hash);
        if !is_whole {
            self.remove(Part::Pages, &name);
            return None;
        }
        bytes.drain(..HASH_BYTES);
        Some(bytes)
    }

    /// Keeps a page of a run, as stored.
    pub fn keep_page(&self, run: IndexId, number: u32, page: &[u8]) {
        if self.keeps_objects() {
            let hash = self.page_hash(run, number, page);
            self.write(Part::Pages, &page_name(run, number), &[hash.as_bytes(), page].concat());
        }
    }

    /// Drops the pages of runs that are not among these.
    pub fn retain_pages(&self, wanted: &BTreeSet<ObjectId>) {
        if self.keeps_objects() {
            self.retain(Part::Pages, wanted);
        }
    }

    fn page_hash(&self, run: IndexId, number: u32, page: &[u8]) -> blake3::Hash {
        let mut hasher = self.hasher(run);
        hasher.update(&number.to_le_bytes());
        hasher.update(page);
        hasher.finalize()
    }
}

fn page_name(run: IndexId, number: u32) -> String {
    format!("{run}.{number}")
}
