//! Pages: how a list of any length becomes tree blobs.
//!
//! A short list is one page. A longer one is cut where its content says so, so that a change in the middle leaves the
//! pages around it as they were, and the pages are listed in pages of children, level upon level.

use serde::{Deserialize, Serialize};

use crate::{
    blob::{BlobKind, ReadBlobs, WriteBlobs},
    codec,
    error::{Damage, Result},
    id::BlobId,
    limits,
    tree::{
        name::Name,
        node::{Entry, Piece, Totals},
    },
};

/// What a blob of kind tree holds. The order of variants is the stored encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreeBlob {
    /// Entries of a directory, sorted strictly by name.
    Entries(Vec<Entry>),
    /// Pages of a directory, sorted by their first names; not empty.
    EntryPages(Vec<EntryPage>),
    /// Pieces of a file, in order.
    Pieces(Vec<Piece>),
    /// Pages of a piece list, in order; not empty.
    PiecePages(Vec<PiecePage>),
}

/// A page of a directory below another page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPage {
    /// Name of its first entry.
    pub first: Name,
    /// The page.
    pub page: BlobId,
    /// What its entries add to the directory's totals.
    pub totals: Totals,
}

/// A page of a piece list below another page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PiecePage {
    /// Bytes of the file that its pieces cover.
    pub length_bytes: u64,
    /// The page.
    pub page: BlobId,
}

impl TreeBlob {
    /// Reads and decodes one tree blob.
    ///
    /// # Errors
    /// When it cannot be read or holds anything but a tree blob.
    pub fn read(blobs: &dyn ReadBlobs, id: &BlobId, scratch: &mut Vec<u8>) -> Result<Self> {
        blobs.read_blob(BlobKind::Tree, id, scratch)?;
        Ok(codec::decode(scratch).map_err(|error| damaged(id, error))?)
    }
}

/// Damage of a tree blob.
pub(super) fn damaged(id: &BlobId, reason: impl std::fmt::Display) -> Damage {
    Damage::new(format_args!("tree blob {id}"), reason)
}

/// Something that stands in a page.
pub(super) trait Item: Serialize {
    /// The variant of [`TreeBlob`] that lists such items.
    const VARIANT: u8;
    /// The item that stands for a page of such items one level up.
    type Page: PageItem;
    /// Bytes that decide whether a page may end behind this item.
    fn border_key(&self) -> [u8; 32];
    /// The item for a page that begins with this one; its sums are zero.
    fn begin_page(&self) -> Self::Page;
    /// Takes this item into the sums of the page it is in.
    fn add_to(&self, page: &mut Self::Page);
}

/// The item that stands for a page.
pub(super) trait PageItem: Item<Page = Self> + Sized {
    /// Gives it its page.
    fn set_page(&mut self, page: BlobId);
    /// Its page.
    fn page(&self) -> BlobId;
    /// Directory entries in the page and below it.
    fn entries(&self) -> u64;
}

impl Item for Entry {
    const VARIANT: u8 = 0;
    type Page = EntryPage;

    fn border_key(&self) -> [u8; 32] {
        *blake3::hash(self.name.as_bytes()).as_bytes()
    }

    fn begin_page(&self) -> EntryPage {
        EntryPage { first: self.name.clone(), page: BlobId([0; 32]), totals: Totals::default() }
    }

    fn add_to(&self, page: &mut EntryPage) {
        page.totals.add(Totals::of(&self.node));
    }
}

impl Item for EntryPage {
    const VARIANT: u8 = 1;
    type Page = Self;

    fn border_key(&self) -> [u8; 32] {
        self.page.0
    }

    fn begin_page(&self) -> Self {
        Self { totals: Totals::default(), ..self.clone() }
    }

    fn add_to(&self, page: &mut Self) {
        page.totals.add(self.totals);
    }
}

impl Item for Piece {
    const VARIANT: u8 = 2;
    type Page = PiecePage;

    fn border_key(&self) -> [u8; 32] {
        match self {
            Self::Data { blob, .. } => blob.0,
            Self::Hole { .. } => [0xff; 32],
        }
    }

    fn begin_page(&self) -> PiecePage {
        PiecePage { length_bytes: 0, page: BlobId([0; 32]) }
    }

    fn add_to(&self, page: &mut PiecePage) {
        page.length_bytes = page.length_bytes.saturating_add(self.length_bytes());
    }
}

impl Item for PiecePage {
    const VARIANT: u8 = 3;
    type Page = Self;

    fn border_key(&self) -> [u8; 32] {
        self.page.0
    }

