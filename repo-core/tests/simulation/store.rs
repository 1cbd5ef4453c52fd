//! The simulated store: does what [`Store`] promises and nothing more, and as late as it may. Requests fail, answers get lost,
//! listings come in pages and lag behind, processes die in the middle.

use std::sync::Arc;

use repo_core::{
    envelope::object::SEAL_BYTES,
    error::{StoreError, StoreErrorKind},
    store::{Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store, memory::MemoryStore},
};

use crate::{
    count::Event,
    plan::Command,
    world::{Ghost, Object, Seat, State, World},
};

const DAY_MS: u64 = 24 * 3600 * 1000;
const DAY_SECONDS: i64 = 24 * 3600;

/// One process's way to the store.
pub struct SimulatedStore {
    world: Arc<World>,
    actor: usize,
}

/// What happens to an operation.
#[derive(Clone, Copy, Default)]
struct Fate {
    /// Done, and the answer is lost.
    is_lost: bool,
    is_cut: bool,
    /// The process dies after it.
    kills: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the simulation made it fail")]
struct Simulated;

#[derive(Debug, thiserror::Error)]
#[error("the simulation killed the process")]
struct Killed;

impl SimulatedStore {
    pub fn new(world: &Arc<World>, actor: usize) -> Self {
        Self { world: Arc::clone(world), actor }
    }

    fn error(kind: StoreErrorKind, operation: &'static str, object: String) -> StoreError {
        StoreError { kind, operation, object, location: "the simulation".into(), source: Box::new(Simulated) }
    }

    fn killed(operation: &'static str, object: String) -> StoreError {
        let kind = StoreErrorKind::Permanent;
        StoreError { kind, operation, object, location: "the simulation".into(), source: Box::new(Killed) }
    }

    /// How long a request or its answer takes.
    fn pause_ms(&self, shortest_ms: u64) -> u64 {
        let mut state = self.world.lock();
        let rates = self.world.plan.rates;
        if state.chance.per_mille(rates.sleep) {
            state.counts.add(Event::Slept);
            return state.chance.below(20 * DAY_MS);
        }
        if state.chance.per_mille(rates.slow) {
            state.counts.add(Event::Slow);
            return state.chance.below(2 * self.world.plan.delay_ms + 2000);
        }
        shortest_ms * (1 + state.chance.below(20))
    }

    /// Hands the turn over, then begins.
    fn begin(&self, operation: &'static str, object: &dyn ToString) -> Result<Fate, StoreError> {
        let killed = || Self::killed(operation, object.to_string());
        if self.is_stopped(&self.world.lock()) {
            return Err(killed());
        }
        let pause_ms = self.pause_ms(1);
        self.world.turn(self.actor, pause_ms);
        let mut state = self.world.lock();
        if self.is_stopped(&state) {
            return Err(killed());
        }
        state.counts.add(Event::Operations);
        let rates = self.world.plan.rates;
        if state.chance.per_mille(rates.jump) {
            let days = state.chance.pick(&[-3650, -400, -15, -1, 1, 15, 400, 3650]);
            state.counts.add(if days > 0 { Event::ClockForward } else { Event::ClockBack });
            state.seats[self.actor].clock_seconds = days * DAY_SECONDS;
        }
        let mut fate = Fate::default();
        if state.chance.per_mille(rates.crash) {
            if state.chance.per_mille(500) {
                state.kill(self.actor);
                return Err(killed());
            }
            fate.kills = true;
        }
        if state.chance.per_mille(rates.fails) {
            state.counts.add(Event::FailedBefore);
            return Err(self.fails(&mut state, operation, object.to_string()));
        }
        fate.is_lost = state.chance.per_mille(rates.answer_lost);
        fate.is_cut = state.chance.per_mille(rates.cut);
        Ok(fate)
    }

    fn fails(&self, state: &mut State, operation: &'static str, object: String) -> StoreError {
        state.note(self.actor, &format!("{operation} {object} fails"));
        state.seats[self.actor].process.faults += 1;
        Self::error(StoreErrorKind::Retry, operation, object)
    }

    fn is_stopped(&self, state: &State) -> bool {
        state.failure.is_some() || state.seats[self.actor].process.killed
    }

    /// Gives the answer, if it arrives.
    fn end<T>(&self, fate: Fate, operation: &'static str, object: &dyn ToString, answer: T) -> Result<T, StoreError> {
        let pause_ms = self.pause_ms(0);
        if pause_ms > 0 {
            self.world.turn(self.actor, pause_ms);
        }
        let mut state = self.world.lock();
        if fate.kills && !self.is_stopped(&state) {
            state.kill(self.actor);
        }
        if self.is_stopped(&state) {
            return Err(Self::killed(operation, object.to_string()));
        }
        if fate.is_lost {
            state.counts.add(match operation {
                "write" => Event::PutAnswerLost,
                "delete" => Event::DeleteAnswerLost,
                _ => Event::OtherAnswerLost,
            });
            return Err(self.fails(&mut state, operation, object.to_string()));
        }
        Ok(answer)
    }

