//! The world: time, whose turn it is, and what there is. One actor works at a time; every operation of a store and every sleep hands
//! the turn over to whomever chance picks, so that a seed decides everything that happens.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use repo_core::{
    id::SnapshotId,
    store::{ObjectName, Place, Store, memory::MemoryStore},
    time::Timestamp,
};

use crate::{
    bottom,
    chance::Chance,
    count::{Counts, Event},
    oracle::Model,
    plan::{Command, Plan},
};

/// The world begins then.
pub const EPOCH_SECONDS: i64 = 1_800_000_000;
/// After so many turns it is held that it does not end.
const TURNS_MAX: u64 = 400_000;
/// Real time after which a world that does not end is called a hang, and the same where its objects are in a real store.
const HANG: Duration = Duration::from_mins(2);
const HANG_BELOW: Duration = Duration::from_mins(15);

pub struct World {
    pub plan: Plan,
    state: Mutex<State>,
    /// One for each actor.
    turns: Vec<Condvar>,
    over: Condvar,
}

pub struct State {
    pub chance: Chance,
    pub now_ms: u64,
    pub seats: Vec<Seat>,
    /// What has to be there.
    pub objects: BTreeMap<ObjectName, Object>,
    /// The real store in which it is, if it is not only in memory.
    pub bottom: Option<Arc<dyn Store>>,
    /// What was deleted and may still be listed.
    pub ghosts: VecDeque<Ghost>,
    /// Numbers what is put and deleted.
    pub sequence: u64,
    pub counts: Counts,
    pub model: Model,
    /// What went wrong that must not; everybody stops then.
    pub failure: Option<String>,
    /// Everything that was done, hashed.
    pub trace: blake3::Hasher,
    /// And in words, where somebody wants to read it.
    pub log: bool,
    current: usize,
    step: u64,
    processes: u32,
}

/// An actor: a machine that runs one process after the other.
pub struct Seat {
    pub host: &'static str,
    pub wake_ms: u64,
    pub finished: bool,
    /// By which its clock is wrong.
    pub clock_seconds: i64,
    pub process: Process,
}

/// A process, and what it has done so far.
#[derive(Debug, Clone, Default)]
pub struct Process {
    pub number: u32,
    pub command: Option<Command>,
    pub began_ms: u64,
    pub running: bool,
    /// Killed: whatever it still does has no effect.
    pub killed: bool,
    /// Faults it met.
    pub faults: u32,
    /// The request that failed last.
    pub failed: Option<ObjectName>,
    /// A backup has read all of its source: a body that it puts now is no checkpoint.
    pub source_finished: bool,
    pub checkpoints_put: u32,
    /// The last checkpoint it has put.
    pub checkpoint: Option<ObjectName>,
    pub bodies_put: u32,
    pub packs_put: u32,
    /// What it edits.
    pub edits: Option<SnapshotId>,
    pub sealed: bool,
    pub rescued: bool,
    pub notes_put: u32,
    pub deleted: bool,
}

#[derive(Clone)]
pub struct Object {
    pub bytes: Arc<[u8]>,
    pub put_ms: u64,
    pub number: u64,
    /// Who put it.
    pub owner: usize,
}

pub struct Ghost {
    pub name: ObjectName,
    pub size_bytes: u64,
    pub put_ms: u64,
    pub deleted_ms: u64,
    pub number: u64,
}

impl World {
    pub fn new(plan: Plan, objects: BTreeMap<ObjectName, Object>, model: Model, now_ms: u64, log: bool) -> Arc<Self> {
        Self::over(None, plan, objects, model, now_ms, log)
    }

    /// The same with its objects in a real store, which has them.
    pub fn over(
        bottom: Option<Arc<dyn Store>>,
        plan: Plan,
        objects: BTreeMap<ObjectName, Object>,
        model: Model,
        now_ms: u64,
        log: bool,
    ) -> Arc<Self> {
        let seats: Vec<_> = plan
            .actors
            .iter()
            .map(|actor| Seat {
                host: actor.host,
                wake_ms: now_ms,
                finished: false,
                clock_seconds: 0,
                process: Process::default(),
            })
            .collect();
        let mut chance = Chance::new(plan.seed, 2);
        let current = chance.index(seats.len());
        let turns = seats.iter().map(|_| Condvar::new()).collect();
        let state = State {
            chance,
            now_ms,
            seats,
            objects,
            bottom,
            ghosts: VecDeque::new(),
            sequence: 1_000_000,
            counts: Counts::default(),
            model,
            failure: None,
            trace: blake3::Hasher::new(),
            log,
            current,
            step: 0,
            processes: 100,
        };
        Arc::new(Self { plan, state: Mutex::new(state), turns, over: Condvar::new() })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first turn.
    pub fn enter(&self, actor: usize) {
        let state = self.lock();
        drop(self.turns[actor].wait_while(state, |state| state.current != actor));
    }

    /// Lets so much time pass for an actor, and others work meanwhile.
    pub fn turn(&self, actor: usize, pause_ms: u64) {
        let mut state = self.lock();
        assert_eq!(state.current, actor, "an actor has one thread at a time that works");
        state.step += 1;
        if state.step > TURNS_MAX {
            state.fail("it does not end".into());
        }
        state.seats[actor].wake_ms = state.now_ms + pause_ms;
        self.hand_over(&mut state);
        drop(self.turns[actor].wait_while(state, |state| state.current != actor));
    }

    /// An actor has nothing more to do.
    pub fn leave(&self, actor: usize) {
        let mut state = self.lock();
        state.seats[actor].finished = true;
        self.hand_over(&mut state);
    }

    /// Waits until all have left.
    pub fn wait(&self) -> Result<(), String> {
        let state = self.lock();
        let all_left = |state: &State| state.seats.iter().all(|seat| seat.finished);
        let hang = if state.bottom.is_some() { HANG_BELOW } else { HANG };
        let (state, _) = self.over.wait_timeout_while(state, hang, |state| !all_left(state)).unwrap();
        if all_left(&state) { Ok(()) } else { Err(format!("it hangs; at work is actor {}", state.current)) }
    }

    fn hand_over(&self, state: &mut State) {
        let Some(first) = state.seats.iter().filter(|seat| !seat.finished).map(|seat| seat.wake_ms).min() else {
            self.over.notify_all();
            return;
        };
        state.now_ms = state.now_ms.max(first);
        let now_ms = state.now_ms;
        let is_ready = |seat: &Seat| !seat.finished && seat.wake_ms <= now_ms;
        if is_ready(&state.seats[state.current]) && state.chance.per_mille(self.plan.stays) {
            return;
        }
        let ready: Vec<_> = (0..state.seats.len()).filter(|actor| is_ready(&state.seats[*actor])).collect();
        state.current = state.chance.pick(&ready);
        self.turns[state.current].notify_one();
    }

    /// Starts a process.
    pub fn begin(&self, actor: usize, command: Command) -> Process {
        let mut state = self.lock();
        state.processes += 1;
        let number = state.processes;
        let others = state.seats.iter().any(|seat| seat.process.does(Command::Prune));
        if command == Command::Prune && others {
            state.counts.add(Event::TwoPrunes);
        }
        let process =
            Process { number, command: Some(command), running: true, began_ms: state.now_ms, ..Process::default() };
        state.seats[actor].process = process.clone();
        state.note(actor, &format!("begins {command:?} as process {number}"));
        process
    }
}

impl Process {
    pub fn does(&self, command: Command) -> bool {
        self.running && self.command == Some(command)
    }
}

impl State {
    /// What must not happen has happened.
    pub fn fail(&mut self, what: String) {
        if self.log {
            println!("FAILURE: {what}");
        }
        self.failure.get_or_insert(what);
    }

