//! Trees made and changed at random, backed up after every change, and every snapshot restored and compared.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, symlink},
    },
    path::{Path, PathBuf},
};

use common::{
    bench::{back_up, index, init_with, open, options, snapshots, stored_twice},
    compare::{CompareOptions, assert_same_tree, data_ranges},
    sample::{is_root, noise, set_mode, set_modified},
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use repo_core::{
    backup::{BackupOptions, Parent},
    progress::{Cancel, Silent},
    repository::{Repository, config::Parameters, reader::BlobReader},
    restore::{Everything, RestoreOptions, restore},
    sink::local::{LocalOptions as SinkOptions, LocalSink},
    snapshot::Snapshot,
    source::local::{LocalOptions, LocalSource, Target},
    store::{local::LocalStore, memory::MemoryStore},
};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, XattrFlags, fallocate, lsetxattr, mknodat};

/// One change of a tree. Names and places are numbers, taken modulo what there is.
#[derive(Debug, Clone)]
enum Edit {
    Write {
        at: Place,
        length: usize,
        seed: u64,
    },
    Zeros {
        at: Place,
        length: usize,
    },
    Sparse {
        at: Place,
        parts: Vec<(bool, usize)>,
        seed: u64,
    },
    Directory {
        at: Place,
    },
    Link {
        at: Place,
        target: Vec<u8>,
    },
    HardLink {
        at: Place,
        of: usize,
    },
    Fifo {
        at: Place,
    },
    Append {
        of: usize,
        length: usize,
        seed: u64,
    },
    Insert {
        of: usize,
        offset: usize,
        length: usize,
        seed: u64,
    },
    Overwrite {
        of: usize,
        offset: usize,
        length: usize,
        seed: u64,
    },
    Truncate {
        of: usize,
        length: usize,
    },
    Punch {
        of: usize,
        offset: usize,
        length: usize,
    },
    Rename {
        of: usize,
        at: Place,
    },
    Remove {
        of: usize,
    },
    Mode {
        of: usize,
        mode: u32,
    },
    Touch {
        of: usize,
        seconds: i64,
        nanoseconds: i64,
    },
    Xattr {
        of: usize,
        name: u8,
        value: Vec<u8>,
    },
    Many {
        at: Place,
        count: usize,
        seed: u64,
    },
    Deep {
        at: Place,
        depth: usize,
    },
    /// The same bytes, the same length and the same modification time, but other content.
    Disguise {
        of: usize,
        seed: u64,
    },
    Nothing,
}

/// A directory and a name in it.
#[derive(Debug, Clone)]
struct Place {
    directory: usize,
    name: Vec<u8>,
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop::collection::vec(prop_oneof![any::<u8>(), Just(b'.'), Just(b'\\'), Just(0xff)], 1..12);
    let few = (0..12_u8).prop_map(|number| vec![b'a' + number]);
    let long = (240..=255_usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]);
    prop_oneof![6 => few, 3 => odd, 1 => long].prop_map(|mut name| {
        for byte in &mut name {
            if matches!(*byte, 0 | b'/') {
                *byte = b'_';
            }
        }
        if matches!(&name[..], b"." | b"..") { b"dots".to_vec() } else { name }
    })
}

fn places() -> impl Strategy<Value = Place> {
    (any::<usize>(), names()).prop_map(|(directory, name)| Place { directory, name })
}

/// Around every boundary of the parameters.
fn lengths(parameters: &Parameters) -> BoxedStrategy<usize> {
    let chunker = &parameters.chunker;
    let boundaries: Vec<usize> = [
        0,
        1,
        chunker.min_bytes,
        chunker.average_bytes,
        chunker.max_bytes,
        parameters.data_frame_bytes,
        parameters.pack_bytes.min(1 << 20),
        16 * chunker.max_bytes,
        17 * chunker.average_bytes,
        4096,
        32 << 10,
    ]
    .map(|bytes| bytes as usize)
    .into();
    let around = (prop::sample::select(boundaries), -2..=2_isize).prop_map(|(at, by)| at.saturating_add_signed(by));
    prop_oneof![3 => around, 1 => 0..5000_usize].boxed()
}

