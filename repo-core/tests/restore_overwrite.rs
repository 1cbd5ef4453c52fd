//! What becomes of what is in the target already, what is selected, and what is removed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    sync::Mutex,
};

use common::{
    compare::{CompareOptions, assert_same_tree, differences},
    sample::{Stage, noise, set_mode, set_modified, small_windows},
};
use repo_core::{
    progress::{Cancel, Outcome, Progress, Silent},
    restore::{Everything, Overwrite, RestoreOptions, Rules, Selection, restore},
};

const MODES: [Overwrite; 4] = [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never];

fn with(overwrite: Overwrite) -> RestoreOptions {
    RestoreOptions { overwrite, ..RestoreOptions::default() }
}

/// A file `file` with "stored", modified at second 1000.
fn one_file() -> Stage {
    Stage::new(|root| {
        fs::write(root.join("file"), "stored").unwrap();
        set_modified(&root.join("file"), 1000, 5);
    })
}

#[test]
fn overwrite_rules_for_files() {
    // What is there, when it was modified, and whether it stays under Always, IfChanged, IfNewer, Never.
    for (there, seconds, nanoseconds, stays) in [
        ("edited", 1000, 5, [false, true, true, true]),
        ("edited", 1000, 6, [false, false, true, true]),
        ("edited", 1000, 4, [false, false, false, true]),
        ("longer than that", 1000, 5, [false, false, true, true]),
        ("longer than that", 999, 5, [false, false, false, true]),
        ("longer than that", 1001, 0, [false, false, true, true]),
    ] {
        for (overwrite, stays) in MODES.into_iter().zip(stays) {
            let stage = one_file();
            fs::create_dir(&stage.target).unwrap();
            let file = stage.target.join("file");
            fs::write(&file, there).unwrap();
            set_modified(&file, seconds, nanoseconds);
            let report = stage.restore(&with(overwrite));
            let expected = if stays { there } else { "stored" };
            assert_eq!(fs::read_to_string(&file).unwrap(), expected, "{overwrite:?} {there} {seconds}.{nanoseconds}");
            assert_eq!((report.files_unchanged, report.files_changed), if stays { (1, 0) } else { (0, 1) });
            assert_eq!(fs::read_dir(&stage.target).unwrap().count(), 1, "nothing else is left");
        }
    }
}

#[test]
fn a_replaced_file_is_never_written_into() {
    let stage = one_file();
    fs::create_dir(&stage.target).unwrap();
    let (file, other) = (stage.target.join("file"), stage.temp.path().join("outside"));
    fs::write(&other, "edited").unwrap();
    set_mode(&other, 0o600);
    fs::hard_link(&other, &file).unwrap();
    stage.restore(&RestoreOptions::default());
    assert_eq!(fs::read_to_string(&file).unwrap(), "stored");
    assert_eq!(fs::read_to_string(&other).unwrap(), "edited");
    // The same content, but other metadata: that of the other name must not change either.
    fs::write(&other, "stored").unwrap();
    fs::remove_file(&file).unwrap();
    fs::hard_link(&other, &file).unwrap();
    stage.restore(&RestoreOptions::default());
    assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o600);
    assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
}

#[test]
fn other_types_are_replaced() {
    let stage = Stage::sample();
    fs::create_dir_all(stage.target.join("docs/hello.txt")).unwrap();
    fs::create_dir_all(stage.target.join("link")).unwrap();
    fs::write(stage.target.join("empty"), "a file where a directory goes").unwrap();
    fs::write(stage.target.join("dangling"), "a file where a link goes").unwrap();
    symlink("elsewhere", stage.target.join("sparse")).unwrap();
    symlink("elsewhere", stage.target.join("pipe")).unwrap();
    symlink("/etc", stage.target.join("docs/deep")).unwrap();
    stage.restore(&RestoreOptions::default());
    assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
}

