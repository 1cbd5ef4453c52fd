//! Hostile targets and hostile trees: nothing outside the target is touched.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use common::{
    compare::{CompareOptions, assert_same_tree},
    memory_blobs::MemoryBlobs,
    sample::{Stage, is_root, make_sample, noise, set_mode, small_windows},
    snapshot_of::snapshot_of,
};
use repo_core::{
    blob::{BlobKind, WriteBlobs},
    codec,
    progress::{Cancel, Silent},
    restore::{Everything, Overwrite, RestoreOptions, restore},
    sink::{
        Identity, Sink,
        local::{LocalOptions, LocalSink},
    },
    time::Timestamp,
    tree::{
        TreeBlob,
        name::Name,
        node::{Content, Device, Entry, HardLinks, Metadata, Mode, Node, NodeKind, Piece, Totals},
    },
};

/// A directory beside the target that nobody may touch.
fn canary(stage: &Stage) -> std::path::PathBuf {
    let canary = stage.temp.path().join("canary");
    fs::create_dir_all(canary.join("deep")).unwrap();
    fs::write(canary.join("file"), "canary").unwrap();
    fs::write(canary.join("deep/small-00"), "canary").unwrap();
    set_mode(&canary.join("file"), 0o600);
    canary
}

/// Everything about the canary, times of directories included.
fn state(path: &Path) -> String {
    let mut text = String::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let content = if stat.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let _ = writeln!(
            text,
            "{} {:o} {} {} {}.{} {}.{} {content:?}",
            path.display(),
            stat.mode(),
            stat.uid(),
            stat.nlink(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec()
        );
        if stat.is_dir() {
            let mut below: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            pending.extend(below);
        }
    }
    text
}

#[test]
fn planted_links_are_replaced_and_never_followed() {
    for overwrite in [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never] {
        for delete in [false, true] {
            let stage = Stage::sample();
            let canary = canary(&stage);
            let before = state(&canary);
            fs::create_dir_all(stage.target.join("docs/deep")).unwrap();
            symlink(&canary, stage.target.join("empty")).unwrap();
            symlink(&canary, stage.target.join("docs/deep/deeper")).unwrap();
            symlink(canary.join("file"), stage.target.join("docs/hello.txt")).unwrap();
            symlink(canary.join("file"), stage.target.join("docs/deep/small-01")).unwrap();
            symlink(canary.join("not-there"), stage.target.join("sparse")).unwrap();
            symlink(canary.join("file"), stage.target.join("docs/.twin.txt.coffer-restore")).unwrap();
            symlink(&canary, stage.target.join("a link to remove")).unwrap();
            let options = RestoreOptions { overwrite, delete, ..RestoreOptions::default() };
            let report = stage.try_restore(&options).unwrap();
            assert_eq!(state(&canary), before, "{overwrite:?}");
            assert!(!canary.join("not-there").exists());
            if overwrite == Overwrite::Always && delete {
                assert_eq!(report.problem_count, 0, "{:?}", report.problems);
                assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
            }
        }
    }
}

