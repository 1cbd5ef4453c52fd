//! Backups that put checkpoints when a test wants them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use repo_core::{
    backup::{BackupOptions, BackupReport, backup},
    crypto::recorder,
    error::Result,
    id::SnapshotId,
    progress::{Cancel, Progress},
    repository::Repository,
    runtime::{Runtime, SystemRuntime},
    snapshot::{self, Listing, Snapshot},
    store::Store,
    time::Timestamp,
};

use super::{
    bench::options,
    model::{ModelSource, Thing},
};

/// A clock that a test sets.
pub struct Clock(pub AtomicI64);

impl Runtime for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }

    fn random(&self, into: &mut [u8]) {
        SystemRuntime.random(into);
    }

    fn sleep_ms(&self, _milliseconds: u64) {}

    fn is_running(&self, process: u32) -> bool {
        process == std::process::id()
    }
}

/// Counts checkpoints.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits for the checkpoint of this number; not for long, since there may be none.
    pub fn wait_for(&self, number: u64, patience: Duration) {
        let until = Instant::now() + patience;
        while self.get() < number && Instant::now() < until {
            thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Progress for Count {
    fn checkpoint(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// How a backup with checkpoints is run.
pub struct Run {
    /// The call of the source that counts as a file here.
    pub at: &'static str,
    /// Files between two checkpoints.
    pub every_files: u64,
    /// The file at which the user ends it.
    pub cancel_at: Option<u64>,
    /// How long a checkpoint may take.
    pub patience: Duration,
    pub options: BackupOptions,
}

impl Run {
    pub fn every(every_files: u64) -> Self {
        let options = BackupOptions { threads: Some(1), ..options() };
        Self { at: "file", every_files, cancel_at: None, patience: Duration::from_secs(20), options }
    }

    /// Backs `tree` up; returns what came of it, the source, and how many checkpoints there were.
    pub fn start(self, store: impl Store + 'static, tree: &Thing) -> (Result<BackupReport>, ModelSource, u64) {
        recorder::start();
        let clock = Arc::new(Clock(AtomicI64::new(SystemRuntime.now().seconds() + 1)));
        let count = Arc::new(Count::default());
        let cancel = Cancel::default();
        let (mut files, mut wanted) = (0, 0);
        let (time, seen, stop) = (Arc::clone(&clock), Arc::clone(&count), cancel.clone());
        let source = ModelSource::hooked(tree, move |call| {
            if call.what != self.at {
                return;
            }
            // The backup has looked at the clock just now, and then begins with the next file.
            if files > 0 && files % self.every_files == 0 {
                wanted += 1;
                seen.wait_for(wanted, self.patience);
                wanted = seen.get();
            }
            files += 1;
            if files % self.every_files == 0 {
                time.0.fetch_add(601, Ordering::SeqCst);
            }
            if self.cancel_at == Some(files) {
                stop.cancel();
            }
        });
        let result = Repository::open(Arc::new(store), clock, b"secret", None)
            .and_then(|repository| backup(&Arc::new(repository), &source, &self.options, &*count, &cancel));
        (result, source, count.get())
    }
}

/// All snapshots that are not sealed.
pub fn tentative(repository: &Repository) -> Vec<(SnapshotId, Snapshot)> {
    let ids = Listing::read(repository).unwrap().tentative;
    ids.into_iter().map(|id| (id, snapshot::load(repository, &id).unwrap())).collect()
}
