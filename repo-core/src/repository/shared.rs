//! What the threads of a session share: which blobs are known, which packs do not count, the packs being filled, the first failure.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    blob::BlobKind,
    compress::Level,
    error::{Error, Result},
    id::{BlobId, NoteId, PackId},
    index::set::IndexSet,
    pack::builder::PackBuilder,
    repository::{Repository, added::Counts, new_blobs::NewBlobs, notes::Session, stored::Stored},
};

/// What the session's threads share.
pub(super) struct Shared {
    pub(super) repository: Arc<Repository>,
    pub(super) index: Arc<IndexSet>,
    pub(super) level: Level,
    pub(super) dry_run: bool,
    /// Blobs that are new in this session, whether their pack is stored yet or not.
    pub(super) new_blobs: Mutex<NewBlobs>,
    /// One bit for each pack of the index: whether something in it is needed.
    pub(super) used: Vec<AtomicU64>,
    /// Packs that a pruner has condemned or removed: what lies in them does not count.
    pub(super) distrusted: RwLock<BTreeSet<PackId>>,
    /// The pack being filled, for each kind.
    pub(super) packs: [Mutex<Option<PackBuilder>>; 2],
    pub(super) stored: Mutex<Stored>,
    /// Held by whoever puts an index run of this session, from choosing what it names until it is stored.
    pub(super) indexing: Mutex<()>,
    pub(super) failure: Mutex<Option<Error>>,
    pub(super) failed: AtomicBool,
    pub(super) counts: Counts,
    /// The note that says who works here, once it is stored; `None` if there is none, or it could not be stored.
    pub(super) note: OnceLock<Option<NoteId>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a worker ends the session without a commit; what the lock guards is not used for anything durable then.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn pack_bytes(&self) -> usize {
        self.repository.config().parameters.pack_bytes as usize
    }

    /// Whether the index knows a trusted copy of the blob; its pack is then needed.
    pub(super) fn find_known(&self, kind: BlobKind, id: &BlobId) -> bool {
        let distrusted = self.distrusted.read().unwrap_or_else(PoisonError::into_inner);
        let found = self.index.find_where(kind, id, |pack| distrusted.is_empty() || !distrusted.contains(pack));
        let Some(found) = found else { return false };
        if let Some(word) = self.used.get(found.pack as usize / 64) {
            let bit = 1 << (found.pack % 64);
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        true
    }

    /// Remembers the first failure; the session will not commit. Returns what the failing call reports.
    pub(super) fn fail(&self, error: Error) -> Error {
        let mut failure = lock(&self.failure);
        self.failed.store(true, Ordering::SeqCst);
        if failure.is_none() && !matches!(error, Error::Poisoned) {
            *failure = Some(error);
        }
        Error::Poisoned
    }

    /// # Errors
    /// The first failure, once; after that that there was one.
    pub(super) fn check(&self) -> Result<()> {
        if !self.failed.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(lock(&self.failure).take().unwrap_or(Error::Poisoned))
    }

    /// Stores the session's note, if there is one. That it cannot be stored is the session's failure.
    pub(super) fn put_note(&self, note: Option<Session>) {
        let put = || note.map(|note| self.repository.put_session(&note)).transpose();
        let bug = || Error::Invalid("the thread that stores the session's note failed; this is a bug".into());
        let put = catch_unwind(AssertUnwindSafe(put)).unwrap_or_else(|_| Err(bug()));
        let _ = self.note.set(put.unwrap_or_else(|error| {
            self.fail(error);
            None
        }));
    }

    /// Waits for the session's note. Nothing is stored before it is: whoever finds the note looks for what the session has stored.
    ///
    /// # Errors
    /// When it could not be stored.
    pub(super) fn wait_for_note(&self) -> Result<()> {
        self.note.wait();
        if self.has_failed() { Err(Error::Poisoned) } else { Ok(()) }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }
}
