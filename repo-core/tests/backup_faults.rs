//! Backups into stores that fail, die and lie: every operation, every fault.
//!
//! Allowed is that all is well, or a clean error after which the next backup needs no help. Never: a snapshot that is damaged or
//! seen in part, an older one that is not what it was.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    bench::{
        assert_holds, assert_same, back_up, back_up_model, init, names, open, options, reader, snapshots, stored_twice,
        try_open_for_backup,
    },
    model::{Extent, ModelSource, Thing, read_back},
    sample::noise,
};
use repo_core::{
    error::{Error, Result, StoreErrorKind},
    id::SnapshotId,
    progress::Cancel,
    store::{
        Place, Store,
        memory::MemoryStore,
        retry::{Pace, RetryPolicy, RetryStore},
        testing::{Event, Fault, FaultStore, Operation, RecordingStore},
    },
};

/// A tree with one of everything, some packs large.
fn first_tree() -> Thing {
    let mut root = Thing::directory([
        ("empty", Thing::file([])),
        ("one", Thing::file(*b"1")),
        ("chunks", Thing::file(noise(1, 2500))),
        ("again", Thing::file(noise(1, 2500))),
        ("sparse", Thing::sparse(vec![Extent::Hole(5000), Extent::Data(noise(2, 700).into()), Extent::Hole(1)])),
        ("hole", Thing::sparse(vec![Extent::Hole(1 << 40)])),
        ("link", Thing::symlink(b"one")),
        ("pipe", Thing::fifo().with_xattr(b"user.p", b"3")),
        ("large", Thing::file(noise(3, 12_000))),
        ("zeros", Thing::file(vec![0; 30_000])),
        ("directory", Thing::directory([]).with_xattr(b"user.colour", b"green")),
        ("nothing", Thing::directory([])),
    ]);
    root.put(b"not \xff utf-8", Thing::file(*b"odd"));
    for (i, length) in (0..20).zip((50..).step_by(40)) {
        root.put(format!("directory/{i}").as_bytes(), Thing::file(noise(100 + i, length)));
    }
    root
}

/// The same after a day's work.
fn second_tree(first: &Thing) -> Thing {
    let mut root = first.clone();
    root.put(b"one", Thing::file(*b"2"));
    let mut large = noise(3, 12_000);
    large.splice(6000..6001, noise(4, 900));
    root.put(b"large", Thing::file(large));
    root.put(b"new", Thing::directory([("file", Thing::file(noise(5, 3000)))]));
    root.entries().retain(|name, _| name.as_bytes() != b"again");
    root.put(b"directory/3", Thing::directory([]));
    root
}

/// A repository and what its snapshots hold.
struct Stage {
    store: MemoryStore,
    held: Vec<(SnapshotId, Thing)>,
    next: Thing,
}

impl Stage {
    fn empty() -> Self {
        let store = MemoryStore::new();
        init(store.clone());
        Self { store, held: Vec::new(), next: first_tree() }
    }

    fn filled() -> Self {
        let Self { store, next, .. } = Self::empty();
        let id = back_up_model(&open(store.clone()), &next).snapshot.unwrap();
        Self { held: vec![(id, next.clone())], next: second_tree(&next), store }
    }

    fn fork(&self) -> Self {
        Self { store: self.store.fork(), held: self.held.clone(), next: self.next.clone() }
    }

    /// Opens the repository and backs up, everything through `store`.
    fn run(&self, store: Arc<dyn Store>) -> Result<SnapshotId> {
        let repository = try_open_for_backup(store)?;
        let report = back_up(&repository, &ModelSource::new(&self.next), &options())?;
        assert_eq!(report.problem_count, 0, "{:?}", report.problems);
        Ok(report.snapshot.expect("a backup makes a snapshot"))
    }

    /// Operations of a backup, and what is stored in packs after it.
    fn measure(&self) -> (u64, u64) {
        let stage = self.fork();
        let faulty = Arc::new(FaultStore::new(stage.store.clone()));
        stage.run(faulty.clone()).unwrap();
        (faulty.operations(), stage.data_bytes())
    }

    fn data_bytes(&self) -> u64 {
        names(&self.store, Place::Data).iter().map(|name| self.store.bytes_of(name).unwrap().len() as u64).sum()
    }

