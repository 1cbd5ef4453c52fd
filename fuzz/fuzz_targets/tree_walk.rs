//! Walking a tree whose pages say anything: it ends, every path is a path, and every file's pieces add up or are said
//! not to.
#![no_main]

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use libfuzzer_sys::fuzz_target;
use repo_core::{
    blob::{BlobKind, BlobLocation, ReadBlobs},
    error::{Damage, Result},
    id::BlobId,
    tree::{
        content::Pieces,
        node::NodeKind,
        walk::{Descend, Visit, components, walk},
    },
};

/// Most things that are looked at. Pages that name one page many times make trees of any size out of a few bytes.
const VISITS_MAX: usize = 2000;

/// The input, cut into blobs: two bytes of length, then the blob. The first byte of an id is the blob's number, so
/// that there may even be circles.
struct Blobs {
    blobs: Vec<Vec<u8>>,
    reads: AtomicUsize,
}

impl Blobs {
    fn new(mut input: &[u8]) -> Self {
        let mut blobs = Vec::new();
        while let [high, low, rest @ ..] = input {
            let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
            let (blob, behind) = rest.split_at(length);
            blobs.push(blob.to_vec());
            input = behind;
        }
        Self { blobs, reads: AtomicUsize::new(0) }
    }
}

impl ReadBlobs for Blobs {
    fn read_blob(&self, kind: BlobKind, id: &BlobId, into: &mut Vec<u8>) -> Result<()> {
        let few = self.reads.fetch_add(1, Ordering::Relaxed) < VISITS_MAX;
        let blob = self.blobs.get(usize::from(id.0[0])).filter(|_| few && kind == BlobKind::Tree);
        into.clear();
        into.extend_from_slice(blob.ok_or_else(|| Damage::new(id, "there is no such blob"))?);
        Ok(())
    }

    fn locate(&self, _: BlobKind, _: &BlobId) -> Result<Option<BlobLocation>> {
        Ok(None)
    }
}

fuzz_target!(|input: &[u8]| {
    let blobs = Blobs::new(input);
    let mut visits = 0;
    let mut open: Vec<Vec<u8>> = Vec::new();
    let mut files = BTreeSet::new();
    walk(&blobs, &BlobId([0; 32]), &mut |path, visit| {
        visits += 1;
        match visit {
            Visit::Entry(entry) => {
                let names = components(path).expect("a path of names");
                assert_eq!(names.last(), Some(&entry.name));
                assert_eq!(names.len(), open.len() + 1, "directories are entered and left in pairs");
                match &entry.node.kind {
                    NodeKind::File { size_bytes, content } => {
                        if files.len() < 100 && files.insert(path.to_vec()) {
                            check_pieces(Pieces::new(&blobs, content, *size_bytes), *size_bytes);
                        }
                    }
                    NodeKind::Directory { .. } if visits < VISITS_MAX && open.len() < 20 => {
                        open.push(path.to_vec());
                        return Ok(Descend::Into);
                    }
                    _ => {}
                }
            }
            Visit::Leave(_) => assert_eq!(open.pop().as_deref(), Some(path)),
            Visit::Unreadable(_) => {}
        }
        if visits > 100 * VISITS_MAX {
            return Err(repo_core::error::Error::Cancelled);
        }
        Ok(Descend::Past)
    })
    .unwrap_or_default();
});

fn check_pieces(pieces: Pieces<'_>, size_bytes: u64) {
    let (mut sum, mut failed, mut count) = (0_u64, false, 0);
    for piece in pieces {
        assert!(!failed, "something follows an error");
        count += 1;
        if count > VISITS_MAX {
            return;
        }
        match piece {
            Ok(piece) => sum = sum.checked_add(piece.length_bytes()).expect("lengths within the file's size"),
            Err(_) => failed = true,
        }
    }
    assert!(failed || sum == size_bytes, "{sum} of {size_bytes} bytes, and no error");
}
