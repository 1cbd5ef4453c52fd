//! What a backup makes of its source: of one that misbehaves at every call, of unchanged ones, and by every option.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{io, sync::Arc};

use common::{
    bench::{
        assert_holds, assert_same, back_up, back_up_model, init, init_with, names, open, options, reader, seen_of,
        snapshots,
    },
    model::{Call, Extent, GROWTH, Kind, Mischief, ModelSource, Thing, read_back},
    sample::noise,
};
use repo_core::{
    backup::{BackupOptions, Parent, backup},
    blob::BlobKind,
    error::Error,
    progress::{Cancel, Outcome, Progress},
    repository::{Repository, config::Parameters},
    source::{
        Severity,
        stream::{StreamOptions, StreamSource},
    },
    store::{
        Place,
        memory::MemoryStore,
        testing::{Operation, RecordingStore},
    },
    time::Timestamp,
    tree::{TreeBlob, node::Mode},
};

fn tree() -> Thing {
    let mut root = Thing::directory([
        ("small", Thing::file(*b"some bytes").with_xattr(b"user.a", b"1")),
        ("chunks", Thing::file(noise(1, 3000))),
        ("sparse", Thing::sparse(vec![Extent::Hole(900), Extent::Data(noise(2, 900).into()), Extent::Hole(5)])),
        ("link", Thing::symlink(b"small").with_xattr(b"trusted.l", b"2")),
        ("pipe", Thing::fifo()),
        ("directory", Thing::directory([("nested", Thing::directory([]))]).with_xattr(b"user.d", b"3")),
    ]);
    root.put(b"directory/file", Thing::file(noise(3, 700)));
    root.put(b"directory/nested/deep", Thing::file(noise(4, 70)));
    root
}

/// Like the first, with something else to do for every kind of entry.
fn changed(first: &Thing) -> Thing {
    let mut root = first.clone();
    root.put(b"small", Thing::file(*b"other bytes"));
    root.put(b"link", Thing::symlink(b"chunks").with_xattr(b"trusted.l", b"2"));
    root.put(b"directory/nested/new", Thing::file(noise(5, 1300)));
    root
}

fn one_thread() -> BackupOptions {
    BackupOptions { threads: Some(1), ..options() }
}

/// Repositories to back up into, with what is backed up next: an empty one, and one with a parent.
fn stages() -> [(MemoryStore, Thing, usize); 2] {
    let (empty, filled) = (MemoryStore::new(), MemoryStore::new());
    init(empty.clone());
    back_up_model(&init(filled.clone()), &tree());
    [(empty, tree(), 0), (filled, changed(&tree()), 1)]
}

fn calls(store: &MemoryStore, tree: &Thing) -> Vec<Call> {
    let source = ModelSource::new(tree);
    back_up(&open(store.fork()), &source, &one_thread()).unwrap();
    source.calls()
}

/// Nothing of the snapshot shows, nothing is in the way of the next.
#[track_caller]
fn assert_no_snapshot(repository: &Arc<Repository>, tree: &Thing, before: usize) {
    assert_eq!(snapshots(repository).len(), before);
    assert!(repository.notes().unwrap().sessions.is_empty());
    let report = back_up_model(repository, tree);
    assert_holds(repository, &report.snapshot.unwrap(), tree);
}

