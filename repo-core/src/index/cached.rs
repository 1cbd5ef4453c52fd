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
        run::{Pages, StoredRun, decode_run},
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
    if let Some(table) = kept(cache, id) {
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

/// The tables of a run, if they are in the cache.
pub(super) fn kept(cache: &Cache, id: IndexId) -> Option<RunTable> {
    let (shape, mapping) = cache.table(id)?;
    RunTable::checked_before(RunBytes::Mapped(mapping), shape.into()).ok()
}

/// Maps the tables of a run that was just stored from a file. Where the cache is for objects of this store, they stay there, so that the
/// next command need not fetch them. `None` where nothing can be written.
pub fn keep(cache: &Cache, keys: &Keys, run: &StoredRun) -> Option<RunTable> {
    let name = ObjectName::new(Place::Index, run.id);
    let write = || -> Result<Option<RunTable>> {
        let footer = Footer::open(keys, ObjectKind::Index, &run.bytes, run.bytes.len() as u64, &name)?;
        let mut pages = Pages::open(keys, footer, &run.bytes, &name)?;
        let counts = pages.counts();
        let Some(mut file) = cache.begin_table(run.id, counts.into(), counts.table_bytes()) else { return Ok(None) };
        pages.open_all(&run.bytes, &mut |page| file.write(page))?;
        let Some(written) = file.finish() else { return Ok(None) };
        pages.table(written.mapping())?;
        let mapping = if cache.keeps_table(run.bytes.len() as u64) { written.publish() } else { written.unnamed() };
        Ok(RunTable::checked_before(RunBytes::Mapped(mapping), counts).ok())
    };
    write().unwrap_or_default() // an error is told of by the next command, which reads it from the store
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        blob::{BlobKind, Compression},
        cache::Scope,
        crypto::keys::MasterKey,
        id::{BlobId, PackId, RepositoryId},
        index::{builder::IndexBuilder, run},
        pack::{
            directory::{PackBlob, PackDirectory, PackFrame},
            reader::PackKey,
        },
        runtime::SystemRuntime,
        store::{count::CountingStore, memory::MemoryStore},
    };

    fn keys() -> Keys {
        Keys::new(MasterKey::from_bytes([1; 32]), RepositoryId([2; 32]))
    }

    fn id(number: u32) -> BlobId {
        keys().blob_id(BlobKind::Data, &number.to_le_bytes())
    }

    /// A run of several pages.
    fn run(blobs: u32) -> StoredRun {
        let blobs = (0..blobs).map(|number| PackBlob { id: id(number), length_bytes: 1 }).collect::<Vec<_>>();
        let plain_bytes = u32::try_from(blobs.len()).unwrap();
        let frame = PackFrame { stored_bytes: 5000, plain_bytes, compression: Compression::Zstd, blobs };
        let mut builder = IndexBuilder::default();
        let key = PackKey { salt: [3; 32], version: 1 };
        let directory = PackDirectory { frames: vec![frame] };
        builder.add_pack(PackId([4; 32]), key, 10_000, BlobKind::Data, &directory);
        builder.finish(&keys(), &SystemRuntime).unwrap()
    }

    fn cache(base: &std::path::Path, limit_bytes: u64) -> Cache {
        Cache::new(base, &keys(), Arc::new(SystemRuntime), Scope::All, limit_bytes)
    }

    #[test]
    fn a_run_that_passes_in_parts_has_the_same_tables() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), 1 << 30);
        for blobs in [1, 3276, 20_000, 300_000] {
            let run = run(blobs);
            let store = CountingStore::new(MemoryStore::new());
            store.put(&ObjectName::new(Place::Index, run.id), &run.bytes).unwrap();
            let whole = run::read_run(&store, &keys(), run.id).unwrap();
            let size_bytes = run.bytes.len() as u64;
            let gets = store.counts().gets;
            let streamed = stream(&cache, &store, &keys(), run.id, size_bytes).unwrap().expect("it can be written");
            assert!(store.counts().gets - gets <= 2 + size_bytes.div_ceil(PART_BYTES - (64 << 10)));
            let gets = store.counts().gets;
            let mapped = read_run(&cache, &store, &keys(), run.id, size_bytes).unwrap();
            assert_eq!(store.counts().gets, gets, "it is here");
            for table in [&streamed, &mapped] {
                assert!(matches!(table.bytes(), RunBytes::Mapped(_)));
                assert_eq!((table.counts(), table.bytes().as_ref()), (whole.counts(), whole.bytes().as_ref()));
            }
            for number in (0..blobs).step_by(997) {
                assert_eq!(mapped.find(BlobKind::Data, &id(number)), whole.find(BlobKind::Data, &id(number)));
            }
        }
    }

    /// Whatever is damaged in the store is found before anything is kept; and where nothing can be kept, there is nothing to be had.
    #[test]
    fn a_damaged_run_is_not_kept() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (cache, small) = (cache(folder.path(), 1 << 30), cache(other.path(), 1000));
        let run = run(9000);
        let name = ObjectName::new(Place::Index, run.id);
        let store = MemoryStore::new();
        let size_bytes = run.bytes.len() as u64;
        for at in (0..run.bytes.len()).step_by(211).chain(run.bytes.len() - 200..run.bytes.len()) {
            let mut bytes = run.bytes.clone();
            bytes[at] ^= 16;
            store.replace(&name, bytes);
            let whole = run::read_run(&store, &keys(), run.id);
            match stream(&cache, &store, &keys(), run.id, size_bytes) {
                Err(error) => assert!(error.is_damage() || error.is_newer(), "{at}: {error}"),
                // Padding lies between pages and directory, and is nobody's.
                Ok(table) => assert_eq!(table.unwrap().bytes().as_ref(), whole.unwrap().bytes().as_ref(), "{at}"),
            }
        }
        for length in (0..run.bytes.len()).step_by(1009) {
            store.replace(&name, &run.bytes[..length]);
            assert!(stream(&cache, &store, &keys(), run.id, length as u64).is_err(), "{length}");
            assert!(stream(&cache, &store, &keys(), run.id, size_bytes).is_err(), "{length}");
        }
        store.replace(&name, run.bytes.clone());
        assert!(stream(&small, &store, &keys(), run.id, size_bytes).unwrap().is_none());
        let table = read_run(&small, &store, &keys(), run.id, size_bytes).unwrap();
        assert!(matches!(table.bytes(), RunBytes::Heap(_)) && small.table(run.id).is_none());
    }
}
