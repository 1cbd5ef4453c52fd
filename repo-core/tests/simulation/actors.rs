//! What the machines do: real backups, prunes, forgets, reads and checks, each in a process of its own; and which errors they may
//! end with.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use repo_core::{
    backup::{BackupOptions, Parent, backup},
    check::{CheckOptions, ReadData, check},
    error::{Error, Result},
    forget::{Plan, forget},
    id::SnapshotId,
    progress::{Cancel, Silent},
    prune::{PruneOptions, plan::MaxUnused, prune},
    repository::{Repository, notes},
    runtime::Runtime,
    snapshot::{Listing, Snapshot},
    store::{
        Store,
        retry::{RetryPolicy, RetryStore},
    },
};

use crate::{
    common::model::ModelSource, count::Event, oracle, plan::Command, runtime::SimulatedRuntime, store::SimulatedStore,
    tree::Tree, world::World,
};

/// Longer than any process takes that does not sleep.
const LONG_MS: u64 = DAY_MS;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Life of an actor.
pub fn live(world: &Arc<World>, actor: usize) {
    world.enter(actor);
    for command in &world.plan.actors[actor].commands {
        let pause_ms = {
            let mut state = world.lock();
            if state.failure.is_some() {
                break;
            }
            state.chance.pick(&[10, 1000, 100_000])
        };
        world.turn(actor, pause_ms);
        run(world, actor, *command);
    }
    world.leave(actor);
}

/// Runs one process, and judges how it ended.
pub fn run(world: &Arc<World>, actor: usize, command: Command) {
    let process = world.begin(actor, command);
    let result = catch_unwind(AssertUnwindSafe(|| At::new(world, actor, process.number).run(command)));
    let mut state = world.lock();
    state.seats[actor].process.running = false;
    let text = match &result {
        Ok(Ok(())) => "is done".to_owned(),
        Ok(Err(error)) => format!("fails: {}", error.chain()),
        Err(_) => "panics".to_owned(),
    };
    state.note(actor, &text);
    let process = state.seats[actor].process.clone();
    match result {
        Err(_) => state.fail(format!("{command:?} panicked")),
        // Whatever a process that was killed says, nobody hears it.
        _ if process.killed || state.failure.is_some() => {}
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            match &error {
                Error::PrunedAway => state.counts.add(Event::PrunedAway),
                Error::Damaged(_) if command == Command::Backup => state.counts.add(Event::PrunedUnclaimed),
                Error::Refused(_) if command == Command::Prune => state.counts.add(Event::PruneRefused),
                _ => {}
            }
            let seems_dead = state.now_ms - process.began_ms > LONG_MS || world.plan.rates.jump > 0;
            if !may_end_with(&error, command, process.faults > 0, seems_dead) {
                state.fail(format!("{command:?} ends with an error that nothing explains: {}", error.chain()));
            }
        }
    }
}

/// Whether an error is one that a user may get. `seems_dead` is whether others may have taken its process for one that is over: it slept,
/// or their clocks are wrong.
fn may_end_with(error: &Error, command: Command, met_faults: bool, seems_dead: bool) -> bool {
    match error {
        Error::Store(_) => met_faults,
        Error::PrunedAway => command == Command::Backup,
        Error::Refused(_) => command == Command::Prune,
        // What it had stored and not yet claimed was pruned.
        Error::Damaged(damage) if damage.reason.ends_with("run again") => command == Command::Backup,
        // It was taken for left behind: its body expired, and what it needs was pruned.
        Error::Damaged(_) => command == Command::Backup && seems_dead,
        _ => false,
    }
}

/// A process at work.
struct At<'a> {
    world: &'a Arc<World>,
    actor: usize,
    process: u32,
    runtime: Arc<SimulatedRuntime>,
}

impl<'a> At<'a> {
    fn new(world: &'a Arc<World>, actor: usize, process: u32) -> Self {
        Self { world, actor, process, runtime: Arc::new(SimulatedRuntime::new(world, actor, process)) }
    }

    fn run(&self, command: Command) -> Result<()> {
        let repository = self.open()?;
        match command {
            Command::Backup => self.backup(&repository),
            Command::Prune => self.prune(&repository),
            Command::Forget => self.forget(&repository),
            Command::Read => self.read(&repository),
            Command::Check => self.check(&repository),
        }
    }

    fn open(&self) -> Result<Arc<Repository>> {
        let store = SimulatedStore::new(self.world, self.actor);
        let store: Arc<dyn Store> = if self.world.plan.actors[self.actor].retries {
            let retry = RetryStore::new(store, RetryPolicy::default(), Cancel::default(), |_| {});
            Arc::new(retry.with_pace(Arc::<SimulatedRuntime>::clone(&self.runtime)))
        } else {
            Arc::new(store)
        };
        let runtime: Arc<dyn Runtime> = Arc::<SimulatedRuntime>::clone(&self.runtime);
        Ok(Arc::new(Repository::open(store, runtime, b"secret", None)?))
    }

