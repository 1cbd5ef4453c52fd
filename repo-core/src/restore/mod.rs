//! Bringing files back: from a snapshot's tree into a [`Sink`].
//!
//! One thread walks the tree and plans; others carry the plan out. What is planned is grouped by pack and frame, so that
//! every frame is read and opened once, however many files need blobs of it, and is cut into windows, so that memory is
//! bounded whatever the snapshot holds. A blob is held against its id before a byte of it is written.
//!
//! No failure of one item stops the others. A file of which anything is missing is never left under its name as if it were
//! complete. A restore that was interrupted goes on when it is run again: what is there already is compared, not fetched.

use std::thread;

use crate::{
    blob::ReadFrames,
    error::{Error, Result},
    id::BlobId,
    progress::{Cancel, Progress},
    sink::Sink,
};

mod compare;
mod context;
mod delete;
mod directory;
mod existing;
mod file;
mod link;
mod plan;
mod queue;
mod report;
mod rules;
mod select;
mod verify;
mod window;
mod worker;

pub use report::RestoreReport;
pub use rules::Rules;
pub use select::{Everything, Select, Selection};

use context::Context;
use plan::Planner;
use queue::{CloseOnDrop, Queue};
use worker::Worker;

/// Most threads that are used unless the caller says otherwise.
const THREADS_MAX: usize = 8;

/// What becomes of something that is in the target already under the name of what is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// It is compared with the snapshot, and changed or replaced where it differs.
    #[default]
    Always,
    /// It stays if its length and modification time are those in the snapshot; otherwise as with `Always`.
    IfChanged,
    /// It stays if it was modified at the same time as in the snapshot or later.
    IfNewer,
    /// It stays.
    Never,
}

/// How to restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// What becomes of what is there.
    pub overwrite: Overwrite,
    /// Remove what is in a restored directory and not in the snapshot, as far as the rule selects it.
    pub delete: bool,
    /// Change nothing; report what would be done.
    pub dry_run: bool,
    /// Read back everything that was written or found equal, and hold it against the snapshot.
    pub verify: bool,
    /// Return only when everything is on stable storage.
    pub sync: bool,
    /// Threads that fetch, open and write; zero for as many as there are processors, at most eight.
    pub threads: usize,
    /// Memory for a window of the plan. Up to three of them exist at a time.
    pub window_bytes: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            overwrite: Overwrite::Always,
            delete: false,
            dry_run: false,
            verify: false,
            sync: false,
            threads: 0,
            window_bytes: 8 << 20,
        }
    }
}

impl RestoreOptions {
    fn thread_count(&self) -> usize {
        match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
            threads => threads,
        }
    }
}

/// Restores everything below `tree` that `select` selects into `sink`.
///
/// Problems with single items are in the report and told to `progress`; the caller decides what they mean.
///
/// # Errors
/// When the target cannot be opened or is full, the store cannot be reached, or the user asked to stop. What was restored
/// until then is there, and the next run goes on with it.
pub fn restore<S: Sink>(
    blobs: &dyn ReadFrames,
    tree: &BlobId,
    sink: &S,
    select: &dyn Select,
    options: &RestoreOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<RestoreReport> {
    let context = Context::new(blobs, sink, select, options, progress, cancel);
    let queue = Queue::new();
    let planned = thread::scope(|scope| {
        for _ in 0..options.thread_count() {
            scope.spawn(|| {
                // A thread that ends before the queue is closed has panicked.
                let _close = CloseOnDrop(&queue);
                Worker::new(&context).run(&queue);
            });
        }
        let _close = CloseOnDrop(&queue);
        Planner::new(&context, &queue).run(tree)
    });
    context.first_error()?;
    planned?;
    if options.verify && !options.dry_run {
        let verified = verify::verify(&context, tree);
        context.first_error()?;
        verified?;
    }
    if options.sync
        && !options.dry_run
        && let Ok(Some(root)) = sink.open_root()
    {
        let failed = |error: crate::sink::SinkError| Error::Io {
            during: error.during,
            path: ".".to_owned(),
            source: error.cause,
        };
        sink.sync(&root).map_err(failed)?;
    }
    Ok(context.tally.finish(sink.notes()))
}
