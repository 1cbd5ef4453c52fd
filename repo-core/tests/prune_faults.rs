//! Prunes on stores that fail, die and lie, and prunes beside which others work: every operation, every fault, every moment.
//!
//! Allowed is that all is well, or a clean error after which the next prune needs no help. Never: a snapshot that has lost anything.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use common::{
    bench::{back_up, back_up_model, names, open, options, try_open},
    beside::Shared,
    model::{ModelSource, Thing},
    prune_stage::{PruneStage, assert_sound, forget_one, note, pruned, run_prune, thorough, version},
};
use repo_core::{
    backup::{BackupOptions, Parent},
    error::{Error, StoreErrorKind},
    prune::PruneOptions,
    store::{
        Place,
        memory::MemoryStore,
        testing::{Fault, FaultStore},
    },
};

/// Operations of a prune of this stage, and what is in packs after it.
fn measure(stage: &PruneStage) -> (u64, u64) {
    let stage = stage.fork();
    let store = Arc::new(FaultStore::new(stage.store.clone()));
    run_prune(&try_open(store.clone()).unwrap(), &thorough()).unwrap();
    stage.assert_sound();
    (store.operations(), stage.data_bytes())
}

/// Prunes with a fault, then without.
fn prune_with(stage: &PruneStage, store: FaultStore<MemoryStore>, what: &str) -> bool {
    let store = Arc::new(store);
    let result = try_open(store.clone()).and_then(|repository| run_prune(&repository, &thorough()));
    let failed = result.is_err();
    assert!(!matches!(result, Err(Error::Poisoned)), "{what}: the reason is not told");
    stage.assert_sound();
    assert!(store.struck() > 0 || !failed, "{what}: nothing was struck");
    failed
}

#[test]
fn every_operation_may_fail() {
    let stage = PruneStage::new();
    let (operations, clean_bytes) = measure(&stage);
    assert!(operations > 60, "{operations}");
    let kind = StoreErrorKind::Retry;
    let mut failures = 0;
    for number in 1..=operations {
        for (name, fault, forever) in [
            ("fails", Fault::FailBefore(kind), false),
            ("fails from here on", Fault::FailBefore(kind), true),
            ("its answer is lost", Fault::FailAfter(kind), false),
            ("the process dies before", Fault::StopBefore, false),
            ("the process dies after", Fault::StopAfter, false),
        ] {
            let what = format!("operation {number} of {operations} {name}");
            let stage = stage.fork();
            let store = FaultStore::new(stage.store.clone());
            let store = if forever { store.from(number, fault) } else { store.at(number, fault) };
            failures += u32::from(prune_with(&stage, store, &what));
            // Whatever was left is finished by the next one, which frees as much.
            let report = pruned(stage.store.clone());
            stage.assert_sound();
            assert!(
                stage.data_bytes() <= clean_bytes + clean_bytes / 20,
                "{what}: {} {clean_bytes}",
                stage.data_bytes()
            );
            assert!(names(&stage.store, Place::Locks).is_empty(), "{what}: {report:?}");
            // The one after finds nothing to do.
            assert!(pruned(stage.store.clone()).plan.victims.is_empty(), "{what}");
        }
    }
    assert!(failures > 4 * u32::try_from(operations).unwrap(), "{failures}");
}

/// A store that forgets entries of lists, cuts what is put, drops what is put, or deletes nothing.
#[test]
fn every_operation_may_lie() {
    let stage = PruneStage::new();
    let (operations, _) = measure(&stage);
    for number in 1..=operations {
        for fault in [
            Fault::ListOmits { position: 0 },
            Fault::ListOmits { position: 3 },
            Fault::ListEnds { kept_entries: 0 },
            Fault::ListEnds { kept_entries: 2 },
            Fault::ListFails { kept_entries: 1, error: StoreErrorKind::Retry },
            Fault::ListRepeats,
            Fault::ListStale,
            Fault::DeleteDropped,
            Fault::GetFlipped { bit: 300 },
            Fault::GetShort { missing_bytes: 1 },
        ] {
            let stage = stage.fork();
            let what = format!("operation {number} of {operations}: {fault:?}");
            let store = Arc::new(FaultStore::new(stage.store.clone()).at(number, fault.clone()));
            let result = try_open(store.clone()).and_then(|repository| run_prune(&repository, &thorough()));
            // One listing that leaves out a body or a run tells a lie that nobody can see through at once; the next look does.
            let open = open(stage.store.clone());
            let lost = stage.held.iter().filter(|(id, tree)| !holds(&open, id, tree)).count();
            assert_eq!(lost, 0, "{what}: {result:?}");
        }
    }
}

fn holds(repository: &Arc<repo_core::repository::Repository>, id: &repo_core::id::SnapshotId, tree: &Thing) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| common::bench::assert_holds(repository, id, tree))).is_ok()
}

