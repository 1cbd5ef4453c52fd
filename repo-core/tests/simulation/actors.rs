//! What the machines do: real backups, prunes, forgets, edits, copies, reads and checks, each in a process of its own; and which errors they may
//! end with.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use repo_core::{
    backup::{BackupOptions, Parent, backup},
    check::{CheckOptions, ReadData, check},
    copy::{self, CopyOptions, copy},
    edit::{self, EditOptions, TagChange, edit},
    error::{Error, Result},
    forget::{Plan, forget},
    id::SnapshotId,
    progress::{Cancel, Progress, Silent},
    prune::{PruneOptions, plan::MaxUnused, prune},
    repository::{Repository, notes},
    runtime::Runtime,
    snapshot::{Listing, Snapshot},
    store::{
        ObjectName, Place, Store,
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
                Error::PrunedAway | Error::Vanished { .. } => state.counts.add(Event::PrunedAway),
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
    let writes = matches!(command, Command::Backup | Command::Tag | Command::Rewrite | Command::Copy);
    match error {
        Error::Store(_) => met_faults,
        Error::PrunedAway | Error::Vanished { .. } => writes,
        Error::Refused(_) => command == Command::Prune,
        // It was taken for left behind: its body expired, and what it needs was pruned.
        Error::Damaged(_) => writes && seems_dead,
        _ => false,
    }
}

/// Counts checkpoints.
struct Counting<'a>(&'a World);

impl Progress for Counting<'_> {
    fn checkpoint(&self) {
        self.0.lock().counts.add(Event::Checkpoints);
    }
}

