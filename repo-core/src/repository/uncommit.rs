//! Driving the forgetter: taking snapshots out of the list of backups.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    crypto::keys::ObjectKind,
    envelope::object::SEAL_BYTES,
    error::{Error, Result, StoreErrorKind},
    id::{SealId, SnapshotId},
    limits,
    protocol::forgetter::{Answer, Forgetter, Outcome, Step},
    repository::{Repository, seal::Seal},
    store::{ObjectName, Place},
};

/// The seals that name some bodies, each with all the bodies it names.
pub type Seals = BTreeMap<SealId, BTreeSet<SnapshotId>>;

/// Why snapshots could not be forgotten.
#[derive(Debug)]
pub struct Unforgotten {
    /// The reason.
    pub error: Error,
    /// Whether they are no backups any more, and only their bodies are left.
    pub is_uncommitted: bool,
}

/// Deletes every seal that names one of these bodies, and then the bodies (`docs/protocol.md`). Others that such a seal names stay what
/// they are: they get another seal first. `list_seals` is asked once for the seals.
///
/// # Errors
/// When the store fails: then each of them is a backup still, or a body without a seal, or gone.
pub fn forget(
    repository: &Repository,
    bodies: BTreeSet<SnapshotId>,
    list_seals: impl FnOnce() -> Result<Seals>,
) -> Result<(), Unforgotten> {
    let mut forgetter = Forgetter::new(bodies);
    let mut list_seals = Some(list_seals);
    loop {
        let step = forgetter.step().clone();
        let is_uncommitted = matches!(step, Step::DeleteBodies(_));
        let answer = match step {
            Step::Done(Outcome::Forgotten) => return Ok(()),
            Step::Done(Outcome::Disturbed) => Err(Error::PrunedAway),
            Step::ListSeals => match list_seals.take() {
                Some(list) => list().map(Answer::Seals),
                None => Err(Error::Invalid("the forgetter lists the seals twice".into())),
            },
            step => answer(repository, step),
        };
        let answered =
            answer.and_then(|answer| forgetter.answer(answer).map_err(|error| Error::Invalid(error.to_string())));
        answered.map_err(|error| Unforgotten { error, is_uncommitted })?;
    }
}

/// Does any other step.
fn answer(repository: &Repository, step: Step) -> Result<Answer> {
    let delete = |names: Vec<ObjectName>| repository.delete_objects(&names);
    Ok(match step {
        Step::PutSeals(bodies) => {
            let bodies: Vec<_> = bodies.into_iter().collect();
            for some in bodies.chunks(limits::SEAL_BODIES_MAX) {
                repository.save(Place::Snapshots, ObjectKind::Seal, &Seal::new(some.to_vec()))?;
            }
            Answer::SealsPut
        }
        Step::Wait => {
            repository.runtime().sleep_ms(repository.store().abilities().visibility_delay_ms);
            Answer::Waited
        }
        Step::ListExpireNotes => Answer::ExpireNotes(repository.notes()?.expiring()),
        Step::DeleteSeals(seals) => {
            delete(seals.into_iter().map(|seal| ObjectName::new(Place::Snapshots, seal)).collect())?;
            Answer::SealsDeleted
        }
        Step::DeleteBodies(bodies) => {
            delete(bodies.into_iter().map(|body| ObjectName::new(Place::Snapshots, body)).collect())?;
            Answer::BodiesDeleted
        }
        Step::ListSeals | Step::Done(_) => return Err(Error::Invalid(format!("{step:?} is not done here"))),
    })
}

/// Forgets snapshots, some at a time, and remembers the seals it has read: they never change.
pub struct Uncommitter<'a> {
    repository: &'a Repository,
    seals: Seals,
}

impl<'a> Uncommitter<'a> {
    /// Begins with seals that were read already.
    pub fn new(repository: &'a Repository, seals: impl IntoIterator<Item = (SealId, Vec<SnapshotId>)>) -> Self {
        let seals = seals.into_iter().map(|(seal, bodies)| (seal, bodies.into_iter().collect())).collect();
        Self { repository, seals }
    }

    /// [`forget`], by the seals that are there now.
    ///
    /// # Errors
    /// As there; and when there is a seal of a newer version.
    pub fn forget(&mut self, bodies: BTreeSet<SnapshotId>) -> Result<()> {
        let repository = self.repository;
        forget(repository, bodies, || self.list_seals()).map_err(|failure| failure.error)
    }

    /// The seals that are there now, each with those of its bodies that are. One that is damaged commits nothing.
    fn list_seals(&mut self) -> Result<Seals> {
        let objects = self.repository.list(Place::Snapshots)?;
        let mut found = BTreeMap::new();
        for info in objects.iter().filter(|info| info.size_bytes == SEAL_BYTES) {
            let id = SealId::from(info.name.id());
            let bodies = match self.seals.get(&id) {
                Some(bodies) => bodies.clone(),
                None => match self.repository.load::<Seal>(&info.name, ObjectKind::Seal) {
                    Ok(seal) => self.seals.entry(id).or_insert(seal.bodies.into_iter().collect()).clone(),
                    Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => continue,
                    Err(error) if error.is_damage() => continue,
                    Err(error) => return Err(error),
                },
            };
            found.insert(id, bodies);
        }
        let there: BTreeSet<SnapshotId> = objects.iter().map(|info| info.name.id().into()).collect();
        for bodies in found.values_mut() {
            bodies.retain(|body| there.contains(body));
        }
        Ok(found)
    }
}
