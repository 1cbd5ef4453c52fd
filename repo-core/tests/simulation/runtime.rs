//! Clocks and randomness of the simulated machines.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use repo_core::{runtime::Runtime, store::retry::Pace, time::Timestamp};

use crate::world::World;

/// What a process takes from its machine.
pub struct SimulatedRuntime {
    pub world: Arc<World>,
    pub actor: usize,
    pub process: u32,
    drawn: AtomicU64,
}

impl SimulatedRuntime {
    pub fn new(world: &Arc<World>, actor: usize, process: u32) -> Self {
        Self { world: Arc::clone(world), actor, process, drawn: AtomicU64::new(0) }
    }
}

impl Runtime for SimulatedRuntime {
    fn now(&self) -> Timestamp {
        self.world.lock().clock(self.actor)
    }

    fn random(&self, into: &mut [u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.world.plan.seed.to_le_bytes());
        hasher.update(&self.process.to_le_bytes());
        hasher.update(&self.drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        hasher.finalize_xof().fill(into);
    }

    fn sleep_ms(&self, milliseconds: u64) {
        let stopped = {
            let state = self.world.lock();
            state.failure.is_some() || state.seats[self.actor].process.killed
        };
        if milliseconds > 0 && !stopped {
            self.world.turn(self.actor, milliseconds);
        }
    }

    fn is_running(&self, process: u32) -> bool {
        let state = self.world.lock();
        let host = state.seats[self.actor].host;
        state.seats.iter().any(|seat| seat.host == host && seat.process.running && seat.process.number == process)
    }
}

impl Pace for SimulatedRuntime {
    fn now(&self) -> Duration {
        Duration::from_millis(self.world.lock().now_ms)
    }

    fn sleep(&self, pause: Duration) {
        self.sleep_ms(u64::try_from(pause.as_millis()).unwrap());
    }

    fn jitter(&self, longest: Duration) -> Duration {
        let most = u64::try_from(longest.as_millis()).unwrap();
        Duration::from_millis(self.world.lock().chance.below(most + 1))
    }
}