    fn begin_page(&self) -> Self {
        Self { length_bytes: 0, page: self.page }
    }

    fn add_to(&self, page: &mut Self) {
        page.length_bytes = page.length_bytes.saturating_add(self.length_bytes);
    }
}

impl PageItem for EntryPage {
    fn set_page(&mut self, page: BlobId) {
        self.page = page;
    }

    fn page(&self) -> BlobId {
        self.page
    }

    fn entries(&self) -> u64 {
        self.totals.files.saturating_add(self.totals.directories)
    }
}

impl PageItem for PiecePage {
    fn set_page(&mut self, page: BlobId) {
        self.page = page;
    }

    fn page(&self) -> BlobId {
        self.page
    }

    fn entries(&self) -> u64 {
        0
    }
}

/// A page that is being filled.
#[derive(Clone)]
struct OpenPage<P> {
    items: Vec<u8>,
    count: usize,
    stands_for: Option<P>,
}

impl<P: PageItem> OpenPage<P> {
    const fn new() -> Self {
        Self { items: Vec::new(), count: 0, stands_for: None }
    }

    /// Adds an item; whether the page ends behind it.
    fn add(&mut self, item: &impl Item<Page = P>) -> bool {
        codec::encode_into(item, &mut self.items);
        self.count += 1;
        item.add_to(self.stands_for.get_or_insert_with(|| item.begin_page()));
        self.items.len() >= limits::PAGE_BYTES_MAX
            || (self.items.len() >= limits::PAGE_BYTES_MIN && self.count >= 2 && item.border_key()[0] == 0)
    }

    /// Stores the page and empties it. The encoding is that of the enum's variant with a vector of the items.
    fn store(&mut self, variant: u8, blobs: &dyn WriteBlobs) -> Result<(BlobId, Option<P>)> {
        let mut encoded = Vec::with_capacity(self.items.len() + 8);
        encoded.push(variant);
        codec::encode_length(self.count, &mut encoded);
        encoded.append(&mut self.items);
        self.count = 0;
        let mut stands_for = self.stands_for.take();
        let (id, _) = blobs.write_page(&encoded, stands_for.as_ref().map_or(0, PageItem::entries))?;
        if let Some(item) = &mut stands_for {
            item.set_page(id);
        }
        Ok((id, stands_for))
    }
}

/// Writes a list of items as pages, holding one open page per level.
#[derive(Clone)]
pub(super) struct PageWriter<I: Item> {
    base: OpenPage<I::Page>,
    upper: Vec<OpenPage<I::Page>>,
}

impl<I: Item> PageWriter<I> {
    pub(super) const fn new() -> Self {
        Self { base: OpenPage::new(), upper: Vec::new() }
    }

    pub(super) fn push(&mut self, item: &I, blobs: &dyn WriteBlobs) -> Result<()> {
        if self.base.add(item)
            && let (_, Some(page)) = self.base.store(I::VARIANT, blobs)?
        {
            self.push_page(0, page, blobs)?;
        }
        Ok(())
    }

    fn push_page(&mut self, mut level: usize, mut page: I::Page, blobs: &dyn WriteBlobs) -> Result<()> {
        loop {
            if level == self.upper.len() {
                self.upper.push(OpenPage::new());
            }
            let Some(open) = self.upper.get_mut(level) else { return Ok(()) };
            if !open.add(&page) {
                return Ok(());
            }
            let (_, Some(stored)) = open.store(I::Page::VARIANT, blobs)? else { return Ok(()) };
            page = stored;
            level += 1;
        }
    }

    /// Stores what is open and returns the root page.
    pub(super) fn finish(mut self, blobs: &dyn WriteBlobs) -> Result<BlobId> {
        if self.upper.is_empty() {
            return Ok(self.base.store(I::VARIANT, blobs)?.0);
        }
        if self.base.count > 0
            && let (_, Some(page)) = self.base.store(I::VARIANT, blobs)?
        {
            self.push_page(0, page, blobs)?;
        }
        let mut level = 0;
        loop {
            let top = level + 1 == self.upper.len();
            let Some(open) = self.upper.get_mut(level) else { unreachable!("the top level ends the loop") };
            // A single page needs no page above it.
            if top
                && open.count == 1
                && let Some(only) = open.stands_for.take()
            {
                return Ok(only.page());
            }
            if open.count > 0 {
                let (id, stored) = open.store(I::Page::VARIANT, blobs)?;
                if top {
                    return Ok(id);
                }
                if let Some(page) = stored {
                    self.push_page(level + 1, page, blobs)?;
                }
            }
            level += 1;
        }
    }
}
