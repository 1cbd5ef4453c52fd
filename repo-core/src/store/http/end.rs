//! Requests that are cut when the operation is cancelled: whoever waits for a socket cannot look, so that the agent is shut down below them.

use std::{
    sync::{Arc, Weak},
    thread,
};

use ureq::Agent;

use crate::{
    error::Error,
    store::flow::{self, Flow},
};

/// What sends requests: one agent for what begins before a cancel, and one for the notes after it.
pub(super) struct Agents {
    both: Arc<[Agent; 2]>,
    flow: Flow,
}

impl Agents {
    /// Two agents that are alike.
    pub(super) fn new(before: Agent, after: Agent, flow: Flow) -> Result<Self, Error> {
        let both = Arc::new([before, after]);
        let (watched, watched_flow) = (Arc::downgrade(&both), flow.clone());
        thread::Builder::new()
            .name("store-end".into())
            .spawn(move || watch(&watched, &watched_flow))
            .map_err(|error| Error::Invalid(format!("cannot start a thread: {error}")))?;
        Ok(Self { both, flow })
    }

    /// The one for a request that begins now.
    pub(super) fn now(&self) -> &Agent {
        &self.both[usize::from(self.flow.cancel.is_cancelled())]
    }
}

/// Shuts them down, each in its time; ends with them.
fn watch(agents: &Weak<[Agent; 2]>, flow: &Flow) {
    let ends = [flow.begin_before(), flow.begin_after()];
    let mut next = 0;
    while let (Some(agents), Some(end)) = (agents.upgrade(), ends.get(next)) {
        if end.is_over() {
            agents[next].clone().shutdown();
            next += 1;
        }
        drop(agents);
        thread::sleep(flow::LOOK);
    }
}
