//! Making the new snapshots of an edit.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    edit::{
        EditOptions, Outcome,
        changes::{TagChange, original_of},
        prune_tree::{Memory, TreePruner},
    },
    error::{Error, Result},
    id::{BlobId, SnapshotId},
    index::set::IndexSet,
    progress::Cancel,
    repository::{
        Repository,
        reader::{BlobReader, CACHE_BYTES},
        session::{Session, SessionOptions},
    },
    snapshot::{Listing, Snapshot, rescue::store_again},
    store::{ObjectName, Place},
    tree::node::Totals,
};

/// Makes edited snapshots, all in one session.
pub(super) struct Editor<'a> {
    repository: &'a Arc<Repository>,
    listing: &'a Listing,
    options: &'a EditOptions,
    cancel: &'a Cancel,
    work: Option<Work>,
}

/// What is opened when the first snapshot needs it.
struct Work {
    session: Session,
    reader: BlobReader,
    memory: Memory,
    /// Whether the index was read. An edit that leaves the tree as it is does without, as long as nobody prunes.
    has_index: bool,
}

impl<'a> Editor<'a> {
    pub(super) const fn new(
        repository: &'a Arc<Repository>,
        listing: &'a Listing,
        options: &'a EditOptions,
        cancel: &'a Cancel,
    ) -> Self {
        Self { repository, listing, options, cancel, work: None }
    }

    /// Makes the edited snapshot, unless it would be the same or is there already. The original is left as it is.
    pub(super) fn make(&mut self, id: &SnapshotId, original: &Snapshot) -> Result<Option<(Outcome, Snapshot)>> {
        original.check_known(id)?;
        match self.try_make(id, original) {
            // What had been written was pruned before it was claimed, or was never there. It is not counted on any more, and can be
            // written again.
            Err(error) if error.is_pruned_away() => self.try_make(id, original),
            result => result,
        }
    }

    fn try_make(&mut self, id: &SnapshotId, original: &Snapshot) -> Result<Option<(Outcome, Snapshot)>> {
        let mut edited = self.options.changes.apply(original);
        if self.options.exclude.rules.has_patterns() {
            let (tree, totals) = self.prune_tree(&original.tree, original.totals)?;
            if tree != original.tree {
                (edited.tree, edited.totals) = (tree, totals);
                let new = self.options.exclude.patterns.iter().filter(|pattern| !original.excludes.contains(pattern));
                edited.excludes.extend(new.cloned());
            }
        }
        if edited == *original {
            return Ok(None);
        }
        edited.original = Some(original_of(id, original));
        if let Some(mark) = &self.options.mark {
            edited.tags = TagChange::Change { add: vec![mark.clone()], remove: Vec::new() }.apply(&edited.tags);
        }
        if edited == *original {
            return Ok(None);
        }
        if let Some(there) = self.find_made(&edited)? {
            return Ok(Some((Outcome::WasMade(there), edited)));
        }
        if self.options.dry_run {
            return Ok(Some((Outcome::Made(None), edited)));
        }
        let made = self.commit(id, &edited)?;
        Ok(Some((Outcome::Made(Some(made)), edited)))
    }

    /// Ends the session.
    pub(super) fn close(self) -> Result<()> {
        self.work.map_or(Ok(()), |work| work.session.close())
    }

    /// A snapshot that is just what shall be made: an earlier run was interrupted before it had forgotten the original.
    fn find_made(&self, edited: &Snapshot) -> Result<Option<SnapshotId>> {
        for (id, snapshot) in &self.listing.snapshots {
            if snapshot == edited {
                // It may have been forgotten since it was listed.
                let there = self.repository.store().stat(&ObjectName::new(Place::Snapshots, *id))?;
                return Ok(there.map(|_| *id));
            }
        }
        Ok(None)
    }

    fn prune_tree(&mut self, tree: &BlobId, totals: Totals) -> Result<(BlobId, Totals)> {
        let cancel = self.cancel;
        let rules = &self.options.exclude.rules;
        let work = self.work(true)?;
        let mut pruner = TreePruner::new(&work.reader, &work.session, rules, &mut work.memory, cancel);
        pruner.prune(tree, totals).map_err(|error| match error {
            Error::Poisoned => work.session.take_failure().unwrap_or(Error::Poisoned),
            error => error,
        })
    }

    fn commit(&mut self, id: &SnapshotId, edited: &Snapshot) -> Result<SnapshotId> {
        let work = self.work(false)?;
        let mut in_vain = false;
        let committed = commit_with(work, id, edited, &mut in_vain);
        if !in_vain {
            return committed;
        }
        // Somebody prunes, so that everything has to be looked through, and for that to be found.
        let work = self.work(true)?;
        commit_with(work, id, edited, &mut false)
    }

    /// The session, with the index if that is needed.
    fn work(&mut self, needs_index: bool) -> Result<&mut Work> {
        if needs_index && let Some(work) = self.work.take_if(|work| !work.has_index) {
            work.session.close()?;
        }
        if self.work.is_none() {
            self.work = Some(self.open(needs_index)?);
        }
        Ok(self.work.as_mut().expect("it was just made"))
    }

    fn open(&self, needs_index: bool) -> Result<Work> {
        let repository = self.repository;
        let condemned = repository.notes()?.condemned();
        let has_index = needs_index || !condemned.is_empty();
        let index = if has_index {
            // What a damaged run names is not found: then it is stored again, or missed when it is read.
            repository.load_index(Some(&mut Vec::new()))?
        } else {
            IndexSet::default()
        };
        let options = SessionOptions {
            level: self.options.level,
            dry_run: self.options.dry_run,
            note: self.options.note.clone().filter(|_| has_index),
        };
        let session = Session::open(Arc::clone(repository), Arc::new(index), options)?;
        session.distrust(&condemned);
        let reader = BlobReader::new(Arc::clone(repository), Arc::clone(session.index()), CACHE_BYTES);
        Ok(Work { session, reader, memory: Memory::default(), has_index })
    }
}

/// Commits; `in_vain` becomes true if that cannot be without an index.
fn commit_with(work: &mut Work, original: &SnapshotId, edited: &Snapshot, in_vain: &mut bool) -> Result<SnapshotId> {
    let Work { session, memory, has_index, .. } = work;
    session.commit_one(edited, Some(original), &mut |session, _: &BTreeSet<_>| {
        if !*has_index {
            *in_vain = true;
            return Err(Error::PrunedAway);
        }
        // What was stored for an earlier snapshot may have been condemned, too.
        *memory = Memory::default();
        store_again(session, &edited.tree)
    })
}
