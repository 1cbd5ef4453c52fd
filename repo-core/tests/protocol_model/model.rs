//! The model: every order in which these processes can do their steps on one store.
//!
//! A crash is a process that is never chosen again, so that every prefix of every run is searched without a step for it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use stateright::{Model, Property};

use crate::{
    config::{Config, Task},
    epilogue,
    process::{Actor, Next, Process, Steps},
    world::{Bits, KINDS, Kind, World, bit},
};

pub(crate) const WHOLE: &str = "every backup has all its blobs, and every reader finds them";
pub(crate) const KEPT: &str = "what was reported as done is a backup until somebody forgets it";
pub(crate) const CLEAN: &str = "who comes later finishes what was left, reclaims all, and can back up";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) world: World,
    /// Shared with the states before and after: in each step only one of them changes.
    pub(crate) processes: Vec<Arc<Process>>,
    /// Bodies that the user was told are backups, and did not ask to forget.
    pub(crate) reported: Bits,
}

#[derive(Clone, PartialEq)]
pub(crate) struct Action {
    who: usize,
    next: Next,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, about) = self.next.what;
        write!(f, "{}: {what} {about:b}", self.who)
    }
}

pub(crate) struct Search {
    pub(crate) config: Arc<Config>,
    slots: Vec<[Bits; KINDS]>,
    pub(crate) events: Arc<AtomicU16>,
}

impl Search {
    pub(crate) fn new(config: Config) -> Self {
        let first = Self::first_world(&config);
        let mut used = std::array::from_fn::<_, KINDS, _>(|kind| first.counts()[kind]);
        let mut slots = Vec::new();
        for script in &config.scripts {
            let mut own = [0; KINDS];
            for (kind, used) in used.iter_mut().enumerate() {
                let count: u32 = script.iter().map(|task| room(*task, config.rescues)[kind]).sum();
                assert!(*used + count <= Bits::BITS, "{}: the model has too little room", config.name);
                own[kind] = (*used..*used + count).fold(0, |own, slot| own | 1 << slot);
                *used += count;
            }
            slots.push(own);
        }
        Self { config: Arc::new(config), slots, events: Arc::new(AtomicU16::new(0)) }
    }

    fn first_world(config: &Config) -> World {
        let mut world = World::new(config.delayed);
        let mut put = |kind, about| world.put(kind, about, Bits::MAX).expect("few");
        for blobs in config.packs {
            put(Kind::Packs, *blobs);
        }
        for packs in config.runs {
            put(Kind::Runs, *packs);
        }
        let bodies: Vec<_> = config.bodies.iter().map(|blobs| put(Kind::Bodies, *blobs)).collect();
        if config.one_seal {
            put(Kind::Seals, bodies.iter().fold(0, |all, body| all | bit(*body)));
        } else {
            for body in bodies {
                put(Kind::Seals, bit(body));
            }
        }
        if let Some(unsettled) = world.unsettled() {
            world.settle(&unsettled);
        }
        world
    }
}

/// How many objects of each kind a task puts at most.
fn room(task: Task, rescues: u32) -> [u32; KINDS] {
    match task {
        Task::Backup(_) => [1 + rescues, 1 + rescues, 2, 2, 0, 0],
        Task::Store(_) => [1, 1, 0, 0, 0, 0],
        Task::Edit | Task::Lean => [rescues, rescues, 2, 2, 0, 0],
        Task::Prune => [1 + rescues, 2 + rescues, 0, 0, 1, 0],
        Task::Expire => [0, 0, 0, 0, 0, 1],
        Task::AdoptNotes => [0, 0, 0, 0, 0, 2],
        Task::Forget(_) => [0, 0, 0, 1, 0, 0],
        Task::ForgetOld => [0; KINDS],
    }
}

impl Model for Search {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let world = Self::first_world(&self.config);
        let processes: Vec<_> = self.config.scripts.iter().map(|script| Arc::new(Process::new(script))).collect();
        let forgotten = |forgotten, (process, script): (&Arc<Process>, &Vec<Task>)| {
            forgotten | process.forgets(script.first().copied())
        };
        let forgotten = processes.iter().zip(&self.config.scripts).fold(0, forgotten);
        vec![State { world, processes, reported: world.committed() & !forgotten }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (who, process) in state.processes.iter().enumerate() {
            let actor = Actor {
                config: &self.config,
                script: &self.config.scripts[who],
                slots: self.slots[who],
                tidies: false,
            };
            for next in Steps::of(actor, &state.world, process) {
                self.events.fetch_or(next.events, Ordering::Relaxed);
                actions.push(Action { who, next });
            }
        }
    }

    fn next_state(&self, state: &State, Action { who, next }: Action) -> Option<State> {
        let mut processes = state.processes.clone();
        processes[who] = Arc::new(next.process);
        Some(State { world: next.world, processes, reported: (state.reported | next.reported) & !next.forgets })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(WHOLE, |_, state: &State| state.world.is_whole()),
            Property::always(KEPT, |_, state: &State| state.reported & !state.world.committed() == 0),
        ];
        if self.config.cleans_up {
            properties.push(Property::always(CLEAN, |search: &Self, state: &State| {
                epilogue::cleans_up(&search.config, &state.world).is_ok()
            }));
        }
        properties
    }
}
