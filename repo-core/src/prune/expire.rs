//! Removing what nobody finishes: snapshots without a seal, seals without a snapshot, and notes of what is over.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    crypto::keys::ObjectKind,
    envelope::object::SEAL_BYTES,
    error::{Error, Result},
    id::{NoteId, SnapshotId},
    protocol::{
        expirer::{Answer, Expirer, Step},
        tidier::{self, SealFound, Tidier},
    },
    prune::roots,
    repository::{
        Repository,
        notes::{ExpireNote, Session, is_old},
    },
    snapshot,
    store::{ObjectInfo, ObjectName, Place},
};

/// Removes bodies without a seal that are older than any backup takes, and finishes what others had begun of that. Tells which.
pub(super) fn expire(repository: &Repository, own: Option<&Session>) -> Result<Vec<SnapshotId>> {
    let notes = repository.notes()?;
    let left: BTreeMap<NoteId, SnapshotId> = notes.expire_notes.iter().map(|(id, note)| (*id, note.body)).collect();
    let mut expired = Vec::new();
    if !left.is_empty() && !others_prune(repository, own)? {
        drive(repository, Expirer::adopt(left), &mut expired)?;
    }
    let sealed = roots::sealed(repository)?;
    let now = repository.runtime().now();
    let mut old = BTreeSet::new();
    for info in repository.list(Place::Snapshots)? {
        let id = SnapshotId::from(info.name.id());
        if info.size_bytes == SEAL_BYTES || sealed.contains(&id) {
            continue;
        }
        let stored = match info.modified {
            Some(modified) => Some(modified),
            None => snapshot::load(repository, &id).ok().map(|body| body.time),
        };
        if stored.is_some_and(|stored| is_old(stored, now)) {
            old.insert(id);
        }
    }
    drive(repository, Expirer::new(old), &mut expired)?;
    Ok(expired)
}

/// Removes old seals whose bodies are all gone. Tells which snapshots they had committed.
pub(super) fn tidy_seals(repository: &Repository) -> Result<Vec<SnapshotId>> {
    let name = |body: &SnapshotId| ObjectName::new(Place::Snapshots, *body);
    let mut machine = Tidier::default();
    loop {
        let answer = match machine.step().clone() {
            tidier::Step::ListSeals => {
                let now = repository.runtime().now();
                let found = |(info, bodies): (ObjectInfo, BTreeSet<SnapshotId>)| {
                    let is_old = info.modified.is_some_and(|stored| is_old(stored, now));
                    (info.name.id().into(), SealFound { bodies, is_old })
                };
                let seals = roots::seals(repository)?.into_iter().map(found).collect();
                let there = repository.list(Place::Snapshots)?.iter().map(|info| info.name.id().into()).collect();
                tidier::Answer::Listed(seals, there)
            }
            tidier::Step::Wait => {
                repository.runtime().sleep_ms(repository.store().abilities().visibility_delay_ms);
                tidier::Answer::Waited
            }
            tidier::Step::FindBodies(bodies) => {
                let mut there = BTreeSet::new();
                for body in bodies {
                    if repository.store().stat(&name(&body))?.is_some() {
                        there.insert(body);
                    }
                }
                tidier::Answer::Found(there)
            }
            tidier::Step::DeleteSeals(seals) => {
                let names: Vec<_> = seals.into_iter().map(|seal| ObjectName::new(Place::Snapshots, seal)).collect();
                repository.delete_objects(&names)?;
                tidier::Answer::SealsDeleted
            }
            tidier::Step::Done(gone) => return Ok(gone.into_iter().collect()),
        };
        machine.answer(answer).map_err(|error| Error::Invalid(error.to_string()))?;
    }
}

/// Whether another prune seems to be at work.
fn others_prune(repository: &Repository, own: Option<&Session>) -> Result<bool> {
    let notes = repository.notes()?;
    let over = repository.left_behind(&notes, own)?;
    Ok(notes.sessions.iter().any(|(id, session)| session.operation == "prune" && !over.contains(id)))
}

fn drive(repository: &Repository, mut machine: Expirer, expired: &mut Vec<SnapshotId>) -> Result<()> {
    loop {
        let answer = match machine.step().clone() {
            Step::PutNotes(bodies) => {
                let created = repository.runtime().now();
                let mut notes = BTreeMap::new();
                for body in bodies {
                    let note = ExpireNote { body, created };
                    notes.insert(repository.save(Place::Locks, ObjectKind::ExpireNote, &note)?.into(), body);
                }
                Answer::NotesPut(notes)
            }
            Step::Wait(_) => {
                repository.runtime().sleep_ms(repository.store().abilities().visibility_delay_ms);
                Answer::Waited
            }
            Step::ListSeals(bodies) => {
                let sealed = roots::sealed(repository)?;
                let mut backups = BTreeSet::new();
                for body in bodies.intersection(&sealed) {
                    if repository.store().stat(&ObjectName::new(Place::Snapshots, *body))?.is_some() {
                        backups.insert(*body);
                    }
                }
                Answer::Sealed(backups)
            }
            Step::DeleteBodies(bodies) => {
                let names: Vec<_> = bodies.iter().map(|body| ObjectName::new(Place::Snapshots, *body)).collect();
                repository.delete_objects(&names)?;
                expired.extend(bodies);
                Answer::BodiesDeleted
            }
            Step::DeleteNotes(notes) => {
                let names: Vec<_> = notes.into_iter().map(|note| ObjectName::new(Place::Locks, note)).collect();
                repository.delete_objects(&names)?;
                Answer::NotesDeleted
            }
            Step::Done(_) => return Ok(()),
        };
        machine.answer(answer).map_err(|error| Error::Invalid(error.to_string()))?;
    }
}

/// Removes notes of sessions that are over: what they left is indexed, or gone.
pub(super) fn remove_notes(repository: &Repository, own: Option<&Session>) -> Result<()> {
    let notes = repository.notes()?;
    let over = repository.left_behind(&notes, own)?.into_iter();
    repository.delete_objects(&over.map(|note| ObjectName::new(Place::Locks, note)).collect::<Vec<_>>())
}
