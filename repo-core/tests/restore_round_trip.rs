//! What is restored is what was stored.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{fs, os::unix::fs::MetadataExt};

use common::{
    compare::{CompareOptions, assert_same_tree},
    sample::{Stage, noise, set_modified, small_windows},
};
use repo_core::{
    progress::{Cancel, Silent},
    restore::{Everything, RestoreOptions, restore},
    sink::local::{LocalOptions, LocalSink},
};

fn all() -> CompareOptions {
    CompareOptions::default()
}

#[test]
fn everything_comes_back() {
    let stage = Stage::sample();
    let report = stage.restore(&RestoreOptions { verify: true, sync: true, ..RestoreOptions::default() });
    assert_same_tree(&stage.source, &stage.target, &all());
    assert_eq!(report.files_new, report.files_found, "{report:#?}");
    assert_eq!(report.hard_links, 2);
    assert!(report.bytes_verified > 0);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn small_windows_change_nothing() {
    for threads in [1, 4] {
        let stage = Stage::sample();
        stage.restore(&RestoreOptions { threads, ..small_windows() });
        assert_same_tree(&stage.source, &stage.target, &all());
    }
}

#[test]
fn one_open_directory_is_enough() {
    let stage = Stage::sample();
    let few = LocalOptions { open_directories: Some(1), ..LocalOptions::default() };
    let sink = LocalSink::new(&stage.target, &few).unwrap();
    let options = RestoreOptions { threads: 4, ..RestoreOptions::default() };
    let report = restore(&stage.blobs, &stage.tree, &sink, &Everything, &options, &Silent, &Cancel::default()).unwrap();
    assert_eq!(report.problem_count, 0, "{:?}", report.problems);
    assert_same_tree(&stage.source, &stage.target, &all());
}

#[test]
fn every_frame_is_opened_once() {
    let stage = Stage::sample();
    stage.blobs.opened.store(0, std::sync::atomic::Ordering::Relaxed);
    let frames: std::collections::HashSet<_> =
        stage.blobs.data_blobs().into_iter().map(|(_, at)| (at.frame.pack, at.frame.ordinal)).collect();
    stage.restore(&RestoreOptions::default());
    assert_eq!(stage.blobs.opened.load(std::sync::atomic::Ordering::Relaxed), frames.len() as u64);
}

#[test]
fn a_second_restore_changes_nothing() {
    let stage = Stage::sample();
    stage.restore(&RestoreOptions::default());
    let inode = fs::metadata(stage.target.join("docs/hello.txt")).unwrap().ino();
    let again = stage.restore(&RestoreOptions::default());
    assert_same_tree(&stage.source, &stage.target, &all());
    assert_eq!(again.bytes_written, 0, "{again:#?}");
    assert_eq!(again.bytes_fetched, 0);
    assert_eq!(again.directories_new, 0);
    assert_eq!(fs::metadata(stage.target.join("docs/hello.txt")).unwrap().ino(), inode);
}

#[test]
fn large_file_is_changed_where_it_differs() {
    let mut stage = Stage::new(|root| {
        fs::write(root.join("image"), noise(1, 20 << 20)).unwrap();
        set_modified(&root.join("image"), 1_600_000_000, 5);
    });
    stage.restore(&RestoreOptions::default());
    let inode = fs::metadata(stage.target.join("image")).unwrap().ino();
    // Changed content, a hole where data was, a longer file.
    for (offset, bytes) in [(5 << 20, &b"changed"[..]), ((20 << 20) + 300_000, b"the end")] {
        use std::os::unix::fs::FileExt;
        let file = fs::File::options().write(true).open(stage.source.join("image")).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        rustix::fs::fallocate(
            &file,
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
            8 << 20,
            1 << 20,
        )
        .unwrap();
    }
    stage.store_again();
    for options in [RestoreOptions::default(), small_windows()] {
        let report = stage.restore(&RestoreOptions { verify: true, ..options });
        assert_same_tree(&stage.source, &stage.target, &all());
        assert_eq!(fs::metadata(stage.target.join("image")).unwrap().ino(), inode, "it is the same file");
        assert!(report.bytes_written < 100_000, "{report:#?}");
        // Once more, from a shorter and a longer file than the snapshot has.
        let file = fs::File::options().write(true).open(stage.target.join("image")).unwrap();
        file.set_len(19 << 20).unwrap();
        stage.restore(&small_windows());
        assert_same_tree(&stage.source, &stage.target, &all());
        file.set_len(30 << 20).unwrap();
        stage.restore(&RestoreOptions::default());
        assert_same_tree(&stage.source, &stage.target, &all());
    }
}

#[test]
fn a_tree_of_many_levels() {
    let stage = Stage::new(|root| {
        let deep = root.join("e/".repeat(900));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "deep down").unwrap();
    });
    stage.restore(&RestoreOptions::default());
    assert_same_tree(&stage.source, &stage.target, &all());
}

