//! Checking one page of a directory or a piece list: what it says by itself, and what it says of others.

use crate::{
    id::BlobId,
    limits,
    tree::{
        EntryPage, PiecePage, TreeBlob,
        name::Name,
        node::{Content, Entry, Extension, NodeKind, Piece, Totals},
    },
};

/// What a tree blob is a page of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    /// A directory.
    Directory,
    /// A piece list.
    Pieces,
}

/// What one page says of another.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) page: BlobId,
    pub(super) family: Family,
    /// Sums over the page's entries; for a piece list `bytes` only.
    pub(super) totals: Totals,
    /// Name of its first entry; said of the pages of a directory below its root page.
    pub(super) first: Option<Name>,
    /// A name that all its entries come before.
    pub(super) bound: Option<Name>,
    /// Whether it is a directory of its own, rather than a further page of the one that names it.
    pub(super) is_directory: bool,
}

/// A data blob that a file needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) blob: BlobId,
    pub(super) length_bytes: u64,
}

/// What a page is found to be.
#[derive(Debug)]
pub(super) struct Facts {
    /// Sums over it, by what it says.
    pub(super) totals: Totals,
    /// Name of its first entry.
    pub(super) first: Option<Name>,
    /// Name of its last entry, for a page of entries.
    pub(super) last: Option<Name>,
    /// Whether it lists pages.
    pub(super) lists_pages: bool,
    /// Other pages it names, in order.
    pub(super) references: Vec<Reference>,
    /// Data blobs it names.
    pub(super) needs: Vec<Need>,
    /// What is wrong with it, in words.
    pub(super) problems: Vec<String>,
    /// The first entry that only a newer program understands, in words.
    pub(super) newer: Option<String>,
}

impl Facts {
    /// Looks at a page.
    pub(super) fn of(page: &TreeBlob) -> (Family, Self) {
        let mut facts = Self {
            totals: Totals::default(),
            first: None,
            last: None,
            lists_pages: false,
            references: Vec::new(),
            needs: Vec::new(),
            problems: Vec::new(),
            newer: None,
        };
        let family = match page {
            TreeBlob::Entries(entries) => {
                facts.entries(entries);
                Family::Directory
            }
            TreeBlob::EntryPages(pages) => {
                facts.entry_pages(pages);
                Family::Directory
            }
            TreeBlob::Pieces(pieces) => {
                facts.totals.bytes = facts.pieces(pieces, "the list");
                Family::Pieces
            }
            TreeBlob::PiecePages(pages) => {
                facts.piece_pages(pages);
                Family::Pieces
            }
        };
        (family, facts)
    }

    fn entries(&mut self, entries: &[Entry]) {
        self.first = entries.first().map(|entry| entry.name.clone());
        self.last = entries.last().map(|entry| entry.name.clone());
        for (before, after) in entries.iter().zip(entries.iter().skip(1)) {
            if before.name >= after.name {
                self.problems.push(format!("entry \"{}\" is out of order or there twice", after.name));
            }
        }
        for entry in entries {
            self.totals.add(Totals::of(&entry.node));
            if let Err(newer) =
                Extension::check(&entry.node.metadata.extensions, &format_args!("entry \"{}\"", entry.name))
            {
                self.newer.get_or_insert_with(|| newer.to_string());
            }
            match &entry.node.kind {
                NodeKind::File { size_bytes, content } => self.file(&entry.name, *size_bytes, content),
                NodeKind::Directory { tree, totals } => self.references.push(Reference {
                    page: *tree,
                    family: Family::Directory,
                    totals: *totals,
                    first: None,
                    bound: None,
                    is_directory: true,
                }),
                _ => {}
            }
        }
    }

    fn file(&mut self, name: &Name, size_bytes: u64, content: &Content) {
        if size_bytes > limits::FILE_BYTES_MAX {
            self.problems.push(format!("file \"{name}\" is longer than any can be"));
        }
        let found_bytes = match content {
            Content::Empty => 0,
            Content::Blob(blob) => {
                if size_bytes == 0 {
                    self.problems.push(format!("file \"{name}\" is empty but has a blob"));
                }
                self.needs.push(Need { blob: *blob, length_bytes: size_bytes });
                size_bytes
            }
            Content::Pieces(pieces) => self.pieces(pieces, &format!("file \"{name}\"")),
            Content::List(page) => {
                let totals = Totals { bytes: size_bytes, ..Totals::default() };
                self.references.push(Reference {
                    page: *page,
                    family: Family::Pieces,
                    totals,
                    first: None,
                    bound: None,
                    is_directory: false,
                });
                size_bytes
            }
        };
        if found_bytes != size_bytes {
            self.problems.push(format!("file \"{name}\" has {size_bytes} bytes, but its pieces {found_bytes}"));
        }
    }

    /// Sum of the pieces' lengths.
    fn pieces(&mut self, pieces: &[Piece], owner: &str) -> u64 {
        let mut sum: u64 = 0;
        for piece in pieces {
            let length_bytes = piece.length_bytes();
            sum = sum.saturating_add(length_bytes);
            if length_bytes == 0 {
                self.problems.push(format!("{owner} has an empty piece"));
            }
            if let Piece::Data { blob, .. } = piece {
                self.needs.push(Need { blob: *blob, length_bytes });
            }
        }
        sum
    }

    fn entry_pages(&mut self, pages: &[EntryPage]) {
        self.lists_pages = true;
        self.first = pages.first().map(|page| page.first.clone());
        if pages.is_empty() {
            self.problems.push("it lists pages, but has none".to_owned());
        }
        for (position, page) in pages.iter().enumerate() {
            self.totals.add(page.totals);
            let bound = pages.get(position + 1).map(|next| next.first.clone());
            if bound.as_ref().is_some_and(|bound| page.first >= *bound) {
                self.problems.push(format!("its pages are out of order behind \"{}\"", page.first));
            }
            self.references.push(Reference {
                page: page.page,
                family: Family::Directory,
                totals: page.totals,
                first: Some(page.first.clone()),
                bound,
                is_directory: false,
            });
        }
    }

    fn piece_pages(&mut self, pages: &[PiecePage]) {
        self.lists_pages = true;
        if pages.is_empty() {
            self.problems.push("it lists pages, but has none".to_owned());
        }
        for page in pages {
            let totals = Totals { bytes: page.length_bytes, ..Totals::default() };
            self.totals.add(totals);
            self.references.push(Reference {
                page: page.page,
                family: Family::Pieces,
                totals,
                first: None,
                bound: None,
                is_directory: false,
            });
        }
    }
}
