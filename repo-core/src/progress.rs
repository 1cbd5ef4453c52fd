//! How a long operation tells what it is doing, and how it is told to stop.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::error::{Error, Result};

/// Told of the work as it is done, from any thread; must be quick. Every method does nothing unless implemented.
pub trait Progress: Send + Sync {
    /// More work was found: so many files and bytes.
    fn found(&self, _files: u64, _bytes: u64) {}

    /// All work has been found; the totals will not grow any more.
    fn found_all(&self) {}

    /// Work was done: so many files and bytes, whether read, skipped as unchanged, written or checked.
    fn done(&self, _files: u64, _bytes: u64) {}

    /// This item is being worked on.
    fn current(&self, _path: &[u8]) {}

    /// One item is finished, with what became of it.
    fn item(&self, _path: &[u8], _outcome: Outcome, _bytes: u64) {}

    /// A backup has claimed what it has finished: one that is cut short now goes on from here when it is run again.
    fn checkpoint(&self) {}

    /// One item could not be handled; the operation goes on without it.
    fn problem(&self, _problem: &Problem) {}

    /// Whether [`Self::item`] is wanted at all; if not, no path is built for it.
    fn wants_items(&self) -> bool {
        false
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Backup: was not in the parent snapshot. Restore: was created.
    New,
    /// Backup: differs from the parent snapshot. Restore: was overwritten.
    Changed,
    /// As it was; nothing to do.
    Unchanged,
    /// Removed from the target.
    Deleted,
}

/// An item that could not be handled.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The item, as bytes of a path.
    pub path: Vec<u8>,
    /// What was being done, a verb in the infinitive: "read", "list", "set the owner".
    pub during: &'static str,
    /// What went wrong.
    pub message: String,
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {}

/// A flag that asks an operation to stop at the next safe point. Clones share it.
#[derive(Clone, Default)]
pub struct Cancel(Arc<OnceLock<Instant>>);

impl Cancel {
    /// Asks to stop.
    pub fn cancel(&self) {
        self.0.get_or_init(Instant::now);
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.get().is_some()
    }

    /// How long ago a stop was asked for, if it was.
    #[must_use]
    pub fn since(&self) -> Option<Duration> {
        self.0.get().map(Instant::elapsed)
    }

    /// # Errors
    /// [`Error::Cancelled`] when a stop was asked for.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
