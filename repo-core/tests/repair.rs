//! Repairing the index, and taking damaged packs out of use: afterwards everything is sound, or as sound as it can be.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use common::{
    bench::{assert_holds, back_up, back_up_model, init, names, open, options, try_open},
    beside::{Moment, Shared},
    model::{ModelSource, Thing},
    sample::noise,
};
use repo_core::{
    backup::BackupOptions,
    check::{CheckOptions, CheckReport, ReadData, check},
    error::{Error, Result, StoreErrorKind},
    id::{PackId, SnapshotId},
    index::builder::IndexBuilder,
    pack::reader::read_directory,
    progress::{Cancel, Silent},
    prune::{PruneOptions, prune},
    repair::{self, IndexOptions, IndexReport},
    repository::Repository,
    store::{
        ObjectName, Place, Store,
        memory::MemoryStore,
        testing::{Fault, FaultStore},
    },
};

fn tree(seed: u64) -> Thing {
    let mut root = Thing::directory([("d", Thing::directory([])), ("large", Thing::file(noise(seed, 12_000)))]);
    for i in 0..10 {
        root.put(format!("d/{i}").as_bytes(), Thing::file(noise(seed * 100 + i, 700)));
    }
    root
}

/// A repository with several runs, and what its snapshots hold.
fn filled() -> (MemoryStore, Vec<(SnapshotId, Thing)>) {
    let store = MemoryStore::new();
    let repository = init(store.clone());
    let mut held = Vec::new();
    // Ever smaller ones, so that runs are not merged.
    let mut root = tree(1);
    for seed in 0..3_u64 {
        for i in 0..(4 - seed) {
            root.put(
                format!("more {seed} {i}").as_bytes(),
                Thing::file(noise(1000 + 10 * seed + i, 2500 >> (2 * seed))),
            );
        }
        held.push((back_up_model(&repository, &root).snapshot.unwrap(), root.clone()));
    }
    assert!(names(&store, Place::Index).len() > 1);
    (store, held)
}

fn mend(repository: &Repository, read_all_packs: bool) -> Result<IndexReport> {
    let options = IndexOptions { read_all_packs, note: common::bench::options().note, ..IndexOptions::default() };
    repair::index(repository, &options, &Silent, &Cancel::default())
}

fn check_all(store: &MemoryStore) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::All, threads: 1 };
    check(&open(store.clone()), options, &Silent, &Cancel::default()).unwrap()
}

/// Everything is sound, and nothing is left to be repaired.
#[track_caller]
fn assert_sound(store: &MemoryStore, held: &[(SnapshotId, Thing)]) {
    let repository = open(store.clone());
    for (id, tree) in held {
        assert_holds(&repository, id, tree);
    }
    let report = check_all(store);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let before = store.names();
    for read_all_packs in [false, true] {
        let report = mend(&repository, read_all_packs).unwrap();
        assert!(report.is_sound(), "{report:?}");
    }
    assert_eq!(store.names(), before);
}

fn damage(store: &MemoryStore, name: &ObjectName, at: usize) {
    let mut bytes = store.bytes_of(name).unwrap().to_vec();
    let at = at % bytes.len();
    bytes[at] ^= 1;
    store.remove(name);
    store.put(name, &bytes).unwrap();
}

#[test]
fn a_sound_index_is_left_as_it_is() {
    let (store, held) = filled();
    let writes = Arc::new(Mutex::new(0));
    let count = Arc::clone(&writes);
    let shared =
        Shared::new(&store, move |moment| *count.lock().unwrap() += u64::from(matches!(moment, Moment::Put(..))));
    let report = mend(&open(shared), true).unwrap();
    assert!(report.is_sound() && report.packs > 0 && report.runs > 1);
    assert_eq!(*writes.lock().unwrap(), 0);
    assert_sound(&store, &held);
}

#[test]
fn lost_and_damaged_runs_are_made_anew() {
    let (whole, held) = filled();
    let runs = names(&whole, Place::Index);
    let mut victims: Vec<Vec<ObjectName>> = runs.iter().map(|run| vec![*run]).collect();
    victims.push(runs.clone());
    for victims in victims {
        for how in 0..4 {
            let store = whole.fork();
            for run in &victims {
                match how {
                    0 => drop(store.remove(run)),
                    1 => damage(&store, run, 200),
                    2 => damage(&store, run, usize::MAX / 2),
                    _ => {
                        let bytes = store.bytes_of(run).unwrap();
                        store.remove(run);
                        store.put(run, &bytes[..bytes.len() / 2]).unwrap();
                    }
                }
            }
            let found = check_all(&store);
            assert!(!found.is_clean() && found.suggests_repair_index());
            let repository = open(store.clone());
            let dry = IndexOptions { dry_run: true, ..IndexOptions::default() };
            let before = store.names();
            let planned = repair::index(&repository, &dry, &Silent, &Cancel::default()).unwrap();
            assert_eq!(store.names(), before);
            let done = mend(&repository, how == 3).unwrap();
            assert_eq!((planned.packs_found, planned.runs_replaced), (done.packs_found, done.runs_replaced));
            assert!(done.runs_stored > 0);
            assert_sound(&store, &held);
        }
    }
}

