//! Backups beside a pruner: packs are condemned and deleted at every moment, bodies expire.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use common::{
    bench::{assert_holds, back_up, back_up_model, init, names, open, open_for_backup, options, snapshots},
    beside::{Moment, Shared},
    model::{ModelSource, Thing},
    sample::noise,
};
use repo_core::{
    backup::{BackupReport, Parent},
    crypto::keys::ObjectKind,
    envelope::object::SEAL_BYTES,
    error::{Error, Result},
    id::{PackId, SnapshotId},
    protocol::writer::RESCUES_MAX,
    repository::{
        Repository,
        notes::{ExpireNote, Mark},
    },
    snapshot::Listing,
    source::{Directory, OwnerNames, Source, SourceError},
    store::{ObjectName, Place, Store, memory::MemoryStore},
    time::Timestamp,
};

fn tree() -> Thing {
    let mut root = Thing::directory([
        ("a", Thing::file(noise(1, 9000))),
        ("b", Thing::file(noise(2, 40_000))),
        ("d", Thing::directory([])),
    ]);
    for i in 0..30 {
        root.put(format!("d/{i}").as_bytes(), Thing::file(noise(10 + i, 300)));
    }
    root
}

fn changed(tree: &Thing) -> Thing {
    let mut tree = tree.clone();
    tree.put(b"d/new", Thing::file(noise(99, 5000)));
    tree
}

/// A repository with one snapshot.
fn filled() -> (MemoryStore, Thing, SnapshotId) {
    let store = MemoryStore::new();
    let tree = tree();
    let id = back_up_model(&init(store.clone()), &tree).snapshot.unwrap();
    (store, tree, id)
}

fn packs(store: &MemoryStore) -> Vec<PackId> {
    names(store, Place::Data).iter().map(|name| name.id().into()).collect()
}

fn condemn(repository: &Repository, packs: &[PackId]) -> ObjectName {
    let mark = Mark { packs: packs.to_vec(), created: Timestamp::from_seconds(5) };
    ObjectName::new(Place::Locks, repository.save(Place::Locks, ObjectKind::Mark, &mark).unwrap())
}

fn delete(store: &MemoryStore, packs: &[PackId]) {
    for pack in packs {
        store.delete(&ObjectName::new(Place::Data, *pack)).unwrap();
    }
}

fn run(store: impl Store + 'static, tree: &Thing, parent: Parent) -> Result<BackupReport> {
    let options = repo_core::backup::BackupOptions { parent, ..options() };
    back_up(&open_for_backup(store), &ModelSource::new(tree), &options)
}

/// Forgets a snapshot whose data is pruned, as the pruner's user has done before.
fn forget_all(store: &MemoryStore) {
    for name in names(store, Place::Snapshots) {
        store.remove(&name);
    }
}

#[test]
fn what_is_condemned_before_is_not_relied_on() {
    for parent in [Parent::Newest, Parent::None] {
        let (store, tree, old) = filled();
        let condemned = packs(&store);
        let mark = condemn(&open(store.clone()), &condemned);
        // One that is dead: its packs may still be there for long.
        let next = changed(&tree);
        let report = run(store.clone(), &next, parent).unwrap();
        let repository = open(store.clone());
        assert_holds(&repository, &old, &tree);
        delete(&store, &condemned);
        store.delete(&mark).unwrap();
        forget_body(&store, old);
        assert_holds(&repository, &report.snapshot.unwrap(), &next);
        assert!(report.summary.bytes_read > 50_000, "read from the source, not from what is condemned");
        // The index still names what is gone; that is in nobody's way.
        let last = changed(&next);
        let report = back_up_model(&repository, &last);
        assert_holds(&repository, &report.snapshot.unwrap(), &last);
    }
}

fn forget_body(store: &MemoryStore, id: SnapshotId) {
    store.remove(&ObjectName::new(Place::Snapshots, id));
}