fn edits(parameters: &Parameters) -> impl Strategy<Value = Edit> + use<> {
    let lengths = || lengths(parameters);
    let of = any::<usize>;
    let make = prop_oneof![
        6 => (places(), lengths(), 0..6_u64).prop_map(|(at, length, seed)| Edit::Write { at, length, seed }),
        1 => (places(), lengths()).prop_map(|(at, length)| Edit::Zeros { at, length }),
        2 => (places(), prop::collection::vec((any::<bool>(), 1..90_000_usize), 0..6), any::<u64>())
            .prop_map(|(at, parts, seed)| Edit::Sparse { at, parts, seed }),
        3 => places().prop_map(|at| Edit::Directory { at }),
        1 => (places(), names()).prop_map(|(at, target)| Edit::Link { at, target }),
        2 => (places(), of()).prop_map(|(at, of)| Edit::HardLink { at, of }),
        1 => places().prop_map(|at| Edit::Fifo { at }),
        1 => (places(), 1..400_usize, any::<u64>()).prop_map(|(at, count, seed)| Edit::Many { at, count, seed }),
        1 => (places(), 1..60_usize).prop_map(|(at, depth)| Edit::Deep { at, depth }),
    ];
    let change = prop_oneof![
        2 => (of(), lengths(), any::<u64>()).prop_map(|(of, length, seed)| Edit::Append { of, length, seed }),
        2 => (of(), 0..30_000_usize, 1..900_usize, any::<u64>())
            .prop_map(|(of, offset, length, seed)| Edit::Insert { of, offset, length, seed }),
        2 => (of(), 0..30_000_usize, 1..900_usize, any::<u64>())
            .prop_map(|(of, offset, length, seed)| Edit::Overwrite { of, offset, length, seed }),
        2 => (of(), lengths()).prop_map(|(of, length)| Edit::Truncate { of, length }),
        1 => (of(), 0..30_000_usize, 1..20_000_usize).prop_map(|(of, offset, length)| Edit::Punch { of, offset, length }),
        3 => (of(), places()).prop_map(|(of, at)| Edit::Rename { of, at }),
        3 => of().prop_map(|of| Edit::Remove { of }),
        2 => (of(), 0..=0o7777_u32).prop_map(|(of, mode)| Edit::Mode { of, mode }),
        2 => (of(), -9_000_000_000..9_000_000_000_i64, 0..1_000_000_000_i64)
            .prop_map(|(of, seconds, nanoseconds)| Edit::Touch { of, seconds, nanoseconds }),
        2 => (of(), 0..3_u8, prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(of, name, value)| Edit::Xattr { of, name, value }),
        1 => (of(), any::<u64>()).prop_map(|(of, seed)| Edit::Disguise { of, seed }),
        1 => Just(Edit::Nothing),
    ];
    prop_oneof![make, change]
}

/// Everything below, sorted: directories (the root among them), everything but the root, and regular files.
fn listing(root: &Path) -> [Vec<PathBuf>; 3] {
    let (mut directories, mut all, mut files) = (vec![root.to_owned()], Vec::new(), Vec::new());
    let mut next = 0;
    while next < directories.len() {
        let mut entries: Vec<_> = fs::read_dir(&directories[next]).unwrap().map(|entry| entry.unwrap()).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let file_type = entry.file_type().unwrap();
            all.push(entry.path());
            if file_type.is_dir() {
                directories.push(entry.path());
            } else if file_type.is_file() {
                files.push(entry.path());
            }
        }
        next += 1;
    }
    [directories, all, files]
}

fn pick(of: &[PathBuf], number: usize) -> Option<&PathBuf> {
    of.get(number.checked_rem(of.len())?)
}

