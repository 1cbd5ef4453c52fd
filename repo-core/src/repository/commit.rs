//! Driving a session through the protocol to its commit.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    crypto::keys::ObjectKind,
    error::{Damage, Error, Result},
    id::{PackId, SnapshotId},
    parallel::both,
    protocol::writer::{Answer, Outcome, Step, Writer},
    repository::{Repository, seal::Seal, session::Session},
    store::{ObjectName, Place},
};

/// Stores blobs that lie in these packs, and are needed, again; they count as new in the session.
pub type Rescue<'a> = dyn FnMut(&Session, &BTreeSet<PackId>) -> Result<()> + 'a;

impl Session {
    /// Stores everything, puts `body` as a snapshot body, checks that all it needs is there to stay, and seals it.
    ///
    /// # Errors
    /// Any failure leaves no seal: the snapshot is then tentative or not there at all, and what was stored is of use to the next
    /// session. The session's note stays, so that the next one looks for it, unless all of it is in the index already.
    pub fn commit<T: Serialize>(self, body: &T, rescue: &mut Rescue<'_>) -> Result<SnapshotId> {
        self.drive(body, None, true, rescue)
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
        self.drive(body, basis, false, rescue)
    }

    fn drive<T: Serialize>(
        &self,
        body: &T,
        basis: Option<&SnapshotId>,
        is_last: bool,
        rescue: &mut Rescue<'_>,
    ) -> Result<SnapshotId> {
        let mut commit = Commit {
            session: self,
            body,
            basis,
            had_basis: basis.is_some(),
            is_last,
            writer: Writer::default(),
            claims: Vec::new(),
            stored_body: Vec::new(),
            claimed: None,
            cut: None,
            look: None,
            looked_again: false,
            seals: Vec::new(),
            seal: None,
            gone: BTreeSet::new(),
        };
        let result = commit.drive(rescue);
        if result.as_ref().is_err_and(|error| error.is_pruned_away() || matches!(error, Error::NoSnapshot { .. })) {
            // There is no seal. A body that stays keeps what it needs from being pruned until it expires.
            let _ = self.repository().delete_objects(&commit.claims);
        }
        result
    }

    /// Makes sure that the snapshot whose parts are taken over is there.
    fn check_basis(&self, basis: &SnapshotId) -> Result<()> {
        match self.repository().store().stat(&ObjectName::new(Place::Snapshots, *basis))? {
            Some(_) => Ok(()),
            None => Err(Error::NoSnapshot { query: basis.to_string() }),
        }
    }