#[test]
fn a_directory_swapped_for_a_link_at_any_time_leads_nowhere() {
    let stage = Stage::new(|root| {
        for directory in 0..20 {
            fs::create_dir_all(root.join(format!("swap/d{directory}"))).unwrap();
            for file in 0..30 {
                let seed = directory * 100 + file;
                fs::write(root.join(format!("swap/d{directory}/f{file}")), noise(seed, 3000)).unwrap();
            }
            fs::write(root.join(format!("swap/d{directory}/big")), noise(directory, 100_000)).unwrap();
        }
    });
    let canary = canary(&stage);
    for directory in 0..20 {
        fs::create_dir(canary.join(format!("d{directory}"))).unwrap();
    }
    let before = state(&canary);
    fs::create_dir(&stage.target).unwrap();
    let done = AtomicBool::new(false);
    let mut refused = 0;
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let (swap, aside) = (stage.target.join("swap"), stage.target.join("aside"));
            let mut swaps = 0_u64;
            while !done.load(Ordering::Relaxed) {
                if fs::rename(&swap, &aside).is_ok() {
                    let _ = symlink(&canary, &swap);
                    linger(swaps);
                    let _ = fs::remove_file(&swap);
                    let _ = fs::rename(&aside, &swap);
                    swaps += 1;
                }
                for directory in 0..20 {
                    let path = swap.join(format!("d{directory}"));
                    if fs::rename(&path, &aside).is_ok() {
                        let _ = symlink(canary.join(format!("d{directory}")), &path);
                        linger(swaps);
                        let _ = fs::remove_file(&path);
                        let _ = fs::rename(&aside, &path);
                        swaps += 1;
                    }
                }
            }
            swaps
        });
        for round in 0..30 {
            // So few open directories that they are opened again and again, by name.
            let options = RestoreOptions { delete: round % 2 == 0, ..small_windows() };
            let few = LocalOptions { open_directories: Some(1), ..LocalOptions::default() };
            let sink = LocalSink::new(&stage.target, &few).unwrap();
            let cancel = Cancel::default();
            if let Ok(report) = restore(&stage.blobs, &stage.tree, &sink, &Everything, &options, &Silent, &cancel) {
                refused += report.problem_count;
            }
            if round % 5 == 4 {
                let _ = fs::remove_dir_all(stage.target.join("swap"));
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(swapper.join().unwrap() > 100, "the swapper worked");
    });
    assert_eq!(state(&canary), before, "{refused} refusals");
}

