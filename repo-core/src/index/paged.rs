//! A large run that is read page by page, by those who look up a few blobs and do not have it on their machine.
//!
//! What a lookup takes: the directory of the run once, then the page that the prefix must be in, that of the location, and those of the
//! frame and the pack. Each is authenticated as it is opened, and each row is held against the limits as it is used.
//!
//! Many lookups would be many requests. So the run keeps an account of what was spent, and once that is what the whole run
//! costs, fetches it as a whole: never more than twice what would have been best (the ski-rental rule).

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    blob::{BlobKind, BlobLocation, FrameLocation},
    cache::{Cache, pages::DIRECTORY, table::LARGE_RUN_BYTES},
    crypto::keys::{Keys, ObjectKind},
    envelope::{
        container::{FOOTER_BYTES, Footer},
        header::{HEADER_BYTES, ObjectCipher},
    },
    error::{Damage, Error, Result},
    id::IndexId,
    index::{
        cached,
        run::{INDEX_PAGE_BYTES, RunDirectory, read_run},
        table::{
            BlobPrefix, Counts, FRAME_ROW_BYTES, FrameRow, ID_ROW_BYTES, LOCATION_ROW_BYTES, LocationRow,
            PACK_ROW_BYTES, PackRow, RunTable, beginning,
        },
    },
    store::{ByteRange, ObjectName, Place, Store},
};

/// Rows of ids in a page.
const PAGE_IDS: u64 = (INDEX_PAGE_BYTES / ID_ROW_BYTES) as u64;

/// What a lookup counts for: some twenty microseconds, in which a link of 50 MB/s transfers so much.
const LOOKUP_BYTES: u64 = 1 << 10;

/// Plain bytes of pages that are held, at most.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Frames and packs are fetched together where that is not more.
const ROWS_TOGETHER_BYTES_MAX: u64 = 256 << 10;

/// Pages of ids that one lookup can need, at most: ids are hashes, and begin differently.
const LOOKUP_PAGES_MAX: u64 = 16;

/// When runs are read page by page.
#[derive(Debug, Clone, Copy)]
pub struct Paging {
    /// Smaller runs are read as a whole.
    pub run_bytes_min: u64,
    /// So many bytes more are as good as one request less.
    pub request_bytes: u64,
}

impl Default for Paging {
    /// For stores far away: a request takes the time of half a megabyte (50 ms at 10 MB/s).
    fn default() -> Self {
        Self { run_bytes_min: LARGE_RUN_BYTES, request_bytes: 512 << 10 }
    }
}

/// Where runs are read from.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// What opens them.
    pub keys: &'a Keys,
    /// The local cache, if there is one.
    pub cache: Option<&'a Cache>,
}

impl Origin<'_> {
    /// Reads a run as a whole, from the cache or else from the store.
    pub(super) fn whole_run(&self, id: IndexId, size_bytes: u64) -> Result<RunTable> {
        match self.cache {
            Some(cache) if cache.keeps_table(size_bytes) => {
                cached::read_run(cache, self.store, self.keys, id, size_bytes)
            }
            _ => read_run(self.store, self.keys, id),
        }
    }
}

/// A blob found in a run that is read page by page.
#[derive(Debug, Clone, Copy)]
pub struct PagedFound {
    /// Where it lies.
    pub location: BlobLocation,
    /// Its pack.
    pub pack: PackRow,
    /// Row of its frame.
    pub frame_row: u32,
}

/// A run that is read page by page.
pub struct PagedRun {
    id: IndexId,
    name: ObjectName,
    size_bytes: u64,
    paging: Paging,
    directory: RunDirectory,
    /// Where each page begins, and where the last one ends.
    offsets: Vec<u64>,
    cipher: ObjectCipher,
    spent_bytes: AtomicU64,
    pages: Mutex<HashMap<u32, Arc<Vec<u8>>>>,
    whole: OnceLock<RunTable>,
    /// It was read as a whole, and is damaged.
    damaged: OnceLock<Damage>,
}