/// Makes an edit; one that makes no sense changes nothing. Everything is done as the owner, or root.
fn apply(root: &Path, edit: &Edit) {
    let [directories, all, files] = listing(root);
    let place = |at: &Place| pick(&directories, at.directory).unwrap().join(OsStr::from_bytes(&at.name));
    // Something new replaces what is there.
    let free = |at: &Place| {
        let path = place(at);
        if path.as_os_str().len() > 3000 {
            return None;
        }
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => fs::remove_dir_all(&path).unwrap(),
            Ok(_) => fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
        Some(path)
    };
    match edit {
        Edit::Write { at, length, seed } => _ = free(at).map(|path| fs::write(path, noise(*seed, *length)).unwrap()),
        Edit::Zeros { at, length } => _ = free(at).map(|path| fs::write(path, vec![0; *length]).unwrap()),
        Edit::Sparse { at, parts, seed } => {
            let Some(path) = free(at) else { return };
            let file = fs::File::create(path).unwrap();
            let mut end = 0;
            for (is_data, length) in parts {
                if *is_data {
                    file.write_all_at(&noise(*seed, *length), end).unwrap();
                }
                end += *length as u64;
                file.set_len(end).unwrap();
            }
        }
        Edit::Directory { at } => _ = free(at).map(|path| fs::create_dir(path).unwrap()),
        Edit::Link { at, target } => _ = free(at).map(|path| symlink(OsStr::from_bytes(target), path).unwrap()),
        Edit::HardLink { at, of } => {
            let (Some(file), path) = (pick(&files, *of), place(at)) else { return };
            if fs::symlink_metadata(&path).is_err() {
                let _ = fs::hard_link(file, path);
            }
        }
        Edit::Fifo { at } => {
            _ = free(at).map(|path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap());
        }
        Edit::Append { of, length, seed } => {
            let Some(path) = pick(&files, *of) else { return };
            let file = fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&noise(*seed, *length), file.metadata().unwrap().len()).unwrap();
        }
        Edit::Insert { of, offset, length, seed } => {
            let Some(path) = pick(&files, *of) else { return };
            let mut bytes = fs::read(path).unwrap();
            let at = (*offset).min(bytes.len());
            bytes.splice(at..at, noise(*seed, *length));
            fs::write(path, bytes).unwrap();
        }
        Edit::Overwrite { of, offset, length, seed } => {
            let Some(path) = pick(&files, *of) else { return };
            let file = fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&noise(*seed, *length), *offset as u64).unwrap();
        }
        Edit::Truncate { of, length } => {
            let Some(path) = pick(&files, *of) else { return };
            fs::File::options().write(true).open(path).unwrap().set_len(*length as u64).unwrap();
        }
        Edit::Punch { of, offset, length } => {
            let Some(path) = pick(&files, *of) else { return };
            let file = fs::File::options().write(true).open(path).unwrap();
            let _ = fallocate(
                &file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                *offset as u64,
                *length as u64,
            );
        }
        Edit::Rename { of, at } => {
            let Some(path) = pick(&all, *of) else { return };
            let to = place(at);
            if !to.starts_with(path) && to.as_os_str().len() < 2000 {
                // Where the target is in the way, so be it.
                let _ = fs::rename(path, to);
            }
        }
        Edit::Remove { of } => {
            let Some(path) = pick(&all, *of) else { return };
            if fs::symlink_metadata(path).unwrap().is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        Edit::Mode { of, mode } => {
            let Some(path) = pick(&all, *of) else { return };
            if !fs::symlink_metadata(path).unwrap().is_symlink() {
                // Without root, what cannot be read cannot be backed up.
                set_mode(path, if is_root() { *mode } else { mode & 0o777 | 0o700 });
            }
        }
        Edit::Touch { of, seconds, nanoseconds } => {
            let Some(path) = pick(&all, *of) else { return };
            set_modified(path, *seconds, *nanoseconds);
        }
        Edit::Xattr { of, name, value } => {
            let Some(path) = pick(&all, *of) else { return };
            // Not every file system, and not every kind of entry, takes them.
            let _ = lsetxattr(path, format!("user.{name}"), value, XattrFlags::empty());
        }
        Edit::Many { at, count, seed } => {
            let Some(path) = free(at) else { return };
            fs::create_dir(&path).unwrap();
            for i in 0..*count {
                fs::write(path.join(format!("{i}")), noise(seed.wrapping_add(i as u64), i % 50)).unwrap();
            }
        }
        Edit::Deep { at, depth } => {
            let Some(path) = free(at) else { return };
            fs::create_dir_all(path.join("x/".repeat(*depth))).unwrap();
        }
        Edit::Disguise { of, seed } => {
            let Some(path) = pick(&files, *of) else { return };
            let before = fs::metadata(path).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            let length = usize::try_from(before.len().min(1000)).unwrap();
            file.write_all_at(&noise(*seed, length), 0).unwrap();
            set_modified(path, before.mtime(), before.mtime_nsec());
        }
        Edit::Nothing => {}
    }
}

