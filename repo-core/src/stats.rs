//! Stats: how large snapshots are, counted in one of four ways.
//!
//! Every distinct page of the trees is read once, however many directories and snapshots share it. That changes no result: what a page
//! holds has been counted when it was first met, and where copies count, they are multiplied rather than walked.

use std::collections::{HashMap, HashSet};

use crate::{
    blob::{BlobKind, ReadBlobs},
    codec,
    error::{Error, Result},
    id::BlobId,
    progress::{Cancel, Progress},
    snapshot::Snapshot,
    tree::{
        TreeBlob,
        node::{Content, Entry, NodeKind, Piece},
    },
};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// What restoring each of the snapshots would write: everything in each of them, files with several names once in each.
    #[default]
    RestoreSize,
    /// Files with different contents, wherever they are.
    FilesByContents,
    /// For each path, the different data blobs its versions refer to.
    BlobsPerFile,
    /// The different blobs, of files and of trees, as they are stored.
    RawData,
}

/// What was counted. What a mode does not count is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Bytes, by the mode. For [`Mode::RawData`], what the blobs take in packs: of a frame that is used in part, that part.
    pub bytes: u64,
    /// Files and everything else; with [`Mode::RestoreSize`] directories, too.
    pub files: u64,
    /// Blobs.
    pub blobs: u64,
    /// Plain bytes of the blobs, for [`Mode::RawData`].
    pub uncompressed_bytes: u64,
}

impl Stats {
    /// Plain bytes for each stored byte; `None` where nothing was counted.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn compression_ratio(&self) -> Option<f64> {
        (self.bytes > 0 && self.uncompressed_bytes > 0).then(|| self.uncompressed_bytes as f64 / self.bytes as f64)
    }

    /// Percent of the plain bytes that compression saves.
    #[must_use]
    pub fn compression_space_saving(&self) -> Option<f64> {
        Some((1.0 - 1.0 / self.compression_ratio()?) * 100.0)
    }
}

/// Counts over these snapshots. `progress` is told of pages read, as files.
///
/// # Errors
/// When a page of a tree cannot be read: what is not known cannot be counted.
pub fn stats<'a>(
    reader: &dyn ReadBlobs,
    snapshots: impl IntoIterator<Item = &'a Snapshot>,
    mode: Mode,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Stats> {
    let pages = PageReader { reader, progress, cancel };
    let mut stats = Stats::default();
    let mut sizes = Sizes::default();
    let mut once = Once::new(mode);
    for snapshot in snapshots {
        stats.snapshots += 1;
        match mode {
            Mode::RestoreSize => sizes.add(&pages, snapshot.tree, &mut stats)?,
            _ => once.add(&pages, snapshot.tree, &mut stats)?,
        }
    }
    // Parts of frames were summed up in units of 2^-32 byte, rounded once.
    stats.bytes = stats.bytes.saturating_add(u64::try_from(once.stored_parts >> 32).unwrap_or(u64::MAX));
    Ok(stats)
}

struct PageReader<'a> {
    reader: &'a dyn ReadBlobs,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl PageReader<'_> {
    fn read(&self, page: &BlobId) -> Result<TreeBlob> {
        self.cancel.check()?;
        let blob = TreeBlob::read(self.reader, page, &mut Vec::new())?;
        self.progress.done(1, 0);
        Ok(blob)
    }
}

/// Says that a page is of another sort than the one that names it says.
fn wrong_sort(page: &BlobId) -> Error {
    let reason = "a directory's page where a file's piece list must be, or the other way round";
    crate::error::Damage::new(format_args!("tree blob {page}"), reason).into()
}

/// Device and inode: which names are one file.
type LinkKey = (u64, u64);

/// Sizes of directories, each computed once.
#[derive(Default)]
struct Sizes {
    known: HashMap<BlobId, Size>,
}

/// What is below a page of a directory.
#[derive(Clone, Default)]
struct Size {
    /// Everything, directories included.
    entries: u64,
    /// Bytes of files with one name.
    bytes: u64,
    /// Files in it that have several names, with their sizes.
    links: Vec<(LinkKey, u64)>,
    /// Pages below that have such files, or have some below.
    linked_pages: Vec<BlobId>,
}

/// A page whose children are not all known yet.
struct Open {
    page: BlobId,
    size: Size,
    children: Vec<BlobId>,
}