    /// W6: which of the needed packs are there; and a reason beyond pruning why one does not count: it is not as long as it was
    /// stored.
    pub(super) fn list_needed(&self, needed: &BTreeSet<PackId>) -> Result<(BTreeSet<PackId>, Option<Damage>)> {
        let mut present = BTreeSet::new();
        let mut cut = None;
        if needed.is_empty() {
            return Ok((present, cut));
        }
        let sizes = self.pack_sizes();
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
    fn put_seal(&self, seal: &Seal) -> Result<(ObjectName, u64)> {
        let (id, stored) = self.repository().save_bytes(Place::Snapshots, ObjectKind::Seal, seal)?;
        self.wait_until_visible();
        Ok((ObjectName::new(Place::Snapshots, id), stored.len() as u64))
    }

    /// Whether what was stored is there in full length; that it is not is a failure unless it may be.
    fn find(&self, name: &ObjectName, size_bytes: u64, may_be_gone: bool) -> Result<bool> {
        if may_be_gone {
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

/// A snapshot on its way through the protocol.
struct Commit<'a, T> {
    session: &'a Session,
    body: &'a T,
    /// The snapshot whose parts are taken over unseen, as long as that is enough.
    basis: Option<&'a SnapshotId>,
    had_basis: bool,
    /// Nothing comes after it in this session.
    is_last: bool,
    writer: Writer,
    /// The bodies that were put, but for those for which a seal may be there.
    claims: Vec<ObjectName>,
    /// The stored bytes of the body that was put last.
    stored_body: Vec<u8>,
    /// A claim from before everything was looked through.
    claimed: Option<SnapshotId>,
    /// Why a needed pack does not count, beyond pruning.
    cut: Option<Damage>,
    /// The last look before the seal: at the body, and at the index.
    look: Option<(Result<bool>, Result<()>)>,
    /// Everything was looked through anew since the index was not what it had been.
    looked_again: bool,
    /// All seals that were put.
    seals: Vec<ObjectName>,
    /// The one that was put last and has not been looked for yet: what it seals, its name and size.
    seal: Option<(SnapshotId, ObjectName, u64)>,
    /// What has expired, or been forgotten, while this machine slept, or was lost: W10 then claims anew. No second time, since a store
    /// that loses what it has confirmed must be told of.
    gone: BTreeSet<SnapshotId>,
}

impl<T: Serialize> Commit<'_, T> {
    fn drive(&mut self, rescue: &mut Rescue<'_>) -> Result<SnapshotId> {
        loop {
            let step = self.writer.step().clone();
            let answer = match &step {
                // The index was read before the session was opened.
                Step::ListIndex => Some(Answer::IndexListed),
                Step::Store => Some(self.store()?),
                Step::PutBody => Some(self.put_body()?),
                Step::ListMarks => self.list_marks(rescue)?,
                Step::ListPacks => Some(self.list_packs()?),
                Step::Rescue(lost) => Some(self.rescue(lost, rescue)?),
                Step::PutSeal(body) => self.put_seal(*body)?,
                Step::ListExpireNotes => Some(self.list_expire_notes()?),
                Step::FindBody(body) => Some(self.find_body(body)?),
                Step::Done(Outcome::Committed(body)) => return Ok(*body),
                Step::Done(Outcome::PrunedAway) => return Err(Error::PrunedAway),
            };
            if let Some(answer) = answer {
                self.writer.answer(answer).map_err(|error| Error::Invalid(error.to_string()))?;
            } else {
                // Everything is looked through anew, under the claim that is there.
                self.claimed = self.claims.last().map(|name| name.id().into());
                self.writer = Writer::default();
            }
        }
    }

    fn repository(&self) -> &Repository {
        self.session.repository()
    }

    /// Requests that may be on their way at once.
    fn threads(&self) -> usize {
        self.repository().store().abilities().connections
    }

    /// W2 and W3.
    fn store(&self) -> Result<Answer> {
        self.session.flush()?;
        self.session.put_merged_index()?;
        Ok(Answer::Stored(self.session.needed_packs()))
    }

    /// W4.
    fn put_body(&mut self) -> Result<Answer> {
        if let Some(claimed) = self.claimed.take() {
            return Ok(Answer::BodyPut(claimed));
        }
        // Seals of earlier bodies, which are gone or going, would tell of a backup that is lost.
        let seals = std::mem::take(&mut self.seals);
        let _ = self.repository().delete_objects(&seals);
        let (body, stored) = self.repository().save_bytes(Place::Snapshots, ObjectKind::Snapshot, self.body)?;
        self.stored_body = stored;
        self.claims.push(ObjectName::new(Place::Snapshots, body));
        self.session.wait_until_visible();
        Ok(Answer::BodyPut(body.into()))
    }

    /// W5. `None` when all of the tree has to be looked through now.
    fn list_marks(&mut self, rescue: &mut Rescue<'_>) -> Result<Option<Answer>> {
        let condemned = self.repository().notes()?.condemned();
        if let Some(leaned_on) = self.basis {
            // Begins after the marks were listed: the basis was there all the time until then.
            self.session.check_basis(leaned_on)?;
            if !condemned.is_empty() {
                self.basis = None;
                return match rescue(self.session, &BTreeSet::new()) {
                    Err(Error::Unreadable(why)) => Err(self.find_own_lost()?.unwrap_or(Error::Unreadable(why))),
                    result => result.map(|()| None),
                };
            }
        }
        Ok(Some(Answer::Marks(condemned)))
    }

    /// Whether something that this session has stored itself was pruned before it was claimed; it does not count any more, so that it is
    /// stored again when the snapshot is made once more.
    fn find_own_lost(&self) -> Result<Option<Error>> {
        let session = self.session;
        let mut lost: BTreeSet<_> =
            session.stored_packs().into_iter().filter(|pack| session.has_stored(pack)).collect();
        let (present, _) = session.list_needed(&lost)?;
        lost.retain(|pack| !present.contains(pack));
        session.distrust(&lost);
        let object = lost.first().map(|pack| ObjectName::new(Place::Data, *pack).to_string());
        Ok(object.map(|object| Error::Vanished { object }))
    }

    /// W6, and beside it the last look at what the seal will rely on, for stores that lose what they have confirmed.
    fn list_packs(&mut self) -> Result<Answer> {
        let (session, threads) = (self.session, self.threads());
        let (needed, claim) = (self.writer.needed(), self.claims.last().copied());
        let (size_bytes, may_be_gone) = (self.stored_body.len() as u64, self.gone.is_empty());
        let find_body = || claim.map_or(Ok(false), |body| session.find(&body, size_bytes, may_be_gone));
        let (listed, look) =
            both(threads, || session.list_needed(needed), || both(threads, find_body, || session.check_index()));
        let (present, cut) = listed?;
        (self.cut, self.look) = (cut, Some(look));
        Ok(Answer::Packs(present))
    }

    /// W7 said no.
    fn rescue(&mut self, lost: &BTreeSet<PackId>, rescue: &mut Rescue<'_>) -> Result<Answer> {
        let session = self.session;
        let own = lost.iter().find(|pack| session.has_stored(pack)).copied();
        session.distrust(lost);
        rescue(session, lost).map_err(|error| match (error, self.cut.take(), own) {
            (Error::Unreadable(_), Some(damage), _) => damage.into(),
            (Error::Unreadable(_), None, Some(own)) => {
                Error::Vanished { object: ObjectName::new(Place::Data, own).to_string() }
            }
            // With a basis, which no prune takes anything from, it is damaged or lost.
            (Error::Unreadable(_), None, None) if !self.had_basis => Error::PrunedAway,
            (error, ..) => error,
        })?;
        session.flush()?;
        session.put_index(false)?;
        // Otherwise the listing of packs that comes next could miss what was just stored.
        session.wait_until_visible();
        Ok(Answer::Stored(session.needed_packs()))
    }

    /// W8, if the last look has found everything. `None` when all of the tree has to be looked through once more.
    fn put_seal(&mut self, body: SnapshotId) -> Result<Option<Answer>> {
        let (found, index) = self.look.take().unwrap_or((Ok(false), Ok(())));
        if found? {
            match index {
                // A pruner that saw the claim may have moved all that is needed into packs of its own.
                Err(error) if error.is_damage() && !self.looked_again => {
                    self.looked_again = true;
                    return Ok(None);
                }
                result => result?,
            }
            self.claims.clear();
            let (seal, size_bytes) = self.session.put_seal(&Seal::with_copy(body, &self.stored_body))?;
            self.seals.push(seal);
            self.seal = Some((body, seal, size_bytes));
        } else {
            self.gone.insert(body);
        }
        Ok(Some(Answer::SealPut))
    }

    /// W9, and beside it whether the seal is there that was just put.
    fn list_expire_notes(&mut self) -> Result<Answer> {
        let (session, seal, may_be_gone) = (self.session, self.seal.take(), self.gone.is_empty());
        let find_seal = || seal.map_or(Ok(true), |(_, name, size_bytes)| session.find(&name, size_bytes, may_be_gone));
        let (found, notes) = both(self.threads(), find_seal, || session.repository().notes());
        if !found? && let Some((body, ..)) = seal {
            self.gone.insert(body);
        }
        Ok(Answer::ExpireNotes(notes?.expiring()))
    }

    /// W10, and beside it the end of the session's note: all that was stored is claimed and in the index, so that nobody has to look for
    /// it, even if this body should have to be put once more. A note that cannot be removed costs the next session a look.
    fn find_body(&self, body: &SnapshotId) -> Result<Answer> {
        let name = ObjectName::new(Place::Snapshots, *body);
        let (session, is_gone) = (self.session, self.gone.contains(body));
        let ends = self.is_last && !is_gone;
        let find = || if is_gone { Ok(None) } else { session.repository().store().stat(&name) };
        let end = || if ends { session.remove_note() } else { Ok(()) };
        let (found, _) = both(self.threads(), find, end);
        Ok(Answer::BodyFound(found?.is_some()))
    }
}
