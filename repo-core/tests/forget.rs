//! Forgetting on stores that work, fail, die and lie. Never: a body deleted before its seals, or anything of another snapshot touched.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use common::{
    bench::{assert_holds, back_up, init, names, open, options, snapshots, try_open},
    beside::Shared,
    model::{ModelSource, Thing},
};
use repo_core::{
    crypto::keys::ObjectKind,
    edit::{EditOptions, Outcome, TagChange, edit},
    error::{Error, Result, StoreErrorKind},
    forget::{Options, Plan, Report, forget},
    id::{ObjectId, SnapshotId},
    progress::{Cancel, Silent},
    repository::{Repository, seal::Seal},
    retention::{
        calendar::{Calendar, Period},
        policy::{Count, Policy},
    },
    snapshot::{Listing, Protection, group::Grouping, select::Filter},
    store::{
        ObjectName, Place, Store,
        memory::MemoryStore,
        testing::{Event, Fault, FaultStore, Operation, RecordingStore, Request},
    },
    time::Timestamp,
};

/// Gives one of the snapshots a tag.
fn tag(repository: &Arc<Repository>, id: SnapshotId, tag: &str, forget: bool) -> Option<SnapshotId> {
    let change = TagChange::Change { add: vec![tag.into()], remove: Vec::new() };
    let options = EditOptions { forget, ..EditOptions::tags(change) };
    let listing = Listing::read(repository).unwrap();
    let report = edit(repository, &listing, &[id], &options, &Silent, &Cancel::default()).unwrap();
    match report.edits[0].outcome {
        Outcome::Made(new) => new,
        ref other => panic!("{other:?}"),
    }
}

/// What an edit has put, and what it is about to remove, are one to the rules, and neither goes without the other.
#[test]
fn what_an_edit_replaces_is_never_kept_in_place_of_the_new_one() {
    for chain in [false, true] {
        let mut stage = Stage::new(&[1, 2, 3]);
        let repository = stage.open();
        if chain {
            // Both tell the same original then, and it is gone.
            stage.ids.insert(3, tag(&repository, stage.ids[&3], "first", true).unwrap());
        }
        let new = tag(&repository, stage.ids[&3], "second", false).unwrap();
        let pair = BTreeSet::from([stage.ids[&3], new]);
        let by_tags = Grouping { tags: true, ..Grouping::NONE };
        let removed = |options: &Options| plan(&repository, options).unwrap().removed().collect::<BTreeSet<_>>();
        assert_eq!(removed(&keep_last(1)), [1, 2].map(|at| stage.ids[&at]).into());
        assert_eq!(removed(&keep_last(2)), [stage.ids[&1]].into(), "they count as one");
        assert_eq!(removed(&keep_last(3)), [].into());
        assert_eq!(removed(&Options { grouping: by_tags, ..keep_last(1) }), [].into());
        // In one group with a newer one they go together.
        let newer = back_up_tree(&repository, 4, "host", Protection::None, &tree(4));
        assert_eq!(removed(&keep_last(1)), [stage.ids[&1], stage.ids[&2]].into_iter().chain(pair.clone()).collect());
        let kept_by_tag = Policy { tags: vec![vec!["second".into()]], ..keep_last(1).policy };
        let kept_by_tag = Options { policy: kept_by_tag, ..Options::default() };
        assert_eq!(removed(&kept_by_tag), [1, 2].map(|at| stage.ids[&at]).into(), "one that is kept keeps the other");
        run(&repository, &keep_last(1)).unwrap();
        assert_eq!(snapshots(&repository).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [newer]);
    }
}

