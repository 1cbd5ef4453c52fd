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
    pack::{
        directory::{PackBlob, PackDirectory, PackFrame},
        reader::PackKey,
    },
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

impl PackedFrame<'_> {
    /// Takes the first blobs off a raw frame, as many as have room in `room_bytes`; none where that would be less than an eighth of the
    /// frame, or all of it.
    pub fn split_off_front(&mut self, room_bytes: usize) -> Option<Self> {
        if self.compression != Compression::Raw {
            return None;
        }
        let (mut count, mut end) = (0, 0);
        for blob in &self.blobs {
            let next = end + blob.length_bytes as usize;
            if next > room_bytes {
                break;
            }
            (count, end) = (count + 1, next);
        }
        if end < self.packed.len() / 8 || count == self.blobs.len() {
            return None;
        }
        let (front, back) = self.packed.split_at_checked(end)?;
        let behind = self.blobs.split_off(count);
        let part_bytes = u32::try_from(end).ok()?;
        self.packed = back;
        self.plain_bytes -= part_bytes;
        let blobs = std::mem::replace(&mut self.blobs, behind);
        Some(Self { packed: front, compression: Compression::Raw, plain_bytes: part_bytes, blobs })
    }
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
    /// What readers need to open a frame.
    pub key: PackKey,
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

    /// What the pack would take at most if a frame of so many stored bytes and blobs were added, before padding.
    fn bytes_with(&self, frames: usize, stored_bytes: usize, blobs: usize) -> usize {
        let frames = self.directory.frames.len() + frames;
        let directory_bytes = 9 + frames * FRAME_RECORD_BYTES + (self.blobs + blobs) * BLOB_RECORD_BYTES;
        self.container.len_bytes() + stored_bytes + sealed_bytes(0) + sealed_bytes(directory_bytes) + FOOTER_BYTES
    }

    /// Whether a frame fits without the pack growing beyond `pack_bytes`. An empty pack takes any frame.
    #[must_use]
    pub fn fits(&self, frame: &PackedFrame<'_>, pack_bytes: usize) -> bool {
        let frames = self.directory.frames.len() + 1;
        let bytes = self.bytes_with(1, sealed_bytes(frame.packed.len()), frame.blobs.len());
        let counts_fit = frames <= limits::FRAMES_MAX && self.blobs + frame.blobs.len() <= limits::PACK_BLOBS_MAX;
        frames == 1 || (bytes <= pack_bytes && counts_fit)
    }

    /// Packed bytes that a frame with so many blobs may have to fit.
    #[must_use]
    pub fn room_bytes(&self, blobs: usize, pack_bytes: usize) -> usize {
        pack_bytes.saturating_sub(self.bytes_with(1, sealed_bytes(0), blobs))
    }

    /// Whether to close the pack as it is: it is nearly full, and padding it would waste next to nothing.
    #[must_use]
    pub fn pads_well(&self, pack_bytes: usize) -> bool {
        let bytes = self.bytes_with(0, 0, 0);
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
        let key = self.container.header().into();
        let bytes = self.container.finish(&codec::encode(&self.directory))?;
        Ok(FinishedPack { id: object_id(&bytes).into(), kind: self.kind, key, bytes, directory: self.directory })
    }
}

/// The name of an object: SHA-256 (FIPS 180-4) of its stored bytes.
#[must_use]
pub fn object_id(bytes: &[u8]) -> ObjectId {
    ObjectId(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlobId;

    fn frame<'a>(packed: &'a [u8], lengths: &[u32], compression: Compression) -> PackedFrame<'a> {
        let blobs = (0..).zip(lengths).map(|(i, length)| PackBlob { id: BlobId([i; 32]), length_bytes: *length });
        PackedFrame { packed, compression, plain_bytes: lengths.iter().sum(), blobs: blobs.collect() }
    }

    #[test]
    fn raw_frames_are_split_between_blobs() {
        let bytes: Vec<u8> = (0..100).collect();
        let lengths = [30, 30, 40];
        for (room, taken) in [(0, 0), (29, 0), (30, 1), (59, 1), (60, 2), (99, 2), (100, 0), (1000, 0)] {
            let mut rest = frame(&bytes, &lengths, Compression::Raw);
            let part = rest.split_off_front(room);
            let (front, count) = part.as_ref().map_or((&[][..], 0), |part| (part.packed, part.blobs.len()));
            assert_eq!(count, taken, "room {room}");
            assert_eq!([front, rest.packed].concat(), bytes);
            for part in part.iter().chain([&rest]) {
                assert_eq!(part.plain_bytes as usize, part.packed.len());
                assert_eq!(part.blobs.iter().map(|blob| blob.length_bytes).sum::<u32>(), part.plain_bytes);
            }
        }
        assert!(frame(&bytes, &lengths, Compression::Zstd).split_off_front(60).is_none());
    }
}
