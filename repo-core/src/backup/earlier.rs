//! What a backup looks for changes against: the parent snapshot, and what backups that were cut short since then had finished.

use std::{cmp::Reverse, iter::Peekable};

use crate::{
    backup::{BackupOptions, Parent},
    error::{Error, Result, StoreErrorKind},
    id::SnapshotId,
    repository::{Repository, reader::BlobReader},
    snapshot::{self, Listing, Snapshot},
    store::{ObjectInfo, Place},
    tree::{
        directory::DirectoryEntries,
        name::Name,
        node::{Extension, Node, NodeKind},
    },
};

/// Most unfinished snapshots that names are looked up in.
const UNFINISHED_MAX: usize = 4;

/// Most unfinished snapshots that are read to choose from. Where a store keeps what is deleted, checkpoints stay.
const UNFINISHED_READ_MAX: usize = 64;

/// The snapshots before this one.
#[derive(Default)]
pub(super) struct Earlier {
    /// The parent, if there is one.
    pub(super) parent: Option<(SnapshotId, Snapshot)>,
    /// Of backups that were begun after it and did not get to their end, the largest first.
    pub(super) unfinished: Vec<(SnapshotId, Snapshot)>,
}

impl Earlier {
    /// Finds them, the newest one by what was `listed` when the repository was opened, if it was. A damaged snapshot cannot be one; that is
    /// `check`'s to tell.
    pub(super) fn find(
        repository: &Repository,
        options: &BackupOptions,
        identity: &[String],
        listed: Option<Result<Vec<ObjectInfo>>>,
    ) -> Result<Self> {
        match options.parent {
            Parent::None => Ok(Self::default()),
            Parent::Newest => {
                let listing =
                    Listing::read_listed(repository, listed.unwrap_or_else(|| repository.list(Place::Snapshots))?)?;
                let newest = listing.newest_of(&options.host, identity).cloned();
                let parent = newest.filter(|(id, snapshot)| snapshot.check_known(id).is_ok());
                let unfinished = unfinished(repository, &listing, options, identity, parent.as_ref())?;
                Ok(Self { parent, unfinished })
            }
            Parent::Snapshot(id) => {
                let found = Listing::read(repository)?.snapshots.into_iter().find(|(listed, _)| *listed == id);
                let (id, snapshot) = found.ok_or_else(|| Error::NoSnapshot { query: id.to_string() })?;
                snapshot.check_known(&id)?;
                Ok(Self { parent: Some((id, snapshot)), unfinished: Vec::new() })
            }
        }
    }
}

fn unfinished(
    repository: &Repository,
    listing: &Listing,
    options: &BackupOptions,
    identity: &[String],
    parent: Option<&(SnapshotId, Snapshot)>,
) -> Result<Vec<(SnapshotId, Snapshot)>> {
    let mut ids = listing.tentative.clone();
    ids.sort_by_key(|id| Reverse(listing.stored.get(id).copied()));
    ids.truncate(UNFINISHED_READ_MAX);
    let mut unfinished = Vec::new();
    for id in ids {
        let snapshot = match snapshot::load(repository, &id) {
            // Its backup has put a later one, or is done.
            Err(Error::Store(error)) if error.kind == StoreErrorKind::NotFound => continue,
            Err(error) if error.is_damage() || error.is_newer() => continue,
            result => result?,
        };
        let is_later = parent.is_none_or(|(_, parent)| snapshot.summary.started >= parent.summary.started);
        let is_ours = snapshot.host == options.host && snapshot.source == identity;
        if is_ours && is_later && snapshot.check_known(&id).is_ok() {
            unfinished.push((id, snapshot));
        }
    }
    unfinished.sort_by_key(|(_, snapshot)| Reverse((snapshot.totals.bytes, snapshot.summary.ended)));
    unfinished.truncate(UNFINISHED_MAX);
    Ok(unfinished)
}

/// What an entry was before: in the parent, and in unfinished snapshots.
#[derive(Default)]
pub(super) struct Before {
    pub(super) parent: Option<Node>,
    pub(super) unfinished: Vec<Node>,
}

/// The entries of a directory, as they were before.
#[derive(Default)]
pub(super) struct EntriesBefore<'a> {
    parent: Option<Peekable<DirectoryEntries<'a>>>,
    unfinished: Vec<Peekable<DirectoryEntries<'a>>>,
}

impl<'a> EntriesBefore<'a> {
    /// Those of the root.
    pub(super) fn root(blobs: &'a BlobReader, earlier: &Earlier) -> Self {
        let open = |(_, snapshot): &(SnapshotId, Snapshot)| DirectoryEntries::open(blobs, &snapshot.tree).ok();
        Self {
            parent: earlier.parent.as_ref().and_then(open).map(Iterator::peekable),
            unfinished: earlier.unfinished.iter().filter_map(open).map(Iterator::peekable).collect(),
        }
    }

    /// Those of a directory.
    pub(super) fn of(blobs: &'a BlobReader, before: &Before) -> Self {
        let open = |node: &Node| match &node.kind {
            NodeKind::Directory { tree, .. } => DirectoryEntries::open(blobs, tree).ok(),
            _ => None,
        };
        Self {
            parent: before.parent.as_ref().and_then(open).map(Iterator::peekable),
            unfinished: before.unfinished.iter().filter_map(open).map(Iterator::peekable).collect(),
        }
    }

    /// What an entry was. Names are asked for in order.
    pub(super) fn take(&mut self, name: &Name) -> Before {
        Before {
            parent: self.parent.as_mut().and_then(|entries| take(entries, name)),
            unfinished: self.unfinished.iter_mut().filter_map(|entries| take(entries, name)).collect(),
        }
    }
}

fn take(entries: &mut Peekable<DirectoryEntries<'_>>, name: &Name) -> Option<Node> {
    // A part that cannot be read is as good as one that was not there.
    while entries.next_if(|entry| entry.as_ref().map_or(true, |entry| entry.name < *name)).is_some() {}
    let entry = entries.next_if(|entry| entry.as_ref().is_ok_and(|entry| entry.name == *name))?;
    let node = entry.ok()?.node;
    // Nor is one that only a newer program understands.
    Extension::first_needed(&node.metadata.extensions).is_none().then_some(node)
}
