//! Index runs as stored objects: the tables cut into pages of equal plain length, each a sealed frame.

use serde::{Deserialize, Serialize};

use crate::{
    blob::Compression,
    codec,
    compress::{Compressor, Level},
    crypto::{
        aead::TAG_BYTES,
        keys::{Keys, ObjectKind},
    },
    envelope::{
        container::{ContainerWriter, FOOTER_BYTES, Footer, open_frame},
        header::{HEADER_BYTES, Header, ObjectCipher},
    },
    error::{Damage, Error, Result},
    id::IndexId,
    index::table::{Counts, ID_ROW_BYTES, RunBytes, RunTable, Table, TableBytes},
    limits,
    runtime::Runtime,
    store::{ByteRange, ObjectName, Place, Store},
};

/// Plain length of every page but the last: just below 64 KiB, and a multiple of the length of a row, whatever the section.
pub const INDEX_PAGE_BYTES: usize = 65_520;

const _: () = assert!(INDEX_PAGE_BYTES.is_multiple_of(ID_ROW_BYTES));

/// A run ready to be put.
pub struct StoredRun {
    /// SHA-256 of its bytes.
    pub id: IndexId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A run's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDirectory {
    /// Rows of its tables.
    pub counts: Counts,
    /// Its pages, in order.
    pub pages: Vec<RunPage>,
}

impl RunDirectory {
    /// Opens the directory. `suffix` are the last bytes of the run, from the directory on at least.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn open(keys: &Keys, footer: &Footer, suffix: &[u8], name: &ObjectName) -> Result<Self> {
        let damage = |reason: &dyn std::fmt::Display| Error::from(Damage::new(name, reason));
        let end = suffix.len().saturating_sub(FOOTER_BYTES);
        let stored = end.checked_sub(to_usize(footer.directory_stored_bytes)).and_then(|start| suffix.get(start..end));
        let directory: Self = codec::decode(&footer.open_directory(keys, stored.unwrap_or_default(), name)?)
            .map_err(|error| damage(&error))?;
        let counts = directory.counts;
        let table_bytes = counts.table_bytes();
        if u64::from(counts.data) + u64::from(counts.tree) > limits::INDEX_ENTRIES_MAX as u64 {
            return Err(damage(&"it names more blobs than any run can"));
        }
        if table_bytes > limits::INDEX_BYTES_MAX {
            return Err(damage(&"its tables are larger than any can be"));
        }
        if directory.pages.len() as u64 != table_bytes.div_ceil(INDEX_PAGE_BYTES as u64) {
            return Err(damage(&"it has more or fewer pages than its tables take"));
        }
        Ok(directory)
    }

    /// Opens a page from its stored bytes and replaces `into` by its plain bytes.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn open_page(
        &self,
        cipher: &ObjectCipher,
        number: u32,
        sealed: &[u8],
        scratch: &mut Vec<u8>,
        into: &mut Vec<u8>,
    ) -> Result<(), String> {
        let record = self.pages.get(number as usize).ok_or("there is no such page")?;
        let before = u64::from(number) * INDEX_PAGE_BYTES as u64;
        let plain_bytes = to_usize(self.counts.table_bytes().saturating_sub(before)).min(INDEX_PAGE_BYTES);
        open_frame(cipher, number, record.compression, sealed, plain_bytes, scratch, into)
            .map_err(|reason| format!("page {number}: {reason}"))?;
        if first_of(into) == record.first {
            return Ok(());
        }
        Err(format!("page {number}: it begins otherwise than the directory says"))
    }
}

/// One page of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPage {
    /// Stored length, with its tag.
    pub stored_bytes: u32,
    /// How it was packed.
    pub compression: Compression,
    /// The first eight bytes of the page, big-endian. Pages that begin in the ids, whose rows never straddle pages, are found by it.
    pub first: u64,
}

/// Cuts the tables into pages and seals them.
pub(super) struct RunWriter {
    container: ContainerWriter,
    directory: RunDirectory,
    page: Vec<u8>,
    packed: Vec<u8>,
    compressor: Compressor,
}

impl RunWriter {
    pub(super) fn new(keys: &Keys, counts: Counts, runtime: &dyn Runtime) -> Self {
        Self {
            container: ContainerWriter::new(keys, ObjectKind::Index, runtime, Vec::new()),
            directory: RunDirectory { counts, pages: Vec::new() },
            page: Vec::with_capacity(INDEX_PAGE_BYTES),
            packed: Vec::new(),
            compressor: Compressor::new(Level::FASTEST),
        }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(INDEX_PAGE_BYTES - self.page.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() == INDEX_PAGE_BYTES {
                self.close_page()?;
            }
        }
        Ok(())
    }

