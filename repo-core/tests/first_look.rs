//! What a backup asks for while its repository is being opened, and its note, which it stores beside its first work: nothing may come of
//! their being early.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    bench::{GONE, back_up, back_up_model, init, names, open, open_for_backup, options},
    model::{ModelSource, Thing},
    prune_stage::{PruneStage, assert_sound, forget_one, pruned, version},
    sample::noise,
};
use repo_core::{
    backup::{BackupOptions, Parent},
    crypto::keys::ObjectKind,
    error::{Error, StoreError, StoreErrorKind},
    hand_on,
    repository::notes::Mark,
    store::{
        Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store,
        memory::MemoryStore,
        testing::{Event, Fault, FaultStore, Operation, RecordingStore, Request},
    },
    time::Timestamp,
};

fn tree() -> Thing {
    Thing::directory([("a", Thing::file(noise(1, 9000))), ("b", Thing::file(noise(2, 40_000)))])
}

/// Gives a key away only after all was listed that a backup looks at first.
struct Gate {
    inner: MemoryStore,
    listed: Mutex<BTreeSet<Place>>,
    changed: Condvar,
}

const LOOKED_AT: [Place; 3] = [Place::Snapshots, Place::Index, Place::Locks];

impl Store for Gate {
    hand_on!(self.inner: create, put, stat, delete, abilities, location);

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        if name.place() == Place::Keys {
            let all = |listed: &mut BTreeSet<Place>| !LOOKED_AT.iter().all(|place| listed.contains(place));
            let wait = self.changed.wait_timeout_while(self.listed.lock().unwrap(), Duration::from_mins(1), all);
            assert!(!wait.unwrap().1.timed_out(), "nothing is listed while the key is on its way");
        }
        self.inner.get(name, range, into)
    }
    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.listed.lock().unwrap().insert(place);
        self.changed.notify_all();
        self.inner.list(place, visit)
    }
}

#[test]
fn it_is_asked_for_while_the_key_is_on_its_way() {
    let store = MemoryStore::new();
    init(store.clone());
    let gate = Gate { inner: store.clone(), listed: Mutex::default(), changed: Condvar::new() };
    let tree = tree();
    let report = back_up_model(&open_for_backup(gate), &tree);
    assert_sound(&open(store), &[(report.snapshot.unwrap(), tree)]);
}

/// Operations of opening and a backup, as far as they depend on nothing random.
fn asked(events: &[Event]) -> Vec<String> {
    let kinds = events.iter().map(|event| match &event.operation {
        Operation::Create => "create".to_owned(),
        Operation::Put { name, .. } => format!("put {:?}", name.place()),
        Operation::Get { name, .. } => format!("get {:?}", name.place()),
        Operation::List { place } => format!("list {place:?}"),
        Operation::Stat { name } => format!("look {:?}", name.place()),
        Operation::Delete { name } => format!("delete {:?}", name.place()),
    });
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort();
    kinds
}

#[test]
fn nothing_is_asked_twice() {
    let store = MemoryStore::new();
    back_up_model(&init(store.clone()), &version(1));
    let [late, early] = [false, true].map(|early| {
        let recording = RecordingStore::new(store.fork());
        let repository = if early { open_for_backup(recording.clone()) } else { open(recording.clone()) };
        back_up_model(&repository, &version(2));
        asked(&recording.events())
    });
    assert_eq!(early, late);
}

/// Also where the first one has not used all of what was asked for.
#[test]
fn a_second_backup_looks_at_what_is_there_then() {
    for parent in [Parent::Newest, Parent::None] {
        let store = MemoryStore::new();
        back_up_model(&init(store.clone()), &version(1));
        let repository = open_for_backup(store.clone());
        back_up(&repository, &ModelSource::new(&version(2)), &BackupOptions { parent, ..options() }).unwrap();
        let between = back_up_model(&open(store), &version(3)).snapshot;
        assert_eq!(back_up_model(&repository, &version(4)).parent, between);
    }
}

/// What is asked for stays within what the store has connections for, the key among it.
#[test]
fn connections_are_not_exceeded() {
    for connections in 2..5 {
        let store = MemoryStore::new();
        init(store.clone());
        let few = Few { inner: store, connections, at_once: AtomicUsize::new(0), most: AtomicUsize::new(0) };
        let few = Arc::new(few);
        drop(open_for_backup(Arc::clone(&few) as Arc<dyn Store>));
        let most = few.most.load(Ordering::SeqCst);
        assert!(most > 1 && most <= connections, "{most} of {connections}");
    }
}

/// A store that is slow, and counts what is asked at once.
struct Few {
    inner: MemoryStore,
    connections: usize,
    at_once: AtomicUsize,
    most: AtomicUsize,
}

impl Few {
    fn slowly<T>(&self, answer: impl FnOnce() -> T) -> T {
        self.most.fetch_max(self.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(30));
        let answer = answer();
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

impl Store for Few {
    hand_on!(self.inner: create, put, stat, delete, location);

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.slowly(|| self.inner.get(name, range, into))
    }
    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.slowly(|| self.inner.list(place, visit))
    }
    fn abilities(&self) -> Abilities {
        Abilities { connections: self.connections, ..self.inner.abilities() }
    }
}

