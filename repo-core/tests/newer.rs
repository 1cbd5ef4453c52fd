//! What newer programs write: this one says that it is newer, does not act on what it does not know, and goes on with the rest.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod check_fixture;
#[path = "common/mod.rs"]
mod common;

use std::{collections::BTreeMap, fs};

use check_fixture::{Writer, check_all, entry, init, noise, open, reader, small, snapshot};
use common::{
    bench::{back_up, names, options, seen_of},
    model::{ModelSource, Thing},
};
use repo_core::{
    backup::Parent,
    check::{CheckReport, FindingKind},
    crypto::{keys::ObjectKind, slot::MAGIC},
    dump::{Format, TreeDump, dump_file, dump_tree},
    error::Error,
    progress::{Cancel, Silent},
    repository::seal::Seal,
    restore::{Everything, RestoreOptions, restore},
    sink::local::{LocalOptions, LocalSink},
    snapshot::Listing,
    store::{ObjectName, Place, memory::MemoryStore},
    tree::{
        name::Bytes,
        node::{Entry, Extension, Node, NodeKind},
        walk::lookup,
    },
};

fn extension(tag: u32) -> Extension {
    Extension { tag, value: Bytes::new(*b"of another time").unwrap() }
}

fn with_extension(mut entry: Entry, tag: u32) -> Entry {
    entry.node.metadata.extensions.push(extension(tag));
    entry
}

/// A file and a directory with a tag that has to be known, and the same with one that has not.
fn entries(writer: &Writer) -> Vec<Entry> {
    let below = || [writer.file("below", b"below", 100, 0)];
    vec![
        with_extension(writer.directory_entry("even", &below()), 2),
        with_extension(writer.file("file-even", b"even", 100, 0), 2),
        with_extension(writer.file("file-odd", b"odd", 100, 0), 3),
        with_extension(writer.directory_entry("odd", &below()), 3),
        writer.file("plain", b"plain", 100, 0),
    ]
}

fn is_newer_extension(error: &Error) -> bool {
    matches!(error, Error::NewerExtension { tag: 3, .. }) && error.is_newer()
}

#[test]
fn restore_passes_over_entries_with_an_odd_tag() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let writer = Writer::new(&repository);
    let (tree, totals) = writer.directory(&entries(&writer));
    writer.commit_tree(tree, totals);
    let target = tempfile::tempdir().unwrap();
    let sink = LocalSink::new(target.path(), &LocalOptions::default()).unwrap();
    let options = RestoreOptions { delete: true, ..RestoreOptions::default() };
    fs::create_dir(target.path().join("odd")).unwrap();
    fs::write(target.path().join("odd/mine"), "mine").unwrap();
    let report =
        restore(&reader(&repository), &tree, &sink, &Everything, &options, &Silent, &Cancel::default()).unwrap();
    let told: BTreeMap<_, _> = report.problems.iter().map(|p| (p.path.clone(), p.message.clone())).collect();
    assert_eq!(told.keys().map(Vec::as_slice).collect::<Vec<_>>(), [&b"file-odd"[..], b"odd"]);
    assert!(told.values().all(|message| message.contains("newer version") && message.contains("extension 3")));
    let there: Vec<_> =
        ["even/below", "file-even", "plain"].iter().map(|path| fs::read(target.path().join(path)).unwrap()).collect();
    assert_eq!(there, [&b"below"[..], b"even", b"plain"]);
    assert!(!target.path().join("file-odd").exists() && !target.path().join("odd/below").exists());
    assert!(target.path().join("odd/mine").exists(), "what is in a directory nobody understands stays");
}

#[test]
fn dump_leaves_them_out_and_paths_do_not_lead_through_them() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let writer = Writer::new(&repository);
    let (tree, totals) = writer.directory(&entries(&writer));
    writer.commit_tree(tree, totals);
    let reader = reader(&repository);
    let mut archive = Vec::new();
    let (users, groups) = (BTreeMap::new(), BTreeMap::new());
    let dump = TreeDump { tree, prefix: b"", root: None, users: &users, groups: &groups };
    let report = dump_tree(&reader, &dump, Format::Tar, &mut archive, &Silent, &Cancel::default()).unwrap();
    assert_eq!((report.entries, report.left_out), (4, 2));
    let mut archive = tar::Archive::new(&archive[..]);
    let mut paths: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().trim_end_matches('/').to_owned())
        .collect();
    paths.sort();
    assert_eq!(paths, ["even", "even/below", "file-even", "plain"]);

    for path in [&b"odd"[..], b"odd/below", b"file-odd"] {
        assert!(is_newer_extension(&lookup(&reader, &tree, path, "x").unwrap_err()), "{}", path.escape_ascii());
    }
    assert!(lookup(&reader, &tree, b"even/below", "x").unwrap().is_some());
    let Entry { node, .. } = with_extension(entry("f", NodeKind::Fifo), 3);
    let file = Node { kind: lookup(&reader, &tree, b"plain", "x").unwrap().unwrap().kind, metadata: node.metadata };
    assert!(is_newer_extension(&dump_file(&reader, &file, &mut Vec::new(), &Cancel::default()).unwrap_err()));
}