impl Sizes {
    /// Adds one snapshot.
    fn add(&mut self, pages: &PageReader<'_>, root: BlobId, stats: &mut Stats) -> Result<()> {
        self.compute(pages, root)?;
        let Some(size) = self.known.get(&root) else { return Ok(()) };
        stats.files = stats.files.saturating_add(size.entries);
        stats.bytes = stats.bytes.saturating_add(size.bytes);
        // Of a file with several names one counts; each page that has any is looked at once.
        let mut seen = HashSet::from([root]);
        let mut linked = HashMap::new();
        let mut waiting = vec![root];
        while let Some(size) = waiting.pop().and_then(|page| self.known.get(&page)) {
            linked.extend(size.links.iter().copied());
            waiting.extend(size.linked_pages.iter().copied().filter(|page| seen.insert(*page)));
        }
        stats.bytes = linked.values().fold(stats.bytes, |sum, bytes| sum.saturating_add(*bytes));
        Ok(())
    }

    /// Computes the sizes of a page and of all below it, children before parents.
    fn compute(&mut self, pages: &PageReader<'_>, root: BlobId) -> Result<()> {
        let mut stack = Vec::new();
        if !self.known.contains_key(&root) {
            stack.push(open(pages, root)?);
        }
        while let Some(top) = stack.last_mut() {
            let Some(child) = top.children.last().copied() else {
                let Some(Open { page, size, .. }) = stack.pop() else { break };
                self.known.insert(page, size);
                continue;
            };
            // No page can name one that it is below, since names are hashes of what they name.
            let Some(known) = self.known.get(&child) else {
                stack.push(open(pages, child)?);
                continue;
            };
            top.size.entries = top.size.entries.saturating_add(known.entries);
            top.size.bytes = top.size.bytes.saturating_add(known.bytes);
            if !known.links.is_empty() || !known.linked_pages.is_empty() {
                top.size.linked_pages.push(child);
            }
            top.children.pop();
        }
        Ok(())
    }
}

fn open(pages: &PageReader<'_>, page: BlobId) -> Result<Open> {
    let mut open = Open { page, size: Size::default(), children: Vec::new() };
    match pages.read(&page)? {
        TreeBlob::Entries(entries) => {
            for Entry { node, .. } in entries {
                open.size.entries += 1;
                match node.kind {
                    NodeKind::Directory { tree, .. } => open.children.push(tree),
                    NodeKind::File { size_bytes, .. } => match node.metadata.hard_links {
                        Some(links) if links.count > 1 => {
                            open.size.links.push(((links.device, node.metadata.inode), size_bytes));
                        }
                        _ => open.size.bytes = open.size.bytes.saturating_add(size_bytes),
                    },
                    _ => {}
                }
            }
        }
        TreeBlob::EntryPages(children) => open.children.extend(children.iter().map(|child| child.page)),
        TreeBlob::Pieces(_) | TreeBlob::PiecePages(_) => return Err(wrong_sort(&page)),
    }
    Ok(open)
}

/// Counts what is met for the first time.
struct Once {
    mode: Mode,
    /// Pages that were read.
    pages: HashSet<BlobId>,
    /// Contents, blobs, paths, or pairs of path and blob: whatever the mode tells apart.
    seen: HashSet<[u8; 16]>,
    /// Shares of frames that blobs take, in units of 2^-32 byte.
    stored_parts: u128,
}

/// A page to be read, and the path of its directory as a hash.
struct Waiting {
    page: BlobId,
    path: [u8; 32],
}

/// Is told of a blob: its kind, its id, its length.
type Visit<'a> = dyn FnMut(&mut Once, BlobKind, &BlobId, u64) -> Result<()> + 'a;

impl Once {
    fn new(mode: Mode) -> Self {
        Self { mode, pages: HashSet::new(), seen: HashSet::new(), stored_parts: 0 }
    }

