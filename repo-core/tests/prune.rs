//! What a prune does, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;

use common::{
    bench::{assert_holds, back_up, back_up_model, index, init, names, open, options, snapshots, stored_twice},
    late::LateStore,
    model::{ModelSource, Thing},
    prune_stage::{PruneStage, forget_one, note, pruned, run_prune, thorough, version},
    sample::noise,
};
use repo_core::{
    backup::{BackupOptions, Parent},
    blob::BlobKind,
    check::{CheckOptions, FindingKind, ReadData, check},
    crypto::keys::ObjectKind,
    error::Error,
    id::PackId,
    progress::{Cancel, Silent},
    prune::{
        PruneOptions,
        plan::{MaxUnused, Reason},
    },
    repository::{
        notes::{Mark, Session},
        seal::Seal,
    },
    store::{ObjectName, Place, Store, memory::MemoryStore},
    time::Timestamp,
};

const DAY: i64 = 86_400;

#[test]
fn what_nobody_needs_goes_and_the_rest_is_as_small_as_new() {
    let stage = PruneStage::new();
    let before = stage.data_bytes();
    let report = pruned(stage.store.clone());
    stage.assert_sound();
    // What a repository takes in which the forgotten ones never were.
    let fresh = MemoryStore::new();
    let repository = init(fresh.clone());
    stage.held.iter().for_each(|(_, tree)| drop(back_up_model(&repository, tree)));
    let fresh = PruneStage { store: fresh, held: Vec::new(), forgotten: Vec::new() }.data_bytes();
    let after = stage.data_bytes();
    assert!(after <= fresh + fresh / 20 && after < before, "{before} -> {after}, fresh {fresh}");
    assert!(stored_twice(&open(stage.store.clone())).is_empty());
    assert_eq!(report.bodies, 2);
    assert!(report.blobs.unused > 0 && report.packs_deleted > 0 && report.packs_stored > 0, "{report:?}");
    assert_eq!(report.plan.totals.bytes, before);
    assert!(names(&stage.store, Place::Locks).is_empty());
    // The index names what is there, and nothing else.
    let named: BTreeSet<PackId> = index(&open(stage.store.clone())).all_packs().map(|pack| pack.id).collect();
    let there: BTreeSet<PackId> = names(&stage.store, Place::Data).iter().map(|name| name.id().into()).collect();
    assert_eq!(named, there);
    // A second one has nothing to do, and writes nothing but its own note.
    let all = stage.store.names();
    assert!(pruned(stage.store.clone()).plan.victims.is_empty());
    assert_eq!(stage.store.names(), all);
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_would_be() {
    let stage = PruneStage::new();
    let names = stage.store.names();
    let dry = PruneOptions { dry_run: true, note: None, ..thorough() };
    let planned = run_prune(&open(stage.store.clone()), &dry).unwrap();
    assert_eq!(stage.store.names(), names);
    let done = pruned(stage.store.clone());
    assert_eq!((planned.plan, planned.blobs, planned.bodies), (done.plan, done.blobs, done.bodies));
    assert_eq!((planned.packs_deleted, planned.packs_stored), (0, 0));
    // As if one more were forgotten.
    let gone = BTreeSet::from([stage.held[0].0]);
    let without = run_prune(&open(stage.store.clone()), &PruneOptions { gone, ..dry }).unwrap();
    assert_eq!(without.bodies, 1);
    assert!(without.plan.totals.unused_bytes > 2000, "{:?}", without.plan.totals);
    let mut stage = stage;
    stage.forget(0);
    assert_eq!(pruned(stage.store.clone()).plan.totals, without.plan.totals);
    stage.assert_sound();
}

#[test]
fn all_can_be_forgotten() {
    let mut stage = PruneStage::new();
    stage.forget(1);
    stage.forget(0);
    pruned(stage.store.clone());
    assert_eq!(stage.data_bytes(), 0);
    assert!(names(&stage.store, Place::Index).is_empty());
    let tree = version(1);
    let id = back_up_model(&open(stage.store.clone()), &tree).snapshot.unwrap();
    assert_holds(&open(stage.store), &id, &tree);
}

/// The limits hold: what may stay stays, and no more is read than was said.
#[test]
fn limits() {
    let stage = PruneStage::new();
    let run = |max_unused: MaxUnused, max_repack_bytes: Option<u64>| {
        let stage = stage.fork();
        let options = PruneOptions { max_unused, max_repack_bytes, ..thorough() };
        let report = run_prune(&open(stage.store.clone()), &options).unwrap();
        stage.assert_sound();
        let left = run_prune(&open(stage.store.clone()), &PruneOptions { dry_run: true, note: None, ..thorough() });
        (report, left.unwrap().plan.totals.unused_bytes, stage.data_bytes())
    };
    let (thorough, none, size) = run(MaxUnused::Bytes(0), None);
    assert_eq!(none, 0);
    for percent in [1.0, 5.0, 20.0, 50.0] {
        let (report, left, now) = run(MaxUnused::Percent(percent), None);
        #[allow(clippy::cast_precision_loss, reason = "a share")]
        let share = left as f64 / now as f64 * 100.0;
        assert!(share <= percent + 0.5, "{share} of {percent} %");
        assert!(report.plan.totals.repack_bytes <= thorough.plan.totals.repack_bytes);
    }
    let (lazy, left, _) = run(MaxUnused::Unlimited, None);
    assert!(left > 0);
    assert!(lazy.plan.victims.iter().all(|victim| matches!(victim.reason, Reason::Unused | Reason::Small)));
    let bytes = thorough.plan.totals.repack_bytes / 2;
    let (half, left, now) = run(MaxUnused::Bytes(0), Some(bytes));
    assert!(half.plan.totals.repack_bytes <= bytes && left > 0 && now > size, "{:?}", half.plan.totals);
}

/// A blob in two packs is needed in one of them.
#[test]
fn duplicates_go() {
    let stage = PruneStage::new();
    let tree = version(2);
    // Its index is hidden from a backup, which then stores all again.
    let hidden: Vec<_> = names(&stage.store, Place::Index)
        .into_iter()
        .map(|name| (name, stage.store.bytes_of(&name).unwrap()))
        .collect();
    for (name, _) in &hidden {
        assert!(stage.store.remove(name));
    }
    let options = BackupOptions { parent: Parent::None, ..options() };
    back_up(&open(stage.store.clone()), &ModelSource::new(&tree), &options).unwrap();
    for (name, bytes) in &hidden {
        stage.store.replace(name, bytes.to_vec());
    }
    let twice = stored_twice(&open(stage.store.clone())).len();
    assert!(twice > 20, "{twice}");
    let report = pruned(stage.store.clone());
    assert!(report.blobs.duplicate >= twice as u64 / 2);
    assert!(stored_twice(&open(stage.store.clone())).is_empty());
    stage.assert_sound();
}

/// Packs that no index names go, unless somebody is at work who may have stored them; packs that are not there leave the index.
#[test]
fn what_is_unindexed_and_what_is_absent() {
    let stage = PruneStage::new();
    let unused = {
        let other = stage.fork();
        let id = back_up_model(&open(other.store.clone()), &Thing::directory([("x", Thing::file(noise(77, 5000)))]));
        let new: Vec<_> = names(&other.store, Place::Data)
            .into_iter()
            .filter(|name| stage.store.bytes_of(name).is_none())
            .map(|name| (name, other.store.bytes_of(&name).unwrap()))
            .collect();
        assert!(id.snapshot.is_some());
        new
    };
    let put = |stage: &PruneStage| unused.iter().for_each(|(name, bytes)| stage.store.put(name, bytes).unwrap());

    let alone = stage.fork();
    put(&alone);
    let report = pruned(alone.store.clone());
    assert!(report.plan.victims.iter().any(|victim| victim.reason == Reason::Unindexed));
    assert!(unused.iter().all(|(name, _)| alone.store.bytes_of(name).is_none()));

    let busy = stage.fork();
    let session = note("backup", 77_777);
    let now = session.started.seconds();
    busy.store.set_time(Timestamp::from_seconds(now - 1));
    let session = repo_core::repository::notes::Session { host: "elsewhere".into(), ..session };
    let at_work = open(busy.store.clone()).save(Place::Locks, ObjectKind::Session, &session).unwrap();
    busy.store.set_time(Timestamp::from_seconds(now));
    put(&busy);
    pruned(busy.store.clone());
    assert!(unused.iter().all(|(name, _)| busy.store.bytes_of(name).is_some()), "somebody is at work");
    assert!(busy.store.bytes_of(&ObjectName::new(Place::Locks, at_work)).is_some());
    busy.assert_sound();
    // Two weeks later nobody is at work any more.
    busy.store.set_time(Timestamp::from_seconds(now + 15 * DAY));
    let late = open_late(&busy.store, now + 15 * DAY);
    run_prune(&late, &thorough()).unwrap();
    assert!(unused.iter().all(|(name, _)| busy.store.bytes_of(name).is_none()));

    // A pack that is gone, of which nothing is needed.
    let mut absent = stage.fork();
    let gone: Vec<_> = {
        let dry = PruneOptions { dry_run: true, note: None, max_unused: MaxUnused::Unlimited, ..thorough() };
        absent.forget(0);
        let plan = run_prune(&open(absent.store.clone()), &dry).unwrap().plan;
        plan.victims.iter().filter(|victim| victim.reason == Reason::Unused).map(|victim| victim.pack).collect()
    };
    assert!(!gone.is_empty());
    for pack in &gone {
        assert!(absent.store.remove(&ObjectName::new(Place::Data, *pack)));
    }
    let found = check(&open(absent.store.clone()), CheckOptions::default(), &Silent, &Cancel::default()).unwrap();
    assert!(found.is_clean() && found.suggests_prune(), "{:#?}", found.findings);
    assert!(found.findings.iter().any(|finding| finding.what == FindingKind::PackGone));
    let report = pruned(absent.store.clone());
    assert_eq!(report.plan.victims.iter().filter(|victim| victim.reason == Reason::Absent).count(), gone.len());
    let named: BTreeSet<PackId> = index(&open(absent.store.clone())).all_packs().map(|pack| pack.id).collect();
    assert!(gone.iter().all(|pack| !named.contains(pack)));
    absent.assert_sound();
}

/// The repository as one sees it whose clock shows this.
fn open_late(store: &MemoryStore, seconds: i64) -> std::sync::Arc<repo_core::repository::Repository> {
    use repo_core::runtime::Runtime;
    struct Late(i64);
    impl Runtime for Late {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(self.0)
        }
        fn random(&self, into: &mut [u8]) {
            repo_core::runtime::SystemRuntime.random(into);
        }
        fn sleep_ms(&self, _milliseconds: u64) {}
        fn is_running(&self, _process: u32) -> bool {
            false
        }
    }
    let store = std::sync::Arc::new(store.clone());
    let runtime = std::sync::Arc::new(Late(seconds));
    std::sync::Arc::new(repo_core::repository::Repository::open(store, runtime, b"secret", None).unwrap())
}

