//! Whom damage hurts: the paths, in the snapshots, that cannot be restored whole. Looked for only when something is lost.
//!
//! First every page of the trees is given the number of paths below it that suffer, each page once; then the snapshots are walked,
//! and only where that number is not zero.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    blob::BlobKind,
    check::{
        Context,
        finding::{FindingNumber, SnapshotPath, Suffering},
        losses::Losses,
        objects::{Snapshots, concerns_one_object},
    },
    error::Result,
    id::{BlobId, SnapshotId},
    repository::reader::BlobReader,
    tree::{
        TreeBlob,
        node::{Content, Entry, NodeKind, Piece},
    },
};

/// Paths that are listed for each finding.
const PATHS_MAX: usize = 100;

/// Paths that are visited in all before the search ends; with more than that hurt, a list is of no use.
const VISITS_MAX: u64 = 1 << 20;

/// Walks the snapshots and writes into each finding whom it hurts.
pub(super) fn find(context: &Context<'_>, reader: &BlobReader, snapshots: &Snapshots, losses: &Losses) -> Result<()> {
    let mut search = Search { reader, losses, counts: HashMap::new(), visits: 0, found: BTreeMap::new() };
    for (id, snapshot) in snapshots {
        context.cancel.check()?;
        search.count(snapshot.tree)?;
        search.visit(*id, snapshot.tree)?;
    }
    let at_least = search.visits >= VISITS_MAX;
    for (finding, Paths { first, total }) in search.found {
        context.findings.update(finding, |finding| finding.suffering = Suffering { paths: first, total, at_least });
    }
    Ok(())
}

/// Paths that suffer from one finding.
#[derive(Default)]
struct Paths {
    first: Vec<SnapshotPath>,
    total: u64,
}

struct Search<'a> {
    reader: &'a BlobReader,
    losses: &'a Losses,
    /// Paths that suffer, by page. For a page of a piece list, 1 if the file does.
    counts: HashMap<BlobId, u64>,
    visits: u64,
    found: BTreeMap<FindingNumber, Paths>,
}

/// A page whose children are being counted.
struct Counting {
    page: BlobId,
    /// The children that are not counted yet.
    children: Vec<BlobId>,
    count: u64,
    most: u64,
}

/// What is to be visited next in a directory.
enum Step {
    /// A page of it.
    Page(BlobId),
    /// An entry.
    Entry(Entry),
}