    /// Takes something that was done into the trace.
    pub fn note(&mut self, actor: usize, what: &str) {
        let line = format!("{:>12} {actor} {what}\n", self.now_ms);
        self.trace.update(line.as_bytes());
        if self.log {
            print!("{line}");
        }
    }

    /// The time of day by an actor's clock.
    pub fn clock(&self, actor: usize) -> Timestamp {
        Self::time(self.now_ms, self.seats[actor].clock_seconds)
    }

    /// The time of day by the store's clock.
    pub fn time(at_ms: u64, wrong_seconds: i64) -> Timestamp {
        let seconds = EPOCH_SECONDS + i64::try_from(at_ms / 1000).unwrap() + wrong_seconds;
        Timestamp::new(seconds, u32::try_from(at_ms % 1000).unwrap() * 1_000_000).unwrap()
    }

    /// Kills an actor's process.
    pub fn kill(&mut self, actor: usize) {
        let process = &mut self.seats[actor].process;
        process.killed = true;
        process.running = false;
        let event = match process.command {
            Some(Command::Backup) if process.sealed => Event::CrashBackupSealed,
            Some(Command::Backup) if process.bodies_put > 0 => Event::CrashBackupClaimed,
            Some(Command::Backup) if process.checkpoints_put > 0 => Event::CrashCheckpointed,
            Some(Command::Backup) => Event::CrashBackupBeforeClaim,
            Some(Command::Prune) if process.deleted => Event::CrashPruneDeleting,
            Some(Command::Prune) if process.notes_put > 1 => Event::CrashPruneMarked,
            Some(Command::Prune) => Event::CrashPruneBeforeMark,
            Some(Command::Forget) => Event::CrashForget,
            Some(Command::Tag | Command::Rewrite) if process.sealed && process.deleted => Event::CrashEditDeleting,
            Some(Command::Tag | Command::Rewrite) if process.sealed => Event::CrashEditSealed,
            Some(Command::Tag | Command::Rewrite) if process.bodies_put > 0 => Event::CrashEditClaimed,
            Some(Command::Tag | Command::Rewrite) => Event::CrashEditBeforeClaim,
            Some(Command::Copy) if process.sealed => Event::CrashCopySealed,
            Some(Command::Copy) if process.bodies_put > 0 => Event::CrashCopyClaimed,
            Some(Command::Copy) => Event::CrashCopyBeforeClaim,
            Some(Command::Read | Command::Check) | None => Event::CrashReader,
        };
        self.counts.add(event);
        self.note(actor, "is killed");
    }

    /// A copy of everything there is, as if the world stood still.
    ///
    /// # Errors
    /// When a real store has something else.
    pub fn frozen(&self) -> Result<MemoryStore, String> {
        let store = MemoryStore::new();
        for (name, object) in &self.objects {
            store.set_time(Self::time(object.put_ms, 0));
            store.replace(name, Arc::clone(&object.bytes));
        }
        if let Some(bottom) = &self.bottom {
            bottom::compare(bottom, &store)?;
        }
        Ok(store)
    }

    /// Names of what is in one place.
    pub fn names(&self, place: Place) -> Vec<ObjectName> {
        self.objects.keys().filter(|name| name.place() == place).copied().collect()
    }

    /// A number that differs when something was put or deleted in a place.
    pub fn changes(&self, place: Place) -> u64 {
        let put = self.objects.iter().filter(|(name, _)| name.place() == place).map(|(_, object)| object.number).max();
        let deleted = self.ghosts.iter().filter(|ghost| ghost.name.place() == place).map(|ghost| ghost.number).max();
        put.max(deleted).unwrap_or_default()
    }
}
