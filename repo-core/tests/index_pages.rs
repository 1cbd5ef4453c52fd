//! Looking up a few blobs in a large index that is not on this machine: how little is asked of the store, and what faults do to it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{path::Path, sync::Arc};

use common::{
    bench::{TestRuntime, assert_same, back_up_model, index, init, names, open, snapshots},
    model::{Thing, read_back},
    sample::noise,
};
use repo_core::{
    blob::{BlobKind, Compression, ReadBlobs},
    cache::{Cache, Scope},
    error::{Result, StoreErrorKind},
    id::{BlobId, PackId},
    index::{builder::IndexBuilder, paged::Paging, run::StoredRun},
    pack::{
        directory::{PackBlob, PackDirectory, PackFrame},
        reader::PackKey,
    },
    repository::{Repository, reader::BlobReader},
    store::{
        ObjectName, Place, Store,
        count::CountingStore,
        memory::MemoryStore,
        testing::fault::{Fault, FaultStore},
    },
    tree::{
        node::{Content, NodeKind},
        walk::lookup,
    },
};

/// Runs from 300 KB on are read by pages; a request takes as long as 10 KB.
const PAGING: Paging = Paging { run_bytes_min: 300 << 10, request_bytes: 10_000 };

/// Made-up blobs in each run.
const BLOBS: u32 = 60_000;

fn tree() -> Thing {
    let mut root = Thing::directory([("a", Thing::file(noise(1, 5000)))]);
    for directory in 0..8 {
        root.put(format!("d{directory}").as_bytes(), Thing::directory([]));
        for file in 0..6 {
            root.put(format!("d{directory}/{file}").as_bytes(), Thing::file(noise(100 * directory + file, 300)));
        }
    }
    root
}

/// Adds packs that are nowhere.
fn made_up(builder: &mut IndexBuilder, repository: &Repository, seed: u32) {
    for pack in 0..BLOBS / 3000 {
        let frames = (0..30_u32).map(|frame| {
            let blobs = (0..100_u32).map(|blob| PackBlob {
                id: repository
                    .keys()
                    .blob_id(BlobKind::Data, &[seed, pack, frame, blob].map(u32::to_le_bytes).concat()),
                length_bytes: 1,
            });
            let compression = Compression::Zstd;
            PackFrame { stored_bytes: 100, plain_bytes: 100, compression, blobs: blobs.collect() }
        });
        let mut id = [9; 32];
        id[..8].copy_from_slice([seed, pack].map(u32::to_le_bytes).as_flattened());
        let directory = PackDirectory { frames: frames.collect() };
        let key = PackKey { salt: [3; 32], version: 1 };
        builder.add_pack(PackId(id), key, 100_000, BlobKind::Data, &directory);
    }
}

fn put(store: &MemoryStore, run: &StoredRun) -> ObjectName {
    let name = ObjectName::new(Place::Index, run.id);
    store.put(&name, &run.bytes).unwrap();
    name
}

/// A repository whose index is several large runs, one of which names what is really there. Gives that one.
fn large(store: &MemoryStore, tree: &Thing, others: u32) -> ObjectName {
    back_up_model(&init(store.clone()), tree);
    let repository = open(store.clone());
    for seed in 0..others {
        let mut builder = IndexBuilder::default();
        made_up(&mut builder, &repository, seed);
        put(store, &builder.finish(repository.keys(), &TestRuntime).unwrap());
    }
    enlarge(store, &repository, u32::MAX)
}

/// Replaces the runs that are small by one with many made-up blobs beside what they name.
fn enlarge(store: &MemoryStore, repository: &Arc<Repository>, seed: u32) -> ObjectName {
    let mut builder = IndexBuilder::default();
    let index = index(repository);
    let small = || index.runs().iter().filter(|run| run.size_bytes < PAGING.run_bytes_min);
    small().for_each(|run| builder.add_table(&run.table));
    made_up(&mut builder, repository, seed);
    let name = put(store, &builder.finish(repository.keys(), &TestRuntime).unwrap());
    small().for_each(|run| assert!(store.remove(&ObjectName::new(Place::Index, run.id))));
    name
}