/// Packs are condemned between any two operations of the backup, and deleted when it is done; the index is cleaned of them or not. A
/// pruner that condemns after the claim sees it and would not delete what it needs; here it deletes all the same. So only what was
/// condemned before the marks were last listed before the seal counts.
#[test]
fn what_is_condemned_meanwhile_is_rescued() {
    let (mut rescued, mut held) = (0, 0);
    let operations = {
        let (store, tree, _) = filled();
        let count = Arc::new(Mutex::new(0));
        let counting = Arc::clone(&count);
        run(Shared::new(&store, move |_| *counting.lock().unwrap() += 1), &changed(&tree), Parent::Newest).unwrap();
        *count.lock().unwrap()
    };
    for number in 0..operations {
        for (every, cleaned) in [(1, false), (1, true), (2, false), (3, true)] {
            let (store, tree, old) = filled();
            let tree = changed(&tree);
            let other = open(store.clone());
            let victims: Vec<_> = packs(&store).into_iter().step_by(every).collect();
            let marked = victims.clone();
            let (mut at, mut was_listed, inner) = (0, false, store.clone());
            let is_known = Arc::new(Mutex::new(false));
            let known = Arc::clone(&is_known);
            let shared = Shared::new(&store, move |moment| {
                if at == number {
                    condemn(&other, &marked);
                    if cleaned {
                        remove_from_index(&other, &inner, &marked);
                    }
                }
                was_listed |= at >= number && *moment == Moment::List(Place::Locks);
                if matches!(moment, Moment::Put(name, SEAL_BYTES) if name.place() == Place::Snapshots) {
                    *known.lock().unwrap() = was_listed;
                }
                at += 1;
            });
            let result = run(shared, &tree, Parent::Newest);
            delete(&store, &victims);
            forget_body(&store, old);
            let repository = open(store.clone());
            match result {
                Ok(report) => {
                    if *is_known.lock().unwrap() {
                        assert_holds(&repository, &report.snapshot.unwrap(), &tree);
                        held += 1;
                    }
                    rescued += u64::from(report.added.data_blobs > 0);
                }
                Err(error) => {
                    panic!("operation {number}: condemned packs could be read all the time: {}", error.chain())
                }
            }
        }
    }
    assert!(rescued > 0 && held > operations, "{rescued} {held}");
}

/// What a pruner does before it deletes packs.
fn remove_from_index(repository: &Repository, store: &MemoryStore, victims: &[PackId]) {
    use repo_core::{index::builder::IndexBuilder, pack::reader::read_directory};
    let old = names(store, Place::Index);
    let mut builder = IndexBuilder::default();
    for pack in packs(store).into_iter().filter(|pack| !victims.contains(pack)) {
        let size_bytes = store.bytes_of(&ObjectName::new(Place::Data, pack)).unwrap().len();
        let read = read_directory(store, repository.keys(), pack, size_bytes as u64).unwrap();
        builder.add_pack(pack, read.key, size_bytes.try_into().unwrap(), read.kind, &read.directory);
    }
    if !builder.is_empty() {
        let run = builder.finish(repository.keys(), repository.runtime()).unwrap();
        repository.put_object(&ObjectName::new(Place::Index, run.id), &run.bytes).unwrap();
    }
    for name in old {
        store.remove(&name);
    }
}

#[test]
fn what_is_deleted_before_it_can_be_rescued_is_read_again() {
    for every in [1, 2, 5] {
        for keeps_index in [true, false] {
            let (store, tree, _) = filled();
            let tree = changed(&tree);
            let other = open(store.clone());
            let victims: Vec<_> = packs(&store).into_iter().step_by(every).collect();
            let (inner, mut done, gone) = (store.clone(), false, victims.clone());
            let shared = Shared::new(&store, move |moment| {
                // Right before the body: a whole prune passes by.
                if matches!(moment, Moment::Put(name, _) if name.place() == Place::Snapshots) && !done {
                    done = true;
                    if !keeps_index {
                        remove_from_index(&other, &inner, &gone);
                    }
                    delete(&inner, &gone);
                    forget_all(&inner);
                }
            });
            let result = run(shared, &tree, Parent::Newest).unwrap();
            let repository = open(store.clone());
            assert_eq!(snapshots(&repository).len(), 1);
            assert_eq!(names(&store, Place::Snapshots).len(), 2, "a body and its seal; the first claim is gone");
            assert_holds(&repository, &result.snapshot.unwrap(), &tree);
            assert!(repository.notes().unwrap().sessions.is_empty());
            // And so does one with another parent, though the index still names what is gone.
            let tree = changed(&tree);
            let third = run(store.clone(), &tree, Parent::None).unwrap();
            assert_holds(&repository, &third.snapshot.unwrap(), &tree);
        }
    }
}

