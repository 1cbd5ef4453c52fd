//! Copies: equal to their originals, shared with what the destination has, resumed, and never of what is damaged.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{collections::BTreeSet, sync::Arc};

use common::{
    bench::{
        GONE, TestRuntime, assert_holds, back_up, back_up_model, init, names, open, options, snapshots, stored_twice,
        try_open,
    },
    beside::Shared,
    model::{Extent, ModelSource, Thing},
    prune_stage::{assert_sound, forget_one, note, pruned, version},
    sample::noise,
};
use repo_core::{
    blob::BlobKind,
    copy::{CopyOptions, CopyReport, Outcome, copy},
    crypto::kdf::KdfCost,
    edit::{EditOptions, TagChange, edit},
    error::{Error, Result, StoreErrorKind},
    id::SnapshotId,
    progress::{Cancel, Silent},
    repository::{InitOptions, Repository, config::Parameters},
    snapshot::{Listing, Snapshot},
    store::{
        Place, Store,
        memory::MemoryStore,
        testing::{Event, Fault, FaultStore, Operation, RecordingStore},
    },
    tree::node::Extension,
};

const RETRY: StoreErrorKind = StoreErrorKind::Retry;

fn how() -> CopyOptions {
    CopyOptions { threads: Some(2), note: Some(note("copy", GONE)), ..CopyOptions::default() }
}

/// Copies all snapshots that there are.
fn run(from: &Arc<Repository>, into: &Arc<Repository>, options: &CopyOptions) -> Result<CopyReport> {
    let listing = Listing::read(from)?;
    let ids: Vec<_> = listing.snapshots.iter().map(|(id, _)| *id).collect();
    copy(from, &listing, &ids, into, options, &Silent, &Cancel::default())
}

fn made(report: &CopyReport) -> Vec<SnapshotId> {
    let made = |outcome: &Outcome| match outcome {
        Outcome::Made(Some(id)) => Some(*id),
        Outcome::WasThere(_) => None,
        other => panic!("{other:?}"),
    };
    report.copies.iter().filter_map(|copied| made(&copied.outcome)).collect()
}

fn one_of_everything() -> Thing {
    let mut tree = version(7);
    tree.put(b"empty", Thing::file([]));
    tree.put(b"long", Thing::file(noise(77, 40_000)));
    tree.put(
        b"sparse",
        Thing::sparse(vec![Extent::Hole(5000), Extent::Data(noise(8, 700).into()), Extent::Hole(1 << 40)]),
    );
    tree.put(b"link", Thing::symlink(b"long"));
    tree.put(b"pipe", Thing::fifo().with_xattr(b"user.p", b"3"));
    tree.put(b"not \xff utf-8", Thing::file(*b"odd"));
    tree.put(b"d2", tree.at(b"d").clone());
    tree
}

struct Stage {
    from: MemoryStore,
    into: MemoryStore,
    trees: Vec<Thing>,
}

impl Stage {
    fn new(trees: Vec<Thing>) -> Self {
        let (from, into) = (MemoryStore::new(), MemoryStore::new());
        let repository = init(from.clone());
        init(into.clone());
        for tree in &trees {
            back_up_model(&repository, tree);
        }
        Self { from, into, trees }
    }

    fn both(&self) -> (Arc<Repository>, Arc<Repository>) {
        (open(self.from.clone()), open(self.into.clone()))
    }

    fn fork(&self) -> Self {
        Self { from: self.from.fork(), into: self.into.fork(), trees: self.trees.clone() }
    }

    /// Every snapshot of the destination is a whole copy of one of the source, and there are no two of the same; how many there are.
    #[track_caller]
    fn check(&self, what: &str) -> usize {
        let (from, into) = self.both();
        let originals = snapshots(&from);
        let copies = snapshots(&into);
        let mut seen = BTreeSet::new();
        for (id, copied) in &copies {
            let at = originals.iter().position(|(id, _)| Some(*id) == copied.original);
            let at = at.unwrap_or_else(|| panic!("{what}: of what is {id} a copy?"));
            let original = &originals[at].1;
            let same = Snapshot { tree: original.tree, parent: original.parent, original: None, ..copied.clone() };
            assert_eq!(same, *original, "{what}");
            assert_holds(&into, id, &self.trees[at]);
            assert!(seen.insert(at), "{what}: twice");
        }
        copies.len()
    }
}

