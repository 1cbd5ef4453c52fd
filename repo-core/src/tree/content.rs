//! Writing and reading the pieces of one file.

use crate::{
    blob::{ReadBlobs, WriteBlobs},
    error::{Damage, Error, Result},
    id::BlobId,
    limits,
    tree::{
        TreeBlob,
        node::{Content, Piece},
        page::{PageWriter, PiecePage, damaged},
    },
};

/// Takes a file's pieces in order and stores what does not fit its entry. Memory stays flat, however long the file is. A clone can be
/// finished for what the file is so far.
#[derive(Default, Clone)]
pub struct ContentWriter {
    inline: Vec<Piece>,
    pages: Option<PageWriter<Piece>>,
    /// A hole not yet in the pages: the next piece may be a hole, too.
    hole_bytes: u64,
    size_bytes: u64,
}

impl ContentWriter {
    /// Adds a piece. Adjacent holes become one.
    ///
    /// # Errors
    /// When storing a full page fails, or the file is longer than any file can be.
    pub fn push(&mut self, piece: Piece, blobs: &dyn WriteBlobs) -> Result<()> {
        self.size_bytes = self
            .size_bytes
            .checked_add(piece.length_bytes())
            .filter(|size| *size <= limits::FILE_BYTES_MAX)
            .ok_or_else(|| Error::Invalid("the source gave a file longer than 2^63 - 1 bytes".into()))?;
        if let Some(pages) = &mut self.pages {
            if let Piece::Hole { length_bytes } = piece {
                self.hole_bytes += length_bytes;
                return Ok(());
            }
            push_hole(pages, &mut self.hole_bytes, blobs)?;
            return pages.push(&piece, blobs);
        }
        if let (Piece::Hole { length_bytes: more }, Some(Piece::Hole { length_bytes })) =
            (piece, self.inline.last_mut())
        {
            *length_bytes += more;
            return Ok(());
        }
        self.inline.push(piece);
        if self.inline.len() > limits::INLINE_PIECES {
            let mut pages = PageWriter::new();
            if let Some(Piece::Hole { length_bytes }) = self.inline.last() {
                self.hole_bytes = *length_bytes;
                self.inline.pop();
            }
            for piece in self.inline.drain(..) {
                pages.push(&piece, blobs)?;
            }
            self.pages = Some(pages);
        }
        Ok(())
    }

    /// Stores what is left and returns the content and its length.
    ///
    /// # Errors
    /// When storing fails.
    pub fn finish(mut self, blobs: &dyn WriteBlobs) -> Result<(Content, u64)> {
        let content = match (self.pages, self.inline.as_slice()) {
            (Some(mut pages), _) => {
                push_hole(&mut pages, &mut self.hole_bytes, blobs)?;
                Content::List(pages.finish(blobs)?)
            }
            (None, []) => Content::Empty,
            (None, [Piece::Data { blob, .. }]) => Content::Blob(*blob),
            (None, _) => Content::Pieces(self.inline),
        };
        Ok((content, self.size_bytes))
    }
}

/// Adds the hole that waits, if there is one.
fn push_hole(pages: &mut PageWriter<Piece>, hole_bytes: &mut u64, blobs: &dyn WriteBlobs) -> Result<()> {
    match std::mem::take(hole_bytes) {
        0 => Ok(()),
        length_bytes => pages.push(&Piece::Hole { length_bytes }, blobs),
    }
}

/// The pieces of a file in order. Ends after the first error; the sum of their lengths is the file's size, or the
/// last item is an error that says it is not.
pub struct Pieces<'a> {
    blobs: &'a dyn ReadBlobs,
    ready: std::vec::IntoIter<Piece>,
    pages: Vec<std::vec::IntoIter<PiecePage>>,
    /// The list's root, not yet read.
    root: Option<BlobId>,
    list: Option<BlobId>,
    left_bytes: u64,
    done: bool,
    scratch: Vec<u8>,
}