/// Whether something that was there is not there any more.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::NoSnapshot { .. }) || error.is_damage()
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
            Command::Tag => self.edit(&repository, false),
            Command::Rewrite => self.edit(&repository, true),
            Command::Copy => self.copy(&repository),
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
        let (has_parent, checkpoint_every_seconds) = {
            let mut state = self.world.lock();
            (state.chance.per_mille(700), state.chance.pick(&[0, 1, 3]))
        };
        let options = BackupOptions {
            threads: Some(1),
            label: Some(label.into()),
            tags: vec![number.to_string()],
            parent: if has_parent { Parent::Newest } else { Parent::None },
            note: Some(self.note("backup")),
            checkpoint_every_seconds,
            // A thread would go by itself, which no seed decides.
            checkpoints_beside: false,
            ..BackupOptions::new(self.host(), "user", "simulation")
        };
        let source = self.source(&tree, checkpoint_every_seconds > 0);
        let source = if self.world.lock().chance.per_mille(300) { source.read_once() } else { source };
        let report = backup(repository, &source, &options, &Counting(self.world), &Cancel::default())?;
        let mut state = self.world.lock();
        // The user hears of it only while the process lives.
        if !state.seats[self.actor].process.killed {
            state.counts.add(Event::Backups);
            state.counts.add_many(Event::WentOn, u64::from(!report.unfinished.is_empty()));
            state.model.committed.insert(report.snapshot.expect("it was no dry run"), number);
            if report.problem_count > 0 {
                state.fail(format!("a backup has problems: {:?}", report.problems));
            }
            oracle::look_now(&mut state);
        }
        Ok(())
    }

    /// A source with these files, which takes its time if it is slow.
    fn source(&self, tree: &Tree, slow: bool) -> ModelSource {
        let (world, actor, runtime) = (Arc::clone(self.world), self.actor, Arc::clone(&self.runtime));
        ModelSource::hooked(&tree.thing(), move |call| {
            if call.what == "finish the source" {
                world.lock().seats[actor].process.source_finished = true;
            }
            if slow && call.what == "read" {
                let pause_ms = world.lock().chance.pick(&[0, 0, 300, 1500]);
                runtime.sleep_ms(pause_ms);
            }
        })
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
            for (id, snapshot) in listing.snapshots.iter().filter(|(id, _)| chosen.contains(id)) {
                state.model.touches(id, snapshot);
            }
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

    /// Gives a snapshot another number, and leaves out some of it if it rewrites; mostly the old one goes.
    fn edit(&self, repository: &Arc<Repository>, rewrites: bool) -> Result<()> {
        let listing = Listing::read(repository)?;
        if listing.snapshots.is_empty() {
            return Ok(());
        }
        let (id, number, forget, left_out) = {
            let state = &mut *self.world.lock();
            let (id, snapshot) = &listing.snapshots[state.chance.index(listing.snapshots.len())];
            let tree = state.model.tree_of(snapshot);
            let (tree, left_out) = if rewrites {
                let (tree, path) = tree.without(&mut state.chance);
                (tree, Some(path))
            } else {
                (tree, None)
            };
            state.model.made.push(tree);
            let number = state.model.made.len() - 1;
            let forget = !rewrites || state.chance.per_mille(700);
            if forget {
                state.model.touches(id, snapshot);
                state.model.editing.entry(*id).or_default().push(number);
            }
            let others =
                state.seats.iter().filter(|seat| seat.process.running && seat.process.edits == Some(*id)).count();
            state.counts.add_many(Event::TwoEdits, others as u64);
            state.seats[self.actor].process.edits = Some(*id);
            (*id, number, forget, left_out)
        };
        let mut options = EditOptions {
            forget,
            note: Some(self.note("edit")),
            ..EditOptions::tags(TagChange::Set(vec![number.to_string()]))
        };
        if let Some(path) = left_out {
            options.exclude.rules.pattern(format!("/{path}").as_bytes()).expect("it is a pattern");
            options.exclude.patterns.push(format!("/{path}"));
        }
        let edited = edit(repository, &listing, &[id], &options, &Silent, &Cancel::default());
        let state = &mut *self.world.lock();
        if state.seats[self.actor].process.killed {
            return Ok(());
        }
        let mut report = match edited {
            // Forgotten or replaced by somebody else, and its data perhaps pruned since.
            Err(error) if is_gone(&error) && state.model.is_touched_by_others(&id, number) => {
                state.counts.add(Event::EditVanished);
                return Ok(());
            }
            edited => edited?,
        };
        let outcome = report.edits.pop().map(|edit| edit.outcome);
        let (new, result) = match outcome {
            Some(edit::Outcome::Made(Some(new))) => {
                state.counts.add(if rewrites { Event::Rewritten } else { Event::Tagged });
                if forget && state.objects.contains_key(&ObjectName::new(Place::Snapshots, id)) {
                    state.fail(format!("snapshot {id} was replaced, and is still there"));
                }
                (new, Ok(()))
            }
            Some(edit::Outcome::Doubled(new, error)) => {
                state.counts.add(Event::Doubled);
                (new, Err(error))
            }
            outcome => {
                state.fail(format!("an edit ends with {outcome:?}"));
                return Ok(());
            }
        };
        state.model.committed.insert(new, number);
        oracle::look_now(state);
        result
    }

    /// Copies some snapshots of another repository, with which nothing happens.
    fn copy(&self, repository: &Arc<Repository>) -> Result<()> {
        let source = crate::other();
        let listing = Listing::read(source)?;
        let (ids, window_blobs) = {
            let mut state = self.world.lock();
            let ids = listing.snapshots.iter().map(|(id, _)| *id);
            let ids: Vec<_> = ids.filter(|_| state.chance.per_mille(500)).collect();
            (ids, state.chance.pick(&[1, 4, 1000]))
        };
        let note = Some(self.note("copy"));
        let options = CopyOptions { threads: Some(1), window_blobs, note, ..CopyOptions::default() };
        let report = copy(source, &listing, &ids, repository, &options, &Silent, &Cancel::default())?;
        let state = &mut *self.world.lock();
        if state.seats[self.actor].process.killed {
            return Ok(());
        }
        let mut result = Ok(());
        for copied in report.copies {
            match copied.outcome {
                copy::Outcome::Made(Some(new)) => {
                    state.counts.add(Event::Copied);
                    state.model.committed.insert(new, oracle::number_of(&copied.snapshot));
                }
                copy::Outcome::WasThere(_) => state.counts.add(Event::CopyThere),
                copy::Outcome::Made(None) => state.fail("a copy was made, and is nowhere".into()),
                copy::Outcome::Failed(error) => result = Err(error),
            }
        }
        oracle::look_now(state);
        result
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
            Err(error) if error.is_damage() && self.world.lock().model.is_touched(id) => {
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