/// Waits for some microseconds, never the same number, so that links are there at every step of the other side.
fn linger(turn: u64) {
    let until = std::time::Instant::now() + std::time::Duration::from_micros(turn * 7 % 60);
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[test]
fn no_operation_of_the_sink_follows_a_link() {
    let stage = Stage::sample();
    let canary = canary(&stage);
    let few = LocalOptions { open_directories: Some(1), ..LocalOptions::default() };
    let sink = LocalSink::new(&stage.target, &few).unwrap();
    let root = sink.make_root().unwrap();
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    let link = |to: &Path, at: &str| symlink(to, stage.target.join(at)).unwrap();
    link(&canary, "to-directory");
    link(&canary.join("file"), "to-file");
    link(&canary.join("not-there"), "to-nothing");
    let directory = sink.make_directory(&root, &name("directory")).unwrap();
    let inner = sink.make_directory(&directory, &name("inner")).unwrap();
    let before = state(&canary);
    let stat = fs::metadata(canary.join("file")).unwrap();
    let identity = Identity { device: stat.dev(), inode: stat.ino() };
    let mode = Mode::from_bits(0o644);
    assert!(sink.open_directory(&root, &name("to-directory"), false).is_err());
    for write in [false, true] {
        assert!(sink.open(&root, &name("to-file"), identity, write).is_err());
    }
    for taken in ["to-file", "to-nothing", "to-directory"] {
        assert!(sink.create(&root, &name(taken), mode).is_err());
        assert!(sink.make_directory(&root, &name(taken)).is_err());
    }
    // Directories whose handles must be opened again, in the meantime replaced by links, or by other directories.
    fs::create_dir(canary.join("inner")).unwrap();
    let before_swap = state(&canary);
    assert_eq!(before.lines().count() + 1, before_swap.lines().count());
    fs::rename(stage.target.join("directory"), stage.target.join("aside")).unwrap();
    for attempt in 0..2 {
        if attempt == 0 {
            link(&canary, "directory");
        } else {
            fs::remove_file(stage.target.join("directory")).unwrap();
            fs::create_dir_all(stage.target.join("directory/inner")).unwrap();
        }
        for handle in [&directory, &inner] {
            // Something else is open now.
            sink.make_directory(&root, &name(&format!("other-{attempt}"))).ok();
            sink.open_directory(&root, &name(&format!("other-{attempt}")), false).unwrap();
            assert!(sink.names(handle).is_err());
            assert!(sink.stat(handle, &name("file")).is_err());
            assert!(sink.create(handle, &name("new"), mode).is_err());
            assert!(sink.make_directory(handle, &name("new")).is_err());
            assert!(sink.remove(handle, &name("file")).is_err());
            assert!(sink.open_directory(handle, &name("inner"), false).is_err());
        }
    }
    assert_eq!(state(&canary), before_swap);
    assert_eq!(fs::read_dir(stage.target.join("directory/inner")).unwrap().count(), 0);
    assert!(!canary.join("not-there").exists());
}

#[test]
fn a_hard_link_never_leads_out() {
    let stage = Stage::sample();
    let canary = canary(&stage);
    let sink = stage.sink();
    let root = sink.make_root().unwrap();
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    // What stands at the first name is not what was restored there.
    fs::hard_link(canary.join("file"), stage.target.join("first")).unwrap();
    let before = state(&canary);
    let other = Identity { device: 1, inode: 2 };
    assert!(sink.link((&root, &name("first")), other, (&root, &name("second"))).is_err());
    assert!(!stage.target.join("second").exists());
    // The link count went up and down again, which shows in the times of the inode alone.
    assert_eq!(before.lines().count(), state(&canary).lines().count());
    assert_eq!(fs::metadata(canary.join("file")).unwrap().nlink(), 2);
    // Opening it to write fails, too.
    assert!(sink.open(&root, &name("first"), other, true).is_err());
}

fn metadata(mode: u32) -> Metadata {
    Metadata {
        mode: Mode::from_bits(mode),
        user: 0,
        group: 0,
        modified: Timestamp::from_seconds(7),
        changed: Timestamp::default(),
        accessed: None,
        inode: 9,
        hard_links: None,
        xattrs: Vec::new(),
        extensions: Vec::new(),
    }
}

fn entry(name: &str, kind: NodeKind) -> Entry {
    Entry { name: Name::new(name.as_bytes()).unwrap(), node: Node { kind, metadata: metadata(0o644) } }
}

/// Stores a page as it is, whatever it says.
fn store_page(blobs: &MemoryBlobs, entries: Vec<Entry>) -> repo_core::id::BlobId {
    blobs.write_blob(BlobKind::Tree, &codec::encode(&TreeBlob::Entries(entries))).unwrap().0
}

/// Restores a tree made by hand beside a canary; returns the messages of all problems.
fn restore_by_hand(make: impl FnOnce(&MemoryBlobs) -> Vec<Entry>) -> (tempfile::TempDir, Vec<String>) {
    let temp = tempfile::tempdir().unwrap();
    let blobs = MemoryBlobs::new(1 << 16, 8);
    let entries = make(&blobs);
    let tree = store_page(&blobs, entries);
    blobs.finish();
    let sink = LocalSink::new(temp.path().join("target"), &LocalOptions::default()).unwrap();
    let (options, cancel) = (RestoreOptions { verify: true, ..RestoreOptions::default() }, Cancel::default());
    let report = restore(&blobs, &tree, &sink, &Everything, &options, &Silent, &cancel).unwrap();
    let problems = report
        .problems
        .iter()
        .map(|problem| format!("{}: {}: {}", String::from_utf8_lossy(&problem.path), problem.during, problem.message));
    (temp, problems.collect())
}

#[test]
fn a_link_and_a_directory_of_one_name_are_refused() {
    // The link first, then a directory of the same name with a file in it: what a well-known attack looks like.
    let (temp, problems) = restore_by_hand(|blobs| {
        let inner = store_page(blobs, vec![entry("file", NodeKind::File { size_bytes: 0, content: Content::Empty })]);
        let target = repo_core::tree::name::Bytes::new(*b"/tmp/coffer-canary").unwrap();
        vec![
            entry("a", NodeKind::Symlink { target }),
            entry("a", NodeKind::Directory { tree: inner, totals: Totals::default() }),
            entry("b", NodeKind::File { size_bytes: 0, content: Content::Empty }),
        ]
    });
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(fs::symlink_metadata(temp.path().join("target/a")).unwrap().is_symlink());
    assert!(!Path::new("/tmp/coffer-canary").exists());
}

#[test]
fn sizes_that_do_not_add_up_cost_the_file() {
    for (size_bytes, length_bytes) in [(100, 10), (10, 100), (i64::MAX as u64, 10), (u64::MAX, 10), (u64::MAX, 0)] {
        let (temp, problems) = restore_by_hand(|blobs| {
            let (blob, _) = blobs.write_blob(BlobKind::Data, b"0123456789").unwrap();
            let piece = Piece::Data { blob, length_bytes };
            let content = Content::Pieces(vec![piece, Piece::Hole { length_bytes: 5 }]);
            vec![
                entry("a", NodeKind::File { size_bytes, content }),
                entry("b", NodeKind::File { size_bytes: 10, content: Content::Blob(blob) }),
                entry("c", NodeKind::File { size_bytes, content: Content::Blob(blob) }),
            ]
        });
        let whole = usize::from(size_bytes == 10);
        assert_eq!(problems.len(), 2 - whole, "{size_bytes} {length_bytes}: {problems:?}");
        assert!(!temp.path().join("target/a").exists());
        assert_eq!(temp.path().join("target/c").exists(), size_bytes == 10);
        assert_eq!(fs::read(temp.path().join("target/b")).unwrap(), b"0123456789");
    }
}

#[test]
fn a_file_of_eight_exbibytes_of_nothing() {
    let (temp, problems) = restore_by_hand(|_| {
        let hole = |length_bytes| Content::Pieces(vec![Piece::Hole { length_bytes }]);
        let huge = i64::MAX as u64;
        vec![
            entry("huge", NodeKind::File { size_bytes: huge, content: hole(huge) }),
            entry("small", NodeKind::File { size_bytes: 3, content: hole(3) }),
        ]
    });
    assert_eq!(fs::read(temp.path().join("target/small")).unwrap(), [0; 3]);
    // Some file systems take it, which costs nothing; the others name it as a problem and leave nothing.
    assert!(problems.len() <= 1, "{problems:?}");
    if let Ok(stat) = fs::metadata(temp.path().join("target/huge")) {
        assert_eq!(stat.blocks(), 0);
    }
}

#[test]
fn odd_numbers_do_no_harm() {
    let (temp, problems) = restore_by_hand(|_| {
        let mut entries = vec![
            entry("a-owner", NodeKind::File { size_bytes: 0, content: Content::Empty }),
            entry("b-time", NodeKind::File { size_bytes: 0, content: Content::Empty }),
            entry("c-time", NodeKind::File { size_bytes: 0, content: Content::Empty }),
            entry("d-device", NodeKind::CharacterDevice { device: Device { major: u32::MAX, minor: u32::MAX } }),
            entry("e-link", NodeKind::Symlink { target: repo_core::tree::name::Bytes::new(*b"").unwrap() }),
            entry("f-link", NodeKind::Symlink { target: repo_core::tree::name::Bytes::new(*b"a\0b").unwrap() }),
            entry("g-socket", NodeKind::Socket),
            entry("h-links", NodeKind::File { size_bytes: 0, content: Content::Empty }),
            entry("i-links", NodeKind::File { size_bytes: 0, content: Content::Empty }),
            entry("z", NodeKind::File { size_bytes: 0, content: Content::Empty }),
        ];
        entries[0].node.metadata.user = u32::MAX;
        entries[0].node.metadata.mode = Mode::from_bits(0o6755);
        entries[1].node.metadata.modified = Timestamp::new(i64::MAX, 999_999_999).unwrap();
        entries[2].node.metadata.modified = Timestamp::new(i64::MIN, 0).unwrap();
        for index in [7, 8] {
            entries[index].node.metadata.hard_links =
                Some(HardLinks { device: 0, count: if index == 7 { u64::MAX } else { 0 } });
        }
        entries
    });
    assert!(temp.path().join("target/z").exists());
    assert!(temp.path().join("target/b-time").exists() && temp.path().join("target/c-time").exists());
    assert!(!temp.path().join("target/g-socket").exists());
    if is_root() {
        let stat = fs::metadata(temp.path().join("target/a-owner")).unwrap();
        assert_eq!(stat.mode() & 0o7777, 0o755, "no set-id bits for the wrong owner");
        assert!(problems.iter().any(|problem| problem.starts_with("a-owner: set the owner")), "{problems:?}");
    }
    let [one, two] = ["h-links", "i-links"].map(|name| fs::metadata(temp.path().join("target").join(name)).unwrap());
    assert_eq!(one.ino(), two.ino());
    assert!(problems.iter().all(|problem| "adef".contains(&problem[..1])), "{problems:?}");
}

#[test]
fn names_the_target_takes_for_the_same_do_not_overwrite_each_other() {
    // A file system that folds case cannot be had everywhere; a name that is taken in between looks the same.
    struct Plant<'a>(&'a Path);
    impl repo_core::progress::Progress for Plant<'_> {
        fn found(&self, _: u64, _: u64) {
            if self.0.join("directory").exists() {
                let _ = fs::OpenOptions::new().write(true).create_new(true).open(self.0.join("directory/taken"));
            }
        }
    }
    let stage = Stage::new(|root| {
        fs::create_dir(root.join("directory")).unwrap();
        fs::write(root.join("directory/a"), "a").unwrap();
        fs::write(root.join("directory/taken"), "stored").unwrap();
    });
    let plant = Plant(&stage.target);
    let (sink, options, cancel) = (stage.sink(), RestoreOptions::default(), Cancel::default());
    let report = restore(&stage.blobs, &stage.tree, &sink, &Everything, &options, &plant, &cancel).unwrap();
    assert_eq!(report.problem_count, 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].path, b"directory/taken");
    assert_eq!(fs::read(stage.target.join("directory/taken")).unwrap(), b"");
}