/// What a backup has just stored is gone, with the index that named it, right before the claim, so many times.
fn with_losses(
    losses: usize,
    source: impl FnOnce(&Thing) -> Box<dyn Source>,
) -> (MemoryStore, Thing, Result<BackupReport>) {
    let (store, tree, _) = filled();
    let tree = changed(&tree);
    let (other, inner, old) = (open(store.clone()), store.clone(), packs(&store));
    let mut left = losses;
    let shared = Shared::new(&store, move |moment| {
        if left > 0 && matches!(moment, Moment::Put(name, _) if name.place() == Place::Snapshots) {
            left -= 1;
            let fresh: Vec<_> = packs(&inner).into_iter().filter(|pack| !old.contains(pack)).collect();
            assert!(!fresh.is_empty());
            remove_from_index(&other, &inner, &fresh);
            delete(&inner, &fresh);
        }
    });
    let result = back_up(&open(shared), &*source(&tree), &options());
    (store, tree, result)
}

#[test]
fn what_was_stored_and_pruned_before_the_claim_is_stored_anew() {
    for losses in 1..=3 {
        let (store, tree, result) = with_losses(losses, |tree| Box::new(ModelSource::new(tree)));
        let repository = open(store.clone());
        match result {
            Ok(report) => {
                assert!(losses < 3);
                assert_holds(&repository, &report.snapshot.unwrap(), &tree);
                assert!(repository.notes().unwrap().sessions.is_empty());
                assert_eq!(names(&store, Place::Snapshots).len(), 4, "claims in vain are taken back");
            }
            // Nobody prunes like that; a store that loses things does, and is named after a bounded time.
            Err(error) => {
                assert!(losses == 3 && matches!(error, Error::Damaged(_)), "{losses}: {}", error.chain());
                assert!(error.to_string().contains("after 3 attempts"), "{error}");
                let next = back_up_model(&repository, &tree);
                assert_holds(&repository, &next.snapshot.unwrap(), &tree);
            }
        }
    }
}

#[test]
fn a_stream_whose_data_was_pruned_before_the_claim_fails_with_a_reason() {
    let (store, tree, result) = with_losses(1, |tree| Box::new(Once(ModelSource::new(tree))));
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::Vanished { object } if object.starts_with("data/")), "{error}");
    assert_eq!(names(&store, Place::Snapshots).len(), 2, "its claim is taken back");
    let repository = open(store);
    let next = back_up_model(&repository, &tree);
    assert_holds(&repository, &next.snapshot.unwrap(), &tree);
}

/// A whole prune passes by while a backup that needs nothing of its victims is at work. Merging the index must not name them again.
#[test]
fn what_was_pruned_meanwhile_does_not_come_back_into_the_index() {
    let store = MemoryStore::new();
    init(store.clone());
    let other = Thing::directory([("other", Thing::file(noise(50, 20_000)))]);
    back_up_model(&open(store.clone()), &other);
    let victims = packs(&store);
    let (inner, gone, pruner) = (store.clone(), victims.clone(), open(store.clone()));
    let mut done = false;
    let shared = Shared::new(&store, move |moment| {
        if matches!(moment, Moment::Put(name, _) if name.place() == Place::Data) && !done {
            done = true;
            remove_from_index(&pruner, &inner, &gone);
            delete(&inner, &gone);
            forget_all(&inner);
        }
    });
    let tree = tree();
    let report = run(shared, &tree, Parent::None).unwrap();
    let repository = open(store.clone());
    assert_holds(&repository, &report.snapshot.unwrap(), &tree);
    assert!(common::bench::index(&repository).all_packs().all(|pack| !victims.contains(&pack.id)));
}