#[test]
fn every_call_may_fail() {
    for (store, tree, before) in stages() {
        let calls = calls(&store, &tree);
        assert!(calls.len() > 25, "{calls:?}");
        for (number, call) in calls.iter().enumerate() {
            for severity in [Severity::Entry, Severity::Vanished, Severity::Fatal] {
                println!("{call:?} {severity:?}");
                let repository = open(store.fork());
                let source = ModelSource::bad(&tree, number, Mischief::Fails(severity));
                let result = back_up(&repository, &source, &one_thread());
                let whole =
                    matches!(call.what, "root" | "finish the source") || call.what == "names" && call.path.is_empty();
                if whole || severity == Severity::Fatal {
                    assert!(matches!(result, Err(Error::Source(_))), "{result:?}");
                    assert_no_snapshot(&repository, &tree, before);
                    continue;
                }
                let report = result.unwrap();
                let [problem] = &report.problems[..] else { panic!("{:#?}", report.problems) };
                assert_eq!((&problem.path, report.problem_count, report.summary.problems), (&call.path, 1, 1));
                let mut expected = tree.seen();
                match call.what {
                    "xattrs" => {
                        let metadata = &mut expected.get_mut(&call.path).unwrap().metadata;
                        metadata.xattrs.clear();
                        metadata.changed = Timestamp::default();
                    }
                    // The root's own are in no entry.
                    "own xattrs" if call.path.is_empty() => {}
                    "own xattrs" => expected.get_mut(&call.path).unwrap().metadata.xattrs.clear(),
                    _ => expected.retain(|path, _| !is_below(path, &call.path)),
                }
                assert_same(&seen_of(&repository, &report.snapshot.unwrap()), &expected);
                // The next one has all of it again.
                let next = back_up_model(&repository, &tree);
                assert_holds(&repository, &next.snapshot.unwrap(), &tree);
            }
        }
    }
}

/// Whether it is this, or something below it.
fn is_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[test]
fn files_that_change_while_they_are_read_are_stored_as_read() {
    for (store, tree, _) in stages() {
        for (number, call) in calls(&store, &tree).iter().enumerate() {
            if !matches!(call.what, "file" | "read" | "finish") {
                continue;
            }
            for mischief in [Mischief::Grows, Mischief::Shrinks, Mischief::Replaced, Mischief::Touched, Mischief::Torn]
            {
                let repository = open(store.fork());
                let source = ModelSource::bad(&tree, number, mischief);
                let report = back_up(&repository, &source, &one_thread()).unwrap();
                let mut found = seen_of(&repository, &report.snapshot.unwrap());
                let [problem] = &report.problems[..] else { panic!("{call:?} {mischief:?} {:?}", report.problems) };
                assert_eq!(problem.path, call.path);
                assert!(problem.message.contains("changed while it was read"));
                let mut expected = tree.seen();
                let (is, was) = (found.remove(&call.path).unwrap(), expected.remove(&call.path).unwrap());
                assert_same(&found, &expected);
                assert!(is.metadata.modified > was.metadata.modified, "what it was in the end");
                if mischief == Mischief::Grows && call.what != "finish" {
                    assert_eq!(is.content, [&was.content[..], GROWTH].concat());
                } else {
                    assert!(was.content.starts_with(&is.content) || mischief == Mischief::Torn);
                    assert!(is.content.len() == was.content.len() || mischief == Mischief::Shrinks);
                }
                // What was stored may never have been. The next one reads it again, even if nothing changed since.
                let mut after = tree.clone();
                after.change(&call.path, |thing| {
                    thing.stat.modified = is.metadata.modified;
                    thing.stat.changed = is.metadata.modified;
                    thing.stat.inode = is.metadata.inode;
                    if mischief == Mischief::Grows && call.what != "finish" {
                        let Kind::File(extents) = &mut thing.kind else { panic!("no file") };
                        extents.push(Extent::Data(Arc::from(GROWTH)));
                        thing.stat.size_bytes += GROWTH.len() as u64;
                    }
                });
                let ignore = BackupOptions { ignore_ctime: true, ignore_inode: true, ..options() };
                let next = back_up(&repository, &ModelSource::new(&after), &ignore).unwrap();
                assert_holds(&repository, &next.snapshot.unwrap(), &after);
                assert_eq!(next.problem_count, 0);
            }
        }
    }
}

