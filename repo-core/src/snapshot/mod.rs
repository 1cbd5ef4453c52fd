//! Snapshots: what a backup was of, when, and the root of its tree (`docs/format.md` section 10).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    crypto::keys::ObjectKind,
    envelope::object::SEAL_BYTES,
    error::{Error, Result, StoreErrorKind},
    id::{BlobId, SealId, SnapshotId},
    parallel::for_each,
    repository::{Repository, seal::Seal, session::Added},
    store::{ObjectInfo, Place},
    time::Timestamp,
    tree::node::{Extension, Metadata, Totals, checked_extensions},
};

pub mod group;
pub mod rescue;
pub mod select;

/// A snapshot body. The order of fields is the stored encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was begun, or what the user said instead.
    pub time: Timestamp,
    /// Seconds east of UTC where it was made, for display.
    pub utc_offset_seconds: i32,
    /// The machine it is of.
    pub host: String,
    /// Who made it.
    pub user: String,
    /// Who made it, as a number.
    pub user_number: u32,
    /// Group of who made it, as a number.
    pub group_number: u32,
    /// What it is a backup *of*: the label if there is one, else the targets as the user named them, before globs. The parent is
    /// looked for, and retention groups, by it.
    pub source: Vec<String>,
    /// The label, if the user gave one.
    pub label: Option<String>,
    /// The absolute paths that were saved.
    pub paths: Vec<String>,
    /// Tags, sorted, each once.
    pub tags: Vec<String>,
    /// Patterns that were left out.
    pub excludes: Vec<String>,
    /// Root page of the tree.
    pub tree: BlobId,
    /// Sums over the tree.
    pub totals: Totals,
    /// What the root directory itself was; `None` where the root is no directory of the source.
    pub root: Option<Metadata>,
    /// The snapshot that changes were looked for against.
    pub parent: Option<SnapshotId>,
    /// The snapshot this one was made from by an edit.
    pub original: Option<SnapshotId>,
    /// What made it: name and version.
    pub program: String,
    /// Names of the users that own something in it.
    pub users: BTreeMap<u32, String>,
    /// Names of the groups that own something in it.
    pub groups: BTreeMap<u32, String>,
    /// How it may be removed.
    pub protection: Protection,
    /// What the backup did.
    pub summary: Summary,
    /// What later programs say of it, strictly ascending by tag. None in version 1.
    #[serde(deserialize_with = "checked_extensions")]
    pub extensions: Vec<Extension>,
}

impl Snapshot {
    /// Asks whether this program may act on it: restore it, or take it for a parent.
    ///
    /// # Errors
    /// When a newer program made it and says that one has to know more than this one does.
    pub fn check_known(&self, id: &SnapshotId) -> Result<()> {
        let what = format_args!("snapshot {}", id.short());
        Extension::check(&self.extensions, &what)?;
        self.root.iter().try_for_each(|root| Extension::check(&root.extensions, &what))
    }
}

/// How a snapshot may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Protection {
    /// By any rule.
    #[default]
    None,
    /// Not at all.
    Forever,
    /// Not before this moment, and by any rule from then on.
    Until(Timestamp),
}

/// What a backup did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Files that were not in the parent.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files as they were in the parent.
    pub files_unmodified: u64,
    /// Directories that were not in the parent.
    pub directories_new: u64,
    /// Directories that differ from the parent's, in themselves or in something below.
    pub directories_changed: u64,
    /// Directories as they were in the parent.
    pub directories_unmodified: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Plain bytes of the new blobs.
    pub bytes_added: u64,
    /// What they take in packs.
    pub bytes_added_packed: u64,
    /// Entries that could not be saved.
    pub problems: u64,
}

impl Summary {
    /// Takes in what was stored.
    pub(crate) const fn take_added(&mut self, added: Added) {
        self.data_blobs = added.data_blobs;
        self.tree_blobs = added.tree_blobs;
        self.bytes_added = added.data_bytes + added.tree_bytes;
        self.bytes_added_packed = added.data_packed_bytes + added.tree_packed_bytes;
    }
}