/// Whatever tells what is needed and cannot be read: nothing is deleted, whichever object it is.
#[test]
fn damage_stops_it() {
    let stage = PruneStage::new();
    let kinds = [Place::Snapshots, Place::Index, Place::Locks];
    let mark = Mark { packs: Vec::new(), created: Timestamp::from_seconds(5) };
    open(stage.store.clone()).save(Place::Locks, ObjectKind::Mark, &mark).unwrap();
    let mut refused = 0;
    for name in stage.store.names().into_iter().filter(|name| kinds.contains(&name.place())) {
        let stage = stage.fork();
        let mut bytes = stage.store.bytes_of(&name).unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        stage.store.replace(&name, bytes);
        let data = names(&stage.store, Place::Data);
        let error = run_prune(&open(stage.store.clone()), &thorough()).unwrap_err();
        assert!(error.chain().clone().contains(&name.id().to_string()), "{name}: {}", error.chain());
        assert_eq!(names(&stage.store, Place::Data), data, "{name}");
        refused += 1;
    }
    assert!(refused >= 6, "{refused}");
}

/// A pack that snapshots need is gone, or cut: nothing is deleted. Where only unfinished snapshots need it, the rest is pruned.
#[test]
fn a_loss_stops_it() {
    let stage = PruneStage::new();
    let needed = {
        let clean = stage.fork();
        pruned(clean.store.clone());
        names(&clean.store, Place::Data)
    };
    assert!(!needed.is_empty());
    for victim in names(&stage.store, Place::Data) {
        let is_cut = [false, true];
        for cut in is_cut {
            let stage = stage.fork();
            let bytes = stage.store.bytes_of(&victim).unwrap();
            if cut {
                stage.store.replace(&victim, bytes[..bytes.len() - 1].to_vec());
            } else {
                stage.store.remove(&victim);
            }
            let data = names(&stage.store, Place::Data);
            match run_prune(&open(stage.store.clone()), &thorough()) {
                Err(Error::Refused(text)) => {
                    assert!(text.contains("nothing was deleted"), "{text}");
                    assert_eq!(names(&stage.store, Place::Data), data);
                }
                Err(error) => panic!("{}", error.chain()),
                // It was one of which nothing is needed.
                Ok(_) => stage.assert_sound(),
            }
        }
    }
}

