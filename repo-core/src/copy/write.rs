//! Writing a tree of the source anew, with the destination's names.

use crate::{
    blob::WriteBlobs,
    copy::{
        data::Names,
        walk::{Event, Trees},
    },
    error::{Damage, Error, Result},
    id::BlobId,
    tree::{
        content::ContentWriter,
        directory::DirectoryWriter,
        node::{Entry, NodeKind, Piece, Totals},
    },
};

/// Takes the events of a walk and writes what they tell of.
pub(super) struct TreeWriter<'a> {
    into: &'a dyn WriteBlobs,
    levels: Vec<(Option<Entry>, BlobId, DirectoryWriter)>,
    file: Option<(Entry, ContentWriter)>,
    trees: Trees,
    root: Option<(BlobId, Totals)>,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn new(into: &'a dyn WriteBlobs) -> Self {
        Self { into, levels: Vec::new(), file: None, trees: Trees::new(), root: None }
    }

    /// Takes one event. `names` has the blobs of all pieces that are not known.
    pub(super) fn take(&mut self, event: Event, names: &Names) -> Result<()> {
        match event {
            Event::Enter(entry, tree) => self.levels.push((entry, tree, DirectoryWriter::default())),
            Event::Leave => return self.leave(),
            Event::Known(entry) => return self.push(&entry),
            Event::Again(mut entry, tree) => {
                let Some((tree, totals)) = self.trees.get(&tree).copied() else {
                    // It is entered and not left: a directory that holds itself.
                    return Err(Damage::new(format_args!("tree blob {tree}"), "it is in itself").into());
                };
                entry.node.kind = NodeKind::Directory { tree, totals };
                return self.push(&entry);
            }
            Event::File(entry) => self.file = Some((entry, ContentWriter::default())),
            Event::Piece(piece, known) => {
                let Some((_, content)) = &mut self.file else { return Ok(()) };
                let piece = match piece {
                    Piece::Data { blob, length_bytes } => {
                        let new = known.or_else(|| names.get(&blob).copied()).ok_or(Error::Poisoned)?;
                        Piece::Data { blob: new, length_bytes }
                    }
                    hole @ Piece::Hole { .. } => hole,
                };
                content.push(piece, self.into)?;
            }
            Event::FileEnd => {
                let Some((mut entry, content)) = self.file.take() else { return Ok(()) };
                let (content, size_bytes) = content.finish(self.into)?;
                entry.node.kind = NodeKind::File { size_bytes, content };
                return self.push(&entry);
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: &Entry) -> Result<()> {
        match self.levels.last_mut() {
            Some((_, _, writer)) => writer.push(entry, self.into),
            None => Ok(()),
        }
    }

    fn leave(&mut self) -> Result<()> {
        let Some((entry, tree, writer)) = self.levels.pop() else { return Ok(()) };
        let written = writer.finish(self.into)?;
        self.trees.insert(tree, written);
        let Some(mut entry) = entry else {
            self.root = Some(written);
            return Ok(());
        };
        entry.node.kind = NodeKind::Directory { tree: written.0, totals: written.1 };
        self.push(&entry)
    }

    /// The root with its sums, and all directories that were written.
    pub(super) fn finish(self) -> Result<((BlobId, Totals), Trees)> {
        Ok((self.root.ok_or(Error::Poisoned)?, self.trees))
    }
}
