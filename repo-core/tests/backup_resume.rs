//! Checkpoints: what a backup that is cut short has finished is claimed, can be looked at, and is not read again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    bench::{GONE, assert_holds, back_up, back_up_model, init, init_with, names, open, options, reader, snapshots},
    beside::{Moment, Shared},
    checkpoints::{Run, tentative},
    model::{ModelSource, Seen, Thing, read_back},
    prune_stage::{PruneStage, note, thorough, version},
    sample::noise,
};
use repo_core::{
    backup::BackupOptions,
    error::{Error, StoreErrorKind},
    progress::{Cancel, Silent},
    prune::prune,
    repository::{Repository, config::Parameters},
    source::FileType,
    store::{
        Place,
        memory::MemoryStore,
        testing::{Fault, FaultStore, Request},
    },
};

/// Directories in directories, many files, one that takes several pieces.
fn tree() -> Thing {
    let mut root = Thing::directory([("a", Thing::directory([])), ("z", Thing::file(noise(1, 700)))]);
    for directory in 0..5 {
        let path = format!("a/{directory}");
        root.put(path.as_bytes(), Thing::directory([("link", Thing::symlink(b"x"))]));
        for file in 0..6 {
            let path = format!("{path}/{file}");
            root.put(
                path.as_bytes(),
                Thing::file(noise(100 * directory + file, 400 + 90 * usize::try_from(file).unwrap())),
            );
        }
    }
    root.put(b"a/3/large", Thing::file(noise(2, 9000)));
    root
}

fn bytes(seen: &BTreeMap<Vec<u8>, Seen>) -> u64 {
    seen.values().map(|seen| seen.content.len() as u64).sum()
}

/// What unfinished snapshots hold: whole entries, and beginnings of files. Returns the bytes of the files that are whole in any.
fn check_tentative(repository: &Arc<Repository>, tree: &Thing) -> u64 {
    let truth = tree.seen();
    let mut whole = BTreeMap::new();
    for (_, snapshot) in tentative(repository) {
        let found = read_back(&reader(repository), &snapshot.tree).unwrap();
        for (path, seen) in found {
            let expected = &truth[&path];
            assert_eq!(seen.file_type, expected.file_type);
            if seen == *expected {
                if seen.file_type == FileType::File {
                    whole.insert(path, seen.clone());
                }
                continue;
            }
            assert_eq!(seen.metadata.changed.seconds(), 0, "{}: marked as not whole", path.escape_ascii());
            assert!(expected.content.starts_with(&seen.content));
            assert!(seen.file_type != FileType::File || !seen.content.is_empty());
        }
    }
    bytes(&whole)
}

/// Every moment at which the process can be killed: the store as it is before each operation.
fn moments(run: Run, before: &MemoryStore, tree: &Thing) -> (Vec<MemoryStore>, u64) {
    let store = before.fork();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (inner, forks) = (store.clone(), Arc::clone(&seen));
    let shared = Shared::new(&store, move |_: &Moment| forks.lock().unwrap().push(inner.fork()));
    let (result, _, checkpoints) = run.start(shared, tree);
    assert_eq!(result.unwrap().problem_count, 0);
    let mut forks = std::mem::take(&mut *seen.lock().unwrap());
    forks.push(store);
    (forks, checkpoints)
}

#[test]
fn killed_at_any_moment_what_is_finished_is_not_read_again() {
    let (old, tree) = (Thing::directory([("old", Thing::file(noise(9, 3000)))]), tree());
    let store = MemoryStore::new();
    let first = back_up_model(&init(store.clone()), &old).snapshot.unwrap();
    let (moments, checkpoints) = moments(Run::every(4), &store, &tree);
    assert!(checkpoints >= 7, "{checkpoints}");
    let total = bytes(&tree.seen());
    let (mut saved_most, mut sealed) = (0, 0);
    for store in moments {
        let repository = open(store.clone());
        assert_holds(&repository, &first, &old);
        let done = snapshots(&repository).len();
        assert!(done <= 2);
        sealed += u64::from(done == 2);
        let saved = check_tentative(&repository, &tree);
        let source = ModelSource::new(&tree);
        let report = back_up(&repository, &source, &options()).unwrap();
        assert_holds(&repository, &report.snapshot.unwrap(), &tree);
        if done == 1 {
            assert!(source.read_bytes() <= total - saved, "{} of {total}, {saved} were finished", source.read_bytes());
            assert_eq!(report.parent, Some(first));
            // Next to the parent everything is new, whether it was read by this run or by the one before.
            assert_eq!((report.summary.files_unmodified, report.summary.files_changed), (0, 0));
            saved_most = saved_most.max(saved);
        } else {
            assert_eq!(source.read_bytes(), 0);
        }
    }
    assert!(saved_most > total * 3 / 4, "{saved_most} of {total}");
    assert!(sealed > 0);
}

