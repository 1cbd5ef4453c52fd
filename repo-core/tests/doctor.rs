//! The doctor notices every way in which a store can fail to keep what coffer relies on, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use repo_core::{
    crypto::kdf::KdfCost,
    doctor::{Answer, Extent, Question, Report, examine},
    error::{Error, StoreError, StoreErrorKind},
    hand_on,
    progress::Cancel,
    repository::{InitOptions, Repository, config::Parameters, notes::Session},
    runtime::{Runtime, SystemRuntime},
    store::{
        ByteRange, ObjectInfo, ObjectName, Place, Store,
        local::LocalStore,
        memory::MemoryStore,
        testing::{Fault, FaultStore, Request},
    },
    time::Timestamp,
};

fn open(store: Arc<dyn Store>) -> Repository {
    Repository::open(store, Arc::new(SystemRuntime), b"password", None).unwrap()
}

fn options() -> InitOptions<'static> {
    let (host, user) = ("h".into(), "u".into());
    InitOptions { password: b"password", host, user, kdf_cost: KdfCost::TEST, parameters: Parameters::default() }
}

/// A repository in memory whose store has a clock.
fn memory() -> MemoryStore {
    let store = MemoryStore::new();
    store.set_time(SystemRuntime.now());
    Repository::init(Arc::new(store.clone()), Arc::new(SystemRuntime), &options()).unwrap();
    store
}

fn session() -> Session {
    let started = SystemRuntime.now();
    Session { operation: "doctor".into(), host: "h".into(), user: "u".into(), process: 1, started }
}

fn examined(repository: &Repository, extent: Extent) -> Result<Report, Error> {
    examine(repository, &session(), "coffer test", extent, &Cancel::default())
}

#[track_caller]
fn assert_answers(report: &Report, expected: &[(Question, Answer)]) {
    let mut wrong: Vec<_> = report.findings.iter().map(|finding| (finding.question, finding.answer)).collect();
    wrong.retain(|(_, answer)| *answer != Answer::Kept);
    assert_eq!(wrong, expected, "{report:#?}");
}

#[test]
fn a_good_store_keeps_everything_and_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalStore::new(folder.path().join("r")));
    Repository::init(Arc::<LocalStore>::clone(&local), Arc::new(SystemRuntime), &options()).unwrap();
    let memory = memory();
    let before = memory.names();
    for (store, extent) in [
        (Arc::new(memory.clone()) as Arc<dyn Store>, Extent::Short),
        (Arc::new(memory.clone()), Extent::Long),
        (local, Extent::Short),
    ] {
        let repository = open(store);
        let report = examined(&repository, extent).unwrap();
        assert_answers(&report, &[]);
        assert_eq!(report.worst(), Answer::Kept);
        assert!(repository.list(Place::Locks).unwrap().is_empty());
    }
    assert_eq!(memory.names(), before);
}

/// Each lie of a store, and the questions that find it.
#[test]
fn lies_are_noticed() {
    use Answer::{Broken, Weak};
    use Question::{Deleting, Races, Ranges, Rights, Visibility};
    let locks = Some(Place::Locks);
    let unreadable = [(Visibility, Broken), (Ranges, Broken), (Races, Broken)];
    for (request, place, fault, expected) in [
        (Request::Put, locks, Fault::PutDropped, &[(Visibility, Broken), (Ranges, Broken), (Races, Broken)][..]),
        (Request::Put, locks, Fault::PutCut { kept_bytes: 20, error: None }, &unreadable),
        (Request::List, locks, Fault::ListOmits { position: 0 }, &[(Visibility, Broken)]),
        (Request::List, locks, Fault::ListEnds { kept_entries: 3 }, &[(Visibility, Broken)]),
        (Request::Delete, locks, Fault::DeleteDropped, &[(Deleting, Broken)]),
        (Request::List, locks, Fault::ListStale, &[(Deleting, Broken)]),
        (Request::Get, locks, Fault::GetShort { missing_bytes: 1 }, &unreadable),
        (Request::Get, locks, Fault::GetLong { added_bytes: 1 }, &unreadable),
        (Request::Get, locks, Fault::GetFlipped { bit: 9 }, &unreadable),
        (Request::Delete, Some(Place::Data), Fault::FailBefore(StoreErrorKind::Denied), &[(Rights, Weak)]),
    ] {
        let store = Arc::new(FaultStore::new(memory()).always(request, place, fault.clone()));
        let report = examined(&open(Arc::<FaultStore<_>>::clone(&store)), Extent::Short).unwrap();
        assert!(store.struck() > 0, "{fault:?}");
        // A stat that fails takes the time with it, and a store that stores nothing replaces nothing.
        let passed_over = [Question::Replacing, Question::Clock];
        let mut found: Vec<_> = report.findings.iter().map(|found| (found.question, found.answer)).collect();
        found.retain(|(question, answer)| *answer != Answer::Kept && !passed_over.contains(question));
        assert_eq!(found, expected, "{fault:?}: {report:#?}");
    }
}