#[test]
fn copies_are_equal_and_are_made_once() {
    for window_blobs in [1, 7, 1 << 18] {
        let stage = Stage::new(vec![one_of_everything(), version(1), version(2), version(2)]);
        let (from, into) = stage.both();
        let before = stage.from.names();
        let dry = run(&from, &into, &CopyOptions { dry_run: true, note: None, window_blobs, ..how() }).unwrap();
        assert!(
            dry.added.data_blobs > 0 && dry.copies.iter().all(|copied| matches!(copied.outcome, Outcome::Made(None)))
        );
        assert_eq!(snapshots(&into).len(), 0);
        let report = run(&from, &into, &CopyOptions { window_blobs, ..how() }).unwrap();
        assert_eq!((made(&report).len(), stage.check("once")), (4, 4));
        assert_eq!(report.added.data_blobs, dry.added.data_blobs);
        assert_eq!(names(&stage.into, Place::Locks), []);
        assert_eq!(stored_twice(&into), []);
        // Parents are those of the destination.
        for (_, copied) in snapshots(&into) {
            assert!(copied.parent.is_none_or(|parent| snapshots(&into).iter().any(|(id, _)| *id == parent)));
        }
        let there = stage.into.names();
        assert_eq!(made(&run(&from, &into, &how()).unwrap()), []);
        assert_eq!(stage.into.names(), there);
        assert_eq!(stage.from.names(), before, "the source is only read");
        let held: Vec<_> = snapshots(&into).iter().map(|(id, _)| *id).zip(stage.trees.clone()).collect();
        assert_sound(&into, &held);
    }
}

#[test]
fn what_a_backup_of_its_own_has_stored_is_shared() {
    let from_store = MemoryStore::new();
    let from = init(from_store);
    let options_of = |parameters| InitOptions {
        password: b"secret",
        host: "host".into(),
        user: "user".into(),
        kdf_cost: KdfCost::TEST,
        parameters,
    };
    let tree = one_of_everything();
    back_up_model(&from, &tree);
    for like in [true, false] {
        let store = MemoryStore::new();
        let (place, runtime) = (Arc::new(store.clone()), Arc::new(TestRuntime));
        let init_options = options_of(Parameters { pack_bytes: 9000, ..Parameters::tiny() });
        if like {
            Repository::init_like(&from, place, runtime, &init_options).unwrap();
        } else {
            Repository::init(place, runtime, &init_options).unwrap();
        }
        let into = open(store.clone());
        back_up_model(&into, &tree);
        let report = run(&from, &into, &how()).unwrap();
        assert_eq!(report.added.data_blobs == 0, like, "{:?}", report.added);
        assert_eq!(report.added.tree_blobs == 0, like, "{:?}", report.added);
        let [(_, a), (_, b)] = &snapshots(&into)[..] else { panic!("two") };
        assert_eq!(a.tree == b.tree, like, "the same trees, page by page");
        // And the other way round, and one that is made like this one.
        let third = MemoryStore::new();
        Repository::init_like(&into, Arc::new(third.clone()), Arc::new(TestRuntime), &options_of(Parameters::tiny()))
            .unwrap();
        let third = open(third);
        assert_eq!(third.gear_table(), into.gear_table());
        run(&into, &third, &how()).unwrap();
        assert_eq!(back_up_model(&third, &tree).added.data_blobs, 0);
    }
}

/// Reads of data in the source, with their bytes.
fn data_reads(events: &[Event], keys: &Repository) -> u64 {
    let index = common::bench::index(keys);
    let data: BTreeSet<_> = index.all_packs().filter(|pack| pack.kind == BlobKind::Data).map(|pack| pack.id).collect();
    let is_data = |event: &&Event| match &event.operation {
        Operation::Get { name, .. } => name.place() == Place::Data && data.contains(&name.id().into()),
        _ => false,
    };
    events.iter().filter(is_data).count() as u64
}

#[test]
fn beside_an_earlier_copy_only_what_changed_is_read() {
    let mut tree = Thing::directory([("big", Thing::directory([]))]);
    for i in 0..60 {
        tree.put(format!("big/{i}").as_bytes(), Thing::file(noise(i, 3000)));
    }
    let stage = Stage::new(vec![tree.clone()]);
    let (from, into) = stage.both();
    run(&from, &into, &how()).unwrap();
    tree.put(b"big/7", Thing::file([noise(7, 3000), noise(1000, 200)].concat()));
    tree.put(b"new", Thing::file(*b"new"));
    back_up_model(&from, &tree);
    let recording = RecordingStore::new(stage.from.clone());
    let report = run(&open(recording.clone()), &into, &how()).unwrap();
    let reads = data_reads(&recording.events(), &from);
    assert!((1..=3).contains(&reads), "{reads} requests for data");
    assert!(report.added.data_blobs <= 3, "{:?}", report.added);
    let copy = made(&report)[0];
    assert_holds(&into, &copy, &tree);
    // An earlier copy that has lost something is no help, and is mended by the next.
    tree.put(b"new2", Thing::file(*b"new2"));
    back_up_model(&from, &tree);
    let lost = common::bench::index(&into).all_packs().find(|pack| pack.kind == BlobKind::Data).unwrap().id;
    stage.into.remove(&repo_core::store::ObjectName::new(Place::Data, lost));
    let report = run(&from, &into, &how()).unwrap();
    assert_holds(&into, &made(&report)[0], &tree);
}

