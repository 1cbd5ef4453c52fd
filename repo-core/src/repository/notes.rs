//! Transient objects below `locks/`: sessions, marks, expire notes, store reports (`docs/format.md` section 11).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    crypto::{keys::ObjectKind, slot::MAGIC},
    envelope::{header::HEADER_BYTES, object},
    error::{Damage, Error, Result, StoreErrorKind},
    id::{NoteId, PackId, SnapshotId},
    parallel::for_each,
    repository::Repository,
    store::{ObjectInfo, ObjectName, Place},
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

/// A note, as it is read.
enum Note {
    Mark(Mark),
    ExpireNote(ExpireNote),
    Courtesy(Courtesy),
    /// A courtesy that cannot be read must not keep everybody out.
    Unreadable,
}

#[derive(Clone)]
enum Courtesy {
    Session(Session),
    StoreReport,
}

/// Notes that nothing depends on, as they were read before. What lies under a name never changes, and a writer lists notes several times; what
/// says that something is being deleted is read each time all the same.
#[derive(Default)]
pub(super) struct Courtesies(Mutex<BTreeMap<NoteId, Courtesy>>);

impl Courtesies {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NoteId, Courtesy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repository {
    /// Lists and reads everything below `locks/`. One that vanishes meanwhile is passed over: a session that ended, or a mark
    /// whose packs are gone (so that a listing of packs that begins later shows none of them).
    ///
    /// # Errors
    /// When the listing is not complete or one cannot be read; a mark that cannot be read must not be taken for none.
    pub fn notes(&self) -> Result<Notes> {
        self.read_notes(&self.list(Place::Locks)?, BTreeMap::new())
    }

    /// Reads what is listed, but for notes whose stored bytes are there already.
    pub(super) fn read_notes(
        &self,
        listed: &[ObjectInfo],
        bytes: BTreeMap<ObjectName, Result<Vec<u8>>>,
    ) -> Result<Notes> {
        let bytes = Mutex::new(bytes);
        let load = |name: &ObjectName| {
            let ahead = bytes.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            ahead.unwrap_or_else(|| self.load_bytes(name))
        };
        let read = Mutex::new(BTreeMap::new());
        for_each(listed, self.store().abilities().connections, |info| {
            if let Some(note) = self.note(&info.name, load)? {
                let id = NoteId::from(info.name.id());
                read.lock().unwrap_or_else(PoisonError::into_inner).insert(id, note);
            }
            Ok(())
        })?;
        let mut notes = Notes::default();
        let mut courtesies = BTreeMap::new();
        for (id, note) in read.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match note {
                Note::Mark(mark) => notes.marks.push((id, mark)),
                Note::ExpireNote(note) => notes.expire_notes.push((id, note)),
                Note::Courtesy(courtesy) => {
                    match &courtesy {
                        Courtesy::Session(session) => notes.sessions.push((id, session.clone())),
                        Courtesy::StoreReport => notes.store_reports.push(id),
                    }
                    courtesies.insert(id, courtesy);
                }
                Note::Unreadable => {}
            }
        }
        *self.courtesies.lock() = courtesies;
        Ok(notes)
    }

    /// One note; `None` if it is gone.
    fn note(&self, name: &ObjectName, load: impl Fn(&ObjectName) -> Result<Vec<u8>>) -> Result<Option<Note>> {
        if let Some(known) = self.courtesies.lock().get(&NoteId::from(name.id())) {
            return Ok(Some(Note::Courtesy(known.clone())));
        }
        let bytes = match load(name) {
            Err(Error::Store(error)) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let kind = bytes.get(MAGIC.len() + 2).copied().and_then(ObjectKind::from_byte);
        Ok(Some(match kind {
            Some(ObjectKind::Session) => match self.open_note(ObjectKind::Session, &bytes, name) {
                Ok(session) => Note::Courtesy(Courtesy::Session(session)),
                Err(error) if error.is_damage() || error.is_newer() => Note::Unreadable,
                Err(error) => return Err(error),
            },
            Some(ObjectKind::Mark) => Note::Mark(self.open_note(ObjectKind::Mark, &bytes, name)?),
            Some(ObjectKind::ExpireNote) => Note::ExpireNote(self.open_note(ObjectKind::ExpireNote, &bytes, name)?),
            Some(ObjectKind::StoreReport) => Note::Courtesy(Courtesy::StoreReport),
            _ => {
                let reason = format!("{} bytes that are no note (shorter than {HEADER_BYTES}?)", bytes.len());
                return Err(Damage::new(*name, reason).into());
            }
        }))
    }

    /// Says who works here from now on.
    ///
    /// # Errors
    /// When the note cannot be stored.
    pub(super) fn put_session(&self, session: &Session) -> Result<NoteId> {
        let id = self.save(Place::Locks, ObjectKind::Session, session)?.into();
        self.courtesies.lock().insert(id, Courtesy::Session(session.clone()));
        Ok(id)
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