#[test]
fn a_full_directory_is_not_removed_for_a_file() {
    for (delete, dry_run) in [(false, true), (false, false), (true, false)] {
        let stage = one_file();
        fs::create_dir_all(stage.target.join("file")).unwrap();
        fs::write(stage.target.join("file/precious"), "mine").unwrap();
        let report = stage.try_restore(&RestoreOptions { delete, dry_run, ..RestoreOptions::default() }).unwrap();
        if delete {
            assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
        } else {
            assert_eq!(report.problem_count, 1);
            assert_eq!(report.problems[0].path, b"file");
            assert_eq!(fs::read(stage.target.join("file/precious")).unwrap(), b"mine");
        }
    }
}

#[test]
fn what_is_to_stay_stays_and_its_children_are_a_problem() {
    let stage = Stage::new(|root| {
        fs::create_dir(root.join("directory")).unwrap();
        fs::write(root.join("directory/file"), "stored").unwrap();
        fs::write(root.join("other"), "stored").unwrap();
    });
    fs::create_dir(&stage.target).unwrap();
    fs::write(stage.target.join("directory"), "a file").unwrap();
    let report = stage.try_restore(&with(Overwrite::Never)).unwrap();
    assert_eq!(report.problem_count, 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].path, b"directory");
    assert_eq!(fs::read_to_string(stage.target.join("directory")).unwrap(), "a file");
    assert_eq!(fs::read_to_string(stage.target.join("other")).unwrap(), "stored");
}

#[test]
fn never_leaves_existing_directories_alone() {
    let stage = Stage::new(|root| {
        fs::create_dir(root.join("directory")).unwrap();
        fs::write(root.join("directory/file"), "stored").unwrap();
        set_mode(&root.join("directory"), 0o700);
    });
    fs::create_dir_all(stage.target.join("directory")).unwrap();
    set_mode(&stage.target.join("directory"), 0o755);
    stage.restore(&with(Overwrite::Never));
    assert_eq!(fs::metadata(stage.target.join("directory")).unwrap().mode() & 0o777, 0o755);
    stage.restore(&with(Overwrite::Always));
    assert_eq!(fs::metadata(stage.target.join("directory")).unwrap().mode() & 0o777, 0o700);
}

/// Adds things to the target that the sample does not have.
fn add_extras(target: &Path) {
    fs::create_dir_all(target.join("docs/deep/extra/more")).unwrap();
    fs::write(target.join("docs/deep/extra/more/file"), "x").unwrap();
    fs::write(target.join("docs/deep/extra/keep.me"), "x").unwrap();
    fs::write(target.join("extra.txt"), "x").unwrap();
    symlink("/etc", target.join("docs/extra-link")).unwrap();
}

#[test]
fn delete_removes_what_the_snapshot_lacks() {
    for options in [RestoreOptions::default(), small_windows()] {
        let stage = Stage::sample();
        stage.restore(&RestoreOptions::default());
        add_extras(&stage.target);
        let kept = stage.restore(&options);
        assert_eq!(kept.deleted, 0);
        assert!(stage.target.join("extra.txt").exists());
        let report = stage.restore(&RestoreOptions { delete: true, ..options });
        assert_eq!(report.deleted, 6, "{report:#?}");
        assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
        assert!(Path::new("/etc/passwd").exists());
    }
}

#[test]
fn delete_respects_the_rule() {
    let stage = Stage::sample();
    stage.restore(&RestoreOptions::default());
    add_extras(&stage.target);
    let keep = |path: &[u8], _: bool| if path.ends_with(b".me") { Selection::NONE } else { Selection::ALL };
    let options = RestoreOptions { delete: true, ..RestoreOptions::default() };
    restore(&stage.blobs, &stage.tree, &stage.sink(), &keep, &options, &Silent, &Cancel::default()).unwrap();
    let left = differences(&stage.source, &stage.target, &CompareOptions { times: false, ..CompareOptions::default() });
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with("docs/deep/extra: only in"));
    assert!(stage.target.join("docs/deep/extra/keep.me").exists());
    assert!(!stage.target.join("docs/deep/extra/more").exists());
}