#[test]
fn an_unfinished_snapshot_keeps_what_it_needs_until_it_expires() {
    let mut stage = PruneStage::new();
    let now = 1_000_000;
    stage.store.set_time(Timestamp::from_seconds(now));
    // Its seal is lost: it counts as never finished.
    let tree = Thing::directory([("only", Thing::file(noise(55, 9000)))]);
    let id = back_up_model(&open(stage.store.clone()), &tree).snapshot.unwrap();
    let seals_before: BTreeSet<_> = stage.held.iter().map(|(id, _)| *id).collect();
    let seal = names(&stage.store, Place::Snapshots)
        .into_iter()
        .find(|name| {
            let alone = stage.fork();
            alone.store.remove(name);
            !snapshots(&open(alone.store)).iter().any(|(there, _)| *there == id) && name.id() != id.into()
        })
        .unwrap();
    stage.store.remove(&seal);
    let early = open_late(&stage.store, now + 13 * DAY);
    let report = run_prune(&early, &thorough()).unwrap();
    assert_eq!((report.bodies, report.expired.len()), (3, 0));
    assert!(common::model::read_back(&common::bench::reader(&early), &body_tree(&early, id)).is_ok());
    let late = open_late(&stage.store, now + 15 * DAY);
    let report = run_prune(&late, &thorough()).unwrap();
    assert_eq!((report.bodies, &report.expired[..]), (2, &[id][..]));
    assert!(stage.store.bytes_of(&ObjectName::new(Place::Snapshots, id)).is_none());
    assert_eq!(seals_before.len(), snapshots(&late).len());
    stage.held.retain(|(held, _)| *held != id);
    stage.assert_sound();
}