/// Runs made with the right key that say what is not so.
#[test]
fn runs_that_lie_are_replaced() {
    let (whole, held) = filled();
    let repository = open(whole.clone());
    for pack in names(&whole, Place::Data) {
        let size_bytes = whole.bytes_of(&pack).unwrap().len() as u64;
        for lie in 0..4 {
            let store = whole.fork();
            let id = PackId::from(pack.id());
            let mut said = read_directory(&store, repository.keys(), id, size_bytes).unwrap();
            let mut told_bytes = u32::try_from(size_bytes).unwrap();
            match lie {
                0 => said.directory.frames[0].blobs[0].id.0[0] ^= 1,
                1 => said.directory.frames.iter_mut().for_each(|frame| frame.blobs.reverse()),
                2 => drop(said.directory.frames.remove(0)),
                _ => told_bytes -= 1,
            }
            let mut builder = IndexBuilder::default();
            builder.add_pack(id, said.key, told_bytes, said.kind, &said.directory);
            let run = builder.finish(repository.keys(), repository.runtime()).unwrap();
            store.put(&ObjectName::new(Place::Index, run.id), &run.bytes).unwrap();
            // Beside the true one, which tells that there is a doubt; or alone.
            if lie % 2 == 0 {
                mend(&open(store.clone()), false).unwrap();
                assert_sound(&store, &held);
            }
            let store = whole.fork();
            for name in names(&store, Place::Index) {
                store.remove(&name);
            }
            store.put(&ObjectName::new(Place::Index, run.id), &run.bytes).unwrap();
            mend(&open(store.clone()), true).unwrap();
            assert_sound(&store, &held);
        }
    }
}

/// A pack that is gone leaves the index, and the next backup stores what was in it, from files that did not change. It does so without
/// the repair, too.
#[test]
fn the_next_backup_stores_again_what_is_missing() {
    let whole = MemoryStore::new();
    let tree = tree(9);
    let first = back_up_model(&init(whole.clone()), &tree).snapshot.unwrap();
    for pack in names(&whole, Place::Data) {
        for repaired in [true, false] {
            let store = whole.fork();
            store.remove(&pack);
            assert!(!check_all(&store).is_clean());
            let repository = open(store.clone());
            if repaired {
                let report = mend(&repository, false).unwrap();
                assert_eq!(report.packs_missing, [PackId::from(pack.id())].into());
                assert!(mend(&repository, true).unwrap().is_sound());
            }
            let source = ModelSource::new(&tree);
            let again = back_up(&repository, &source, &options()).unwrap();
            assert!(again.summary.data_blobs + again.summary.tree_blobs > 0);
            let held = [(first, tree.clone()), (again.snapshot.unwrap(), tree.clone())];
            for (id, tree) in &held {
                assert_holds(&repository, id, tree);
            }
            if !repaired {
                assert_eq!(mend(&repository, false).unwrap().packs_missing.len(), 1);
            }
            assert_sound(&store, &held);
        }
    }
}

fn prune_all(store: &MemoryStore) {
    let options = PruneOptions { note: options().note, ..PruneOptions::default() };
    match prune(&open(store.clone()), &options, &Silent, &Cancel::default()) {
        Ok(_) | Err(Error::Refused(_)) => {}
        Err(error) => panic!("{}", error.chain()),
    }
}

/// Damage is found, the pack is taken out of use, the next backup stores anew what was in it, and a prune removes it.
#[test]
fn damaged_packs_are_replaced_by_what_is_still_at_the_source() {
    let store = MemoryStore::new();
    let tree = tree(7);
    let first = back_up_model(&init(store.clone()), &tree).snapshot.unwrap();
    let whole = store;
    for pack in names(&whole, Place::Data) {
        let length = whole.bytes_of(&pack).unwrap().len();
        for at in (60..length).step_by(length / 7) {
            let store = whole.fork();
            damage(&store, &pack, at);
            let found = check_all(&store);
            let broken: BTreeSet<PackId> =
                found.broken_packs().map(|name| name.rsplit('/').next().unwrap().parse().unwrap()).collect();
            assert_eq!(broken, [PackId::from(pack.id())].into(), "{at}");
            let repository = open(store.clone());
            let dry = repair::packs(&repository, &broken, true).unwrap();
            assert!(repository.notes().unwrap().marks.is_empty());
            assert_eq!(repair::packs(&repository, &broken, false).unwrap(), dry);
            assert_eq!(repair::packs(&repository, &broken, false).unwrap().before, broken);
            let source = ModelSource::new(&tree);
            let again = back_up(&repository, &source, &options()).unwrap();
            assert_holds(&repository, &again.snapshot.unwrap(), &tree);
            assert_holds(&repository, &first, &tree);
            prune_all(&store);
            assert!(!names(&store, Place::Data).contains(&pack), "it is removed");
            assert_sound(&store, &[(first, tree.clone()), (again.snapshot.unwrap(), tree.clone())]);
        }
    }
    let unknown = BTreeSet::from([PackId([7; 32])]);
    assert!(matches!(repair::packs(&open(whole), &unknown, false), Err(Error::Invalid(_))));
}

