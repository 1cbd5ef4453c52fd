//! A writer's session: stores each new blob once, in frames and packs, and keeps book of what the snapshot will need.
//!
//! `open → write → commit(self)`; a session that is dropped commits nothing, and what it stored is found and used by the next.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    blob::{BlobKind, WriteBlobs},
    compress::Level,
    crypto::keys::ObjectKind,
    error::{Error, Result},
    id::{BlobId, NoteId, PackId},
    index::{
        builder::IndexBuilder,
        cached,
        set::{IndexSet, Run},
        table::PackRow,
    },
    limits,
    pack::builder::{FinishedPack, PackBuilder},
    repository::{
        Repository,
        frames::{Frame, FrameWriter},
        new_blobs::NewBlobs,
        notes::Session as SessionNote,
        objects::put_hashed,
        upload::Uploader,
    },
    store::{ObjectName, Place},
};

/// Blobs after which the first index run is put while the session goes on, so that a killed run's work is found again and memory is
/// bounded.
const INDEX_RUN_BLOBS: usize = 1 << 18;
/// No later run of a session has many more, whatever the session has put before.
const INDEX_RUN_BLOBS_MAX: usize = limits::INDEX_ENTRIES_MAX / 2;

/// Blobs after which the next index run is put, when so many are in runs of this session already: an eighth of those. Every lookup
/// looks into every run. Runs of equal size would become hundreds in a long session, and nobody merges them before another session
/// has half as many new blobs as one of them.
fn next_run_blobs(indexed: usize) -> usize {
    (indexed / 8).clamp(INDEX_RUN_BLOBS, INDEX_RUN_BLOBS_MAX)
}

/// How a session writes.
pub struct SessionOptions {
    /// How hard to compress.
    pub level: Level,
    /// Do everything but store anything.
    pub dry_run: bool,
    /// Who works here; `None` leaves no note.
    pub note: Option<SessionNote>,
}

/// What a session stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// New data blobs.
    pub data_blobs: u64,
    /// Their plain bytes.
    pub data_bytes: u64,
    /// What they take in packs.
    pub data_packed_bytes: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Their plain bytes.
    pub tree_bytes: u64,
    /// What they take in packs.
    pub tree_packed_bytes: u64,
}

/// A writer's session.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) uploader: Uploader,
    /// Where blobs of kind tree are gathered; those of kind data have a [`FrameWriter`] per thread.
    tree: Mutex<Frame>,
    note: Option<NoteId>,
}

/// What the session's threads share.
pub(super) struct Shared {
    pub(super) repository: Arc<Repository>,
    pub(super) index: Arc<IndexSet>,
    pub(super) level: Level,
    pub(super) dry_run: bool,
    /// Blobs that are new in this session, whether their pack is stored yet or not.
    new_blobs: Mutex<NewBlobs>,
    /// One bit for each pack of the index: whether something in it is needed.
    used: Vec<AtomicU64>,
    /// Packs that a pruner has condemned or removed: what lies in them does not count.
    distrusted: RwLock<BTreeSet<PackId>>,
    /// The pack being filled, for each kind.
    pub(super) packs: [Mutex<Option<PackBuilder>>; 2],
    stored: Mutex<Stored>,
    /// Held by whoever puts an index run of this session, from choosing what it names until it is stored.
    indexing: Mutex<()>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    pub(super) counts: Counts,
}

/// Packs that are durable.
#[derive(Default)]
struct Stored {
    /// With their sizes.
    packs: BTreeMap<PackId, u64>,
    /// Index runs, with their sizes.
    runs: Vec<(ObjectName, u64)>,
    /// Blobs in the runs that were put while the session went on.
    indexed: usize,
    /// Packs that no index run names yet, but for the interim one.
    unindexed: IndexBuilder,
    /// A run for the first so many of these packs, to be deleted once another run names them, too.
    interim: Option<(ObjectName, usize)>,
    /// A run could not be deleted, nor will the next.
    runs_stay: bool,
}

impl Stored {
    fn has_full_run(&self) -> bool {
        self.unindexed.blobs() >= next_run_blobs(self.indexed)
    }
}

#[derive(Default)]
pub(super) struct Counts {
    blobs: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    packed_bytes: [AtomicU64; 2],
}

impl Counts {
    /// Counts the blobs of a frame.
    pub(super) fn add(&self, kind: BlobKind, blobs: usize, plain_bytes: usize, packed_bytes: usize) {
        for (numbers, more) in [(&self.blobs, blobs), (&self.bytes, plain_bytes), (&self.packed_bytes, packed_bytes)] {
            if let Some(number) = numbers.get(slot(kind)) {
                number.fetch_add(more as u64, Ordering::Relaxed);
            }
        }
    }
}