#[test]
fn a_checkpoint_takes_the_place_of_the_one_before_and_goes_with_the_backup() {
    let tree = tree();
    let store = MemoryStore::new();
    init(store.clone());
    let (moments, checkpoints) = moments(Run::every(3), &store, &tree);
    assert!(checkpoints >= 10, "{checkpoints}");
    for store in &moments {
        assert!(tentative(&open(store.clone())).len() <= 3, "one, the next, and that of the commit");
    }
    let store = moments.last().unwrap();
    let repository = open(store.clone());
    assert_eq!(tentative(&repository), []);
    assert_eq!(names(store, Place::Snapshots).len(), 2);
    assert_eq!(names(store, Place::Locks), []);
    assert_eq!(names(store, Place::Index).len(), 1, "checkpoints do not leave index runs");
}

/// An early checkpoint does not hide what the parent knows.
#[test]
fn names_are_looked_up_in_the_parent_and_in_what_was_not_finished() {
    let mut tree = tree();
    let store = MemoryStore::new();
    let first = back_up_model(&init(store.clone()), &tree).snapshot.unwrap();
    tree.put(b"a/0/new", Thing::file(noise(50, 5000)));
    tree.put(b"a/1/3", Thing::file(noise(51, 2000)));
    tree.put(b"a/4/new", Thing::file(noise(52, 3000)));
    let run = Run { cancel_at: Some(2), ..Run::every(1) };
    let (result, source, checkpoints) = run.start(store.clone(), &tree);
    assert!(matches!(result, Err(Error::Cancelled)));
    let read = source.read_bytes();
    assert!((1..10_000).contains(&read) && checkpoints > 0, "{read} {checkpoints}");
    let repository = open(store.clone());
    let saved = check_tentative(&repository, &tree);
    let source = ModelSource::new(&tree);
    let report = back_up(&repository, &source, &options()).unwrap();
    assert_eq!((report.parent, report.unfinished.len()), (Some(first), 1));
    assert!(source.read_bytes() + read <= 10_000 + 5000, "{} after {read}, {saved} saved", source.read_bytes());
    assert!(source.read_bytes() < 10_000, "what was read before is not read again");
    assert_holds(&repository, &report.snapshot.unwrap(), &tree);
    assert_eq!((report.summary.files_new, report.summary.files_changed), (2, 1));
    let again = back_up(&repository, &ModelSource::new(&tree), &options()).unwrap();
    assert_eq!((again.summary.bytes_read, again.summary.files_unmodified), (0, again.totals.files));
}

#[test]
fn what_changed_since_the_checkpoint_is_read() {
    let mut tree = tree();
    let store = MemoryStore::new();
    init(store.clone());
    let (result, ..) = Run { cancel_at: Some(20), ..Run::every(5) }.start(store.clone(), &tree);
    assert!(matches!(result, Err(Error::Cancelled)));
    tree.put(b"a/0/1", Thing::file(noise(60, 1111)));
    tree.change(b"a/0/2", |thing| thing.stat.inode += 5);
    let source = ModelSource::new(&tree);
    let repository = open(store);
    let report = back_up(&repository, &source, &options()).unwrap();
    assert_holds(&repository, &report.snapshot.unwrap(), &tree);
    let read: Vec<_> = source.calls().into_iter().filter(|call| call.what == "file").map(|call| call.path).collect();
    assert!(read.contains(&b"/a/0/1".to_vec()) && read.contains(&b"/a/0/2".to_vec()));
    assert!(!read.contains(&b"/a/0/0".to_vec()));
}

