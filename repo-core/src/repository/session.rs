//! A writer's session: stores each new blob once, in frames and packs, and keeps book of what the snapshot will need.
//!
//! `open → write → commit(self)`; a session that is dropped commits nothing, and what it stored is found and used by the next.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    blob::{BlobKind, WriteBlobs},
    compress::Level,
    error::{Error, Result},
    id::{BlobId, NoteId, PackId},
    index::set::IndexSet,
    repository::{
        Repository,
        added::Counts,
        directories::Directories,
        frames::FrameWriter,
        new_blobs::NewBlobs,
        notes::Session as SessionNote,
        shared::{Shared, lock},
        upload::Uploader,
    },
    store::{ObjectName, Place},
};

pub use crate::repository::added::Added;

/// How a session writes.
pub struct SessionOptions {
    /// How hard to compress.
    pub level: Level,
    /// Do everything but store anything.
    pub dry_run: bool,
    /// Who works here; `None` leaves no note.
    pub note: Option<SessionNote>,
}

/// A writer's session.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) uploader: Uploader,
    /// Where blobs of kind tree are gathered; those of kind data have a [`FrameWriter`] per thread.
    pub(super) directories: Directories,
    note_removed: AtomicBool,
}

impl Session {
    /// Opens a session that finds known blobs by `index`.
    ///
    /// # Errors
    /// When the repository may not be written to, or the session's note cannot be stored.
    pub fn open(repository: Arc<Repository>, index: Arc<IndexSet>, options: SessionOptions) -> Result<Self> {
        let session = Self::open_beside(repository, index, options)?;
        session.shared.note.wait();
        session.shared.check().map(|()| session)
    }

    /// As [`Self::open`]; the note is stored beside what its owner does next, where there are threads for it. Nothing else is stored before.
    ///
    /// # Errors
    /// As [`Self::open`], or whatever is stored first tells of it.
    pub fn open_beside(repository: Arc<Repository>, index: Arc<IndexSet>, options: SessionOptions) -> Result<Self> {
        repository.check_writable()?;
        let words = index.packs().div_ceil(64) as usize;
        let shared = Arc::new(Shared {
            level: options.level,
            dry_run: options.dry_run,
            new_blobs: Mutex::default(),
            used: (0..words).map(|_| AtomicU64::new(0)).collect(),
            distrusted: RwLock::default(),
            packs: [Mutex::new(None), Mutex::new(None)],
            stored: Mutex::default(),
            indexing: Mutex::default(),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            counts: Counts::default(),
            note: OnceLock::new(),
            repository,
            index,
        });
        let uploader = Uploader::start(&shared, options.note.filter(|_| !options.dry_run));
        shared.check()?;
        let directories = Directories::new(&shared);
        Ok(Self { shared, uploader, directories, note_removed: AtomicBool::new(false) })
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Arc<Repository> {
        &self.shared.repository
    }

    /// The index known blobs are found by.
    #[must_use]
    pub fn index(&self) -> &Arc<IndexSet> {
        &self.shared.index
    }

    /// Says that a blob is needed. `true`: it is new, and the caller must store it with a [`FrameWriter`]. `false`: it is in the
    /// repository, or on its way there in this session.
    #[must_use]
    pub fn claim(&self, kind: BlobKind, id: &BlobId) -> bool {
        !self.shared.find_known(kind, id) && lock(&self.shared.new_blobs).insert(kind, id)
    }

    /// Says that a blob of an earlier snapshot is needed again; whether it is there.
    #[must_use]
    pub fn need(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.shared.find_known(kind, id) || lock(&self.shared.new_blobs).contains(kind, id)
    }

    /// A place to gather new blobs in; each thread has its own.
    #[must_use]
    pub fn frame_writer(&self, kind: BlobKind) -> FrameWriter<'_> {
        FrameWriter::new(self, kind)
    }

    /// What was stored so far. Complete once everything was flushed.
    #[must_use]
    pub fn added(&self) -> Added {
        self.shared.counts.added()
    }

    /// W2: stores everything that was written; returns when it is durable. Frame writers must have been flushed by their owners.
    ///
    /// # Errors
    /// The first failure of the session.
    pub fn flush(&self) -> Result<()> {
        self.store_directories()?;
        for pack in &self.shared.packs {
            if let Some(pack) = lock(pack).take() {
                self.uploader.put(pack)?;
            }
        }
        self.uploader.wait();
        self.shared.note.wait();
        self.shared.check()
    }