    fn host(&self) -> &'static str {
        self.world.plan.actors[self.actor].host
    }

    fn note(&self, operation: &str) -> notes::Session {
        notes::Session {
            operation: operation.into(),
            host: self.host().into(),
            user: "user".into(),
            process: self.process,
            started: self.runtime.now(),
        }
    }

    fn count(&self, event: Event, count: u64) {
        self.world.lock().counts.add_many(event, count);
    }

    fn backup(&self, repository: &Arc<Repository>) -> Result<()> {
        let (tree, number, label) = {
            let state = &mut *self.world.lock();
            let tree = match state.model.made.last() {
                Some(last) if state.chance.per_mille(600) => last.changed(&mut state.chance),
                _ => Tree::new(&mut state.chance),
            };
            state.model.made.push(tree);
            (tree, state.model.made.len() - 1, state.chance.pick(&["one", "two"]))
        };
        let has_parent = self.world.lock().chance.per_mille(700);
        let options = BackupOptions {
            threads: Some(1),
            label: Some(label.into()),
            tags: vec![number.to_string()],
            parent: if has_parent { Parent::Newest } else { Parent::None },
            note: Some(self.note("backup")),
            // Their thread goes by itself, which no seed decides.
            checkpoint_every_seconds: 0,
            ..BackupOptions::new(self.host(), "user", "simulation")
        };
        let source = ModelSource::new(&tree.thing());
        let source = if self.world.lock().chance.per_mille(300) { source.read_once() } else { source };
        let report = backup(repository, &source, &options, &Silent, &Cancel::default())?;
        let mut state = self.world.lock();
        // The user hears of it only while the process lives.
        if !state.seats[self.actor].process.killed {
            state.counts.add(Event::Backups);
            state.model.committed.insert(report.snapshot.expect("it was no dry run"), number);
            if report.problem_count > 0 {
                state.fail(format!("a backup has problems: {:?}", report.problems));
            }
            oracle::look_now(&mut state);
        }
        Ok(())
    }

    fn prune(&self, repository: &Arc<Repository>) -> Result<()> {
        let (max_unused, max_repack_bytes) = {
            let mut state = self.world.lock();
            let some = [MaxUnused::Bytes(0), MaxUnused::Bytes(0), MaxUnused::Percent(5.0), MaxUnused::Unlimited];
            (state.chance.pick(&some), state.chance.pick(&[None, None, None, Some(10_000)]))
        };
        let note = Some(self.note("prune"));
        let options = PruneOptions { max_unused, max_repack_bytes, threads: Some(1), note, ..PruneOptions::default() };
        let report = prune(repository, &options, &Silent, &Cancel::default())?;
        let mut state = self.world.lock();
        let others = state.seats.iter().filter(|seat| seat.process.does(Command::Prune)).count() > 1;
        state.counts.add(Event::Prunes);
        state.counts.add_many(Event::PacksDeleted, report.packs_deleted);
        state.counts.add_many(Event::PrunerRescued, report.rescues.into());
        state.counts.add_many(Event::Expired, report.expired.len() as u64);
        let adopted = if others { Event::LiveMarkAdopted } else { Event::MarkAdopted };
        state.counts.add_many(adopted, report.marks_finished);
        Ok(())
    }

    /// A listing; nothing in it may be damaged.
    fn list(&self, repository: &Repository) -> Result<Vec<(SnapshotId, Snapshot)>> {
        let listing = Listing::read(repository)?;
        if let Some(damage) = listing.damaged.first() {
            self.world.lock().fail(format!("a snapshot is damaged: {}", damage.chain()));
        }
        Ok(listing.snapshots)
    }

    fn forget(&self, repository: &Arc<Repository>) -> Result<()> {
        let listing = Listing::read(repository)?;
        let ids = {
            let mut state = self.world.lock();
            let mut ids: Vec<_> = listing.snapshots.iter().map(|(id, _)| *id).collect();
            let count = state.chance.below(3).min(ids.len().saturating_sub(1) as u64);
            let chosen: BTreeSet<_> = (0..count).map(|_| ids.swap_remove(state.chance.index(ids.len()))).collect();
            state.model.forgetting.extend(&chosen);
            chosen
        };
        if ids.is_empty() {
            return Ok(());
        }
        let plan = Plan::by_ids(&listing, &ids, false, self.runtime.now())?;
        let report = forget(repository, &plan, &Cancel::default())?;
        self.count(Event::Forgets, report.forgotten.len() as u64);
        Ok(())
    }

    fn read(&self, repository: &Arc<Repository>) -> Result<()> {
        let snapshots = self.list(repository)?;
        if snapshots.is_empty() {
            return Ok(());
        }
        let (id, snapshot) = &snapshots[self.world.lock().chance.index(snapshots.len())];
        let tree = self.world.lock().model.tree_of(snapshot);
        // Reading takes long; meanwhile it may be forgotten and pruned.
        let pause_ms = {
            let mut state = self.world.lock();
            if state.chance.per_mille(300) { state.chance.below(DAY_MS) } else { 1 }
        };
        self.runtime.sleep_ms(pause_ms);
        match oracle::compare(repository, snapshot, &tree) {
            Ok(None) => self.count(Event::Reads, 1),
            Ok(Some(difference)) => self.world.lock().fail(format!("a reader got wrong bytes of {id}: {difference}")),
            Err(error) if error.is_damage() && self.world.lock().model.forgetting.contains(id) => {
                self.count(Event::ForgottenUnderReader, 1);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn check(&self, repository: &Arc<Repository>) -> Result<()> {
        let options = CheckOptions { read_data: ReadData::All, threads: 1 };
        let report = check(repository, options, &Silent, &Cancel::default())?;
        let mut state = self.world.lock();
        state.counts.add(Event::Checks);
        let process = &state.seats[self.actor].process;
        if !report.is_clean() && !process.killed && process.faults == 0 {
            state.fail(format!("a check finds {:#?}", report.findings));
        }
        Ok(())
    }
}