/// All snapshots of a repository at one moment.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that are committed, oldest first.
    pub snapshots: Vec<(SnapshotId, Snapshot)>,
    /// Bodies without a seal: of backups at work or cut short. None if there is a seal of a newer version, which may name them.
    pub tentative: Vec<SnapshotId>,
    /// What could not be read.
    pub damaged: Vec<Error>,
    /// Bodies and seals of a version that this program does not know.
    pub newer: Vec<Error>,
    /// The seals that can be read, each with those of its bodies that are there.
    pub seals: Vec<(SealId, Vec<SnapshotId>)>,
    /// When bodies were stored, by the store's clock, where the store tells.
    pub stored: BTreeMap<SnapshotId, Timestamp>,
}

impl Listing {
    /// Reads all snapshots. One that vanishes meanwhile was forgotten and is passed over.
    ///
    /// # Errors
    /// When the listing is not complete or the store fails; damage of single objects is told of in the result.
    pub fn read(repository: &Repository) -> Result<Self> {
        Self::read_listed(repository, repository.list(Place::Snapshots)?)
    }

    /// [`Self::read`] for whoever has listed what there is a moment ago.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_listed(repository: &Repository, listed: Vec<ObjectInfo>) -> Result<Self> {
        let mut listing = Self::default();
        let mut bodies = BTreeSet::new();
        let mut sealed = BTreeSet::new();
        if let Some(cache) = repository.cache() {
            cache.retain_snapshots(&listed.iter().map(|info| info.name.id()).collect());
        }
        let mut seals = Vec::new();
        for info in listed {
            if info.size_bytes == SEAL_BYTES {
                seals.push(SealId::from(info.name.id()));
            } else {
                let body = SnapshotId::from(info.name.id());
                bodies.insert(body);
                listing.stored.extend(info.modified.map(|modified| (body, modified)));
            }
        }
        let mut copies = BTreeMap::new();
        for (id, seal) in load_all(repository, seals, |id| repository.load_snapshot::<Seal>(*id, ObjectKind::Seal))? {
            if let Some(seal) = listing.take(seal)? {
                sealed.extend(seal.bodies.iter().copied());
                copies.extend(seal.copy().map(|(body, bytes)| (body, bytes.to_vec())));
                listing.seals.push((id, seal.bodies));
            }
        }
        for (_, named) in &mut listing.seals {
            named.retain(|body| bodies.contains(body));
        }
        // A seal that cannot be read for being newer may name any of the bodies without one: then none is called tentative.
        let newer_seal = !listing.newer.is_empty();
        let (committed, others): (Vec<_>, Vec<_>) = bodies.into_iter().partition(|body| sealed.contains(body));
        if !newer_seal {
            listing.tentative = others;
        }
        let load_body = |body: &SnapshotId| match copies.get(body) {
            Some(bytes) => repository.open_copy(body, bytes),
            None => load(repository, body),
        };
        for (body, snapshot) in load_all(repository, committed, load_body)? {
            if let Some(snapshot) = listing.take(snapshot)? {
                listing.snapshots.push((body, snapshot));
            }
        }
        listing.snapshots.sort_by_key(|(id, snapshot)| (snapshot.time, *id));
        Ok(listing)
    }

    /// Sorts a result into value, nothing and failure.
    fn take<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => Ok(None),
            Err(error) if error.is_damage() => {
                self.damaged.push(error);
                Ok(None)
            }
            Err(error) if error.is_newer() => {
                self.newer.push(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The newest snapshot of this host and source.
    #[must_use]
    pub fn newest_of(&self, host: &str, source: &[String]) -> Option<&(SnapshotId, Snapshot)> {
        self.snapshots.iter().rev().find(|(_, snapshot)| snapshot.host == host && snapshot.source == source)
    }
}

/// Reads objects, several at once, and gives them in the order of their ids.
///
/// # Errors
/// When the store fails; what is wrong with one object is its result.
fn load_all<I: Copy + Ord + Sync + Send, T: Send>(
    repository: &Repository,
    ids: Vec<I>,
    load: impl Fn(&I) -> Result<T> + Sync,
) -> Result<BTreeMap<I, Result<T>>> {
    let loaded = Mutex::new(BTreeMap::new());
    for_each(&ids, repository.store().abilities().connections.max(1), |id| match load(id) {
        Err(error) if !error.is_damage() && !error.is_newer() => Err(error),
        value => {
            loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, value);
            Ok(())
        }
    })?;
    Ok(loaded.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Reads one snapshot body, committed or not.
///
/// # Errors
/// When it is not there or damaged.
pub fn load(repository: &Repository, id: &SnapshotId) -> Result<Snapshot> {
    repository.load_snapshot(*id, ObjectKind::Snapshot)
}
