//! Damage of the repository costs the files that need what is damaged, named one by one, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use common::{
    compare::{CompareOptions, assert_same_tree, differences},
    sample::{Stage, noise, set_modified, small_windows},
};
use repo_core::{
    blob::BlobKind,
    error::{Error, StoreErrorKind},
    id::BlobId,
    progress::{Cancel, Silent},
    restore::{RestoreOptions, RestoreReport, Rules, restore},
    tree::{
        content::Pieces,
        node::{NodeKind, Piece},
        walk::{Descend, Visit, walk},
    },
};

type Paths = BTreeSet<Vec<u8>>;

/// Which files need which data blob.
fn users(stage: &Stage) -> HashMap<BlobId, Paths> {
    let mut users: HashMap<BlobId, Paths> = HashMap::new();
    walk(&stage.blobs, &stage.tree, &mut |path, visit| {
        if let Visit::Entry(entry) = visit
            && let NodeKind::File { size_bytes, content } = &entry.node.kind
        {
            for piece in Pieces::new(&stage.blobs, content, *size_bytes) {
                if let Piece::Data { blob, .. } = piece.unwrap() {
                    users.entry(blob).or_default().insert(path.to_vec());
                }
            }
        }
        Ok(Descend::Into)
    })
    .unwrap();
    users
}

/// Exactly these files were lost, they are not in the target, and everything else is as it was.
#[track_caller]
fn check_lost(stage: &Stage, report: &RestoreReport, lost: &Paths) {
    let told: Paths = report.problems.iter().map(|problem| problem.path.clone()).collect();
    assert_eq!(&told, lost, "{:#?}", report.problems);
    assert_eq!(report.problem_count, lost.len() as u64, "each is told once");
    assert_eq!(report.files_failed, lost.len() as u64);
    let mut missing = lost.clone();
    for line in differences(&stage.source, &stage.target, &CompareOptions { hard_links: false, ..Default::default() }) {
        let (path, what) = line.split_once(": ").unwrap();
        assert!(what.starts_with("only in") && missing.remove(path.as_bytes()), "{line}");
    }
    assert!(missing.is_empty(), "{missing:?} should not be there");
}

fn plain_stage() -> Stage {
    // Names that are their own escaped form, so that lines of differences can be parsed.
    Stage::new(|root| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        for i in 0..30 {
            fs::write(root.join(format!("a/small-{i}")), noise(i, 500 + 300 * usize::try_from(i).unwrap())).unwrap();
        }
        fs::write(root.join("a/b/big"), noise(100, 400_000)).unwrap();
        let mut other = noise(100, 400_000);
        other[200_000] ^= 1;
        fs::write(root.join("a/b/other"), other).unwrap();
        fs::hard_link(root.join("a/b/big"), root.join("a/link-to-big")).unwrap();
        fs::hard_link(root.join("a/small-3"), root.join("z-link")).unwrap();
        fs::write(root.join("twin"), noise(5, 500 + 300 * 5)).unwrap();
        for (path, seconds) in [("a/b", 5), ("a", 6)] {
            set_modified(&root.join(path), seconds, 0);
        }
    })
}

fn clear(target: &Path) {
    if target.exists() {
        fs::remove_dir_all(target).unwrap();
    }
}

#[test]
fn every_missing_blob() {
    let stage = plain_stage();
    let users = users(&stage);
    for (id, at) in stage.blobs.data_blobs() {
        clear(&stage.target);
        stage.blobs.forget(BlobKind::Data, &id);
        let foretold = stage.try_restore(&RestoreOptions { dry_run: true, ..RestoreOptions::default() }).unwrap();
        let report = stage.try_restore(&RestoreOptions { verify: true, ..RestoreOptions::default() }).unwrap();
        check_lost(&stage, &report, &users[&id]);
        let told: Paths = foretold.problems.iter().map(|problem| problem.path.clone()).collect();
        assert!(!told.is_empty() && told.is_subset(&users[&id]), "a dry run notices, too: {told:?}");
        stage.blobs.put_back(BlobKind::Data, &id, at);
    }
}

