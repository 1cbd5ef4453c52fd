//! Building one pack in memory.

use sha2::{Digest, Sha256};

use crate::{
    blob::{BlobKind, Compression},
    codec,
    crypto::keys::{Keys, ObjectKind},
    envelope::{
        container::{ContainerWriter, FOOTER_BYTES},
        header::sealed_bytes,
        padding::padme,
    },
    error::Result,
    id::{ObjectId, PackId},
    limits,
    pack::directory::{PackBlob, PackDirectory, PackFrame},
    runtime::Runtime,
};

/// Most bytes a blob takes in an encoded directory: its id and its length.
const BLOB_RECORD_BYTES: usize = 32 + 5;

/// Most bytes a frame takes in an encoded directory, without its blobs.
const FRAME_RECORD_BYTES: usize = 5 + 5 + 1 + 9;

/// A frame ready to be sealed.
pub struct PackedFrame<'a> {
    /// The packed bytes.
    pub packed: &'a [u8],
    /// How they were packed.
    pub compression: Compression,
    /// Length of the plain bytes.
    pub plain_bytes: u32,
    /// The blobs in them.
    pub blobs: Vec<PackBlob>,
}

/// A pack being filled.
pub struct PackBuilder {
    kind: BlobKind,
    container: ContainerWriter,
    directory: PackDirectory,
    blobs: usize,
}

/// A finished pack, ready to be put.
pub struct FinishedPack {
    /// SHA-256 of its bytes.
    pub id: PackId,
    /// What its blobs are.
    pub kind: BlobKind,
    /// Its salt, which readers need to open a frame.
    pub salt: [u8; 32],
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it holds.
    pub directory: PackDirectory,
}

impl PackBuilder {
    /// Begins a pack in `buffer`, whose room is kept.
    pub fn new(keys: &Keys, kind: BlobKind, runtime: &dyn Runtime, buffer: Vec<u8>) -> Self {
        let container = ContainerWriter::new(keys, ObjectKind::pack(kind), runtime, buffer);
        Self { kind, container, directory: PackDirectory::default(), blobs: 0 }
    }

    /// Whether a frame fits without the pack growing beyond `pack_bytes`. An empty pack takes any frame.
    #[must_use]
    pub fn fits(&self, frame: &PackedFrame<'_>, pack_bytes: usize) -> bool {
        let frames = self.directory.frames.len() + 1;
        let blobs = self.blobs + frame.blobs.len();
        let directory_bytes = 9 + frames * FRAME_RECORD_BYTES + blobs * BLOB_RECORD_BYTES;
        let bytes = self.container.len_bytes()
            + sealed_bytes(frame.packed.len())
            + sealed_bytes(0)
            + sealed_bytes(directory_bytes)
            + FOOTER_BYTES;
        frames == 1 || (bytes <= pack_bytes && frames <= limits::FRAMES_MAX && blobs <= limits::PACK_BLOBS_MAX)
    }

    /// Whether to close the pack as it is: it is nearly full, and padding it would waste next to nothing.
    #[must_use]
    pub fn pads_well(&self, pack_bytes: usize) -> bool {
        let directory_bytes = 9 + self.directory.frames.len() * FRAME_RECORD_BYTES + self.blobs * BLOB_RECORD_BYTES;
        let bytes = self.container.len_bytes() + sealed_bytes(0) + sealed_bytes(directory_bytes) + FOOTER_BYTES;
        let padding_bytes = padme(bytes as u64) - bytes as u64;
        bytes >= pack_bytes / 4 * 3 && padding_bytes <= bytes as u64 / 1024
    }

    /// Seals a frame into the pack; returns where it begins and its position.
    ///
    /// # Errors
    /// When what was sealed does not open again.
    pub fn add(&mut self, frame: PackedFrame<'_>) -> Result<(u32, u32)> {
        let ordinal = self.container.frames();
        let offset = self.container.add_frame(frame.packed)?;
        self.blobs += frame.blobs.len();
        self.directory.frames.push(PackFrame {
            stored_bytes: u32::try_from(sealed_bytes(frame.packed.len())).unwrap_or(u32::MAX),
            plain_bytes: frame.plain_bytes,
            compression: frame.compression,
            blobs: frame.blobs,
        });
        Ok((u32::try_from(offset).unwrap_or(u32::MAX), ordinal))
    }

    /// Adds the directory; the name is the hash of the bytes.
    ///
    /// # Errors
    /// When what was sealed does not open again.
    pub fn finish(self) -> Result<FinishedPack> {
        let salt = *self.container.salt();
        let bytes = self.container.finish(&codec::encode(&self.directory))?;
        Ok(FinishedPack { id: object_id(&bytes).into(), kind: self.kind, salt, bytes, directory: self.directory })
    }
}

/// The name of an object: SHA-256 (FIPS 180-4) of its stored bytes.
#[must_use]
pub fn object_id(bytes: &[u8]) -> ObjectId {
    ObjectId(Sha256::digest(bytes).into())
}
