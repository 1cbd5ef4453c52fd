//! Walking a tree of the source step by step, beside the tree of an earlier copy.
//!
//! A walk is a row of events that depends on nothing but what it is begun with, and on whether the earlier copy can be read. So two walks
//! of the same tree give the same events: one goes ahead and finds out which blobs are needed, the other follows and writes. Should the
//! earlier copy be readable for one and not for the other, the copy is begun again without it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    iter::Peekable,
};

use crate::{
    blob::ReadBlobs,
    error::{Damage, Result},
    id::BlobId,
    limits,
    tree::{
        content::Pieces,
        directory::DirectoryEntries,
        name::Name,
        node::{Content, Entry, Extension, Node, NodeKind, Piece, Totals},
    },
};

/// Directories of the source, and what they are in the destination.
pub(super) type Trees = HashMap<BlobId, (BlobId, Totals)>;

/// Bytes of a file before and behind a place that are looked through for a piece of it in the earlier copy.
const SPAN_BYTES: u64 = 256 << 20;

/// One step of a walk.
pub(super) enum Event {
    /// A directory begins: its entry (none for the root) and its tree.
    Enter(Option<Entry>, BlobId),
    /// The directory that began last has no more entries.
    Leave,
    /// An entry that is already as it is to be in the destination.
    Known(Entry),
    /// A directory with the same tree as one that was entered earlier.
    Again(Entry, BlobId),
    /// A file whose pieces follow.
    File(Entry),
    /// A piece of the file, and its blob in the destination if the earlier copy has it.
    Piece(Piece, Option<BlobId>),
    /// The file has no more pieces.
    FileEnd,
}

/// An earlier snapshot of the source, and its copy in the destination: root trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) source: BlobId,
    pub(super) copy: BlobId,
}

/// A walk at some place.
pub(super) struct Walk<'a> {
    source: &'a dyn ReadBlobs,
    destination: &'a dyn ReadBlobs,
    known: &'a Trees,
    begun: HashSet<BlobId>,
    levels: Vec<Level<'a>>,
    file: Option<File<'a>>,
    root: Option<(BlobId, Option<Basis>)>,
}

struct Level<'a> {
    entries: DirectoryEntries<'a>,
    beside: Option<Beside<'a>>,
}

struct File<'a> {
    pieces: Pieces<'a>,
    at_bytes: u64,
    beside: Option<PiecesBeside<'a>>,
}

impl<'a> Walk<'a> {
    /// A walk of everything below a root. `known` are directories that need not be entered.
    pub(super) fn new(
        source: &'a dyn ReadBlobs,
        destination: &'a dyn ReadBlobs,
        known: &'a Trees,
        root: BlobId,
        basis: Option<Basis>,
    ) -> Self {
        let root = Some((root, basis));
        Self { source, destination, known, begun: HashSet::new(), levels: Vec::new(), file: None, root }
    }

    /// The next step; nothing at the end.
    ///
    /// # Errors
    /// When something of the source cannot be read, or was made by a newer program. An earlier copy that cannot be read is no help,
    /// and no more.
    pub(super) fn next(&mut self) -> Result<Option<Event>> {
        if let Some((root, basis)) = self.root.take() {
            return self.enter(None, root, basis).map(Some);
        }
        if let Some(file) = &mut self.file {
            let Some(piece) = file.pieces.next() else {
                self.file = None;
                return Ok(Some(Event::FileEnd));
            };
            let piece = piece?;
            let known = match (&piece, &mut file.beside) {
                (Piece::Data { blob, .. }, Some(beside)) => beside.find(file.at_bytes, blob),
                _ => None,
            };
            file.at_bytes += piece.length_bytes();
            return Ok(Some(Event::Piece(piece, known)));
        }
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        let Some(entry) = level.entries.next() else {
            self.levels.pop();
            return Ok(Some(Event::Leave));
        };
        let entry = entry?;
        Extension::check(&entry.node.metadata.extensions, &format_args!("\"{}\"", entry.name))?;
        let beside = level.beside.as_mut().and_then(|beside| beside.find(&entry.name));
        self.entry(entry, beside).map(Some)
    }

    fn entry(&mut self, entry: Entry, beside: Option<(Node, Node)>) -> Result<Event> {
        match &entry.node.kind {
            NodeKind::Directory { tree, totals } => {
                let (tree, totals) = (*tree, *totals);
                let basis = beside.and_then(|pair| directories(&pair));
                if let Some((basis, copied_totals)) = basis
                    && basis.source == tree
                    && copied_totals == totals
                {
                    return Ok(Event::Known(with_kind(entry, NodeKind::Directory { tree: basis.copy, totals })));
                }
                if let Some((tree, totals)) = self.known.get(&tree).copied() {
                    return Ok(Event::Known(with_kind(entry, NodeKind::Directory { tree, totals })));
                }
                if self.begun.contains(&tree) {
                    return Ok(Event::Again(entry, tree));
                }
                self.enter(Some(entry), tree, basis.map(|(basis, _)| basis))
            }
            NodeKind::File { size_bytes, content } if *content != Content::Empty => {
                let size_bytes = *size_bytes;
                let files = beside.and_then(files);
                if let Some((before, copied)) = &files
                    && before == &(content.clone(), size_bytes)
                    && copied.1 == size_bytes
                {
                    let kind = NodeKind::File { size_bytes, content: copied.0.clone() };
                    return Ok(Event::Known(with_kind(entry, kind)));
                }
                let beside =
                    files.map(|(before, copied)| PiecesBeside::new(self.source, self.destination, &before, &copied));
                self.file = Some(File { pieces: Pieces::new(self.source, content, size_bytes), at_bytes: 0, beside });
                Ok(Event::File(entry))
            }
            _ => Ok(Event::Known(entry)),
        }
    }

