//! Backups onto a real disk that are killed: at chosen operations of the store, and at any time.
//!
//! The victim is this test itself, run again as another process. `COFFER_TEST_KILLS` says how many kills at random times there are
//! (else 12), and lets every operation be the last rather than every fourth.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{
    bench::{back_up, index, options, snapshots, stored_twice},
    compare::{CompareOptions, assert_same_tree},
    sample::noise,
};
use repo_core::{
    backup::BackupOptions,
    crypto::kdf::KdfCost,
    error::StoreError,
    hand_on,
    id::SnapshotId,
    progress::{Cancel, Silent},
    repository::{InitOptions, Repository, config::Parameters, notes::Session, reader::BlobReader},
    restore::{Everything, RestoreOptions, restore},
    runtime::{Runtime, SystemRuntime},
    sink::local::{LocalOptions as SinkOptions, LocalSink},
    snapshot::Listing,
    source::local::{LocalOptions, LocalSource, Target},
    store::{ByteRange, ObjectInfo, ObjectName, Place, Store, local::LocalStore},
    time::Timestamp,
};
use rustix::process::{Signal, getpid, kill_process};

const FOLDER: &str = "COFFER_TEST_FOLDER";
const LAST_OPERATION: &str = "COFFER_TEST_LAST_OPERATION";
const CHECKPOINTS: &str = "COFFER_TEST_CHECKPOINTS";

/// A store below which the process dies.
struct Deadly {
    inner: LocalStore,
    /// Twice the number of an operation: before it, or one more for after it.
    last: u64,
    operations: AtomicU64,
}

impl Deadly {
    fn perform<T>(&self, job: impl FnOnce() -> T) -> T {
        let number = 2 * self.operations.fetch_add(1, Ordering::SeqCst);
        if number == self.last {
            die();
        }
        let answer = job();
        if number + 1 == self.last {
            die();
        }
        answer
    }
}

fn die() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    unreachable!("no process survives this")
}

impl Store for Deadly {
    hand_on!(self.inner: abilities, location);

    fn create(&self) -> Result<(), StoreError> {
        self.perform(|| self.inner.create())
    }
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        self.perform(|| self.inner.put(name, bytes))
    }
    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.perform(|| self.inner.get(name, range, into))
    }
    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.perform(|| self.inner.list(place, visit))
    }
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        self.perform(|| self.inner.stat(name))
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.perform(|| self.inner.delete(name))
    }
}

fn open(store: impl Store + 'static) -> Arc<Repository> {
    Arc::new(Repository::open(Arc::new(store), Arc::new(SystemRuntime), b"secret", None).unwrap())
}

/// A clock that goes on by ten minutes whenever somebody looks at it, so that a checkpoint is always due.
struct Hurried(AtomicI64);

impl Runtime for Hurried {
    fn now(&self) -> Timestamp {
        let ahead_seconds = self.0.fetch_add(600, Ordering::SeqCst);
        Timestamp::from_seconds(SystemRuntime.now().seconds() + ahead_seconds)
    }
    fn random(&self, into: &mut [u8]) {
        SystemRuntime.random(into);
    }
    fn sleep_ms(&self, milliseconds: u64) {
        SystemRuntime.sleep_ms(milliseconds);
    }
    fn is_running(&self, process: u32) -> bool {
        SystemRuntime.is_running(process)
    }
}

fn source(folder: &Path) -> LocalSource {
    LocalSource::new(&[Target::named(".")], LocalOptions::new(folder.join("source"))).unwrap()
}

fn our_options() -> BackupOptions {
    let note = Session { process: std::process::id(), ..options().note.unwrap() };
    BackupOptions { note: Some(note), ..options() }
}

/// What the other process does.
#[test]
#[ignore = "run by the other tests"]
fn victim() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let last = env::var(LAST_OPERATION).ok().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
    let inner = LocalStore::new(folder.join("repository"));
    let store = Arc::new(Deadly { inner, last, operations: AtomicU64::new(0) });
    let runtime: Arc<dyn Runtime> = match env::var_os(CHECKPOINTS) {
        Some(_) => Arc::new(Hurried(AtomicI64::new(0))),
        None => Arc::new(SystemRuntime),
    };
    let repository = Arc::new(Repository::open(store, runtime, b"secret", None).unwrap());
    back_up(&repository, &source(&folder), &our_options()).unwrap();
}

fn spawn(folder: &Path, last: Option<u64>) -> std::process::Child {
    spawn_with(folder, last, false)
}