    /// Counts what shows by what was put.
    fn was_put(&self, state: &mut State, name: &ObjectName, size_bytes: u64) {
        let process = &mut state.seats[self.actor].process;
        if process.failed.take() == Some(*name) {
            state.counts.add(Event::Retried);
        }
        let process = &mut state.seats[self.actor].process;
        let Some(command) = process.command else { return };
        let claimed = process.bodies_put > 0 && !process.sealed;
        let mut event = None;
        match name.place() {
            Place::Snapshots if size_bytes == SEAL_BYTES => process.sealed = true,
            Place::Snapshots if command == Command::Backup && !process.source_finished => {
                process.checkpoints_put += 1;
                process.checkpoint = Some(*name);
            }
            Place::Snapshots => {
                process.bodies_put += 1;
                // A copy goes on with the next snapshot.
                event = (process.sealed && command != Command::Copy).then_some(Event::ExpiredAlive);
                process.sealed = false;
            }
            Place::Locks => {
                process.notes_put += 1;
                if process.notes_put == 2 && command == Command::Backup {
                    process.source_finished = false;
                    event = Some(Event::MadeAnew);
                }
            }
            Place::Index if command == Command::Backup && process.packs_put == 0 && process.notes_put == 0 => {
                event = Some(Event::Adopted);
            }
            Place::Data => {
                process.packs_put += 1;
                if claimed && !process.rescued {
                    process.rescued = true;
                    event = match command {
                        Command::Backup => Some(Event::WriterRescued),
                        Command::Tag | Command::Rewrite => Some(Event::EditRescued),
                        Command::Copy => Some(Event::CopyRescued),
                        _ => None,
                    };
                }
            }
            _ => {}
        }
        if let Some(event) = event {
            state.counts.add(event);
        }
    }

    /// Within the delay, some see what was put or deleted and others do not yet.
    fn has_reached(&self, state: &State, number: u64, since_ms: u64) -> bool {
        let delay_ms = self.world.plan.delay_ms;
        if delay_ms == 0 || state.now_ms >= since_ms + delay_ms {
            return true;
        }
        let mut chance = crate::chance::Chance::new(self.world.plan.seed ^ number << 20, 100 + self.actor as u64);
        chance.per_mille(500) || state.now_ms >= since_ms + chance.below(delay_ms)
    }

    /// An object as this client sees it.
    fn seen(&self, state: &mut State, name: &ObjectName) -> Option<Object> {
        let object = state.objects.get(name)?.clone();
        if object.owner != self.actor && !self.has_reached(state, object.number, object.put_ms) {
            state.counts.add(Event::GetMissed);
            return None;
        }
        Some(object)
    }

