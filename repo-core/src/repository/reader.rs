//! Reading blobs: index, packs, and a cache of opened frames.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    blob::{BlobKind, BlobLocation, FrameLocation, ReadBlobs, ReadFrames},
    error::{Damage, Error, Result},
    id::{BlobId, PackId},
    index::set::IndexSet,
    pack::reader::{PackKey, open_pack_frame},
    repository::Repository,
    store::{ByteRange, ObjectName, Place},
};

/// Plain bytes of frames that are kept, unless asked for otherwise.
pub const CACHE_BYTES: usize = 16 << 20;

/// A repository with its index: finds and reads blobs.
pub struct BlobReader {
    repository: Arc<Repository>,
    index: Arc<IndexSet>,
    keys: HashMap<PackId, PackKey>,
    cache: Mutex<FrameCache>,
}

impl BlobReader {
    /// A reader that keeps at most `cache_bytes` of opened frames.
    #[must_use]
    pub fn new(repository: Arc<Repository>, index: Arc<IndexSet>, cache_bytes: usize) -> Self {
        let keys = index.all_packs().map(|pack| (pack.id, pack.key)).collect();
        Self { repository, index, keys, cache: Mutex::new(FrameCache::new(cache_bytes)) }
    }

    /// The index it reads by.
    #[must_use]
    pub const fn index(&self) -> &Arc<IndexSet> {
        &self.index
    }

    /// The repository it reads from.
    #[must_use]
    pub const fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// The plain bytes of a frame, from the cache or the store.
    fn frame(&self, kind: BlobKind, frame: &FrameLocation) -> Result<Arc<Vec<u8>>> {
        let key = (frame.pack, frame.ordinal);
        if let Some(plain) = self.lock().get(key) {
            return Ok(plain);
        }
        let mut stored = Vec::new();
        self.read_pack(&frame.pack, frame.offset_bytes.into(), frame.stored_bytes.into(), &mut stored)?;
        let mut plain = Vec::new();
        self.open_frame(kind, frame, &stored, &mut plain)?;
        let plain = Arc::new(plain);
        self.lock().insert(key, Arc::clone(&plain));
        Ok(plain)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FrameCache> {
        // A panic elsewhere leaves the cache consistent: its methods do not panic half-way.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_copy(&self, kind: BlobKind, id: &BlobId, location: &BlobLocation, into: &mut Vec<u8>) -> Result<()> {
        let frame = self.frame(kind, &location.frame)?;
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
        let mut failure = Error::MissingBlob { kind, id: *id };
        // Another copy may be whole where one is lost or damaged.
        for copy in self.index.copies(kind, id) {
            match self.read_copy(kind, id, &copy.location, into) {
                Err(error) if error.is_damage() || error.is_newer() => failure = error,
                result => return result,
            }
        }
        Err(failure)
    }

    fn locate(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        self.index.find(kind, id).map(|found| found.location)
    }
}

impl ReadFrames for BlobReader {
    fn read_pack(&self, pack: &PackId, offset_bytes: u64, length_bytes: u64, into: &mut Vec<u8>) -> Result<()> {
        let range = ByteRange::Exact { offset_bytes, length_bytes };
        Ok(self.repository.store().get(&ObjectName::new(Place::Data, *pack), range, into)?)
    }

    fn open_frame(&self, kind: BlobKind, frame: &FrameLocation, stored: &[u8], into: &mut Vec<u8>) -> Result<()> {
        let Some(key) = self.keys.get(&frame.pack) else {
            return Err(Error::Invalid(format!("pack {} is not in the index this reader was made with", frame.pack)));
        };
        open_pack_frame(self.repository.keys(), kind, key, frame, stored, into)
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
