//! The book of what a session has stored: packs, and the index runs that name them.

use std::{collections::BTreeMap, sync::PoisonError};

use crate::{
    blob::BlobKind,
    error::Result,
    id::PackId,
    index::{builder::IndexBuilder, cached, run::StoredRun},
    limits,
    pack::builder::{FinishedPack, PackBuilder},
    repository::{
        objects::put_hashed,
        shared::{Shared, lock},
    },
    store::{ObjectName, Place},
};

/// Blobs after which the first index run is put while the session goes on, so that a killed run's work is found again and memory is
/// bounded.
pub(super) const INDEX_RUN_BLOBS: usize = 1 << 17;
/// No later run of a session has many more, whatever the session has put before.
const INDEX_RUN_BLOBS_MAX: usize = limits::INDEX_ENTRIES_MAX / 2;

/// Blobs after which the next index run is put, when so many are in runs of this session already: an eighth of those. Every lookup
/// looks into every run. Runs of equal size would become hundreds in a long session, and nobody merges them before another session
/// has half as many new blobs as one of them.
fn next_run_blobs(indexed: usize) -> usize {
    (indexed / 8).clamp(INDEX_RUN_BLOBS, INDEX_RUN_BLOBS_MAX)
}

/// Packs that are durable.
#[derive(Default)]
pub(super) struct Stored {
    /// With their sizes.
    pub(super) packs: BTreeMap<PackId, u64>,
    /// Index runs, with their sizes.
    pub(super) runs: Vec<(ObjectName, u64)>,
    /// Blobs in the runs that were put while the session went on.
    pub(super) indexed: usize,
    /// Packs that no index run names yet, but for the interim one.
    pub(super) unindexed: IndexBuilder,
    /// A run for the first so many of these packs, to be deleted once another run names them, too.
    pub(super) interim: Option<(ObjectName, usize)>,
    /// A run could not be deleted, nor will the next.
    pub(super) runs_stay: bool,
}

impl Stored {
    fn has_full_run(&self) -> bool {
        self.unindexed.blobs() >= next_run_blobs(self.indexed)
    }
}

impl Shared {
    /// Finishes and stores a pack, and takes it into the book of stored ones. Returns its buffer for re-use.
    pub(super) fn put_pack(&self, pack: PackBuilder) -> Result<Vec<u8>> {
        let FinishedPack { id, kind, key, bytes, directory } = pack.finish()?;
        self.wait_for_note()?;
        put_hashed(self.repository.store(), &ObjectName::new(Place::Data, id), &bytes)?;
        if let (Some(cache), BlobKind::Tree) = (self.repository.cache(), kind) {
            // The next backup compares with what is in here.
            for (frame, _) in directory.locations(id) {
                let from = frame.offset_bytes as usize;
                let stored = bytes.get(from..from + frame.stored_bytes as usize).unwrap_or_default();
                cache.keep_frame(&id, frame.ordinal, stored);
            }
        }
        let is_full = {
            let mut stored = lock(&self.stored);
            stored.packs.insert(id, bytes.len() as u64);
            stored.unindexed.add_pack(id, key, u32::try_from(bytes.len()).unwrap_or(u32::MAX), kind, &directory);
            stored.has_full_run()
        };
        if is_full {
            self.put_full_run()?;
        }
        Ok(bytes)
    }

    /// Puts a run when enough has come together for one.
    fn put_full_run(&self) -> Result<()> {
        let _indexing = lock(&self.indexing);
        let builder = {
            let mut stored = lock(&self.stored);
            if !stored.has_full_run() {
                return Ok(());
            }
            stored.indexed += stored.unindexed.blobs();
            std::mem::take(&mut stored.unindexed)
        };
        self.put_lasting_run(builder)?;
        self.supersede_interim(None);
        Ok(())
    }

    /// Deletes the interim run, whose packs another one names now, and remembers that as the next interim one if it is that.
    pub(super) fn supersede_interim(&self, next: Option<(ObjectName, usize)>) {
        let mut stored = lock(&self.stored);
        let Some((old, _)) = std::mem::replace(&mut stored.interim, next) else { return };
        stored.runs.retain(|(name, _)| *name != old);
        drop(stored);
        // One that stays says twice what is so.
        if self.repository.store().delete(&old).is_err() {
            lock(&self.stored).runs_stay = true;
        }
    }

    /// Puts a run that stays while the session goes on: what it names need not be kept in memory, if its tables can be mapped from a file.
    pub(super) fn put_lasting_run(&self, builder: IndexBuilder) -> Result<ObjectName> {
        let run = self.store_run(builder)?;
        let repository = &self.repository;
        if let Some(table) = repository.cache().and_then(|cache| cached::keep(cache, repository.keys(), &run)) {
            let mut new_blobs = lock(&self.new_blobs);
            // What lies in a condemned pack was forgotten, and the run may name it.
            if self.distrusted.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
                new_blobs.leave_to(table);
            }
        }
        Ok(ObjectName::new(Place::Index, run.id))
    }

    /// Puts the session's last run, or one that is soon to be superseded.
    pub(super) fn put_run(&self, builder: IndexBuilder) -> Result<ObjectName> {
        let run = self.store_run(builder)?;
        let repository = &self.repository;
        if let Some(cache) = repository.cache().filter(|cache| cache.keeps_objects()) {
            _ = cached::keep(cache, repository.keys(), &run);
        }
        Ok(ObjectName::new(Place::Index, run.id))
    }

    fn store_run(&self, builder: IndexBuilder) -> Result<StoredRun> {
        let run = builder.finish(self.repository.keys(), self.repository.runtime())?;
        let name = ObjectName::new(Place::Index, run.id);
        self.wait_for_note()?;
        put_hashed(self.repository.store(), &name, &run.bytes)?;
        lock(&self.stored).runs.push((name, run.bytes.len() as u64));
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions of ten million, a hundred million and a billion blobs, the last one of 70 TB.
    #[test]
    fn a_long_session_leaves_few_runs() {
        for (blobs, runs_max) in [(10_000_000, 30), (100_000_000, 48), (1_000_000_000, 106)] {
            let (mut indexed, mut runs) = (0, 0);
            while indexed < blobs {
                let next = next_run_blobs(indexed);
                assert!(next <= INDEX_RUN_BLOBS.max(indexed / 8) && next < limits::INDEX_ENTRIES_MAX);
                indexed += next;
                runs += 1;
            }
            assert!(runs <= runs_max, "{runs} runs of {blobs} blobs");
        }
    }
}
