//! Tasks, and which comes next.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// How near to the end of the pipeline a task is: the lower, the sooner it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Bytes that were read and are held in memory.
    Store = 0,
    /// Files that are known and not yet read.
    Read = 1,
    /// Directories that are known and not yet listed.
    Scan = 2,
}

/// A queue of tasks for many threads. The end is reached when no task is left or being worked on: only tasks make tasks.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// First come, first served, so that what is stored lies in the order of the walk.
    store: VecDeque<T>,
    read: VecDeque<T>,
    /// Last come, first served: the walk is depth first, and few directories are open.
    scan: Vec<T>,
    /// Tasks queued or being worked on.
    unfinished: usize,
    stopped: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let state =
            State { store: VecDeque::new(), read: VecDeque::new(), scan: Vec::new(), unfinished: 0, stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds tasks of one stage. Those to scan are taken in the order given here.
    pub(super) fn push(&self, stage: Stage, tasks: impl IntoIterator<Item = T, IntoIter: DoubleEndedIterator>) {
        let mut queues = self.lock();
        let before = queues.store.len() + queues.read.len() + queues.scan.len();
        match stage {
            Stage::Store => queues.store.extend(tasks),
            Stage::Read => queues.read.extend(tasks),
            Stage::Scan => queues.scan.extend(tasks.into_iter().rev()),
        }
        let added = queues.store.len() + queues.read.len() + queues.scan.len() - before;
        queues.unfinished += added;
        drop(queues);
        if added == 1 {
            self.changed.notify_one();
        } else {
            self.changed.notify_all();
        }
    }

    /// Adds a task to be read before all others: the rest of a file that is open.
    pub(super) fn push_next(&self, task: T) {
        let mut state = self.lock();
        state.read.push_front(task);
        state.unfinished += 1;
        drop(state);
        self.changed.notify_one();
    }

    /// The next task; waits for one. `None` when everything is done, or was stopped.
    pub(super) fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.unfinished == 0 {
                return None;
            }
            let found = state.store.pop_front().or_else(|| state.read.pop_front()).or_else(|| state.scan.pop());
            if found.is_some() {
                return found;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that a task that was taken is done, with everything it had to add.
    pub(super) fn finished(&self) {
        let mut state = self.lock();
        state.unfinished = state.unfinished.saturating_sub(1);
        let done = state.unfinished == 0;
        drop(state);
        if done {
            self.changed.notify_all();
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// No task is given out any more.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}