    /// What must hold after a run, whatever happened in it.
    #[track_caller]
    fn check(&self, result: &Result<SnapshotId>) {
        let repository = open(self.store.clone());
        let there = snapshots(&repository);
        for (id, tree) in &self.held {
            assert_holds(&repository, id, tree);
        }
        // A new one is seen as a whole or not at all; also where the last answer was lost.
        let blobs = reader(&repository);
        for (id, snapshot) in &there {
            if self.held.iter().all(|(held, _)| held != id) {
                assert_same(&read_back(&blobs, &snapshot.tree).unwrap(), &self.next.seen());
            }
        }
        assert!(there.len() <= self.held.len() + 1);
        if let Ok(id) = result {
            assert!(there.iter().any(|(there, _)| there == id), "the snapshot is not there");
        }
    }

    /// The next backup, on a store that is well again.
    #[track_caller]
    fn check_next(&self) {
        let repository = open(self.store.clone());
        let id = back_up_model(&repository, &self.next).snapshot.unwrap();
        assert_holds(&repository, &id, &self.next);
        for (id, tree) in &self.held {
            assert_holds(&repository, id, tree);
        }
        assert!(repository.notes().unwrap().sessions.is_empty(), "notes are cleaned up");
    }
}

const RETRY: StoreErrorKind = StoreErrorKind::Retry;

#[test]
fn every_operation_may_fail_or_be_the_last() {
    let mut struck = 0;
    for stage in [Stage::empty(), Stage::filled()] {
        let (operations, full_bytes) = stage.measure();
        let pack_bytes = 6000;
        for number in 0..operations {
            let once = |fault| FaultStore::new(stage.store.fork()).at(number, fault);
            let scripts = [
                once(Fault::FailBefore(RETRY)),
                once(Fault::FailAfter(RETRY)),
                once(Fault::StopBefore),
                once(Fault::StopAfter),
                FaultStore::new(stage.store.fork()).from(number, Fault::FailBefore(RETRY)),
                FaultStore::new(stage.store.fork()).from(number, Fault::FailAfter(RETRY)),
            ];
            for (script, faulty) in scripts.into_iter().enumerate() {
                let stage = Stage { store: faulty.inner().clone(), ..stage.fork() };
                let faulty = Arc::new(faulty);
                let result = stage.run(faulty.clone());
                println!("operation {number}, script {script}: {:?}", result.as_ref().map_err(Error::chain));
                struck += u64::from(faulty.struck() > 0);
                stage.check(&result);
                stage.check_next();
                // Nothing that was stored is stored again: orphans are found by the note that was left.
                assert_eq!(stored_twice(&open(stage.store.clone())), []);
                // The two runs cut their packs at other places; each leaves two that are not full.
                let bytes = stage.data_bytes();
                assert!(bytes <= full_bytes + 4 * pack_bytes, "{bytes} bytes in packs, {full_bytes} without the fault");
            }
        }
    }
    println!("{struck} faults struck");
    assert!(struck > 300, "{struck}");
}

/// No time passes.
struct Hurried;

impl Pace for Hurried {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _pause: Duration) {}
    fn jitter(&self, _longest: Duration) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn what_fails_once_is_tried_again() {
    for stage in [Stage::empty(), Stage::filled()] {
        for number in 0..stage.measure().0 {
            let cut = |kept_bytes| Fault::PutCut { kept_bytes, error: Some(RETRY) };
            for fault in [Fault::FailBefore(RETRY), Fault::FailAfter(RETRY), cut(0), cut(100)] {
                let stage = stage.fork();
                let faulty = FaultStore::new(stage.store.clone()).at(number, fault.clone());
                let policy = RetryPolicy::default();
                let store = RetryStore::new(faulty, policy, Cancel::default(), |_| {}).with_pace(Arc::new(Hurried));
                let result = stage.run(Arc::new(store));
                assert!(result.is_ok(), "operation {number}, {fault:?}: {}", result.unwrap_err().chain());
                stage.check(&result);
                let repository = open(stage.store.clone());
                assert!(repository.notes().unwrap().sessions.is_empty());
                assert_eq!(stored_twice(&repository), []);
            }
        }
    }
}

