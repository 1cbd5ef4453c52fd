//! The threads of a backup and what they share.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    backup::{
        BackupOptions,
        assembly::{FinishedRoot, OpenDirectory},
        checkpoint::Checkpoints,
        count,
        earlier::{Before, Earlier, EntriesBefore},
        file::{FileJob, FileWorker},
        large::{LargeFile, Pieces, Segment},
        queue::{Queue, Stage},
        scan::{NewDirectory, Scan},
        tally::Tally,
    },
    blob::BlobKind,
    chunker::Chunker,
    error::{Error, Result},
    id::SnapshotId,
    progress::{Cancel, Problem, Progress},
    repository::{frames::FrameWriter, reader::BlobReader, session::Session},
    snapshot::Summary,
    source::{OwnerNames, Severity, Source, SourceError, Stat},
    time::Timestamp,
};

/// Something a thread can do.
pub(super) enum Task<'a> {
    /// Open a directory and list it.
    Open(NewDirectory),
    /// Look at the next entries of a directory.
    Scan(Scan<'a>),
    /// Read some files, in the order of the walk.
    Files(Vec<FileJob>),
    /// Read on in a large file.
    Large(Box<LargeFile>),
    /// Hash and store a part of a large file.
    Segment(Segment),
}

/// What the threads of a backup share.
pub(super) struct Engine<'a> {
    pub(super) session: &'a Session,
    pub(super) reader: &'a BlobReader,
    pub(super) source: &'a dyn Source,
    pub(super) options: &'a BackupOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
    pub(super) chunker: Chunker,
    pub(super) queue: Queue<Task<'a>>,
    pub(super) tally: Tally,
    /// Buffers for parts of large files, to be used again.
    pub(super) buffers: Mutex<Vec<Vec<u8>>>,
    /// Where new blobs are gathered, for each thread.
    pub(super) frames: Vec<Mutex<FrameWriter<'a>>>,
    pub(super) earlier: &'a Earlier,
    pub(super) checkpoints: Checkpoints,
    /// The root, while it is being put together.
    pub(super) top: OnceLock<Arc<OpenDirectory>>,
    /// Files whose reading was ended by the user.
    pub(super) cut_short: Mutex<Vec<Arc<Pieces>>>,
    started: Timestamp,
    root: Mutex<Option<FinishedRoot>>,
    owners: Mutex<(BTreeSet<u32>, BTreeSet<u32>)>,
    last_owner: AtomicU64,
    failure: Mutex<Option<Error>>,
}