/// Run by [`without_root`] as a user who is nobody.
#[test]
#[ignore = "needs to be run as another user"]
fn as_nobody() {
    let Ok(place) = std::env::var("COFFER_TEST_PLACE") else { return };
    assert!(!is_root());
    let place = Path::new(&place);
    let blobs = MemoryBlobs::new(1 << 16, 8);
    let (tree, _) = snapshot_of(&place.join("source"), 1 << 14, &blobs);
    blobs.finish();
    let target = place.join("out/target");
    let sink = LocalSink::new(&target, &LocalOptions::default()).unwrap();
    for round in 0..3 {
        if round == 2 {
            // A file is missing in a directory that nobody may write to.
            let deepest = target.join("docs/deep/deeper/deepest");
            set_mode(&deepest, 0o755);
            fs::remove_file(deepest.join("big")).unwrap();
            set_mode(&deepest, 0o555);
        }
        let (options, cancel) = (RestoreOptions::default(), Cancel::default());
        let report = restore(&blobs, &tree, &sink, &Everything, &options, &Silent, &cancel).unwrap();
        assert_eq!(report.problem_count, 0, "round {round}: {:#?}", report.problems);
        let notes = report.notes.join("\n");
        for about in ["owners", "devices", "security"] {
            assert_eq!(notes.matches(about).count(), 1, "{notes}");
        }
        if round == 1 {
            assert_eq!(report.bytes_written, 0, "{report:#?}");
        }
    }
}

