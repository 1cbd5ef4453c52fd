//! The threads of a backup and what they share.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    backup::{
        BackupOptions,
        assembly::{FinishedRoot, OpenDirectory},
        count,
        file::{FileJob, FileWorker},
        large::{LargeFile, Segment},
        queue::{Queue, Stage},
        scan::{NewDirectory, Scan},
        tally::Tally,
    },
    chunker::Chunker,
    error::{Error, Result},
    id::BlobId,
    progress::{Cancel, Problem, Progress},
    repository::{reader::BlobReader, session::Session},
    snapshot::{Snapshot, Summary},
    source::{OwnerNames, Severity, Source, SourceError, Stat},
    tree::{
        directory::DirectoryEntries,
        node::{Metadata, Totals},
    },
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
    parent: Option<&'a Snapshot>,
    root: Mutex<Option<FinishedRoot>>,
    owners: Mutex<(BTreeSet<u32>, BTreeSet<u32>)>,
    last_owner: AtomicU64,
    failure: Mutex<Option<Error>>,
}

/// What came of it.
pub(super) struct EngineOutcome {
    pub(super) tree: BlobId,
    pub(super) totals: Totals,
    pub(super) root: Option<Metadata>,
    pub(super) owners: OwnerNames,
    pub(super) summary: Summary,
    pub(super) problems: Vec<Problem>,
    pub(super) problem_count: u64,
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
        parent: Option<&'a Snapshot>,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let repository = session.repository();
        let chunker = Chunker::new(repository.config().parameters.chunker, &repository.keys().gear_table())
            .map_err(|error| Error::Invalid(error.to_string()))?;
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
            parent,
            root: Mutex::new(None),
            owners: Mutex::default(),
            last_owner: AtomicU64::new(u64::MAX),
            failure: Mutex::new(None),
        })
    }

    /// Reads the whole source and stores it; the tree is complete then, and nothing is committed.
    pub(super) fn run(self) -> Result<EngineOutcome> {
        let root = self.source.root().map_err(|error| Error::Source(error.to_string()))?;
        let before = self.parent.and_then(|parent| DirectoryEntries::open(self.reader, &parent.tree).ok());
        let directory = OpenDirectory::new(None, root, None);
        self.list(directory, before)?;

        let threads = self
            .options
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get) + 1);
        std::thread::scope(|scope| {
            if self.options.count_ahead {
                scope.spawn(|| count::count(self.source, self.progress, &|| self.queue.is_stopped()));
            }
            let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(|| self.work())).collect();
            for worker in workers {
                // Whatever panics in it is caught and told of by itself.
                let _ = worker.join();
            }
            self.queue.stop();
        });

        if let Some(failure) = lock(&self.failure).take() {
            return Err(match failure {
                Error::Poisoned => self.session.take_failure().unwrap_or(Error::Poisoned),
                failure => failure,
            });
        }
        self.cancel.check()?;
        self.source.finish().map_err(|error| Error::Source(error.to_string()))?;
        for problem in self.source.problems() {
            self.tally.source_problem(problem, self.progress);
        }
        let Some(root) = self.root.into_inner().unwrap_or_else(PoisonError::into_inner) else {
            return Err(Error::Invalid("the backup ended without a root; this is a bug".into()));
        };
        let (users, groups) = self.owners.into_inner().unwrap_or_else(PoisonError::into_inner);
        let owners =
            self.source.owner_names(&users.into_iter().collect::<Vec<_>>(), &groups.into_iter().collect::<Vec<_>>());
        let (summary, problems, problem_count) = self.tally.finish();
        Ok(EngineOutcome {
            tree: root.tree,
            totals: root.totals,
            root: Some(root.metadata),
            owners,
            summary,
            problems,
            problem_count,
        })
    }

    /// Life of a thread.
    fn work(&self) {
        let mut worker = FileWorker::new(self);
        while let Some(task) = self.queue.next() {
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
    fn note(&self, result: Result<()>) {
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