#[test]
fn a_source_that_panics_ends_the_backup() {
    for (store, tree, before) in stages() {
        for (number, call) in calls(&store, &tree).iter().enumerate() {
            // What is called before the threads begin and after they end panics through, as it should.
            if number % 3 != 0 || call.path.is_empty() && call.what != "own xattrs" {
                continue;
            }
            let repository = open(store.fork());
            let source = ModelSource::bad(&tree, number, Mischief::Panics);
            let error = back_up(&repository, &source, &one_thread()).unwrap_err();
            assert!(error.to_string().contains("panicked"), "{call:?}: {error}");
            assert_eq!(snapshots(&repository).len(), before);
            let report = back_up_model(&repository, &tree);
            assert_holds(&repository, &report.snapshot.unwrap(), &tree);
        }
    }
}

/// Large files are read by one thread and stored by others.
#[test]
fn every_read_of_a_large_file_may_fail() {
    let store = MemoryStore::new();
    init_with(store.clone(), Parameters::default());
    let mut content = noise(1, 9 << 20);
    content.extend(vec![7; 3 << 20]);
    let extents = vec![
        Extent::Data(content.into()),
        Extent::Hole(1 << 30),
        Extent::Data(noise(2, 5 << 20).into()),
        Extent::Hole(77),
    ];
    let tree = Thing::directory([
        ("before", Thing::file(*b"1")),
        ("large", Thing::sparse(extents)),
        ("x", Thing::file(*b"2")),
    ]);
    let clean = ModelSource::new(&tree);
    let fine = open(store.fork());
    let report = back_up(&fine, &clean, &options()).unwrap();
    assert_holds(&fine, &report.snapshot.unwrap(), &tree);
    assert_eq!(report.summary.bytes_read, clean.read_bytes());
    let calls = clean.calls();
    let of_large = |call: &Call| call.path == b"/large" && matches!(call.what, "read" | "finish");
    assert!(calls.iter().filter(|call| of_large(call)).count() > 8);
    for (number, call) in calls.iter().enumerate().filter(|(_, call)| of_large(call)) {
        for mischief in
            [Mischief::Fails(Severity::Entry), Mischief::Fails(Severity::Fatal), Mischief::Shrinks, Mischief::Panics]
        {
            let repository = open(store.fork());
            let result = back_up(&repository, &ModelSource::bad(&tree, number, mischief), &one_thread());
            match mischief {
                Mischief::Fails(Severity::Fatal) => assert!(matches!(result, Err(Error::Source(_))), "{result:?}"),
                Mischief::Panics => assert!(result.is_err()),
                _ => {
                    let report = result.unwrap();
                    assert_eq!(report.problem_count, 1, "{call:?}");
                    let found = seen_of(&repository, &report.snapshot.unwrap());
                    assert_eq!(found.len(), if mischief == Mischief::Shrinks { 3 } else { 2 });
                }
            }
        }
    }
}

/// With all threads the order of calls differs from run to run; what is left out is one entry all the same.
#[test]
fn many_threads_fail_as_one_does() {
    let (store, tree, _) = &stages()[1];
    for number in 4..40 {
        let repository = open(store.fork());
        let source = ModelSource::bad(tree, number, Mischief::Fails(Severity::Entry));
        match back_up(&repository, &source, &BackupOptions { threads: Some(4), ..options() }) {
            Ok(report) => {
                let failed = number < source.calls().len();
                assert_eq!(report.problem_count, u64::from(failed));
                let mut expected = tree.seen();
                expected.retain(|path, _| !report.problems.iter().any(|problem| is_below(path, &problem.path)));
                let mut found = seen_of(&repository, &report.snapshot.unwrap());
                found.retain(|path, _| !report.problems.iter().any(|problem| is_below(path, &problem.path)));
                assert_same(&found, &expected);
            }
            Err(error) => assert!(matches!(error, Error::Source(_)), "{error}"),
        }
    }
}

