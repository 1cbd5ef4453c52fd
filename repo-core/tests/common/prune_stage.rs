//! A repository of which much is not needed any more, for tests of prune.

use std::{collections::BTreeSet, sync::Arc};

use repo_core::{
    check::{CheckOptions, ReadData, check},
    error::Result,
    forget::{Plan, forget},
    id::SnapshotId,
    progress::{Cancel, Silent},
    prune::{PruneOptions, PruneReport, plan::MaxUnused, prune},
    repository::{Repository, notes::Session},
    runtime::{Runtime, SystemRuntime},
    snapshot::Listing,
    store::{Place, Store, memory::MemoryStore},
};

use super::{
    bench::{GONE, assert_holds, back_up_model, init, names, open, snapshots},
    model::Thing,
    sample::noise,
};

/// A repository, and what the snapshots hold that are not forgotten.
pub struct PruneStage {
    pub store: MemoryStore,
    pub held: Vec<(SnapshotId, Thing)>,
    /// What the forgotten ones held.
    pub forgotten: Vec<Thing>,
}

/// A tree; half of its files are those of other versions, too.
pub fn version(number: u64) -> Thing {
    let mut root = Thing::directory([
        ("same", Thing::file(noise(1, 9000))),
        ("grows", Thing::file([noise(2, 4000), noise(100 + number, 1500)].concat())),
        ("own", Thing::file(noise(200 + number, 7000))),
        ("zeros", Thing::file(vec![0; 20_000])),
        ("d", Thing::directory([])),
    ]);
    for i in 0..24 {
        let seed = if i % 2 == 0 { 300 + i } else { 1000 * number + i };
        root.put(format!("d/{i}").as_bytes(), Thing::file(noise(seed, 300)));
    }
    root.put(b"d/e", Thing::directory([]));
    root.put(b"d/e/leaf", Thing::file(noise(5000 + number, 100)));
    root
}

impl PruneStage {
    /// Four snapshots, of which the first and the third are forgotten.
    pub fn new() -> Self {
        let store = MemoryStore::new();
        let repository = init(store.clone());
        let mut held = Vec::new();
        for number in 1..=4 {
            let tree = version(number);
            held.push((back_up_model(&repository, &tree).snapshot.unwrap(), tree));
        }
        let mut stage = Self { store, held, forgotten: Vec::new() };
        stage.forget(2);
        stage.forget(0);
        stage
    }

    pub fn fork(&self) -> Self {
        Self { store: self.store.fork(), held: self.held.clone(), forgotten: self.forgotten.clone() }
    }

    /// Forgets one of the snapshots.
    pub fn forget(&mut self, at: usize) {
        let (id, tree) = self.held.remove(at);
        forget_one(&open(self.store.clone()), id);
        self.forgotten.push(tree);
    }

    pub fn data_bytes(&self) -> u64 {
        names(&self.store, Place::Data).iter().map(|name| self.store.bytes_of(name).unwrap().len() as u64).sum()
    }

    /// Everything that is to be there is there, and nothing is damaged.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert_sound(&open(self.store.clone()), &self.held);
    }
}

#[track_caller]
pub fn forget_one(repository: &Repository, id: SnapshotId) {
    let listing = Listing::read(repository).unwrap();
    let plan = Plan::by_ids(&listing, &BTreeSet::from([id]), false, SystemRuntime.now()).unwrap();
    assert_eq!(forget(repository, &plan, &Cancel::default()).unwrap().forgotten, [id]);
}

/// These snapshots hold what they are to hold, and `check --read-data` finds nothing.
#[track_caller]
pub fn assert_sound(repository: &Arc<Repository>, held: &[(SnapshotId, Thing)]) {
    let there = snapshots(repository);
    for (id, tree) in held {
        assert!(there.iter().any(|(there, _)| there == id), "snapshot {id} is gone");
        assert_holds(repository, id, tree);
    }
    let options = CheckOptions { read_data: ReadData::All, threads: 2 };
    let report = check(repository, options, &Silent, &Cancel::default()).unwrap();
    assert_eq!(report.errors(), 0, "{:#?}", report.findings);
}

/// Who works, in this process or in one that is over by now.
pub fn note(operation: &str, process: u32) -> Session {
    let started = SystemRuntime.now();
    Session { operation: operation.into(), host: "host".into(), user: "user".into(), process, started }
}

/// Everything goes that can; the note tells of a process that is over, as it is for the next one where this one ends in the middle.
pub fn thorough() -> PruneOptions {
    PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        threads: Some(1),
        note: Some(note("prune", GONE)),
        ..PruneOptions::default()
    }
}

pub fn run_prune(repository: &Arc<Repository>, options: &PruneOptions) -> Result<PruneReport> {
    prune(repository, options, &Silent, &Cancel::default())
}

/// Prunes a store that does what it should.
#[track_caller]
pub fn pruned(store: impl Store + 'static) -> PruneReport {
    run_prune(&open(store), &thorough()).unwrap()
}