/// A plan is made at any moment of an edit, and carried out at any later one.
#[test]
fn forgetting_by_rules_beside_an_edit_leaves_what_the_rules_keep() {
    let stage = Stage::new(&[1, 2, 3]);
    let count = |moments: Option<(usize, usize)>| {
        let store = stage.store.fork();
        let other = open(store.clone());
        let (at, mut made) = (Arc::new(Mutex::new(0)), None);
        let now_at = Arc::clone(&at);
        let shared = Shared::new(&store, move |_| {
            let mut at = now_at.lock().unwrap();
            if moments.is_some_and(|(planned, _)| planned == *at) {
                made = Some(plan(&other, &keep_last(2)).unwrap());
            }
            if moments.is_some_and(|(_, done)| done == *at) {
                forget(&other, made.as_ref().unwrap(), &Cancel::default()).unwrap();
            }
            *at += 1;
        });
        tag(&open(shared), stage.ids[&3], "new", true);
        let left: BTreeSet<_> = snapshots(&open(store)).iter().map(|(_, snapshot)| snapshot.time).collect();
        assert!(left.is_superset(&[day(2), day(3)].into()), "{moments:?}: {left:?}");
        *at.lock().unwrap()
    };
    let moments = count(None);
    assert!(moments > 10, "{moments}");
    for planned in 0..moments {
        for done in planned..moments {
            count(Some((planned, done)));
        }
    }
}

const DAY_SECONDS: i64 = 86_400;
const TODAY: i64 = 20_000;

fn day(number: i64) -> Timestamp {
    Timestamp::from_seconds(number * DAY_SECONDS)
}

fn now() -> Timestamp {
    day(TODAY)
}

/// Backs up a small tree as of some day.
fn back_up_at(repository: &Arc<Repository>, at: i64, host: &str, protection: Protection) -> SnapshotId {
    back_up_tree(repository, at, host, protection, &tree(at))
}

fn back_up_tree(repository: &Arc<Repository>, at: i64, host: &str, protection: Protection, tree: &Thing) -> SnapshotId {
    let mut options = options();
    options.time = Some(day(at));
    options.host = host.into();
    options.protection = protection;
    options.tags = vec![format!("day {at}")];
    back_up(repository, &ModelSource::new(tree), &options).unwrap().snapshot.unwrap()
}

fn tree(at: i64) -> Thing {
    Thing::directory([("file", Thing::file(at.to_string().into_bytes())), ("same", Thing::file(*b"same"))])
}

fn keep_last(count: u32) -> Options {
    Options { policy: Policy { last: Count::Newest(count), ..Policy::default() }, ..Options::default() }
}

fn plan(repository: &Repository, options: &Options) -> Result<Plan> {
    Plan::by_policy(&Listing::read(repository)?, options, now(), &Calendar::utc())
}

