//! Readers beside a pruner and beside merges of the index: what is moved while they read is found again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use common::{
    bench::{back_up_model, index, init, names, open, options, snapshots},
    beside::{Moment, Shared},
    compare::{CompareOptions, assert_same_tree},
    model::{ModelSource, Thing, read_back},
    sample::{noise, small_windows},
};
use repo_core::{
    backup::{Parent, backup},
    blob::{BlobKind, ReadBlobs},
    error::Error,
    id::BlobId,
    progress::{Cancel, Silent},
    repository::{Repository, reader::BlobReader},
    restore::{Everything, RestoreReport, restore},
    sink::local::{LocalOptions, LocalSink},
    store::{Place, count::CountingStore, memory::MemoryStore},
};

fn tree() -> Thing {
    let mut root = Thing::directory([("a", Thing::file(noise(1, 50_000))), ("d", Thing::directory([]))]);
    for i in 0..40 {
        root.put(format!("d/{i}").as_bytes(), Thing::file(noise(10 + i, 700)));
    }
    root
}

/// Stores everything again in other packs, with another index, and takes the old ones away.
fn move_everything(store: &MemoryStore, tree: &Thing) {
    let old: Vec<_> = [Place::Data, Place::Index].iter().flat_map(|place| names(store, *place)).collect();
    // A writer that finds no index stores everything.
    let aside: Vec<_> = old.iter().map(|name| (*name, store.bytes_of(name).unwrap())).collect();
    for name in &old {
        assert!(store.remove(name));
    }
    let options = repo_core::backup::BackupOptions { parent: Parent::None, ..options() };
    backup(&open(store.clone()), &ModelSource::new(tree), &options, &Silent, &Cancel::default()).unwrap();
    for (name, bytes) in aside {
        // The pruner takes its victims out of the index first; whoever reads by the old one may still find the packs.
        if name.place() == Place::Data {
            store.replace(&name, bytes);
        }
    }
    for name in old.iter().filter(|name| name.place() == Place::Data) {
        assert!(store.remove(name));
    }
}

fn reader(repository: &Arc<Repository>, cache_bytes: usize) -> BlobReader {
    BlobReader::new(Arc::clone(repository), Arc::new(index(repository)), cache_bytes)
}

/// Runs `work` once for each request it makes, with everything being moved right before that request.
fn move_before_each_request(work: impl Fn(&Arc<Repository>, &Thing)) {
    for at in 0.. {
        let (store, tree) = (MemoryStore::new(), tree());
        back_up_model(&init(store.clone()), &tree);
        let count = Arc::new(AtomicU64::new(0));
        let armed = Arc::new(AtomicU64::new(u64::MAX));
        let (counted, target, moved, contents) = (Arc::clone(&count), Arc::clone(&armed), store.clone(), tree.clone());
        let shared = Shared::new(&store, move |_: &Moment| {
            if counted.fetch_add(1, Ordering::SeqCst) == target.load(Ordering::SeqCst) {
                move_everything(&moved, &contents);
            }
        });
        let repository = open(shared);
        armed.store(count.load(Ordering::SeqCst) + at, Ordering::SeqCst);
        work(&repository, &tree);
        if count.load(Ordering::SeqCst) <= armed.load(Ordering::SeqCst) {
            assert!(at > 5, "it has made requests: {at}");
            return;
        }
    }
}

#[test]
fn everything_is_moved_at_every_request_of_a_reader() {
    move_before_each_request(|repository, tree| {
        // No cache, so that every blob is a request.
        let blobs = reader(repository, 1);
        let root = snapshots(repository)[0].1.tree;
        assert_eq!(read_back(&blobs, &root).unwrap(), tree.seen());
    });
}

#[test]
fn everything_is_moved_at_every_request_of_a_restore() {
    move_before_each_request(|repository, tree| {
        let blobs = reader(repository, 1 << 20);
        let root = snapshots(repository)[0].1.tree;
        let temp = tempfile::tempdir().unwrap();
        let (moved, plain) = (temp.path().join("moved"), temp.path().join("plain"));
        let report = restore_to(&blobs, &root, &moved);
        assert_eq!((report.problem_count, report.files_new), (0, 41), "{:#?}", report.problems);
        let unmoved = MemoryStore::new();
        back_up_model(&init(unmoved.clone()), tree);
        let unmoved = open(unmoved);
        restore_to(&reader(&unmoved, 1 << 20), &snapshots(&unmoved)[0].1.tree, &plain);
        assert_same_tree(&moved, &plain, &CompareOptions::default());
    });
}

fn restore_to(blobs: &BlobReader, tree: &BlobId, target: &std::path::Path) -> RestoreReport {
    let sink = LocalSink::new(target, &LocalOptions::default()).unwrap();
    restore(blobs, tree, &sink, &Everything, &small_windows(), &Silent, &Cancel::default()).unwrap()
}

#[test]
fn a_blob_missed_by_the_first_listing_is_located() {
    let (store, tree) = (MemoryStore::new(), tree());
    back_up_model(&init(store.clone()), &tree);
    let repository = open(store.clone());
    let root = snapshots(&repository)[0].1.tree;
    // A listing that straddles a merge may show neither the old runs nor the new one.
    let blobs = BlobReader::new(Arc::clone(&repository), Arc::default(), 1 << 20);
    assert!(blobs.locate(BlobKind::Tree, &root).unwrap().is_some());
    assert_eq!(read_back(&blobs, &root).unwrap(), tree.seen());
}

#[test]
fn what_is_lost_is_looked_for_a_bounded_number_of_times() {
    let (store, tree) = (MemoryStore::new(), tree());
    back_up_model(&init(store.clone()), &tree);
    let counting = Arc::new(CountingStore::new(store.clone()));
    let repository = common::bench::try_open(counting.clone()).unwrap();
    let blobs = reader(&repository, 1 << 20);
    let before = counting.counts();
    let mut bytes = Vec::new();
    for number in 0..5000_u32 {
        let mut id = BlobId([7; 32]);
        id.0[..4].copy_from_slice(&number.to_le_bytes());
        let result = blobs.read_blob(BlobKind::Data, &id, &mut bytes);
        assert!(matches!(result, Err(Error::MissingBlob { id: missing, .. }) if missing == id));
        assert!(blobs.locate(BlobKind::Data, &id).unwrap().is_none());
    }
    let lists = counting.counts().since(&before).lists;
    assert!((1..200).contains(&lists), "{lists} listings");
}