impl PagedRun {
    /// Reads the directory of a run.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn open(origin: &Origin<'_>, id: IndexId, size_bytes: u64, paging: Paging) -> Result<Self> {
        let name = ObjectName::new(Place::Index, id);
        let mut suffix = origin.cache.and_then(|cache| cache.page(id, DIRECTORY)).unwrap_or_default();
        let mut spent_bytes = 0;
        let mut footer = None;
        if suffix.is_empty() {
            // A page takes some fifteen bytes of the directory.
            let first = (size_bytes / 4096 + 4096).min(size_bytes);
            origin.store.get(&name, ByteRange::Suffix { length_bytes: first }, &mut suffix)?;
            spent_bytes += paging.request_bytes + first;
            let opened = Footer::open(origin.keys, ObjectKind::Index, &suffix, size_bytes, &name)?;
            let wanted = opened.directory_stored_bytes + FOOTER_BYTES as u64;
            if wanted > suffix.len() as u64 {
                origin.store.get(&name, ByteRange::Suffix { length_bytes: wanted }, &mut suffix)?;
                spent_bytes += paging.request_bytes + wanted;
            }
            footer = Some(opened);
        }
        let was_kept = footer.is_none();
        let footer = match footer {
            Some(footer) => footer,
            None => Footer::open(origin.keys, ObjectKind::Index, &suffix, size_bytes, &name)?,
        };
        let directory = RunDirectory::open(origin.keys, &footer, &suffix, &name)?;
        let mut offsets = vec![HEADER_BYTES as u64];
        let mut end = HEADER_BYTES as u64;
        for page in &directory.pages {
            end += u64::from(page.stored_bytes);
            offsets.push(end);
        }
        if end > footer.directory_offset_bytes {
            return Err(Damage::new(name, "its pages are longer than it is").into());
        }
        if let Some(cache) = origin.cache.filter(|_| !was_kept) {
            cache.keep_page(id, DIRECTORY, &suffix);
        }
        Ok(Self {
            id,
            name,
            size_bytes,
            paging,
            directory,
            offsets,
            cipher: ObjectCipher::new(origin.keys, &footer.header),
            spent_bytes: AtomicU64::new(spent_bytes),
            pages: Mutex::default(),
            whole: OnceLock::new(),
            damaged: OnceLock::new(),
        })
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> IndexId {
        self.id
    }

