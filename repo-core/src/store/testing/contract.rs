//! The obligations of [`Store`], as a suite that every implementation runs.

use std::{
    collections::BTreeMap,
    sync::{Barrier, atomic::AtomicUsize, atomic::Ordering},
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    error::{StoreError, StoreErrorKind},
    id::ObjectId,
    store::{ByteRange, ObjectInfo, ObjectName, Place, Store},
};

const LARGE_BYTES: usize = 40 << 20;
const THREADS: u8 = 8;
/// A part of the suite, and what it is about.
type Check = (&'static str, fn(&dyn Store));

const ALL: ByteRange = ByteRange::WholeUpTo { limit_bytes: u64::MAX };

/// Holds a store to every obligation of [`Store`]. Each part is run on a store of its own, made empty and not yet
/// created by `make`; connections to one and the same place would see each other's objects and fail.
///
/// # Panics
/// When an obligation is not kept.
pub fn check_store(make: impl Fn() -> Box<dyn Store>) {
    check_all(make, check_threads);
}

/// The same for a store known to break one obligation: while an object is written, others see a part of it.
///
/// # Panics
/// When any other obligation is not kept.
pub fn check_store_that_shows_parts(make: impl Fn() -> Box<dyn Store>) {
    check_all(make, |store| check_threads_beside(store, true));
}

fn check_all(make: impl Fn() -> Box<dyn Store>, check_threads: fn(&dyn Store)) {
    let checks: [Check; 10] = [
        ("an empty store", check_empty),
        ("round trips", check_round_trips),
        ("ranges", check_ranges),
        ("no replacing", check_exists),
        ("deleting", check_delete),
        ("listing", check_listing),
        ("many objects", check_many),
        ("a large object", check_large),
        ("one name, many writers", check_racing_writers),
        ("many threads", check_threads),
    ];
    for (what, check) in checks {
        let store = make();
        store.create().unwrap_or_else(|error| panic!("{what}: {}", tell(&error)));
        store.create().unwrap_or_else(|error| panic!("{what}: create must bear repeating: {}", tell(&error)));
        assert!(!store.location().is_empty(), "an error must be able to tell where");
        assert!(store.abilities().connections > 0, "at least one connection is needed");
        check(&*store);
    }
}

/// An object of such content, under its true name.
#[must_use]
pub fn object(place: Place, content: &[u8]) -> ObjectName {
    ObjectName::new(place, ObjectId(Sha256::digest(content).into()))
}

fn tell(error: &StoreError) -> String {
    format!("{error}: {} ({:?})", error.source, error.kind)
}

fn put(store: &dyn Store, name: &ObjectName, bytes: &[u8]) {
    store.put(name, bytes).unwrap_or_else(|error| panic!("{}", tell(&error)));
}

fn settle(store: &dyn Store) {
    thread::sleep(Duration::from_millis(store.abilities().visibility_delay_ms));
}

fn get(store: &dyn Store, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, StoreErrorKind> {
    // Whatever the buffer held before must not matter.
    let mut into = vec![0xa5; 100];
    store.get(name, range, &mut into).map(|()| into).map_err(|error| error.kind)
}

/// The place's objects with their sizes.
fn listed(store: &dyn Store, place: Place) -> BTreeMap<ObjectName, u64> {
    let mut names = BTreeMap::new();
    let mut take = |info: ObjectInfo| {
        assert_eq!(info.name.place(), place, "a listing must tell of its own place only");
        let before = names.insert(info.name, info.size_bytes);
        assert!(before.is_none_or(|size| size == info.size_bytes), "{} is told of with two sizes", info.name);
    };
    store.list(place, &mut take).unwrap_or_else(|error| panic!("{}", tell(&error)));
    names
}

fn check_empty(store: &dyn Store) {
    for place in Place::HASHED {
        assert!(listed(store, place).is_empty());
        let name = object(place, b"not there");
        assert_eq!(get(store, &name, ALL), Err(StoreErrorKind::NotFound));
        assert_eq!(get(store, &name, ByteRange::Suffix { length_bytes: 0 }), Err(StoreErrorKind::NotFound));
        assert!(store.stat(&name).expect("an empty store can tell").is_none());
    }
    assert!(listed(store, Place::Config).is_empty());
    assert_eq!(get(store, &ObjectName::CONFIG, ALL), Err(StoreErrorKind::NotFound));
    assert!(store.stat(&ObjectName::CONFIG).expect("an empty store can tell").is_none());
}

fn check_round_trips(store: &dyn Store) {
    for content in [&b""[..], b"\0", b"some bytes", &vec![0xff; 70_000]] {
        for place in Place::HASHED {
            let name = object(place, content);
            put(store, &name, content);
            settle(store);
            assert_eq!(get(store, &name, ALL).as_deref(), Ok(content));
            let info = store.stat(&name).expect("the store can tell").expect("it was just put");
            assert_eq!((info.name, info.size_bytes), (name, content.len() as u64));
            assert_eq!(listed(store, place).get(&name), Some(&(content.len() as u64)));
        }
    }
    put(store, &ObjectName::CONFIG, b"config");
    settle(store);
    assert_eq!(get(store, &ObjectName::CONFIG, ALL).as_deref(), Ok(&b"config"[..]));
    assert_eq!(listed(store, Place::Config), BTreeMap::from([(ObjectName::CONFIG, 6)]));
}

fn check_ranges(store: &dyn Store) {
    let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let name = object(Place::Data, &content);
    put(store, &name, &content);
    let size = content.len() as u64;
    let edges = [0, 1, 2, 499, 500, 998, 999, 1000, 1001, u64::from(u32::MAX), i64::MAX as u64, u64::MAX - 1, u64::MAX];
    for offset_bytes in edges {
        for length_bytes in edges {
            let found = get(store, &name, ByteRange::Exact { offset_bytes, length_bytes });
            match offset_bytes.checked_add(length_bytes) {
                Some(end) if end <= size => {
                    let part = usize::try_from(offset_bytes).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
                    assert_eq!(found.as_deref(), Ok(&content[part]), "{length_bytes} from {offset_bytes} on");
                }
                _ => assert_eq!(found, Err(StoreErrorKind::Damage), "{length_bytes} from {offset_bytes} on"),
            }
        }
        let last = usize::try_from(offset_bytes.min(size)).unwrap_or(0);
        let suffix = get(store, &name, ByteRange::Suffix { length_bytes: offset_bytes });
        assert_eq!(suffix.as_deref(), Ok(&content[content.len() - last..]), "the last {offset_bytes}");
        let whole = get(store, &name, ByteRange::WholeUpTo { limit_bytes: offset_bytes });
        if offset_bytes < size {
            assert_eq!(whole, Err(StoreErrorKind::Damage), "up to {offset_bytes}");
        } else {
            assert_eq!(whole.as_ref(), Ok(&content), "up to {offset_bytes}");
        }
    }
    // Buffers of every shape: with more room, with less, full.
    for mut into in [Vec::new(), Vec::with_capacity(10), Vec::with_capacity(1 << 20), vec![1; 5000], vec![1; 300]] {
        let range = ByteRange::Exact { offset_bytes: 100, length_bytes: 700 };
        store.get(&name, range, &mut into).unwrap_or_else(|error| panic!("{}", tell(&error)));
        assert_eq!(into, content[100..800]);
    }
}

fn check_exists(store: &dyn Store) {
    for name in [object(Place::Snapshots, b"first"), object(Place::Data, b"first"), ObjectName::CONFIG] {
        put(store, &name, b"first");
        settle(store);
        // What hosts repositories may also refuse bytes that do not fit the name; the old ones stay in any case.
        for again in [&b"first"[..], b"other"] {
            let error = store.put(&name, again).expect_err("an object must not be replaced");
            assert!(error.kind == StoreErrorKind::Exists || again != b"first", "{}", tell(&error));
            assert_eq!(get(store, &name, ALL).as_deref(), Ok(&b"first"[..]));
        }
    }
}

fn check_delete(store: &dyn Store) {
    for place in Place::HASHED {
        let [name, other] = [object(place, b"short-lived"), object(place, b"stays")];
        store.delete(&name).expect("deleting what is not there succeeds");
        put(store, &name, b"short-lived");
        put(store, &other, b"stays");
        settle(store);
        for _ in 0..2 {
            store.delete(&name).unwrap_or_else(|error| panic!("{}", tell(&error)));
            settle(store);
            assert_eq!(get(store, &name, ALL), Err(StoreErrorKind::NotFound));
            assert!(store.stat(&name).expect("the store can tell").is_none());
            assert_eq!(listed(store, place).into_keys().collect::<Vec<_>>(), [other]);
        }
        put(store, &name, b"short-lived");
        settle(store);
        assert_eq!(get(store, &name, ALL).as_deref(), Ok(&b"short-lived"[..]));
    }
}

fn check_listing(store: &dyn Store) {
    let content = b"the same in every place";
    for (position, place) in Place::HASHED.into_iter().enumerate() {
        put(store, &object(place, content), content);
        settle(store);
        for (other_position, other) in Place::HASHED.into_iter().enumerate() {
            assert_eq!(listed(store, other).len(), usize::from(other_position <= position), "{other:?}");
        }
    }
}

fn check_many(store: &dyn Store) {
    let contents: Vec<[u8; 2]> = (0..1500_u16).map(u16::to_le_bytes).collect();
    for content in &contents {
        put(store, &object(Place::Data, content), content);
    }
    settle(store);
    let found = listed(store, Place::Data);
    let expected: BTreeMap<_, _> = contents.iter().map(|content| (object(Place::Data, content), 2)).collect();
    assert_eq!(found, expected);
    for content in contents.iter().step_by(7) {
        store.delete(&object(Place::Data, content)).unwrap_or_else(|error| panic!("{}", tell(&error)));
    }
    settle(store);
    assert_eq!(listed(store, Place::Data).len(), contents.len() - contents.len().div_ceil(7));
}

fn check_large(store: &dyn Store) {
    let content: Vec<u8> =
        (0..LARGE_BYTES as u64 / 8).flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let name = object(Place::Data, &content);
    put(store, &name, &content);
    settle(store);
    assert!(get(store, &name, ALL).as_ref() == Ok(&content), "a large object comes back as it was");
    let middle = ByteRange::Exact { offset_bytes: 17 << 20, length_bytes: 5 << 20 };
    assert!(get(store, &name, middle).as_deref() == Ok(&content[17 << 20..22 << 20]), "and its middle");
}

/// All write under one name at once: one wins, its bytes stay, and the others learn that they lost.
fn check_racing_writers(store: &dyn Store) {
    if !store.abilities().exclusive_put {
        return;
    }
    for round in 0..20_u8 {
        let name = if round == 0 { ObjectName::CONFIG } else { object(Place::Locks, &[round]) };
        let start = Barrier::new(usize::from(THREADS));
        let (start, name) = (&start, &name);
        let winners: Vec<u8> = thread::scope(|scope| {
            let writers: Vec<_> = (0..THREADS)
                .map(|writer| {
                    scope.spawn(move || {
                        start.wait();
                        match store.put(name, &[writer; 5000]) {
                            Ok(()) => Some(writer),
                            Err(error) => {
                                assert_eq!(error.kind, StoreErrorKind::Exists, "{}", tell(&error));
                                None
                            }
                        }
                    })
                })
                .collect();
            writers.into_iter().filter_map(|writer| writer.join().expect("no panic")).collect()
        });
        settle(store);
        let [winner] = winners[..] else { panic!("{} writers of one object won", winners.len()) };
        assert_eq!(get(store, name, ALL), Ok(vec![winner; 5000]));
    }
}

/// Threads write, read, list and delete beside each other; what is not deleted is always seen, and never in part.
fn check_threads(store: &dyn Store) {
    check_threads_beside(store, false);
}

fn check_threads_beside(store: &dyn Store, shows_parts: bool) {
    let contents = |thread: u8| (0..25_u8).map(move |number| [thread, number].repeat(4000));
    let lasting = object(Place::Data, b"there from beginning to end");
    put(store, &lasting, b"there from beginning to end");
    settle(store);
    let writing = AtomicUsize::new(usize::from(THREADS));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let writing = &writing;
            scope.spawn(move || {
                let _done = Done(writing);
                for content in contents(thread) {
                    let [kept, dropped] = [object(Place::Data, &content), object(Place::Locks, &content)];
                    put(store, &kept, &content);
                    put(store, &dropped, &content);
                    settle(store);
                    assert!(get(store, &kept, ALL).as_ref() == Ok(&content));
                    store.delete(&dropped).unwrap_or_else(|error| panic!("{}", tell(&error)));
                }
            });
        }
        scope.spawn(|| {
            while writing.load(Ordering::SeqCst) > 0 {
                let found = listed(store, Place::Data);
                assert!(found.contains_key(&lasting));
                let is_whole = |(name, size): (&ObjectName, &u64)| *name == lasting || *size == 8000;
                assert!(shows_parts || found.iter().all(is_whole), "seen in part");
            }
        });
    });
    settle(store);
    assert_eq!(listed(store, Place::Data).len(), 1 + usize::from(THREADS) * 25);
    assert!(listed(store, Place::Locks).is_empty());
}

/// Counts a thread down, also when it panics, so that those who wait for it end.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