#[test]
fn unchanged_again_costs_a_note_a_body_and_a_seal() {
    let store = RecordingStore::new(MemoryStore::new());
    let repository = init(store.clone());
    let mut tree = tree();
    for i in 0..300 {
        tree.put(format!("directory/{i}").as_bytes(), Thing::file(noise(i, 40)));
    }
    let first = back_up_model(&repository, &tree);
    for parent in [Parent::Newest, Parent::Snapshot(first.snapshot.unwrap())] {
        let before = store.events().len();
        let source = ModelSource::new(&tree);
        let again = back_up(&repository, &source, &BackupOptions { parent, ..options() }).unwrap();
        let read = source.calls().into_iter().filter(|call| matches!(call.what, "file" | "read")).collect::<Vec<_>>();
        assert_eq!(read, []);
        assert_eq!((again.summary.bytes_read, again.summary.data_blobs, again.summary.tree_blobs), (0, 0, 0));
        assert_eq!((again.summary.files_new, again.summary.files_changed), (0, 0));
        assert_eq!((again.summary.directories_new, again.summary.directories_changed), (0, 0));
        assert_eq!(again.summary.directories_unmodified, 2);
        assert_eq!(again.totals, first.totals);
        assert!(again.parent.is_some());
        let places: Vec<_> = store.events()[before..]
            .iter()
            .filter_map(|event| match event.operation {
                Operation::Put { name, .. } => Some(name.place()),
                _ => None,
            })
            .collect();
        assert_eq!(places, [Place::Locks, Place::Snapshots, Place::Snapshots]);
        assert_holds(&repository, &again.snapshot.unwrap(), &tree);
    }
    // Reading everything finds the same tree.
    let source = ModelSource::new(&tree);
    let forced = back_up(&repository, &source, &BackupOptions { parent: Parent::None, ..options() }).unwrap();
    assert_eq!(forced.summary.bytes_read, source.read_bytes());
    assert!(forced.summary.bytes_read > 0 && forced.parent.is_none());
    assert_eq!((forced.summary.data_blobs, forced.summary.tree_blobs), (0, 0));
    let trees: std::collections::BTreeSet<_> =
        snapshots(&repository).iter().map(|(_, snapshot)| snapshot.tree).collect();
    assert_eq!(trees.len(), 1);
}

#[test]
fn a_change_in_a_large_directory_rewrites_few_pages() {
    let store = MemoryStore::new();
    let repository = init_with(store.clone(), Parameters::default());
    let mut tree = Thing::directory([("many", Thing::directory([]))]);
    for i in 0..8000 {
        tree.put(format!("many/{i}").as_bytes(), Thing::file(format!("{i}").into_bytes()));
    }
    let first = back_up_model(&repository, &tree);
    assert!(first.summary.tree_blobs > 10, "{:?}", first.summary);
    for (path, is_new) in [(&b"many/4000"[..], false), (b"many/4000x", true), (b"many/", false)] {
        if path == b"many/" {
            tree = tree.clone();
            let Thing { kind: common::model::Kind::Directory(root), .. } = &mut tree else { panic!() };
            root.values_mut().next().unwrap().entries().pop_first();
        } else {
            tree.put(path, Thing::file(*b"changed"));
        }
        let report = back_up_model(&repository, &tree);
        // The page, perhaps its neighbour, the page of pages, and the root.
        assert!(report.summary.tree_blobs <= 4, "{:?}", report.summary);
        assert_eq!(report.summary.files_new, u64::from(is_new));
        assert!(report.summary.files_unmodified >= 7998);
        assert_holds(&repository, &report.snapshot.unwrap(), &tree);
    }
}