    /// Stored sizes of packs this session knows.
    pub(super) fn pack_sizes(&self) -> HashMap<PackId, u64> {
        let mut sizes: HashMap<_, _> =
            self.shared.index.all_packs().map(|pack| (pack.id, pack.size_bytes.into())).collect();
        sizes.extend(&lock(&self.shared.stored).packs);
        sizes
    }

    /// The packs that hold what was claimed and needed.
    pub(super) fn needed_packs(&self) -> BTreeSet<PackId> {
        let shared = &self.shared;
        let mut needed: BTreeSet<_> = lock(&shared.stored).packs.keys().copied().collect();
        for number in 0..shared.index.packs() {
            let word = shared.used.get(number as usize / 64).map_or(0, |word| word.load(Ordering::Relaxed));
            if word >> (number % 64) & 1 == 1
                && let Some(pack) = shared.index.pack(number)
            {
                needed.insert(pack.id);
            }
        }
        let distrusted = shared.distrusted.read().unwrap_or_else(PoisonError::into_inner);
        needed.retain(|pack| !distrusted.contains(pack));
        needed
    }

    /// Whether this session has stored the pack and it was not condemned since, so that it is among those the snapshot will need.
    #[must_use]
    pub fn has_stored(&self, pack: &PackId) -> bool {
        let distrusted = self.shared.distrusted.read().unwrap_or_else(PoisonError::into_inner);
        !distrusted.contains(pack) && lock(&self.shared.stored).packs.contains_key(pack)
    }

    /// The note that says who works here, until the session ends. Waits until it is stored.
    #[must_use]
    pub fn note(&self) -> Option<NoteId> {
        self.shared.note.wait().filter(|_| !self.note_removed.load(Ordering::Relaxed))
    }

    /// The packs that this session has stored.
    #[must_use]
    pub fn stored_packs(&self) -> BTreeSet<PackId> {
        lock(&self.shared.stored).packs.keys().copied().collect()
    }

    /// The index runs that were put by this session, in their order.
    #[must_use]
    pub fn stored_runs(&self) -> Vec<ObjectName> {
        lock(&self.shared.stored).runs.iter().map(|(name, _)| *name).collect()
    }

    /// Whether something could not be stored, so that nothing will be committed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.has_failed()
    }

    /// The first failure of the session, for whoever was only told that there was one.
    #[must_use]
    pub fn take_failure(&self) -> Option<Error> {
        lock(&self.shared.failure).take()
    }

    /// From now on what lies in these packs does not count as stored.
    pub(crate) fn distrust(&self, packs: &BTreeSet<PackId>) {
        self.shared.distrusted.write().unwrap_or_else(PoisonError::into_inner).extend(packs);
        // Blobs this session stored itself into such a pack must count as new again; which ones is not known any more.
        *lock(&self.shared.new_blobs) = NewBlobs::default();
    }

    /// Ends the session without a commit: makes what was stored known to the next session, and takes the note away.
    ///
    /// # Errors
    /// When that fails; the note then stays, so that the next session looks for what was stored.
    pub fn close(self) -> Result<()> {
        self.uploader.wait();
        self.put_index(false)?;
        self.remove_note()
    }

    pub(super) fn remove_note(&self) -> Result<()> {
        let note = self.note();
        self.note_removed.store(true, Ordering::Relaxed);
        match note {
            Some(note) => Ok(self.repository().store().delete(&ObjectName::new(Place::Locks, note))?),
            None => Ok(()),
        }
    }
}

impl WriteBlobs for Session {
    fn write_blob(&self, kind: BlobKind, plain: &[u8]) -> Result<(BlobId, bool)> {
        if kind == BlobKind::Tree {
            return self.write_page(plain, 0);
        }
        let id = self.shared.repository.keys().blob_id(kind, plain);
        if !self.claim(kind, &id) {
            return Ok((id, false));
        }
        let mut writer = self.frame_writer(kind);
        writer.add(id, plain)?;
        writer.flush()?;
        Ok((id, true))
    }

    fn write_page(&self, plain: &[u8], entries: u64) -> Result<(BlobId, bool)> {
        let id = self.shared.repository.keys().blob_id(BlobKind::Tree, plain);
        Ok((id, self.add_directory(id, plain, entries)?))
    }
}
