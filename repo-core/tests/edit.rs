//! Edits of snapshots: what they make, beside whatever else happens, and on stores that fail and die.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{collections::BTreeMap, sync::Arc};

use common::{
    bench::{GONE, back_up_model, index, init, names, open, snapshots, try_open},
    beside::{Moment, Shared},
    model::{Kind, Seen, Thing},
    prune_stage::{assert_sound, forget_one, note, pruned, run_prune, thorough, version},
};
use repo_core::{
    blob::BlobKind,
    crypto::keys::ObjectKind,
    edit::{Changes, Edit, EditOptions, EditReport, Exclude, Outcome, TagChange, edit},
    envelope::object::SEAL_BYTES,
    error::{Error, Result, StoreErrorKind},
    id::{PackId, SnapshotId},
    progress::{Cancel, Silent},
    repair,
    repository::{Repository, notes::Mark, reader::BlobReader, seal::Seal},
    snapshot::{Listing, Protection, Snapshot},
    source::exclude::ExcludeRules,
    store::{
        Place, Store,
        memory::MemoryStore,
        testing::{Event, Fault, FaultStore, Operation, RecordingStore, Request},
    },
    time::Timestamp,
};

const RETRY: StoreErrorKind = StoreErrorKind::Retry;

fn list(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

fn add(tag: &str) -> EditOptions {
    EditOptions {
        note: Some(note("tag", GONE)),
        ..EditOptions::tags(TagChange::Change { add: list(&[tag]), remove: list(&[]) })
    }
}

/// What the edits below leave out.
const PATTERNS: [&str; 3] = ["own", "/d/7", "e/l*"];

fn without(patterns: &[&str], forget: bool) -> EditOptions {
    let mut rules = ExcludeRules::default();
    for pattern in patterns {
        rules.pattern(pattern.as_bytes()).unwrap();
    }
    EditOptions {
        changes: Changes::default(),
        exclude: Exclude { rules, patterns: list(patterns) },
        forget,
        even_protected: false,
        ..add("")
    }
}

/// The kinds of edit that are swept.
fn kinds() -> [fn() -> EditOptions; 3] {
    [|| add("x"), || without(&PATTERNS, true), || without(&PATTERNS, false)]
}

/// Edits all snapshots that there are.
fn run(repository: &Arc<Repository>, options: &EditOptions) -> Result<EditReport> {
    let listing = Listing::read(repository)?;
    let ids: Vec<_> = listing.snapshots.iter().map(|(id, _)| *id).collect();
    edit(repository, &listing, &ids, options, &Silent, &Cancel::default())
}

fn made(report: &EditReport) -> Vec<SnapshotId> {
    let made = |outcome: &Outcome| match outcome {
        Outcome::Made(Some(id)) | Outcome::WasMade(id) => *id,
        other => panic!("{other:?}"),
    };
    report.edits.iter().map(|edit| made(&edit.outcome)).collect()
}

/// What is left of a tree without [`PATTERNS`].
fn left(tree: &Thing) -> Thing {
    let mut tree = tree.clone();
    tree.entries().retain(|name, _| name.as_bytes() != b"own");
    tree.change(b"d", |d| d.entries().retain(|name, _| name.as_bytes() != b"7"));
    tree.change(b"d/e", |e| e.entries().retain(|name, _| !name.as_bytes().starts_with(b"l")));
    tree
}

struct Stage {
    store: MemoryStore,
    trees: Vec<Thing>,
}

impl Stage {
    /// Two snapshots, and something that a prune would take.
    fn new() -> Self {
        let store = MemoryStore::new();
        let repository = init(store.clone());
        let trees: Vec<_> = (1..=2).map(version).collect();
        for tree in &trees {
            back_up_model(&repository, tree);
        }
        let third = back_up_model(&repository, &version(3)).snapshot.unwrap();
        forget_one(&repository, third);
        Self { store, trees }
    }

    fn fork(&self) -> Self {
        Self { store: self.store.fork(), trees: self.trees.clone() }
    }

    fn open(&self) -> Arc<Repository> {
        open(self.store.clone())
    }

    /// Each snapshot is one of the trees, or what is left of one, and of each tree there is at least one, as it was or as asked for;
    /// never more than one too many of each.
    #[track_caller]
    fn check(&self, what: &str) {
        let repository = self.open();
        let index = repo_core::index::set::IndexSet::load(repository.store(), repository.keys(), None).unwrap();
        let blobs = BlobReader::new(Arc::clone(&repository), Arc::new(index), 1 << 20);
        let expected: Vec<[BTreeMap<Vec<u8>, Seen>; 2]> =
            self.trees.iter().map(|tree| [tree.seen(), left(tree).seen()]).collect();
        let mut counts = vec![0; self.trees.len()];
        for (id, snapshot) in snapshots(&repository) {
            let found = common::model::read_back(&blobs, &snapshot.tree)
                .unwrap_or_else(|error| panic!("{what}: {id}: {}", error.chain()));
            let at = expected.iter().position(|seen| seen.contains(&found));
            counts[at.unwrap_or_else(|| panic!("{what}: {id} holds something else"))] += 1;
            let files = found.values().filter(|seen| seen.file_type != repo_core::source::FileType::Directory).count();
            assert_eq!(snapshot.totals.files, files as u64, "{what}");
        }
        assert!(counts.iter().all(|count| (1..=3).contains(count)), "{what}: {counts:?}");
    }
}

#[test]
fn tags_change_and_nothing_else() {
    let stage = Stage::new();
    let repository = stage.open();
    let before = snapshots(&repository);
    let data = names(&stage.store, Place::Data);
    let report = run(&repository, &add("x")).unwrap();
    let after = snapshots(&repository);
    assert_eq!(made(&report), after.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    for ((old, was), (new, is)) in before.iter().zip(&after) {
        assert_ne!(old, new);
        assert_eq!(*is, Snapshot { tags: list(&["x"]), original: Some(*old), ..was.clone() });
    }
    assert_eq!(names(&stage.store, Place::Data), data);
    assert_eq!(names(&stage.store, Place::Locks), []);
    // Again: nothing to do. Other tags: the first original is told.
    assert!(run(&repository, &add("x")).unwrap().edits.iter().all(|edit| matches!(edit.outcome, Outcome::Unchanged)));
    run(&repository, &add("a")).unwrap();
    for ((old, _), (_, is)) in before.iter().zip(snapshots(&repository)) {
        assert_eq!((is.tags, is.original), (list(&["a", "x"]), Some(*old)));
    }
    stage.check("at the end");
}

#[test]
fn what_rules_say_is_left_out() {
    let stage = Stage::new();
    let repository = stage.open();
    let before = snapshots(&repository);
    let dry = run(&repository, &EditOptions { dry_run: true, ..without(&PATTERNS, true) }).unwrap();
    assert!(
        dry.edits
            .iter()
            .all(|edit| matches!(edit.outcome, Outcome::Made(None)) && edit.after.files == edit.before.files - 3)
    );
    assert_eq!(snapshots(&repository), before);
    let new = made(&run(&repository, &without(&PATTERNS, false)).unwrap());
    assert_eq!(snapshots(&repository).len(), 4);
    let held: Vec<_> = new.iter().copied().zip(stage.trees.iter().map(left)).collect();
    assert_sound(&repository, &held);
    for ((old, was), id) in before.iter().zip(&new) {
        let (_, is) = snapshots(&repository).into_iter().find(|(there, _)| there == id).unwrap();
        assert_eq!((is.original, is.excludes, is.time), (Some(*old), list(&PATTERNS), was.time));
        assert_eq!(is.totals.files, was.totals.files - 3);
    }
    // They are there already; now the old ones go.
    let again = run(&repository, &without(&PATTERNS, false)).unwrap();
    assert!(again.edits.iter().all(|edit| matches!(edit.outcome, Outcome::WasMade(_) | Outcome::Unchanged)));
    run(&repository, &without(&PATTERNS, true)).unwrap();
    assert_eq!(snapshots(&repository).iter().map(|(id, _)| *id).collect::<Vec<_>>(), new);
    pruned(stage.store.clone());
    assert_sound(&stage.open(), &held);
}

#[test]
fn only_what_a_rule_can_match_is_read_and_only_what_changes_is_stored() {
    let store = MemoryStore::new();
    let repository = init(store.clone());
    let mut tree = Thing::directory([("a", Thing::directory([])), ("b", Thing::directory([]))]);
    for side in ["a", "b"] {
        for i in 0..40 {
            tree.put(
                format!("{side}/{i}").as_bytes(),
                Thing::directory([("f", Thing::file(*b"x")), ("g", Thing::fifo())]),
            );
        }
    }
    back_up_model(&repository, &tree);
    let pages_read = |pattern: &str| {
        let recording = RecordingStore::new(store.fork());
        let repository = open(recording.clone());
        run(&repository, &without(&[pattern], false)).unwrap();
        let is_get =
            |event: &&Event| matches!(&event.operation, Operation::Get { name, .. } if name.place() == Place::Data);
        let gets = recording.events().iter().filter(is_get).count();
        let report = snapshots(&repository).len();
        (gets, report)
    };
    let (few, made_few) = pages_read("/a/7/f");
    let (all, made_all) = pages_read("g");
    assert_eq!((made_few, made_all), (2, 2));
    assert!(few * 3 < all, "{few} and {all} frames read");
    assert_eq!(pages_read("/a/7/nothing").1, 1);

    let report = run(&repository, &EditOptions { dry_run: true, ..without(&["/b/3/g"], false) }).unwrap();
    let mut expected = tree.clone();
    expected.change(b"b/3", |thing| thing.entries().retain(|name, _| name.as_bytes() != b"g"));
    let Kind::Directory(_) = &expected.kind else { unreachable!() };
    assert_eq!(report.edits[0].after.files + 1, report.edits[0].before.files);
}

#[test]
fn host_time_label() {
    let stage = Stage::new();
    let repository = stage.open();
    let time = Timestamp::from_seconds(1_000_000_000);
    let changes = Changes {
        host: Some("elsewhere".into()),
        time: Some((time, 3600)),
        label: Some("shop".into()),
        tags: TagChange::Set(list(&["b", "a"])),
    };
    run(&repository, &EditOptions { changes, ..add("") }).unwrap();
    for (_, is) in snapshots(&repository) {
        assert_eq!((is.host.as_str(), is.time, is.utc_offset_seconds), ("elsewhere", time, 3600));
        assert_eq!((is.label.as_deref(), is.source, is.tags), (Some("shop"), list(&["shop"]), list(&["a", "b"])));
    }
    let changes = Changes { label: Some(String::new()), ..Changes::default() };
    run(&repository, &EditOptions { changes, ..add("") }).unwrap();
    assert!(snapshots(&repository).iter().all(|(_, is)| is.label.is_none() && is.source == is.paths));
    stage.check("at the end");
}

#[test]
fn protected_ones_lose_nothing_and_stay_protected() {
    let store = MemoryStore::new();
    let repository = init(store.clone());
    let mut options = common::bench::options();
    options.protection = Protection::Forever;
    let source = common::model::ModelSource::new(&version(1));
    let id = common::bench::back_up(&repository, &source, &options).unwrap().snapshot.unwrap();
    let before = store.names();
    assert!(
        matches!(run(&repository, &without(&PATTERNS, true)), Err(Error::Refused(why)) if why.contains(&id.short()))
    );
    assert_eq!(store.names(), before);
    run(&repository, &add("x")).unwrap();
    run(&repository, &without(&PATTERNS, false)).unwrap();
    let there = snapshots(&repository);
    assert_eq!(there.len(), 2);
    assert!(there.iter().all(|(_, snapshot)| snapshot.protection == Protection::Forever));
    run(&repository, &EditOptions { even_protected: true, ..without(&PATTERNS, true) }).unwrap();
    assert_eq!(snapshots(&repository).len(), 1);
}

#[test]
fn others_of_the_same_seal_stay() {
    let stage = Stage::new();
    let repository = stage.open();
    let ids: Vec<_> = snapshots(&repository).iter().map(|(id, _)| *id).collect();
    // One seal for both, and none for each.
    let old = Listing::read(&repository).unwrap().seals;
    repository.save(Place::Snapshots, ObjectKind::Seal, &Seal::new(ids.clone())).unwrap();
    for (seal, _) in old {
        repository.store().delete(&repo_core::store::ObjectName::new(Place::Snapshots, seal)).unwrap();
    }
    let listing = Listing::read(&repository).unwrap();
    edit(&repository, &listing, &ids[..1], &add("x"), &Silent, &Cancel::default()).unwrap();
    let there = snapshots(&repository);
    assert_eq!(there.len(), 2);
    assert!(there.iter().any(|(id, _)| *id == ids[1]) && there.iter().all(|(id, _)| *id != ids[0]));
    assert_eq!(Listing::read(&repository).unwrap().seals.len(), 2);
    stage.check("at the end");
}

/// Every operation, every fault: nothing is lost, at most there is one too many, and the next run does the rest.
#[test]
fn every_operation_may_fail_or_be_the_last() {
    let stage = Stage::new();
    let mut struck = 0;
    for (kind, options) in kinds().into_iter().enumerate() {
        let work = |store: Arc<dyn Store>| run(&try_open(store)?, &options());
        let measured = Arc::new(FaultStore::new(stage.fork().store));
        work(measured.clone()).unwrap();
        let faults = [
            Fault::FailBefore(RETRY),
            Fault::FailAfter(RETRY),
            Fault::FailBefore(StoreErrorKind::Denied),
            Fault::StopBefore,
            Fault::StopAfter,
            Fault::ListRepeats,
            Fault::PutDropped,
            Fault::DeleteDropped,
        ];
        for number in 0..measured.operations() {
            for (case, fault) in faults.iter().flat_map(|fault| [(false, fault), (true, fault)]) {
                let stage = stage.fork();
                let store = FaultStore::new(stage.store.clone());
                let store = if case { store.from(number, fault.clone()) } else { store.at(number, fault.clone()) };
                if case && matches!(fault, Fault::PutDropped | Fault::DeleteDropped) {
                    continue;
                }
                let store = Arc::new(store);
                let result = work(store.clone());
                struck += u64::from(store.struck() > 0);
                let what = format!(
                    "kind {kind}, operation {number}, {fault:?}, {case}: {:?}",
                    result.as_ref().map_err(Error::chain)
                );
                stage.check(&what);
                work(Arc::new(stage.store.clone())).unwrap_or_else(|error| panic!("{what}: again: {}", error.chain()));
                stage.check(&what);
                if kind < 2 {
                    for (_, snapshot) in snapshots(&stage.open()) {
                        assert!(snapshot.tags == ["x"] || snapshot.excludes == PATTERNS, "{what}");
                    }
                }
            }
        }
    }
    println!("{struck} faults struck");
    assert!(struck > 500, "{struck}");
}

/// How often the store is used by an edit, and something else at one of these moments.
fn at_each_moment(
    options: fn() -> EditOptions,
    other: impl Fn(&MemoryStore) + Send + Sync + Clone + 'static,
    check: impl Fn(&Stage, &Result<EditReport>, &str),
) {
    let stage = Stage::new();
    let measured = Arc::new(FaultStore::new(stage.fork().store));
    run(&open(Arc::clone(&measured) as Arc<dyn Store>), &options()).unwrap();
    for moment in 0..measured.operations() {
        let stage = stage.fork();
        let (store, other) = (stage.store.clone(), other.clone());
        let mut count = 0;
        let shared = Shared::new(&stage.store, move |_| {
            if count == moment {
                other(&store);
            }
            count += 1;
        });
        let result = run(&open(shared), &options());
        check(&stage, &result, &format!("at {moment}: {:?}", result.as_ref().map_err(Error::chain)));
    }
}

#[test]
fn two_edits_at_once_lose_nothing() {
    for options in kinds() {
        at_each_moment(
            options,
            |store| drop(run(&open(store.clone()), &add("other"))),
            |stage, _, what| stage.check(what),
        );
    }
}

#[test]
fn a_prune_at_any_moment_takes_nothing_that_is_needed() {
    for options in kinds() {
        at_each_moment(
            options,
            |store| drop(pruned(store.clone())),
            |stage, result, what| {
                assert!(result.is_ok(), "{what}");
                stage.check(what);
                pruned(stage.store.clone());
                stage.check(what);
            },
        );
    }
}

/// Somebody forgets what is edited, and prunes at once.
#[test]
fn what_is_forgotten_meanwhile_is_whole_or_gone() {
    for options in kinds() {
        at_each_moment(
            options,
            |store| {
                let repository = open(store.clone());
                for (id, snapshot) in snapshots(&repository) {
                    if snapshot.original.is_none() {
                        forget_one(&repository, id);
                    }
                }
                pruned(store.clone());
            },
            |stage, _, _| {
                pruned(stage.store.clone());
                let repository = stage.open();
                let sizes: Vec<usize> =
                    stage.trees.iter().flat_map(|tree| [tree.seen().len(), left(tree).seen().len()]).collect();
                for (id, _) in snapshots(&repository) {
                    assert!(sizes.contains(&common::bench::seen_of(&repository, &id).len()));
                }
            },
        );
    }
}

/// An edit that slept for so long that a prune took it for dead: what it has stored and not claimed yet is gone. The prune's mark is still
/// there, or only that of another one.
#[test]
fn what_it_has_stored_itself_may_be_pruned_before_it_is_claimed() {
    for is_marked in [true, false] {
        let stage = Stage::new();
        let (store, before) = (stage.store.clone(), names(&stage.store, Place::Data));
        let mut pruned_packs = 0;
        let shared = Shared::new(&stage.store, move |moment| {
            let claims =
                matches!(moment, Moment::Put(name, size) if name.place() == Place::Snapshots && *size != SEAL_BYTES);
            if !claims || pruned_packs > 0 {
                return;
            }
            let own: Vec<_> = names(&store, Place::Data).into_iter().filter(|name| !before.contains(name)).collect();
            pruned_packs = own.len();
            assert!(pruned_packs > 0);
            let packs =
                if is_marked { own.iter().map(|name| name.id().into()).collect() } else { vec![PackId([7; 32])] };
            let mark = Mark { packs, created: Timestamp::default() };
            open(store.clone()).save(Place::Locks, ObjectKind::Mark, &mark).unwrap();
            for pack in own {
                store.delete(&pack).unwrap();
            }
        });
        let report = run(&open(shared), &without(&PATTERNS, true)).unwrap_or_else(|error| panic!("{}", error.chain()));
        assert!(report.edits.iter().all(|edit| matches!(edit.outcome, Outcome::Made(_))), "{is_marked}");
        stage.check("at the end");
    }
}

/// A prune that was killed at any point leaves marks; an edit looks through everything then.
#[test]
fn beside_what_a_killed_prune_has_left() {
    let stage = Stage::new();
    let measured = Arc::new(FaultStore::new(stage.fork().store));
    run_prune(&open(Arc::clone(&measured) as Arc<dyn Store>), &thorough()).unwrap();
    let mut marked = 0;
    for number in 0..measured.operations() {
        let stage = stage.fork();
        let dying = Arc::new(FaultStore::new(stage.store.clone()).at(number, Fault::StopAfter));
        if let Ok(repository) = try_open(dying) {
            let _ = run_prune(&repository, &thorough());
        }
        for options in kinds() {
            let stage = stage.fork();
            let repository = stage.open();
            marked += usize::from(!repository.notes().unwrap().marks.is_empty());
            run(&repository, &options()).unwrap_or_else(|error| panic!("after {number}: {}", error.chain()));
            stage.check(&format!("after {number}"));
            pruned(stage.store.clone());
            stage.check(&format!("after {number}, pruned"));
        }
    }
    assert!(marked > 5, "{marked}");
}

#[test]
fn a_store_that_lets_nothing_be_deleted() {
    let stage = Stage::new();
    let denied = Fault::FailBefore(StoreErrorKind::Denied);
    let store = FaultStore::new(stage.store.clone()).always(Request::Delete, None, denied);
    let report = run(&open(store), &add("x")).unwrap();
    assert!(matches!(&report.edits[..], [one] if matches!(one.outcome, Outcome::Doubled(..))));
    assert_eq!((report.not_tried, snapshots(&stage.open()).len()), (1, 3));
    run(&stage.open(), &add("x")).unwrap();
    assert_eq!(snapshots(&stage.open()).len(), 2);
    stage.check("at the end");
}

#[test]
fn few_operations_for_a_tag() {
    let stage = Stage::new();
    let counting = Arc::new(FaultStore::new(stage.store.clone()));
    let repository = open(Arc::clone(&counting) as Arc<dyn Store>);
    let before = counting.operations();
    run(&repository, &add("x")).unwrap();
    let used = counting.operations() - before;
    assert!(used <= 5 + 1 + 2 * 13, "{used} operations for two snapshots");
}

/// What a snapshot needs lies in a pack that was taken out of use, since it is damaged: that is no prune at work.
#[test]
fn what_is_damaged_and_out_of_use_is_named() {
    let mut told = 0;
    let whole = MemoryStore::new();
    let old = back_up_model(&init(whole.clone()), &version(1)).snapshot.unwrap();
    let kinds: BTreeMap<_, _> = index(&open(whole.clone())).all_packs().map(|pack| (pack.id, pack.kind)).collect();
    let is_data = |pack| kinds[&pack] == BlobKind::Data;
    for name in names(&whole, Place::Data) {
        for gone in [false, true] {
            let store = whole.fork();
            if gone {
                store.remove(&name);
            } else {
                let mut bytes = store.bytes_of(&name).unwrap().to_vec();
                bytes.iter_mut().skip(40).step_by(50).for_each(|byte| *byte ^= 1);
                store.replace(&name, &bytes[..]);
            }
            let repository = open(store.clone());
            repair::packs(&repository, &[name.id().into()].into(), false).unwrap();
            let error = run(&repository, &add("x")).unwrap_err();
            assert!(matches!(error, Error::Unreadable(_)) && error.is_damage(), "{}", error.chain());
            assert!(gone || error.chain().contains("damaged"), "{}", error.chain());
            assert_eq!(snapshots(&repository).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [old]);
            assert_eq!(names(&store, Place::Snapshots).len(), 2, "nothing is left of the new one");
            // The way out that users are told. Directories that are not at the source as they were then are lost for good.
            let again = back_up_model(&repository, &version(1)).snapshot.unwrap();
            let report = run(&repository, &add("x")).unwrap();
            let is_made = |edit: &Edit| matches!(edit.outcome, Outcome::Made(Some(_)));
            assert!(report.edits.iter().any(|edit| edit.id == again && is_made(edit)));
            assert_eq!(report.edits.iter().all(is_made), is_data(name.id().into()), "{report:?}");
            told += 1;
        }
    }
    assert!(told > 2);
}