fn index_bytes(store: &MemoryStore) -> u64 {
    names(store, Place::Index).iter().map(|name| store.bytes_of(name).unwrap().len() as u64).sum()
}

fn reader(repository: &Arc<Repository>, cache_bytes: usize) -> Result<BlobReader> {
    Ok(BlobReader::with_lookup(Arc::clone(repository), repository.load_lookup(PAGING, None)?, cache_bytes))
}

fn open_with(store: impl Store + 'static, base: &Path) -> Arc<Repository> {
    let mut repository = open(store);
    let cache = Cache::new(base, repository.keys(), Arc::new(TestRuntime), Scope::All, 1 << 30);
    Arc::get_mut(&mut repository).unwrap().attach_cache(Arc::new(cache));
    repository
}

/// Reads a file of one blob.
fn read_file(blobs: &BlobReader, root: &BlobId, path: &[u8]) -> Result<Vec<u8>> {
    let node = lookup(blobs, root, path, "test")?.unwrap();
    let NodeKind::File { content: Content::Blob(blob), .. } = node.kind else { panic!("{:?}", node.kind) };
    let mut bytes = Vec::new();
    blobs.read_blob(BlobKind::Data, &blob, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn one_file_takes_a_few_pages_of_a_large_index() {
    let (store, tree) = (MemoryStore::new(), tree());
    large(&store, &tree, 4);
    let index_bytes = index_bytes(&store);
    assert!(index_bytes > 5 * PAGING.run_bytes_min);
    let folder = tempfile::tempdir().unwrap();
    let counting = Arc::new(CountingStore::new(store.clone()));
    let mut costs = Vec::new();
    for path in [&b"d3/2"[..], b"d3/2", b"d3/3"] {
        let repository = open_with(counting.clone(), folder.path());
        let root = snapshots(&repository)[0].1.tree;
        let before = counting.counts();
        assert_eq!(read_file(&reader(&repository, 1 << 20).unwrap(), &root, path).unwrap().len(), 300);
        costs.push(counting.counts().since(&before));
    }
    // Five directories; for each of three blobs a page of ids in five runs at the very most, then location, frame, pack, and the blob.
    let [first, second, third] = costs[..] else { panic!() };
    assert!(first.lists == 1 && first.gets <= 5 + 3 * 5 + 3 + 1 + 3, "{first:?}");
    assert!(first.read_bytes < index_bytes / 2, "{first:?} of {index_bytes}");
    // What was looked up before is in the cache, but for the file itself.
    assert!(second.gets <= 1 && second.read_bytes < 10_000, "{second:?}");
    assert!(third.gets <= 5 + 2 + 1, "{third:?}");
}

#[test]
fn everything_takes_the_index_once() {
    let (store, tree) = (MemoryStore::new(), tree());
    large(&store, &tree, 2);
    let index_bytes = index_bytes(&store);
    let data_bytes: u64 =
        names(&store, Place::Data).iter().map(|name| store.bytes_of(name).unwrap().len() as u64).sum();
    for with_cache in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let counting = Arc::new(CountingStore::new(store.clone()));
        let repository = if with_cache { open_with(counting.clone(), folder.path()) } else { open(counting.clone()) };
        let root = snapshots(&repository)[0].1.tree;
        let before = counting.counts();
        let blobs = reader(&repository, 1 << 20).unwrap();
        for _ in 0..30 {
            assert_same(&read_back(&blobs, &root).unwrap(), &tree.seen());
        }
        let counts = counting.counts().since(&before);
        assert!(counts.read_bytes < 2 * index_bytes + 2 * data_bytes, "{counts:?} of {index_bytes} and {data_bytes}");
    }
}

/// A get that fails is told of as what it is, and the next attempt of the same reader finds everything.
#[test]
fn every_get_fails_once_or_for_ever() {
    let (store, tree) = (MemoryStore::new(), tree());
    large(&store, &tree, 2);
    let root = snapshots(&open(store.clone()))[0].1.tree;
    // What is tested is the index and what is read by it, not the opening of the repository.
    let opened = Arc::new(FaultStore::new(store.clone()));
    open(opened.clone());
    let begin = opened.operations();
    for for_ever in [false, true] {
        for at in 0.. {
            let at = begin + at;
            let fault = Fault::FailBefore(StoreErrorKind::Retry);
            let faulty = FaultStore::new(store.clone());
            let faulty = Arc::new(if for_ever { faulty.from(at, fault) } else { faulty.at(at, fault) });
            let repository = open(faulty.clone());
            let work = |blobs: &BlobReader| read_file(blobs, &root, b"d5/1");
            let mut result = reader(&repository, 1).and_then(|blobs| {
                let first = work(&blobs);
                if for_ever {
                    first
                } else {
                    Ok(first.or_else(|_| work(&blobs)).expect("the second time it goes well"))
                }
            });
            if !for_ever && result.is_err() {
                result = reader(&repository, 1).and_then(|blobs| work(&blobs));
            }
            match result {
                Ok(bytes) => assert_eq!(bytes, noise(501, 300)),
                Err(error) => {
                    assert!(for_ever, "{at}: {error}");
                    assert_eq!(error.store_kind(), Some(StoreErrorKind::Retry), "{at}: {error}");
                }
            }
            if faulty.struck() == 0 {
                assert!(at > begin + 8, "it has made requests: {at}");
                break;
            }
        }
    }
}

/// A page that is damaged costs what only it tells of, which is named; a second run that says the same makes good for it.
#[test]
fn a_damaged_page_is_told_of_where_it_is_needed() {
    let (store, tree) = (MemoryStore::new(), tree());
    let name = large(&store, &tree, 1);
    let whole = store.bytes_of(&name).unwrap();
    let root = snapshots(&open(store.clone()))[0].1.tree;
    let read = |store: &MemoryStore| {
        let repository = open(store.clone());
        read_file(&reader(&repository, 1 << 20)?, &root, b"d2/4")
    };
    let (mut told, mut read_all) = (0, 0);
    let places: Vec<usize> = (100..whole.len()).step_by(whole.len() / 40).collect();
    for at in &places {
        let mut bytes = whole.to_vec();
        bytes[*at] ^= 1;
        store.replace(&name, bytes);
        match read(&store) {
            Ok(bytes) => {
                read_all += 1;
                assert_eq!(bytes, noise(204, 300));
            }
            Err(error) => {
                told += 1;
                assert!(error.is_damage() && error.to_string().contains(&name.to_string()), "{at}: {error}");
            }
        }
    }
    assert!(told > 0 && read_all > 10, "{told} {read_all}");
    store.replace(&name, whole.to_vec());
    // Another run names the same.
    let repository = open(store.clone());
    let mut builder = IndexBuilder::default();
    index(&repository).runs().iter().for_each(|run| builder.add_table(&run.table));
    put(&store, &builder.finish(repository.keys(), &TestRuntime).unwrap());
    for at in &places {
        let mut bytes = whole.to_vec();
        bytes[*at] ^= 1;
        store.replace(&name, bytes);
        assert_eq!(read(&store).unwrap(), noise(204, 300), "{at}");
    }
}

/// Runs that are merged away while they are being read are looked for again.
#[test]
fn a_run_that_is_gone_was_merged() {
    let (store, tree) = (MemoryStore::new(), tree());
    let name = large(&store, &tree, 1);
    let repository = open(store.clone());
    let root = snapshots(&repository)[0].1.tree;
    let blobs = reader(&repository, 1 << 20).unwrap();
    let mut builder = IndexBuilder::default();
    index(&repository).runs().iter().for_each(|run| builder.add_table(&run.table));
    put(&store, &builder.finish(repository.keys(), &TestRuntime).unwrap());
    assert!(store.remove(&name));
    assert_same(&read_back(&blobs, &root).unwrap(), &tree.seen());
    assert!(blobs.locate(BlobKind::Data, &BlobId([5; 32])).unwrap().is_none());
}