    /// Whether it has been read as a whole meanwhile.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole.get().is_some()
    }

    const fn counts(&self) -> Counts {
        self.directory.counts
    }

    fn damage(&self, reason: impl std::fmt::Display) -> Error {
        Damage::new(self.name, reason).into()
    }

    /// Every copy of a blob, and of others whose ids begin alike.
    ///
    /// # Errors
    /// When what is needed of the run cannot be read, or is damaged.
    pub fn find_all(&self, origin: &Origin<'_>, kind: BlobKind, prefix: BlobPrefix) -> Result<Vec<PagedFound>> {
        self.spent_bytes.fetch_add(LOOKUP_BYTES, Ordering::Relaxed);
        let by_pages = || -> Result<Option<Vec<PagedFound>>> {
            let Some(rows) = self.rows_of(origin, kind, prefix)? else { return Ok(None) };
            let mut found = Vec::with_capacity(rows.len());
            for row in rows {
                let Some(place) = self.place(origin, kind, row)? else { return Ok(None) };
                found.push(place);
            }
            Ok(Some(found))
        };
        if self.whole.get().is_none()
            && let Some(found) = by_pages()?
        {
            return Ok(found);
        }
        let table = self.whole(origin)?;
        let found = table.find_all(kind, prefix).filter_map(|(number, location)| {
            let pack = table.pack(number)?;
            let frame_row = pack.first_frame.checked_add(location.frame.ordinal)?;
            Some(PagedFound { location, pack, frame_row })
        });
        Ok(found.collect())
    }

    /// The frames of the pack in which something was found that are in this range and can be told without a further request.
    #[must_use]
    pub fn frames(&self, found: &PagedFound, ordinals: Range<u32>) -> Vec<FrameLocation> {
        let row_of = |ordinal: u32| found.pack.first_frame.saturating_add(ordinal.min(found.pack.frames));
        let rows = row_of(ordinals.start)..row_of(ordinals.end);
        if let Some(table) = self.whole.get() {
            return rows.filter_map(|row| table.frame(row)).map(|(_, frame)| frame).collect();
        }
        let pages = self.lock();
        let start = self.counts().frames_start();
        rows.filter_map(|row| {
            let bytes = held(&pages, row_range(start, row.into(), FRAME_ROW_BYTES))?;
            let frame = FrameRow::decode(&bytes)?;
            frame.check(&found.pack).ok()?;
            frame.location(row, &found.pack)
        })
        .collect()
    }

    /// The run as a whole.
    fn whole(&self, origin: &Origin<'_>) -> Result<&RunTable> {
        // One at a time: whoever waited here finds what the other has read.
        let mut pages = self.lock();
        if self.whole.get().is_none() {
            if let Some(damage) = self.damaged.get() {
                return Err(damage.clone().into());
            }
            let table = origin.whole_run(self.id, self.size_bytes).inspect_err(|error| {
                if let Error::Damaged(damage) = error {
                    _ = self.damaged.set(damage.clone());
                }
            })?;
            _ = self.whole.set(table);
            *pages = HashMap::new();
        }
        drop(pages);
        self.whole.get().ok_or(Error::Poisoned)
    }

    /// Positions of every copy of a blob among those of its kind; `None` if pages are not the way.
    fn rows_of(&self, origin: &Origin<'_>, kind: BlobKind, prefix: BlobPrefix) -> Result<Option<Range<u32>>> {
        let (before, count) = (self.counts().before(kind), u64::from(self.counts().blobs(kind)));
        let key = beginning(&prefix.0);
        let mut rows = before..before + count;
        // The pages that begin with an id of this kind.
        let pages = before.div_ceil(PAGE_IDS)..rows.end.div_ceil(PAGE_IDS);
        let [first, end] = [pages.start, pages.end].map(|page| usize::try_from(page).unwrap_or(usize::MAX));
        for (page, number) in self.directory.pages.get(first..end).unwrap_or_default().iter().zip(pages.start..) {
            if page.first < key {
                rows.start = number * PAGE_IDS;
            } else if page.first > key {
                rows.end = number * PAGE_IDS;
                break;
            }
        }
        if rows.is_empty() {
            return Ok(Some(0..0));
        }
        if rows.end - rows.start > LOOKUP_PAGES_MAX * PAGE_IDS {
            return Ok(None);
        }
        let range = rows.start * ID_ROW_BYTES as u64..rows.end * ID_ROW_BYTES as u64;
        let Some(ids) = self.read(origin, range.clone(), range)? else { return Ok(None) };
        let (ids, _) = ids.as_chunks::<ID_ROW_BYTES>();
        if !ids.is_sorted() {
            return Err(self.damage("its blob ids are not sorted"));
        }
        let position = |place: usize| u32::try_from(rows.start - before + place as u64).unwrap_or(u32::MAX);
        let from = ids.partition_point(|id| *id < prefix.0);
        let to = ids.partition_point(|id| *id <= prefix.0);
        Ok(Some(position(from)..position(to)))
    }

    /// Where the blob at a position is; `None` if pages are not the way.
    fn place(&self, origin: &Origin<'_>, kind: BlobKind, position: u32) -> Result<Option<PagedFound>> {
        let counts = self.counts();
        let invalid = |what: &str| self.damage(format_args!("{what}'s row is not valid"));
        let range = row_range(counts.locations_start(kind), position.into(), LOCATION_ROW_BYTES);
        let Some(bytes) = self.read(origin, range.clone(), range)? else { return Ok(None) };
        let location = LocationRow::decode(&bytes).ok_or_else(|| invalid("a location"))?;
        if location.frame >= counts.frames {
            return Err(self.damage("a blob lies in no frame"));
        }
        // Where there are few frames and packs, one request gets them all.
        let all = counts.frames_start()..counts.table_bytes();
        let around = |range: &Range<u64>| {
            let stored_bytes = self.stored_range(&all).map_or(u64::MAX, |stored| stored.end - stored.start);
            if stored_bytes <= ROWS_TOGETHER_BYTES_MAX { all.clone() } else { range.clone() }
        };
        let range = row_range(counts.frames_start(), location.frame.into(), FRAME_ROW_BYTES);
        let Some(bytes) = self.read(origin, range.clone(), around(&range))? else { return Ok(None) };
        let frame = FrameRow::decode(&bytes).ok_or_else(|| invalid("a frame"))?;
        if frame.pack >= counts.packs {
            return Err(self.damage("a frame lies in no pack"));
        }
        let range = row_range(counts.packs_start(), frame.pack.into(), PACK_ROW_BYTES);
        let Some(bytes) = self.read(origin, range.clone(), around(&range))? else { return Ok(None) };
        let pack = PackRow::decode(&bytes).ok_or_else(|| invalid("a pack"))?;
        let checked = pack.check().and_then(|()| frame.check(&pack)).and_then(|()| location.check(&frame));
        checked.map_err(|reason| self.damage(reason))?;
        let place = frame.location(location.frame, &pack).filter(|place| place.ordinal < pack.frames);
        let place = place.ok_or_else(|| self.damage("a frame does not lie in its pack"))?;
        if pack.kind != kind {
            return Err(self.damage("a blob lies in a pack of the other kind"));
        }
        let (offset_bytes, length_bytes) = (location.offset_bytes, location.length_bytes);
        let found = BlobLocation { frame: place, offset_bytes, length_bytes };
        Ok(Some(PagedFound { location: found, pack, frame_row: location.frame }))
    }

    /// A part of the tables. What is missing is fetched with one request, with what else of `around` is missing beside it; `None` if
    /// the account says that the whole run is the better choice.
    fn read(&self, origin: &Origin<'_>, range: Range<u64>, around: Range<u64>) -> Result<Option<Vec<u8>>> {
        let mut pages = self.lock();
        if self.whole.get().is_some() || self.spent_bytes.load(Ordering::Relaxed) >= self.size_bytes {
            return Ok(None);
        }
        if let Some(bytes) = held(&pages, range.clone()) {
            return Ok(Some(bytes));
        }
        if pages.len() * INDEX_PAGE_BYTES > HELD_BYTES_MAX {
            pages.clear();
        }
        for number in pages_of(&range) {
            if let Some(stored) = origin.cache.and_then(|cache| cache.page(self.id, number))
                && let Ok(page) = self.open_page(number, &stored)
            {
                pages.insert(number, page);
            }
        }
        if let Some(bytes) = held(&pages, range.clone()) {
            return Ok(Some(bytes));
        }
        let missing = |number: &u32| !pages.contains_key(number);
        let (Some(first), Some(last)) = (pages_of(&around).find(missing), pages_of(&around).rfind(missing)) else {
            return Err(self.damage("it has fewer pages than its tables take"));
        };
        let offset = |number: u32| self.offsets.get(number as usize).copied();
        let (Some(from), Some(to)) = (offset(first), offset(last.saturating_add(1))) else {
            return Err(self.damage("it has fewer pages than its tables take"));
        };
        let cost_bytes = self.paging.request_bytes + (to - from);
        if self.spent_bytes.fetch_add(cost_bytes, Ordering::Relaxed) + cost_bytes > self.size_bytes {
            return Ok(None);
        }
        let mut stored = Vec::new();
        let wanted = ByteRange::Exact { offset_bytes: from, length_bytes: to - from };
        origin.store.get(&self.name, wanted, &mut stored)?;
        let needed = pages_of(&range);
        for number in first..=last {
            let (Some(begin), Some(end)) = (offset(number), offset(number + 1)) else { break };
            let part = usize::try_from(begin - from).unwrap_or(usize::MAX)..usize::try_from(end - from).unwrap_or(0);
            let sealed = stored.get(part).unwrap_or_default();
            match self.open_page(number, sealed) {
                Ok(page) => {
                    pages.insert(number, page);
                    if let Some(cache) = origin.cache {
                        cache.keep_page(self.id, number, sealed);
                    }
                }
                // What came with it may be damaged: whoever needs it will hear of that.
                Err(reason) if needed.contains(&number) => return Err(self.damage(reason)),
                Err(_) => {}
            }
        }
        Ok(Some(held(&pages, range).ok_or_else(|| self.damage("a row lies beyond its tables"))?))
    }

    fn open_page(&self, number: u32, sealed: &[u8]) -> Result<Arc<Vec<u8>>, String> {
        let (mut scratch, mut page) = (Vec::new(), Vec::new());
        self.directory.open_page(&self.cipher, number, sealed, &mut scratch, &mut page)?;
        Ok(Arc::new(page))
    }

    /// Where the pages that hold this part of the tables lie in the run.
    fn stored_range(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let pages = pages_of(range);
        Some(*self.offsets.get(*pages.start() as usize)?..*self.offsets.get(*pages.end() as usize + 1)?)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Vec<u8>>>> {
        // Pages are put in whole, whatever becomes of whoever puts them in.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn row_range(section_start: u64, row: u64, row_bytes: usize) -> Range<u64> {
    let start = section_start + row * row_bytes as u64;
    start..start + row_bytes as u64
}

/// The pages that hold a part of the tables, which is not empty.
fn pages_of(range: &Range<u64>) -> std::ops::RangeInclusive<u32> {
    let page = |at: u64| u32::try_from(at / INDEX_PAGE_BYTES as u64).unwrap_or(u32::MAX);
    page(range.start)..=page(range.end.saturating_sub(1))
}

/// A part of the tables, if all of its pages are held.
fn held(pages: &HashMap<u32, Arc<Vec<u8>>>, range: Range<u64>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).ok()?);
    for number in pages_of(&range) {
        let begins = u64::from(number) * INDEX_PAGE_BYTES as u64;
        let from = usize::try_from(range.start.saturating_sub(begins)).ok()?;
        let to = usize::try_from((range.end - begins).min(INDEX_PAGE_BYTES as u64)).ok()?;
        bytes.extend_from_slice(pages.get(&number)?.get(from..to)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
