//! Small repositories, and backups into them.

use std::{collections::BTreeMap, sync::Arc};

use repo_core::{
    backup::{BackupOptions, BackupReport, backup},
    blob::BlobKind,
    crypto::{kdf::KdfCost, recorder},
    error::Result,
    id::{PackId, SnapshotId},
    index::set::IndexSet,
    index::table::BlobPrefix,
    progress::{Cancel, Silent},
    repository::{InitOptions, Repository, config::Parameters, notes::Session, reader::BlobReader},
    runtime::{Runtime, SystemRuntime},
    snapshot::{Listing, Snapshot},
    source::Source,
    store::{ObjectName, Place, Store, memory::MemoryStore},
    time::Timestamp,
};

use super::model::{ModelSource, Seen, Thing, read_back};

/// The process number of backups that are over.
pub const GONE: u32 = 1;

/// The machine's, but for processes: none but our own runs.
pub struct TestRuntime;

impl Runtime for TestRuntime {
    fn now(&self) -> Timestamp {
        SystemRuntime.now()
    }

    fn random(&self, into: &mut [u8]) {
        SystemRuntime.random(into);
    }

    fn sleep_ms(&self, _milliseconds: u64) {}

    fn is_running(&self, process: u32) -> bool {
        process == std::process::id()
    }
}

/// A new repository with small everything.
pub fn init(store: impl Store + 'static) -> Arc<Repository> {
    init_with(store, Parameters::tiny())
}

pub fn init_with(store: impl Store + 'static, parameters: Parameters) -> Arc<Repository> {
    recorder::start();
    let options = InitOptions {
        password: b"secret",
        host: "host".into(),
        user: "user".into(),
        kdf_cost: KdfCost::TEST,
        parameters,
    };
    Arc::new(Repository::init(Arc::new(store), Arc::new(TestRuntime), &options).unwrap())
}

pub fn try_open(store: Arc<dyn Store>) -> Result<Arc<Repository>> {
    recorder::start();
    Ok(Arc::new(Repository::open(store, Arc::new(TestRuntime), b"secret", None)?))
}

pub fn open(store: impl Store + 'static) -> Arc<Repository> {
    try_open(Arc::new(store)).unwrap()
}

/// Opened as a backup does it: what that begins with is asked for meanwhile.
pub fn try_open_for_backup(store: Arc<dyn Store>) -> Result<Arc<Repository>> {
    recorder::start();
    Ok(Arc::new(Repository::open_for_backup(store, Arc::new(TestRuntime), b"secret", None)?))
}

pub fn open_for_backup(store: impl Store + 'static) -> Arc<Repository> {
    try_open_for_backup(Arc::new(store)).unwrap()
}

pub fn options() -> BackupOptions {
    BackupOptions {
        threads: Some(2),
        note: Some(Session {
            operation: "backup".into(),
            host: "host".into(),
            user: "user".into(),
            process: GONE,
            started: SystemRuntime.now(),
        }),
        ..BackupOptions::new("host", "user", "test")
    }
}

pub fn back_up(repository: &Arc<Repository>, source: &dyn Source, options: &BackupOptions) -> Result<BackupReport> {
    backup(repository, source, options, &Silent, &Cancel::default())
}

/// Backs a model up; everything must go well.
#[track_caller]
pub fn back_up_model(repository: &Arc<Repository>, tree: &Thing) -> BackupReport {
    let report = back_up(repository, &ModelSource::new(tree), &options()).unwrap();
    assert_eq!(report.problem_count, 0, "{:#?}", report.problems);
    report
}

pub fn index(repository: &Repository) -> IndexSet {
    IndexSet::load(repository.store(), repository.keys(), None).unwrap()
}

pub fn reader(repository: &Arc<Repository>) -> BlobReader {
    BlobReader::new(Arc::clone(repository), Arc::new(index(repository)), 1 << 20)
}

/// All committed snapshots; nothing may be damaged.
#[track_caller]
pub fn snapshots(repository: &Repository) -> Vec<(SnapshotId, Snapshot)> {
    let listing = Listing::read(repository).unwrap();
    assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
    listing.snapshots
}

pub fn seen_of(repository: &Arc<Repository>, id: &SnapshotId) -> BTreeMap<Vec<u8>, Seen> {
    let (_, snapshot) = snapshots(repository).into_iter().find(|(there, _)| there == id).expect("it is committed");
    read_back(&reader(repository), &snapshot.tree).unwrap()
}

/// A snapshot is committed and holds exactly this.
#[track_caller]
pub fn assert_holds(repository: &Arc<Repository>, id: &SnapshotId, tree: &Thing) {
    assert_same(&seen_of(repository, id), &tree.seen());
}

#[track_caller]
pub fn assert_same(found: &BTreeMap<Vec<u8>, Seen>, expected: &BTreeMap<Vec<u8>, Seen>) {
    for (path, there) in found {
        assert_eq!(Some(there), expected.get(path), "{}", path.escape_ascii());
    }
    for path in expected.keys() {
        assert!(found.contains_key(path), "{} is missing", path.escape_ascii());
    }
}

/// Blobs that lie in several packs.
pub fn stored_twice(repository: &Repository) -> Vec<(BlobKind, BlobPrefix)> {
    let mut packs: BTreeMap<(bool, BlobPrefix), std::collections::BTreeSet<PackId>> = BTreeMap::new();
    let index = index(repository);
    for run in index.runs() {
        for kind in BlobKind::ALL {
            for (id, row) in run.table.blobs(kind) {
                let pack = run.table.frame(row.frame).unwrap().1.pack;
                packs.entry((kind == BlobKind::Tree, id)).or_default().insert(pack);
            }
        }
    }
    let kind = |is_tree: bool| if is_tree { BlobKind::Tree } else { BlobKind::Data };
    packs.into_iter().filter(|(_, packs)| packs.len() > 1).map(|((tree, id), _)| (kind(tree), id)).collect()
}

/// Names of the objects in one place.
pub fn names(store: &MemoryStore, place: Place) -> Vec<ObjectName> {
    store.names().into_iter().filter(|name| name.place() == place).collect()
}
