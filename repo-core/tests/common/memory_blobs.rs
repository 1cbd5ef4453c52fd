//! A repository in memory: blobs in frames in packs, as they would lie in a store, but neither packed nor sealed.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use repo_core::{
    blob::{BlobKind, BlobLocation, Compression, FrameLocation, ReadBlobs, ReadFrames, WriteBlobs},
    error::{Damage, Error, Result, StoreError, StoreErrorKind},
    id::{BlobId, PackId},
};

/// Blobs in frames in packs, and counters of what is asked of them.
pub struct MemoryBlobs {
    frame_bytes: usize,
    frames_per_pack: usize,
    state: Mutex<State>,
    /// Requests for parts of packs.
    pub reads: AtomicU64,
    /// Frames opened.
    pub opened: AtomicU64,
}

#[derive(Default)]
struct State {
    packs: Vec<(PackId, Vec<u8>)>,
    index: HashMap<(BlobKind, BlobId), BlobLocation>,
    /// Per kind: the pack that is being filled and its open frame.
    open: HashMap<BlobKind, Open>,
    broken: HashSet<(PackId, u32)>,
    lost: HashSet<PackId>,
    unreachable: bool,
}

#[derive(Default, Clone)]
struct Open {
    pack: Option<usize>,
    frames: Vec<Vec<(BlobId, Vec<u8>)>>,
}

impl MemoryBlobs {
    /// Frames of about `frame_bytes`, so many to a pack.
    pub fn new(frame_bytes: usize, frames_per_pack: usize) -> Self {
        let (reads, opened) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { frame_bytes, frames_per_pack, state: Mutex::default(), reads, opened }
    }

    /// Closes what is open; must be called before anything is read.
    pub fn finish(&self) {
        let mut state = self.state.lock().unwrap();
        for kind in BlobKind::ALL {
            flush(&mut state, kind);
        }
    }

    /// All data blobs and where they are.
    pub fn data_blobs(&self) -> Vec<(BlobId, BlobLocation)> {
        let state = self.state.lock().unwrap();
        state.index.iter().filter(|((kind, _), _)| *kind == BlobKind::Data).map(|((_, id), at)| (*id, *at)).collect()
    }

    /// All tree blobs.
    pub fn tree_blobs(&self) -> Vec<BlobId> {
        let state = self.state.lock().unwrap();
        state.index.keys().filter(|(kind, _)| *kind == BlobKind::Tree).map(|(_, id)| *id).collect()
    }

    /// Takes a blob out of the index; give the result to [`Self::put_back`].
    pub fn forget(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        self.state.lock().unwrap().index.remove(&(kind, *id))
    }

    /// Lets a blob be found, wherever that is.
    pub fn put_back(&self, kind: BlobKind, id: &BlobId, location: BlobLocation) {
        self.state.lock().unwrap().index.insert((kind, *id), location);
    }

    /// Makes a frame fail to open, or mends it.
    pub fn break_frame(&self, frame: &FrameLocation, broken: bool) {
        let mut state = self.state.lock().unwrap();
        let key = (frame.pack, frame.ordinal);
        if broken {
            state.broken.insert(key)
        } else {
            state.broken.remove(&key)
        };
    }

    /// Takes a pack away, or brings it back.
    pub fn lose_pack(&self, pack: &PackId, lost: bool) {
        let mut state = self.state.lock().unwrap();
        if lost {
            state.lost.insert(*pack)
        } else {
            state.lost.remove(pack)
        };
    }

    /// Makes every request fail as if the network were gone.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.state.lock().unwrap().unreachable = unreachable;
    }

    /// Changes a stored byte of a blob, so that its frame opens, but not to what the index says.
    pub fn flip(&self, at: &BlobLocation) {
        let mut state = self.state.lock().unwrap();
        let (_, bytes) = state.packs.iter_mut().find(|(id, _)| *id == at.frame.pack).unwrap();
        bytes[(at.frame.offset_bytes + at.offset_bytes) as usize] ^= 1;
    }
}

fn key(kind: BlobKind) -> [u8; 32] {
    [if kind == BlobKind::Data { 1 } else { 2 }; 32]
}

fn id_of(kind: BlobKind, plain: &[u8]) -> BlobId {
    BlobId(*blake3::keyed_hash(&key(kind), plain).as_bytes())
}

