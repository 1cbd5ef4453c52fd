//! Damage at rest: every byte of every object of a small repository is flipped, every object is cut at every length, removed,
//! replaced by another. A check must tell of each, and no reader may ever give wrong bytes.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests")]

mod check_fixture;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use check_fixture::{Small, check_all, check_with, open, small};
use repo_core::{
    blob::{BlobKind, ReadBlobs},
    check::{CheckReport, FindingKind, ReadData, Severity},
    envelope::object::SEAL_BYTES,
    index::set::IndexSet,
    repository::{Repository, reader::BlobReader},
    store::{ObjectName, Place, memory::MemoryStore},
};

/// Every how many bytes an object is damaged.
const STEP: usize = 1;

/// Runs `case` with each number below `count`, on both cores, each thread with a store of its own.
fn sweep(small: &Small, count: usize, case: impl Fn(&MemoryStore, &Arc<Repository>, usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let store = small.store.fork();
                let repository = open(&store);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    case(&store, &repository, number);
                }
            });
        }
    });
}

/// Reads every blob with whatever of the index can be read: right bytes or an error.
fn no_wrong_bytes(small: &Small, repository: &Arc<Repository>) {
    let mut damaged = Vec::new();
    let Ok(index) = IndexSet::load(repository.store(), repository.keys(), Some(&mut damaged)) else { return };
    let reader = BlobReader::new(Arc::clone(repository), Arc::new(index), 1 << 20);
    let mut bytes = Vec::new();
    for ((tree, id), expected) in &small.blobs {
        let kind = if *tree { BlobKind::Tree } else { BlobKind::Data };
        if reader.read_blob(kind, id, &mut bytes).is_ok() {
            assert_eq!(&bytes, expected, "{kind} blob {id}");
        }
    }
}

fn assert_told(report: &CheckReport, name: &ObjectName, what: &str) {
    let told = report
        .findings
        .iter()
        .any(|finding| finding.severity == Severity::Error && (finding.object == name.to_string()));
    assert!(told, "{what} of {name} goes unnoticed, or is told of another object: {:#?}", report.findings);
}

#[test]
fn the_small_repository_is_whole() {
    let small = small();
    for read_data in [ReadData::None, ReadData::All, ReadData::Percent(10.0), ReadData::Part { n: 1, t: 2 }] {
        let report = check_with(&small.repository, read_data);
        assert_eq!(report.errors(), 0, "{:#?}", report.findings);
        assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
        assert_eq!(report.findings[0].what, FindingKind::Tentative);
        assert_eq!(report.snapshots, 2);
        assert!(report.packs >= 4 && report.tree_pages >= 3, "{report:?}");
    }
    let bytes = small.store.stored_bytes();
    assert!((8_000..30_000).contains(&bytes), "{bytes} bytes, {} objects", small.store.names().len());
    no_wrong_bytes(&small, &small.repository);
}

#[test]
fn every_flip_is_told() {
    let small = small();
    let cases: Vec<_> = small
        .store
        .names()
        .into_iter()
        .flat_map(|name| (0..small.store.bytes_of(&name).unwrap().len()).step_by(STEP).map(move |at| (name, at)))
        .collect();
    sweep(&small, cases.len(), |store, repository, number| {
        let (name, at) = cases[number];
        let whole = store.bytes_of(&name).unwrap();
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << (at % 8);
        store.replace(&name, bytes);
        assert_told(&check_all(repository), &name, &format!("a flip at {at}"));
        no_wrong_bytes(&small, repository);
        store.replace(&name, whole);
    });
}

#[test]
fn every_cut_and_extension_is_told() {
    let small = small();
    let cases: Vec<_> = small
        .store
        .names()
        .into_iter()
        .flat_map(|name| {
            let length = small.store.bytes_of(&name).unwrap().len();
            (0..length).step_by(STEP).chain([length + 1, length + 64]).map(move |length| (name, length))
        })
        .collect();
    sweep(&small, cases.len(), |store, repository, number| {
        let (name, length) = cases[number];
        let whole = store.bytes_of(&name).unwrap();
        let mut bytes = whole.to_vec();
        bytes.resize(length, 0);
        store.replace(&name, bytes);
        assert_told(&check_all(repository), &name, &format!("a length of {length}"));
        if length % 3 == 0 {
            // Without reading data, too, since the size is listed.
            assert_told(&check_with(repository, ReadData::None), &name, &format!("a length of {length}"));
        }
        no_wrong_bytes(&small, repository);
        store.replace(&name, whole);
    });
}

/// What is lost and nobody misses: keys and notes, which nothing names; snapshots that were never committed. A lost seal makes its
/// snapshot tentative, which is told as a hint.
#[test]
fn every_loss_is_told() {
    let small = small();
    for name in small.store.names() {
        let store = small.store.fork();
        let repository = open(&store);
        let is_seal = name.place() == Place::Snapshots && store.bytes_of(&name).unwrap().len() as u64 == SEAL_BYTES;
        assert!(store.remove(&name));
        let report = check_all(&repository);
        let told: BTreeSet<_> = report.findings.iter().map(|finding| finding.object.clone()).collect();
        match name.place() {
            Place::Keys | Place::Locks => assert_eq!(report.errors(), 0),
            Place::Snapshots if is_seal => {
                assert_eq!(report.findings.iter().filter(|finding| finding.what == FindingKind::Tentative).count(), 2);
            }
            Place::Snapshots if name.id() == small.tentative.into() => assert!(report.findings.is_empty()),
            Place::Index => assert!(report.findings.iter().any(|finding| finding.what == FindingKind::BlobMissing)),
            Place::Config | Place::Snapshots | Place::Data => {
                assert_eq!(report.errors(), 1, "{name}: {:#?}", report.findings);
                assert!(told.contains(&name.to_string()), "{name}: {:#?}", report.findings);
            }
        }
        if name.place() == Place::Data {
            assert_eq!(report.findings[0].what, FindingKind::PackMissing);
            assert!(report.findings[0].suffering.total > 0, "{:#?}", report.findings);
        }
        no_wrong_bytes(&small, &repository);
    }
}

#[test]
fn every_exchange_is_told() {
    let small = small();
    let other = check_fixture::small();
    let names = small.store.names();
    let cases: Vec<_> =
        names.iter().flat_map(|a| names.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b).collect();
    sweep(&small, cases.len(), |store, repository, number| {
        let (name, from) = cases[number];
        let whole = store.bytes_of(&name).unwrap();
        store.replace(&name, store.bytes_of(&from).unwrap());
        assert_told(&check_all(repository), &name, &format!("an exchange by {from}"));
        no_wrong_bytes(&small, repository);
        store.replace(&name, whole);
    });
    // An object of another repository.
    for foreign in other.store.names() {
        let store = small.store.fork();
        let repository = open(&store);
        store.replace(&foreign, other.store.bytes_of(&foreign).unwrap());
        let report = check_all(&repository);
        if foreign.place() == Place::Data {
            // Nobody names it.
            assert!(report.findings.iter().any(|finding| matches!(finding.what, FindingKind::PackUnindexed { .. })));
        } else {
            assert_told(&report, &foreign, "a foreign object");
        }
    }
}