#[test]
fn every_frame_and_every_pack() {
    let stage = plain_stage();
    let users = users(&stage);
    let mut frames = BTreeMap::new();
    let mut packs: HashMap<_, Paths> = HashMap::new();
    for (id, at) in stage.blobs.data_blobs() {
        let users = &users[&id];
        frames.entry((at.frame.pack, at.frame.ordinal)).or_insert((at.frame, Paths::new())).1.extend(users.clone());
        packs.entry(at.frame.pack).or_default().extend(users.clone());
    }
    assert!(frames.len() > 5 && packs.len() > 1);
    for (frame, lost) in frames.values() {
        for options in [RestoreOptions::default(), small_windows()] {
            clear(&stage.target);
            stage.blobs.break_frame(frame, true);
            let report = stage.try_restore(&options).unwrap();
            check_lost(&stage, &report, lost);
            stage.blobs.break_frame(frame, false);
        }
    }
    for (pack, lost) in &packs {
        clear(&stage.target);
        stage.blobs.lose_pack(pack, true);
        let report = stage.try_restore(&RestoreOptions::default()).unwrap();
        check_lost(&stage, &report, lost);
        stage.blobs.lose_pack(pack, false);
    }
    // What is whole again comes back on top of what is there.
    stage.restore(&RestoreOptions::default());
    assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
}

#[test]
fn wrong_bytes_are_never_written() {
    let stage = plain_stage();
    let users = users(&stage);
    let blobs = stage.blobs.data_blobs();
    for (id, at) in &blobs {
        clear(&stage.target);
        stage.blobs.flip(at);
        let report = stage.try_restore(&RestoreOptions::default()).unwrap();
        check_lost(&stage, &report, &users[id]);
        stage.blobs.flip(at);
    }
    // An index that lies about where blobs are: places swapped, beyond the frame, of another length.
    for (i, (id, at)) in blobs.iter().enumerate() {
        clear(&stage.target);
        let other = blobs[(i + 1) % blobs.len()].1;
        let lie = match i % 3 {
            0 => repo_core::blob::BlobLocation { length_bytes: at.length_bytes, ..other },
            1 => repo_core::blob::BlobLocation { offset_bytes: u32::MAX - 5, ..*at },
            _ => repo_core::blob::BlobLocation { length_bytes: at.length_bytes + 1, ..*at },
        };
        stage.blobs.put_back(BlobKind::Data, id, lie);
        let report = stage.try_restore(&RestoreOptions::default()).unwrap();
        check_lost(&stage, &report, &users[id]);
        stage.blobs.put_back(BlobKind::Data, id, *at);
    }
}

#[test]
fn every_missing_tree_page() {
    let stage = plain_stage();
    for id in stage.blobs.tree_blobs() {
        clear(&stage.target);
        let at = stage.blobs.forget(BlobKind::Tree, &id).unwrap();
        let report = stage.try_restore(&RestoreOptions::default()).unwrap();
        assert!(report.problem_count >= 1);
        let told: Paths = report.problems.iter().map(|problem| problem.path.clone()).collect();
        let options = CompareOptions { hard_links: false, times: false, ..Default::default() };
        for line in differences(&stage.source, &stage.target, &options) {
            let (path, _) = line.split_once(": ").unwrap();
            let is_told = told.iter().any(|told| Path::new(path).starts_with(std::ffi::OsStr::from_bytes(told)));
            assert!(is_told, "{line}, told {:#?}", report.problems);
        }
        stage.blobs.put_back(BlobKind::Tree, &id, at);
    }
}

/// Who wants one file by its name needs no other page of its directory, however large that is.
#[test]
fn a_file_that_is_named_needs_few_pages() {
    let stage = Stage::new(|root| {
        fs::create_dir_all(root.join("many")).unwrap();
        (0..6000).for_each(|i| fs::write(root.join(format!("many/file-{i:05}")), "x").unwrap());
    });
    let pages = stage.blobs.tree_blobs();
    assert!(pages.len() > 6, "the directory has {} pages", pages.len());
    let mut rules = Rules::default();
    rules.include(b"/many/file-03210", false).unwrap();
    let options = RestoreOptions { verify: true, ..RestoreOptions::default() };
    let mut needed = 0;
    for id in pages {
        clear(&stage.target);
        let at = stage.blobs.forget(BlobKind::Tree, &id).unwrap();
        let report =
            restore(&stage.blobs, &stage.tree, &stage.sink(), &rules, &options, &Silent, &Cancel::default()).unwrap();
        let is_there = stage.target.join("many/file-03210").exists();
        assert_eq!((report.problem_count == 0, report.files_new), (is_there, u64::from(is_there)), "{report:#?}");
        needed += usize::from(!is_there);
        stage.blobs.put_back(BlobKind::Tree, &id, at);
    }
    assert!((1..=3).contains(&needed), "{needed} pages are needed");
}

