//! Which snapshots of the source are in the destination.

use std::collections::HashMap;

use crate::{
    copy::walk::Basis,
    id::{BlobId, SnapshotId},
    snapshot::{Listing, Snapshot},
};

/// Snapshots of the source and their copies.
pub(super) struct Found<'a> {
    source: &'a Listing,
    copies: HashMap<SnapshotId, (SnapshotId, BlobId)>,
}

impl<'a> Found<'a> {
    pub(super) fn new(source: &'a Listing, destination: &Listing) -> Self {
        let mut by_original: HashMap<SnapshotId, Vec<&(SnapshotId, Snapshot)>> = HashMap::new();
        for listed in &destination.snapshots {
            by_original.entry(original_of(&listed.0, &listed.1)).or_default().push(listed);
        }
        let copy = |(id, snapshot): &(SnapshotId, Snapshot)| {
            let candidates = by_original.get(&original_of(id, snapshot))?;
            let (copy, there) = candidates.iter().find(|(_, there)| is_the_same(snapshot, there))?;
            Some((*id, (*copy, there.tree)))
        };
        Self { source, copies: source.snapshots.iter().filter_map(copy).collect() }
    }

    /// The copy of a snapshot, if there is one.
    pub(super) fn copy_of(&self, id: &SnapshotId) -> Option<SnapshotId> {
        self.copies.get(id).map(|(copy, _)| *copy)
    }

    /// Notes a new copy.
    pub(super) fn add(&mut self, id: SnapshotId, copy: SnapshotId, tree: BlobId) {
        self.copies.insert(id, (copy, tree));
    }

    /// An earlier copy beside which a snapshot can be walked: of the same host and source, the last one before it, else the first after.
    pub(super) fn basis(&self, id: &SnapshotId, snapshot: &Snapshot) -> Option<(SnapshotId, Basis)> {
        let at = self.source.snapshots.iter().position(|(there, _)| there == id)?;
        let (before, after) = self.source.snapshots.split_at(at);
        let basis = |(id, there): &(SnapshotId, Snapshot)| {
            let (copy, tree) = self.copies.get(id)?;
            let is_alike = there.host == snapshot.host && there.source == snapshot.source;
            is_alike.then_some((*copy, Basis { source: there.tree, copy: *tree }))
        };
        before.iter().rev().find_map(basis).or_else(|| after.iter().find_map(basis))
    }
}

/// The first snapshot of a chain of edits and copies.
pub(super) fn original_of(id: &SnapshotId, snapshot: &Snapshot) -> SnapshotId {
    snapshot.original.unwrap_or(*id)
}

/// Whether two snapshots say the same of everything but what is named differently in another repository.
fn is_the_same(snapshot: &Snapshot, copy: &Snapshot) -> bool {
    let (tree, parent, original) = (snapshot.tree, snapshot.parent, snapshot.original);
    Snapshot { tree, parent, original, ..copy.clone() } == *snapshot
}