/// Of a directory only the pages with names that are asked for are read. What else is there, in the snapshot or not, is none of its business.
#[test]
fn delete_touches_nothing_beside_what_is_named() {
    let stage = Stage::new(|root| {
        fs::create_dir_all(root.join("many/below")).unwrap();
        (0..3000).for_each(|i| fs::write(root.join(format!("many/file-{i:05}")), "x").unwrap());
        fs::write(root.join("other"), "x").unwrap();
    });
    assert!(stage.blobs.tree_blobs().len() > 4, "the directory has several pages");
    stage.restore(&RestoreOptions::default());
    let extra =
        ["extra", "many/extra", "many/file-02900-extra", "many/below/extra"].map(|name| stage.target.join(name));
    for path in &extra {
        fs::write(path, "x").unwrap();
    }
    fs::remove_file(stage.target.join("many/file-00100")).unwrap();
    let options = RestoreOptions { delete: true, verify: true, ..RestoreOptions::default() };
    let run = |include: &[u8]| {
        let mut rules = Rules::default();
        rules.include(include, false).unwrap();
        restore(&stage.blobs, &stage.tree, &stage.sink(), &rules, &options, &Silent, &Cancel::default()).unwrap()
    };
    let report = run(b"/many/file-00100");
    assert_eq!((report.files_new, report.deleted, report.problem_count), (1, 0, 0), "{report:#?}");
    // One that is named and not in the snapshot goes, and nothing else.
    assert_eq!(run(b"/many/file-02900-extra").deleted, 1);
    assert!(extra.iter().map(|path| path.exists()).eq([true, true, false, true]));
    assert_eq!(run(b"/many").deleted, 2);
    fs::remove_file(&extra[0]).unwrap();
    assert_same_tree(&stage.source, &stage.target, &CompareOptions { times: false, ..CompareOptions::default() });
}

#[test]
fn delete_spares_a_directory_that_cannot_be_read_completely() {
    let stage = Stage::sample();
    stage.restore(&RestoreOptions::default());
    let tree = {
        use repo_core::tree::{node::NodeKind, walk::lookup};
        let node = lookup(&stage.blobs, &stage.tree, b"docs/deep", "").unwrap().unwrap();
        let NodeKind::Directory { tree, .. } = node.kind else { unreachable!() };
        tree
    };
    stage.blobs.forget(repo_core::blob::BlobKind::Tree, &tree).unwrap();
    let options = RestoreOptions { delete: true, ..RestoreOptions::default() };
    let report = stage.try_restore(&options).unwrap();
    assert_eq!(report.deleted, 0);
    assert!(report.problems.iter().all(|problem| problem.path == b"docs/deep"), "{:?}", report.problems);
    assert!(stage.target.join("docs/deep/small-00").exists());
}

#[test]
fn only_what_is_selected_comes_back() {
    let stage = Stage::sample();
    // As "--include small-1*" would: directories are looked into, but not wanted themselves.
    let rule = |path: &[u8], is_directory: bool| Selection {
        restore: path.windows(8).any(|part| part == b"/small-1"),
        descend: is_directory,
    };
    let run = |options: &RestoreOptions| {
        let sink = stage.sink();
        restore(&stage.blobs, &stage.tree, &sink, &rule, options, &Silent, &Cancel::default()).unwrap()
    };
    let foretold = run(&RestoreOptions { dry_run: true, ..RestoreOptions::default() });
    let report = run(&RestoreOptions::default());
    assert_eq!(report.problem_count, 0);
    assert_eq!((foretold.files_new, foretold.directories_new), (report.files_new, report.directories_new));
    assert_eq!((report.files_found, report.directories_new), (10, 2));
    let names: BTreeSet<_> =
        fs::read_dir(stage.target.join("docs/deep")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 10);
    assert_eq!(fs::read_dir(&stage.target).unwrap().count(), 1);
    // Directories made on the way get their own attributes.
    let [one, two] = [&stage.source, &stage.target].map(|root| fs::metadata(root.join("docs/deep")).unwrap());
    assert_eq!((one.mode(), one.uid(), one.mtime()), (two.mode(), two.uid(), two.mtime()));
}

