//! What is lost, by where it lies: tells for each blob whether, and by which finding, it cannot be read.

use std::collections::HashMap;

use crate::{
    blob::{BlobKind, BlobLocation},
    check::finding::FindingNumber,
    id::{BlobId, PackId},
    index::set::IndexSet,
};

/// Everything that cannot be read, each with the finding that says so.
#[derive(Default)]
pub(super) struct Losses {
    packs: HashMap<PackId, FindingNumber>,
    frames: HashMap<(PackId, u32), FindingNumber>,
    /// Single blobs in frames that open: pack, frame, offset.
    locations: HashMap<(PackId, u32, u32), FindingNumber>,
    /// Blobs that are in no index, or whose content is not valid wherever it lies.
    blobs: HashMap<(BlobKind, BlobId), FindingNumber>,
}

impl Losses {
    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.frames.is_empty() && self.locations.is_empty() && self.blobs.is_empty()
    }

    /// Packs that are lost as a whole.
    pub(super) fn packs(&self) -> impl Iterator<Item = &PackId> {
        self.packs.keys()
    }

    pub(super) fn pack(&mut self, pack: PackId, finding: FindingNumber) {
        self.packs.insert(pack, finding);
    }

    pub(super) fn frame(&mut self, pack: PackId, ordinal: u32, finding: FindingNumber) {
        self.frames.insert((pack, ordinal), finding);
    }

    pub(super) fn location(&mut self, location: &BlobLocation, finding: FindingNumber) {
        let frame = &location.frame;
        self.locations.insert((frame.pack, frame.ordinal, location.offset_bytes), finding);
    }

    pub(super) fn blob(&mut self, kind: BlobKind, id: BlobId, finding: FindingNumber) {
        self.blobs.insert((kind, id), finding);
    }

    fn at(&self, location: &BlobLocation) -> Option<FindingNumber> {
        let frame = &location.frame;
        let by_frame = || self.frames.get(&(frame.pack, frame.ordinal));
        let by_location = || self.locations.get(&(frame.pack, frame.ordinal, location.offset_bytes));
        self.packs.get(&frame.pack).or_else(by_frame).or_else(by_location).copied()
    }

    /// The finding by which a blob is lost; `None` when one copy of it at least is sound.
    pub(super) fn cause(&self, index: &IndexSet, kind: BlobKind, id: &BlobId) -> Option<FindingNumber> {
        if let Some(finding) = self.blobs.get(&(kind, *id)) {
            return Some(*finding);
        }
        let mut cause = None;
        for copy in index.copies(kind, id) {
            cause = Some(self.at(&copy.location)?);
        }
        cause
    }
}
