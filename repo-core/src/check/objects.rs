//! Stand-alone objects: config, key slots, snapshots and seals, notes. Each must have the name its bytes say, and open.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    check::{Context, finding::FindingKind},
    crypto::{
        keys::ObjectKind,
        slot::{self, MAGIC},
    },
    envelope::object::{self, SEAL_BYTES},
    error::{Damage, Error, Result, StoreErrorKind},
    id::{SealId, SnapshotId},
    pack::builder::object_id,
    repository::{
        config::Config,
        keys::slot_error,
        notes::{ExpireNote, Mark, Session},
        seal::Seal,
        store_report::Report,
    },
    snapshot::Snapshot,
    store::{ObjectInfo, ObjectName, Place},
};

/// The committed snapshots that could be read.
pub(super) type Snapshots = Vec<(SnapshotId, Snapshot)>;

/// Whether a failure concerns one object only, so that others are still worth a look: it is damaged or gone, or the store cannot
/// give this one (a bad sector, a permission).
pub(super) fn concerns_one_object(error: &Error) -> bool {
    error.is_damage()
        || error.is_newer()
        || matches!(error.store_kind(), Some(StoreErrorKind::Permanent | StoreErrorKind::Denied))
}

/// Checks the config, key slots and notes.
pub(super) fn check_small_objects(context: &Context<'_>) -> Result<()> {
    check_config(context)?;
    for info in context.repository.list(Place::Keys)? {
        context.cancel.check()?;
        let slot = read(context, &info.name, |bytes| {
            slot::info(bytes, context.repository.keys()).map_err(|error| slot_error(&error, &info.name))
        })?;
        if let Some(Err(error)) = slot {
            context.findings.add(info.name, what(&error, |reason| FindingKind::KeyDamaged { reason }));
        }
    }
    for info in context.repository.list(Place::Locks)? {
        context.cancel.check()?;
        if let Some(Err(error)) = read(context, &info.name, |bytes| check_note(context, &info.name, bytes))? {
            context.findings.add(info.name, what(&error, |reason| FindingKind::NoteDamaged { reason }));
        }
    }
    Ok(())
}

/// Reads the config again: the one that is in the store now must be the one the repository was opened with.
fn check_config(context: &Context<'_>) -> Result<()> {
    let lost = |reason| FindingKind::ConfigLost { reason };
    let finding = match context.repository.load::<Config>(&ObjectName::CONFIG, ObjectKind::Config) {
        Ok(config) if config == *context.repository.config() => return Ok(()),
        Ok(_) => lost("it is another one than the repository was opened with".to_owned()),
        Err(error) if concerns_one_object(&error) => what(&error, lost),
        Err(error) => return Err(error),
    };
    context.findings.add(ObjectName::CONFIG, finding);
    Ok(())
}

fn check_note(context: &Context<'_>, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    match bytes.get(MAGIC.len() + 2).copied().and_then(ObjectKind::from_byte) {
        Some(kind @ ObjectKind::Session) => open::<Session>(context, kind, bytes, name).map(drop),
        Some(kind @ ObjectKind::Mark) => open::<Mark>(context, kind, bytes, name).map(drop),
        Some(kind @ ObjectKind::ExpireNote) => open::<ExpireNote>(context, kind, bytes, name).map(drop),
        Some(kind @ ObjectKind::StoreReport) => open::<Report>(context, kind, bytes, name).map(drop),
        _ => Err(Damage::new(name, "it is no note of any kind").into()),
    }
}

/// Checks snapshots and seals, and gives the committed snapshots.
pub(super) fn check_snapshots(context: &Context<'_>) -> Result<Snapshots> {
    let mut seals: BTreeMap<SealId, Vec<SnapshotId>> = BTreeMap::new();
    let mut bodies: BTreeMap<SnapshotId, Option<Snapshot>> = BTreeMap::new();
    let mut newer_seal = false;
    for info in context.repository.list(Place::Snapshots)? {
        context.cancel.check()?;
        let name = info.name;
        if info.size_bytes == SEAL_BYTES {
            let seal = read(context, &name, |bytes| open::<Seal>(context, ObjectKind::Seal, bytes, &name))?;
            match seal {
                Some(Ok(seal)) => drop(seals.insert(name.id().into(), seal.bodies)),
                Some(Err(error)) => {
                    newer_seal |= error.is_newer();
                    context.findings.add(name, what(&error, |reason| FindingKind::SealDamaged { reason }));
                }
                None => {}
            }
            continue;
        }
        match read(context, &name, |bytes| open::<Snapshot>(context, ObjectKind::Snapshot, bytes, &name))? {
            Some(Ok(snapshot)) => {
                let id = name.id().into();
                if let Err(newer) = snapshot.check_known(&id) {
                    context.findings.add(name, FindingKind::Newer { reason: newer.to_string() });
                }
                bodies.insert(id, Some(snapshot));
            }
            Some(Err(error)) => {
                bodies.insert(name.id().into(), None);
                context.findings.add(name, what(&error, |reason| FindingKind::SnapshotDamaged { reason }));
            }
            None => {}
        }
    }
    check_seals(context, &seals, &bodies)?;
    let committed: BTreeSet<SnapshotId> = seals.into_values().flatten().collect();
    let mut snapshots = Snapshots::new();
    for (id, body) in bodies {
        match body {
            Some(snapshot) if committed.contains(&id) => snapshots.push((id, snapshot)),
            // A seal that cannot be read for being newer may name any of them.
            Some(_) if !newer_seal => {
                context.findings.add(ObjectName::new(Place::Snapshots, id), FindingKind::Tentative);
            }
            _ => {}
        }
    }
    // The newest first: their trees are the likeliest to be wanted.
    snapshots.sort_by_key(|(id, snapshot)| (std::cmp::Reverse(snapshot.time), *id));
    Ok(snapshots)
}

