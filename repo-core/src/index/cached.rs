//! Tables of runs in the local cache.
//!
//! The plain tables of a run are checked once, when they are written to a file; from then on the file's keyed hash says that they are
//! the same, and they are mapped. A large run passes through memory in parts.

use crate::{
    cache::{Cache, table::LARGE_RUN_BYTES},
    crypto::keys::{Keys, ObjectKind},
    envelope::{
        container::{FOOTER_BYTES, Footer},
        header::HEADER_BYTES,
    },
    error::Result,
    id::IndexId,
    index::{
        run::{Pages, decode_run},
        table::{Counts, RunBytes, RunTable},
    },
    limits,
    store::{ByteRange, ObjectName, Place, Store},
};

/// Stored bytes of a large run that are read at once.
const PART_BYTES: u64 = 4 << 20;

/// How much of a run's end is read at first: the directory of any run but the very largest.
const FIRST_SUFFIX_BYTES: u64 = 128 << 10;

/// The tables of a run, from the cache or else from the store and into the cache.
///
/// # Errors
/// When it cannot be read from the store, or is damaged there. The cache has no errors.
pub(super) fn read_run(
    cache: &Cache,
    store: &dyn Store,
    keys: &Keys,
    id: IndexId,
    size_bytes: u64,
) -> Result<RunTable> {
    if let Some((shape, mapping)) = cache.table(id)
        && let Ok(table) = RunTable::checked_before(RunBytes::Mapped(mapping), shape.into())
    {
        return Ok(table);
    }
    if size_bytes >= LARGE_RUN_BYTES
        && let Some(table) = stream(cache, store, keys, id, size_bytes)?
    {
        return Ok(table);
    }
    let name = ObjectName::new(Place::Index, id);
    let mut bytes = Vec::new();
    store.get(&name, ByteRange::WholeUpTo { limit_bytes: limits::INDEX_BYTES_MAX }, &mut bytes)?;
    let table = decode_run(keys, &bytes, &name)?;
    let tables = table.bytes().as_ref();
    if let Some(mut file) = cache.begin_table(id, table.counts().into(), tables.len() as u64) {
        file.write(tables);
        if let Some(written) = file.finish() {
            _ = written.publish();
        }
    }
    Ok(table)
}

/// Reads a run in parts and writes its tables to the cache; `None` where they cannot be written.
fn stream(cache: &Cache, store: &dyn Store, keys: &Keys, id: IndexId, size_bytes: u64) -> Result<Option<RunTable>> {
    let name = ObjectName::new(Place::Index, id);
    let mut stored = Vec::new();
    store.get(&name, ByteRange::Suffix { length_bytes: FIRST_SUFFIX_BYTES.min(size_bytes) }, &mut stored)?;
    let footer = Footer::open(keys, ObjectKind::Index, &stored, size_bytes, &name)?;
    let wanted = footer.directory_stored_bytes + FOOTER_BYTES as u64;
    if wanted > stored.len() as u64 {
        store.get(&name, ByteRange::Suffix { length_bytes: wanted }, &mut stored)?;
    }
    let mut pages = Pages::open(keys, footer, &stored, &name)?;
    let counts = pages.counts();
    let Some(mut file) = cache.begin_table(id, counts.into(), counts.table_bytes()) else { return Ok(None) };
    // The header lies before the first page: it comes with the first part.
    let mut before = HEADER_BYTES;
    while let Some(range) = pages.next_range(PART_BYTES) {
        let offset_bytes = range.start - before as u64;
        let range = ByteRange::Exact { offset_bytes, length_bytes: range.end - offset_bytes };
        store.get(&name, range, &mut stored)?;
        if before > 0 {
            pages.check_header(&stored)?;
        }
        pages.open_range(stored.get(before..).unwrap_or_default(), &mut |page| file.write(page))?;
        before = 0;
    }
    let Some(written) = file.finish() else { return Ok(None) };
    pages.table(written.mapping())?;
    Ok(RunTable::checked_before(RunBytes::Mapped(written.publish()), counts).ok())
}

impl From<Counts> for [u32; 4] {
    fn from(counts: Counts) -> Self {
        [counts.data, counts.tree, counts.frames, counts.packs]
    }
}

impl From<[u32; 4]> for Counts {
    fn from([data, tree, frames, packs]: [u32; 4]) -> Self {
        Self { data, tree, frames, packs }
    }
}
