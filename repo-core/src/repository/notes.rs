//! Transient objects below `locks/`: sessions, marks, expire notes, store reports (`docs/format.md` section 11).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    crypto::{keys::ObjectKind, slot::MAGIC},
    envelope::{header::HEADER_BYTES, object},
    error::{Error, Result, StoreErrorKind},
    id::{NoteId, PackId, SnapshotId},
    repository::Repository,
    store::{ObjectName, Place},
    time::Timestamp,
};

/// Seconds after which what nobody finished counts as left behind, whoever began it: notes of sessions, and snapshots without a seal.
pub const LEFT_BEHIND_SECONDS: i64 = 14 * 24 * 3600;

/// Whether so much time has passed that what was stored then is left behind.
#[must_use]
pub const fn is_old(stored: Timestamp, now: Timestamp) -> bool {
    now.seconds().saturating_sub(stored.seconds()) > LEFT_BEHIND_SECONDS
}

/// Who works in the repository. A courtesy for messages and for finding what a killed run left; never for safety.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What it does: "backup".
    pub operation: String,
    /// On which machine.
    pub host: String,
    /// As which user.
    pub user: String,
    /// Its process number there.
    pub process: u32,
    /// Since when, by its own clock.
    pub started: Timestamp,
}

/// Packs condemned by a prune. Irrevocable: goes only after all of its packs are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The packs.
    pub packs: Vec<PackId>,
    /// When it was made, by the pruner's clock.
    pub created: Timestamp,
}

/// Says that a tentative snapshot is being removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireNote {
    /// The snapshot.
    pub body: SnapshotId,
    /// When it was made, by the expirer's clock.
    pub created: Timestamp,
}

/// Everything below `locks/` at one moment.
#[derive(Debug, Default)]
pub struct Notes {
    /// Who works here.
    pub sessions: Vec<(NoteId, Session)>,
    /// What is condemned.
    pub marks: Vec<(NoteId, Mark)>,
    /// What is being removed.
    pub expire_notes: Vec<(NoteId, ExpireNote)>,
    /// What was found out about the store: see [`super::store_report`].
    pub store_reports: Vec<NoteId>,
}

impl Notes {
    /// All condemned packs.
    #[must_use]
    pub fn condemned(&self) -> BTreeSet<PackId> {
        self.marks.iter().flat_map(|(_, mark)| mark.packs.iter().copied()).collect()
    }

    /// All bodies that are being removed.
    #[must_use]
    pub fn expiring(&self) -> BTreeSet<SnapshotId> {
        self.expire_notes.iter().map(|(_, note)| note.body).collect()
    }
}

impl Repository {
    /// Lists and reads everything below `locks/`. One that vanishes meanwhile is passed over: a session that ended, or a mark
    /// whose packs are gone (so that a listing of packs that begins later shows none of them).
    ///
    /// # Errors
    /// When the listing is not complete or one cannot be read; a mark that cannot be read must not be taken for none.
    pub fn notes(&self) -> Result<Notes> {
        let mut notes = Notes::default();
        for info in self.list(Place::Locks)? {
            let bytes = match self.load_bytes(&info.name) {
                Err(Error::Store(error)) if error.kind == StoreErrorKind::NotFound => continue,
                result => result?,
            };
            let id = NoteId::from(info.name.id());
            let kind = bytes.get(MAGIC.len() + 2).copied().and_then(ObjectKind::from_byte);
            match kind {
                // A courtesy: one that cannot be read must not keep everybody out.
                Some(ObjectKind::Session) => match self.open_note(ObjectKind::Session, &bytes, &info.name) {
                    Ok(session) => notes.sessions.push((id, session)),
                    Err(error) if error.is_damage() || error.is_newer() => {}
                    Err(error) => return Err(error),
                },
                Some(ObjectKind::Mark) => notes.marks.push((id, self.open_note(ObjectKind::Mark, &bytes, &info.name)?)),
                Some(ObjectKind::ExpireNote) => {
                    notes.expire_notes.push((id, self.open_note(ObjectKind::ExpireNote, &bytes, &info.name)?));
                }
                Some(ObjectKind::StoreReport) => notes.store_reports.push(id),
                _ => {
                    let reason = format!("{} bytes that are no note (shorter than {HEADER_BYTES}?)", bytes.len());
                    return Err(crate::error::Damage::new(info.name, reason).into());
                }
            }
        }
        Ok(notes)
    }

    /// The notes of sessions that are over: their process is gone from this machine, or they are older than any session gets. One
    /// with our own process number is of a process that had it before us, or of an operation of ours that has failed.
    ///
    /// # Errors
    /// When the store cannot tell how old one is.
    pub fn left_behind(&self, notes: &Notes, own: Option<&Session>) -> Result<Vec<NoteId>> {
        let now = self.runtime().now();
        let mut over = Vec::new();
        for (id, session) in &notes.sessions {
            let is_over = own.is_some_and(|own| {
                session.host == own.host
                    && (session.process == own.process || !self.runtime().is_running(session.process))
            });
            let stored = || self.store().stat(&ObjectName::new(Place::Locks, *id));
            if is_over || is_old(stored()?.and_then(|info| info.modified).unwrap_or(session.started), now) {
                over.push(*id);
            }
        }
        Ok(over)
    }

    fn open_note<T: Serialize + serde::de::DeserializeOwned>(
        &self,
        kind: ObjectKind,
        bytes: &[u8],
        name: &ObjectName,
    ) -> Result<T> {
        object::open(self.keys(), kind, bytes, name)
    }
}
