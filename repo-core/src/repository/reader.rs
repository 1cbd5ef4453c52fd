//! Reading blobs: index, packs, and a cache of opened frames.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use crate::{
    blob::{BlobKind, BlobLocation, FrameLocation, ReadBlobs, ReadFrames},
    error::{Damage, Error, Result},
    id::{BlobId, PackId},
    index::{
        lookup::{Located, Lookup},
        set::IndexSet,
    },
    pack::reader::{PackKey, open_pack_frame},
    repository::{Repository, kept::KeptFrames},
    store::{ByteRange, ObjectName, Place},
};

/// Plain bytes of frames that are kept, unless asked for otherwise.
pub const CACHE_BYTES: usize = 16 << 20;

/// Looks at the listing of runs that brought nothing, after which there is at most one a second: where much is lost for good, looking
/// for each blob of it would take for ever.
const FRUITLESS_LOOKS_MAX: u32 = 16;

/// A repository with its index: finds and reads blobs.
///
/// When a blob is in no run, or its pack is not there, somebody may have moved it meanwhile (a prune, a merge of runs): it reads the
/// index again before it calls the blob lost.
pub struct BlobReader {
    repository: Arc<Repository>,
    index: Arc<IndexSet>,
    current: RwLock<Arc<Current>>,
    /// What opens the packs that were found in runs which are read page by page.
    learnt: RwLock<HashMap<PackId, PackKey>>,
    refreshed: Mutex<Refreshed>,
    cache: Mutex<FrameCache>,
    /// Frames of trees that are kept on this machine.
    kept: Option<KeptFrames>,
}

/// The index as it was read last, and what opens the packs it names.
struct Current {
    /// How often it has been read.
    generation: u64,
    index: Lookup,
    keys: HashMap<PackId, PackKey>,
}

/// When the index was read again.
#[derive(Default)]
struct Refreshed {
    /// How often in a row that brought nothing.
    fruitless: u32,
    /// The last time, in seconds of the clock.
    seconds: i64,
}

impl BlobReader {
    /// A reader that keeps at most `cache_bytes` of opened frames.
    #[must_use]
    pub fn new(repository: Arc<Repository>, index: Arc<IndexSet>, cache_bytes: usize) -> Self {
        Self::with_lookup(repository, index.into(), cache_bytes)
    }

    /// The same for a few blobs, with an index of which not all has been read.
    #[must_use]
    pub fn with_lookup(repository: Arc<Repository>, lookup: Lookup, cache_bytes: usize) -> Self {
        let index = Arc::clone(lookup.whole());
        let keys = index.all_packs().map(|pack| (pack.id, pack.key)).collect();
        let current = Current { generation: 0, index: lookup, keys };
        let kept =
            repository.cache().filter(|cache| cache.keeps_objects()).map(|cache| KeptFrames::new(Arc::clone(cache)));
        Self {
            repository,
            index,
            current: RwLock::new(Arc::new(current)),
            learnt: RwLock::default(),
            refreshed: Mutex::default(),
            cache: Mutex::new(FrameCache::new(cache_bytes)),
            kept,
        }
    }

    /// The same without a local cache: everything it reads is in the store.
    #[must_use]
    pub fn of_store_alone(self) -> Self {
        Self { kept: None, ..self }
    }

    /// The index it was made with, as far as it was read as a whole: all of it if it was made with [`Self::new`].
    #[must_use]
    pub const fn index(&self) -> &Arc<IndexSet> {
        &self.index
    }

    /// The repository it reads from.
    #[must_use]
    pub const fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The index of a later moment than `seen`, if it says anything else.
    fn refresh(&self, seen: &Current) -> Result<Option<Arc<Current>>> {
        // One at a time: whoever waited here finds what the other has read.
        let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        if current.generation != seen.generation {
            return Ok(Some(current));
        }
        let seconds = self.repository.runtime().now().seconds();
        if refreshed.fruitless >= FRUITLESS_LOOKS_MAX && refreshed.seconds == seconds {
            return Ok(None);
        }
        let index = current.index.refresh(&self.repository.origin())?;
        let fruitless = if index.is_some() { 0 } else { refreshed.fruitless.saturating_add(1) };
        *refreshed = Refreshed { fruitless, seconds };
        let Some(index) = index else { return Ok(None) };
        // Frames that were looked up before are still opened, where their packs are still there.
        let mut keys = current.keys.clone();
        keys.extend(index.whole().all_packs().map(|pack| (pack.id, pack.key)));
        let fresh = Arc::new(Current { generation: current.generation + 1, index, keys });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Ok(Some(fresh))
    }