#[test]
fn a_put_that_is_cut_and_fails_is_no_obstacle() {
    for stage in [Stage::empty(), Stage::filled()] {
        for number in 0..stage.measure().0 {
            for kept_bytes in [40, 300, usize::MAX] {
                let stage = stage.fork();
                let fault = Fault::PutCut { kept_bytes, error: Some(StoreErrorKind::Permanent) };
                let faulty = Arc::new(FaultStore::new(stage.store.clone()).at(number, fault));
                let result = stage.run(faulty.clone());
                stage.check_cut(&result, faulty.struck() > 0, number);
            }
        }
    }
}

impl Stage {
    /// As [`Self::check`] and [`Self::check_next`], where an object may lie in the store that is not whole.
    #[track_caller]
    fn check_cut(&self, result: &Result<SnapshotId>, struck: bool, number: u64) {
        assert!(struck || result.is_ok(), "operation {number}");
        let repository = open(self.store.clone());
        let report = back_up(&repository, &ModelSource::new(&self.next), &options())
            .unwrap_or_else(|error| panic!("operation {number}: the next backup: {}", error.chain()));
        // An index run that is not whole is told of, and does no harm.
        assert!(report.problem_count <= 1, "operation {number}: {:#?}", report.problems);
        assert!(report.problems.iter().all(|problem| problem.path == b"index"));
        let index = repo_core::index::set::IndexSet::load(repository.store(), repository.keys(), Some(&mut Vec::new()));
        let blobs =
            repo_core::repository::reader::BlobReader::new(repository.clone(), Arc::new(index.unwrap()), 1 << 20);
        let next = report.snapshot.unwrap();
        let committed = result.as_ref().ok().copied();
        for (id, snapshot) in snapshots(&repository) {
            let held = self.held.iter().find(|(held, _)| *held == id).map_or(&self.next, |(_, tree)| tree);
            match read_back(&blobs, &snapshot.tree) {
                Ok(found) => assert_same(&found, &held.seen()),
                Err(error) => {
                    panic!("operation {number}: snapshot {id} ({committed:?}, next {next}): {}", error.chain())
                }
            }
        }
    }
}

/// Stores that confirm what they have not stored, or not whole. That a backup reports success then, and its snapshot is not whole,
/// must not be.
#[test]
fn lies_about_puts_are_found_before_success_is_reported() {
    for stage in [Stage::empty(), Stage::filled()] {
        let (operations, _) = stage.measure();
        let mut found = 0;
        for number in 0..operations {
            for fault in [
                Fault::PutDropped,
                Fault::PutCut { kept_bytes: 40, error: None },
                Fault::PutCut { kept_bytes: 400, error: None },
            ] {
                let stage = stage.fork();
                let faulty = Arc::new(FaultStore::new(stage.store.clone()).at(number, fault.clone()));
                let result = stage.run(faulty.clone());
                println!("operation {number}, {fault:?}: {:?}", result.as_ref().map_err(Error::chain));
                found += u64::from(result.is_err());
                if let Ok(id) = &result {
                    let repository = open(stage.store.clone());
                    assert_holds(&repository, id, &stage.next);
                }
                stage.check_cut(&result, faulty.struck() > 0, number);
            }
        }
        assert!(found > 10, "{found}");
    }
}