#[test]
fn without_root() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("source");
    fs::create_dir(&source).unwrap();
    make_sample(&source);
    // What nobody can read cannot be stored by this test.
    for (path, mode) in [
        ("docs/deep/small-05", 0o604),
        ("docs/twin.txt", 0o644),
        ("docs/deep/deeper", 0o755),
        ("docs/deep/deeper/deepest", 0o555),
    ] {
        set_mode(&source.join(path), mode);
    }
    fs::create_dir(temp.path().join("out")).unwrap();
    set_mode(&temp.path().join("out"), 0o777);
    set_mode(temp.path(), 0o755);
    let program = temp.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    set_mode(&program, 0o755);
    let output = {
        use std::os::unix::process::CommandExt;
        Command::new(&program)
            .args(["--ignored", "--exact", "as_nobody"])
            .env("COFFER_TEST_PLACE", temp.path())
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap()
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // Devices are missing, owners and set-id bits differ; all else is the same.
    let options = CompareOptions { owners: false, xattrs: false, ..CompareOptions::default() };
    let left = common::compare::differences(&source, &temp.path().join("out/target"), &options);
    let unexpected: Vec<_> = left
        .iter()
        .filter(|line| {
            !(line.starts_with("null: only in")
                || line.starts_with("loop: only in")
                || line.starts_with("docs/deep/small-02: mode"))
        })
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

/// All of this file once more in a process that cannot have more memory than so.
#[test]
#[cfg(target_os = "linux")]
fn again_within_192_mib() {
    let name = "again_within_192_mib";
    let this = std::env::current_exe().unwrap();
    let script = "ulimit -d 196608 && exec \"$0\" --test-threads 1 --skip \"$1\"";
    let output = std::process::Command::new("sh").args(["-c", script]).arg(this).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
