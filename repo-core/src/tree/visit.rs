//! Visiting every page below some roots, each once, with several threads, in no particular order.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{
    blob::ReadBlobs,
    error::{Error, Result},
    id::BlobId,
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
    let walk = Walk {
        blobs,
        visitor,
        cancel,
        state: Mutex::new(State { pages, busy: 0, failure: None }),
        wake: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| walk.work());
        }
    });
    let state = walk.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failure.map_or(Ok(()), Err)
}

struct State {
    /// Pages to be read. The last one named is read first, so that what lies side by side in a frame is read together.
    pages: Vec<BlobId>,
    /// Threads that are reading a page, and may find further ones.
    busy: usize,
    failure: Option<Error>,
}

struct Walk<'a> {
    blobs: &'a dyn ReadBlobs,
    visitor: &'a dyn Visitor,
    cancel: &'a Cancel,
    state: Mutex<State>,
    wake: Condvar,
}

impl Walk<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a thread ends the walk: the scope passes it on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let (mut scratch, mut found) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        while state.failure.is_none() {
            let Some(page) = state.pages.pop() else {
                if state.busy == 0 {
                    break;
                }
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy += 1;
            drop(state);
            let leaving = Leaving(self);
            let read = self.cancel.check().and_then(|()| self.read(&page, &mut scratch, &mut found));
            let mut now = self.lock();
            if let Err(error) = read {
                now.failure.get_or_insert(error);
            }
            now.pages.append(&mut found);
            drop(now);
            drop(leaving);
            state = self.lock();
        }
    }

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

/// Counts a thread as idle again when dropped, whatever happened.
struct Leaving<'a, 'b>(&'a Walk<'b>);

impl Drop for Leaving<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.wake.notify_all();
    }
}