/// Every operation fails, once or for good. What could be read before can be read after it, and the next repair ends well.
#[test]
fn any_operation_may_fail() {
    let (whole, held) = filled();
    let runs = names(&whole, Place::Index);
    damage(&whole, &runs[0], 300);
    whole.remove(&runs[1]);
    let readable = readable(&whole, &held);
    let measured = Arc::new(FaultStore::new(whole.fork()));
    mend(&try_open(measured.clone()).unwrap(), false).unwrap();
    for number in 0..measured.operations() {
        for fault in [
            Fault::FailBefore(StoreErrorKind::Denied),
            Fault::FailAfter(StoreErrorKind::Retry),
            Fault::StopBefore,
            Fault::StopAfter,
            Fault::PutDropped,
            Fault::DeleteDropped,
            Fault::ListOmits { position: 0 },
        ] {
            let store = whole.fork();
            let faulty = Arc::new(FaultStore::new(store.clone()).at(number, fault.clone()));
            let _ = try_open(faulty).and_then(|repository| mend(&repository, false));
            for (id, ok) in self::readable(&store, &held) {
                assert!(ok || !readable[&id], "{number} {fault:?}");
            }
            let repository = open(store.clone());
            mend(&repository, false).unwrap();
            mend(&repository, true).unwrap();
            for name in names(&store, Place::Locks) {
                store.remove(&name);
            }
            assert_sound(&store, &held);
        }
    }
}

/// A disk gives neither a run nor a pack today: the run is not thrown away, which may be all that is known of the pack.
#[test]
fn what_cannot_be_read_today_is_not_forgotten() {
    let (whole, held) = filled();
    let measured = Arc::new(FaultStore::new(whole.fork()));
    mend(&try_open(measured.clone()).unwrap(), true).unwrap();
    let bad = Fault::FailBefore(StoreErrorKind::Permanent);
    for first in 0..measured.operations() {
        for second in first + 1..measured.operations() + 4 {
            let store = whole.fork();
            let faulty = FaultStore::new(store.clone()).at(first, bad.clone()).at(second, bad.clone());
            let _ = try_open(Arc::new(faulty)).and_then(|repository| mend(&repository, false));
            assert!(readable(&store, &held).values().all(|ok| *ok), "operations {first} and {second}");
        }
    }
}

fn readable(store: &MemoryStore, held: &[(SnapshotId, Thing)]) -> BTreeMap<SnapshotId, bool> {
    let index =
        repo_core::index::set::IndexSet::load(store, open(store.clone()).keys(), Some(&mut Vec::new())).unwrap();
    let repository = open(store.clone());
    let reader = repo_core::repository::reader::BlobReader::new(Arc::clone(&repository), Arc::new(index), 1 << 20);
    let read = |id: &SnapshotId| {
        let snapshot = repo_core::snapshot::load(&repository, id).unwrap();
        common::model::read_back(&reader, &snapshot.tree).is_ok()
    };
    held.iter().map(|(id, _)| (*id, read(id))).collect()
}

/// A backup, or a prune, is made between any two operations of a repair.
#[test]
fn others_may_work_beside_it() {
    let (whole, held) = filled();
    damage(&whole, &names(&whole, Place::Index)[0], 300);
    let count = Arc::new(Mutex::new(0));
    let counting = Arc::clone(&count);
    mend(&open(Shared::new(&whole.fork(), move |_| *counting.lock().unwrap() += 1)), false).unwrap();
    let operations = *count.lock().unwrap();
    for number in 0..operations {
        for pruned in [false, true] {
            let store = whole.fork();
            let next = tree(50);
            let (mut at, inner, beside) = (0, store.clone(), next.clone());
            let made = Arc::new(Mutex::new(None));
            let making = Arc::clone(&made);
            let shared = Shared::new(&store, move |_| {
                if at == number {
                    // It cannot read one of the runs: it stores again what that one knows.
                    let report =
                        back_up(&open(inner.clone()), &ModelSource::new(&beside), &BackupOptions { ..options() });
                    *making.lock().unwrap() = Some(report.unwrap().snapshot.unwrap());
                    if pruned {
                        prune_all(&inner);
                    }
                }
                at += 1;
            });
            mend(&open(shared), false).unwrap();
            let mut held = held.clone();
            held.push((made.lock().unwrap().unwrap(), next));
            mend(&open(store.clone()), false).unwrap();
            assert_sound(&store, &held);
        }
    }
}