    fn close_page(&mut self) -> Result<()> {
        self.packed.clear();
        let compression = self.compressor.compress(&self.page, &mut self.packed);
        self.container.add_frame(&self.packed)?;
        self.directory.pages.push(RunPage {
            stored_bytes: u32::try_from(self.packed.len() + TAG_BYTES).unwrap_or(u32::MAX),
            compression,
            first: first_of(&self.page),
        });
        self.page.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<StoredRun> {
        if !self.page.is_empty() {
            self.close_page()?;
        }
        let (id, bytes) = self.container.finish(&codec::encode(&self.directory))?;
        Ok(StoredRun { id: id.into(), bytes })
    }
}

/// The first eight bytes of a page, zeros standing in for what it has not.
fn first_of(page: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (byte, value) in first.iter_mut().zip(page) {
        *byte = *value;
    }
    u64::from_be_bytes(first)
}

/// Reads a whole run into memory.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn read_run(store: &dyn Store, keys: &Keys, id: IndexId) -> Result<RunTable> {
    let name = ObjectName::new(Place::Index, id);
    let mut bytes = Vec::new();
    store.get(&name, ByteRange::WholeUpTo { limit_bytes: limits::INDEX_BYTES_MAX }, &mut bytes)?;
    decode_run(keys, &bytes, &name)
}

/// Decodes a run that is in memory as a whole.
///
/// # Errors
/// When it is damaged.
pub fn decode_run(keys: &Keys, bytes: &[u8], name: &ObjectName) -> Result<RunTable> {
    let footer = Footer::open(keys, ObjectKind::Index, bytes, bytes.len() as u64, name)?;
    let mut pages = Pages::open(keys, footer, bytes, name)?;
    pages.check_header(bytes)?;
    let mut table = Vec::new();
    pages.open_all(bytes, &mut |page| table.extend_from_slice(page))?;
    pages.table(RunBytes::Heap(table))
}

/// The pages of a run, one after the other.
pub(super) struct Pages<'a> {
    directory: RunDirectory,
    footer: Footer,
    cipher: ObjectCipher,
    name: &'a ObjectName,
    /// The next page, and where it begins.
    next: u32,
    offset_bytes: u64,
    page: Vec<u8>,
    scratch: Vec<u8>,
}