#[test]
fn parents_are_of_the_same_host_and_source() {
    let repository = init(MemoryStore::new());
    let tree = tree();
    let run = |change: &dyn Fn(&mut BackupOptions)| {
        let mut options = options();
        change(&mut options);
        back_up(&repository, &ModelSource::new(&tree), &options).unwrap()
    };
    let first = run(&|_| {});
    assert_eq!(run(&|options| options.host = "other".into()).parent, None);
    let labelled = run(&|options| options.label = Some("mail1".into()));
    assert_eq!(labelled.parent, None);
    assert_eq!(run(&|_| {}).parent, first.snapshot);
    assert_eq!(run(&|options| options.label = Some("mail1".into())).parent, labelled.snapshot);
    let snapshots = snapshots(&repository);
    let (_, body) = snapshots.iter().find(|(id, _)| Some(*id) == labelled.snapshot).unwrap();
    assert_eq!((&body.source, &body.paths), (&vec!["mail1".to_owned()], &vec!["/model".to_owned()]));
    assert_eq!(body.users[&1000], "n1000");
    let missing = BackupOptions { parent: Parent::Snapshot(repo_core::id::SnapshotId([1; 32])), ..options() };
    assert!(matches!(back_up(&repository, &ModelSource::new(&tree), &missing), Err(Error::NoSnapshot { .. })));
    // The newest, by its own time.
    let old = run(&|options| options.time = Some(Timestamp::from_seconds(5)));
    assert_ne!(run(&|_| {}).parent, old.snapshot);
}

/// What counts as changed when something but the content changes.
#[test]
fn change_times_and_inodes_may_be_ignored() {
    type Change = fn(&mut Thing);
    let ctime: Change = |thing| {
        thing.stat.changed = Timestamp::from_seconds(1_900_000_000);
        thing.stat.mode = Mode::from_bits(0o600);
        thing.xattrs[0].value = repo_core::tree::name::Bytes::new(*b"new").unwrap();
    };
    let inode: Change = |thing| thing.stat.inode = 55_555;
    let size: Change = |thing| {
        *thing =
            Thing { stat: repo_core::source::Stat { size_bytes: 11, ..thing.stat }, ..Thing::file(*b"other bytes") }
    };
    for (change, ignore_ctime, ignore_inode, is_read) in [
        (ctime, false, false, true),
        (ctime, false, true, true),
        (ctime, true, false, false),
        (inode, false, false, true),
        (inode, true, false, true),
        (inode, false, true, false),
        (size, true, true, true),
    ] {
        let repository = init(MemoryStore::new());
        let mut tree = tree();
        back_up_model(&repository, &tree);
        change(tree.entries().get_mut(&repo_core::tree::name::Name::new(*b"small").unwrap()).unwrap());
        let source = ModelSource::new(&tree);
        let report = back_up(&repository, &source, &BackupOptions { ignore_ctime, ignore_inode, ..options() }).unwrap();
        assert_eq!(report.summary.bytes_read > 0, is_read, "{ignore_ctime} {ignore_inode}");
        assert_holds(&repository, &report.snapshot.unwrap(), &tree);
    }
}

#[test]
fn nothing_is_stored_for_nothing() {
    let store = MemoryStore::new();
    let repository = init(store.clone());
    let mut tree = tree();
    let dry = BackupOptions { dry_run: true, ..options() };
    let skip = BackupOptions { skip_if_unchanged: true, ..options() };
    let before = store.names();
    let report = back_up(&repository, &ModelSource::new(&tree), &dry).unwrap();
    assert!(report.snapshot.is_none() && report.summary.bytes_added_packed > 0 && report.summary.data_blobs > 0);
    assert_eq!(store.names(), before);
    let real = back_up_model(&repository, &tree);
    assert_eq!((real.added.data_blobs, real.added.data_bytes), (report.added.data_blobs, report.added.data_bytes));
    assert_eq!((real.added.tree_blobs, real.added.tree_bytes), (report.added.tree_blobs, report.added.tree_bytes));

    let before = store.names();
    for options in [&skip, &dry] {
        assert!(back_up(&repository, &ModelSource::new(&tree), options).unwrap().snapshot.is_none());
        assert_eq!(store.names(), before);
    }
    tree.stat.mode = Mode::from_bits(0o700);
    let report = back_up(&repository, &ModelSource::new(&tree), &skip).unwrap();
    assert!(report.snapshot.is_some(), "the root's own mode is a change");
    tree.put(b"new", Thing::file(*b"x"));
    let before = store.names();
    back_up(&repository, &ModelSource::new(&tree), &dry).unwrap();
    assert_eq!(store.names(), before);
    assert!(back_up(&repository, &ModelSource::new(&tree), &skip).unwrap().snapshot.is_some());
}

