//! Everything that is a root of what is needed: each snapshot body, sealed or not.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    crypto::keys::ObjectKind,
    envelope::object::SEAL_BYTES,
    error::{Error, Result, StoreErrorKind},
    id::{BlobId, SnapshotId},
    repository::{Repository, seal::Seal},
    snapshot,
    store::{ObjectInfo, Place},
};

/// Lists the bodies and reads those that are not in `known` yet, with the roots of their trees. One that vanishes meanwhile was forgotten.
///
/// # Errors
/// When anything there cannot be read: what it needs is then not known, and nothing may be deleted.
pub(super) fn read(
    repository: &Repository,
    known: &mut BTreeMap<SnapshotId, BlobId>,
    passed_over: &BTreeSet<SnapshotId>,
) -> Result<Vec<BlobId>> {
    let mut new = Vec::new();
    let mut listed = BTreeMap::new();
    for info in repository.list(Place::Snapshots)? {
        let id = SnapshotId::from(info.name.id());
        if info.size_bytes == SEAL_BYTES {
            // Read, since a body that was cut to a seal's length must not be passed over.
            found(repository.load::<Seal>(&info.name, ObjectKind::Seal))?;
            continue;
        }
        if passed_over.contains(&id) {
            continue;
        }
        let tree = match known.get(&id) {
            Some(tree) => Some(*tree),
            None => {
                found(snapshot::load(repository, &id))?.map(|snapshot| snapshot.tree).inspect(|tree| new.push(*tree))
            }
        };
        if let Some(tree) = tree {
            listed.insert(id, tree);
        }
    }
    *known = listed;
    Ok(new)
}

/// Every seal, as it was listed, with the bodies it names.
///
/// # Errors
/// When a seal cannot be read: it may name any body.
pub(super) fn seals(repository: &Repository) -> Result<Vec<(ObjectInfo, BTreeSet<SnapshotId>)>> {
    let mut seals = Vec::new();
    for info in repository.list(Place::Snapshots)? {
        if info.size_bytes == SEAL_BYTES
            && let Some(seal) = found(repository.load::<Seal>(&info.name, ObjectKind::Seal))?
        {
            seals.push((info, seal.bodies.into_iter().collect()));
        }
    }
    Ok(seals)
}

/// The bodies that seals name.
///
/// # Errors
/// When a seal cannot be read: it may name any body.
pub(super) fn sealed(repository: &Repository) -> Result<BTreeSet<SnapshotId>> {
    Ok(seals(repository)?.into_iter().flat_map(|(_, bodies)| bodies).collect())
}

/// What was read, or nothing when it is not there any more.
fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => Ok(None),
        Err(error) => Err(because(error)),
    }
}

/// Says what a failure means for a prune.
pub(super) fn because(error: Error) -> Error {
    if error.is_damage() || error.is_newer() {
        return Error::Refused(format!(
            "nothing was deleted, since nobody knows what all snapshots need: {}",
            error.chain()
        ));
    }
    error
}