/// Closes the pack that is open for a kind.
fn flush(state: &mut State, kind: BlobKind) {
    let open = state.open.remove(&kind).unwrap_or_default();
    let mut bytes = vec![0xee; 24];
    let pack = PackId(*blake3::hash(&(state.packs.len() as u64).to_le_bytes()).as_bytes());
    for (ordinal, blobs) in (0..).zip(open.frames) {
        let length: usize = blobs.iter().map(|(_, plain)| plain.len()).sum();
        let frame = FrameLocation {
            pack,
            ordinal,
            offset_bytes: bytes.len().try_into().unwrap(),
            stored_bytes: length.try_into().unwrap(),
            plain_bytes: length.try_into().unwrap(),
            compression: Compression::Raw,
        };
        let mut at = 0;
        for (id, plain) in blobs {
            let length_bytes = plain.len().try_into().unwrap();
            state.index.insert((kind, id), BlobLocation { frame, offset_bytes: at, length_bytes });
            at += length_bytes;
            bytes.extend_from_slice(&plain);
        }
    }
    state.packs.push((pack, bytes));
}

impl WriteBlobs for MemoryBlobs {
    fn write_blob(&self, kind: BlobKind, plain: &[u8]) -> Result<(BlobId, bool)> {
        let id = id_of(kind, plain);
        let mut state = self.state.lock().unwrap();
        let is_open = |open: &Open| open.frames.iter().flatten().any(|(there, _)| *there == id);
        if state.index.contains_key(&(kind, id)) || state.open.get(&kind).is_some_and(is_open) {
            return Ok((id, false));
        }
        let open = state.open.entry(kind).or_default();
        let full = |frame: &Vec<(BlobId, Vec<u8>)>| {
            frame.iter().map(|(_, plain)| plain.len()).sum::<usize>() >= self.frame_bytes
        };
        if open.frames.last().is_none_or(full) {
            if open.frames.len() == self.frames_per_pack {
                flush(&mut state, kind);
            }
            state.open.entry(kind).or_default().frames.push(Vec::new());
        }
        let open = state.open.get_mut(&kind).unwrap();
        open.frames.last_mut().unwrap().push((id, plain.to_vec()));
        Ok((id, true))
    }
}

impl ReadBlobs for MemoryBlobs {
    fn read_blob(&self, kind: BlobKind, id: &BlobId, into: &mut Vec<u8>) -> Result<()> {
        let at = self.locate(kind, id)?.ok_or(Error::MissingBlob { kind, id: *id })?;
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        let frame = &at.frame;
        self.read_pack(&frame.pack, frame.offset_bytes.into(), frame.stored_bytes.into(), &mut stored)?;
        self.open_frame(kind, frame, &stored, &mut plain)?;
        let from = at.offset_bytes as usize;
        into.clear();
        into.extend_from_slice(plain.get(from..).and_then(|p| p.get(..at.length_bytes as usize)).unwrap_or_default());
        if id_of(kind, into) == *id { Ok(()) } else { Err(Damage::new(format!("blob {id}"), "not that blob").into()) }
    }

    fn locate(&self, kind: BlobKind, id: &BlobId) -> Result<Option<BlobLocation>> {
        Ok(self.state.lock().unwrap().index.get(&(kind, *id)).copied())
    }
}

impl ReadFrames for MemoryBlobs {
    fn read_pack(&self, pack: &PackId, offset_bytes: u64, length_bytes: u64, into: &mut Vec<u8>) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let failure = |kind| StoreError {
            kind,
            operation: "read",
            object: format!("data/{pack}"),
            location: "memory".into(),
            source: "made to fail".into(),
        };
        let state = self.state.lock().unwrap();
        if state.unreachable {
            return Err(failure(StoreErrorKind::Retry).into());
        }
        if state.lost.contains(pack) {
            return Err(failure(StoreErrorKind::NotFound).into());
        }
        let (_, bytes) = state.packs.iter().find(|(id, _)| id == pack).ok_or(failure(StoreErrorKind::NotFound))?;
        let from = usize::try_from(offset_bytes).unwrap();
        let part = bytes.get(from..from + usize::try_from(length_bytes).unwrap());
        into.clear();
        into.extend_from_slice(part.ok_or(failure(StoreErrorKind::Damage))?);
        Ok(())
    }

    fn open_frame(&self, kind: BlobKind, frame: &FrameLocation, stored: &[u8], into: &mut Vec<u8>) -> Result<()> {
        if kind == BlobKind::Data {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(stored.len(), frame.stored_bytes as usize);
        if self.state.lock().unwrap().broken.contains(&(frame.pack, frame.ordinal)) {
            let object = format!("data/{} frame {}", frame.pack, frame.ordinal);
            return Err(Damage::new(object, "does not open").into());
        }
        into.clear();
        into.extend_from_slice(stored);
        Ok(())
    }

    fn blob_id(&self, kind: BlobKind, plain: &[u8]) -> BlobId {
        id_of(kind, plain)
    }
}