impl<'a> Pieces<'a> {
    /// The pieces of a file of `size_bytes`.
    #[must_use]
    pub fn new(blobs: &'a dyn ReadBlobs, content: &Content, size_bytes: u64) -> Self {
        let (pieces, root) = match content {
            Content::Empty => (Vec::new(), None),
            // A blob's length is 32 bits wide; a size beyond that shows up as one that does not add up.
            Content::Blob(blob) => {
                let length_bytes = u32::try_from(size_bytes).unwrap_or(u32::MAX);
                (vec![Piece::Data { blob: *blob, length_bytes }], None)
            }
            Content::Pieces(pieces) => (pieces.clone(), None),
            Content::List(root) => (Vec::new(), Some(*root)),
        };
        Self {
            blobs,
            ready: pieces.into_iter(),
            pages: Vec::new(),
            root,
            list: root,
            left_bytes: size_bytes,
            done: false,
            scratch: Vec::new(),
        }
    }

    /// Loads a page that covers `length_bytes` of the file. That every page covers what its parent says, and something, keeps pages
    /// made to deceive from naming each other without end.
    fn load(&mut self, page: &BlobId, length_bytes: u64) -> Result<()> {
        let blob = TreeBlob::read(self.blobs, page, &mut self.scratch)?;
        let mut lengths: Box<dyn Iterator<Item = u64>> = match &blob {
            TreeBlob::Pieces(pieces) => Box::new(pieces.iter().map(Piece::length_bytes)),
            TreeBlob::PiecePages(pages) => Box::new(pages.iter().map(|page| page.length_bytes)),
            TreeBlob::Entries(_) | TreeBlob::EntryPages(_) => Box::new(std::iter::empty()),
        };
        let sum = lengths.try_fold(0u64, |sum, length| sum.checked_add(length).filter(|_| length > 0));
        drop(lengths);
        if sum != Some(length_bytes) {
            return Err(damaged(page, "it does not cover as much of the file as it should").into());
        }
        match blob {
            TreeBlob::Pieces(pieces) => self.ready = pieces.into_iter(),
            TreeBlob::PiecePages(pages) => {
                if pages.is_empty() || self.pages.len() >= usize::from(limits::PAGE_LEVELS_MAX) {
                    return Err(damaged(page, "an empty page of pages, or too many levels").into());
                }
                self.pages.push(pages.into_iter());
            }
            TreeBlob::Entries(_) | TreeBlob::EntryPages(_) => {
                return Err(damaged(page, "a directory where a file's piece list must be").into());
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Option<Result<()>> {
        if let Some(root) = self.root.take() {
            return Some(self.load(&root, self.left_bytes));
        }
        loop {
            match self.pages.last_mut()?.next() {
                Some(page) => return Some(self.load(&page.page, page.length_bytes)),
                None => {
                    self.pages.pop();
                }
            }
        }
    }

    fn fail(&mut self, reason: &str) -> Result<Piece> {
        self.done = true;
        let damage = match &self.list {
            Some(list) => damaged(list, reason),
            None => Damage::new("a file's entry", reason),
        };
        Err(damage.into())
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let Some(piece) = self.ready.next() else {
                match self.advance() {
                    Some(Ok(())) => continue,
                    Some(Err(error)) => {
                        self.done = true;
                        return Some(Err(error));
                    }
                    None if self.left_bytes == 0 => return None,
                    None => return Some(self.fail("the pieces are shorter than the file")),
                }
            };
            let length_bytes = piece.length_bytes();
            if length_bytes == 0 {
                return Some(self.fail("a piece is empty"));
            }
            if matches!(piece, Piece::Data { .. }) && length_bytes > limits::BLOB_BYTES_MAX as u64 {
                return Some(self.fail("a piece is longer than a blob can be"));
            }
            let Some(left_bytes) = self.left_bytes.checked_sub(length_bytes) else {
                return Some(self.fail("the pieces are longer than the file"));
            };
            self.left_bytes = left_bytes;
            return Some(Ok(piece));
        }
        None
    }
}
