//! Tasks on their way from the planner to the threads that carry them out.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::window::Window;
use crate::sink::Sink;

/// A piece of work for one thread.
pub(super) enum Task {
    /// Read, open and write these frames of the window, which lie next to each other in one pack.
    Frames(Range<usize>),
    /// Finish these files of the window, which have no content to fetch.
    Files(Range<usize>),
    /// Make this hole of the window.
    Hole(usize),
}

/// Holds the tasks of one window; the next one is let in when all of them are taken, so that no more than two windows
/// are in memory besides the one that is being planned.
pub(super) struct Queue<S: Sink> {
    state: Mutex<State<S>>,
    changed: Condvar,
}

struct State<S: Sink> {
    window: Option<Arc<Window<S>>>,
    tasks: VecDeque<Task>,
    closed: bool,
}

impl<S: Sink> Queue<S> {
    pub(super) fn new() -> Self {
        let state = State { window: None, tasks: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over a window's tasks, once those of the window before are taken.
    pub(super) fn push(&self, window: Arc<Window<S>>, tasks: Vec<Task>) {
        let mut state = self.state();
        while !state.tasks.is_empty() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.closed {
            state.window = Some(window);
            state.tasks = tasks.into();
            self.changed.notify_all();
        }
    }

    /// The next task and its window, or nothing when there will be none.
    pub(super) fn pop(&self) -> Option<(Arc<Window<S>>, Task)> {
        let mut state = self.state();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                let window = state.window.clone()?;
                if state.tasks.is_empty() {
                    state.window = None;
                    self.changed.notify_all();
                }
                return Some((window, task));
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No more tasks will come; those that are there are still given out.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}

/// Closes the queue when its thread ends, however it ends, so that nobody waits for it.
pub(super) struct CloseOnDrop<'a, S: Sink>(pub(super) &'a Queue<S>);

impl<S: Sink> Drop for CloseOnDrop<'_, S> {
    fn drop(&mut self) {
        self.0.close();
    }
}
