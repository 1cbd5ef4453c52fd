//! What all parts of one restore share: where from, where to, how, and what came of it so far.

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    RestoreOptions, Select,
    report::{Tally, add},
};
use crate::{
    blob::ReadFrames,
    error::{Error, StoreErrorKind},
    progress::{Cancel, Outcome, Problem, Progress},
    sink::{Sink, SinkError},
    tree::name::escape,
};

pub(super) struct Context<'a, S: Sink> {
    pub(super) blobs: &'a dyn ReadFrames,
    pub(super) sink: &'a S,
    pub(super) select: &'a dyn Select,
    pub(super) options: &'a RestoreOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
    pub(super) tally: Tally,
    /// Paths, as digests, of what is not verified in the end: kept by an overwrite rule, or told of as failed.
    unverified: Mutex<HashSet<u64>>,
    hasher: RandomState,
    stop: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl<'a, S: Sink> Context<'a, S> {
    pub(super) fn new(
        blobs: &'a dyn ReadFrames,
        sink: &'a S,
        select: &'a dyn Select,
        options: &'a RestoreOptions,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            blobs,
            sink,
            select,
            options,
            progress,
            cancel,
            tally: Tally::default(),
            unverified: Mutex::default(),
            hasher: RandomState::new(),
            stop: AtomicBool::new(false),
            error: Mutex::default(),
        }
    }

    /// Whether to give up: something failed that concerns everything, or the user asked for it.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// Gives up; the first error is the one that is told.
    pub(super) fn fail(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends what is being done after a stop; [`Self::first_error`] is why.
    ///
    /// # Errors
    /// When it was given up.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Poisoned) } else { self.cancel.check() }
    }

    /// Why it was given up, if it was.
    pub(super) fn first_error(&self) -> Result<(), Error> {
        match self.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => self.cancel.check(),
        }
    }

    /// What is in the target under this path is not known to be what the snapshot has.
    pub(super) fn exempt_from_verification(&self, path: impl FnOnce() -> Vec<u8>) {
        if self.options.verify {
            let digest = self.hasher.hash_one(path());
            self.unverified.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        }
    }

    /// Whether what is in the target under this path must be what the snapshot has.
    pub(super) fn is_verified(&self, path: &[u8]) -> bool {
        !self.unverified.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.hasher.hash_one(path))
    }

    /// One item could not be handled; the rest goes on.
    pub(super) fn problem(&self, path: Vec<u8>, during: &'static str, message: impl Into<String>) {
        let problem = Problem { path, during, message: message.into() };
        self.progress.problem(&problem);
        self.tally.problem(problem);
    }

    /// One entry other than a directory could not be restored.
    pub(super) fn failed(&self, path: Vec<u8>, during: &'static str, message: impl Into<String>) {
        add(&self.tally.files_failed, 1);
        self.exempt_from_verification(|| path.clone());
        self.problem(path, during, message);
    }

    /// One entry other than a directory could not be restored, since something could not be done in the target.
    pub(super) fn failed_in_sink(&self, path: Vec<u8>, error: SinkError) {
        add(&self.tally.files_failed, 1);
        self.exempt_from_verification(|| path.clone());
        self.sink_problem(path, error);
    }

    /// Something could not be done in the target.
    pub(super) fn sink_problem(&self, path: Vec<u8>, error: SinkError) {
        if error.concerns_everything() {
            let path = escape(&path).into_owned();
            self.fail(Error::Io { during: error.during, path, source: error.cause });
        } else {
            self.problem(path, error.during, error.cause.to_string());
        }
    }

    /// Whether a failure to read from the repository would come again with everything else.
    pub(super) fn give_up_on(&self, error: Error) -> Result<(), Error> {
        let everything = matches!(
            error.store_kind(),
            Some(StoreErrorKind::Retry | StoreErrorKind::Refresh | StoreErrorKind::Cancelled)
        ) || matches!(error, Error::Cancelled | Error::Poisoned);
        if everything {
            self.fail(error);
            return Ok(());
        }
        Err(error)
    }

    /// An entry other than a directory is finished.
    pub(super) fn item(&self, outcome: Outcome, bytes: u64, path: impl FnOnce() -> Vec<u8>) {
        add(
            match outcome {
                Outcome::New => &self.tally.files_new,
                Outcome::Changed => &self.tally.files_changed,
                _ => &self.tally.files_unchanged,
            },
            1,
        );
        if self.progress.wants_items() {
            self.progress.item(&path(), outcome, bytes);
        }
    }
}