fn body_tree(repository: &repo_core::repository::Repository, id: repo_core::id::SnapshotId) -> repo_core::id::BlobId {
    repo_core::snapshot::load(repository, &id).unwrap().tree
}

/// The body of a committed snapshot is gone: its backup was killed while it expired, or the store has lost it. Nobody tells these apart.
#[test]
fn a_seal_without_its_snapshot_is_told_of_until_it_is_old_and_then_removed() {
    let stage = PruneStage::new();
    let now = 1_000_000;
    stage.store.set_time(Timestamp::from_seconds(now));
    let working = open_late(&stage.store, now);
    let elsewhere = Session { host: "elsewhere".into(), ..note("backup", 7) };
    let session = working.save(Place::Locks, ObjectKind::Session, &elsewhere).unwrap();
    let before = names(&stage.store, Place::Snapshots);
    let id = back_up_model(&working, &version(9)).snapshot.unwrap();
    let body = ObjectName::new(Place::Snapshots, id);
    let seal =
        names(&stage.store, Place::Snapshots).into_iter().find(|name| !before.contains(name) && *name != body).unwrap();
    stage.store.remove(&body);
    let findings = |repository: &_| {
        let report = check(repository, CheckOptions::default(), &Silent, &Cancel::default()).unwrap();
        let of_it = report.findings.iter().filter(|finding| finding.object == body.to_string());
        (report.errors(), of_it.map(|finding| finding.what.clone()).collect::<Vec<_>>())
    };
    let seal_id = seal.id().into();
    let early = open_late(&stage.store, now + 13 * DAY);
    // As long as its backup may still be at work, which would make it anew.
    assert_eq!(findings(&early), (0, vec![FindingKind::SnapshotLeaving { seal: seal_id }]));
    stage.store.remove(&ObjectName::new(Place::Locks, session));
    assert_eq!(findings(&early), (1, vec![FindingKind::SnapshotMissing { seal: seal_id }]));
    assert_eq!(run_prune(&early, &thorough()).unwrap().lost, []);
    assert!(stage.store.bytes_of(&seal).is_some());
    let late = open_late(&stage.store, now + 15 * DAY);
    let dry = run_prune(&late, &PruneOptions { dry_run: true, ..thorough() }).unwrap();
    assert!(dry.lost.is_empty() && stage.store.bytes_of(&seal).is_some());
    assert_eq!(run_prune(&late, &thorough()).unwrap().lost, [id]);
    assert!(stage.store.bytes_of(&seal).is_none());
    assert_eq!(findings(&late), (0, vec![]));
    assert_eq!(run_prune(&late, &thorough()).unwrap().lost, []);
    stage.assert_sound();
}

