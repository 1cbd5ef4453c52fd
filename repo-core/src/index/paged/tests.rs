use super::*;
use crate::{
    blob::Compression,
    cache::Scope,
    crypto::keys::MasterKey,
    id::{BlobId, PackId, RepositoryId},
    index::{builder::IndexBuilder, run::StoredRun},
    pack::{
        directory::{PackBlob, PackDirectory, PackFrame},
        reader::PackKey,
    },
    runtime::SystemRuntime,
    store::{count::CountingStore, memory::MemoryStore},
};

const FREE: Paging = Paging { run_bytes_min: 0, request_bytes: 0 };

fn keys() -> Keys {
    Keys::new(MasterKey::from_bytes([1; 32]), RepositoryId([2; 32]))
}

fn id(kind: BlobKind, number: u32) -> BlobId {
    keys().blob_id(kind, &number.to_le_bytes())
}

/// A run of data and tree blobs in packs of several frames; every tenth blob is there twice.
fn run(data: u32, tree: u32) -> StoredRun {
    let mut builder = IndexBuilder::default();
    for (kind, blobs, name) in [(BlobKind::Data, data, 1), (BlobKind::Tree, tree, 2)] {
        let numbers: Vec<u32> = (0..blobs).chain((0..blobs).step_by(10)).collect();
        for (pack, numbers) in (0_u32..).zip(numbers.chunks(1500)) {
            let frames = numbers.chunks(100).map(|numbers| PackFrame {
                stored_bytes: 50,
                plain_bytes: u32::try_from(numbers.len()).unwrap(),
                compression: Compression::Raw,
                blobs: numbers.iter().map(|number| PackBlob { id: id(kind, *number), length_bytes: 1 }).collect(),
            });
            let mut pack_id = [name; 32];
            pack_id[..4].copy_from_slice(&pack.to_le_bytes());
            let key = PackKey { salt: [3; 32], version: 1 };
            let directory = PackDirectory { frames: frames.collect() };
            builder.add_pack(PackId(pack_id), key, 10_000, kind, &directory);
        }
    }
    builder.finish(&keys(), &SystemRuntime).unwrap()
}

fn store(run: &StoredRun) -> CountingStore<MemoryStore> {
    let store = CountingStore::new(MemoryStore::new());
    store.put(&ObjectName::new(Place::Index, run.id), &run.bytes).unwrap();
    store
}

fn by_table(table: &RunTable, kind: BlobKind, id: &BlobId) -> Vec<(BlobLocation, PackRow)> {
    table.find_all(kind, id).map(|(pack, location)| (location, table.pack(pack).unwrap())).collect()
}

/// By pages, what a table that is here as a whole says; and the frames beside it.
#[test]
fn pages_say_what_tables_say() {
    for (data, tree) in [(1, 0), (0, 1), (3276, 3276), (3000, 1), (9000, 4000), (3275, 3278)] {
        let run = run(data, tree);
        let (store, keys) = (store(&run), keys());
        let origin = Origin { store: &store, keys: &keys, cache: None };
        let table = read_run(&store, &keys, run.id).unwrap();
        // What it spends does not count.
        let size_bytes = run.bytes.len() as u64;
        let mut paged = PagedRun::open(&origin, run.id, size_bytes, FREE).unwrap();
        paged.size_bytes = u64::MAX;
        for (kind, blobs) in [(BlobKind::Data, data), (BlobKind::Tree, tree)] {
            for number in (0..blobs).step_by(61).chain(blobs.saturating_sub(2)..blobs + 40) {
                let id = id(kind, number);
                let found = paged.find_all(&origin, kind, (&id).into()).unwrap();
                let places: Vec<_> = found.iter().map(|found| (found.location, found.pack)).collect();
                assert_eq!(places, by_table(&table, kind, &id), "{data} {tree} {kind} {number}");
                for found in found {
                    let frames = paged.frames(&found, 0..u32::MAX);
                    assert!(frames.contains(&found.location.frame));
                    let first = found.pack.first_frame;
                    let all = (first..first + found.pack.frames).map(|row| table.frame(row).unwrap().1);
                    assert_eq!(frames, all.collect::<Vec<_>>());
                }
            }
        }
        assert!(!paged.is_whole());
    }
}