/// What is put is cut or lost though the store says that all is well: it is seen before anything is deleted.
#[test]
fn what_is_copied_is_read_back() {
    let stage = PruneStage::new();
    let (operations, _) = measure(&stage);
    for number in 1..=operations {
        for fault in [Fault::PutDropped, Fault::PutCut { kept_bytes: 100, error: None }] {
            let stage = stage.fork();
            let store = Arc::new(FaultStore::new(stage.store.clone()).at(number, fault));
            if let Err(error) = try_open(store.clone()).and_then(|repository| run_prune(&repository, &thorough())) {
                assert!(!error.chain().clone().is_empty());
            }
            let open = open(stage.store.clone());
            for (id, tree) in &stage.held {
                assert!(holds(&open, id, tree), "operation {number}");
            }
        }
    }
}

/// Runs a prune beside which `other` works once before each operation in turn, on a fresh fork each time.
fn beside(
    stage: &PruneStage,
    other: impl Fn(&MemoryStore) -> Vec<(repo_core::id::SnapshotId, Thing)> + Clone + Send + 'static,
) {
    let mut moment = 1;
    loop {
        let stage = stage.fork();
        let (count, results) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let (store, inside, other) = (stage.store.clone(), Arc::clone(&results), other.clone());
        let counted = Arc::clone(&count);
        let shared = Shared::new(&stage.store, move |_| {
            if counted.fetch_add(1, Ordering::SeqCst) + 1 == moment {
                *inside.lock().unwrap() = Some(other(&store));
            }
        });
        let at_work = PruneOptions { note: Some(note("prune", std::process::id())), ..thorough() };
        let report = run_prune(&open(shared), &at_work);
        let Some(made) = results.lock().unwrap().take() else { break };
        let repository = open(stage.store.clone());
        let mut held: Vec<_> = stage.held.clone();
        let there = common::bench::snapshots(&repository);
        held.retain(|(id, _)| there.iter().any(|(there, _)| there == id));
        held.extend(made);
        assert_sound(&repository, &held);
        report.unwrap_or_else(|error| panic!("before operation {moment}: {error:?}"));
        // And again, with nobody beside.
        pruned(stage.store.clone());
        assert_sound(&repository, &held);
        moment += 1;
    }
    assert!(moment > 60, "{moment}");
}

/// A whole backup between any two operations of a prune, of what the pruner is about to delete.
#[test]
fn backups_beside_a_prune_at_every_moment() {
    for parent in [Parent::Newest, Parent::None] {
        let stage = PruneStage::new();
        for number in [1, 7] {
            beside(&stage, move |store| {
                let tree = version(number);
                let options = BackupOptions { parent, ..options() };
                let report = back_up(&open(store.clone()), &ModelSource::new(&tree), &options).unwrap();
                vec![(report.snapshot.unwrap(), tree)]
            });
        }
    }
}

/// Another prune from beginning to end between any two operations of a prune.
#[test]
fn prunes_beside_a_prune_at_every_moment() {
    beside(&PruneStage::new(), |store| {
        pruned(store.clone());
        Vec::new()
    });
}

/// A forget, and a backup and another prune, between any two operations of a prune.
#[test]
fn everything_beside_a_prune_at_every_moment() {
    let stage = PruneStage::new();
    let victim = stage.held[1].0;
    beside(&stage, move |store| {
        let repository = open(store.clone());
        forget_one(&repository, victim);
        let tree = version(3);
        let report = back_up_model(&repository, &tree);
        pruned(store.clone());
        vec![(report.snapshot.unwrap(), tree)]
    });
}

/// A whole prune between any two operations of a backup, of what the backup is about to rely on.
#[test]
fn prunes_beside_a_backup_at_every_moment() {
    for number in [1, 3, 8] {
        let stage = PruneStage::new();
        let tree = version(number);
        let mut moment = 1;
        loop {
            let stage = stage.fork();
            let (count, store) = (Arc::new(AtomicU64::new(0)), stage.store.clone());
            let counted = Arc::clone(&count);
            let shared = Shared::new(&stage.store, move |_| {
                if counted.fetch_add(1, Ordering::SeqCst) + 1 == moment {
                    pruned(store.clone());
                }
            });
            let repository = open(shared);
            let at_work = BackupOptions { note: Some(note("backup", std::process::id())), ..options() };
            let report = back_up(&repository, &ModelSource::new(&tree), &at_work)
                .unwrap_or_else(|error| panic!("{number} before {moment}: {error:?}"));
            let mut held = stage.held.clone();
            held.push((report.snapshot.unwrap(), tree.clone()));
            assert_sound(&open(stage.store.clone()), &held);
            pruned(stage.store.clone());
            assert_sound(&open(stage.store.clone()), &held);
            if count.load(Ordering::SeqCst) < moment {
                break;
            }
            moment += 1;
        }
        assert!(moment > 15, "{moment}");
    }
}
