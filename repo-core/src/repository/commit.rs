//! Driving a session through the protocol to its commit.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    crypto::keys::ObjectKind,
    error::{Error, Result},
    id::{PackId, SnapshotId},
    limits,
    protocol::writer::{Answer, Outcome, Step, Writer},
    repository::session::Session,
    store::Place,
};

/// A seal: commits the bodies it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The bodies; at most [`limits::SEAL_BODIES_MAX`].
    pub bodies: Vec<SnapshotId>,
}

/// Stores blobs that lie in these packs, and are needed, again; they count as new in the session.
pub type Rescue<'a> = dyn FnMut(&Session, &BTreeSet<PackId>) -> Result<()> + 'a;

impl Session {
    /// Stores everything, puts `body` as a snapshot body, checks that all it needs is there to stay, and seals it.
    ///
    /// # Errors
    /// Any failure leaves no seal: the snapshot is then tentative or not there at all, and what was stored is of use to the next
    /// session. The session's note stays, so that the next one looks for it.
    pub fn commit<T: Serialize>(mut self, body: &T, rescue: &mut Rescue<'_>) -> Result<SnapshotId> {
        let committed = self.drive(body, rescue)?;
        // The snapshot is committed. A note that cannot be removed costs the next session a look.
        let _ = self.remove_note();
        Ok(committed)
    }

    fn drive<T: Serialize>(&self, body: &T, rescue: &mut Rescue<'_>) -> Result<SnapshotId> {
        let repository = self.repository();
        let mut writer = Writer::default();
        loop {
            let answer = match writer.step() {
                // The index was read before the session was opened.
                Step::ListIndex => Answer::IndexListed,
                Step::Store => {
                    self.flush()?;
                    let superseded = self.put_index(true)?;
                    for run in superseded {
                        // Its entries are in the new run. One that may not be deleted here is merely said twice.
                        let _ = repository.store().delete(&run);
                    }
                    Answer::Stored(self.needed_packs())
                }
                Step::PutBody => {
                    let body = repository.save(Place::Snapshots, ObjectKind::Snapshot, body)?.into();
                    repository.runtime().sleep_ms(repository.store().abilities().visibility_delay_ms);
                    Answer::BodyPut(body)
                }
                Step::ListMarks => Answer::Marks(repository.notes()?.condemned()),
                Step::ListPacks => {
                    let mut present = BTreeSet::new();
                    repository.store().list(Place::Data, &mut |info| {
                        let pack = PackId::from(info.name.id());
                        if writer.needed().contains(&pack) {
                            present.insert(pack);
                        }
                    })?;
                    Answer::Packs(present)
                }
                Step::Rescue(lost) => {
                    self.distrust(lost);
                    rescue(self, lost)?;
                    self.flush()?;
                    self.put_index(false)?;
                    Answer::Stored(self.needed_packs())
                }
                Step::PutSeal(body) => {
                    let seal = Seal { bodies: vec![*body] };
                    debug_assert!(seal.bodies.len() <= limits::SEAL_BODIES_MAX);
                    repository.save(Place::Snapshots, ObjectKind::Seal, &seal)?;
                    Answer::SealPut
                }
                Step::ListExpireNotes => Answer::ExpireNotes(repository.notes()?.expiring()),
                Step::Done(Outcome::Committed(body)) => return Ok(*body),
                Step::Done(Outcome::PrunedAway) => return Err(Error::PrunedAway),
            };
            writer.answer(answer).map_err(|error| Error::Invalid(error.to_string()))?;
        }
    }
}