/// Between the look and the backup somebody prunes to the last byte, condemns all there is, forgets the parent, or makes the same backup.
#[test]
fn what_has_changed_since_is_found_out() {
    type Change = fn(&MemoryStore, &PruneStage);
    let changes: [(&str, Change); 5] = [
        ("pruned", |store, _| _ = pruned(store.clone())),
        ("condemned", |store, _| {
            let packs = names(store, Place::Data).iter().map(|name| name.id().into()).collect();
            let mark = Mark { packs, created: Timestamp::from_seconds(5) };
            open(store.clone()).save(Place::Locks, ObjectKind::Mark, &mark).unwrap();
        }),
        ("forgotten and pruned", |store, stage| {
            for (id, _) in &stage.held {
                forget_one(&open(store.clone()), *id);
            }
            pruned(store.clone());
        }),
        ("backed up", |store, stage| _ = back_up_model(&open(store.clone()), &stage.forgotten[0])),
        ("backed up and pruned", |store, stage| {
            back_up_model(&open(store.clone()), &stage.forgotten[0]);
            pruned(store.clone());
        }),
    ];
    for (what, change) in changes {
        // What was forgotten, and is in the index until it is pruned; and what is there to stay, or so it seems.
        for number in 0..2 {
            let stage = PruneStage::new();
            let next = [&stage.forgotten[0], &stage.held[1].1][number].clone();
            let early = open_for_backup(stage.store.clone());
            change(&stage.store, &stage);
            let report = back_up(&early, &ModelSource::new(&next), &options()).unwrap_or_else(|error| {
                panic!("{what}: {}", error.chain());
            });
            let mut held = stage.held.clone();
            held.retain(|_| !what.starts_with("forgotten"));
            held.push((report.snapshot.unwrap(), next));
            assert_sound(&open(stage.store.clone()), &held);
        }
    }
}

#[test]
fn a_listing_that_fails_is_told_of_by_the_backup() {
    for place in LOOKED_AT {
        let store = MemoryStore::new();
        init(store.clone());
        let fault = Fault::FailBefore(StoreErrorKind::Denied);
        let faulty = Arc::new(FaultStore::new(store).always(Request::List, Some(place), fault));
        let repository = open_for_backup(Arc::clone(&faulty) as Arc<dyn Store>);
        let tree = tree();
        let failed = back_up(&repository, &ModelSource::new(&tree), &options());
        assert_eq!(failed.unwrap_err().store_kind(), Some(StoreErrorKind::Denied), "{place:?}");
        faulty.mend();
        let report = back_up_model(&repository, &tree);
        assert_sound(&repository, &[(report.snapshot.unwrap(), tree)]);
    }
}

/// Stores notes late.
#[derive(Clone)]
struct SlowNotes<S>(S);

impl<S: Store> Store for SlowNotes<S> {
    hand_on!(self.0: create, get, list, stat, delete, abilities, location);

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        if name.place() == Place::Locks {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.0.put(name, bytes)
    }
}

/// What was asked by a backup, or by a prune, into a store that is slow with notes; and the put of the note.
fn with_slow_notes(job: impl FnOnce(RecordingStore<SlowNotes<MemoryStore>>)) -> (Vec<Event>, Event) {
    let recording = RecordingStore::new(SlowNotes(PruneStage::new().store));
    job(recording.clone());
    let events = recording.events();
    let is_note =
        |event: &&Event| matches!(event.operation, Operation::Put { name, .. } if name.place() == Place::Locks);
    let note = events.iter().find(is_note).unwrap().clone();
    (events, note)
}

#[test]
fn nothing_is_stored_before_the_note() {
    let (events, note) = with_slow_notes(|store| _ = back_up_model(&open(store), &tree()));
    let is_put =
        |event: &&Event| matches!(event.operation, Operation::Put { name, .. } if name.place() != Place::Locks);
    let puts: Vec<_> = events.iter().filter(is_put).collect();
    assert!(puts.len() > 3 && puts.into_iter().all(|put| note.succeeded_before(put)));
}

/// Who lists notes meanwhile would not know its own, and read it.
#[test]
fn only_a_backup_goes_on_while_its_note_is_stored() {
    let (events, note) = with_slow_notes(|store| _ = pruned(store));
    let Operation::Put { name: own, .. } = note.operation else { unreachable!() };
    let lists = events.iter().filter(|event| event.operation == Operation::List { place: Place::Locks });
    assert!(lists.clone().count() > 1 && lists.into_iter().all(|list| note.succeeded_before(list)));
    assert!(!events.iter().any(|event| matches!(event.operation, Operation::Get { name, .. } if name == own)));
}

#[test]
fn a_note_that_cannot_be_stored_ends_the_backup() {
    let trees = [tree(), Thing::directory([])];
    for tree in trees {
        let store = MemoryStore::new();
        init(store.clone());
        let fault = Fault::FailBefore(StoreErrorKind::NoSpace);
        let faulty = FaultStore::new(store.clone()).always(Request::Put, Some(Place::Locks), fault);
        let failed = back_up(&open(SlowNotes(faulty)), &ModelSource::new(&tree), &options());
        assert!(matches!(failed, Err(Error::Store(error)) if error.kind == StoreErrorKind::NoSpace));
        for place in [Place::Data, Place::Index, Place::Snapshots, Place::Locks] {
            assert_eq!(names(&store, place), [], "{place:?}");
        }
        // Nothing keeps the next one from it.
        let note = options().note.unwrap();
        assert_eq!(note.process, GONE);
        back_up_model(&open(store), &tree);
    }
}
