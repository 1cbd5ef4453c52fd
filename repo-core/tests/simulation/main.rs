//! Everything at once, from a seed: several machines back up, prune, forget, edit, copy, read and check in one repository, over a store that is
//! as slow, as late and as unreliable as it may be, while processes are killed, sleep for days and have wrong clocks.
//!
//! What works is the real code; what is simulated is the store, the clock, chance, and whose turn it is. A seed decides all of it.
//!
//! ```text
//! world    time, turns, what there is
//! store    a process's way to the store, and what goes wrong on it
//! bottom   a real store in which the objects are, in place of memory
//! seaweed  the same seeds in buckets of a real server
//! runtime  clocks and random bytes
//! plan     what a seed decides beforehand
//! actors   what the machines do, and how it may end
//! oracle   what must be true
//! count    what happened, by kind: a kind that never happens fails the run
//! ```
//!
//! `COFFER_SIMULATION_SEED=17` replays one seed and tells what happens; `COFFER_SIMULATION_SEEDS=100000` runs so many, and
//! `COFFER_SIMULATION_BUCKET_SEEDS=1000` so many in buckets.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test may panic, tells what it did, and is no library"
)]

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "s3")]
#[path = "../common/servers/mod.rs"]
mod servers;

mod actors;
mod bottom;
mod chance;
mod count;
mod oracle;
mod plan;
mod runtime;
#[cfg(feature = "s3")]
mod seaweed;
mod store;
mod tree;
mod world;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use repo_core::{
    crypto::kdf::KdfCost,
    progress::{Cancel, Silent},
    prune::{PruneOptions, plan::MaxUnused, prune},
    repository::{InitOptions, Repository, config::Parameters},
    snapshot::Listing,
    store::{ObjectName, Place, Store},
};

use crate::{
    count::{Counts, Event},
    oracle::Model,
    plan::{Command, Plan},
    runtime::SimulatedRuntime,
    store::SimulatedStore,
    world::{Object, World},
};

/// Seeds of a run that nobody asked for more of.
const SEEDS: u64 = 4000;
/// Prunes after which nothing must be left that nobody needs. Moving frames whole may bring copies together that the next one removes.
const LAST_PRUNES_MAX: u32 = 3;
/// The seed of the repository that every simulation begins with.
const BASE_SEED: u64 = u64::MAX;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// What every simulation begins with: a repository with some snapshots.
struct Base {
    objects: BTreeMap<ObjectName, Object>,
    model: Model,
    now_ms: u64,
    /// Another one, to copy from. Nothing happens in it.
    other: Arc<Repository>,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        // All that is made has a number of its own, in both.
        let (objects, model, _) = repository(BASE_SEED - 1, Model::default());
        let other = World::new(Plan::calm(0, 0), objects, Model::default(), 0, false);
        let other = oracle::open(other.lock().frozen().unwrap());
        let made = Model { made: model.made, ..Model::default() };
        let (objects, model, now_ms) = repository(BASE_SEED, made);
        Base { objects, model, now_ms, other }
    })
}

/// The repository to copy from.
fn other() -> &'static Arc<Repository> {
    &base().other
}

/// A repository with some snapshots.
fn repository(seed: u64, model: Model) -> (BTreeMap<ObjectName, Object>, Model, u64) {
    let world = World::new(Plan::calm(seed, 0), BTreeMap::new(), model, 0, false);
    let options = InitOptions {
        password: b"secret",
        host: "alpha".into(),
        user: "user".into(),
        kdf_cost: KdfCost::TEST,
        parameters: Parameters::tiny(),
    };
    let runtime = Arc::new(SimulatedRuntime::new(&world, 0, 1));
    world.enter(0);
    Repository::init(Arc::new(SimulatedStore::new(&world, 0)), runtime, &options).unwrap();
    for _ in 0..3 {
        actors::run(&world, 0, Command::Backup);
    }
    let state = world.lock();
    assert_eq!(state.failure, None);
    assert_eq!(state.model.committed.len(), 3);
    (state.objects.clone(), state.model.clone(), state.now_ms + DAY_MS)
}

/// What came of a seed.
struct Outcome {
    counts: Counts,
    trace: String,
    failure: Option<String>,
}

