//! What came of a restore.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::progress::Problem;

/// Problems kept in full; of the others only the number is known.
const PROBLEMS_MAX: usize = 10_000;

/// What a restore did; of a dry run, what it would have done.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Everything selected that is not a directory.
    pub files_found: u64,
    /// Of these, what was not there and was made.
    pub files_new: u64,
    /// What was there and was changed or replaced.
    pub files_changed: u64,
    /// What was left as it was: it is the same, or the overwrite rule says so.
    pub files_unchanged: u64,
    /// What could not be restored, or not completely.
    pub files_failed: u64,
    /// Of the new and changed ones: further names of a file that has several.
    pub hard_links: u64,
    /// Directories selected or needed.
    pub directories_found: u64,
    /// Of these, what was made.
    pub directories_new: u64,
    /// What was removed because the snapshot does not have it, directories counted.
    pub deleted: u64,
    /// Lengths of all files found, holes counted.
    pub bytes_found: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Bytes of files that were there already.
    pub bytes_unchanged: u64,
    /// Bytes read from the store for contents of files; of a dry run, those that would be.
    pub bytes_fetched: u64,
    /// Requests by which they were read.
    pub requests: u64,
    /// Bytes read back and compared after the restore.
    pub bytes_verified: u64,
    /// What could not be done, in the order it was noticed; the first of them only, if there are very many.
    pub problems: Vec<Problem>,
    /// How many problems there were.
    pub problem_count: u64,
    /// What was left out by rule, in words.
    pub notes: Vec<String>,
}

/// The report while it is being made, by many threads.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) files_found: AtomicU64,
    pub(super) files_new: AtomicU64,
    pub(super) files_changed: AtomicU64,
    pub(super) files_unchanged: AtomicU64,
    pub(super) files_failed: AtomicU64,
    pub(super) hard_links: AtomicU64,
    pub(super) sockets: AtomicU64,
    pub(super) directories_found: AtomicU64,
    pub(super) directories_new: AtomicU64,
    pub(super) deleted: AtomicU64,
    pub(super) bytes_found: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) bytes_unchanged: AtomicU64,
    pub(super) bytes_fetched: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) bytes_verified: AtomicU64,
    problem_count: AtomicU64,
    problems: Mutex<Vec<Problem>>,
}

/// Adds to a number of the tally.
pub(super) fn add(to: &AtomicU64, more: u64) {
    to.fetch_add(more, Ordering::Relaxed);
}

impl Tally {
    pub(super) fn problem(&self, problem: Problem) {
        add(&self.problem_count, 1);
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < PROBLEMS_MAX {
            problems.push(problem);
        }
    }

    pub(super) fn finish(self, mut notes: Vec<String>) -> RestoreReport {
        let sockets = self.sockets.into_inner();
        if sockets > 0 {
            notes.push(format!(
                "{sockets} sockets were not restored, since only the program they belong to can make them"
            ));
        }
        RestoreReport {
            files_found: self.files_found.into_inner(),
            files_new: self.files_new.into_inner(),
            files_changed: self.files_changed.into_inner(),
            files_unchanged: self.files_unchanged.into_inner(),
            files_failed: self.files_failed.into_inner(),
            hard_links: self.hard_links.into_inner(),
            directories_found: self.directories_found.into_inner(),
            directories_new: self.directories_new.into_inner(),
            deleted: self.deleted.into_inner(),
            bytes_found: self.bytes_found.into_inner(),
            bytes_written: self.bytes_written.into_inner(),
            bytes_unchanged: self.bytes_unchanged.into_inner(),
            bytes_fetched: self.bytes_fetched.into_inner(),
            requests: self.requests.into_inner(),
            bytes_verified: self.bytes_verified.into_inner(),
            problem_count: self.problem_count.into_inner(),
            problems: self.problems.into_inner().unwrap_or_else(PoisonError::into_inner),
            notes,
        }
    }
}
