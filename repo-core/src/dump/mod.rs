//! Dump: a file's bytes, or a directory as a tar archive, into any output.
//!
//! A failure in the middle never looks like an end: it is returned, and an archive then has no end marker.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
};

use crate::{
    blob::ReadBlobs,
    error::{Error, Result},
    id::BlobId,
    progress::{Cancel, Problem, Progress},
    tree::{
        content::Pieces,
        node::{Content, Extension, Metadata, Node, NodeKind, Piece, Totals},
        walk::{Descend, Visit, walk},
    },
};

mod stream;
mod tar;

use stream::{Stream, with_stream};
use tar::{END_BLOCKS, Names, header, padding};

/// How a directory is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// POSIX.1-2001 tar (pax), as GNU tar, bsdtar and Python read it.
    #[default]
    Tar,
}

/// A directory to be dumped.
pub struct TreeDump<'a> {
    /// Root page of its entries.
    pub tree: BlobId,
    /// Path that all names in the archive begin with, without a slash at either end; empty for none.
    pub prefix: &'a [u8],
    /// What the directory itself is; with it, it comes as the first entry (`./` without a prefix).
    pub root: Option<&'a Metadata>,
    /// Names of users, by number.
    pub users: &'a BTreeMap<u32, String>,
    /// Names of groups, by number.
    pub groups: &'a BTreeMap<u32, String>,
}

/// What was dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DumpReport {
    /// Entries in the archive, or 1 for a file.
    pub entries: u64,
    /// Entries that were left out, since the format cannot hold them (sockets) or a newer program made them; each was told to the
    /// progress.
    pub left_out: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// Writes a file's content; holes as zeros.
///
/// # Errors
/// When it is no regular file, a part of it cannot be read, the output fails, or a stop was asked for. What was written before is the
/// beginning of the file.
pub fn dump_file(reader: &dyn ReadBlobs, node: &Node, out: &mut dyn Write, cancel: &Cancel) -> Result<DumpReport> {
    let NodeKind::File { size_bytes, content } = &node.kind else {
        return Err(Error::Invalid("only the content of regular files can be dumped".into()));
    };
    Extension::check(&node.metadata.extensions, &"the file")?;
    let bytes = with_stream(reader, out, cancel, |stream| pour(reader, stream, content, *size_bytes, cancel))?;
    Ok(DumpReport { entries: 1, left_out: 0, bytes })
}

/// Writes a directory with all that is below it as an archive.
///
/// # Errors
/// As [`dump_file`], and when a directory cannot be read. The archive then lacks its end marker, and what is in it so far is right.
pub fn dump_tree(
    reader: &dyn ReadBlobs,
    dump: &TreeDump<'_>,
    format: Format,
    out: &mut dyn Write,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<DumpReport> {
    let Format::Tar = format;
    let mut archive = Archive { reader, dump, progress, cancel, links: HashMap::new(), entries: 0, left_out: 0 };
    let bytes = with_stream(reader, out, cancel, |stream| {
        archive.root(stream)?;
        walk(reader, &dump.tree, &mut |path, visit| {
            cancel.check()?;
            match visit {
                Visit::Entry(entry) => archive.entry(stream, path, &entry.node),
                Visit::Leave(_) => Ok(Descend::Into),
                Visit::Unreadable(error) => Err(error),
            }
        })?;
        stream.bytes(vec![0; END_BLOCKS])
    })?;
    Ok(DumpReport { entries: archive.entries, left_out: archive.left_out, bytes })
}

/// Pours a file's content.
fn pour(
    reader: &dyn ReadBlobs,
    stream: &mut Stream<'_>,
    content: &Content,
    size_bytes: u64,
    cancel: &Cancel,
) -> Result<()> {
    for piece in Pieces::new(reader, content, size_bytes) {
        cancel.check()?;
        match piece? {
            Piece::Data { blob, length_bytes } => stream.blob(blob, length_bytes)?,
            Piece::Hole { length_bytes } => stream.zeros(length_bytes)?,
        }
    }
    Ok(())
}

/// A file with several names: the first of them, and how many are still to come.
struct Link {
    path: Vec<u8>,
    kind: NodeKind,
    names_left: u64,
}

struct Archive<'a> {
    reader: &'a dyn ReadBlobs,
    dump: &'a TreeDump<'a>,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// By device and inode.
    links: HashMap<(u64, u64), Link>,
    entries: u64,
    left_out: u64,
}

impl Archive<'_> {
    fn names(&self, metadata: &Metadata) -> Names<'_> {
        Names {
            user: self.dump.users.get(&metadata.user).map(String::as_str),
            group: self.dump.groups.get(&metadata.group).map(String::as_str),
        }
    }

    fn root(&mut self, stream: &mut Stream<'_>) -> Result<()> {
        let Some(metadata) = self.dump.root else { return Ok(()) };
        let path = if self.dump.prefix.is_empty() { b"." } else { self.dump.prefix };
        // Which tree it is makes no difference in an archive.
        let kind = NodeKind::Directory { tree: self.dump.tree, totals: Totals::default() };
        stream.bytes(header(path, &kind, metadata, self.names(metadata), None))?;
        self.entries += 1;
        Ok(())
    }

    /// Writes an entry. What an archive cannot hold, and what this program does not know how to read, is told of and left out.
    fn entry(&mut self, stream: &mut Stream<'_>, path_below: &[u8], node: &Node) -> Result<Descend> {
        let path = match self.dump.prefix {
            [] => path_below.to_vec(),
            prefix => [prefix, b"/", path_below].concat(),
        };
        self.progress.current(&path);
        if let Err(newer) = Extension::check(&node.metadata.extensions, &"it") {
            self.leave_out(path, newer.to_string());
            return Ok(Descend::Past);
        }
        if matches!(node.kind, NodeKind::Socket) {
            self.leave_out(path, "it is a socket, which an archive cannot hold; it was left out".into());
            return Ok(Descend::Past);
        }
        let first = self.first_name(&path, node);
        let metadata = &node.metadata;
        stream.bytes(header(&path, &node.kind, metadata, self.names(metadata), first.as_deref()))?;
        self.entries += 1;
        let mut size = 0;
        if let NodeKind::File { size_bytes, content } = &node.kind
            && first.is_none()
        {
            size = *size_bytes;
            pour(self.reader, stream, content, size, self.cancel)?;
            stream.bytes(vec![0; padding(size)])?;
        }
        self.progress.done(1, size);
        Ok(Descend::Into)
    }

    fn leave_out(&mut self, path: Vec<u8>, message: String) {
        self.left_out += 1;
        self.progress.problem(&Problem { path, during: "dump", message });
    }

    /// The name under which the same file is in the archive already.
    fn first_name(&mut self, path: &[u8], node: &Node) -> Option<Vec<u8>> {
        let links = node.metadata.hard_links?;
        if matches!(node.kind, NodeKind::Directory { .. }) {
            return None;
        }
        let key = (links.device, node.metadata.inode);
        match self.links.get_mut(&key) {
            // Numbers that are used again for another file must not make them one.
            Some(link) if link.kind == node.kind => {
                let first = link.path.clone();
                link.names_left = link.names_left.saturating_sub(1);
                if link.names_left == 0 {
                    self.links.remove(&key);
                }
                Some(first)
            }
            Some(_) => None,
            None => {
                if links.count > 1 {
                    let link = Link { path: path.to_vec(), kind: node.kind.clone(), names_left: links.count - 1 };
                    self.links.insert(key, link);
                }
                None
            }
        }
    }
}
