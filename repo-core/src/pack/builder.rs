//! Building one pack in memory.

use std::ops::Range;

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
    /// Splits a raw frame between blobs: into the run of neighbours that leaves least of `room_bytes` empty, each with its record in a
    /// directory, and what is before and behind it. No part is found where the frame is compressed, or no blob fits.
    #[must_use]
    pub fn split_to_fill(self, room_bytes: usize) -> (Option<Self>, Vec<Self>) {
        let Some(part) = self.best_run(room_bytes) else { return (None, vec![self]) };
        let before = self.cut(0..part.start);
        let behind = self.cut(part.end..self.blobs.len());
        (self.cut(part), [before, behind].into_iter().flatten().collect())
    }

    /// The neighbours that take most of the room.
    fn best_run(&self, room_bytes: usize) -> Option<Range<usize>> {
        if self.compression != Compression::Raw {
            return None;
        }
        let cost = |blob: &PackBlob| blob.length_bytes as usize + BLOB_RECORD_BYTES;
        let (mut best, mut best_bytes) = (None, 0);
        let (mut start, mut bytes) = (0, 0);
        for (last, blob) in self.blobs.iter().enumerate() {
            bytes += cost(blob);
            while bytes > room_bytes {
                bytes -= cost(self.blobs.get(start)?);
                start += 1;
            }
            if bytes > best_bytes {
                (best, best_bytes) = (Some(start..last + 1), bytes);
            }
        }
        best
    }

    /// The frame of some of the blobs of a raw one.
    fn cut(&self, blobs: Range<usize>) -> Option<Self> {
        let bytes = |blobs: &[PackBlob]| blobs.iter().map(|blob| blob.length_bytes as usize).sum::<usize>();
        let offset = bytes(self.blobs.get(..blobs.start)?);
        let blobs = self.blobs.get(blobs).filter(|blobs| !blobs.is_empty())?;
        let packed = self.packed.get(offset..)?.get(..bytes(blobs))?;
        let plain_bytes = u32::try_from(packed.len()).ok()?;
        Some(Self { packed, compression: Compression::Raw, plain_bytes, blobs: blobs.to_vec() })
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

    /// What the pack takes as it is, before padding.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.bytes_with(0, 0, 0)
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
        let bytes = self.bytes_with(1, sealed_bytes(frame.packed.len()), frame.blobs.len());
        self.directory.frames.is_empty() || (bytes <= pack_bytes && self.counts_fit(frame))
    }

    /// Whether there may be one more frame of so many blobs.
    fn counts_fit(&self, frame: &PackedFrame<'_>) -> bool {
        self.directory.frames.len() < limits::FRAMES_MAX && self.blobs + frame.blobs.len() <= limits::PACK_BLOBS_MAX
    }

    /// Bytes that a part of a frame may take, packed, with the records of its blobs.
    #[must_use]
    pub fn room_bytes(&self, frame: &PackedFrame<'_>, pack_bytes: usize) -> usize {
        if self.counts_fit(frame) { pack_bytes.saturating_sub(self.bytes_with(1, sealed_bytes(0), 0)) } else { 0 }
    }

    /// Whether to close the pack as it is: it is nearly full, and padding it would waste next to nothing.
    #[must_use]
    pub fn pads_well(&self, pack_bytes: usize) -> bool {
        let bytes = self.stored_bytes();
        let padding_bytes = padme(bytes as u64) - bytes as u64;
        // After a raw frame comes another, as a rule, of which a part will fill the pack better than this.
        let raw = self.directory.frames.last().is_some_and(|frame| frame.compression == Compression::Raw);
        let most = bytes as u64 / if raw { 16 << 10 } else { 1 << 10 };
        bytes >= pack_bytes / 4 * 3 && padding_bytes <= most
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
        let (id, bytes) = self.container.finish(&codec::encode(&self.directory))?;
        Ok(FinishedPack { id: id.into(), kind: self.kind, key, bytes, directory: self.directory })
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
    fn the_neighbours_that_fill_the_room_best_are_taken() {
        let bytes: Vec<u8> = (0..150).collect();
        let lengths = [30, 50, 40, 20, 10];
        let record = BLOB_RECORD_BYTES;
        for (room, taken) in [
            (0, None),
            (10 + record - 1, None),
            (10 + record, Some(4..5)),
            (20 + record, Some(3..4)),
            (49 + record, Some(2..3)),
            (50 + record, Some(1..2)),
            (60 + 2 * record, Some(2..4)),
            (80 + 2 * record, Some(0..2)),
            (110 + 3 * record, Some(1..4)),
            (1000, Some(0..5)),
        ] {
            assert_eq!(frame(&bytes, &lengths, Compression::Raw).best_run(room), taken, "room {room}");
            let (part, rest) = frame(&bytes, &lengths, Compression::Raw).split_to_fill(room);
            assert_eq!(part.is_some(), taken.is_some());
            let mut all: Vec<_> = part.into_iter().chain(rest).collect();
            for part in &all {
                assert_eq!(part.plain_bytes as usize, part.packed.len());
                assert_eq!(part.blobs.iter().map(|blob| blob.length_bytes).sum::<u32>(), part.plain_bytes);
            }
            all.sort_by_key(|part| part.packed[0]);
            assert_eq!(all.iter().flat_map(|part| part.packed).copied().collect::<Vec<_>>(), bytes);
            let ids: Vec<_> = all.iter().flat_map(|part| &part.blobs).map(|blob| blob.id.0[0]).collect();
            assert_eq!(ids, [0, 1, 2, 3, 4]);
        }
        assert!(frame(&bytes, &lengths, Compression::Zstd).split_to_fill(100).0.is_none());
    }
}