/// A pruner has put the index without its victims, and deletes the old one only after a backup has come and gone: what the backup merges and
/// deletes meanwhile must not be what the pruner relies on.
#[test]
fn a_run_that_a_pruner_has_just_put_stays_until_somebody_has_put_another() {
    for every in 1..5 {
        let (store, tree, _) = filled();
        let pruner = open(store.clone());
        let victims: Vec<_> = packs(&store).into_iter().step_by(every).take(3).collect();
        let staying: BTreeSet<PackId> = packs(&store).into_iter().filter(|pack| !victims.contains(pack)).collect();
        let old = names(&store, Place::Index);
        let kept: Vec<_> = old.iter().map(|name| (*name, store.bytes_of(name).unwrap())).collect();
        remove_from_index(&pruner, &store, &victims);
        for (name, bytes) in kept {
            store.replace(&name, bytes.to_vec());
        }
        back_up_model(&open(store.clone()), &changed(&tree));
        for name in old {
            store.remove(&name);
        }
        let named: BTreeSet<PackId> = common::bench::index(&pruner).all_packs().map(|pack| pack.id).collect();
        assert!(named.is_superset(&staying), "{every}");
    }
}

/// What cannot be read again, such as a stream.
struct Once(ModelSource);

impl Source for Once {
    fn root(&self) -> Result<Arc<dyn Directory>, SourceError> {
        self.0.root()
    }
    fn targets(&self) -> Vec<String> {
        self.0.targets()
    }
    fn paths(&self) -> Vec<String> {
        self.0.paths()
    }
    fn owner_names(&self, users: &[u32], groups: &[u32]) -> OwnerNames {
        self.0.owner_names(users, groups)
    }
    fn finish(&self) -> Result<(), SourceError> {
        self.0.finish()
    }
}

/// Somebody condemns what was just stored, again and again, while a stream is saved.
#[test]
fn rescues_end() {
    for rounds in [1, RESCUES_MAX, RESCUES_MAX + 1] {
        let (store, tree, _) = filled();
        let tree = changed(&tree);
        let other = open(store.clone());
        let (inner, mut left, mut claimed) = (store.clone(), rounds, false);
        let mut condemned = BTreeSet::new();
        let shared = Shared::new(&store, move |moment| {
            claimed |= matches!(moment, Moment::Put(name, _) if name.place() == Place::Snapshots);
            if claimed && left > 0 && *moment == Moment::List(Place::Locks) {
                left -= 1;
                let fresh: Vec<_> = packs(&inner).into_iter().filter(|pack| condemned.insert(*pack)).collect();
                condemn(&other, &fresh);
            }
        });
        let result = back_up(&open(shared), &Once(ModelSource::new(&tree)), &options());
        let repository = open(store.clone());
        if rounds <= RESCUES_MAX {
            let id = result.unwrap().snapshot.unwrap();
            let condemned: Vec<_> = repository.notes().unwrap().condemned().into_iter().collect();
            delete(&store, &condemned);
            forget_body(&store, snapshots(&repository).iter().find(|(other, _)| *other != id).unwrap().0);
            assert_holds(&repository, &id, &tree);
        } else {
            assert!(matches!(result, Err(Error::PrunedAway)), "{result:?}");
            assert_eq!(snapshots(&repository).len(), 1);
            let next = back_up_model(&repository, &tree);
            assert_holds(&repository, &next.snapshot.unwrap(), &tree);
        }
    }
}

#[test]
fn a_body_that_expires_under_the_writer_is_claimed_anew() {
    let (store, tree, _) = filled();
    let tree = changed(&tree);
    let other = open(store.clone());
    let mut body = None;
    let expired = Arc::new(Mutex::new(None));
    let told = Arc::clone(&expired);
    let shared = Shared::new(&store, move |moment| {
        if let Moment::Put(name, _) = moment
            && name.place() == Place::Snapshots
        {
            match body {
                None => body = Some(SnapshotId::from(name.id())),
                // Right before the seal.
                Some(first) if told.lock().unwrap().is_none() => {
                    let note = ExpireNote { body: first, created: Timestamp::from_seconds(1) };
                    other.save(Place::Locks, ObjectKind::ExpireNote, &note).unwrap();
                    *told.lock().unwrap() = Some(first);
                }
                Some(_) => {}
            }
        }
    });
    let report = run(shared, &tree, Parent::Newest).unwrap();
    let expired = expired.lock().unwrap().unwrap();
    assert_ne!(report.snapshot, Some(expired));
    forget_body(&store, expired);
    let repository = open(store.clone());
    assert_holds(&repository, &report.snapshot.unwrap(), &tree);
    assert_eq!(snapshots(&repository).len(), 2);
}