    /// One page of a listing, from the names after `after`.
    fn page(&self, state: &mut State, place: Place, after: Option<ObjectName>) -> Vec<ObjectInfo> {
        let (now_ms, delay_ms) = (state.now_ms, self.world.plan.delay_ms);
        while state.ghosts.front().is_some_and(|ghost| ghost.deleted_ms + delay_ms <= now_ms) {
            state.ghosts.pop_front();
        }
        let mut missed = 0;
        let mut entries = Vec::new();
        let is_next = |name: &ObjectName| name.place() == place && after.is_none_or(|after| *name > after);
        for (name, object) in state.objects.iter().filter(|(name, _)| is_next(name)) {
            if self.has_reached(state, object.number, object.put_ms) {
                let modified = Some(State::time(object.put_ms, 0));
                entries.push(ObjectInfo { name: *name, size_bytes: object.bytes.len() as u64, modified });
                if entries.len() == self.world.plan.page_entries {
                    break;
                }
            } else {
                missed += 1;
            }
        }
        let mut shown = 0;
        for ghost in state.ghosts.iter().filter(|ghost| is_next(&ghost.name)) {
            let there = state.objects.contains_key(&ghost.name);
            if !there && !self.has_reached(state, ghost.number, ghost.deleted_ms) {
                let modified = Some(State::time(ghost.put_ms, 0));
                entries.push(ObjectInfo { name: ghost.name, size_bytes: ghost.size_bytes, modified });
                shown += 1;
            }
        }
        state.counts.add_many(Event::ListMissed, missed);
        state.counts.add_many(Event::ListGhost, shown);
        entries.sort_unstable_by_key(|info| info.name);
        entries.truncate(self.world.plan.page_entries);
        entries
    }
}

impl Store for SimulatedStore {
    fn create(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        let fate = self.begin("write", name)?;
        {
            let mut state = self.world.lock();
            if state.objects.contains_key(name) {
                state.put_below(name, bytes, false);
                return Err(Self::error(StoreErrorKind::Exists, "write", name.to_string()));
            }
            let mut stored = bytes;
            if fate.is_cut {
                // Packs may be seen cut short: no index names them. Anything else is seen whole or not at all.
                stored = &bytes[..bytes.len() / 2];
                state.counts.add(if name.place() == Place::Data { Event::PutCutVisible } else { Event::PutCut });
            }
            if !fate.is_cut || name.place() == Place::Data {
                state.sequence += 1;
                let (put_ms, number) = (state.now_ms, state.sequence);
                state.put_below(name, stored, true);
                state.objects.insert(*name, Object { bytes: stored.into(), put_ms, number, owner: self.actor });
            }
            if fate.is_cut {
                return Err(self.fails(&mut state, "write", name.to_string()));
            }
            state.note(self.actor, &format!("put {name} {}", bytes.len()));
            self.was_put(&mut state, name, bytes.len() as u64);
            if fate.is_lost {
                state.seats[self.actor].process.failed = Some(*name);
            }
        }
        self.end(fate, "write", name, ())
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        into.clear();
        let fate = self.begin("read", name)?;
        let answer = {
            let mut state = self.world.lock();
            let seen = self.seen(&mut state, name);
            state.note(self.actor, &format!("get {name} {}", if seen.is_some() { "" } else { "not found" }));
            let memory = MemoryStore::new();
            let is_hidden = seen.is_none() && state.objects.contains_key(name);
            if let Some(object) = seen {
                memory.replace(name, object.bytes);
            }
            let process = &mut state.seats[self.actor].process;
            if fate.is_lost {
                process.failed = Some(*name);
            } else if process.failed.take() == Some(*name) {
                state.counts.add(Event::Retried);
            }
            let answer = memory.get(name, range, into);
            if !is_hidden {
                state.get_below(name, range, answer.as_ref().map(|&()| ()).map_err(|error| error.kind), into);
            }
            answer
        };
        let answer = self.end(fate, "read", name, answer)?;
        if answer.is_err() {
            into.clear();
        }
        answer
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let fate = self.begin("list", &place.name())?;
        let mut after = None;
        let mut before = None;
        loop {
            let page = {
                let mut state = self.world.lock();
                if self.is_stopped(&state) {
                    return Err(Self::killed("list", place.name().into()));
                }
                state.list_below(place);
                let now = state.changes(place);
                if before.is_some_and(|before| before != now) {
                    state.counts.add(Event::PagesShifted);
                }
                before = Some(now);
                let page = self.page(&mut state, place, after);
                state.note(self.actor, &format!("list {} {}", place.name(), page.len()));
                page
            };
            let is_last = page.len() < self.world.plan.page_entries;
            after = page.last().map(|info| info.name);
            page.into_iter().for_each(&mut *visit);
            if fate.is_cut {
                let mut state = self.world.lock();
                state.counts.add(Event::ListCut);
                return Err(self.fails(&mut state, "list", place.name().into()));
            }
            if is_last {
                return self.end(fate, "list", &place.name(), ());
            }
            let pause_ms = self.pause_ms(1);
            self.world.turn(self.actor, pause_ms);
        }
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        let fate = self.begin("look at", name)?;
        let answer = {
            let mut state = self.world.lock();
            state.stat_below(name);
            let seen = self.seen(&mut state, name);
            state.note(self.actor, &format!("stat {name} {}", seen.is_some()));
            seen.map(|object| ObjectInfo {
                name: *name,
                size_bytes: object.bytes.len() as u64,
                modified: Some(State::time(object.put_ms, 0)),
            })
        };
        self.end(fate, "look at", name, answer)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let fate = self.begin("delete", name)?;
        {
            let mut state = self.world.lock();
            state.delete_below(name);
            let removed = state.objects.remove(name);
            state.note(self.actor, &format!("delete {name} {}", removed.is_some()));
            if let Some(object) = removed {
                self.was_deleted(&mut state, name, &object);
            }
        }
        self.end(fate, "delete", name, ())
    }

    fn abilities(&self) -> Abilities {
        Abilities { exclusive_put: true, connections: 0, visibility_delay_ms: self.world.plan.delay_ms }
    }

    fn location(&self) -> String {
        "the simulation".into()
    }
}

impl SimulatedStore {
    fn was_deleted(&self, state: &mut State, name: &ObjectName, object: &Object) {
        state.sequence += 1;
        let (deleted_ms, number) = (state.now_ms, state.sequence);
        let size_bytes = object.bytes.len() as u64;
        state.ghosts.push_back(Ghost { name: *name, size_bytes, put_ms: object.put_ms, deleted_ms, number });
        let is_checkpoint = |seat: &Seat| seat.process.running && seat.process.checkpoint == Some(*name);
        if let Some(whose) = state.seats.iter().position(is_checkpoint) {
            let process = &mut state.seats[whose].process;
            process.checkpoint = None;
            if whose != self.actor {
                state.counts.add(Event::CheckpointExpired);
            } else if !process.source_finished {
                state.counts.add(Event::CheckpointTakenBack);
            }
        }
        let backups = state.seats.iter().any(|seat| seat.process.does(Command::Backup));
        let process = &mut state.seats[self.actor].process;
        let prunes = process.command == Some(Command::Prune);
        process.deleted |= matches!(name.place(), Place::Data | Place::Index | Place::Snapshots);
        if prunes && name.place() == Place::Data && backups {
            state.counts.add(Event::Overlaps);
        }
        // The moment at which something can be lost.
        if name.place() != Place::Locks && state.chance.per_mille(self.world.plan.looks) {
            crate::oracle::look_now(state);
        }
    }
}
