//! Visiting every page below some roots, each once, with several threads, in no particular order.

use crate::{
    blob::ReadBlobs,
    error::Result,
    id::BlobId,
    parallel::for_each_found,
    progress::Cancel,
    tree::{
        TreeBlob,
        node::{Content, Entry, NodeKind, Piece},
    },
};

/// What is told of the pages, from any thread.
pub trait Visitor: Sync {
    /// A page is named; whether it is to be read, which is said once of each.
    fn page(&self, page: &BlobId) -> bool;

    /// A data blob is named.
    fn data(&self, blob: &BlobId);
}

/// Visits all pages below `roots`, with the pages of piece lists, and all data blobs they name.
///
/// # Errors
/// The first page that cannot be read or is not valid, or a stop that was asked for. Other pages are then left out.
pub fn visit(
    blobs: &dyn ReadBlobs,
    roots: impl IntoIterator<Item = BlobId>,
    threads: usize,
    visitor: &dyn Visitor,
    cancel: &Cancel,
) -> Result<()> {
    let pages = roots.into_iter().filter(|root| visitor.page(root)).collect();
    let walk = Walk { blobs, visitor };
    for_each_found(pages, threads, Vec::new, |scratch, page, found| {
        cancel.check()?;
        walk.read(&page, scratch, found)
    })
}

struct Walk<'a> {
    blobs: &'a dyn ReadBlobs,
    visitor: &'a dyn Visitor,
}

impl Walk<'_> {
    fn read(&self, page: &BlobId, scratch: &mut Vec<u8>, found: &mut Vec<BlobId>) -> Result<()> {
        let mut name = |page: BlobId| {
            if self.visitor.page(&page) {
                found.push(page);
            }
        };
        match TreeBlob::read(self.blobs, page, scratch)? {
            TreeBlob::Entries(entries) => entries.iter().for_each(|entry| self.entry(entry, &mut name)),
            TreeBlob::Pieces(pieces) => self.pieces(&pieces),
            TreeBlob::EntryPages(pages) => pages.iter().for_each(|below| name(below.page)),
            TreeBlob::PiecePages(pages) => pages.iter().for_each(|below| name(below.page)),
        }
        Ok(())
    }

    fn entry(&self, entry: &Entry, name: &mut dyn FnMut(BlobId)) {
        match &entry.node.kind {
            NodeKind::Directory { tree, .. } => name(*tree),
            NodeKind::File { content: Content::List(root), .. } => name(*root),
            NodeKind::File { content: Content::Blob(blob), .. } => self.visitor.data(blob),
            NodeKind::File { content: Content::Pieces(pieces), .. } => self.pieces(pieces),
            _ => {}
        }
    }

    fn pieces(&self, pieces: &[Piece]) {
        for piece in pieces {
            if let Piece::Data { blob, .. } = piece {
                self.visitor.data(blob);
            }
        }
    }
}