/// A plain copy of a tree as it is now, made by `cp`.
fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg("--sparse=auto").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

fn source(root: &Path) -> LocalSource {
    LocalSource::new(&[Target::named(".")], LocalOptions::new(root)).unwrap()
}

/// From this length on holes are kept.
const HOLES_FROM_BYTES: u64 = 64 << 10;

#[track_caller]
fn assert_restores(repository: &std::sync::Arc<Repository>, snapshot: &Snapshot, expected: &Path, scratch: &Path) {
    let target = scratch.join("restored");
    let blobs = BlobReader::new(repository.clone(), std::sync::Arc::new(index(repository)), 1 << 20);
    let sink = LocalSink::new(&target, &SinkOptions::default()).unwrap();
    let (options, cancel) = (RestoreOptions::default(), Cancel::default());
    let report = restore(&blobs, &snapshot.tree, &sink, &Everything, &options, &Silent, &cancel).unwrap();
    assert_eq!(report.problem_count, 0, "{:#?}", report.problems);
    assert_same_tree(expected, &target, &CompareOptions { holes: false, ..CompareOptions::default() });
    // `cp` keeps holes by its own judgement; where they are is compared with the source itself, after the last backup. In small
    // files they are not looked for.
    if !expected.starts_with(scratch.join("copies")) {
        for file in &listing(expected)[2] {
            let length = fs::metadata(file).unwrap().len();
            if length >= HOLES_FROM_BYTES {
                let restored = target.join(file.strip_prefix(expected).unwrap());
                assert_eq!(data_ranges(file, length), data_ranges(&restored, length), "{}", file.display());
            }
        }
    }
    fs::remove_dir_all(&target).unwrap();
}

/// Backs up after each round of edits, and restores every snapshot at the end.
fn history(rounds: &[Vec<Edit>], parameters: Parameters, on_disk: bool) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("source");
    let copies = scratch.path().join("copies");
    fs::create_dir(&root).unwrap();
    fs::create_dir(&copies).unwrap();
    let memory = MemoryStore::new();
    let disk = || LocalStore::new(scratch.path().join("repository"));
    let repository = if on_disk { init_with(disk(), parameters) } else { init_with(memory.clone(), parameters) };
    let mut held = BTreeMap::new();
    for (number, edits) in rounds.iter().enumerate() {
        for edit in edits {
            apply(&root, edit);
        }
        let repository = if on_disk { open(disk()) } else { open(memory.clone()) };
        let report = back_up(&repository, &source(&root), &options()).unwrap();
        assert_eq!(report.problem_count, 0, "{:#?}", report.problems);
        let copy_path = copies.join(number.to_string());
        copy(&root, &copy_path);
        held.insert(report.snapshot.unwrap(), copy_path);

        // The same again: nothing is read, nothing is stored, and reading everything comes to the same.
        let again = back_up(&repository, &source(&root), &options()).unwrap();
        assert_eq!((again.summary.bytes_read, again.summary.data_blobs, again.summary.tree_blobs), (0, 0, 0));
        let forced = BackupOptions { parent: Parent::None, threads: Some(3), ..options() };
        let forced = back_up(&repository, &source(&root), &forced).unwrap();
        assert_eq!((forced.summary.data_blobs, forced.summary.tree_blobs), (0, 0), "{:#?}", forced.summary);
        assert_eq!(forced.totals, report.totals);
    }
    let there = snapshots(&repository);
    assert_eq!(there.len(), 3 * rounds.len());
    for (id, snapshot) in &there {
        if let Some(copy_path) = held.get(id) {
            assert_restores(&repository, snapshot, copy_path, scratch.path());
        }
    }
    // The source is still what it was at the end, with its holes.
    assert_restores(&repository, &there.last().unwrap().1, &root, scratch.path());
    assert_eq!(stored_twice(&repository), []);
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        // More by PROPTEST_CASES.
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(count),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model_trees.regressions"))),
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    }
}