impl Search<'_> {
    /// A page, or nothing if it cannot be read.
    fn read(&self, page: &BlobId) -> Result<Option<TreeBlob>> {
        match TreeBlob::read(self.reader, page, &mut Vec::new()) {
            Ok(blob) => Ok(Some(blob)),
            Err(error) if concerns_one_object(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn cause(&self, kind: BlobKind, blob: &BlobId) -> Option<FindingNumber> {
        self.losses.cause(self.reader.index(), kind, blob)
    }

    fn piece_cause(&self, piece: &Piece) -> Option<FindingNumber> {
        match piece {
            Piece::Data { blob, .. } => self.cause(BlobKind::Data, blob),
            Piece::Hole { .. } => None,
        }
    }

    fn suffers(&self, page: &BlobId) -> bool {
        self.counts.get(page).is_some_and(|count| *count > 0)
    }

    /// Counts what suffers below a page, each page once, children before parents.
    fn count(&mut self, root: BlobId) -> Result<()> {
        let mut stack = Vec::new();
        if !self.counts.contains_key(&root) {
            stack.push(self.begin(root)?);
        }
        while let Some(top) = stack.last_mut() {
            let Some(child) = top.children.last().copied() else {
                let Some(Counting { page, count, most, .. }) = stack.pop() else { break };
                self.counts.insert(page, count.min(most));
                continue;
            };
            if let Some(count) = self.counts.get(&child) {
                top.count = top.count.saturating_add(*count);
                top.children.pop();
            } else {
                // No page can name one that it is below, since names are hashes of what they name.
                let counting = self.begin(child)?;
                stack.push(counting);
            }
        }
        Ok(())
    }

    fn begin(&self, page: BlobId) -> Result<Counting> {
        let own = u64::from(self.cause(BlobKind::Tree, &page).is_some());
        let mut counting = Counting { page, children: Vec::new(), count: own, most: u64::MAX };
        match self.read(&page)? {
            None => counting.count = 1,
            Some(TreeBlob::Entries(entries)) => {
                for entry in &entries {
                    self.begin_entry(entry, &mut counting);
                }
            }
            Some(TreeBlob::EntryPages(pages)) => counting.children.extend(pages.iter().map(|page| page.page)),
            Some(TreeBlob::Pieces(pieces)) => {
                counting.most = 1;
                counting.count += u64::from(pieces.iter().any(|piece| self.piece_cause(piece).is_some()));
            }
            Some(TreeBlob::PiecePages(pages)) => {
                counting.most = 1;
                counting.children.extend(pages.iter().map(|page| page.page));
            }
        }
        Ok(counting)
    }

    fn begin_entry(&self, entry: &Entry, counting: &mut Counting) {
        let lost = match &entry.node.kind {
            NodeKind::Directory { tree, .. } => {
                counting.children.push(*tree);
                false
            }
            NodeKind::File { content: Content::List(list), .. } => {
                counting.children.push(*list);
                false
            }
            NodeKind::File { content: Content::Blob(blob), .. } => self.cause(BlobKind::Data, blob).is_some(),
            NodeKind::File { content: Content::Pieces(pieces), .. } => {
                pieces.iter().any(|piece| self.piece_cause(piece).is_some())
            }
            _ => false,
        };
        counting.count = counting.count.saturating_add(u64::from(lost));
    }

    /// Walks one snapshot where something suffers.
    fn visit(&mut self, snapshot: SnapshotId, root: BlobId) -> Result<()> {
        let mut path = Vec::new();
        // Steps still to be taken in each directory, and the length of its path.
        let mut stack = vec![(vec![Step::Page(root)].into_iter(), 0)];
        while let Some((steps, path_bytes)) = stack.last_mut() {
            path.truncate(*path_bytes);
            let path_bytes = *path_bytes;
            let Some(step) = steps.next() else {
                stack.pop();
                continue;
            };
            match step {
                Step::Page(page) if self.suffers(&page) => {
                    self.visits += 1;
                    if self.visits >= VISITS_MAX {
                        return Ok(());
                    }
                    if let Some(finding) = self.cause(BlobKind::Tree, &page) {
                        self.hit(finding, snapshot, &path);
                    }
                    let steps: Vec<_> = match self.read(&page)? {
                        Some(TreeBlob::Entries(entries)) => entries.into_iter().map(Step::Entry).collect(),
                        Some(TreeBlob::EntryPages(pages)) => {
                            pages.into_iter().map(|page| Step::Page(page.page)).collect()
                        }
                        _ => Vec::new(),
                    };
                    stack.push((steps.into_iter(), path_bytes));
                }
                Step::Page(_) => {}
                Step::Entry(entry) => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(entry.name.as_bytes());
                    match &entry.node.kind {
                        NodeKind::Directory { tree, .. } => {
                            stack.push((vec![Step::Page(*tree)].into_iter(), path.len()));
                        }
                        NodeKind::File { content, .. } => {
                            for finding in self.file_causes(content)? {
                                self.hit(finding, snapshot, &path);
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// All findings that a file suffers from.
    fn file_causes(&mut self, content: &Content) -> Result<BTreeSet<FindingNumber>> {
        let mut causes = BTreeSet::new();
        match content {
            Content::Empty => {}
            Content::Blob(blob) => causes.extend(self.cause(BlobKind::Data, blob)),
            Content::Pieces(pieces) => causes.extend(pieces.iter().filter_map(|piece| self.piece_cause(piece))),
            Content::List(root) => {
                let mut seen = HashSet::from([*root]);
                let mut pages = vec![*root];
                while let Some(page) = pages.pop() {
                    self.visits += 1;
                    if !self.suffers(&page) || self.visits >= VISITS_MAX {
                        continue;
                    }
                    causes.extend(self.cause(BlobKind::Tree, &page));
                    match self.read(&page)? {
                        Some(TreeBlob::Pieces(pieces)) => {
                            causes.extend(pieces.iter().filter_map(|piece| self.piece_cause(piece)));
                        }
                        Some(TreeBlob::PiecePages(children)) => {
                            pages.extend(children.iter().map(|child| child.page).filter(|child| seen.insert(*child)));
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(causes)
    }

    fn hit(&mut self, finding: FindingNumber, snapshot: SnapshotId, path: &[u8]) {
        let paths = self.found.entry(finding).or_default();
        paths.total += 1;
        if paths.first.len() < PATHS_MAX {
            paths.first.push(SnapshotPath { snapshot, path: path.to_vec() });
        }
    }
}