/// A store that replaces objects, and whose listings end after a page.
struct Careless {
    inner: MemoryStore,
    page_entries: usize,
}

impl Store for Careless {
    hand_on!(self.inner: create, get, stat, delete, abilities, location);

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        match self.inner.put(name, bytes) {
            Err(error) if error.kind == StoreErrorKind::Exists => Ok(()),
            result => result,
        }
    }
    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let mut left = self.page_entries;
        self.inner.list(place, &mut |info| {
            if left > 0 {
                left -= 1;
                visit(info);
            }
        })
    }
}

#[test]
fn who_replaces_is_weak_and_who_forgets_pages_is_broken() {
    let careless = |page_entries| Careless { inner: memory(), page_entries };
    let report = examined(&open(Arc::new(careless(usize::MAX))), Extent::Long).unwrap();
    assert_answers(&report, &[(Question::Replacing, Answer::Weak), (Question::Races, Answer::Weak)]);
    assert_eq!(report.worst(), Answer::Weak);
    let report = examined(&open(Arc::new(careless(1000))), Extent::Long).unwrap();
    assert_eq!(report.worst(), Answer::Broken);
    assert_answers(
        &report,
        &[(Question::Replacing, Answer::Weak), (Question::Races, Answer::Weak), (Question::Paging, Answer::Broken)],
    );
}

/// What is read in place of a part, of an object of so many bytes.
type Instead = fn(ByteRange, u64) -> ByteRange;

/// A store that gives other parts of objects than it was asked for.
struct Misreading {
    inner: MemoryStore,
    instead: Instead,
}

impl Store for Misreading {
    hand_on!(self.inner: create, put, list, stat, delete, abilities, location);

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let size_bytes = self.inner.stat(name)?.map_or(0, |info| info.size_bytes);
        self.inner.get(name, (self.instead)(range, size_bytes), into)
    }
}

/// Also in a short examination, which asks for fewer parts.
#[test]
fn wrong_parts_are_noticed() {
    use ByteRange::{Exact, Suffix, WholeUpTo};
    let instead: [(&str, Instead); 7] = [
        ("parts are ignored", |range, size_bytes| match range {
            Exact { .. } => WholeUpTo { limit_bytes: size_bytes },
            other => other,
        }),
        ("the end is ignored", |range, size_bytes| match range {
            Exact { offset_bytes, .. } if offset_bytes < size_bytes => {
                Exact { offset_bytes, length_bytes: size_bytes - offset_bytes }
            }
            other => other,
        }),
        ("the begin is off by one", |range, _| match range {
            Exact { offset_bytes: offset_bytes @ 1.., length_bytes } => {
                Exact { offset_bytes: offset_bytes - 1, length_bytes }
            }
            other => other,
        }),
        ("what goes beyond the end is cut off", |range, size_bytes| match range {
            Exact { offset_bytes, length_bytes } if offset_bytes < size_bytes => {
                Exact { offset_bytes, length_bytes: length_bytes.min(size_bytes - offset_bytes) }
            }
            other => other,
        }),
        ("behind the end there is something", |range, size_bytes| match range {
            Exact { offset_bytes, length_bytes } if offset_bytes >= size_bytes => {
                Exact { offset_bytes: size_bytes - length_bytes, length_bytes }
            }
            other => other,
        }),
        ("suffixes are from the begin", |range, size_bytes| match range {
            Suffix { length_bytes } if length_bytes < size_bytes => Exact { offset_bytes: 0, length_bytes },
            other => other,
        }),
        ("a suffix longer than the object is not possible", |range, size_bytes| match range {
            Suffix { length_bytes } if length_bytes > size_bytes => Exact { offset_bytes: 0, length_bytes },
            other => other,
        }),
    ];
    for (what, instead) in instead {
        for extent in [Extent::Short, Extent::Long] {
            let repository = open(Arc::new(Misreading { inner: memory(), instead }));
            let report = examined(&repository, extent).unwrap();
            assert!(
                report.findings.iter().all(|found| found.answer == Answer::Kept || found.question == Question::Ranges)
            );
            assert_eq!(report.worst(), Answer::Broken, "{what}: {report:#?}");
        }
    }
}

