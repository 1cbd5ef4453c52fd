//! Counting what a backup does, and keeping its problems.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    progress::{Outcome, Problem, Progress},
    snapshot::Summary,
    source::SourceError,
};

/// Most problems that are kept whole; all are counted and told of as they come.
const PROBLEMS_KEPT: usize = 1000;

/// Counters of a backup at work.
#[derive(Default)]
pub(super) struct Tally {
    files: [AtomicU64; 3],
    directories: [AtomicU64; 3],
    bytes_read: AtomicU64,
    problem_count: AtomicU64,
    problems: Mutex<Vec<Problem>>,
}

const fn slot(outcome: Outcome) -> usize {
    match outcome {
        Outcome::New => 0,
        Outcome::Changed => 1,
        Outcome::Unchanged | Outcome::Deleted => 2,
    }
}

impl Tally {
    pub(super) fn file(&self, outcome: Outcome) {
        if let Some(count) = self.files.get(slot(outcome)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn directory(&self, outcome: Outcome) {
        if let Some(count) = self.directories.get(slot(outcome)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn source_problem(&self, error: SourceError, progress: &dyn Progress) {
        self.problem(Problem { path: error.path, during: error.during, message: error.cause.to_string() }, progress);
    }

    pub(super) fn problem(&self, problem: Problem, progress: &dyn Progress) {
        progress.problem(&problem);
        self.problem_count.fetch_add(1, Ordering::Relaxed);
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < PROBLEMS_KEPT {
            problems.push(problem);
        }
    }

    pub(super) fn problem_count(&self) -> u64 {
        self.problem_count.load(Ordering::Relaxed)
    }

    /// The counters, as they are now.
    pub(super) fn summary(&self) -> Summary {
        let load = |counts: &[AtomicU64; 3]| counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let [files_new, files_changed, files_unmodified] = load(&self.files);
        let [directories_new, directories_changed, directories_unmodified] = load(&self.directories);
        Summary {
            files_new,
            files_changed,
            files_unmodified,
            directories_new,
            directories_changed,
            directories_unmodified,
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            problems: self.problem_count(),
            ..Summary::default()
        }
    }

    /// The problems kept.
    pub(super) fn problems(self) -> Vec<Problem> {
        self.problems.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