    fn enter(&mut self, entry: Option<Entry>, tree: BlobId, basis: Option<Basis>) -> Result<Event> {
        if self.levels.len() > limits::TREE_DEPTH_MAX {
            return Err(Damage::new(format_args!("tree blob {tree}"), "directories are nested too deep").into());
        }
        let entries = DirectoryEntries::open(self.source, &tree)?;
        let beside = basis.and_then(|basis| Beside::open(self.source, self.destination, basis).ok());
        self.begun.insert(tree);
        self.levels.push(Level { entries, beside });
        Ok(Event::Enter(entry, tree))
    }
}

fn with_kind(entry: Entry, kind: NodeKind) -> Entry {
    Entry { name: entry.name, node: Node { kind, metadata: entry.node.metadata } }
}

/// Trees of two directories that are the same one, and the sums over the copy.
fn directories((before, copied): &(Node, Node)) -> Option<(Basis, Totals)> {
    match (&before.kind, &copied.kind) {
        (NodeKind::Directory { tree: source, .. }, NodeKind::Directory { tree: copy, totals }) => {
            Some((Basis { source: *source, copy: *copy }, *totals))
        }
        _ => None,
    }
}

type Sized = (Content, u64);

/// Contents of two files that are the same one.
fn files((before, copied): (Node, Node)) -> Option<(Sized, Sized)> {
    match (before.kind, copied.kind) {
        (NodeKind::File { size_bytes, content }, NodeKind::File { size_bytes: copied_bytes, content: copied }) => {
            Some(((content, size_bytes), (copied, copied_bytes)))
        }
        _ => None,
    }
}

/// The same directory in the earlier snapshot and in its copy.
struct Beside<'a> {
    before: Cursor<'a>,
    copied: Cursor<'a>,
}

impl<'a> Beside<'a> {
    fn open(source: &'a dyn ReadBlobs, destination: &'a dyn ReadBlobs, basis: Basis) -> Result<Self> {
        let open = |blobs, tree| DirectoryEntries::open(blobs, tree).map(|entries| Cursor(entries.peekable()));
        Ok(Self { before: open(source, &basis.source)?, copied: open(destination, &basis.copy)? })
    }

    fn find(&mut self, name: &Name) -> Option<(Node, Node)> {
        let before = self.before.find(name);
        let copied = self.copied.find(name);
        before.zip(copied)
    }
}

/// Entries in order, of which some are asked for, in order.
struct Cursor<'a>(Peekable<DirectoryEntries<'a>>);

impl Cursor<'_> {
    fn find(&mut self, name: &Name) -> Option<Node> {
        let is_before = |entry: &Result<Entry>| entry.as_ref().map_or(true, |entry| entry.name < *name);
        while self.0.next_if(is_before).is_some() {}
        let found = self.0.next_if(|entry| entry.as_ref().is_ok_and(|entry| entry.name == *name))?;
        found.ok().map(|entry| entry.node)
    }
}

/// The pieces of a file in the earlier snapshot and in its copy, as far as they are near.
struct PiecesBeside<'a> {
    before: Pieces<'a>,
    copied: Pieces<'a>,
    /// How far they were read.
    at_bytes: u64,
    near: VecDeque<(u64, BlobId)>,
    blobs: HashMap<BlobId, BlobId>,
    ended: bool,
}

impl<'a> PiecesBeside<'a> {
    fn new(source: &'a dyn ReadBlobs, destination: &'a dyn ReadBlobs, before: &Sized, copied: &Sized) -> Self {
        Self {
            before: Pieces::new(source, &before.0, before.1),
            copied: Pieces::new(destination, &copied.0, copied.1),
            at_bytes: 0,
            near: VecDeque::new(),
            blobs: HashMap::new(),
            ended: before.1 != copied.1,
        }
    }

    fn find(&mut self, at_bytes: u64, blob: &BlobId) -> Option<BlobId> {
        while !self.ended && self.at_bytes <= at_bytes.saturating_add(SPAN_BYTES) {
            match (self.before.next(), self.copied.next()) {
                (Some(Ok(before)), Some(Ok(copied))) if before.length_bytes() == copied.length_bytes() => {
                    if let (Piece::Data { blob: before, .. }, Piece::Data { blob: copied, .. }) = (before, copied) {
                        self.near.push_back((self.at_bytes, before));
                        self.blobs.insert(before, copied);
                    }
                    self.at_bytes += before.length_bytes();
                }
                _ => self.ended = true,
            }
        }
        while let Some((_, old)) =
            self.near.pop_front_if(|(begin_bytes, _)| begin_bytes.saturating_add(SPAN_BYTES) < at_bytes)
        {
            self.blobs.remove(&old);
        }
        self.blobs.get(blob).copied()
    }
}
