//! What all transfers of a store over a network pass, piece by piece: the limits, and the end when the operation is cancelled.

#![cfg_attr(
    not(all(feature = "http", feature = "services", feature = "sftp")),
    allow(dead_code, reason = "each kind of store needs a part of it")
)]

use std::{sync::Arc, time::Duration};

use super::{backend::Failure, remote, throttle::Throttle};
use crate::{error::StoreErrorKind, progress::Cancel};

/// How long after a cancel a request may go on that was under way: what is nearly there is not wasted.
const UNDER_WAY: Duration = Duration::from_millis(1500);

/// How long after a cancel requests may go on that were begun after it: notes of what is finished, and of the end.
const NOTES: Duration = Duration::from_secs(3);

/// How often it is looked.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Limits and an end. Clones share them.
#[derive(Clone, Default)]
pub struct Flow {
    /// Limits of transfer, if there are any.
    pub throttle: Option<Arc<Throttle>>,
    /// Cuts what is under way, soon after it is set. The store is then of no more use.
    pub cancel: Cancel,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Flow").field("throttle", &self.throttle).finish_non_exhaustive()
    }
}

impl Flow {
    /// A request begins.
    pub(super) fn begin(&self) -> Watch {
        Watch { cancel: self.cancel.clone(), longest: if self.cancel.is_cancelled() { NOTES } else { UNDER_WAY } }
    }

    /// A request that began before any cancel.
    #[cfg(any(feature = "http", feature = "sftp"))]
    pub(super) fn begin_before(&self) -> Watch {
        Watch { cancel: self.cancel.clone(), longest: UNDER_WAY }
    }

    /// One that begins after a cancel, whenever that is.
    #[cfg(any(feature = "http", feature = "sftp"))]
    pub(super) fn begin_after(&self) -> Watch {
        Watch { cancel: self.cancel.clone(), longest: NOTES }
    }

    /// What is told of a failure: what the end of the operation has cut fails like a lost connection.
    #[cfg(any(feature = "http", feature = "sftp"))]
    pub(super) fn told(&self, failed: Failure) -> Failure {
        if failed.kind == StoreErrorKind::Retry && self.begin_before().is_over() { cut() } else { failed }
    }

    /// How long a request may take, of several that share the limits.
    pub(super) fn deadline(&self, sent_bytes: u64, fetched_bytes: u64, sharers: usize) -> Duration {
        let throttled = self.throttle.as_ref().map(|throttle| throttle.longest(sent_bytes, fetched_bytes, sharers));
        remote::deadline(sent_bytes.max(fetched_bytes)).saturating_add(throttled.unwrap_or_default())
    }
}

/// Says of one request when it is to be cut.
#[derive(Clone)]
pub(super) struct Watch {
    cancel: Cancel,
    longest: Duration,
}

impl Watch {
    pub(super) fn is_over(&self) -> bool {
        self.cancel.since().is_some_and(|since| since >= self.longest)
    }
}

/// What is said of a request that was cut.
pub(super) fn cut() -> Failure {
    Failure::new(StoreErrorKind::Cancelled, "it was under way when the operation was ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_before_ends_before() {
        let flow = Flow::default();
        let before = flow.begin();
        flow.cancel.cancel();
        let after = flow.begin();
        assert!(!before.is_over() && !after.is_over());
        std::thread::sleep(UNDER_WAY);
        assert!(before.is_over() && !after.is_over());
    }
}