fn spawn_with(folder: &Path, last: Option<u64>, checkpoints: bool) -> std::process::Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "victim", "--ignored", "--nocapture"]).env(FOLDER, folder);
    if let Some(last) = last {
        command.env(LAST_OPERATION, last.to_string());
    }
    if checkpoints {
        command.env(CHECKPOINTS, "1");
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A repository on disk, a source, and copies of what the snapshots hold.
struct Stage {
    folder: tempfile::TempDir,
    held: BTreeMap<SnapshotId, PathBuf>,
    round: u64,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("source/some/where")).unwrap();
        fs::create_dir(folder.path().join("copies")).unwrap();
        let options = InitOptions {
            password: b"secret",
            host: "host".into(),
            user: "user".into(),
            kdf_cost: KdfCost::TEST,
            parameters: Parameters { pack_bytes: 16 << 10, ..Parameters::tiny() },
        };
        let store = LocalStore::new(folder.path().join("repository"));
        Repository::init(Arc::new(store), Arc::new(SystemRuntime), &options).unwrap();
        let mut stage = Self { folder, held: BTreeMap::new(), round: 0 };
        stage.change();
        stage.finish();
        stage
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn repository(&self) -> Arc<Repository> {
        open(LocalStore::new(self.path().join("repository")))
    }

    /// A day's work: a few packs full.
    fn change(&mut self) {
        self.round += 1;
        let source = self.path().join("source");
        for i in 0..6 {
            let path = source.join(format!("some/where/{}", (self.round + i) % 9));
            fs::write(path, noise(self.round * 10 + i, 9000)).unwrap();
        }
        fs::write(source.join("all"), noise(self.round * 10, 20_000)).unwrap();
    }

    /// After a kill: nothing half done shows, and the last snapshots are what they were.
    fn check(&mut self) {
        let repository = self.repository();
        let before = self.held.len();
        self.hold(&repository);
        // Killed when all but the end of the process was done.
        assert!(self.held.len() <= before + 1);
        for (id, snapshot) in snapshots(&repository).iter().rev().take(2) {
            self.restores(&repository, &snapshot.tree, &self.held[id]);
        }
    }

    /// Takes a copy of the source for every new snapshot; none is ever missing.
    fn hold(&mut self, repository: &Repository) {
        let there = snapshots(repository);
        let before = self.held.len();
        for (id, _) in &there {
            if !self.held.contains_key(id) {
                let copy = self.path().join("copies").join(id.to_string());
                let status = Command::new("cp").arg("-a").arg(self.path().join("source")).arg(&copy).status().unwrap();
                assert!(status.success());
                self.held.insert(*id, copy);
            }
        }
        assert!(there.len() >= before && there.len() == self.held.len());
    }

    fn restores(&self, repository: &Arc<Repository>, tree: &repo_core::id::BlobId, expected: &Path) {
        let target = self.path().join("restored");
        let blobs = BlobReader::new(Arc::clone(repository), Arc::new(index(repository)), 1 << 20);
        let sink = LocalSink::new(&target, &SinkOptions::default()).unwrap();
        let (options, cancel) = (RestoreOptions::default(), Cancel::default());
        let report = restore(&blobs, tree, &sink, &Everything, &options, &Silent, &cancel).unwrap();
        assert_eq!(report.problem_count, 0, "{:#?}", report.problems);
        assert_same_tree(expected, &target, &CompareOptions::default());
        fs::remove_dir_all(target).unwrap();
    }

    /// The next backup needs no help.
    fn finish(&mut self) {
        let repository = self.repository();
        let before = snapshots(&repository).len();
        let report = back_up(&repository, &source(self.path()), &our_options()).unwrap();
        assert_eq!(report.problem_count, 0, "{:?}", report.problems);
        assert!(repository.notes().unwrap().sessions.is_empty(), "the killed one's note is gone");
        self.hold(&repository);
        assert_eq!(self.held.len(), before + 1);
    }

    fn finish_all(&self) {
        let repository = self.repository();
        for (id, snapshot) in snapshots(&repository) {
            self.restores(&repository, &snapshot.tree, &self.held[&id]);
        }
        assert_eq!(stored_twice(&repository), [], "what the killed ones had stored was used");
    }
}

fn kills() -> Option<u64> {
    env::var("COFFER_TEST_KILLS").ok().and_then(|count| count.parse().ok())
}

#[test]
fn any_operation_may_be_the_last() {
    let mut stage = Stage::new();
    // An odd step: the last before and the last after alternate.
    for last in (0..).step_by(if kills().is_some() { 1 } else { 7 }) {
        // A backup reads what snapshots there are: with too many the end would never be reached.
        if stage.held.len() > 8 {
            stage.finish_all();
            stage = Stage::new();
        }
        stage.change();
        let status = spawn(stage.path(), Some(last)).wait().unwrap();
        stage.check();
        // A second one may be killed before any has come to an end.
        if last % 3 == 0 {
            spawn(stage.path(), Some(last / 2)).wait().unwrap();
            stage.check();
        }
        if status.success() {
            assert!(last > 40, "{last}");
            break;
        }
        assert_eq!(status.signal(), Some(9));
        stage.finish();
    }
    stage.finish();
    stage.finish_all();
}

#[test]
fn any_moment_may_be_the_last() {
    kill_at_any_moment(false);
}

/// As many checkpoints as can be: some are killed while one is being put, and what they claim is there for the next.
#[test]
fn any_moment_of_a_backup_that_is_full_of_checkpoints_may_be_the_last() {
    kill_at_any_moment(true);
}

fn kill_at_any_moment(checkpoints: bool) {
    let mut stage = Stage::new();
    let mut killed = 0;
    // How long one takes when nobody kills it.
    stage.change();
    let start = std::time::Instant::now();
    assert!(spawn_with(stage.path(), None, checkpoints).wait().unwrap().success());
    let longest = start.elapsed();
    stage.check();
    stage.finish();
    // Which moments are met depends on the machine: it goes on until a checkpoint was left once.
    let mut unfinished = 0;
    for round in 0.. {
        if round >= kills().unwrap_or(12) && (unfinished > 0 || !checkpoints) {
            break;
        }
        assert!(round < 300, "no checkpoint was ever left");
        stage.change();
        let mut victim = spawn_with(stage.path(), None, checkpoints);
        let chance = u64::from_le_bytes(noise(round, 8).try_into().unwrap());
        let most = u64::try_from(longest.as_micros()).unwrap();
        std::thread::sleep(Duration::from_micros(chance % most));
        let _ = victim.kill();
        killed += u64::from(victim.wait().unwrap().signal() == Some(9));
        stage.check();
        unfinished += Listing::read(&stage.repository()).unwrap().tentative.len();
        if round % 3 != 0 {
            stage.finish();
        }
    }
    assert!(killed > 2, "{killed}");
    stage.finish();
    stage.finish_all();
}