#[test]
fn a_backup_takes_nothing_over_that_it_does_not_understand() {
    let store = MemoryStore::default();
    let tree = Thing::directory([("a", Thing::file(noise("a", 900))), ("d", Thing::directory([("b", Thing::fifo())]))]);
    let repository = init(&store);
    let first = back_up(&repository, &ModelSource::new(&tree), &options()).unwrap().snapshot.unwrap();
    let (_, body) = Listing::read(&repository).unwrap().snapshots.remove(0);
    // The same tree, but for marks on both entries.
    let session = Writer::new(&repository);
    let reader = reader(&repository);
    let marked: Vec<_> = ["a", "d"]
        .map(|name| {
            let node = lookup(&reader, &body.tree, name.as_bytes(), "x").unwrap().unwrap();
            with_extension(Entry { node, ..entry(name, NodeKind::Fifo) }, 5)
        })
        .into();
    let (marked, _) = session.directory(&marked);
    let marked = repo_core::snapshot::Snapshot { tree: marked, time: options().time.unwrap_or(body.time), ..body };
    let parent = session.session.commit(&marked, &mut check_fixture::no_rescue).unwrap();
    let source = ModelSource::new(&tree);
    let options = repo_core::backup::BackupOptions { parent: Parent::Snapshot(parent), ..options() };
    let report = back_up(&open(&store), &source, &options).unwrap();
    assert_eq!(source.read_bytes(), 900, "the file is read again");
    let repository = open(&store);
    assert_eq!(seen_of(&repository, &report.snapshot.unwrap()), seen_of(&repository, &first));

    // A snapshot that is marked as a whole is no parent at all.
    let newer = repo_core::snapshot::Snapshot { extensions: vec![extension(3)], ..marked };
    let newer: repo_core::id::SnapshotId =
        repository.save(Place::Snapshots, ObjectKind::Snapshot, &newer).unwrap().into();
    repository.save(Place::Snapshots, ObjectKind::Seal, &Seal::new(vec![newer])).unwrap();
    let options = repo_core::backup::BackupOptions { parent: Parent::Snapshot(newer), ..options };
    assert!(is_newer_extension(&back_up(&repository, &source, &options).unwrap_err()));
}

fn newer_objects(report: &CheckReport) -> Vec<&str> {
    let newer = report.findings.iter().filter(|finding| matches!(finding.what, FindingKind::Newer { .. }));
    newer.map(|finding| finding.object.as_str()).collect()
}

#[test]
fn check_says_which_pages_and_snapshots_carry_odd_tags() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let writer = Writer::new(&repository);
    let (tree, totals) = writer.directory(&entries(&writer));
    let mut body = snapshot(tree, totals, 1);
    body.extensions.push(extension(9));
    let id = writer.session.commit(&body, &mut check_fixture::no_rescue).unwrap();
    let report = check_all(&repository);
    let mut newer = newer_objects(&report);
    newer.sort_unstable();
    assert_eq!(newer, [ObjectName::new(Place::Snapshots, id).to_string(), format!("tree blob {tree}")]);
    assert_eq!(report.errors(), 2, "{:#?}", report.findings);
    assert!(report.is_only_newer());
}

/// Puts another version into an object's header, under the name that its bytes then have.
fn make_newer(store: &MemoryStore, name: &ObjectName) -> ObjectName {
    let mut bytes = store.bytes_of(name).unwrap().to_vec();
    bytes[MAGIC.len()..MAGIC.len() + 2].copy_from_slice(&2_u16.to_le_bytes());
    let newer = ObjectName::new(name.place(), repo_core::pack::builder::object_id(&bytes));
    store.remove(name);
    store.replace(&newer, bytes);
    newer
}

#[test]
fn check_calls_newer_objects_newer_and_not_damaged() {
    for place in [Place::Keys, Place::Snapshots, Place::Index, Place::Locks] {
        let count = names(&small().store, place).len();
        assert!(count > 0);
        for number in 0..count {
            let small = small();
            // The key it is opened with must be one that can be read.
            let repository = small.repository;
            let newer = make_newer(&small.store, &names(&small.store, place)[number]);
            let report = check_all(&repository);
            assert!(newer_objects(&report).contains(&newer.to_string().as_str()), "{:#?}", report.findings);
            let damaged = report.findings.iter().find(|finding| finding.object == newer.to_string()).unwrap();
            assert!(damaged.to_string().contains("format version 2"), "{damaged}");
            if place == Place::Keys || place == Place::Locks {
                assert!(report.is_only_newer(), "{:#?}", report.findings);
            }
        }
    }
}

#[test]
fn no_snapshot_is_called_tentative_where_a_seal_is_newer() {
    let small = small();
    let seals: Vec<_> = names(&small.store, Place::Snapshots)
        .into_iter()
        .filter(|name| small.store.bytes_of(name).unwrap().len() as u64 == repo_core::envelope::object::SEAL_BYTES)
        .collect();
    assert_eq!(seals.len(), 2);
    let tentative = |report: &CheckReport| {
        report.findings.iter().filter(|finding| matches!(finding.what, FindingKind::Tentative)).count()
    };
    assert_eq!(tentative(&check_all(&small.repository)), 1);
    make_newer(&small.store, &seals[0]);
    assert_eq!(tentative(&check_all(&small.repository)), 0);
}