#[test]
fn a_lost_file_leaves_what_was_there() {
    for size in [100_000, 20 << 20] {
        let mut stage = Stage::new(|root| fs::write(root.join("file"), noise(1, size)).unwrap());
        stage.restore(&RestoreOptions::default());
        let mut bytes = noise(1, size);
        bytes[10] ^= 1;
        bytes[size - 10] ^= 1;
        fs::write(stage.source.join("file"), &bytes).unwrap();
        stage.store_again();
        let first = {
            let mut found = None;
            let NodeKind::File { size_bytes, content } =
                repo_core::tree::walk::lookup(&stage.blobs, &stage.tree, b"file", "").unwrap().unwrap().kind
            else {
                unreachable!()
            };
            for piece in Pieces::new(&stage.blobs, &content, size_bytes) {
                if let Piece::Data { blob, .. } = piece.unwrap() {
                    found.get_or_insert(blob);
                }
            }
            found.unwrap()
        };
        stage.blobs.forget(BlobKind::Data, &first).unwrap();
        let report = stage.try_restore(&RestoreOptions::default()).unwrap();
        assert_eq!(report.problem_count, 1);
        if size < 1 << 20 {
            assert!(report.problems[0].message.contains("left as it was"), "{:?}", report.problems);
            assert_eq!(fs::read(stage.target.join("file")).unwrap(), noise(1, size));
        }
        assert!(!stage.target.join(".file.coffer-restore").exists());
    }
}

#[test]
fn a_damaged_part_of_a_file_changed_in_place_is_set_aside() {
    let size = 20 << 20;
    let mut stage = Stage::new(|root| fs::write(root.join("image"), noise(1, size)).unwrap());
    stage.restore(&RestoreOptions::default());
    let mut bytes = noise(1, size);
    for at in [10, size / 2, size - 10] {
        bytes[at] ^= 1;
    }
    fs::write(stage.source.join("image"), &bytes).unwrap();
    stage.store_again();
    let middle = repo_core::id::BlobId(
        *blake3::keyed_hash(&[1; 32], {
            let from = (size / 2) / (16 << 10) * (16 << 10);
            &bytes[from..from + (16 << 10)]
        })
        .as_bytes(),
    );
    let (_, at) = stage.blobs.data_blobs().into_iter().find(|(id, _)| *id == middle).unwrap();
    stage.blobs.break_frame(&at.frame, true);
    let report = stage.try_restore(&RestoreOptions { threads: 1, ..RestoreOptions::default() }).unwrap();
    assert_eq!(report.problem_count, 1);
    assert!(!stage.target.join("image").exists(), "it must not look complete");
    assert_eq!(fs::metadata(stage.target.join("image.coffer-damaged")).unwrap().len(), size as u64);
    assert!(report.problems[0].message.contains("image.coffer-damaged"), "{:?}", report.problems);
}

#[test]
fn a_store_that_is_gone_ends_the_restore() {
    let stage = plain_stage();
    let tree = stage.tree;
    let report = stage.try_restore(&RestoreOptions { dry_run: true, ..RestoreOptions::default() }).unwrap();
    assert_eq!(report.problem_count, 0);
    stage.blobs.set_unreachable(true);
    let error = stage.try_restore(&RestoreOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Store(ref error) if error.kind == StoreErrorKind::Retry), "{error:?}");
    stage.blobs.set_unreachable(false);
    assert_eq!(tree, stage.tree);
    stage.restore(&RestoreOptions::default());
    assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
}
