//! What a pack says of itself: its frames and the blobs in them.

use serde::{Deserialize, Serialize};

use crate::{
    blob::{BlobLocation, Compression, FrameLocation},
    codec,
    crypto::aead::TAG_BYTES,
    envelope::header::HEADER_BYTES,
    error::{Damage, Result},
    id::{BlobId, PackId},
    limits,
};

/// A pack's directory: its frames in the order they lie in the pack, from the header on without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PackDirectory {
    /// The frames.
    pub frames: Vec<PackFrame>,
}

/// A frame: its size, and the blobs in it in the order they lie in its plain bytes, without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackFrame {
    /// Stored length, with its tag.
    pub stored_bytes: u32,
    /// Length of the plain bytes: the sum of the blobs' lengths.
    pub plain_bytes: u32,
    /// How it was packed.
    pub compression: Compression,
    /// The blobs.
    pub blobs: Vec<PackBlob>,
}

/// A blob in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackBlob {
    /// Its id.
    pub id: BlobId,
    /// Its length.
    pub length_bytes: u32,
}

impl PackDirectory {
    /// Decodes a directory and checks that its numbers add up within `frames_end_bytes`, where directory and padding begin.
    ///
    /// # Errors
    /// When they do not.
    pub fn decode(bytes: &[u8], padding_and_frames_end_bytes: u64, name: &dyn std::fmt::Display) -> Result<Self> {
        let directory: Self =
            codec::decode(bytes).map_err(|error| Damage::new(name, format_args!("its directory: {error}")))?;
        let problem = directory.check(padding_and_frames_end_bytes);
        match problem {
            None => Ok(directory),
            Some(reason) => Err(Damage::new(name, format_args!("its directory: {reason}")).into()),
        }
    }

    fn check(&self, end_bytes: u64) -> Option<&'static str> {
        if self.frames.len() > limits::FRAMES_MAX {
            return Some("too many frames");
        }
        let (mut offset, mut blobs) = (HEADER_BYTES as u64, 0usize);
        for frame in &self.frames {
            if (frame.stored_bytes as usize) < TAG_BYTES
                || frame.stored_bytes as usize > limits::FRAME_BYTES_MAX + TAG_BYTES
                || frame.plain_bytes as usize > limits::FRAME_BYTES_MAX
            {
                return Some("a frame's length is out of bounds");
            }
            let sum: u64 = frame.blobs.iter().map(|blob| u64::from(blob.length_bytes)).sum();
            if sum != u64::from(frame.plain_bytes) {
                return Some("the blobs of a frame do not fill it");
            }
            if frame.blobs.iter().any(|blob| blob.length_bytes as usize > limits::BLOB_BYTES_MAX) {
                return Some("a blob is longer than any can be");
            }
            offset += u64::from(frame.stored_bytes);
            blobs += frame.blobs.len();
        }
        if blobs > limits::PACK_BLOBS_MAX {
            return Some("too many blobs");
        }
        // Behind the frames comes the sealed padding, at least its tag.
        (offset + TAG_BYTES as u64 > end_bytes).then_some("the frames are longer than the pack")
    }

    /// Each frame's location in `pack`, with its blobs.
    pub fn locations(&self, pack: PackId) -> impl Iterator<Item = (FrameLocation, &[PackBlob])> {
        let mut offset_bytes = u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX);
        self.frames.iter().zip(0..).map(move |(frame, ordinal)| {
            let location = FrameLocation {
                pack,
                ordinal,
                offset_bytes,
                stored_bytes: frame.stored_bytes,
                plain_bytes: frame.plain_bytes,
                compression: frame.compression,
            };
            offset_bytes = offset_bytes.saturating_add(frame.stored_bytes);
            (location, frame.blobs.as_slice())
        })
    }

    /// Each blob's location in `pack`.
    pub fn blobs(&self, pack: PackId) -> impl Iterator<Item = (BlobId, BlobLocation)> {
        self.locations(pack).flat_map(|(frame, blobs)| {
            let mut offset_bytes = 0;
            blobs.iter().map(move |blob| {
                let location = BlobLocation { frame, offset_bytes, length_bytes: blob.length_bytes };
                offset_bytes += blob.length_bytes;
                (blob.id, location)
            })
        })
    }
}
