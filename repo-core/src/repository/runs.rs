//! The index runs of a session: when one is put, and which smaller ones are merged into it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet},
};

use crate::{
    error::Result,
    index::{set::Run, table::PackRow},
    limits,
    repository::{session::Session, shared::lock, stored::INDEX_RUN_BLOBS},
    store::{ObjectName, Place},
};

impl Session {
    /// W3, and removes the runs that are merged into the new one.
    pub(super) fn put_merged_index(&self) -> Result<()> {
        let merged = self.put_index(true)?;
        if !merged.is_empty() {
            // Otherwise a reader could see neither the new run nor the old ones.
            self.wait_until_visible();
        }
        for run in merged {
            // Its entries are in a larger run; one that stays is merely said twice. A store that refuses one refuses all.
            if self.repository().store().delete(&run).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// W3: puts an index run for all packs that no run names yet, merging small runs into it where that keeps their number low.
    /// Returns the runs that are superseded by it.
    pub(crate) fn put_index(&self, merge: bool) -> Result<Vec<ObjectName>> {
        let _indexing = lock(&self.shared.indexing);
        let mut builder = {
            let mut stored = lock(&self.shared.stored);
            let named = stored.interim.map_or(0, |(_, packs)| packs);
            if stored.unindexed.is_empty() || (!merge && named == stored.unindexed.packs()) {
                return Ok(Vec::new());
            }
            std::mem::take(&mut stored.unindexed)
        };
        let mut superseded = Vec::new();
        if merge {
            let (mut runs, repeated) = self.runs_to_merge()?;
            runs.sort_by_key(|run| run.size_bytes);
            for run in runs {
                let counts = run.table.counts();
                let blobs = counts.data as usize + counts.tree as usize;
                if blobs > 2 * builder.blobs() || blobs + builder.blobs() > limits::INDEX_ENTRIES_MAX {
                    break;
                }
                builder.add_table(&run.table);
                superseded.push(ObjectName::new(Place::Index, run.id));
            }
            let is_in_ours = |run: &&Run| packs_of(run).all(|pack| builder.names(&pack.id));
            superseded.extend(repeated.into_iter().filter(is_in_ours).map(|run| ObjectName::new(Place::Index, run.id)));
        }
        self.shared.put_run(builder)?;
        self.shared.supersede_interim(None);
        Ok(superseded)
    }

    /// Puts an index run for all packs that no run names yet, while the session goes on. The next run names them again and supersedes
    /// this one, so that frequent calls do not leave many small runs.
    pub(crate) fn put_interim_index(&self) -> Result<()> {
        let _indexing = lock(&self.shared.indexing);
        let (builder, interim) = {
            let mut stored = lock(&self.shared.stored);
            let (packs, blobs) = (stored.unindexed.packs(), stored.unindexed.blobs());
            if stored.interim.map_or(0, |(_, packs)| packs) == packs {
                return Ok(());
            }
            // Where an object takes a while to be seen, the one it supersedes would have to stay so long.
            let may_go = !stored.runs_stay && self.repository().store().abilities().visibility_delay_ms == 0;
            if blobs < INDEX_RUN_BLOBS && may_go {
                (stored.unindexed.clone(), Some(packs))
            } else {
                stored.indexed += blobs;
                (std::mem::take(&mut stored.unindexed), None)
            }
        };
        let put = match interim {
            Some(_) => self.shared.put_run(builder),
            None => self.shared.put_lasting_run(builder),
        };
        let run = put.map_err(|error| self.shared.fail(error))?;
        self.shared.supersede_interim(interim.map(|packs| (run, packs)));
        Ok(())
    }

    /// The runs of the index that are still there: those that name something no larger one names, and the others.
    ///
    /// One that is gone was merged or cleaned by somebody else; to merge it would name again what a prune has deleted meanwhile. One
    /// whose packs larger ones name too has been merged before, in a store where it could not be deleted; to merge it again and
    /// again would make the index grow with the square of the number of backups. It is not ours to delete for the larger one, though: whoever
    /// put it may be about to delete that. A run is deleted only by who has put another one that says the same.
    fn runs_to_merge(&self) -> Result<(Vec<&Run>, Vec<&Run>)> {
        if self.shared.index.runs().is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut present = BTreeSet::new();
        self.repository().store().list(Place::Index, &mut |info| _ = present.insert(info.name))?;
        let mut runs: Vec<_> = self.shared.index.runs().iter().collect();
        runs.retain(|run| present.contains(&ObjectName::new(Place::Index, run.id)));
        runs.sort_by_key(|run| (Reverse(run.table.counts().packs), run.id));
        let mut named = HashSet::new();
        // All packs are taken in, not only the first new one.
        Ok(runs.into_iter().partition(|run| packs_of(run).filter(|pack| named.insert(pack.id)).count() > 0))
    }

    /// Makes sure that an index run names every pack this session has stored, before a snapshot relies on it. Usually that is seen
    /// by the runs it put; one of them may have been merged by somebody else already.
    pub(super) fn check_index(&self) -> Result<()> {
        let repository = self.repository();
        let runs = lock(&self.shared.stored).runs.clone();
        let mut failure = None;
        for (name, size_bytes) in &runs {
            match repository.check_stored(name, *size_bytes) {
                Err(error) if error.is_damage() || error.is_newer() => failure = Some(error),
                result => result?,
            }
        }
        let Some(failure) = failure else { return Ok(()) };
        let index = repository.load_index(Some(&mut Vec::new()))?;
        let named: HashSet<_> = index.all_packs().map(|pack| pack.id).collect();
        // What was condemned since is not relied on any more, and may be out of the index already.
        let relied_on = self.stored_packs().into_iter().filter(|pack| self.has_stored(pack));
        if relied_on.into_iter().all(|pack| named.contains(&pack)) { Ok(()) } else { Err(failure) }
    }
}

fn packs_of(run: &Run) -> impl Iterator<Item = PackRow> {
    (0..run.table.counts().packs).filter_map(|number| run.table.pack(number))
}