#[test]
fn a_dry_run_changes_nothing_and_tells_the_truth() {
    #[derive(Default)]
    struct Items(Mutex<BTreeSet<(Vec<u8>, String)>>);
    impl Progress for Items {
        fn item(&self, path: &[u8], outcome: Outcome, _: u64) {
            assert!(self.0.lock().unwrap().insert((path.to_vec(), format!("{outcome:?}"))), "told twice");
        }
        fn wants_items(&self) -> bool {
            true
        }
    }
    let stage = Stage::sample();
    stage.restore(&RestoreOptions::default());
    add_extras(&stage.target);
    fs::write(stage.target.join("docs/twin.txt"), "changed").unwrap();
    fs::remove_file(stage.target.join("docs/empty.txt")).unwrap();
    fs::remove_file(stage.target.join("docs/hello.txt")).unwrap();
    fs::remove_dir_all(stage.target.join("docs/deep/deeper")).unwrap();
    set_mode(&stage.target.join("docs/deep/small-07"), 0o700);
    fs::write(stage.target.join("docs/deep/small-08"), noise(99, 100 + 37 * 8)).unwrap();
    let before = stage.temp.path().join("before");
    let copied = std::process::Command::new("cp").arg("-a").args([&stage.target, &before]).status().unwrap();
    assert!(copied.success());
    let options = RestoreOptions { delete: true, ..RestoreOptions::default() };
    let run = |dry_run| {
        let items = Items::default();
        let options = RestoreOptions { dry_run, ..options.clone() };
        let cancel = Cancel::default();
        let report = restore(&stage.blobs, &stage.tree, &stage.sink(), &Everything, &options, &items, &cancel).unwrap();
        assert_eq!(report.problem_count, 0, "{:?}", report.problems);
        (report, items.0.into_inner().unwrap())
    };
    let (foretold, items) = run(true);
    assert_same_tree(&before, &stage.target, &CompareOptions { root: true, ..CompareOptions::default() });
    let (done, items_done) = run(false);
    assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
    assert_eq!(items, items_done);
    let numbers = |r: &repo_core::restore::RestoreReport| {
        (r.files_found, r.files_new, r.files_changed, r.files_unchanged, r.directories_new, r.deleted)
    };
    assert_eq!(numbers(&foretold), numbers(&done));

    let empty = Stage::sample();
    let report = empty.restore(&RestoreOptions { dry_run: true, ..RestoreOptions::default() });
    assert!(!empty.target.exists());
    assert_eq!(report.files_new, report.files_found);
}

#[test]
fn verify_notices_what_changed_behind_our_back() {
    struct Meddle<'a>(&'a Path, Mutex<bool>);
    impl Progress for Meddle<'_> {
        fn item(&self, path: &[u8], _: Outcome, _: u64) {
            if path == b"docs/deep/small-20" && !std::mem::replace(&mut *self.1.lock().unwrap(), true) {
                fs::write(self.0.join("docs/deep/small-20"), noise(5, 100 + 37 * 20)).unwrap();
            }
        }
        fn wants_items(&self) -> bool {
            true
        }
    }
    let stage = Stage::sample();
    let meddle = Meddle(&stage.target, Mutex::new(false));
    let options = RestoreOptions { verify: true, ..RestoreOptions::default() };
    let sink = stage.sink();
    let report = restore(&stage.blobs, &stage.tree, &sink, &Everything, &options, &meddle, &Cancel::default()).unwrap();
    assert_eq!(report.problem_count, 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].path, b"docs/deep/small-20");
    assert_eq!(report.problems[0].during, "verify");
}
