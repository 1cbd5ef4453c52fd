//! Driving the forgetter: taking snapshots out of the list of backups.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    crypto::keys::ObjectKind,
    envelope::object::SEAL_BYTES,
    error::{Error, Result, StoreErrorKind},
    id::{SealId, SnapshotId},
    limits,
    protocol::forgetter::{Answer, Forgetter, Outcome, Step},
    repository::{Repository, commit::Seal},
    store::{ObjectName, Place},
};

/// Forgets snapshots, some at a time, and remembers the seals it has read: they never change.
pub struct Uncommitter<'a> {
    repository: &'a Repository,
    seals: BTreeMap<SealId, BTreeSet<SnapshotId>>,
}

impl<'a> Uncommitter<'a> {
    /// Begins with seals that were read already.
    pub fn new(repository: &'a Repository, seals: impl IntoIterator<Item = (SealId, Vec<SnapshotId>)>) -> Self {
        let seals = seals.into_iter().map(|(seal, bodies)| (seal, bodies.into_iter().collect())).collect();
        Self { repository, seals }
    }

    /// Deletes every seal that names one of these bodies, and then the bodies (`docs/protocol.md`). Others that such a seal names stay
    /// what they are: they get another seal first.
    ///
    /// # Errors
    /// When the store fails, or there is a seal of a newer version: then each of them is a backup still, or a body without a seal, or
    /// gone.
    pub fn forget(&mut self, bodies: BTreeSet<SnapshotId>) -> Result<()> {
        let mut forgetter = Forgetter::new(bodies);
        loop {
            let answer = match forgetter.step().clone() {
                Step::ListSeals => Answer::Seals(self.list_seals()?),
                Step::PutSeals(bodies) => {
                    let bodies: Vec<_> = bodies.into_iter().collect();
                    for some in bodies.chunks(limits::SEAL_BODIES_MAX) {
                        let seal = Seal { bodies: some.to_vec() };
                        self.repository.save(Place::Snapshots, ObjectKind::Seal, &seal)?;
                    }
                    Answer::SealsPut
                }
                Step::Wait => {
                    let delay_ms = self.repository.store().abilities().visibility_delay_ms;
                    self.repository.runtime().sleep_ms(delay_ms);
                    Answer::Waited
                }
                Step::ListExpireNotes => Answer::ExpireNotes(self.repository.notes()?.expiring()),
                Step::DeleteSeals(seals) => {
                    self.delete(seals.into_iter().map(|seal| ObjectName::new(Place::Snapshots, seal)))?;
                    Answer::SealsDeleted
                }
                Step::DeleteBodies(bodies) => {
                    self.delete(bodies.into_iter().map(|body| ObjectName::new(Place::Snapshots, body)))?;
                    Answer::BodiesDeleted
                }
                Step::Done(Outcome::Forgotten) => return Ok(()),
                Step::Done(Outcome::Disturbed) => return Err(Error::PrunedAway),
            };
            forgetter.answer(answer).map_err(|error| Error::Invalid(error.to_string()))?;
        }
    }

    /// The seals that are there now, each with those of its bodies that are. One that is damaged commits nothing.
    fn list_seals(&mut self) -> Result<BTreeMap<SealId, BTreeSet<SnapshotId>>> {
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

    fn delete(&self, names: impl Iterator<Item = ObjectName>) -> Result<()> {
        self.repository.delete_objects(&names.collect::<Vec<_>>())
    }
}
