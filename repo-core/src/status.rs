//! What goes on in a repository: who works in it, and what was begun and not finished.
//!
//! All of it is courtesy. Nothing here has to be cleared away by anybody: the next backup, the next prune and time do that.

use crate::{
    error::{Error, Result, StoreErrorKind},
    id::{NoteId, SnapshotId},
    repository::{
        Repository,
        notes::{ExpireNote, Session, is_old},
    },
    snapshot::{self, Listing, Snapshot},
    store::{ObjectName, Place},
    time::Timestamp,
};

/// Everything that was begun and is not finished.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Sessions, the oldest first.
    pub sessions: Vec<SessionStatus>,
    /// Snapshots without a seal, the oldest first.
    pub unfinished: Vec<UnfinishedStatus>,
    /// Packs that are being deleted, the oldest first.
    pub marks: Vec<MarkStatus>,
    /// Unfinished snapshots that are being removed.
    pub expiring: Vec<(NoteId, ExpireNote)>,
}

/// A session's note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The note.
    pub note: NoteId,
    /// What it says.
    pub session: Session,
    /// When it was stored, by the store's clock, where the store tells; else when it says that it began.
    pub since: Timestamp,
    /// Whether it is still at work.
    pub state: SessionState,
}

/// Whether a session is at work, as far as anybody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Its process runs on this machine.
    Working,
    /// Its process is gone from this machine, or it is older than any gets.
    LeftBehind,
    /// It is of another machine.
    Unknown,
}

/// A snapshot without a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedStatus {
    /// Its id.
    pub id: SnapshotId,
    /// What it is; nothing where it cannot be read.
    pub snapshot: Option<Snapshot>,
    /// When it was stored, by the store's clock, where the store tells; else when it says that it was made.
    pub since: Timestamp,
    /// It is so old that the next prune removes it.
    pub is_old: bool,
}

/// A mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkStatus {
    /// The mark.
    pub note: NoteId,
    /// When it was put, by its maker's clock.
    pub created: Timestamp,
    /// Packs it names.
    pub packs: u64,
    /// Those of them that are still there.
    pub packs_left: u64,
}

/// Looks around. `own` is who asks: what runs on the same machine can be told from what is gone.
///
/// # Errors
/// When the store fails, or a mark cannot be read.
pub fn status(repository: &Repository, own: &Session) -> Result<Status> {
    let notes = repository.notes()?;
    let left_behind = repository.left_behind(&notes, Some(own))?;
    let stored = |name: &ObjectName| Ok::<_, Error>(repository.store().stat(name)?.and_then(|info| info.modified));
    let mut status = Status { expiring: notes.expire_notes, ..Status::default() };
    for (note, session) in notes.sessions {
        let state = match () {
            () if left_behind.contains(&note) => SessionState::LeftBehind,
            () if session.host == own.host => SessionState::Working,
            () => SessionState::Unknown,
        };
        let since = stored(&ObjectName::new(Place::Locks, note))?.unwrap_or(session.started);
        status.sessions.push(SessionStatus { note, session, since, state });
    }
    for (note, mark) in notes.marks {
        let mut packs_left = 0;
        for pack in &mark.packs {
            packs_left += u64::from(repository.store().stat(&ObjectName::new(Place::Data, *pack))?.is_some());
        }
        status.marks.push(MarkStatus { note, created: mark.created, packs: mark.packs.len() as u64, packs_left });
    }
    let listing = Listing::read(repository)?;
    let now = repository.runtime().now();
    for id in listing.tentative {
        let snapshot = match snapshot::load(repository, &id) {
            Ok(snapshot) => Some(snapshot),
            // Its backup has put a later one, or is done.
            Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => continue,
            Err(error) if error.is_damage() || error.is_newer() => None,
            Err(error) => return Err(error),
        };
        let said = snapshot.as_ref().map(|snapshot| snapshot.summary.ended);
        let since = listing.stored.get(&id).copied().or(said).unwrap_or_default();
        status.unfinished.push(UnfinishedStatus { id, snapshot, since, is_old: is_old(since, now) });
    }
    status.sessions.sort_by_key(|session| (session.since, session.note));
    status.unfinished.sort_by_key(|unfinished| (unfinished.since, unfinished.id));
    status.marks.sort_by_key(|mark| (mark.created, mark.note));
    Ok(status)
}