#[test]
fn none_where_none_are_wanted() {
    let tree = tree();
    for (every, dry_run) in [(0, false), (600, true)] {
        let store = MemoryStore::new();
        init(store.clone());
        let options = BackupOptions { checkpoint_every_seconds: every, dry_run, ..options() };
        let run = Run { options, cancel_at: Some(25), patience: Duration::ZERO, ..Run::every(3) };
        let (result, _, checkpoints) = run.start(store.clone(), &tree);
        assert!(matches!(result, Err(Error::Cancelled)));
        assert_eq!(checkpoints, 0);
        assert_eq!(names(&store, Place::Snapshots), []);
    }
}

/// Every operation fails, once or for good; the backup fails or not, and the next one needs no help.
#[test]
fn any_operation_may_fail() {
    let tree = tree();
    let store = MemoryStore::new();
    let repository = init(store.clone());
    let old = Thing::directory([("old", Thing::file(noise(9, 3000)))]);
    let first = back_up_model(&repository, &old).snapshot.unwrap();
    let measured = Arc::new(FaultStore::new(store.fork()));
    Run::every(6).start(measured.clone(), &tree).0.unwrap();
    let operations = measured.operations();
    let mut survived = 0;
    for number in 0..operations {
        for fault in
            [Fault::FailBefore(StoreErrorKind::Denied), Fault::FailAfter(StoreErrorKind::Retry), Fault::StopAfter]
        {
            let store = store.fork();
            let faulty = Arc::new(FaultStore::new(store.clone()).at(number, fault.clone()));
            let run = Run { patience: Duration::from_millis(30), ..Run::every(6) };
            let (result, ..) = run.start(faulty, &tree);
            let repository = open(store);
            assert_holds(&repository, &first, &old);
            check_tentative(&repository, &tree);
            match result {
                Ok(report) => {
                    survived += 1;
                    assert_holds(&repository, &report.snapshot.unwrap(), &tree);
                }
                Err(error) => assert!(!error.is_damage(), "{number} {fault:?}: {}", error.chain()),
            }
            let report = back_up(&repository, &ModelSource::new(&tree), &options()).unwrap();
            assert_holds(&repository, &report.snapshot.unwrap(), &tree);
        }
    }
    assert!(survived > 10, "a checkpoint that fails is no reason to end the backup: {survived}");
}

/// Where nothing but notes may be deleted, checkpoints stay, but few of them.
#[test]
fn a_store_that_keeps_everything_keeps_few_checkpoints() {
    let tree = tree();
    let store = MemoryStore::new();
    init(store.clone());
    let refuse = |store: FaultStore<_>, place| {
        store.always(Request::Delete, Some(place), Fault::FailBefore(StoreErrorKind::Denied))
    };
    let faulty = refuse(refuse(FaultStore::new(store.clone()), Place::Snapshots), Place::Index);
    let run = Run { patience: Duration::from_millis(20), ..Run::every(1) };
    let (result, _, checkpoints) = run.start(Arc::new(faulty), &tree);
    let repository = open(store.clone());
    assert_holds(&repository, &result.unwrap().snapshot.unwrap(), &tree);
    assert!((3..=7).contains(&checkpoints), "{checkpoints}");
    assert_eq!(tentative(&repository).len() as u64, checkpoints);
    assert!(names(&store, Place::Index).len() as u64 <= checkpoints + 1);
    check_tentative(&repository, &tree);
}

