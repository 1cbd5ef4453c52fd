//! Checkpoints: every so often what is finished is claimed, so that no prune removes it, and the next backup goes on from there if this
//! one is cut short.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::{
    backup::{body::body, engine::Engine, partial::partial_tree},
    blob::BlobKind,
    error::{Error, Result},
    id::SnapshotId,
    repository::frames::FrameWriter,
};

/// Longest that the thread sleeps without a look at the clock, which may have been set.
const SLEEP_SECONDS_MAX: i64 = 60;

/// When the next checkpoint is due, and the last one.
pub(super) struct Checkpoints {
    /// When the next one is due, in seconds of the clock.
    due: AtomicI64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    stopped: bool,
    every_seconds: i64,
    last: Option<SnapshotId>,
    /// Bytes that had been read of the source at the last one.
    read_bytes: u64,
}

impl Checkpoints {
    /// One every `every_seconds`; none if that is zero.
    pub(super) fn new(every_seconds: u64, now_seconds: i64) -> Self {
        let every_seconds = i64::try_from(every_seconds).unwrap_or(i64::MAX);
        Self {
            due: AtomicI64::new(now_seconds.saturating_add(every_seconds)),
            state: Mutex::new(State { stopped: false, every_seconds, last: None, read_bytes: 0 }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last one, to be removed once there is something better.
    pub(super) fn last(&self) -> Option<SnapshotId> {
        self.lock().last
    }

    /// Wakes the thread that makes them, if one is due.
    pub(super) fn tick(&self, now_seconds: i64) {
        if now_seconds >= self.due.load(Ordering::Relaxed) {
            // Not between its look at the clock and its sleep.
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    /// Whether one is due; then nobody else makes it.
    fn take_due(&self, now_seconds: i64) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        let taken = || self.due.compare_exchange(due, i64::MAX, Ordering::Relaxed, Ordering::Relaxed);
        now_seconds >= due && taken().is_ok()
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Waits until one is due; `false` when no more are wanted.
    fn wait(&self, now_seconds: &dyn Fn() -> i64) -> bool {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return false;
            }
            let now = now_seconds();
            // No later than it would be if the clock had not been set back.
            let due = self.due.load(Ordering::Relaxed).min(now.saturating_add(state.every_seconds));
            self.due.store(due, Ordering::Relaxed);
            if now >= due {
                return true;
            }
            let seconds = u64::try_from((due - now).min(SLEEP_SECONDS_MAX)).unwrap_or(1);
            let woken = self.changed.wait_timeout(state, Duration::from_secs(seconds));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Engine<'_> {
    fn now_seconds(&self) -> i64 {
        self.session.repository().runtime().now().seconds()
    }

    /// Looks at the clock, between two pieces of work.
    pub(super) fn tick(&self) {
        if !self.wants_checkpoints() {
            return;
        }
        let now_seconds = self.now_seconds();
        if self.options.checkpoints_beside {
            self.checkpoints.tick(now_seconds);
        } else if self.checkpoints.take_due(now_seconds) {
            self.make_checkpoint(&|| true);
        }
    }

    pub(super) const fn wants_checkpoints(&self) -> bool {
        self.options.checkpoint_every_seconds > 0 && !self.options.dry_run
    }

    /// Life of the thread that makes checkpoints.
    pub(super) fn keep_checkpoints(&self) {
        while self.checkpoints.wait(&|| self.now_seconds()) {
            self.make_checkpoint(&|| !self.checkpoints.is_stopped());
        }
    }

    /// Makes one that is due, and says when the next one is.
    fn make_checkpoint(&self, goes_on: &dyn Fn() -> bool) {
        let result = catch_unwind(AssertUnwindSafe(|| self.checkpoint(goes_on)));
        let every_seconds = self.checkpoints.lock().every_seconds;
        self.checkpoints.due.store(self.now_seconds().saturating_add(every_seconds), Ordering::Relaxed);
        match result {
            Ok(Ok(true)) => self.progress.checkpoint(),
            Ok(Err(error)) if self.session.has_failed() => self.note(Err(error)),
            // Nothing is lost but the checkpoint; the next one may succeed.
            Ok(Ok(false) | Err(_)) => {}
            Err(_) => self.note(Err(Error::Invalid("a checkpoint panicked; this is a bug".into()))),
        }
    }

    /// Puts a checkpoint of what is finished, and removes the one before it. Tells whether: if nothing was read since, it does not.
    pub(super) fn checkpoint(&self, goes_on: &dyn Fn() -> bool) -> Result<bool> {
        let mut summary = self.summary();
        let Some(top) = self.top.get() else { return Ok(false) };
        if summary.bytes_read <= self.checkpoints.lock().read_bytes {
            return Ok(false);
        }
        let Some(root) = partial_tree(self, top)? else { return Ok(false) };
        // All that the tree names is in the threads' frames at the latest. They go on with an empty one each.
        let mut spare = self.session.frame_writer(BlobKind::Data);
        for frames in &self.frames {
            spare.swap(&mut lock(frames));
            spare.flush()?;
        }
        if !goes_on() {
            return Ok(false);
        }
        summary.take_added(self.session.added());
        let parent = self.earlier.parent.as_ref().map(|(id, _)| *id);
        let body = body(self.source, self.options, parent, root, self.owner_names(), summary);
        let Some(id) = self.session.checkpoint(&body, goes_on)? else { return Ok(false) };
        let before = {
            let mut state = self.checkpoints.lock();
            state.read_bytes = summary.bytes_read;
            state.last.replace(id)
        };
        if before.is_some_and(|before| !self.session.remove_checkpoint(&before)) {
            // Where they stay, there shall be few.
            let mut state = self.checkpoints.lock();
            state.every_seconds = state.every_seconds.saturating_mul(2);
        }
        Ok(true)
    }
}

fn lock<'m, 'a>(frames: &'m Mutex<FrameWriter<'a>>) -> MutexGuard<'m, FrameWriter<'a>> {
    frames.lock().unwrap_or_else(PoisonError::into_inner)
}