#[test]
fn what_is_relied_on_is_durable_before() {
    for stage in [Stage::empty(), Stage::filled()] {
        let recorder = RecordingStore::new(stage.store.fork());
        stage.run(Arc::new(recorder.clone())).unwrap();
        let events = recorder.events();
        let puts = |place: Place| -> Vec<&Event> {
            let of_place =
                |event: &&Event| matches!(event.operation, Operation::Put { name, .. } if name.place() == place);
            events.iter().filter(of_place).collect()
        };
        let lists = |place: Place| -> Vec<&Event> {
            events.iter().filter(|event| event.operation == Operation::List { place }).collect()
        };
        let (packs, runs) = (puts(Place::Data), puts(Place::Index));
        assert!(packs.len() >= 3 && runs.len() == 1, "{} packs", packs.len());
        let [body, seal] = puts(Place::Snapshots)[..] else { panic!("a body and a seal") };
        assert!(
            matches!(seal.operation, Operation::Put { size_bytes, .. } if size_bytes == repo_core::envelope::object::SEAL_BYTES)
        );
        for pack in &packs {
            assert!(pack.succeeded_before(runs[0]), "a pack after the index that names it");
        }
        assert!(runs[0].succeeded_before(body));
        assert!(body.succeeded_before(seal));
        let marks: Vec<_> = lists(Place::Locks).into_iter().filter(|list| body.succeeded_before(list)).collect();
        let pack_lists = lists(Place::Data);
        let check =
            pack_lists.iter().find(|list| body.succeeded_before(list)).expect("packs are listed after the claim");
        assert!(marks[0].succeeded_before(check), "marks before packs");
        assert!(check.succeeded_before(seal));
        assert!(marks.iter().any(|list| seal.succeeded_before(list)), "expire notes after the seal");
        // Every object that is read or listed stands on its own; nothing is deleted before the new run is there.
        for event in &events {
            if let Operation::Delete { name } = event.operation {
                assert!(
                    name.place() == Place::Locks && seal.succeeded_before(event) || runs[0].succeeded_before(event)
                );
            }
        }
    }
}

#[test]
fn notes_that_are_old_or_of_processes_that_are_gone_are_removed() {
    use repo_core::{crypto::keys::ObjectKind, repository::notes::Session, time::Timestamp};
    let stage = Stage::filled();
    let repository = open(stage.store.clone());
    let now = repository.runtime().now();
    let session = |host: &str, process, started| Session {
        operation: "backup".into(),
        host: host.into(),
        user: "user".into(),
        process,
        started,
    };
    let own = std::process::id();
    let note = |session: Session| repository.save(Place::Locks, ObjectKind::Session, &session).unwrap();
    stage.store.set_time(now);
    note(session("host", 77_777, now));
    let running = note(session("host", own, now));
    let elsewhere = note(session("other", 77_777, Timestamp::from_seconds(0)));
    stage.store.set_time(Timestamp::from_seconds(now.seconds() - 15 * 24 * 3600));
    note(session("third", 5, now));
    let recorder = RecordingStore::new(stage.store.clone());
    let observed = open(recorder.clone());
    back_up_model(&observed, &stage.next);
    let mut left: Vec<repo_core::id::ObjectId> =
        repository.notes().unwrap().sessions.into_iter().map(|(id, _)| id.into()).collect();
    let mut expected = vec![running, elsewhere];
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    // A look for orphans, and the check before the seal; none for the sake of sessions that are at work.
    let pack_lists =
        || recorder.events().iter().filter(|e| e.operation == Operation::List { place: Place::Data }).count();
    assert_eq!(pack_lists(), 2);
    back_up_model(&observed, &stage.next);
    assert_eq!(pack_lists(), 3);
}

#[test]
fn index_stays_small_where_nothing_can_be_deleted() {
    let store = MemoryStore::new();
    init(store.clone());
    let faulty = || {
        let denied = Fault::FailBefore(StoreErrorKind::Denied);
        let request = repo_core::store::testing::Request::Delete;
        FaultStore::new(store.clone()).always(request, Some(Place::Index), denied)
    };
    let mut tree = Thing::directory([]);
    let mut once = 0;
    for round in 0..24 {
        tree.put(format!("file {round}").as_bytes(), Thing::file(noise(round, 3000)));
        back_up_model(&open(faulty()), &tree);
        once += 1;
    }
    let index = common::bench::index(&open(store.clone()));
    let named: u32 = index.packs();
    let distinct = index.all_packs().map(|pack| pack.id).collect::<std::collections::BTreeSet<_>>().len();
    // Each pack is named once for every doubling, not once for every backup since.
    assert!(named as usize <= distinct * 6, "{named} for {distinct} packs after {once} backups");
    // What is said twice goes with a prune, from where deleting is allowed.
    common::prune_stage::pruned(store.clone());
    assert!(names(&store, Place::Index).len() <= 6);
    let id = back_up_model(&open(store.clone()), &tree).snapshot.unwrap();
    assert_holds(&open(store), &id, &tree);
}