    /// The plain bytes of the frame that a blob is in: from memory, the local cache or the store.
    fn frame(&self, index: &Lookup, kind: BlobKind, found: &Located) -> Result<Arc<Vec<u8>>> {
        let frame = &found.location.frame;
        let key = (frame.pack, frame.ordinal);
        if let Some(plain) = self.lock().get(key) {
            return Ok(plain);
        }
        let mut plain = Vec::new();
        if let (Some(kept), BlobKind::Tree) = (&self.kept, kind) {
            self.kept_frame(kept, index, found, &mut plain)?;
        } else {
            let mut stored = Vec::new();
            self.read_pack(&frame.pack, frame.offset_bytes.into(), frame.stored_bytes.into(), &mut stored)?;
            self.open_frame(kind, frame, &stored, &mut plain)?;
        }
        let plain = Arc::new(plain);
        self.lock().insert(key, Arc::clone(&plain));
        Ok(plain)
    }

    /// Opens a frame of a tree pack from the local cache. If it is not there, or is not what it should be, fetches it, and perhaps those
    /// beside it with it.
    fn kept_frame(&self, kept: &KeptFrames, index: &Lookup, found: &Located, plain: &mut Vec<u8>) -> Result<()> {
        let frame = &found.location.frame;
        if let Some(stored) = kept.get(frame) {
            if self.open_frame(BlobKind::Tree, frame, &stored, plain).is_ok() {
                return Ok(());
            }
            kept.discard(frame);
        }
        let frames = kept.to_fetch(index, found);
        let first = frames.first().map_or(frame.offset_bytes, |first| first.offset_bytes);
        let end = frames.last().unwrap_or(frame);
        let length_bytes = u64::from(end.offset_bytes) + u64::from(end.stored_bytes) - u64::from(first);
        let mut stored = Vec::new();
        self.read_pack(&frame.pack, first.into(), length_bytes, &mut stored)?;
        let part_of = |frame: &FrameLocation| {
            let from = (frame.offset_bytes - first) as usize;
            stored.get(from..from + frame.stored_bytes as usize).unwrap_or_default()
        };
        self.open_frame(BlobKind::Tree, frame, part_of(frame), plain)?;
        for frame in &frames {
            kept.keep(frame, part_of(frame));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, FrameCache> {
        // A panic elsewhere leaves the cache consistent: its methods do not panic half-way.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All copies of a blob, by one state of the index.
    fn copies<'a>(
        &'a self,
        index: &'a Lookup,
        kind: BlobKind,
        id: &BlobId,
    ) -> impl Iterator<Item = Result<Located>> + use<'a> {
        let learn = |located: &Located| {
            if !index.paged().is_empty() {
                let mut learnt = self.learnt.write().unwrap_or_else(PoisonError::into_inner);
                learnt.insert(located.pack.id, located.pack.key);
            }
        };
        index.copies(self.repository.origin(), kind, id).map(move |located| located.inspect(learn))
    }

    /// Reads a blob as one state of the index has it. Another copy may be whole where one is lost or damaged.
    fn read_by(&self, index: &Lookup, kind: BlobKind, id: &BlobId, into: &mut Vec<u8>) -> Result<()> {
        let mut failure = Error::MissingBlob { kind, id: *id };
        for copy in self.copies(index, kind, id) {
            match copy.and_then(|copy| self.read_copy(index, kind, id, &copy, into)) {
                Err(error) if error.is_damage() || error.is_newer() => failure = error,
                result => return result,
            }
        }
        Err(failure)
    }

    fn read_copy(
        &self,
        index: &Lookup,
        kind: BlobKind,
        id: &BlobId,
        found: &Located,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        let location = &found.location;
        let frame = self.frame(index, kind, found)?;
        let from = location.offset_bytes as usize;
        let blob = frame.get(from..from + location.length_bytes as usize).unwrap_or_default();
        if self.blob_id(kind, blob) != *id {
            let name = ObjectName::new(Place::Data, location.frame.pack);
            let reason = format!("the index says that {kind} blob {id} is in it, but that is another blob");
            return Err(Damage::new(name, reason).into());
        }
        into.clear();
        into.extend_from_slice(blob);
        Ok(())
    }
}

impl ReadBlobs for BlobReader {
    fn read_blob(&self, kind: BlobKind, id: &BlobId, into: &mut Vec<u8>) -> Result<()> {
        let mut current = self.current();
        loop {
            let failure = match self.read_by(&current.index, kind, id, into) {
                Err(error) if error.is_damage() || error.is_newer() => error,
                result => return result,
            };
            // Each turn sees what somebody has changed since the one before.
            match self.refresh(&current)? {
                Some(fresh) => current = fresh,
                None => return Err(failure),
            }
        }
    }