#[test]
fn access_times_are_stored_on_demand() {
    let repository = init(MemoryStore::new());
    let tree = tree();
    for with_atime in [false, true, true, false] {
        let report =
            back_up(&repository, &ModelSource::new(&tree), &BackupOptions { with_atime, ..options() }).unwrap();
        let found = seen_of(&repository, &report.snapshot.unwrap());
        assert!(found.values().all(|seen| seen.metadata.accessed.is_some() == with_atime));
    }
}

fn stream(content: impl io::Read + Send + 'static, finish: Result<(), String>) -> StreamSource {
    let options = StreamOptions {
        path: "dumps/database.sql".into(),
        user: 0,
        group: 0,
        time: Timestamp::from_seconds(1_700_000_000),
        named: None,
    };
    StreamSource::new(options, Box::new(content), Box::new(|| finish)).unwrap()
}

/// Gives some bytes, then fails.
struct Broken(usize);

impl io::Read for Broken {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the other end is gone"));
        }
        let length = self.0.min(into.len());
        into[..length].fill(5);
        self.0 -= length;
        Ok(length)
    }
}

#[test]
fn streams_are_stored_whole_or_not_at_all() {
    let repository = init_with(MemoryStore::new(), Parameters::default());
    let mut expected = Vec::new();
    for length in [0, 1, 100_000, 6_000_000] {
        let content = noise(8, length);
        let report = back_up(&repository, &stream(io::Cursor::new(content.clone()), Ok(())), &options()).unwrap();
        assert_eq!((report.problem_count, report.totals.bytes), (0, length as u64), "{:?}", report.problems);
        let found = seen_of(&repository, &report.snapshot.unwrap());
        assert_eq!(found[&b"/dumps/database.sql"[..]].content, content);
        expected.push(report.snapshot.unwrap());
    }
    for length in [0, 10, 70_000, 5_000_000] {
        let failed = back_up(&repository, &stream(Broken(length), Ok(())), &options());
        assert!(matches!(failed, Err(Error::Source(_))), "{failed:?}");
        let source = stream(io::Cursor::new(noise(9, length)), Err("the command exited with status 1".into()));
        let error = back_up(&repository, &source, &options()).unwrap_err();
        assert!(error.to_string().contains("status 1"), "{error}");
    }
    assert_eq!(snapshots(&repository).len(), expected.len());
    assert!(repository.notes().unwrap().sessions.is_empty());
}

/// Cancels once so many items are done.
struct CancelAfter(std::sync::atomic::AtomicI64, Cancel);

impl Progress for CancelAfter {
    fn done(&self, files: u64, _bytes: u64) {
        if self.0.fetch_sub(files.cast_signed(), std::sync::atomic::Ordering::SeqCst) <= files.cast_signed() {
            self.1.cancel();
        }
    }
}

#[test]
fn what_was_stored_before_an_interrupt_is_used() {
    let mut tree = Thing::directory([]);
    for i in 0..40 {
        tree.put(format!("{i:02}").as_bytes(), Thing::file(noise(i, 3000)));
    }
    for files in [0, 1, 10, 39, 40] {
        let store = MemoryStore::new();
        let repository = init(store.clone());
        let cancel = Cancel::default();
        if files == 0 {
            cancel.cancel();
        }
        let progress = CancelAfter(i64::from(files).into(), cancel.clone());
        let result = backup(&repository, &ModelSource::new(&tree), &one_thread(), &progress, &cancel);
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
        assert_eq!(snapshots(&repository).len(), 0);
        assert!(repository.notes().unwrap().sessions.is_empty());
        let stored = names(&store, Place::Data).len();
        let report = back_up_model(&repository, &tree);
        assert_holds(&repository, &report.snapshot.unwrap(), &tree);
        if files >= 10 {
            assert!(stored > 0 && report.added.data_bytes < 110_000, "{stored} {:?}", report.added);
        }
    }
}

