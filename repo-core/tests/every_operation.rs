//! Every operation of commands that have no sweep of their own fails once, fails from then on, loses its answer, or is the last: what was
//! there stays, somebody can open it, and the same command succeeds afterwards.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{collections::BTreeSet, sync::Arc};

use common::{
    bench::{TestRuntime, assert_holds, back_up_model, init, snapshots},
    prune_stage::version,
};
use repo_core::{
    check::{CheckOptions, ReadData, check},
    crypto::kdf::KdfCost,
    error::{Result, StoreErrorKind},
    forget::{Plan, forget},
    progress::{Cancel, Silent},
    repository::{InitOptions, Repository, config::Parameters},
    runtime::{Runtime, SystemRuntime},
    snapshot::Listing,
    store::{
        Store,
        memory::MemoryStore,
        testing::{Fault, FaultStore},
    },
};

fn open_with(store: Arc<dyn Store>, password: &[u8]) -> Result<Arc<Repository>> {
    Ok(Arc::new(Repository::open(store, Arc::new(TestRuntime), password, None)?))
}

fn make(store: Arc<dyn Store>) -> Result<()> {
    let options = InitOptions {
        password: b"secret",
        host: "host".into(),
        user: "user".into(),
        kdf_cost: KdfCost::TEST,
        parameters: Parameters::tiny(),
    };
    Repository::init(store, Arc::new(TestRuntime), &options).map(drop)
}

type Command = fn(Arc<dyn Store>) -> Result<()>;

fn add_key(store: Arc<dyn Store>) -> Result<()> {
    open_with(store, b"secret")?.add_key(b"other", "h".into(), "u".into(), KdfCost::TEST).map(drop)
}

fn change_password(store: Arc<dyn Store>) -> Result<()> {
    let repository = open_with(Arc::clone(&store), b"secret").or_else(|_| open_with(store, b"other"))?;
    repository.change_password(b"other", "h".into(), "u".into(), KdfCost::TEST).map(drop)
}

fn remove_key(store: Arc<dyn Store>) -> Result<()> {
    let repository = open_with(store, b"secret")?;
    let others: Vec<_> = repository.list_keys()?.into_iter().filter(|key| !key.current).collect();
    others.iter().try_for_each(|key| repository.remove_key(key.id))
}

fn forget_oldest(store: Arc<dyn Store>) -> Result<()> {
    let repository = open_with(store, b"secret")?;
    let listing = Listing::read(&repository)?;
    if listing.snapshots.len() < 2 {
        return Ok(());
    }
    let plan = Plan::by_ids(&listing, &BTreeSet::from([listing.snapshots[0].0]), false, SystemRuntime.now())?;
    forget(&repository, &plan, &Cancel::default()).map(drop)
}

fn check_all(store: Arc<dyn Store>) -> Result<()> {
    let options = CheckOptions { read_data: ReadData::All, threads: 1 };
    check(&open_with(store, b"secret")?, options, &Silent, &Cancel::default()).map(drop)
}

/// Runs a command on forks of a store with every fault at every operation, and `holds` after each.
fn sweep(name: &str, before: &MemoryStore, command: Command, holds: impl Fn(&MemoryStore, &str)) {
    let counted = Arc::new(FaultStore::new(before.fork()));
    command(counted.clone()).unwrap();
    let operations = counted.operations();
    let kind = StoreErrorKind::Retry;
    let mut failures = 0;
    for number in 0..operations {
        for (what, fault, forever) in [
            ("fails", Fault::FailBefore(kind), false),
            ("fails from here on", Fault::FailBefore(kind), true),
            ("loses its answer", Fault::FailAfter(kind), false),
            ("is not begun by a process that dies", Fault::StopBefore, false),
            ("is the last of a process", Fault::StopAfter, false),
        ] {
            let what = format!("{name}: operation {number} of {operations} {what}");
            let store = before.fork();
            let faulty = FaultStore::new(store.clone());
            let faulty = if forever { faulty.from(number, fault) } else { faulty.at(number, fault) };
            failures += u32::from(command(Arc::new(faulty)).is_err());
            holds(&store, &what);
        }
    }
    assert!(failures > 0, "{name}: nothing was struck");
}

#[test]
fn init_can_be_done_again() {
    sweep("init", &MemoryStore::new(), make, |store, what| {
        // The config comes last: with it there is a repository, without it there is none.
        if open_with(Arc::new(store.clone()), b"secret").is_err() {
            make(Arc::new(store.clone())).unwrap_or_else(|error| panic!("{what}: {}", error.chain()));
        }
        open_with(Arc::new(store.clone()), b"secret").unwrap_or_else(|error| panic!("{what}: {}", error.chain()));
    });
}

#[test]
fn nobody_is_locked_out_and_no_snapshot_is_lost() {
    let store = MemoryStore::new();
    let repository = init(store.clone());
    let trees = [version(1), version(2)];
    let ids = [0, 1].map(|at: usize| back_up_model(&repository, &trees[at]).snapshot.unwrap());
    let two_keys = store.fork();
    add_key(Arc::new(two_keys.clone())).unwrap();
    let commands: [(&str, &MemoryStore, Command); 5] = [
        ("key add", &store, add_key),
        ("key passwd", &store, change_password),
        ("key remove", &two_keys, remove_key),
        ("forget", &store, forget_oldest),
        ("check", &store, check_all),
    ];
    for (name, before, command) in commands {
        sweep(name, before, command, |store, what| {
            let opened = [&b"secret"[..], b"other"]
                .into_iter()
                .find_map(|password| open_with(Arc::new(store.clone()), password).ok())
                .unwrap_or_else(|| panic!("{what}: nobody can open it"));
            let there = snapshots(&opened);
            assert!(there.iter().any(|(id, _)| *id == ids[1]), "{what}");
            assert!(there.len() == 2 || name == "forget", "{what}");
            for (id, _) in &there {
                assert_holds(&opened, id, &trees[ids.iter().position(|known| known == id).unwrap()]);
            }
            command(Arc::new(store.clone())).unwrap_or_else(|error| panic!("{what}, then again: {}", error.chain()));
        });
    }
}