/// Who may not delete, not even notes, is told so; backups are safe. Little of what was stored for the examination stays.
#[test]
fn a_client_that_may_not_delete() {
    for extent in [Extent::Short, Extent::Long] {
        let memory = memory();
        let denied = Fault::FailBefore(StoreErrorKind::Denied);
        let repository = open(Arc::new(FaultStore::new(memory.clone()).always(Request::Delete, None, denied)));
        for reports in 1..3 {
            let report = examined(&repository, extent).unwrap();
            assert_answers(&report, &[(Question::Deleting, Answer::Weak), (Question::Rights, Answer::Weak)]);
            assert_eq!(report.extent, Extent::Short);
            repository.keep_store_report(&report).unwrap();
            assert_eq!(repository.store_report().unwrap().map(|kept| kept.made), Some(report.made));
            assert_eq!(repository.list(Place::Locks).unwrap().len(), 5 * reports);
        }
        // The next backup of a client that may delete takes them away.
        let left = repository.left_behind(&repository.notes().unwrap(), Some(&session())).unwrap();
        assert_eq!(left.len(), 8);
    }
}

#[test]
fn clocks_are_compared() {
    for (seconds, expected) in [(0, Answer::Kept), (-3600, Answer::Weak), (3600, Answer::Weak)] {
        let store = memory();
        store.set_time(Timestamp::from_seconds(SystemRuntime.now().seconds() + seconds));
        let report = examined(&open(Arc::new(store)), Extent::Short).unwrap();
        let ahead = report.clock_ahead_seconds.unwrap();
        assert!((ahead - seconds).abs() < 30, "{ahead}");
        assert_eq!(report.worst(), expected, "{report:#?}");
    }
    let without = Repository::init(Arc::new(MemoryStore::new()), Arc::new(SystemRuntime), &options()).unwrap();
    let report = examined(&without, Extent::Short).unwrap();
    assert_answers(&report, &[(Question::Clock, Answer::Weak)]);
}

/// What fails outright is an error, and nothing of what was stored until then is left behind.
#[test]
fn every_failed_operation_ends_it_cleanly() {
    let mut failed = 0;
    for number in 0.. {
        let memory = memory();
        let before = memory.names();
        let store = Arc::new(FaultStore::new(memory.clone()).at(number, Fault::FailAfter(StoreErrorKind::Retry)));
        let Ok(repository) =
            Repository::open(Arc::<FaultStore<_>>::clone(&store), Arc::new(SystemRuntime), b"password", None)
        else {
            continue;
        };
        let result = examined(&repository, Extent::Short);
        if store.struck() == 0 {
            assert!(result.is_ok());
            break;
        }
        failed += u32::from(result.is_err());
        // A delete whose answer was lost is the only one that could leave anything, and it did delete.
        let left: Vec<_> = memory.names().into_iter().filter(|name| !before.contains(name)).collect();
        assert!(left.is_empty(), "after operation {number}: {left:?}");
    }
    assert!(failed > 30, "{failed}");
}

#[test]
fn reports_are_kept_and_the_newest_counts() {
    let store = memory();
    let repository = open(Arc::new(store.clone()));
    assert_eq!(repository.store_report().unwrap(), None);
    let mut report = examined(&repository, Extent::Short).unwrap();
    repository.keep_store_report(&report).unwrap();
    assert_eq!(repository.store_report().unwrap().as_ref(), Some(&report));
    report.extent = Extent::Long;
    repository.keep_store_report(&report).unwrap();
    assert_eq!(repository.store_report().unwrap().as_ref(), Some(&report));
    let [name] = repository.list(Place::Locks).unwrap()[..] else { panic!("one report is enough") };
    // One that is damaged keeps nobody out.
    let mut bytes = store.bytes_of(&name.name).unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    store.delete(&name.name).unwrap();
    store.put(&name.name, &bytes).unwrap();
    assert_eq!(repository.store_report().unwrap(), None);
    assert!(repository.notes().is_ok());
}