/// Half of what one seal names is there: it goes on committing that.
#[test]
fn a_seal_of_two_snapshots_stays_while_one_is_there() {
    let mut stage = PruneStage::new();
    let (now, repository) = (1_000_000, open(stage.store.clone()));
    stage.store.set_time(Timestamp::from_seconds(now));
    let seal = Seal::new(stage.held.iter().map(|(id, _)| *id).collect());
    let seal = ObjectName::new(Place::Snapshots, repository.save(Place::Snapshots, ObjectKind::Seal, &seal).unwrap());
    for left in [1, 0] {
        let (id, _) = stage.held.remove(0);
        stage.store.remove(&ObjectName::new(Place::Snapshots, id));
        let report = run_prune(&open_late(&stage.store, now + 15 * DAY), &thorough()).unwrap();
        assert_eq!(stage.store.bytes_of(&seal).is_some(), left > 0);
        // Their first seals are of unknown age.
        assert_eq!(report.lost.len(), if left > 0 { 0 } else { 2 }, "{:?}", report.lost);
    }
}

/// An unfinished snapshot that has lost what it needs is in nobody's way.
#[test]
fn a_broken_unfinished_snapshot_does_not_stop_it() {
    for kind in BlobKind::ALL {
        let stage = PruneStage::new();
        let before: BTreeSet<_> = stage.store.names().into_iter().collect();
        let tree = Thing::directory([("only", Thing::file(noise(55, 9000)))]);
        let id = back_up_model(&open(stage.store.clone()), &tree).snapshot.unwrap();
        forget_seal(&stage.store, id, &before);
        for pack in index(&open(stage.store.clone())).all_packs().filter(|pack| pack.kind == kind) {
            let name = ObjectName::new(Place::Data, pack.id);
            if !before.contains(&name) {
                assert!(stage.store.remove(&name));
            }
        }
        let report = pruned(stage.store.clone());
        assert!(report.plan.totals.freed_bytes() > 1000, "{report:?}");
        stage.assert_sound();
    }
}

/// What an unfinished snapshot needs is not nowhere if it is in a pack that the index, as it was just listed, does not name: its writer
/// may have seen the pack before it was condemned, and be about to seal.
#[test]
fn what_an_unfinished_snapshot_needs_stays_even_without_an_index() {
    let stage = PruneStage::new();
    let earlier = stage.fork().store;
    let before: BTreeSet<_> = stage.store.names().into_iter().collect();
    let tree = Thing::directory([("only", Thing::file(noise(55, 9000)))]);
    let id = back_up_model(&open(stage.store.clone()), &tree).snapshot.unwrap();
    forget_seal(&stage.store, id, &before);
    let hidden: Vec<_> = names(&stage.store, Place::Index)
        .into_iter()
        .filter(|name| !before.contains(name))
        .map(|name| (name, stage.store.bytes_of(&name).unwrap()))
        .collect();
    assert!(!hidden.is_empty());
    for (name, _) in &hidden {
        assert!(stage.store.remove(name));
    }
    // Runs that were merged into the one that is hidden.
    for name in names(&earlier, Place::Index) {
        stage.store.replace(&name, earlier.bytes_of(&name).unwrap().to_vec());
    }
    let packs = names(&stage.store, Place::Data);
    let error = run_prune(&open(stage.store.clone()), &thorough()).unwrap_err();
    assert!(error.chain().contains("unfinished snapshot"), "{}", error.chain());
    assert_eq!(names(&stage.store, Place::Data), packs);
    for (name, bytes) in &hidden {
        stage.store.replace(name, bytes.to_vec());
    }
    let repository = open(stage.store.clone());
    run_prune(&repository, &thorough()).unwrap();
    assert!(common::model::read_back(&common::bench::reader(&repository), &body_tree(&repository, id)).is_ok());
    stage.assert_sound();
}

/// Removes the seal of a snapshot that was made since.
fn forget_seal(store: &MemoryStore, id: repo_core::id::SnapshotId, before: &BTreeSet<ObjectName>) {
    for name in names(store, Place::Snapshots) {
        if !before.contains(&name) && name.id() != id.into() {
            assert!(store.remove(&name));
        }
    }
}