#[test]
fn target_is_made_with_its_parents() {
    let stage = Stage::new(|root| fs::write(root.join("file"), "content").unwrap());
    let target = stage.temp.path().join("not/there/yet");
    let sink = LocalSink::new(&target, &LocalOptions::default()).unwrap();
    restore(&stage.blobs, &stage.tree, &sink, &Everything, &RestoreOptions::default(), &Silent, &Cancel::default())
        .unwrap();
    assert_same_tree(&stage.source, &target, &all());
}

#[test]
fn excluded_xattrs_are_neither_set_nor_removed() {
    let stage = Stage::sample();
    let options =
        LocalOptions { exclude_xattrs: vec!["user.bin*".into(), "trusted.*".into()], ..LocalOptions::default() };
    let run = || {
        let sink = LocalSink::new(&stage.target, &options).unwrap();
        let (options, cancel) = (RestoreOptions::default(), Cancel::default());
        restore(&stage.blobs, &stage.tree, &sink, &Everything, &options, &Silent, &cancel).unwrap()
    };
    run();
    let file = stage.target.join("docs/deep/small-03");
    assert!(!common::compare::xattrs(&file).contains_key("user.binary"));
    let set = |name: &str| {
        rustix::fs::setxattr(&file, name, b"mine", rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("user.binary");
    set("user.extra");
    run();
    let there = common::compare::xattrs(&file);
    assert_eq!(there.get("user.binary").map(Vec::as_slice), Some(&b"mine"[..]));
    assert!(!there.contains_key("user.extra"), "what the snapshot has not goes");
}

#[test]
fn only_included_xattrs_are_set_and_removed() {
    let stage = Stage::sample();
    let options = LocalOptions {
        include_xattrs: vec!["user.*".into()],
        exclude_xattrs: vec!["user.binary".into()],
        ..LocalOptions::default()
    };
    let run = || {
        let sink = LocalSink::new(&stage.target, &options).unwrap();
        let (options, cancel) = (RestoreOptions::default(), Cancel::default());
        restore(&stage.blobs, &stage.tree, &sink, &Everything, &options, &Silent, &cancel).unwrap()
    };
    run();
    let mut set = 0;
    for path in ["docs/hello.txt", "docs/deep/small-03", "docs/deep"] {
        let there = common::compare::xattrs(&stage.target.join(path));
        assert!(there.keys().all(|name| name.starts_with("user.") && name != "user.binary"), "{path}: {there:?}");
        set += there.len();
    }
    assert!(set > 0, "some are meant");
    let file = stage.target.join("docs/deep/small-03");
    // What is not meant is left alone, what is meant and not in the snapshot goes.
    for name in ["trusted.mine", "user.mine"] {
        let set = rustix::fs::setxattr(&file, name, b"mine", rustix::fs::XattrFlags::empty());
        assert!(set.is_ok() || !common::sample::is_root(), "{name}");
    }
    run();
    let there = common::compare::xattrs(&file);
    assert!(!there.contains_key("user.mine"));
    assert_eq!(there.contains_key("trusted.mine"), common::sample::is_root());
}

#[test]
fn inherited_access_lists_do_not_stay() {
    let stage = Stage::sample();
    fs::create_dir(&stage.target).unwrap();
    let list = &common::compare::xattrs(&stage.source.join("docs/deep"))["system.posix_acl_default"];
    rustix::fs::setxattr(&stage.target, "system.posix_acl_default", list, rustix::fs::XattrFlags::empty()).unwrap();
    stage.restore(&RestoreOptions::default());
    assert_same_tree(&stage.source, &stage.target, &all());
}