    /// Whether something is met for the first time. Half of a BLAKE3 hash tells things apart.
    fn is_new(&mut self, what: u8, parts: &[&[u8]]) -> bool {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[what]);
        for part in parts {
            hasher.update(part);
        }
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        self.seen.insert(key)
    }

    /// Adds one snapshot.
    fn add(&mut self, pages: &PageReader<'_>, root: BlobId, stats: &mut Stats) -> Result<()> {
        let mut stack = vec![Waiting { page: root, path: [0; 32] }];
        while let Some(Waiting { page, path }) = stack.pop() {
            if !self.pages.insert(page) {
                continue;
            }
            self.count_raw(pages, BlobKind::Tree, &page, stats)?;
            let first = stack.len();
            match pages.read(&page)? {
                TreeBlob::Entries(entries) => {
                    for entry in entries {
                        let path = *blake3::keyed_hash(&path, entry.name.as_bytes()).as_bytes();
                        match &entry.node.kind {
                            NodeKind::Directory { tree, .. } => stack.push(Waiting { page: *tree, path }),
                            NodeKind::File { content, size_bytes } => {
                                self.file(pages, content, *size_bytes, &path, stats)?;
                            }
                            _ => {}
                        }
                    }
                }
                TreeBlob::EntryPages(children) => {
                    stack.extend(children.iter().map(|child| Waiting { page: child.page, path }));
                }
                TreeBlob::Pieces(_) | TreeBlob::PiecePages(_) => return Err(wrong_sort(&page)),
            }
            // The first of them is read first.
            if let Some(new) = stack.get_mut(first..) {
                new.reverse();
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        pages: &PageReader<'_>,
        content: &Content,
        size_bytes: u64,
        path: &[u8; 32],
        stats: &mut Stats,
    ) -> Result<()> {
        match self.mode {
            Mode::RestoreSize => Ok(()),
            Mode::RawData => self
                .blobs(pages, content, size_bytes, &mut |once, kind, blob, _| once.count_raw(pages, kind, blob, stats)),
            Mode::FilesByContents => {
                if self.is_new(b'c', &[&codec::encode(content)]) {
                    stats.files += 1;
                    stats.bytes = stats.bytes.saturating_add(size_bytes);
                }
                Ok(())
            }
            Mode::BlobsPerFile => {
                if !self.is_new(b'c', &[&codec::encode(content)]) {
                    return Ok(());
                }
                self.blobs(pages, content, size_bytes, &mut |once, kind, blob, length_bytes| {
                    if kind == BlobKind::Tree {
                        return Ok(());
                    }
                    stats.files += u64::from(once.is_new(b'p', &[path]));
                    if once.is_new(b'b', &[path, &blob.0]) {
                        stats.blobs += 1;
                        stats.bytes = stats.bytes.saturating_add(length_bytes);
                    }
                    Ok(())
                })
            }
        }
    }

    /// Calls `visit` with the data blobs of a file and their lengths, and with the pages of its list. Each page is read once for the
    /// file; for raw data, once in all.
    fn blobs(
        &mut self,
        pages: &PageReader<'_>,
        content: &Content,
        size_bytes: u64,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let visit_pieces = |once: &mut Self, pieces: &[Piece], visit: &mut Visit<'_>| {
            pieces.iter().try_for_each(|piece| match piece {
                Piece::Data { blob, length_bytes } => visit(once, BlobKind::Data, blob, u64::from(*length_bytes)),
                Piece::Hole { .. } => Ok(()),
            })
        };
        let root = match content {
            Content::Empty => return Ok(()),
            Content::Blob(blob) => {
                let length_bytes = u32::try_from(size_bytes).unwrap_or(u32::MAX);
                return visit_pieces(self, &[Piece::Data { blob: *blob, length_bytes }], visit);
            }
            Content::Pieces(pieces) => return visit_pieces(self, pieces, visit),
            Content::List(root) => *root,
        };
        let mut of_this_file = HashSet::new();
        let mut stack = vec![root];
        while let Some(page) = stack.pop() {
            let is_raw = self.mode == Mode::RawData;
            let is_new = if is_raw { self.pages.insert(page) } else { of_this_file.insert(page) };
            if !is_new {
                continue;
            }
            visit(self, BlobKind::Tree, &page, 0)?;
            match pages.read(&page)? {
                TreeBlob::Pieces(pieces) => visit_pieces(self, &pieces, visit)?,
                TreeBlob::PiecePages(children) => stack.extend(children.iter().map(|child| child.page)),
                TreeBlob::Entries(_) | TreeBlob::EntryPages(_) => return Err(wrong_sort(&page)),
            }
        }
        Ok(())
    }

    /// Counts a blob as it is stored, if that is what is counted.
    fn count_raw(&mut self, pages: &PageReader<'_>, kind: BlobKind, id: &BlobId, stats: &mut Stats) -> Result<()> {
        let is_tree = u8::from(kind == BlobKind::Tree);
        if self.mode != Mode::RawData || !self.is_new(is_tree, &[&id.0]) {
            return Ok(());
        }
        let location = pages.reader.locate(kind, id)?.ok_or(Error::MissingBlob { kind, id: *id })?;
        let (stored, plain) = (u128::from(location.frame.stored_bytes), u128::from(location.frame.plain_bytes));
        self.stored_parts += (stored << 32) * u128::from(location.length_bytes) / plain.max(1);
        stats.blobs += 1;
        stats.uncompressed_bytes = stats.uncompressed_bytes.saturating_add(location.length_bytes.into());
        Ok(())
    }
}