/// What has come of a large file is claimed and can be looked at, and is not stored again; it is read again, since nobody knows that it
/// is what it was.
#[test]
fn large_files_are_held_as_far_as_they_were_read() {
    let mut tree = Thing::directory([("before", Thing::file(noise(1, 500)))]);
    tree.put(b"large", Thing::file(noise(2, 17 << 20)));
    let store = MemoryStore::new();
    init_with(store.clone(), Parameters { pack_bytes: 4 << 20, ..Parameters::default() });
    let run = Run { at: "read", cancel_at: Some(9), ..Run::every(2) };
    let (result, source, checkpoints) = run.start(store.clone(), &tree);
    assert!(matches!(result, Err(Error::Cancelled)));
    assert!(checkpoints > 2 && source.read_bytes() > 8 << 20, "{checkpoints}");
    let repository = open(store.clone());
    check_tentative(&repository, &tree);
    let (_, snapshot) = tentative(&repository).pop().unwrap();
    assert_eq!(snapshot.totals.files, 2);
    assert!(snapshot.totals.bytes > 6 << 20, "{}", snapshot.totals.bytes);
    assert!(snapshots(&repository).is_empty());
    let report = back_up(&repository, &ModelSource::new(&tree), &options()).unwrap();
    assert_holds(&repository, &report.snapshot.unwrap(), &tree);
    assert!(report.added.data_bytes < 11 << 20, "{}", report.added.data_bytes);
    assert_eq!(report.summary.bytes_read, 17 << 20);
}

/// A prune before every operation of a backup with checkpoints, in a repository with much to be pruned that the backup could use.
#[test]
fn prunes_beside_it_take_nothing_away() {
    prune_beside(true);
}

/// The same when the prune takes the backup for dead, so that only what is claimed is safe from it.
#[test]
fn what_is_claimed_is_safe_from_a_prune_that_believes_nobody_is_at_work() {
    prune_beside(false);
}

fn prune_beside(is_seen: bool) {
    let stage = PruneStage::new();
    let more = tree();
    let mut tree = version(1);
    tree.put(b"more", more);
    let measured = Arc::new(FaultStore::new(stage.store.fork()));
    Run::every(7).start(measured.clone(), &tree).0.unwrap();
    let (mut pruned, mut with_checkpoint) = (0, 0);
    for number in 0..measured.operations() {
        let store = stage.store.fork();
        let inner = store.clone();
        let mut at = 0;
        let counts = Arc::new(Mutex::new((0, 0)));
        let counting = Arc::clone(&counts);
        let shared = Shared::new(&store, move |_| {
            if at == number {
                let repository = open(inner.clone());
                let readable: Vec<_> = readable(&repository);
                let options = thorough();
                let result = prune(&repository, &options, &Silent, &Cancel::default());
                assert!(
                    matches!(result, Ok(_) | Err(Error::Refused(_))),
                    "{number}: {:?}",
                    result.err().map(|error| error.chain())
                );
                let mut counts = counting.lock().unwrap();
                counts.0 += u64::from(result.is_ok_and(|report| report.packs_deleted > 0));
                counts.1 += readable.len() as u64;
                let still: Vec<_> = self::readable(&repository);
                assert!(readable.iter().all(|id| still.contains(id)), "{number}");
            }
            at += 1;
        });
        let mut run = Run { patience: Duration::from_millis(if is_seen { 200 } else { 20 }), ..Run::every(7) };
        run.options.note = Some(note("backup", if is_seen { std::process::id() } else { GONE }));
        let (result, ..) = run.start(shared, &tree);
        let repository = open(store.clone());
        for (id, held) in &stage.held {
            assert_holds(&repository, id, held);
        }
        match result {
            Ok(report) => {
                assert_holds(&repository, &report.snapshot.unwrap(), &tree);
                assert_eq!(tentative(&repository), [], "{number}");
            }
            Err(error) => panic!("{number}: {}", error.chain()),
        }
        let report = back_up(&repository, &ModelSource::new(&tree), &options()).unwrap();
        assert_holds(&repository, &report.snapshot.unwrap(), &tree);
        let counts = counts.lock().unwrap();
        pruned += counts.0;
        with_checkpoint += counts.1;
    }
    assert!(pruned > 10 && with_checkpoint > 10, "{pruned} {with_checkpoint}");
}

/// The unfinished snapshots of which every byte can be read.
fn readable(repository: &Arc<Repository>) -> Vec<repo_core::id::SnapshotId> {
    let unfinished = tentative(repository).into_iter();
    unfinished
        .filter(|(_, snapshot)| read_back(&reader(repository), &snapshot.tree).is_ok())
        .map(|(id, _)| id)
        .collect()
}