#[test]
fn edits_on_both_sides() {
    let stage = Stage::new(vec![version(1)]);
    let (from, into) = stage.both();
    run(&from, &into, &how()).unwrap();
    let tag = |repository: &Arc<Repository>, tag: &str| {
        let listing = Listing::read(repository).unwrap();
        let ids: Vec<_> = listing.snapshots.iter().map(|(id, _)| *id).collect();
        let change = TagChange::Change { add: vec![tag.into()], remove: vec![] };
        edit(repository, &listing, &ids, &EditOptions::tags(change), &Silent, &Cancel::default()).unwrap();
    };
    // Another thing is said of it: that is another snapshot, which costs no data.
    tag(&from, "x");
    let report = run(&from, &into, &how()).unwrap();
    assert_eq!((made(&report).len(), report.added.data_blobs, report.added.tree_blobs), (1, 0, 0));
    assert_eq!(made(&run(&from, &into, &how()).unwrap()), []);
    // Back, and on to a third: known by the first original.
    assert_eq!(
        made(&run(&into, &from, &how()).unwrap()).len(),
        1,
        "the one without the tag, which the source has lost"
    );
    let third = init(MemoryStore::new());
    assert_eq!(made(&run(&into, &third, &how()).unwrap()).len(), 2);
    assert_eq!(made(&run(&from, &third, &how()).unwrap()), []);
    let same = copy(&from, &Listing::read(&from).unwrap(), &[], &from, &how(), &Silent, &Cancel::default());
    assert!(matches!(same, Err(Error::Invalid(_))));
}

/// Every operation on both sides, every fault: what is in the destination is whole, and the next run does the rest.
#[test]
fn every_operation_may_fail_or_be_the_last() {
    let mut second = version(1);
    second.put(b"new", Thing::file(noise(55, 2500)));
    let stage = Stage::new(vec![version(1), second]);
    let mut struck = 0;
    for source in [true, false] {
        let work = |stage: &Stage, faulty: Arc<dyn Store>| {
            let (from, into): (Arc<dyn Store>, Arc<dyn Store>) =
                if source { (faulty, Arc::new(stage.into.clone())) } else { (Arc::new(stage.from.clone()), faulty) };
            run(&try_open(from)?, &try_open(into)?, &how())
        };
        let measured = stage.fork();
        let store = if source { &measured.from } else { &measured.into };
        let counting = Arc::new(FaultStore::new(store.clone()));
        work(&measured, counting.clone()).unwrap();
        for number in 0..counting.operations() {
            let faults = [
                (Fault::FailBefore(RETRY), false),
                (Fault::FailAfter(RETRY), false),
                (Fault::FailBefore(RETRY), true),
                (Fault::FailAfter(RETRY), true),
                (Fault::StopBefore, false),
                (Fault::StopAfter, false),
                (Fault::GetFlipped { bit: 4321 }, false),
                (Fault::PutDropped, false),
            ];
            for (fault, forever) in faults {
                let stage = stage.fork();
                let store = FaultStore::new(if source { stage.from.clone() } else { stage.into.clone() });
                let store =
                    Arc::new(if forever { store.from(number, fault.clone()) } else { store.at(number, fault.clone()) });
                let result = work(&stage, store.clone());
                struck += u64::from(store.struck() > 0);
                let all_made = result.as_ref().is_ok_and(|report| {
                    report.copies.len() == 2
                        && report.copies.iter().all(|copied| matches!(copied.outcome, Outcome::Made(_)))
                });
                let what = format!("source {source}, operation {number}, {fault:?}, {forever}");
                let count = stage.check(&what);
                assert!(!all_made || count == 2, "{what}: {count}");
                let (from, into) = stage.both();
                run(&from, &into, &how()).unwrap_or_else(|error| panic!("{what}: again: {}", error.chain()));
                assert_eq!(stage.check(&what), 2, "{what}");
            }
        }
    }
    println!("{struck} faults struck");
    assert!(struck > 400, "{struck}");
}