fn rounds(parameters: &Parameters, edits_max: usize) -> impl Strategy<Value = Vec<Vec<Edit>>> + use<> {
    let first = prop::collection::vec(edits(parameters), 1..2 * edits_max);
    let later = prop::collection::vec(prop::collection::vec(edits(parameters), 0..edits_max), 0..4);
    (first, later).prop_map(|(first, later)| [vec![first], later].concat())
}

proptest! {
    #![proptest_config(cases(14))]

    #[test]
    fn every_snapshot_of_a_random_history_restores(
        rounds in rounds(&Parameters::tiny(), 12),
        on_disk in prop::bool::weighted(0.2),
    ) {
        history(&rounds, Parameters::tiny(), on_disk);
    }
}

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn also_with_the_real_sizes(rounds in rounds(&Parameters::default(), 5)) {
        history(&rounds, Parameters::default(), false);
    }
}

/// One of everything, including what only root can make.
#[test]
fn the_sample_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("source");
    fs::create_dir(&root).unwrap();
    common::sample::make_sample(&root);
    for parameters in [Parameters::tiny(), Parameters::default()] {
        let repository = init_with(MemoryStore::new(), parameters);
        for _ in 0..2 {
            let report = back_up(&repository, &source(&root), &options()).unwrap();
            assert_eq!(report.problem_count, 0, "{:#?}", report.problems);
        }
        for (_, snapshot) in snapshots(&repository) {
            assert_restores(&repository, &snapshot, &root, scratch.path());
        }
    }
}

/// Deeper than any path can be long.
#[test]
fn a_very_deep_tree_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("source");
    fs::create_dir(&root).unwrap();
    let mut deepest = fs::File::open(&root).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&deepest, "d", Mode::from_raw_mode(0o755)).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY;
        deepest = rustix::fs::openat(&deepest, "d", flags, Mode::empty()).unwrap().into();
    }
    let repository = init_with(MemoryStore::new(), Parameters::tiny());
    let report = back_up(&repository, &source(&root), &options()).unwrap();
    assert_eq!((report.problem_count, report.totals.directories), (0, 3000), "{:#?}", report.problems);
    let again = back_up(&repository, &source(&root), &options()).unwrap();
    assert_eq!(again.summary.tree_blobs, 0);
    let target = scratch.path().join("restored");
    let blobs = BlobReader::new(repository.clone(), std::sync::Arc::new(index(&repository)), 1 << 20);
    let sink = LocalSink::new(&target, &SinkOptions::default()).unwrap();
    let (options, cancel) = (RestoreOptions::default(), Cancel::default());
    let tree = snapshots(&repository)[0].1.tree;
    let restored = restore(&blobs, &tree, &sink, &Everything, &options, &Silent, &cancel).unwrap();
    assert_eq!((restored.problem_count, restored.directories_new), (0, 3000), "{:#?}", restored.problems);
}
