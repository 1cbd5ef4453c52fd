//! Forgetting snapshots: by rules, or by their ids.
//!
//! What a snapshot refers to stays in the repository until a prune finds that nothing needs it. A forgotten snapshot cannot be
//! brought back by this program.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::{
    error::{Error, Result, StoreErrorKind},
    id::SnapshotId,
    progress::Cancel,
    repository::{
        Repository,
        uncommit::{self, Unforgotten},
    },
};

mod families;
mod plan;

use plan::Removal;
pub use plan::{GroupPlan, Kept, Options, Plan};

/// After so many failures, with nothing forgotten yet, the rest is not tried: the store permits no deletes at all.
const FAILURES_MAX: usize = 3;

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Report {
    /// Snapshots that are no backups any more, in the order of the plan.
    pub forgotten: Vec<SnapshotId>,
    /// Those of them whose bodies could not be deleted, and why. Such a body counts as an unfinished snapshot: it protects its data
    /// until it expires.
    pub left_behind: Vec<(SnapshotId, Error)>,
    /// Snapshots that may still be what they were, and why.
    pub failed: Vec<(SnapshotId, Error)>,
    /// How many were not tried, since the store was out of reach.
    pub not_tried: usize,
}

/// Carries out a plan: for each snapshot deletes every seal that names it, and then its body (`docs/protocol.md`). Nothing else is
/// deleted. What somebody else has forgotten meanwhile counts as forgotten.
///
/// An object that cannot be deleted does not keep the others from it.
///
/// # Errors
/// When nothing could be forgotten: the first reason. [`Error::Cancelled`] when the user stopped it; what was forgotten by then stays
/// forgotten. Single failures are in the report.
pub fn forget(repository: &Repository, plan: &Plan, cancel: &Cancel) -> Result<Report> {
    repository.check_writable()?;
    let removals = plan.removals();
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        while !stop.load(Ordering::Relaxed) && !cancel.is_cancelled() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(removal) = removals.get(at) else { break };
            let outcome = forget_one(repository, removal);
            let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes.push((at, outcome));
            if is_hopeless(&outcomes) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    let threads = repository.store().abilities().connections.clamp(1, removals.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    cancel.check()?;
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(at, _)| *at);
    let mut report = Report { not_tried: removals.len() - outcomes.len(), ..Report::default() };
    for (at, outcome) in outcomes {
        let body = removals[at].body;
        match outcome {
            Outcome::Forgotten => report.forgotten.push(body),
            Outcome::LeftBehind(error) => {
                report.forgotten.push(body);
                report.left_behind.push((body, error));
            }
            Outcome::Failed(error) => report.failed.push((body, error)),
        }
    }
    if report.forgotten.is_empty() && !report.failed.is_empty() {
        return Err(report.failed.swap_remove(0).1);
    }
    Ok(report)
}

/// What became of one snapshot.
enum Outcome {
    Forgotten,
    LeftBehind(Error),
    Failed(Error),
}

fn forget_one(repository: &Repository, removal: &Removal) -> Outcome {
    match uncommit::forget(repository, [removal.body].into(), || Ok(removal.seals.clone())) {
        Ok(()) => Outcome::Forgotten,
        Err(Unforgotten { error, is_uncommitted: true }) => Outcome::LeftBehind(error),
        Err(Unforgotten { error, .. }) => Outcome::Failed(error),
    }
}

/// Whether trying the others would be in vain: the store is out of reach, or permits no deletes.
fn is_hopeless(outcomes: &[(usize, Outcome)]) -> bool {
    let is_general = |outcome: &Outcome| match outcome {
        Outcome::Forgotten => false,
        Outcome::LeftBehind(error) | Outcome::Failed(error) => {
            matches!(
                error.store_kind(),
                Some(StoreErrorKind::Retry | StoreErrorKind::Refresh | StoreErrorKind::Cancelled)
            )
        }
    };
    let all_failed = outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    all_failed && outcomes.len() >= FAILURES_MAX || outcomes.last().is_some_and(|(_, outcome)| is_general(outcome))
}