pub(super) const fn slot(kind: BlobKind) -> usize {
    match kind {
        BlobKind::Data => 0,
        BlobKind::Tree => 1,
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a worker ends the session without a commit; what the lock guards is not used for anything durable then.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Opens a session that finds known blobs by `index`.
    ///
    /// # Errors
    /// When its note cannot be stored.
    pub fn open(repository: Arc<Repository>, index: Arc<IndexSet>, options: SessionOptions) -> Result<Self> {
        repository.check_writable()?;
        let note = match &options.note {
            Some(note) if !options.dry_run => Some(repository.save(Place::Locks, ObjectKind::Session, note)?.into()),
            _ => None,
        };
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
            repository,
            index,
        });
        let uploader = Uploader::start(&shared);
        let tree = Mutex::new(Frame::new(&shared, BlobKind::Tree));
        Ok(Self { shared, uploader, tree, note })
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
        !self.shared.find_known(kind, id) && lock(&self.shared.new_blobs).insert(id)
    }

    /// Says that a blob of an earlier snapshot is needed again; whether it is there.
    #[must_use]
    pub fn need(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.shared.find_known(kind, id) || lock(&self.shared.new_blobs).contains(id)
    }

    /// A place to gather new blobs in; each thread has its own.
    #[must_use]
    pub fn frame_writer(&self, kind: BlobKind) -> FrameWriter<'_> {
        FrameWriter::new(self, kind)
    }

    /// What was stored so far. Complete once everything was flushed.
    #[must_use]
    pub fn added(&self) -> Added {
        let counts = &self.shared.counts;
        let get = |numbers: &[AtomicU64; 2], kind| numbers.get(slot(kind)).map_or(0, |n| n.load(Ordering::Relaxed));
        Added {
            data_blobs: get(&counts.blobs, BlobKind::Data),
            data_bytes: get(&counts.bytes, BlobKind::Data),
            data_packed_bytes: get(&counts.packed_bytes, BlobKind::Data),
            tree_blobs: get(&counts.blobs, BlobKind::Tree),
            tree_bytes: get(&counts.bytes, BlobKind::Tree),
            tree_packed_bytes: get(&counts.packed_bytes, BlobKind::Tree),
        }
    }

    /// W2: stores everything that was written; returns when it is durable. Frame writers must have been flushed by their owners.
    ///
    /// # Errors
    /// The first failure of the session.
    pub fn flush(&self) -> Result<()> {
        let mut tree = lock(&self.tree);
        self.store_frame(&mut tree)?;
        drop(tree);
        for pack in &self.shared.packs {
            if let Some(pack) = lock(pack).take() {
                self.uploader.put(pack)?;
            }
        }
        self.uploader.wait();
        self.shared.check()
    }

    /// W3: puts an index run for all packs that no run names yet, merging small runs into it where that keeps their number low.
    /// Returns the runs that are superseded by it.
    pub(crate) fn put_index(&self, merge: bool) -> Result<Vec<ObjectName>> {
        let _indexing = lock(&self.shared.indexing);
        let mut builder = {
            let mut stored = lock(&self.shared.stored);
            let named = stored.interim.map_or(0, |(_, packs)| packs);
            if stored.unindexed.is_empty() || (!merge && named == stored.unindexed.packs()) {
                return Ok(Vec::new());
            }
            std::mem::take(&mut stored.unindexed)
        };
        let mut superseded = Vec::new();
        if merge {
            let (mut runs, repeated) = self.runs_to_merge()?;
            runs.sort_by_key(|run| run.size_bytes);
            for run in runs {
                let counts = run.table.counts();
                let blobs = counts.data as usize + counts.tree as usize;
                if blobs > 2 * builder.blobs() || blobs + builder.blobs() > limits::INDEX_ENTRIES_MAX {
                    break;
                }
                builder.add_table(&run.table);
                superseded.push(ObjectName::new(Place::Index, run.id));
            }
            let is_in_ours = |run: &&Run| packs_of(run).all(|pack| builder.names(&pack.id));
            superseded.extend(repeated.into_iter().filter(is_in_ours).map(|run| ObjectName::new(Place::Index, run.id)));
        }
        self.shared.put_run(builder)?;
        self.shared.supersede_interim(None);
        Ok(superseded)
    }

    /// Puts an index run for all packs that no run names yet, while the session goes on. The next run names them again and supersedes
    /// this one, so that frequent calls do not leave many small runs.
    pub(crate) fn put_interim_index(&self) -> Result<()> {
        let _indexing = lock(&self.shared.indexing);
        let (builder, interim) = {
            let mut stored = lock(&self.shared.stored);
            let (packs, blobs) = (stored.unindexed.packs(), stored.unindexed.blobs());
            if stored.interim.map_or(0, |(_, packs)| packs) == packs {
                return Ok(());
            }
            // Where an object takes a while to be seen, the one it supersedes would have to stay so long.
            let may_go = !stored.runs_stay && self.repository().store().abilities().visibility_delay_ms == 0;
            if blobs < INDEX_RUN_BLOBS && may_go {
                (stored.unindexed.clone(), Some(packs))
            } else {
                stored.indexed += blobs;
                (std::mem::take(&mut stored.unindexed), None)
            }
        };
        let run = self.shared.put_run(builder).map_err(|error| self.shared.fail(error))?;
        self.shared.supersede_interim(interim.map(|packs| (run, packs)));
        Ok(())
    }

    /// The runs of the index that are still there: those that name something no larger one names, and the others.
    ///
    /// One that is gone was merged or cleaned by somebody else; to merge it would name again what a prune has deleted meanwhile. One
    /// whose packs larger ones name too has been merged before, in a store where it could not be deleted; to merge it again and
    /// again would make the index grow with the square of the number of backups. It is not ours to delete for the larger one, though: whoever
    /// put it may be about to delete that. A run is deleted only by who has put another one that says the same.
    fn runs_to_merge(&self) -> Result<(Vec<&Run>, Vec<&Run>)> {
        let mut present = BTreeSet::new();
        self.repository().store().list(Place::Index, &mut |info| _ = present.insert(info.name))?;
        let mut runs: Vec<_> = self.shared.index.runs().iter().collect();
        runs.retain(|run| present.contains(&ObjectName::new(Place::Index, run.id)));
        runs.sort_by_key(|run| (Reverse(run.table.counts().packs), run.id));
        let mut named = HashSet::new();
        // All packs are taken in, not only the first new one.
        Ok(runs.into_iter().partition(|run| packs_of(run).filter(|pack| named.insert(pack.id)).count() > 0))
    }

    /// Stored sizes of packs this session knows.
    pub(super) fn pack_sizes(&self) -> HashMap<PackId, u64> {
        let mut sizes: HashMap<_, _> =
            self.shared.index.all_packs().map(|pack| (pack.id, pack.size_bytes.into())).collect();
        sizes.extend(&lock(&self.shared.stored).packs);
        sizes
    }

    /// Makes sure that an index run names every pack this session has stored, before a snapshot relies on it. Usually that is seen
    /// by the runs it put; one of them may have been merged by somebody else already.
    pub(super) fn check_index(&self) -> Result<()> {
        let repository = self.repository();
        let runs = lock(&self.shared.stored).runs.clone();
        let mut failure = None;
        for (name, size_bytes) in &runs {
            match repository.check_stored(name, *size_bytes) {
                Err(error) if error.is_damage() || error.is_newer() => failure = Some(error),
                result => result?,
            }
        }
        let Some(failure) = failure else { return Ok(()) };
        let index = repository.load_index(Some(&mut Vec::new()))?;
        let named: HashSet<_> = index.all_packs().map(|pack| pack.id).collect();
        // What was condemned since is not relied on any more, and may be out of the index already.
        let relied_on = self.stored_packs().into_iter().filter(|pack| self.has_stored(pack));
        if relied_on.into_iter().all(|pack| named.contains(&pack)) { Ok(()) } else { Err(failure) }
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

    /// The note that says who works here.
    #[must_use]
    pub const fn note(&self) -> Option<NoteId> {
        self.note
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
    pub fn close(mut self) -> Result<()> {
        self.uploader.wait();
        self.put_index(false)?;
        self.remove_note()
    }

    pub(super) fn remove_note(&mut self) -> Result<()> {
        match self.note.take() {
            Some(note) => Ok(self.repository().store().delete(&ObjectName::new(Place::Locks, note))?),
            None => Ok(()),
        }
    }
}

fn packs_of(run: &Run) -> impl Iterator<Item = PackRow> {
    (0..run.table.counts().packs).filter_map(|number| run.table.pack(number))
}

impl Shared {
    pub(super) fn pack_bytes(&self) -> usize {
        self.repository.config().parameters.pack_bytes as usize
    }

    /// Whether the index knows a trusted copy of the blob; its pack is then needed.
    fn find_known(&self, kind: BlobKind, id: &BlobId) -> bool {
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

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Finishes and stores a pack, and takes it into the book of stored ones. Returns its buffer for re-use.
    pub(super) fn put_pack(&self, pack: PackBuilder) -> Result<Vec<u8>> {
        let FinishedPack { id, kind, key, bytes, directory } = pack.finish()?;
        put_hashed(self.repository.store(), &ObjectName::new(Place::Data, id), &bytes)?;
        if let (Some(cache), BlobKind::Tree) = (self.repository.cache(), kind) {
            // The next backup compares with what is in here.
            for (frame, _) in directory.locations(id) {
                let from = frame.offset_bytes as usize;
                let stored = bytes.get(from..from + frame.stored_bytes as usize).unwrap_or_default();
                cache.keep_frame(&id, frame.ordinal, stored);
            }
        }
        let is_full = {
            let mut stored = lock(&self.stored);
            stored.packs.insert(id, bytes.len() as u64);
            stored.unindexed.add_pack(id, key, u32::try_from(bytes.len()).unwrap_or(u32::MAX), kind, &directory);
            stored.has_full_run()
        };
        if is_full {
            self.put_full_run()?;
        }
        Ok(bytes)
    }

    /// Puts a run when enough has come together for one.
    fn put_full_run(&self) -> Result<()> {
        let _indexing = lock(&self.indexing);
        let builder = {
            let mut stored = lock(&self.stored);
            if !stored.has_full_run() {
                return Ok(());
            }
            stored.indexed += stored.unindexed.blobs();
            std::mem::take(&mut stored.unindexed)
        };
        self.put_run(builder)?;
        self.supersede_interim(None);
        Ok(())
    }

    /// Deletes the interim run, whose packs another one names now, and remembers that as the next interim one if it is that.
    fn supersede_interim(&self, next: Option<(ObjectName, usize)>) {
        let mut stored = lock(&self.stored);
        let Some((old, _)) = std::mem::replace(&mut stored.interim, next) else { return };
        stored.runs.retain(|(name, _)| *name != old);
        drop(stored);
        // One that stays says twice what is so.
        if self.repository.store().delete(&old).is_err() {
            lock(&self.stored).runs_stay = true;
        }
    }

    fn put_run(&self, builder: IndexBuilder) -> Result<ObjectName> {
        let run = builder.finish(self.repository.keys(), self.repository.runtime())?;
        let name = ObjectName::new(Place::Index, run.id);
        put_hashed(self.repository.store(), &name, &run.bytes)?;
        if let Some(cache) = self.repository.cache().filter(|cache| cache.keeps_objects()) {
            cached::keep(cache, self.repository.keys(), &run);
        }
        lock(&self.stored).runs.push((name, run.bytes.len() as u64));
        Ok(name)
    }
}

impl WriteBlobs for Session {
    fn write_blob(&self, kind: BlobKind, plain: &[u8]) -> Result<(BlobId, bool)> {
        let id = self.shared.repository.keys().blob_id(kind, plain);
        match kind {
            BlobKind::Tree => {
                // Locked before it is claimed: whoever finds it claimed and then flushes has stored it.
                let mut frame = lock(&self.tree);
                if !self.claim(kind, &id) {
                    return Ok((id, false));
                }
                frame.add(id, plain);
                if frame.is_full() {
                    self.store_frame(&mut frame)?;
                }
            }
            BlobKind::Data => {
                if !self.claim(kind, &id) {
                    return Ok((id, false));
                }
                let mut writer = self.frame_writer(kind);
                writer.add(id, plain)?;
                writer.flush()?;
            }
        }
        Ok((id, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions of ten million, a hundred million and a billion blobs, the last one of 70 TB.
    #[test]
    fn a_long_session_leaves_few_runs() {
        for (blobs, runs_max) in [(10_000_000, 24), (100_000_000, 42), (1_000_000_000, 100)] {
            let (mut indexed, mut runs) = (0, 0);
            while indexed < blobs {
                let next = next_run_blobs(indexed);
                assert!(next <= INDEX_RUN_BLOBS.max(indexed / 8) && next < limits::INDEX_ENTRIES_MAX);
                indexed += next;
                runs += 1;
            }
            assert!(runs <= runs_max, "{runs} runs of {blobs} blobs");
        }
    }
}
