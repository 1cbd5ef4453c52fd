//! Deciding that an entry is as it was in the parent snapshot, and taking its content again.

use crate::{
    backup::{
        assembly::OpenDirectory,
        earlier::Before,
        engine::Engine,
        metadata::{hard_links, metadata, must_be_read_again},
    },
    blob::BlobKind,
    error::Result,
    id::BlobId,
    progress::Outcome,
    source::{FileType, Stat},
    tree::{
        TreeBlob,
        name::Name,
        node::{Content, Metadata, Node, NodeKind, Piece},
    },
};

impl Engine<'_> {
    /// The node of a file that need not be read again: as it was in the parent snapshot, or in one that was not finished, with all its
    /// blobs still there. What it is next to the parent comes with it.
    pub(super) fn unchanged_file(
        &self,
        directory: &OpenDirectory,
        name: &Name,
        stat: &Stat,
        before: &Before,
    ) -> Option<(Node, Outcome)> {
        let unchanged = |node| self.unchanged_since(directory, name, stat, node);
        if let Some(node) = before.parent.as_ref().and_then(unchanged) {
            return Some((node, Outcome::Unchanged));
        }
        let node = before.unfinished.iter().find_map(unchanged)?;
        Some((node, if before.parent.is_some() { Outcome::Changed } else { Outcome::New }))
    }

    fn unchanged_since(&self, directory: &OpenDirectory, name: &Name, stat: &Stat, before: &Node) -> Option<Node> {
        let NodeKind::File { size_bytes, content } = &before.kind else { return None };
        // What has neither a length nor an inode is a stream, of which nothing is known before it is read.
        let is_stream = stat.size_bytes == 0 && stat.inode == 0;
        let same = !is_stream && *size_bytes == stat.size_bytes && self.same_times(stat, &before.metadata);
        if !same || !self.need_content(content).unwrap_or(false) {
            return None;
        }
        let metadata = if stat.changed == before.metadata.changed {
            self.metadata_again(stat, &before.metadata)
        } else {
            // Not the content, but something about the file may have changed.
            let (stat, xattrs) = directory.source.file(name, stat).and_then(|mut file| file.finish()).ok()?;
            metadata(&stat, xattrs, self.options.with_atime)
        };
        Some(Node { kind: before.kind.clone(), metadata })
    }

    /// Whether a link, device, pipe or socket is as it was.
    pub(super) fn same_special(&self, stat: &Stat, before: &Node) -> bool {
        let same_kind = match &before.kind {
            NodeKind::Symlink { .. } => stat.file_type == FileType::Symlink,
            NodeKind::BlockDevice { device } => stat.file_type == FileType::BlockDevice && *device == stat.special,
            NodeKind::CharacterDevice { device } => {
                stat.file_type == FileType::CharacterDevice && *device == stat.special
            }
            NodeKind::Fifo => stat.file_type == FileType::Fifo,
            NodeKind::Socket => stat.file_type == FileType::Socket,
            NodeKind::File { .. } | NodeKind::Directory { .. } => false,
        };
        same_kind
            && stat.changed == before.metadata.changed
            && self.same_times(stat, &before.metadata)
            && self.metadata_again(stat, &before.metadata) == before.metadata
    }

    fn same_times(&self, stat: &Stat, before: &Metadata) -> bool {
        !must_be_read_again(before)
            && stat.modified == before.modified
            && (self.options.ignore_ctime || stat.changed == before.changed)
            && (self.options.ignore_inode || stat.inode == before.inode)
    }

    /// Metadata of an entry whose inode has not changed since: its extended attributes are what they were.
    fn metadata_again(&self, stat: &Stat, before: &Metadata) -> Metadata {
        Metadata { hard_links: hard_links(stat), ..metadata(stat, before.xattrs.clone(), self.options.with_atime) }
    }

    /// Says that a content is needed again; whether all of it is there.
    fn need_content(&self, content: &Content) -> Result<bool> {
        match content {
            Content::Empty => Ok(true),
            Content::Blob(blob) => Ok(self.session.need(BlobKind::Data, blob)),
            Content::Pieces(pieces) => Ok(self.need_pieces(pieces)),
            Content::List(root) => self.need_list(root),
        }
    }

    fn need_pieces(&self, pieces: &[Piece]) -> bool {
        pieces.iter().all(|piece| match piece {
            Piece::Data { blob, .. } => self.session.need(BlobKind::Data, blob),
            Piece::Hole { .. } => true,
        })
    }

    fn need_list(&self, root: &BlobId) -> Result<bool> {
        let mut scratch = Vec::new();
        let mut pages = vec![*root];
        while let Some(page) = pages.pop() {
            if !self.session.need(BlobKind::Tree, &page) {
                return Ok(false);
            }
            match TreeBlob::read(self.reader, &page, &mut scratch)? {
                TreeBlob::Pieces(pieces) => {
                    if !self.need_pieces(&pieces) {
                        return Ok(false);
                    }
                }
                TreeBlob::PiecePages(below) => pages.extend(below.iter().map(|below| below.page)),
                TreeBlob::Entries(_) | TreeBlob::EntryPages(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}