impl<'a> Pages<'a> {
    /// Opens the directory. `suffix` are the last bytes of the run, from the directory on at least.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn open(keys: &Keys, footer: Footer, suffix: &[u8], name: &'a ObjectName) -> Result<Self> {
        let directory = RunDirectory::open(keys, &footer, suffix, name)?;
        let cipher = ObjectCipher::new(keys, &footer.header);
        let (page, scratch) = (Vec::new(), Vec::new());
        Ok(Self { directory, footer, cipher, name, next: 0, offset_bytes: HEADER_BYTES as u64, page, scratch })
    }

    fn damage(&self, reason: impl std::fmt::Display) -> Error {
        Damage::new(self.name, reason).into()
    }

    /// Holds the run's first bytes against the copy of the header in its footer.
    ///
    /// # Errors
    /// When they differ.
    pub(super) fn check_header(&self, first: &[u8]) -> Result<()> {
        if Header::parse(first, ObjectKind::Index, self.name)? == self.footer.header {
            return Ok(());
        }
        Err(self.damage("header and footer do not agree"))
    }

    /// Rows of the tables.
    pub(super) const fn counts(&self) -> Counts {
        self.directory.counts
    }

    /// Where the next pages lie that together have at most so many bytes, but one at least; `None` when there are no more.
    pub(super) fn next_range(&self, most_bytes: u64) -> Option<std::ops::Range<u64>> {
        let mut pages = self.directory.pages.get(self.next as usize..)?.iter().map(|page| u64::from(page.stored_bytes));
        let mut end = self.offset_bytes.saturating_add(pages.next()?);
        for page in pages {
            match end.checked_add(page) {
                Some(more) if more - self.offset_bytes <= most_bytes => end = more,
                _ => break,
            }
        }
        // Pages end where the directory begins; one that says otherwise does not open.
        Some(self.offset_bytes..end.clamp(self.offset_bytes, self.footer.directory_offset_bytes.max(self.offset_bytes)))
    }

    /// Opens the pages that lie in these bytes, which are those of [`Self::next_range`], and gives the plain bytes of each.
    ///
    /// # Errors
    /// When one is damaged.
    pub(super) fn open_range(&mut self, mut stored: &[u8], give: &mut dyn FnMut(&[u8])) -> Result<()> {
        while let Some(record) = self.directory.pages.get(self.next as usize) {
            let stored_bytes = record.stored_bytes;
            let (sealed, rest) = stored.split_at(stored.len().min(stored_bytes as usize));
            self.directory
                .open_page(&self.cipher, self.next, sealed, &mut self.scratch, &mut self.page)
                .map_err(|reason| self.damage(reason))?;
            give(&self.page);
            self.next += 1;
            self.offset_bytes = self.offset_bytes.saturating_add(stored_bytes.into());
            stored = rest;
            if stored.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Opens all pages of a run that is in memory as a whole, and gives the plain bytes of each.
    ///
    /// # Errors
    /// When one is damaged.
    pub(super) fn open_all(&mut self, bytes: &[u8], give: &mut dyn FnMut(&[u8])) -> Result<()> {
        while let Some(range) = self.next_range(u64::MAX) {
            // A page that reaches beyond the end has fewer bytes than it should.
            let (from, to) = (to_usize(range.start), to_usize(range.end).min(bytes.len()));
            self.open_range(bytes.get(from..to).unwrap_or_default(), give)?;
        }
        Ok(())
    }

    /// The tables, if these bytes, which are those of all pages, are any.
    ///
    /// # Errors
    /// When what they say cannot be.
    pub(super) fn table<B: TableBytes>(&self, bytes: B) -> Result<Table<B>> {
        Table::new(bytes, self.counts()).map_err(|reason| self.damage(reason))
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        blob::BlobKind,
        crypto::keys::MasterKey,
        id::{ObjectId, PackId, RepositoryId},
        index::table::{BlobPrefix, FrameRow, LocationRow, PackRow},
        pack::reader::PackKey,
        runtime::SystemRuntime,
    };

    /// As many as make pages that begin in the ids of data, of trees, and in the locations.
    const COUNTS: Counts = Counts { data: 4000, tree: 4000, frames: 2, packs: 2 };

    fn keys() -> Keys {
        Keys::new(MasterKey::from_bytes([1; 32]), RepositoryId([2; 32]))
    }

    /// Ids that ascend from far below to far above.
    fn prefix(number: u32) -> BlobPrefix {
        let mut prefix = [0; ID_ROW_BYTES];
        let number = u64::from(number) << 50 | 7;
        prefix.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, value)| *byte = value);
        BlobPrefix(prefix)
    }

    fn tables() -> Vec<u8> {
        let mut tables = Vec::new();
        for blobs in [COUNTS.data, COUNTS.tree] {
            (0..blobs).for_each(|number| tables.extend(prefix(number).0));
        }
        for (frame, blobs) in [(0, COUNTS.data), (1, COUNTS.tree)] {
            for number in 0..blobs {
                tables.extend(LocationRow { frame, offset_bytes: number, length_bytes: 1 }.encode());
            }
        }
        let (offset_bytes, stored_bytes, plain_bytes) = (48, 4016, 4000);
        for pack in 0..2 {
            let compression = Compression::Raw;
            tables.extend(FrameRow { pack, offset_bytes, stored_bytes, plain_bytes, compression }.encode());
        }
        for (kind, number) in BlobKind::ALL.into_iter().zip(0..) {
            let (id, key) = (PackId([9; 32]), PackKey { salt: [5; 32], version: 1 });
            tables.extend(PackRow { id, key, size_bytes: 5000, first_frame: number, frames: 1, kind }.encode());
        }
        tables
    }

    /// Seals a run, after `change` has changed its pages and its directory.
    fn sealed(change: impl FnOnce(&mut Vec<Vec<u8>>, &mut RunDirectory)) -> Vec<u8> {
        let mut pages: Vec<_> = tables().chunks(INDEX_PAGE_BYTES).map(<[u8]>::to_vec).collect();
        let record = |page: &Vec<u8>| RunPage {
            stored_bytes: u32::try_from(page.len() + TAG_BYTES).unwrap(),
            compression: Compression::Raw,
            first: first_of(page),
        };
        let mut directory = RunDirectory { counts: COUNTS, pages: pages.iter().map(record).collect() };
        change(&mut pages, &mut directory);
        for (page, record) in pages.iter().zip(&mut directory.pages) {
            record.stored_bytes = u32::try_from(page.len() + TAG_BYTES).unwrap();
        }
        let mut container = ContainerWriter::new(&keys(), ObjectKind::Index, &SystemRuntime, Vec::new());
        for page in &pages {
            container.add_frame(page).unwrap();
        }
        container.finish(&codec::encode(&directory)).unwrap().1
    }

    fn decode(bytes: &[u8]) -> Result<RunTable> {
        decode_run(&keys(), bytes, &ObjectName::new(Place::Index, ObjectId([3; 32])))
    }

    #[track_caller]
    fn refused(reason: &str, change: impl FnOnce(&mut Vec<Vec<u8>>, &mut RunDirectory)) {
        let error = decode(&sealed(change)).err().expect("it is refused");
        assert!(error.is_damage() && error.to_string().contains(reason), "{error}");
    }

    #[test]
    fn every_page_that_begins_in_the_ids_begins_with_an_id() {
        let mut directory = None;
        let table = decode(&sealed(|_, made| directory = Some(made.clone()))).unwrap();
        let pages = directory.unwrap().pages;
        assert_eq!(pages.len(), 4);
        let rows = u32::try_from(INDEX_PAGE_BYTES / ID_ROW_BYTES).unwrap();
        for (page, row) in pages.iter().zip((0..COUNTS.data + COUNTS.tree).step_by(rows as usize)) {
            let (kind, position) = match row.checked_sub(COUNTS.data) {
                None => (BlobKind::Data, row),
                Some(position) => (BlobKind::Tree, position),
            };
            let (prefix, _) = table.blob(kind, position).unwrap();
            assert_eq!(page.first.to_be_bytes(), prefix.0[..8], "{row}");
        }
        for kind in BlobKind::ALL {
            for number in 0..COUNTS.blobs(kind) {
                assert_eq!(table.find(kind, prefix(number)).unwrap().1.offset_bytes, number);
            }
        }
    }

    #[test]
    fn another_number_of_pages_is_refused() {
        let number = "more or fewer pages";
        refused(number, |pages, directory| {
            pages.pop();
            directory.pages.pop();
        });
        // The page is still there, and only the directory has fewer; and the reverse.
        refused(number, |_, directory| _ = directory.pages.pop());
        refused(number, |pages, directory| {
            pages.push(Vec::new());
            directory.pages.push(RunPage { first: 0, ..directory.pages[0] });
        });
        refused(number, |_, directory| directory.pages.clear());
        refused("page 3", |pages, _| _ = pages.pop());
    }

    #[test]
    fn a_page_that_begins_otherwise_is_refused() {
        for number in 0..4 {
            for change in [1, 1 << 63] {
                refused(&format!("page {number}: it begins otherwise"), |_, directory| {
                    directory.pages[number].first ^= change;
                });
            }
        }
        // Pages that changed places are found by it.
        refused("page 1: it begins otherwise", |pages, _| pages.swap(1, 2));
    }

    #[test]
    fn a_header_that_differs_from_the_repeated_one_is_refused() {
        let whole = sealed(|_, _| {});
        assert!(decode(&whole).is_ok());
        for at in 0..HEADER_BYTES {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let error = decode(&bytes).err().unwrap_or_else(|| panic!("byte {at}"));
            assert!(error.is_damage() || error.is_newer(), "{error}");
            let is_salt = at >= HEADER_BYTES - 32;
            assert_eq!(error.to_string().contains("header and footer do not agree"), is_salt, "{at}: {error}");
        }
    }

    #[test]
    fn tables_of_another_length_than_the_counts_are_refused() {
        for (page, reason) in [(0, "page 0: its length"), (3, "page 3: its length")] {
            refused(reason, |pages, _| _ = pages[page].pop());
            refused(reason, |pages, _| pages[page].push(0));
        }
        // Counts that are wrong by one row, and take as many pages.
        let changes: [fn(&mut Counts); 8] = [
            |counts| counts.data -= 1,
            |counts| counts.data += 1,
            |counts| counts.tree -= 1,
            |counts| counts.tree += 1,
            |counts| counts.frames -= 1,
            |counts| counts.frames += 1,
            |counts| counts.packs -= 1,
            |counts| counts.packs += 1,
        ];
        for change in changes {
            refused("page 3: its length", |_, directory| change(&mut directory.counts));
        }
        // As long in all, but otherwise divided.
        refused("", |_, directory| {
            directory.counts.frames += 5;
            directory.counts.packs -= 1;
        });
        refused("", |_, directory| {
            directory.counts.data += 1;
            directory.counts.tree -= 1;
        });
    }

    #[test]
    fn counts_beyond_the_limits_are_refused() {
        let most = u32::try_from(limits::INDEX_ENTRIES_MAX).unwrap();
        refused("more blobs than any run", |_, directory| directory.counts.data = most);
        refused("more blobs than any run", |_, directory| {
            directory.counts = Counts { data: u32::MAX, tree: u32::MAX, ..COUNTS };
        });
        refused("larger than any can be", |_, directory| directory.counts.packs = u32::MAX);
        refused("more or fewer pages", |_, directory| directory.counts.data = most - COUNTS.tree);
    }
}