/// What came of it.
pub(super) struct EngineOutcome {
    pub(super) root: FinishedRoot,
    pub(super) owners: OwnerNames,
    pub(super) summary: Summary,
    pub(super) problems: Vec<Problem>,
    /// Superseded by what is committed.
    pub(super) checkpoint: Option<SnapshotId>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic in a worker ends the backup; what the lock guards is not used for anything durable then.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        session: &'a Session,
        reader: &'a BlobReader,
        source: &'a dyn Source,
        options: &'a BackupOptions,
        earlier: &'a Earlier,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let repository = session.repository();
        let chunker = Chunker::new(repository.config().parameters.chunker, &repository.gear_table())
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let started = repository.runtime().now();
        let threads = options
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get) + 1);
        Ok(Self {
            session,
            reader,
            source,
            options,
            progress,
            cancel,
            chunker,
            queue: Queue::new(),
            tally: Tally::default(),
            buffers: Mutex::default(),
            frames: (0..threads.max(1)).map(|_| Mutex::new(session.frame_writer(BlobKind::Data))).collect(),
            earlier,
            checkpoints: Checkpoints::new(options.checkpoint_every_seconds, started.seconds()),
            top: OnceLock::new(),
            cut_short: Mutex::default(),
            started,
            root: Mutex::new(None),
            owners: Mutex::default(),
            last_owner: AtomicU64::new(u64::MAX),
            failure: Mutex::new(None),
        })
    }

    /// Reads the whole source and stores it; the tree is complete then, and nothing is committed.
    pub(super) fn run(self) -> Result<EngineOutcome> {
        let root = self.source.root().map_err(|error| Error::Source(error.to_string()))?;
        let directory = OpenDirectory::new(None, root, Before::default());
        let _ = self.top.set(Arc::clone(&directory));
        self.list(directory, EntriesBefore::root(self.reader, self.earlier))?;

        std::thread::scope(|scope| {
            if self.options.count_ahead {
                scope.spawn(|| count::count(self.source, self.progress, &|| self.queue.is_stopped()));
            }
            if self.wants_checkpoints() && self.options.checkpoints_beside {
                scope.spawn(|| self.keep_checkpoints());
            }
            let workers: Vec<_> = self.frames.iter().map(|frames| scope.spawn(|| self.work(frames))).collect();
            for worker in workers {
                // Whatever panics in it is caught and told of by itself.
                let _ = worker.join();
            }
            self.queue.stop();
            self.checkpoints.stop();
        });

        if let Some(failure) = lock(&self.failure).take() {
            return Err(match failure {
                Error::Poisoned => self.session.take_failure().unwrap_or(Error::Poisoned),
                Error::Cancelled | Error::Source(_) if self.cancel.is_cancelled() => self.cancelled(),
                failure => failure,
            });
        }
        self.cancel.check().map_err(|_| self.cancelled())?;
        self.source.finish().map_err(|error| Error::Source(error.to_string()))?;
        for problem in self.source.problems() {
            self.tally.source_problem(problem, self.progress);
        }
        let Some(root) = lock(&self.root).take() else {
            return Err(Error::Invalid("the backup ended without a root; this is a bug".into()));
        };
        Ok(EngineOutcome {
            root,
            owners: self.owner_names(),
            summary: self.summary(),
            checkpoint: self.checkpoints.last(),
            problems: self.tally.problems(),
        })
    }

    /// The user has ended it: what is done is claimed, for the next run to go on from there.
    fn cancelled(&self) -> Error {
        if self.wants_checkpoints() && !self.session.has_failed() {
            // What fails here costs the next run some work, no more.
            if self.checkpoint(&|| true).unwrap_or(false) {
                self.progress.checkpoint();
            }
        }
        Error::Cancelled
    }

    /// What was done until now.
    pub(super) fn summary(&self) -> Summary {
        let ended = self.session.repository().runtime().now();
        Summary { started: self.started, ended, ..self.tally.summary() }
    }

    /// Names of the owners of everything that was met until now.
    pub(super) fn owner_names(&self) -> OwnerNames {
        let (users, groups) = {
            let owners = lock(&self.owners);
            (owners.0.iter().copied().collect::<Vec<_>>(), owners.1.iter().copied().collect::<Vec<_>>())
        };
        self.source.owner_names(&users, &groups)
    }

    /// Life of a thread.
    fn work(&self, frames: &Mutex<FrameWriter<'a>>) {
        let mut worker = FileWorker::new(self, frames);
        while let Some(task) = self.queue.next() {
            self.tick();
            let result =
                catch_unwind(AssertUnwindSafe(|| self.cancel.check().and_then(|()| self.step(task, &mut worker))));
            self.note(
                result.unwrap_or_else(|_| Err(Error::Invalid("a thread of the backup panicked; this is a bug".into()))),
            );
            self.queue.finished();
        }
        self.note(worker.finish());
    }

    fn step(&self, task: Task<'a>, worker: &mut FileWorker<'_, 'a>) -> Result<()> {
        match task {
            Task::Open(directory) => self.open(directory),
            Task::Scan(scan) => self.scan(scan),
            Task::Files(files) => files.into_iter().try_for_each(|file| worker.file(file)),
            Task::Large(file) => self.read_large(file),
            Task::Segment(segment) => worker.segment(segment),
        }
    }

    /// Remembers a failure and stops everything.
    pub(super) fn note(&self, result: Result<()>) {
        if let Err(error) = result {
            let mut failure = lock(&self.failure);
            // "Poisoned" says that somebody else knows more.
            if matches!(*failure, None | Some(Error::Poisoned)) {
                *failure = Some(error);
            }
            self.queue.stop();
        }
    }

    /// Sorts what went wrong with an entry: the entry is left out and told of, or everything ends.
    pub(super) fn source_error(&self, error: SourceError) -> Result<()> {
        if error.severity == Severity::Fatal {
            return Err(Error::Source(error.to_string()));
        }
        self.tally.source_problem(error, self.progress);
        Ok(())
    }

    /// Remembers whose names will be wanted.
    pub(super) fn owner(&self, stat: &Stat) {
        let owner = u64::from(stat.user) << 32 | u64::from(stat.group);
        if self.last_owner.swap(owner, Ordering::Relaxed) != owner {
            let mut owners = lock(&self.owners);
            owners.0.insert(stat.user);
            owners.1.insert(stat.group);
        }
    }

    pub(super) fn set_root(&self, root: FinishedRoot) {
        *lock(&self.root) = Some(root);
    }

    pub(super) fn push(&self, stage: Stage, tasks: Vec<Task<'a>>) {
        if !tasks.is_empty() {
            self.queue.push(stage, tasks);
        }
    }
}