/// Somebody removes the body at any moment after the claim: an expirer while it has no seal, with a note that stays or goes, and a
/// forgetter when it has one. No seal is left without its body.
#[test]
fn a_body_that_goes_at_any_moment_after_the_claim_is_claimed_anew() {
    let (mut anew, mut told) = (0, 0);
    for keeps_note in [true, false] {
        for number in 0.. {
            let (store, tree, _) = filled();
            let tree = changed(&tree);
            let (before, other, inner) = (names(&store, Place::Snapshots), open(store.clone()), store.clone());
            let gone = Arc::new(Mutex::new(None));
            let (removed, mut at) = (Arc::clone(&gone), 0);
            let shared = Shared::new(&store, move |_| {
                let made = names(&inner, Place::Snapshots).into_iter().filter(|name| !before.contains(name));
                let is_seal = |name: &ObjectName| inner.bytes_of(name).unwrap().len() as u64 == SEAL_BYTES;
                let (seals, bodies): (Vec<_>, Vec<_>) = made.partition(is_seal);
                let Some(body) = bodies.first() else { return };
                if at == number {
                    if keeps_note && seals.is_empty() {
                        let note = ExpireNote { body: body.id().into(), created: Timestamp::from_seconds(1) };
                        other.save(Place::Locks, ObjectKind::ExpireNote, &note).unwrap();
                    }
                    seals.iter().chain([body]).for_each(|name| assert!(inner.remove(name)));
                    *removed.lock().unwrap() = Some(SnapshotId::from(body.id()));
                }
                at += 1;
            });
            let report = run(shared, &tree, Parent::Newest).unwrap();
            let Some(gone) = *gone.lock().unwrap() else {
                assert!(number > 5, "{number}");
                break;
            };
            let repository = open(store.clone());
            if report.snapshot == Some(gone) {
                // It was forgotten after it had been made.
                told += 1;
                continue;
            }
            anew += 1;
            assert_holds(&repository, &report.snapshot.unwrap(), &tree);
            let seals = Listing::read(&repository).unwrap().seals;
            assert!(seals.iter().all(|(_, bodies)| !bodies.is_empty()), "{number}: a seal has no body");
        }
    }
    assert!(anew > 5 && told > 0, "{anew} {told}");
}

/// A pack that was cut at rest is noticed by the next backup that needs it, and healed by the one after.
#[test]
fn a_pack_that_is_not_whole_is_noticed_and_stored_anew() {
    let (whole, tree, _) = filled();
    let (mut healed, mut failed) = (0, 0);
    for pack in packs(&whole) {
        for cut in [1, 2000, usize::MAX] {
            let store = whole.fork();
            let name = ObjectName::new(Place::Data, pack);
            let bytes = store.bytes_of(&name).unwrap();
            store.replace(&name, &bytes[..bytes.len().saturating_sub(cut)]);
            let repository = open(store.clone());
            match run(store.clone(), &tree, Parent::Newest) {
                // All that is needed of it could still be read.
                Ok(_) => healed += 1,
                Err(error) => {
                    assert!(
                        matches!(error, Error::Damaged(_)) && error.to_string().contains(&name.to_string()),
                        "{error}"
                    );
                    let report = back_up_model(&repository, &tree);
                    assert!(report.summary.data_blobs + report.summary.tree_blobs > 0);
                    failed += 1;
                }
            }
            store.remove(&name);
            for (id, _) in snapshots(&repository) {
                assert_holds(&repository, &id, &tree);
            }
        }
    }
    assert!(healed > 5 && failed > 5, "{healed} {failed}");
}