#[test]
fn a_prune_of_the_destination_at_any_moment() {
    let stage = Stage::new(vec![version(1), version(2)]);
    {
        // Something that was backed up and forgotten there, of which the copy has much.
        let into = open(stage.into.clone());
        for number in 1..=2 {
            let id = back_up_model(&into, &version(number)).snapshot.unwrap();
            forget_one(&into, id);
        }
    }
    let measured = stage.fork();
    let counting = Arc::new(FaultStore::new(measured.into.clone()));
    run(&open(measured.from.clone()), &try_open(counting.clone()).unwrap(), &how()).unwrap();
    for moment in 0..counting.operations() {
        let stage = stage.fork();
        let (mut count, inner) = (0, stage.into.clone());
        let shared = Shared::new(&stage.into, move |_| {
            if count == moment {
                pruned(inner.clone());
            }
            count += 1;
        });
        let result = run(&open(stage.from.clone()), &open(shared), &how());
        let what = format!("at {moment}: {:?}", result.as_ref().map_err(Error::chain));
        assert!(result.is_ok(), "{what}");
        pruned(stage.into.clone());
        stage.check(&what);
        let (from, into) = stage.both();
        run(&from, &into, &how()).unwrap();
        assert_eq!(stage.check(&what), 2, "{what}");
    }
}

#[test]
fn what_is_damaged_is_not_copied_and_is_named() {
    let stage = Stage::new(vec![version(1)]);
    let from = open(stage.from.clone());
    let mut told = 0;
    for pack in common::bench::index(&from).all_packs() {
        let name = repo_core::store::ObjectName::new(Place::Data, pack.id);
        let whole = stage.from.bytes_of(&name).unwrap();
        for at in [whole.len() / 3, whole.len() / 2] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 4;
            stage.from.replace(&name, bytes);
            let into_store = MemoryStore::new();
            let into = init(into_store);
            match run(&open(stage.from.clone()), &into, &how()) {
                // Padding, or the pack's own directory.
                Ok(_) => assert_holds(&into, &snapshots(&into)[0].0, &stage.trees[0]),
                Err(error) => {
                    told += 1;
                    assert!(error.is_damage(), "{}", error.chain());
                    assert!(error.chain().contains(&pack.id.to_string()[..16]), "{}", error.chain());
                    assert_eq!(Listing::read(&into).unwrap().snapshots.len(), 0);
                }
            }
        }
        stage.from.remove(&name);
        let into = init(MemoryStore::new());
        assert!(run(&open(stage.from.clone()), &into, &how()).unwrap_err().is_damage());
        assert_eq!(Listing::read(&into).unwrap().snapshots.len(), 0);
        stage.from.replace(&name, whole.to_vec());
    }
    assert!(told > 3, "{told}");
}

/// One snapshot that cannot be read does not keep the others from being copied.
#[test]
fn others_are_copied_all_the_same() {
    let other = Thing::directory([("other", Thing::file(noise(9, 2000)))]);
    let stage = Stage::new(vec![version(1), other]);
    let (from, into) = stage.both();
    let first = &snapshots(&from)[0].1;
    let index = common::bench::index(&from);
    let pack = index.find(BlobKind::Tree, &first.tree).unwrap().location.frame.pack;
    stage.from.remove(&repo_core::store::ObjectName::new(Place::Data, pack));
    let report = run(&from, &into, &how()).unwrap();
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(error) if error.is_damage());
    assert!(failed(&report.copies[0].outcome), "{:?}", report.copies[0].outcome);
    assert!(matches!(report.copies[1].outcome, Outcome::Made(Some(_))), "{:?}", report.copies[1].outcome);
    let (id, _) = &snapshots(&into)[0];
    assert_holds(&into, id, &stage.trees[1]);
}

#[test]
fn what_a_newer_program_made_is_refused() {
    let store = MemoryStore::new();
    let from = init(store.clone());
    let source = ModelSource::new(&version(1));
    let id = back_up(&from, &source, &options()).unwrap().snapshot.unwrap();
    let (_, mut body) = snapshots(&from).into_iter().find(|(there, _)| *there == id).unwrap();
    body.extensions = vec![Extension { tag: 3, value: repo_core::tree::name::Bytes::new(*b"later").unwrap() }];
    let newer = from.save(Place::Snapshots, repo_core::crypto::keys::ObjectKind::Snapshot, &body).unwrap();
    let seal = repo_core::repository::seal::Seal::new(vec![newer.into()]);
    from.save(Place::Snapshots, repo_core::crypto::keys::ObjectKind::Seal, &seal).unwrap();
    let into = init(MemoryStore::new());
    let report = run(&from, &into, &how()).unwrap();
    assert_eq!(
        report
            .copies
            .iter()
            .filter(|copied| matches!(&copied.outcome, Outcome::Failed(error) if error.is_newer()))
            .count(),
        1
    );
    assert_eq!(snapshots(&into).len(), 1);
    let listing = Listing::read(&from).unwrap();
    let change = TagChange::Set(vec!["x".into()]);
    let refused = edit(&from, &listing, &[newer.into()], &EditOptions::tags(change), &Silent, &Cancel::default());
    assert!(refused.unwrap_err().is_newer());
    assert_eq!(snapshots(&from).len(), 2);
}
