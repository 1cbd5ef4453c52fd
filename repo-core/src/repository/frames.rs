//! Gathering new blobs into frames, and frames into packs.

use crate::{
    blob::{BlobKind, Compression},
    compress::{Compressor, decompress},
    error::{Damage, Result},
    id::BlobId,
    limits,
    pack::{
        builder::{PackBuilder, PackedFrame},
        directory::PackBlob,
    },
    repository::{
        added::slot,
        session::Session,
        shared::{Shared, lock},
    },
};

/// Gathers new blobs of one thread into frames.
pub struct FrameWriter<'a> {
    session: &'a Session,
    frame: Frame,
}

impl<'a> FrameWriter<'a> {
    pub(super) fn new(session: &'a Session, kind: BlobKind) -> Self {
        Self { session, frame: Frame::new(&session.shared, kind) }
    }

    /// Adds a blob that [`Session::claim`] said is new.
    ///
    /// # Errors
    /// When the session has failed.
    pub fn add(&mut self, id: BlobId, plain: &[u8]) -> Result<()> {
        self.frame.add(id, plain);
        if self.frame.is_full() { self.flush() } else { Ok(()) }
    }

    /// Takes what the other one has gathered and gives it what this one has, so that a third party can store it while the other's owner
    /// goes on.
    pub fn swap(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.frame, &mut other.frame);
    }

    /// Stores what was gathered.
    ///
    /// # Errors
    /// When the session has failed.
    pub fn flush(&mut self) -> Result<()> {
        self.session.store_frame(&mut self.frame)
    }
}

/// Blobs being gathered for one frame.
pub(super) struct Frame {
    kind: BlobKind,
    plain: Vec<u8>,
    blobs: Vec<PackBlob>,
    full_bytes: usize,
    compressor: Compressor,
    packed: Vec<u8>,
    scratch: Vec<u8>,
}

impl Frame {
    pub(super) fn new(shared: &Shared, kind: BlobKind) -> Self {
        let parameters = &shared.repository.config().parameters;
        let full_bytes = match kind {
            BlobKind::Data => parameters.data_frame_bytes,
            BlobKind::Tree => parameters.tree_frame_bytes,
        };
        Self {
            kind,
            plain: Vec::new(),
            blobs: Vec::new(),
            full_bytes: full_bytes as usize,
            compressor: Compressor::new(shared.level),
            packed: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, id: BlobId, plain: &[u8]) {
        debug_assert!(plain.len() <= limits::BLOB_BYTES_MAX, "the chunker and the pages keep blobs small");
        self.plain.extend_from_slice(plain);
        self.blobs.push(PackBlob { id, length_bytes: u32::try_from(plain.len()).unwrap_or(u32::MAX) });
    }

    pub(super) fn is_full(&self) -> bool {
        self.plain.len() >= self.full_bytes
    }

    /// Packs the blobs and empties the frame; nothing if it has none.
    pub(super) fn pack(&mut self) -> Result<Option<PackedFrame<'_>>> {
        if self.blobs.is_empty() {
            return Ok(None);
        }
        let compression = self.compress();
        let blobs = std::mem::take(&mut self.blobs);
        let plain_bytes = u32::try_from(self.plain.len()).unwrap_or(u32::MAX);
        self.plain.clear();
        Ok(Some(PackedFrame { packed: &self.packed, compression: compression?, plain_bytes, blobs }))
    }

    /// Compresses the bytes, and decompresses and compares them: compressors have had bugs, and memory has faults.
    fn compress(&mut self) -> Result<Compression> {
        self.packed.clear();
        let compression = self.compressor.compress(&self.plain, &mut self.packed);
        if compression == Compression::Zstd {
            let unpacked = decompress(compression, &self.packed, self.plain.len(), &mut self.scratch);
            if unpacked.is_err() || self.scratch != self.plain {
                let reason = "it does not decompress to what it was; the memory may be faulty";
                return Err(Damage::new("a frame just compressed", reason).into());
            }
        }
        Ok(compression)
    }
}

impl Session {
    /// Packs, verifies and seals the blobs of a frame into the open pack of its kind, and empties the frame.
    pub(super) fn store_frame(&self, frame: &mut Frame) -> Result<()> {
        self.shared.check()?;
        let kind = frame.kind;
        match frame.pack().map_err(|error| self.shared.fail(error))? {
            Some(packed) => self.store_packed(kind, packed),
            None => Ok(()),
        }
    }

    /// Stores a frame that is packed already, as those of other packs are: it is sealed, and nothing is compressed again. The caller has
    /// claimed what is needed of it.
    ///
    /// # Errors
    /// When the session has failed.
    pub fn store_packed(&self, kind: BlobKind, frame: PackedFrame<'_>) -> Result<()> {
        self.shared.check()?;
        self.shared.counts.add(kind, frame.blobs.len(), frame.plain_bytes as usize, frame.packed.len());
        if self.shared.dry_run {
            return Ok(());
        }
        let Some(pack) = self.shared.packs.get(slot(kind)) else { return Ok(()) };
        // The lock is held while a full pack waits for its turn to be uploaded: that is what bounds memory.
        self.place(kind, frame, &mut lock(pack)).map_err(|error| self.shared.fail(error))
    }

    /// Puts a frame into the open pack; closes that where it is full.
    fn place(&self, kind: BlobKind, frame: PackedFrame<'_>, open: &mut Option<PackBuilder>) -> Result<()> {
        let pack_bytes = self.shared.pack_bytes();
        let mut waiting = vec![frame];
        while let Some(frame) = waiting.pop() {
            if let Some(mut pack) = open.take_if(|pack| !pack.fits(&frame, pack_bytes)) {
                // Of a frame that is not compressed a part can fill the pack to the brim, so that less of it is padding.
                let room_bytes = pack.room_bytes(&frame, pack_bytes);
                let (part, rest) = frame.split_to_fill(room_bytes);
                part.map(|part| pack.add(part)).transpose()?;
                self.uploader.put(pack)?;
                waiting.extend(rest.into_iter().rev());
                continue;
            }
            let pack = open.get_or_insert_with(|| {
                let repository = &self.shared.repository;
                // Tree packs are small; a buffer that once held a full pack would only take memory there.
                let buffer = if kind == BlobKind::Data { self.uploader.buffer() } else { Vec::new() };
                PackBuilder::new(repository.keys(), kind, repository.runtime(), buffer)
            });
            pack.add(frame)?;
            if let Some(full) = open.take_if(|pack| pack.pads_well(pack_bytes)) {
                self.uploader.put(full)?;
            }
        }
        Ok(())
    }
}
