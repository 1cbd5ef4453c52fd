//! Claiming all that a snapshot needs, and storing again what lies in packs that a pruner has condemned while it was made.

use std::{collections::HashSet, sync::Arc};

use crate::{
    blob::{BlobKind, BlobLocation, ReadBlobs, WriteBlobs},
    error::{Error, Result},
    id::{BlobId, PackId},
    index::set::IndexSet,
    repository::{
        reader::{BlobReader, CACHE_BYTES},
        session::Session,
    },
    tree::{
        TreeBlob,
        node::{Content, NodeKind, Piece},
    },
};

/// Walks a tree, says that the session needs every blob of it, and stores again each that has no copy in a pack the session counts on. Condemned packs are still
/// readable until they are deleted; what is gone already cannot be saved.
///
/// # Errors
/// [`Error::Unreadable`] when something is gone or damaged; the next backup will store it anew.
pub fn store_again(session: &Session, tree: &BlobId) -> Result<()> {
    let repository = session.repository();
    let index = Arc::new(repository.load_index(None)?);
    let reader = |index: &Arc<IndexSet>| BlobReader::new(Arc::clone(repository), Arc::clone(index), CACHE_BYTES);
    let reader = Readers { now: reader(&index), before: reader(session.index()) };
    let mut rescue = Rescue { session, index, reader, seen: HashSet::new(), bytes: Vec::new() };
    let mut pages = vec![*tree];
    while let Some(page) = pages.pop() {
        if !rescue.save(BlobKind::Tree, &page)? {
            continue;
        }
        match TreeBlob::read(&rescue.reader, &page, &mut Vec::new()).map_err(gone)? {
            TreeBlob::Entries(entries) => {
                for entry in entries {
                    match entry.node.kind {
                        NodeKind::Directory { tree, .. } => pages.push(tree),
                        NodeKind::File { content: Content::List(root), .. } => pages.push(root),
                        NodeKind::File { content: Content::Blob(blob), .. } => {
                            rescue.save(BlobKind::Data, &blob)?;
                        }
                        NodeKind::File { content: Content::Pieces(pieces), .. } => rescue.pieces(&pieces)?,
                        _ => {}
                    }
                }
            }
            TreeBlob::EntryPages(below) => pages.extend(below.into_iter().map(|page| page.page)),
            TreeBlob::Pieces(pieces) => rescue.pieces(&pieces)?,
            TreeBlob::PiecePages(below) => pages.extend(below.into_iter().map(|page| page.page)),
        }
    }
    Ok(())
}

struct Rescue<'a> {
    session: &'a Session,
    /// The index as it is now, with what this session has stored.
    index: Arc<IndexSet>,
    reader: Readers,
    seen: HashSet<BlobId>,
    bytes: Vec<u8>,
}

impl Rescue<'_> {
    fn pieces(&mut self, pieces: &[Piece]) -> Result<()> {
        for piece in pieces {
            if let Piece::Data { blob, .. } = piece {
                self.save(BlobKind::Data, blob)?;
            }
        }
        Ok(())
    }

    /// Makes sure of one blob; whether this was the first time it was met.
    fn save(&mut self, kind: BlobKind, id: &BlobId) -> Result<bool> {
        if !self.seen.insert(*id) {
            return Ok(false);
        }
        // A copy counts if this session will claim its pack: one it found by its own index, or one it stored itself.
        let stored = |pack: &PackId| self.session.has_stored(pack);
        if !self.session.need(kind, id) && self.index.find_where(kind, id, stored).is_none() {
            self.reader.read_blob(kind, id, &mut self.bytes).map_err(gone)?;
            self.session.write_blob(kind, &self.bytes)?;
        }
        Ok(true)
    }
}

/// The index as it is now, and as it was when the session began: a pruner takes packs out of the index before it deletes them.
struct Readers {
    now: BlobReader,
    before: BlobReader,
}

impl ReadBlobs for Readers {
    fn read_blob(&self, kind: BlobKind, id: &BlobId, into: &mut Vec<u8>) -> Result<()> {
        match self.now.read_blob(kind, id, into) {
            Err(error) if error.is_damage() => self.before.read_blob(kind, id, into),
            result => result,
        }
    }

    fn locate(&self, kind: BlobKind, id: &BlobId) -> Result<Option<BlobLocation>> {
        match self.now.locate(kind, id)? {
            None => self.before.locate(kind, id),
            found => Ok(found),
        }
    }
}

/// What cannot be read any more has been pruned, or is damaged; everything else is what it is.
fn gone(error: Error) -> Error {
    if error.is_damage() { Error::Unreadable(Box::new(error)) } else { error }
}
