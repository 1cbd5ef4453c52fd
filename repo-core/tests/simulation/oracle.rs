//! What must be true, whatever happened: a small model of which snapshots there are, held against the repository as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use repo_core::{
    check::{CheckOptions, FindingKind, ReadData, Severity, check},
    id::SnapshotId,
    index::set::IndexSet,
    progress::{Cancel, Silent},
    repository::{Repository, reader::BlobReader},
    snapshot::{Listing, Snapshot},
    store::{ObjectName, Place, memory::MemoryStore},
};

use crate::{
    common::{bench::TestRuntime, model::read_back},
    count::Event,
    tree::Tree,
    world::State,
};

/// What the users were told.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// What each backup saved, by its number, which is its snapshot's tag.
    pub made: Vec<Tree>,
    /// Backups that were reported as done.
    pub committed: BTreeMap<SnapshotId, usize>,
    /// Those that somebody has begun to forget.
    pub forgetting: BTreeSet<SnapshotId>,
    /// Those that somebody has begun to replace, and the number of each that was to replace it.
    pub editing: BTreeMap<SnapshotId, Vec<usize>>,
    /// The numbers of what somebody has begun to forget or replace.
    pub numbers: BTreeMap<usize, BTreeSet<SnapshotId>>,
}

impl Model {
    /// The tree that a snapshot must hold.
    pub fn tree_of(&self, snapshot: &Snapshot) -> Tree {
        self.made[number_of(snapshot)]
    }

    /// Whether a snapshot that was there is there, or what it was replaced with, unless somebody has begun to forget that.
    fn survives(&self, id: &SnapshotId, there: &BTreeMap<SnapshotId, usize>) -> bool {
        let replaced = |number: &usize| {
            let replaced_again = |next: &SnapshotId| next != id && self.survives(next, there);
            there.values().any(|other| other == number)
                || self.numbers.get(number).is_some_and(|ids| ids.iter().any(replaced_again))
        };
        there.contains_key(id)
            || self.forgetting.contains(id)
            || self.editing.get(id).is_some_and(|numbers| numbers.iter().any(replaced))
    }

    /// Somebody is about to forget or replace a snapshot.
    pub fn touches(&mut self, id: &SnapshotId, snapshot: &Snapshot) {
        self.numbers.entry(number_of(snapshot)).or_default().insert(*id);
    }

    /// Whether somebody has begun to forget it, or to replace it with anything but this.
    pub fn is_touched_by_others(&self, id: &SnapshotId, number: usize) -> bool {
        self.forgetting.contains(id)
            || self.editing.get(id).is_some_and(|numbers| numbers.iter().any(|other| *other != number))
    }

    /// Whether somebody has begun to forget or replace it.
    pub fn is_touched(&self, id: &SnapshotId) -> bool {
        self.forgetting.contains(id) || self.editing.contains_key(id)
    }

    /// Those that must be there as they are.
    pub fn reported(&self) -> impl Iterator<Item = &SnapshotId> {
        self.committed.keys().filter(|id| !self.is_touched(id))
    }
}

/// The number of what a snapshot holds.
pub fn number_of(snapshot: &Snapshot) -> usize {
    snapshot.tags.first().and_then(|tag| tag.parse().ok()).expect("the simulation tags them")
}

/// Whether a snapshot holds what it must.
pub fn compare(
    repository: &Arc<Repository>,
    snapshot: &Snapshot,
    tree: &Tree,
) -> repo_core::error::Result<Option<String>> {
    let index = IndexSet::load(repository.store(), repository.keys(), None)?;
    let reader = BlobReader::new(Arc::clone(repository), Arc::new(index), 1 << 20);
    let found = read_back(&reader, &snapshot.tree)?;
    Ok((found != tree.thing().seen()).then(|| format!("it holds something else: {found:?}")))
}

pub fn open(store: MemoryStore) -> Arc<Repository> {
    Arc::new(Repository::open(Arc::new(store), Arc::new(TestRuntime), b"secret", None).expect("it opens"))
}

/// Looks at everything at this very moment.
pub fn look_now(state: &mut State) {
    state.counts.add(Event::Looks);
    match state.frozen().and_then(|store| look(&open(store), &state.model)) {
        Ok(restored) => state.counts.add_many(Event::Restores, restored),
        Err(what) => state.fail(what),
    }
}

/// Every snapshot that is there holds what it must, and every one that was reported and is not forgotten is there.
pub fn look(repository: &Arc<Repository>, model: &Model) -> Result<u64, String> {
    let listing = Listing::read(repository).map_err(|error| format!("the listing fails: {}", error.chain()))?;
    if let Some(damage) = listing.damaged.first() {
        return Err(format!("a snapshot is damaged: {}", damage.chain()));
    }
    for (id, snapshot) in &listing.snapshots {
        match compare(repository, snapshot, &model.tree_of(snapshot)) {
            Ok(None) => {}
            Ok(Some(difference)) => return Err(format!("snapshot {id}: {difference}")),
            Err(error) => return Err(format!("snapshot {id} cannot be restored: {}", error.chain())),
        }
    }
    let there: BTreeMap<_, _> = listing.snapshots.iter().map(|(id, snapshot)| (*id, number_of(snapshot))).collect();
    for id in model.committed.keys().chain(model.editing.keys()) {
        if !model.survives(id, &there) {
            return Err(format!("snapshot {id} was reported as done, or was there, and is gone"));
        }
    }
    Ok(listing.snapshots.len() as u64)
}

/// `check --read-data` finds nothing that is wrong.
pub fn check_all(repository: &Arc<Repository>, model: &Model, is_tidy: bool) -> Result<(), String> {
    let options = CheckOptions { read_data: ReadData::All, threads: 1 };
    let report = check(repository, options, &Silent, &Cancel::default())
        .map_err(|error| format!("check fails: {}", error.chain()))?;
    let reported: BTreeSet<_> = model.reported().map(|id| ObjectName::new(Place::Snapshots, *id).to_string()).collect();
    for finding in &report.findings {
        let is_allowed = match finding.what {
            // A writer that was killed while its body expired leaves a seal; nobody was told of that backup. A later prune removes it.
            FindingKind::SnapshotMissing { .. } => !is_tidy && !reported.contains(&finding.object),
            FindingKind::Tentative | FindingKind::PackUnindexed { .. } | FindingKind::PackGone => !is_tidy,
            _ => finding.severity == Severity::Hint,
        };
        if !is_allowed {
            return Err(format!("check finds {finding:#?}"));
        }
    }
    Ok(())
}
