//! Writing and reading the entries of one directory.

use crate::{
    blob::{ReadBlobs, WriteBlobs},
    error::{Error, Result},
    id::BlobId,
    limits,
    tree::{
        TreeBlob,
        name::Name,
        node::{Entry, Node, Totals},
        page::{EntryPage, PageWriter, damaged},
    },
};

/// Takes a directory's entries in order and stores them. A clone can be finished for what the directory is so far.
#[derive(Clone)]
pub struct DirectoryWriter {
    pages: PageWriter<Entry>,
    totals: Totals,
    last: Option<Name>,
}

impl Default for DirectoryWriter {
    fn default() -> Self {
        Self { pages: PageWriter::new(), totals: Totals::default(), last: None }
    }
}

impl DirectoryWriter {
    /// Adds an entry; its name must be greater than the last one's.
    ///
    /// # Errors
    /// When storing a full page fails, or the order is wrong (a bug in the source).
    pub fn push(&mut self, entry: &Entry, blobs: &dyn WriteBlobs) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| *last >= entry.name) {
            return Err(Error::Invalid(format!("the source gave \"{}\" out of order", entry.name)));
        }
        self.totals.add(Totals::of(&entry.node));
        self.pages.push(entry, blobs)?;
        self.last = Some(entry.name.clone());
        Ok(())
    }

    /// Stores what is left and returns the directory's root page and its totals.
    ///
    /// # Errors
    /// When storing fails.
    pub fn finish(self, blobs: &dyn WriteBlobs) -> Result<(BlobId, Totals)> {
        Ok((self.pages.finish(blobs)?, self.totals))
    }
}

/// The entries of a directory in order, read page by page.
///
/// A page that cannot be read gives one error; the entries of the pages after it still follow.
pub struct DirectoryEntries<'a> {
    blobs: &'a dyn ReadBlobs,
    /// The names that are asked for, sorted; all if there is nothing.
    names: Option<Box<[Name]>>,
    entries: std::vec::IntoIter<Entry>,
    /// The pages still to come, innermost level last.
    pages: Vec<std::vec::IntoIter<EntryPage>>,
    last: Option<Name>,
    page: BlobId,
    /// Parts that could not be read.
    failures: usize,
    scratch: Vec<u8>,
}

/// Most parts of one directory that may be unreadable before the rest is given up: pages made to deceive could otherwise name each
/// other without end.
const FAILURES_MAX: usize = 10_000;

impl<'a> DirectoryEntries<'a> {
    /// Reads a directory's root page.
    ///
    /// # Errors
    /// When the root page cannot be read; nothing of the directory is known then.
    pub fn open(blobs: &'a dyn ReadBlobs, tree: &BlobId) -> Result<Self> {
        Self::open_some(blobs, tree, None)
    }

    /// [`Self::open`] for the entries that have one of these names. Pages without any of them are not read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_some(blobs: &'a dyn ReadBlobs, tree: &BlobId, mut names: Option<Vec<Name>>) -> Result<Self> {
        if let Some(names) = &mut names {
            names.sort_unstable();
        }
        let mut entries = Self {
            blobs,
            names: names.map(Vec::into_boxed_slice),
            entries: Vec::new().into_iter(),
            pages: Vec::new(),
            last: None,
            page: *tree,
            failures: 0,
            scratch: Vec::new(),
        };
        entries.load(tree, None)?;
        Ok(entries)
    }

    fn load(&mut self, page: &BlobId, first: Option<&Name>) -> Result<()> {
        let blob = TreeBlob::read(self.blobs, page, &mut self.scratch)?;
        self.page = *page;
        let begins = match &blob {
            TreeBlob::Entries(entries) => entries.first().map(|entry| &entry.name),
            TreeBlob::EntryPages(pages) => pages.first().map(|page| &page.first),
            TreeBlob::Pieces(_) | TreeBlob::PiecePages(_) => {
                return Err(damaged(page, "a file's piece list where a directory must be").into());
            }
        };
        if first.is_some() && begins != first {
            return Err(damaged(page, "does not begin with the name its parent page says").into());
        }
        match blob {
            TreeBlob::EntryPages(pages) => {
                if pages.is_empty() || self.pages.len() >= usize::from(limits::PAGE_LEVELS_MAX) {
                    return Err(damaged(page, "an empty page of pages, or too many levels").into());
                }
                self.pages.push(pages.into_iter());
            }
            TreeBlob::Entries(entries) => self.entries = entries.into_iter(),
            TreeBlob::Pieces(_) | TreeBlob::PiecePages(_) => {}
        }
        Ok(())
    }

    /// Goes on to the next page; whether there was one.
    fn advance(&mut self) -> Option<Result<()>> {
        loop {
            match self.pages.last_mut()?.next() {
                Some(page) if self.last.as_ref().is_some_and(|last| *last >= page.first) => {
                    let reason = format!("a page before \"{}\" is out of order or there twice", page.first);
                    return Some(Err(damaged(&self.page, reason).into()));
                }
                Some(page) if !self.may_hold_names(&page) => {}
                Some(page) => return Some(self.load(&page.page, Some(&page.first))),
                None => {
                    self.pages.pop();
                }
            }
        }
    }

    /// Whether names that are asked for may be in the page that was taken last: between its first one and that of the page behind it.
    fn may_hold_names(&self, page: &EntryPage) -> bool {
        let Some(names) = &self.names else { return true };
        let behind = self.pages.iter().rev().find_map(|pages| pages.as_slice().first());
        let next = names.get(names.partition_point(|name| *name < page.first));
        next.is_some_and(|name| behind.is_none_or(|behind| *name < behind.first))
    }
}

impl Iterator for DirectoryEntries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(entry) = self.entries.next() else {
                match self.advance()? {
                    Ok(()) => continue,
                    Err(error) => {
                        self.failures += 1;
                        if self.failures >= FAILURES_MAX {
                            self.pages.clear();
                        }
                        return Some(Err(error));
                    }
                }
            };
            if self.last.as_ref().is_some_and(|last| *last >= entry.name) {
                let reason = format!("entry \"{}\" is out of order or there twice", entry.name);
                self.entries = Vec::new().into_iter();
                return Some(Err(damaged(&self.page, reason).into()));
            }
            self.last = Some(entry.name.clone());
            if self.names.as_ref().is_none_or(|names| names.binary_search(&entry.name).is_ok()) {
                return Some(Ok(entry));
            }
        }
    }
}

/// Finds one entry of a directory, reading one page a level.
///
/// # Errors
/// When a page on the way cannot be read.
pub fn find(blobs: &dyn ReadBlobs, tree: &BlobId, name: &Name) -> Result<Option<Node>> {
    let mut page = *tree;
    let mut scratch = Vec::new();
    for _ in 0..=limits::PAGE_LEVELS_MAX {
        match TreeBlob::read(blobs, &page, &mut scratch)? {
            TreeBlob::Entries(mut entries) => {
                let found = entries.binary_search_by(|entry| entry.name.cmp(name));
                return Ok(found.ok().map(|position| entries.swap_remove(position).node));
            }
            TreeBlob::EntryPages(pages) => {
                let behind = pages.partition_point(|page| page.first <= *name);
                match behind.checked_sub(1).and_then(|position| pages.get(position)) {
                    Some(next) => page = next.page,
                    None => return Ok(None),
                }
            }
            TreeBlob::Pieces(_) | TreeBlob::PiecePages(_) => {
                return Err(damaged(&page, "a file's piece list where a directory must be").into());
            }
        }
    }
    Err(damaged(tree, "too many levels of pages").into())
}