/// A mark that a dead prune left is finished, whoever comes next; one of a prune at work is left alone.
#[test]
fn marks_of_others() {
    let stage = PruneStage::new();
    let repository = open(stage.store.clone());
    let packs: Vec<PackId> = names(&stage.store, Place::Data).iter().map(|name| name.id().into()).collect();
    let mark = Mark { packs: packs[..packs.len() / 2].to_vec(), created: repository.runtime().now() };
    let name = ObjectName::new(Place::Locks, repository.save(Place::Locks, ObjectKind::Mark, &mark).unwrap());
    // While its owner is at work.
    let busy = stage.fork();
    let session = note("prune", 77_777);
    let session = repo_core::repository::notes::Session { host: "elsewhere".into(), ..session };
    open(busy.store.clone()).save(Place::Locks, ObjectKind::Session, &session).unwrap();
    let report = pruned(busy.store.clone());
    assert_eq!(report.marks_finished, 0);
    assert!(busy.store.bytes_of(&name).is_some());
    assert!(report.plan.victims.iter().all(|victim| !mark.packs.contains(&victim.pack)));
    busy.assert_sound();
    // When it is dead.
    let report = pruned(stage.store.clone());
    assert_eq!(report.marks_finished, 1);
    assert!(stage.store.bytes_of(&name).is_none());
    assert!(mark.packs.iter().all(|pack| stage.store.bytes_of(&ObjectName::new(Place::Data, *pack)).is_none()));
    stage.assert_sound();
}

/// Small packs of many small backups are put together.
#[test]
fn small_packs_are_merged() {
    let store = MemoryStore::new();
    let repository = init(store.clone());
    let mut tree = Thing::directory([]);
    let mut held = Vec::new();
    for number in 0..20 {
        tree.put(format!("{number}").as_bytes(), Thing::file(noise(number, 40)));
        held.push((back_up_model(&repository, &tree).snapshot.unwrap(), tree.clone()));
    }
    let before = names(&store, Place::Data).len();
    let lazy = PruneOptions { max_unused: MaxUnused::Unlimited, ..thorough() };
    let report = run_prune(&open(store.clone()), &lazy).unwrap();
    assert!(report.plan.victims.iter().any(|victim| victim.reason == Reason::Small));
    let after = names(&store, Place::Data).len();
    assert!(after * 2 < before, "{before} -> {after}");
    common::prune_stage::assert_sound(&open(store.clone()), &held);
    assert!(run_prune(&open(store), &lazy).unwrap().plan.victims.is_empty(), "it does not go on for ever");
}

/// Blobs that lie raw and compressed, in frames that are moved whole and in part, come out as they were, many times over.
#[test]
fn prunes_again_and_again() {
    let store = MemoryStore::new();
    let repository = init(store.clone());
    let mut held: Vec<(repo_core::id::SnapshotId, Thing)> = Vec::new();
    for round in 0..12_usize {
        let mut tree = version(round as u64 % 5);
        tree.put(b"text", Thing::file(format!("round {round} ").repeat(900).into_bytes()));
        held.push((back_up_model(&repository, &tree).snapshot.unwrap(), tree));
        if round % 3 == 2 {
            let (id, _) = held.remove((round * 7) % held.len());
            forget_one(&repository, id);
            let max_unused = [MaxUnused::Bytes(0), MaxUnused::Percent(5.0), MaxUnused::Percent(20.0)];
            let max_unused = max_unused[(round / 3) % 3];
            run_prune(&open(store.clone()), &PruneOptions { max_unused, threads: Some(2), ..thorough() }).unwrap();
            common::prune_stage::assert_sound(&open(store.clone()), &held);
        }
    }
}

/// Where listings lag behind, everything comes out as elsewhere; and a check that comes right after finds nothing.
#[test]
fn listings_that_lag_behind_hide_nothing_and_keep_nothing() {
    let stage = PruneStage::new();
    let prompt = stage.fork();
    pruned(prompt.store.clone());
    let late = LateStore::new(stage.store.clone());
    let is_clean = || {
        let options = CheckOptions { read_data: ReadData::All, threads: 2 };
        let report = check(&late.open(), options, &Silent, &Cancel::default()).unwrap();
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
    };
    run_prune(&late.open(), &thorough()).unwrap();
    is_clean();
    for place in [Place::Index, Place::Snapshots, Place::Locks] {
        assert_eq!(names(&stage.store, place).len(), names(&prompt.store, place).len(), "{place:?}");
    }
    stage.assert_sound();
    for number in 5..9 {
        let tree = version(number);
        let id = back_up_model(&late.open(), &tree).snapshot.unwrap();
        is_clean();
        forget_one(&late.open(), id);
        let report = run_prune(&late.open(), &thorough()).unwrap();
        assert!(report.packs_deleted > 0, "{number}");
        is_clean();
        let runs = names(&stage.store, Place::Index).len();
        assert!(runs <= names(&prompt.store, Place::Index).len(), "{number}: {runs} runs");
    }
    stage.assert_sound();
}