/// Whether one of these snapshots was removed since it was listed.
pub(super) fn any_removed(context: &Context<'_>, snapshots: &Snapshots) -> Result<bool> {
    for (id, _) in snapshots {
        if context.repository.store().stat(&ObjectName::new(Place::Snapshots, *id))?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a seal may be of somebody who is still at work: then its body may just have expired, which the writer will notice. Whoever was
/// killed is held for being at work for a while; an old seal is nobody's work.
fn is_just_made(context: &Context<'_>, seal: &ObjectInfo) -> Result<bool> {
    let repository = context.repository;
    let notes = match repository.notes() {
        Err(error) if concerns_one_object(&error) => return Ok(false),
        result => result?,
    };
    let over = repository.left_behind(&notes, None)?;
    for (id, session) in
        notes.sessions.iter().filter(|(id, session)| session.operation != "prune" && !over.contains(id))
    {
        let since = repository.store().stat(&ObjectName::new(Place::Locks, *id))?.map(|info| info.modified);
        let Some(since) = since else { continue };
        if seal.modified.is_some_and(|sealed| sealed >= since.unwrap_or(session.started)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every body that a seal names must be there, unless it was removed meanwhile: then the seal is gone, too.
fn check_seals(
    context: &Context<'_>,
    seals: &BTreeMap<SealId, Vec<SnapshotId>>,
    bodies: &BTreeMap<SnapshotId, Option<Snapshot>>,
) -> Result<()> {
    for (seal, named) in seals {
        for body in named.iter().filter(|body| !bodies.contains_key(body)) {
            let name = ObjectName::new(Place::Snapshots, *body);
            let still_sealed = context.repository.store().stat(&ObjectName::new(Place::Snapshots, *seal))?;
            if let Some(seal_info) = still_sealed
                && context.repository.store().stat(&name)?.is_none()
            {
                let what = if is_just_made(context, &seal_info)? {
                    FindingKind::SnapshotLeaving { seal: *seal }
                } else {
                    FindingKind::SnapshotMissing { seal: *seal }
                };
                context.findings.add(name, what);
            }
        }
    }
    Ok(())
}

/// Reads an object, holds it against its name, and opens it. Nothing when it vanished meanwhile; an error inside when something is
/// wrong with this object alone.
fn read<T>(
    context: &Context<'_>,
    name: &ObjectName,
    open: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<Option<Result<T>>> {
    let bytes = match context.repository.load_bytes(name) {
        Ok(bytes) => bytes,
        Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => return Ok(None),
        Err(error) if concerns_one_object(&error) => return Ok(Some(Err(error))),
        Err(error) => return Err(error),
    };
    let named = object_id(&bytes) == name.id();
    Ok(Some(open(&bytes).and_then(|value| if named { Ok(value) } else { Err(Damage::new(name, WRONG_NAME).into()) })))
}

/// Says that an object's bytes are not those it was stored with.
pub(super) const WRONG_NAME: &str = "its bytes do not have the SHA-256 it is named by";

fn open<T: Serialize + DeserializeOwned>(
    context: &Context<'_>,
    kind: ObjectKind,
    bytes: &[u8],
    name: &ObjectName,
) -> Result<T> {
    object::open(context.repository.keys(), kind, bytes, name)
}

/// What an error means for the object it is of: that it is damaged in some way, or just newer than this program.
pub(super) fn what(error: &Error, damaged: impl FnOnce(String) -> FindingKind) -> FindingKind {
    if error.is_newer() { FindingKind::Newer { reason: reason(error) } } else { damaged(reason(error)) }
}

/// What is wrong, without the name of the object, which the finding says already.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Damaged(damage) => damage.reason.clone(),
        Error::NewerFormat { found, known, .. } => {
            format!("it has format version {found}, this program reads up to version {known}")
        }
        other => other.chain(),
    }
}
