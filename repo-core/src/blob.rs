//! What a blob is: its kind, and where it lies.

use serde::{Deserialize, Serialize};

use crate::id::{BlobId, PackId};

/// What a blob holds. Kinds never share a pack, a frame or a key, so one can never be taken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BlobKind {
    /// Contents of files.
    Data,
    /// Pages of directories and of piece lists.
    Tree,
}

impl BlobKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Data, Self::Tree];
}

impl std::fmt::Display for BlobKind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Data => "data",
            Self::Tree => "tree",
        })
    }
}

/// Where one frame lies in a pack, and what it becomes when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameLocation {
    /// The pack.
    pub pack: PackId,
    /// Position of the frame among the pack's frames; the nonce under the pack's key.
    pub ordinal: u32,
    /// First byte of the sealed frame in the pack.
    pub offset_bytes: u32,
    /// Length of the sealed frame, its tag included.
    pub stored_bytes: u32,
    /// Length of the frame's plain bytes.
    pub plain_bytes: u32,
    /// How the plain bytes were packed before sealing.
    pub compression: Compression,
}

/// Where one blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLocation {
    /// The frame that holds it.
    pub frame: FrameLocation,
    /// First byte of the blob in the frame's plain bytes.
    pub offset_bytes: u32,
    /// Length of the blob.
    pub length_bytes: u32,
}

/// How a frame's or an object's plain bytes were packed before they were sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Compression {
    /// As they are: they would not become smaller.
    Raw,
    /// One zstd frame (RFC 8878) without checksum and dictionary, with its content size.
    Zstd,
}

/// Reads blobs: all that the layers above need to know of a repository to read trees and files.
pub trait ReadBlobs: Send + Sync {
    /// Replaces `into` by the plain bytes of a blob, verified against its id.
    ///
    /// # Errors
    /// When the blob is not in the index, or what the store gave is not that blob.
    fn read_blob(&self, kind: BlobKind, id: &BlobId, into: &mut Vec<u8>) -> crate::error::Result<()>;

    /// Where a blob lies, or nothing when no index names it.
    ///
    /// # Errors
    /// When the index cannot be looked into.
    fn locate(&self, kind: BlobKind, id: &BlobId) -> crate::error::Result<Option<BlobLocation>>;
}

/// Stores blobs, each once.
pub trait WriteBlobs: Send + Sync {
    /// Stores a blob unless it is already there, and returns its id and whether it was new.
    ///
    /// # Errors
    /// When the store failed; the session is then poisoned and will not commit.
    fn write_blob(&self, kind: BlobKind, plain: &[u8]) -> crate::error::Result<(BlobId, bool)>;

    /// Stores a tree blob that has so many directory entries in it and below it, as [`Self::write_blob`] does. Those with many are on the
    /// way to everything: who keeps them close together lets a reader get at a path with few requests.
    ///
    /// # Errors
    /// As [`Self::write_blob`].
    fn write_page(&self, plain: &[u8], entries: u64) -> crate::error::Result<(BlobId, bool)> {
        let _ = entries;
        self.write_blob(BlobKind::Tree, plain)
    }
}

/// Reads whole frames, for engines that want many blobs out of each (restore, check, prune).
pub trait ReadFrames: ReadBlobs {
    /// Replaces `into` by the stored bytes `offset_bytes..offset_bytes + length_bytes` of a pack, in one request.
    ///
    /// # Errors
    /// When the store fails or the pack is shorter.
    fn read_pack(
        &self,
        pack: &PackId,
        offset_bytes: u64,
        length_bytes: u64,
        into: &mut Vec<u8>,
    ) -> crate::error::Result<()>;

    /// Opens the stored bytes of one frame (exactly [`FrameLocation::stored_bytes`]) and replaces `into` by its plain bytes.
    /// The blobs in it are authenticated to be what was sealed into this frame of this pack; that they carry the ids an index
    /// claims is checked with [`Self::blob_id`].
    ///
    /// # Errors
    /// When they were not sealed as this frame, or do not decompress to what the index says.
    fn open_frame(
        &self,
        kind: BlobKind,
        frame: &FrameLocation,
        stored: &[u8],
        into: &mut Vec<u8>,
    ) -> crate::error::Result<()>;

    /// The id of a blob with these plain bytes.
    fn blob_id(&self, kind: BlobKind, plain: &[u8]) -> BlobId;
}