/// Runs a seed, in an empty real store if there is one.
fn simulate(seed: u64, log: bool, bottom: Option<Arc<dyn Store>>) -> Outcome {
    let Base { objects, model, now_ms, .. } = base();
    let plan = Plan::new(seed);
    if log {
        println!("{plan:#?}");
    }
    if let Some(bottom) = &bottom {
        for (name, object) in objects {
            bottom.put(name, &object.bytes).expect("the real store takes it");
        }
    }
    let world = World::over(bottom, plan, objects.clone(), model.clone(), *now_ms, log);
    let threads: Vec<_> = (0..world.plan.actors.len())
        .map(|actor| {
            let world = Arc::clone(&world);
            std::thread::spawn(move || actors::live(&world, actor))
        })
        .collect();
    if let Err(hang) = world.wait() {
        return Outcome { counts: Counts::default(), trace: String::new(), failure: Some(hang) };
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let mut counts = world.lock().counts.clone();
    let mut failure = world.lock().failure.clone();
    let mut trace = world.lock().trace.clone();
    if failure.is_none() {
        let calm = aftermath(&world, log);
        let state = calm.lock();
        counts.merge(&state.counts);
        failure.clone_from(&state.failure);
        trace.update(state.trace.finalize().as_bytes());
    }
    counts.add(Event::Seeds);
    Outcome { counts, trace: trace.finalize().to_hex().to_string(), failure }
}

/// Long after, when nobody works: everything is there, and a few prunes leave nothing that nobody needs.
fn aftermath(world: &World, log: bool) -> Arc<World> {
    let calm = {
        let mut state = world.lock();
        oracle::look_now(&mut state);
        let mut model = state.model.clone();
        if state.failure.is_none()
            && let Err(what) = state.frozen().and_then(|store| oracle::check_all(&oracle::open(store), &model, false))
        {
            state.fail(what);
        }
        // What was not reported may be there or not; from now on it stays as it is.
        (model.forgetting, model.editing) = Default::default();
        if state.failure.is_none() {
            let there = Listing::read(&oracle::open(state.frozen().unwrap())).expect("it was just read").snapshots;
            model.committed = there.iter().map(|(id, snapshot)| (*id, oracle::number_of(snapshot))).collect();
        }
        let plan = Plan::calm(!world.plan.seed, world.plan.delay_ms);
        let now_ms = state.now_ms + 40 * DAY_MS;
        let calm = World::over(state.bottom.clone(), plan, state.objects.clone(), model, now_ms, log);
        calm.lock().failure.clone_from(&state.failure);
        calm
    };
    calm.enter(0);
    if calm.lock().failure.is_none()
        && let Err(what) = tidy(&calm)
    {
        calm.lock().fail(what);
    }
    calm
}

fn tidy(calm: &Arc<World>) -> Result<(), String> {
    let process = calm.begin(0, Command::Prune);
    let runtime = Arc::new(SimulatedRuntime::new(calm, 0, process.number));
    let store = Arc::new(SimulatedStore::new(calm, 0));
    let repository = Repository::open(store, runtime, b"secret", None).map_err(|error| error.chain())?;
    let repository = Arc::new(repository);
    let options = PruneOptions { max_unused: MaxUnused::Bytes(0), threads: Some(1), ..PruneOptions::default() };
    let prune = |options: &PruneOptions| {
        let report = prune(&repository, options, &Silent, &Cancel::default());
        report.map_err(|error| format!("the last prune fails: {}", error.chain()))
    };
    for number in 0.. {
        prune(&options)?;
        oracle::look_now(&mut calm.lock());
        let report = prune(&PruneOptions { dry_run: true, ..options.clone() })?;
        if report.plan.victims.is_empty() && report.blobs.unused == 0 && report.blobs.duplicate == 0 {
            break;
        }
        calm.lock().note(0, &format!("prune {number} leaves {:?} {:?}", report.plan.victims, report.blobs));
        if number == LAST_PRUNES_MAX {
            return Err(format!("after the last prune there is more to prune: {report:?}"));
        }
    }
    let mut left = calm.lock().names(Place::Locks);
    // A note that a dead expirer has left on what turned out to be a backup stays until that is forgotten.
    for (note, expiring) in repository.notes().map_err(|error| error.chain())?.expire_notes {
        if calm.lock().model.committed.contains_key(&expiring.body) {
            left.retain(|name| *name != ObjectName::new(Place::Locks, note));
        }
    }
    if !left.is_empty() {
        return Err(format!("after the last prune there is still {left:?}"));
    }
    let (frozen, model) = {
        let state = calm.lock();
        (state.frozen()?, state.model.clone())
    };
    oracle::check_all(&oracle::open(frozen), &model, true)?;
    actors::run(calm, 0, Command::Backup);
    Ok(())
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn replay_command(seed: u64, test: &str) -> String {
    format!("COFFER_SIMULATION_SEED={seed} cargo test -p repo-core --test simulation -- --nocapture {test}")
}

/// Runs seeds on all processors, and none after `end`, if there is one; tells what happened, and fails with what failed.
fn run_seeds(seeds: Range<u64>, end: Option<Instant>, test: &str, simulate: impl Fn(u64) -> Outcome + Sync) -> Counts {
    let (next, start) = (AtomicU64::new(seeds.start), Instant::now());
    let counts = Mutex::new(Counts::default());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = end.is_some_and(|end| Instant::now() >= end);
                    if seed >= seeds.end || is_over || failures.lock().unwrap().len() >= 5 {
                        break;
                    }
                    let outcome = simulate(seed);
                    counts.lock().unwrap().merge(&outcome.counts);
                    if let Some(failure) = outcome.failure {
                        println!("seed {seed}: {failure}\n    {}", replay_command(seed, test));
                        failures.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    println!("{counts}{:>10}  seconds", start.elapsed().as_secs());
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "seeds {failures:?} fail; {}", replay_command(failures[0], test));
    counts
}

#[test]
fn seeds() {
    if let Some(seed) = number_of("COFFER_SIMULATION_SEED") {
        let outcome = simulate(seed, true, None);
        println!("{}trace {}", outcome.counts, outcome.trace);
        assert_eq!(outcome.failure, None);
        return;
    }
    let seeds = number_of("COFFER_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let first = number_of("COFFER_SIMULATION_FIRST").unwrap_or(0);
    let counts = run_seeds(first..first + seeds, None, "seeds", |seed| simulate(seed, false, None));
    if seeds >= SEEDS {
        assert!(counts.never().is_empty(), "these never happened: {:?}", counts.never());
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..number_of("COFFER_SIMULATION_SEEDS").unwrap_or(40) {
        let (one, other) = (simulate(seed, false, None), simulate(seed, false, None));
        assert_eq!(one.trace, other.trace, "seed {seed} ran in two ways");
    }
}