#[test]
fn a_few_pages_are_fetched_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys();
    let cache = Cache::new(folder.path(), &keys, Arc::new(SystemRuntime), Scope::All, 1 << 30);
    let run = run(100_000, 5000);
    let (store, size_bytes) = (store(&run), run.bytes.len() as u64);
    let origin = Origin { store: &store, keys: &keys, cache: Some(&cache) };
    let look = || {
        let before = store.counts();
        let paged = PagedRun::open(&origin, run.id, size_bytes, FREE).unwrap();
        for kind in BlobKind::ALL {
            for _ in 0..3 {
                assert_eq!(paged.find_all(&origin, kind, (&id(kind, 4321)).into()).unwrap().len(), 1);
            }
        }
        store.counts().since(&before)
    };
    let first = look();
    // The directory; a page of ids, a page or two of locations for each kind; frames and packs.
    assert!(first.gets <= 6 && first.read_bytes < size_bytes / 4, "{first:?} of {size_bytes}");
    assert_eq!(look().gets, 0);
    // What somebody puts in the place of what was kept is fetched again.
    let pages = cache.folder().join("pages");
    let files: Vec<_> = std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().path()).collect();
    for (path, other) in files.iter().zip(files.iter().skip(1)) {
        std::fs::copy(other, path).unwrap();
    }
    let again = look();
    assert!(again.gets > 0 && again.gets <= first.gets, "{again:?}");
    cache.retain_pages(&[crate::id::ObjectId([7; 32])].into());
    assert_eq!(std::fs::read_dir(&pages).unwrap().count(), 0);
}

/// Whoever looks up much pays at most twice what the whole run costs.
#[test]
fn many_lookups_fetch_the_run() {
    for request_bytes in [0, 10_000, 100_000, 1 << 30] {
        let run = run(100_000, 5000);
        let (store, keys, size_bytes) = (store(&run), keys(), run.bytes.len() as u64);
        let origin = Origin { store: &store, keys: &keys, cache: None };
        let paged = PagedRun::open(&origin, run.id, size_bytes, Paging { request_bytes, ..FREE }).unwrap();
        for number in 0..5000 {
            let kind = if number % 7 == 0 { BlobKind::Tree } else { BlobKind::Data };
            let found = paged.find_all(&origin, kind, (&id(kind, number)).into()).unwrap();
            assert_eq!(found.len(), if number % 10 == 0 { 2 } else { 1 });
        }
        assert!(paged.is_whole());
        let counts = store.counts();
        let cost_bytes = counts.read_bytes + (counts.gets - 1) * request_bytes;
        assert!(cost_bytes <= 2 * size_bytes + request_bytes, "{request_bytes}: {counts:?} for {size_bytes}");
    }
}

/// Whatever is damaged is told of by name, or not needed: nothing else is ever found than what is there.
#[test]
fn damage_is_named() {
    let run = run(9000, 300);
    let (keys, size_bytes) = (keys(), run.bytes.len() as u64);
    let name = ObjectName::new(Place::Index, run.id);
    let store = MemoryStore::new();
    store.put(&name, &run.bytes).unwrap();
    let table = read_run(&store, &keys, run.id).unwrap();
    let (mut told, mut found) = (0, 0);
    for at in (0..run.bytes.len()).step_by(1511).chain(run.bytes.len() - 200..run.bytes.len()) {
        let mut bytes = run.bytes.clone();
        bytes[at] ^= 16;
        store.replace(&name, bytes);
        let origin = Origin { store: &store, keys: &keys, cache: None };
        let paged = match PagedRun::open(&origin, run.id, size_bytes, FREE) {
            Ok(paged) => paged,
            Err(error) => {
                assert!(error.is_damage() || error.is_newer(), "{at}: {error}");
                continue;
            }
        };
        for number in [1, 4000, 8999] {
            let id = id(BlobKind::Data, number);
            match paged.find_all(&origin, BlobKind::Data, (&id).into()) {
                Ok(places) => {
                    found += 1;
                    let places: Vec<_> = places.iter().map(|found| (found.location, found.pack)).collect();
                    assert_eq!(places, by_table(&table, BlobKind::Data, &id));
                }
                Err(error) => {
                    told += 1;
                    assert!(error.is_damage() && error.to_string().contains(&name.to_string()), "{at}: {error}");
                }
            }
        }
    }
    assert!(told > 50 && found > 50, "{told} {found}");
    for length in (0..run.bytes.len()).step_by(3001) {
        store.replace(&name, &run.bytes[..length]);
        let origin = Origin { store: &store, keys: &keys, cache: None };
        assert!(PagedRun::open(&origin, run.id, length as u64, FREE).is_err(), "{length}");
        assert!(PagedRun::open(&origin, run.id, size_bytes, FREE).is_err(), "{length}");
    }
}