#[track_caller]
fn refusal(result: Result<Plan>) -> String {
    match result {
        Err(Error::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn run(repository: &Repository, options: &Options) -> Result<Report> {
    forget(repository, &plan(repository, options)?, &Cancel::default())
}

/// A repository, its snapshots by day, and the seals of each.
struct Stage {
    store: MemoryStore,
    ids: BTreeMap<i64, SnapshotId>,
    trees: BTreeMap<i64, Thing>,
    seals: BTreeMap<SnapshotId, BTreeSet<ObjectId>>,
}

impl Stage {
    /// One snapshot for each of these days.
    fn new(days: &[i64]) -> Self {
        let store = MemoryStore::new();
        let repository = init(store.clone());
        let trees: BTreeMap<i64, Thing> = days.iter().map(|at| (*at, tree(*at))).collect();
        let make = |(at, tree): (&i64, &Thing)| (*at, back_up_tree(&repository, *at, "host", Protection::None, tree));
        let ids = trees.iter().map(make).collect();
        let mut stage = Self { store, ids, trees, seals: BTreeMap::new() };
        stage.look();
        stage
    }

    fn look(&mut self) {
        for (seal, bodies) in Listing::read(&self.open()).unwrap().seals {
            for body in bodies {
                self.seals.entry(body).or_default().insert(seal.into());
            }
        }
    }

    fn open(&self) -> Arc<Repository> {
        open(self.store.clone())
    }

    fn fork(&self) -> Self {
        Self { store: self.store.fork(), ids: self.ids.clone(), trees: self.trees.clone(), seals: self.seals.clone() }
    }

    /// Days of the snapshots that are there; each must hold what it held.
    #[track_caller]
    fn days(&self) -> Vec<i64> {
        let repository = self.open();
        let there = snapshots(&repository);
        for (id, snapshot) in &there {
            assert_holds(&repository, id, &self.trees[&(snapshot.time.seconds() / DAY_SECONDS)]);
        }
        there.iter().map(|(_, snapshot)| snapshot.time.seconds() / DAY_SECONDS).collect()
    }

    /// What must hold of the deletes that were asked for, when only `doomed` may go.
    #[track_caller]
    fn check_deletes(&self, events: &[Event], doomed: &[i64]) {
        let bodies: BTreeSet<ObjectId> = doomed.iter().map(|at| self.ids[at].into()).collect();
        for (at, event) in events.iter().enumerate() {
            let Operation::Delete { name } = &event.operation else { continue };
            assert_eq!(name.place(), Place::Snapshots);
            let is_seal = doomed.iter().any(|at| self.seals[&self.ids[at]].contains(&name.id()));
            assert!(is_seal || bodies.contains(&name.id()), "{name} is none of its business");
            if is_seal {
                continue;
            }
            for seal in &self.seals[&SnapshotId::from(name.id())] {
                let gone = events[..at].iter().any(|earlier| {
                    matches!(&earlier.operation, Operation::Delete { name } if name.id() == *seal)
                        && earlier.succeeded_before(event)
                });
                assert!(gone, "the body {name} was deleted before its seal");
            }
        }
    }
}

#[test]
fn what_the_rules_do_not_keep_goes_and_nothing_else() {
    let stage = Stage::new(&[19_990, 19_991, 19_995, 19_999]);
    let packs = names(&stage.store, Place::Data);
    let recording = RecordingStore::new(stage.store.clone());
    let repository = open(recording.clone());
    let plan = plan(&repository, &keep_last(2)).unwrap();
    assert_eq!((plan.removed_count(), plan.kept_count()), (2, 2));
    assert_eq!(plan.groups()[0].keep[0].verdict.last_left, Count::Newest(1));
    let report = forget(&repository, &plan, &Cancel::default()).unwrap();
    assert_eq!(report.forgotten, [stage.ids[&19_990], stage.ids[&19_991]], "the oldest first");
    assert!(report.failed.is_empty() && report.left_behind.is_empty() && report.not_tried == 0);
    assert_eq!(stage.days(), [19_995, 19_999]);
    stage.check_deletes(&recording.events(), &[19_990, 19_991]);
    assert_eq!(names(&stage.store, Place::Snapshots).len(), 4, "two bodies, two seals");
    assert_eq!(names(&stage.store, Place::Data), packs);
    // Again, by the old plan: all is gone already.
    assert_eq!(forget(&repository, &plan, &Cancel::default()).unwrap().forgotten.len(), 2);
    assert_eq!(run(&repository, &keep_last(2)).unwrap().forgotten, []);
}

#[test]
fn groups_and_filters() {
    let mut stage = Stage::new(&[19_990, 19_991]);
    let repository = stage.open();
    for at in [19_992, 19_993, 19_994] {
        let id = back_up_at(&repository, at, "other", Protection::None);
        stage.ids.insert(at, id);
    }
    let listed = |options: &Options| -> Vec<Vec<i64>> {
        let plan = plan(&repository, options).unwrap();
        let days = |id: &SnapshotId| *stage.ids.iter().find(|(_, there)| *there == id).unwrap().0;
        plan.groups().iter().map(|group| group.remove.iter().map(|(id, _)| days(id)).collect()).collect()
    };
    let last = keep_last(1);
    assert_eq!(listed(&last), [vec![19_990], vec![19_993, 19_992]]);
    let together = Options { grouping: Grouping::NONE, ..last.clone() };
    assert_eq!(listed(&together), [vec![19_993, 19_992, 19_991, 19_990]]);
    let other = Filter { hosts: vec!["other".into()], ..Filter::default() };
    assert_eq!(listed(&Options { filter: other.clone(), ..last.clone() }), [vec![19_993, 19_992]]);
    let all = Options { filter: other, allow_remove_all: true, ..Options::default() };
    assert_eq!(listed(&all), [vec![19_994, 19_993, 19_992]]);
    let tags = "tags".parse().unwrap();
    assert_eq!(listed(&Options { grouping: tags, ..last }), vec![Vec::<i64>::new(); 5]);
    assert!("colour".parse::<Grouping>().is_err());
}

#[test]
fn what_is_refused() {
    let stage = Stage::new(&[19_990, 19_991, 19_992]);
    let repository = stage.open();
    let by = |policy: Policy| plan(&repository, &Options { policy, ..Options::default() });
    assert!(refusal(by(Policy::default())).contains("no rule"));
    let typo = Policy { tags: vec![vec!["typo".into()]], ..Policy::default() };
    assert!(refusal(by(typo)).contains("every snapshot of a group (host host; "));
    let all = Options { allow_remove_all: true, ..Options::default() };
    assert!(refusal(plan(&repository, &all)).contains("only possible for those of a host"));
    // Two clocks that run ahead push out all that is real.
    let id = back_up_at(&repository, TODAY + 4000, "host", Protection::None);
    back_up_at(&repository, TODAY + 4001, "host", Protection::None);
    let why = refusal(plan(&repository, &keep_last(2)));
    assert!(why.contains("dated in the future"), "{why}");
    let mut days = Policy::default();
    days.periods[Period::Day] = Count::Newest(1);
    refusal(by(days));
    // One real one left is not all.
    assert_eq!(plan(&repository, &keep_last(3)).unwrap().removed_count(), 2);
    // By age, the future pushes out nothing.
    let within = Policy { within: "1d".parse().unwrap(), ..Policy::default() };
    assert_eq!(by(within).unwrap().kept_count(), 3);
    // The way out.
    let ids: BTreeSet<_> = BTreeSet::from([id]);
    let one = Plan::by_ids(&Listing::read(&repository).unwrap(), &ids, false, now()).unwrap();
    forget(&repository, &one, &Cancel::default()).unwrap();
    assert_eq!(plan(&repository, &keep_last(2)).unwrap().kept_count(), 2);
    assert_eq!(snapshots(&repository).len(), 4, "planning changes nothing");
}

/// A machine whose clock runs ten years ahead backs up, and forgets by the same clock.
#[test]
fn the_clock_of_the_store_tells_who_runs_ahead() {
    let store = MemoryStore::new();
    let repository = init(store.clone());
    for at in TODAY - 5..=TODAY {
        store.set_time(day(at));
        back_up_at(&repository, at, "host", Protection::None);
    }
    store.set_time(day(TODAY));
    let ahead = back_up_at(&repository, TODAY + 3650, "host", Protection::None);
    let listing = Listing::read(&repository).unwrap();
    assert_eq!(listing.stored[&ahead], day(TODAY));
    let kept = |policy: Policy| {
        let options = Options { policy, ..Options::default() };
        let plan = Plan::by_policy(&listing, &options, day(TODAY + 3651), &Calendar::utc())?;
        Ok::<_, Error>(plan.groups()[0].keep.iter().map(|kept| kept.id).collect::<Vec<_>>())
    };
    let within = kept(Policy { within: "3d".parse().unwrap(), ..Policy::default() }).unwrap();
    assert_eq!((within.len(), within[0]), (4, ahead), "three days, and the one nobody knows the age of");
    refusal(kept(Policy { last: Count::Newest(1), ..Policy::default() }).map(|_| Plan::default()));
}

#[test]
fn protected_snapshots_stay() {
    let stage = Stage::new(&[19_999]);
    let repository = stage.open();
    let forever = back_up_at(&repository, 19_000, "host", Protection::Forever);
    let until = back_up_at(&repository, 19_001, "host", Protection::Until(day(TODAY + 1)));
    let past = back_up_at(&repository, 19_002, "host", Protection::Until(day(TODAY)));
    let plan = plan(&repository, &keep_last(1)).unwrap();
    let removed: Vec<_> = plan.groups()[0].remove.iter().map(|(id, _)| *id).collect();
    assert_eq!(removed, [past]);
    let reasons = |at: usize| plan.groups()[0].keep[at].verdict.reasons[0].to_string();
    assert_eq!((reasons(1), reasons(2)), ("protected for now".into(), "protected".into()));
    let listing = Listing::read(&repository).unwrap();
    for id in [forever, until] {
        let ids = BTreeSet::from([id, stage.ids[&19_999]]);
        assert!(refusal(Plan::by_ids(&listing, &ids, false, now())).contains("is protected"));
        assert_eq!(Plan::by_ids(&listing, &ids, true, now()).unwrap().removed_count(), 2);
    }
    assert!(Plan::by_ids(&listing, &BTreeSet::from([past]), false, now()).is_ok());
    let unknown = Plan::by_ids(&listing, &BTreeSet::from([SnapshotId([7; 32])]), true, now());
    assert!(matches!(unknown, Err(Error::NoSnapshot { .. })));
}

#[test]
fn all_seals_of_a_body_go_before_it() {
    let mut stage = Stage::new(&[19_990, 19_991]);
    let second = Seal::new(vec![stage.ids[&19_990]]);
    stage.open().save(Place::Snapshots, ObjectKind::Seal, &second).unwrap();
    stage.look();
    assert_eq!(stage.seals[&stage.ids[&19_990]].len(), 2);
    let recording = RecordingStore::new(stage.store.clone());
    run(&open(recording.clone()), &keep_last(1)).unwrap();
    stage.check_deletes(&recording.events(), &[19_990]);
    assert_eq!(names(&stage.store, Place::Snapshots).len(), 2);
}

#[test]
fn what_one_seal_commits_goes_together_or_not_at_all() {
    let stage = Stage::new(&[19_990, 19_991, 19_992]);
    let repository = stage.open();
    let both = Seal::new(vec![stage.ids[&19_990], stage.ids[&19_991]]);
    repository.save(Place::Snapshots, ObjectKind::Seal, &both).unwrap();
    let why = refusal(plan(&repository, &keep_last(2)));
    assert!(why.contains(&stage.ids[&19_991].short()), "{why}");
    assert_eq!(run(&repository, &keep_last(1)).unwrap().forgotten.len(), 2);
    assert_eq!(stage.days(), [19_992]);
    assert_eq!(names(&stage.store, Place::Snapshots).len(), 2);
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let stage = Stage::new(&[19_990, 19_991, 19_992, 19_993]);
    let name = |at: i64| ObjectName::new(Place::Snapshots, stage.ids[&at]);
    let seal_of = |at: i64| ObjectName::new(Place::Snapshots, *stage.seals[&stage.ids[&at]].first().unwrap());
    let seal = seal_of(19_992);
    // A seal with a copy would tell what it is.
    stage.open().save(Place::Snapshots, ObjectKind::Seal, &Seal::new(vec![stage.ids[&19_990]])).unwrap();
    stage.store.delete(&seal_of(19_990)).unwrap();
    for damaged in [name(19_990), seal] {
        let mut bytes = stage.store.bytes_of(&damaged).unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        stage.store.replace(&damaged, bytes);
    }
    let repository = stage.open();
    assert_eq!(run(&repository, &keep_last(1)).unwrap().forgotten, [stage.ids[&19_991]]);
    for name in [name(19_990), seal, name(19_992), name(19_993)] {
        assert!(stage.store.bytes_of(&name).is_some());
    }
}

#[test]
fn a_store_that_lets_nothing_be_deleted_says_so_soon() {
    let stage = Stage::new(&(19_900..19_920).collect::<Vec<_>>());
    let before = stage.store.names();
    let recording = RecordingStore::new(stage.store.clone());
    let denied = Fault::FailBefore(StoreErrorKind::Denied);
    let store = Arc::new(FaultStore::new(recording).always(Request::Delete, None, denied));
    let repository = open(Arc::clone(&store) as Arc<dyn Store>);
    let error = run(&repository, &keep_last(1)).unwrap_err();
    assert_eq!(error.store_kind(), Some(StoreErrorKind::Denied));
    assert!((1..=8).contains(&store.struck()), "{}", store.struck());
    assert_eq!(stage.store.names(), before);
}

#[test]
fn one_that_cannot_be_deleted_does_not_keep_the_others() {
    let stage = Stage::new(&(19_900..19_910).collect::<Vec<_>>());
    let plan = plan(&stage.open(), &keep_last(1)).unwrap();
    let counting = Arc::new(FaultStore::new(stage.store.clone()));
    open(Arc::clone(&counting) as Arc<dyn Store>);
    let number = counting.operations() + 4;
    let denied = Fault::FailBefore(StoreErrorKind::Denied);
    let faulty = Arc::new(FaultStore::new(stage.store.clone()).at(number, denied));
    let report = forget(&open(Arc::clone(&faulty) as Arc<dyn Store>), &plan, &Cancel::default()).unwrap();
    assert_eq!(faulty.struck(), 1);
    assert_eq!(report.failed.len() + report.left_behind.len(), 1);
    assert_eq!(report.forgotten.len() + report.failed.len(), 9);
    assert_eq!(stage.days().len(), 1 + report.failed.len());
}

#[test]
fn a_cancelled_one_forgets_nothing_more() {
    let stage = Stage::new(&[19_990, 19_991]);
    let repository = stage.open();
    let cancel = Cancel::default();
    cancel.cancel();
    let result = forget(&repository, &plan(&repository, &keep_last(1)).unwrap(), &cancel);
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(stage.days().len(), 2);
}

/// Every operation, every fault: what is to stay stays whole, the order holds, and the next run finishes the work.
#[test]
fn every_operation_goes_wrong_once() {
    let days = [19_990, 19_991, 19_992, 19_993, 19_994];
    let (doomed, kept) = days.split_at(3);
    let stage = Stage::new(&days);
    let work = |store: Arc<dyn Store>| run(&*try_open(store)?, &keep_last(2));
    let measured = Arc::new(FaultStore::new(stage.fork().store));
    work(measured.clone()).unwrap();
    let operations = measured.operations();
    assert!(operations > 10, "{operations}");
    let mut faults = vec![Fault::StopBefore, Fault::StopAfter, Fault::ListRepeats, Fault::ListStale];
    for kind in [StoreErrorKind::Retry, StoreErrorKind::Denied, StoreErrorKind::Permanent] {
        faults.extend([Fault::FailBefore(kind), Fault::FailAfter(kind)]);
    }
    // Gone, as after a delete whose first answer was lost.
    faults.push(Fault::FailAfter(StoreErrorKind::NotFound));
    faults.extend((0..4).map(|position| Fault::ListOmits { position }));
    faults.extend((0..4).map(|kept_entries| Fault::ListEnds { kept_entries }));
    faults.push(Fault::ListFails { kept_entries: 3, error: StoreErrorKind::Retry });
    faults.extend([3, 777, 2000].map(|bit| Fault::GetFlipped { bit }));
    let mut struck = 0;
    for number in 0..operations {
        for fault in &faults {
            let stage = stage.fork();
            let recording = RecordingStore::new(stage.store.clone());
            let store = Arc::new(FaultStore::new(recording.clone()).at(number, fault.clone()));
            let result = work(store.clone());
            struck += store.struck();
            stage.check_deletes(&recording.events(), doomed);
            let there = stage.days();
            assert!(there.ends_with(kept), "{number} {fault:?}: {there:?}");
            if let Ok(report) = &result {
                for id in &report.forgotten {
                    assert!(!there.contains(stage.ids.iter().find(|(_, one)| *one == id).unwrap().0));
                }
            }
            work(Arc::new(stage.store.clone())).unwrap();
            assert_eq!(stage.days(), kept, "{number} {fault:?}");
        }
    }
    assert!(struck > 130, "{struck}");
}
