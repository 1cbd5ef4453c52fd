//! Driving a session through the protocol to its commit.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    crypto::keys::ObjectKind,
    error::{Damage, Error, Result},
    id::{PackId, SnapshotId},
    limits,
    protocol::writer::{Answer, Outcome, Step, Writer},
    repository::session::Session,
    store::{ObjectName, Place},
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
        let committed = self.commit_one(body, None, rescue)?;
        // The snapshot is committed. A note that cannot be removed costs the next session a look.
        let _ = self.remove_note();
        Ok(committed)
    }

    /// Commits one of several snapshots; the session goes on.
    ///
    /// With a `basis`, the snapshot takes over parts of that committed snapshot without having looked through them, and the session
    /// does not know what they need. While the basis is there it protects them; `docs/protocol.md`, "Leaning on another snapshot", says
    /// when that is enough. Where it is not, `rescue` is called with no packs, to claim everything, or to fail.
    ///
    /// # Errors
    /// As [`Self::commit`]; and [`Error::NoSnapshot`] when the basis is gone.
    pub fn commit_one<T: Serialize>(
        &self,
        body: &T,
        basis: Option<&SnapshotId>,
        rescue: &mut Rescue<'_>,
    ) -> Result<SnapshotId> {
        let mut claims = Vec::new();
        let result = self.drive(body, basis, rescue, &mut claims);
        if result.as_ref().is_err_and(|error| error.is_pruned_away() || matches!(error, Error::NoSnapshot { .. })) {
            // There is no seal. A body that stays keeps what it needs from being pruned until it expires.
            let _ = self.repository().delete_objects(&claims);
        }
        result
    }

    /// `claims` become the bodies that were put, but for those for which a seal may be there.
    fn drive<T: Serialize>(
        &self,
        body: &T,
        mut basis: Option<&SnapshotId>,
        rescue: &mut Rescue<'_>,
        claims: &mut Vec<ObjectName>,
    ) -> Result<SnapshotId> {
        let repository = self.repository();
        let has_basis = basis.is_some();
        let mut writer = Writer::default();
        let mut body_bytes = 0;
        let mut cut = None;
        // A claim from before everything was looked through.
        let mut claimed = None;
        // What has expired, or been forgotten, while this machine slept, or was lost: W10 then claims anew. No second time, since a store
        // that loses what it has confirmed must be told of.
        let mut gone = BTreeSet::new();
        let mut seals = Vec::new();
        let mut looked_again = false;
        loop {
            let answer = match writer.step() {
                // The index was read before the session was opened.
                Step::ListIndex => Answer::IndexListed,
                Step::Store => {
                    self.flush()?;
                    self.put_merged_index()?;
                    Answer::Stored(self.needed_packs())
                }
                Step::PutBody if claimed.is_some() => Answer::BodyPut(claimed.take().expect("it was just there")),
                Step::PutBody => {
                    // Seals of earlier bodies, which are gone or going, would tell of a backup that is lost.
                    let _ = repository.delete_objects(&std::mem::take(&mut seals));
                    let (body, size_bytes) = repository.save_sized(Place::Snapshots, ObjectKind::Snapshot, body)?;
                    body_bytes = size_bytes;
                    claims.push(ObjectName::new(Place::Snapshots, body));
                    self.wait_until_visible();
                    Answer::BodyPut(body.into())
                }
                Step::ListMarks => {
                    let condemned = repository.notes()?.condemned();
                    if let Some(leaned_on) = basis {
                        // Begins after the marks were listed: the basis was there all the time until then.
                        self.check_basis(leaned_on)?;
                        if !condemned.is_empty() {
                            rescue(self, &BTreeSet::new())?;
                            basis = None;
                            claimed = claims.last().map(|name| name.id().into());
                            writer = Writer::default();
                            continue;
                        }
                    }
                    Answer::Marks(condemned)
                }
                Step::ListPacks if writer.needed().is_empty() => Answer::Packs(BTreeSet::new()),
                Step::ListPacks => {
                    let (present, damage) = self.list_needed(writer.needed())?;
                    cut = damage;
                    Answer::Packs(present)
                }
                Step::Rescue(lost) => {
                    let own = lost.iter().find(|pack| self.has_stored(pack)).copied();
                    self.distrust(lost);
                    rescue(self, lost).map_err(|error| match (error, cut.take(), own) {
                        (Error::Unreadable(_), Some(damage), _) => damage.into(),
                        (Error::Unreadable(_), None, Some(own)) => {
                            Error::Vanished { object: ObjectName::new(Place::Data, own).to_string() }
                        }
                        // With a basis, which no prune takes anything from, it is damaged or lost.
                        (Error::Unreadable(_), None, None) if !has_basis => Error::PrunedAway,
                        (error, ..) => error,
                    })?;
                    self.flush()?;
                    self.put_index(false)?;
                    // Otherwise the listing of packs that comes next could miss what was just stored.
                    self.wait_until_visible();
                    Answer::Stored(self.needed_packs())
                }
                Step::PutSeal(body) => {
                    let body = *body;
                    let body_name = ObjectName::new(Place::Snapshots, body);
                    let index = self.check_index();
                    if self.find_once(&body_name, body_bytes, &gone)? {
                        match index {
                            // A pruner that saw the claim may have moved all that is needed into packs of its own.
                            Err(error) if error.is_damage() && !looked_again => {
                                looked_again = true;
                                claimed = Some(body);
                                writer = Writer::default();
                                continue;
                            }
                            result => result?,
                        }
                        claims.clear();
                        let (seal, size_bytes) = self.put_seal(body)?;
                        seals.push(seal);
                        if !self.find_once(&seal, size_bytes, &gone)? {
                            gone.insert(body);
                        }
                    } else {
                        gone.insert(body);
                    }
                    Answer::SealPut
                }
                Step::ListExpireNotes => Answer::ExpireNotes(repository.notes()?.expiring()),
                Step::FindBody(body) => {
                    let body_name = ObjectName::new(Place::Snapshots, *body);
                    Answer::BodyFound(!gone.contains(body) && repository.store().stat(&body_name)?.is_some())
                }
                Step::Done(Outcome::Committed(body)) => return Ok(*body),
                Step::Done(Outcome::PrunedAway) => return Err(Error::PrunedAway),
            };
            writer.answer(answer).map_err(|error| Error::Invalid(error.to_string()))?;
        }
    }

    /// Makes sure that the snapshot whose parts are taken over is there.
    fn check_basis(&self, basis: &SnapshotId) -> Result<()> {
        match self.repository().store().stat(&ObjectName::new(Place::Snapshots, *basis))? {
            Some(_) => Ok(()),
            None => Err(Error::NoSnapshot { query: basis.to_string() }),
        }
    }

    /// W3, and removes the runs that are merged into the new one.
    fn put_merged_index(&self) -> Result<()> {
        let merged = self.put_index(true)?;
        if !merged.is_empty() {
            // Otherwise a reader could see neither the new run nor the old ones.
            self.wait_until_visible();
        }
        for run in merged {
            // Its entries are in a larger run; one that stays is merely said twice. A store that refuses one refuses all.
            if self.repository().store().delete(&run).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// W6: which of the needed packs are there; and a reason beyond pruning why one does not count: it is not as long as it was
    /// stored.
    pub(super) fn list_needed(&self, needed: &BTreeSet<PackId>) -> Result<(BTreeSet<PackId>, Option<Damage>)> {
        let sizes = self.pack_sizes();
        let mut present = BTreeSet::new();
        let mut cut = None;
        self.repository().store().list(Place::Data, &mut |info| {
            let pack = PackId::from(info.name.id());
            if !needed.contains(&pack) {
                return;
            }
            let expected_bytes = sizes.get(&pack).copied().unwrap_or_default();
            if info.size_bytes == expected_bytes {
                present.insert(pack);
            } else {
                let reason = format!(
                    "it has {} bytes and was stored with {expected_bytes}; the next backup stores anew what was in it",
                    info.size_bytes
                );
                cut = Some(Damage::new(info.name, reason));
            }
        })?;
        Ok((present, cut))
    }

    /// W8. Tells its name and size.
    fn put_seal(&self, body: SnapshotId) -> Result<(ObjectName, u64)> {
        let seal = Seal { bodies: vec![body] };
        debug_assert!(seal.bodies.len() <= limits::SEAL_BODIES_MAX);
        let (id, size_bytes) = self.repository().save_sized(Place::Snapshots, ObjectKind::Seal, &seal)?;
        self.wait_until_visible();
        Ok((ObjectName::new(Place::Snapshots, id), size_bytes))
    }

    /// Whether what was stored is there. When something was `gone` before, it must be.
    fn find_once(&self, name: &ObjectName, size_bytes: u64, gone: &BTreeSet<SnapshotId>) -> Result<bool> {
        if gone.is_empty() {
            return self.repository().find_stored(name, size_bytes);
        }
        self.repository().check_stored(name, size_bytes)?;
        Ok(true)
    }

    pub(super) fn wait_until_visible(&self) {
        let repository = self.repository();
        repository.runtime().sleep_ms(repository.store().abilities().visibility_delay_ms);
    }
}