#[test]
fn items_and_counts_are_told() {
    /// Items by path; files and bytes found; files and bytes done.
    type Heard = (std::collections::BTreeMap<Vec<u8>, Outcome>, u64, u64, u64, u64);
    #[derive(Default)]
    struct Told(std::sync::Mutex<Heard>);
    impl Progress for Told {
        fn found(&self, files: u64, bytes: u64) {
            let mut told = self.0.lock().unwrap();
            told.1 += files;
            told.2 += bytes;
        }
        fn done(&self, files: u64, bytes: u64) {
            let mut told = self.0.lock().unwrap();
            told.3 += files;
            told.4 += bytes;
        }
        fn item(&self, path: &[u8], outcome: Outcome, _bytes: u64) {
            assert!(self.0.lock().unwrap().0.insert(path.to_vec(), outcome).is_none(), "told of twice");
        }
        fn wants_items(&self) -> bool {
            true
        }
    }
    let repository = init(MemoryStore::new());
    for (tree, count_ahead) in [(tree(), false), (changed(&tree()), true)] {
        let progress = Told::default();
        let options = BackupOptions { count_ahead, ..options() };
        let report = backup(&repository, &ModelSource::new(&tree), &options, &progress, &Cancel::default()).unwrap();
        let (items, found_files, found_bytes, done_files, done_bytes) = progress.0.into_inner().unwrap();
        assert_eq!(items.len(), tree.seen().len());
        if count_ahead {
            // Counting ends with the backup, which may be faster.
            assert!(found_files <= report.totals.files && found_bytes <= report.totals.bytes);
        } else {
            assert_eq!((found_files, found_bytes), (report.totals.files, report.totals.bytes));
        }
        assert_eq!((done_files, done_bytes), (report.totals.files, report.totals.bytes));
        let count = |outcome| items.values().filter(|told| **told == outcome).count() as u64;
        let summary = &report.summary;
        assert_eq!(count(Outcome::New), summary.files_new + summary.directories_new);
        assert_eq!(count(Outcome::Changed), summary.files_changed + summary.directories_changed);
        assert_eq!(count(Outcome::Unchanged), summary.files_unmodified + summary.directories_unmodified);
    }
}

/// Everything a snapshot says of its tree adds up.
#[test]
fn totals_add_up() {
    let repository = init(MemoryStore::new());
    let tree = tree();
    let report = back_up(&repository, &ModelSource::new(&tree), &options()).unwrap();
    let (_, snapshot) = &snapshots(&repository)[0];
    let blobs = reader(&repository);
    let found = read_back(&blobs, &snapshot.tree).unwrap();
    let directories = found.values().filter(|seen| seen.file_type == repo_core::source::FileType::Directory).count();
    let bytes: u64 = found
        .values()
        .filter(|seen| seen.file_type == repo_core::source::FileType::File)
        .map(|seen| seen.content.len() as u64 + seen.holes.iter().map(|(_, length)| length).sum::<u64>())
        .sum();
    assert_eq!(snapshot.totals.directories, directories as u64);
    assert_eq!(snapshot.totals.files, (found.len() - directories) as u64);
    assert_eq!((snapshot.totals.bytes, report.totals), (bytes, snapshot.totals));
    assert!(matches!(TreeBlob::read(&blobs, &snapshot.tree, &mut Vec::new()).unwrap(), TreeBlob::Entries(_)));
    let index = common::bench::index(&repository);
    let count = |kind| index.runs().iter().map(|run| u64::from(run.table.counts().blobs(kind))).sum::<u64>();
    assert_eq!((count(BlobKind::Data), count(BlobKind::Tree)), (report.added.data_blobs, report.added.tree_blobs));
}