    fn locate(&self, kind: BlobKind, id: &BlobId) -> Result<Option<BlobLocation>> {
        let mut current = self.current();
        loop {
            let mut failure = None;
            for copy in self.copies(&current.index, kind, id) {
                match copy {
                    Ok(found) => return Ok(Some(found.location)),
                    Err(error) if error.is_damage() || error.is_newer() => failure = Some(error),
                    Err(error) => return Err(error),
                }
            }
            match (self.refresh(&current)?, failure) {
                (Some(fresh), _) => current = fresh,
                (None, Some(failure)) => return Err(failure),
                (None, None) => return Ok(None),
            }
        }
    }
}

impl ReadFrames for BlobReader {
    fn read_pack(&self, pack: &PackId, offset_bytes: u64, length_bytes: u64, into: &mut Vec<u8>) -> Result<()> {
        let range = ByteRange::Exact { offset_bytes, length_bytes };
        Ok(self.repository.store().get(&ObjectName::new(Place::Data, *pack), range, into)?)
    }

    fn open_frame(&self, kind: BlobKind, frame: &FrameLocation, stored: &[u8], into: &mut Vec<u8>) -> Result<()> {
        let current = self.current();
        let learnt = || self.learnt.read().unwrap_or_else(PoisonError::into_inner).get(&frame.pack).copied();
        let Some(key) = current.keys.get(&frame.pack).copied().or_else(learnt) else {
            return Err(Error::Invalid(format!("pack {} is not in the index this reader was made with", frame.pack)));
        };
        open_pack_frame(self.repository.keys(), kind, &key, frame, stored, into)
    }

    fn blob_id(&self, kind: BlobKind, plain: &[u8]) -> BlobId {
        self.repository.keys().blob_id(kind, plain)
    }
}

/// When a frame was used last, and its plain bytes.
type CachedFrame = (u64, Arc<Vec<u8>>);

/// Frames used last, bounded in bytes.
struct FrameCache {
    frames: HashMap<(PackId, u32), CachedFrame>,
    bytes: usize,
    bytes_max: usize,
    clock: u64,
}

impl FrameCache {
    fn new(bytes_max: usize) -> Self {
        Self { frames: HashMap::new(), bytes: 0, bytes_max, clock: 0 }
    }

    fn get(&mut self, key: (PackId, u32)) -> Option<Arc<Vec<u8>>> {
        self.clock += 1;
        let (used, plain) = self.frames.get_mut(&key)?;
        *used = self.clock;
        Some(Arc::clone(plain))
    }

    fn insert(&mut self, key: (PackId, u32), plain: Arc<Vec<u8>>) {
        self.clock += 1;
        self.bytes += plain.len();
        if let Some((_, old)) = self.frames.insert(key, (self.clock, plain)) {
            self.bytes -= old.len();
        }
        // Frames are large, so there are few: looking at all of them for the oldest costs less than opening one.
        while self.bytes > self.bytes_max && self.frames.len() > 1 {
            let oldest = self.frames.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            let Some((_, plain)) = oldest.and_then(|key| self.frames.remove(&key)) else { break };
            self.bytes -= plain.len();
        }
    }
}
