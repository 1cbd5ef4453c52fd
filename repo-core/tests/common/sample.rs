//! A tree with one of everything, and what restore tests do with it over and over.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, PermissionsExt, chown, lchown, symlink},
    },
    path::{Path, PathBuf},
};

use repo_core::{
    error::Result,
    id::BlobId,
    progress::{Cancel, Silent},
    restore::{Everything, RestoreOptions, RestoreReport, restore},
    sink::local::{LocalOptions, LocalSink},
};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat};

use super::{memory_blobs::MemoryBlobs, snapshot_of::snapshot_of};

/// Whether this test runs as root, and so can make and restore everything.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Bytes that look random and are the same every time.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Sets a modification time without following links.
pub fn set_modified(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A tree with one of everything.
pub fn make_sample(root: &Path) {
    fs::create_dir_all(root.join("docs/deep/deeper/deepest")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("docs/hello.txt"), "hello, world\n").unwrap();
    fs::write(root.join("docs/empty.txt"), "").unwrap();
    fs::write(root.join("docs/twin.txt"), "hello, world\n").unwrap();
    for i in 0..40_u8 {
        fs::write(root.join(format!("docs/deep/small-{i:02}")), noise(i.into(), 100 + 37 * usize::from(i))).unwrap();
    }
    fs::write(root.join("docs/deep/deeper/deepest/big"), noise(1000, 700_001)).unwrap();
    // A second file that shares most of the first.
    let mut bytes = noise(1000, 700_001);
    bytes[350_000] ^= 1;
    fs::write(root.join("docs/deep/deeper/big-too"), bytes).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_all_at(&noise(7, 8192), 1 << 20).unwrap();
    sparse.write_all_at(&noise(8, 4096), 2 << 20).unwrap();
    fs::File::create(root.join("all-hole")).unwrap().set_len(1 << 20).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not utf-8 \xff\xfe\n\x1b[31m")), "odd").unwrap();
    fs::write(root.join("x".repeat(255)), "long name").unwrap();
    symlink("docs/hello.txt", root.join("link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    fs::hard_link(root.join("docs/hello.txt"), root.join("docs/deep/hello-again.txt")).unwrap();
    fs::hard_link(root.join("docs/deep/deeper/deepest/big"), root.join("a-big-one")).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let user = |path: &str, name: &str, value: &[u8]| {
        // Not every file system takes all of them.
        let _ = lsetxattr(root.join(path), name, value, XattrFlags::empty());
    };
    user("docs/hello.txt", "user.colour", b"green");
    user("docs/deep/small-03", "user.binary", &noise(9, 2000));
    user("empty", "user.on-a-directory", b"");
    // u::rw- u:1:r-- g::r-- m::r-- o::---
    let access_list = [
        &2_u32.to_le_bytes()[..],
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 1, 0, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[16, 0, 4, 0, 255, 255, 255, 255],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    user("docs/twin.txt", "system.posix_acl_access", &access_list);
    user("docs/deep", "system.posix_acl_default", &access_list);
    if is_root() {
        let device = rustix::fs::makedev(1, 3);
        mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), device).unwrap();
        mknodat(CWD, root.join("loop"), FileType::BlockDevice, Mode::from_raw_mode(0o660), rustix::fs::makedev(7, 99))
            .unwrap();
        chown(root.join("docs/deep/small-01"), Some(1234), Some(4321)).unwrap();
        chown(root.join("docs/deep"), Some(1), Some(2)).unwrap();
        lchown(root.join("link"), Some(5), Some(6)).unwrap();
        chown(root.join("docs/deep/small-02"), Some(77), Some(77)).unwrap();
        set_mode(&root.join("docs/deep/small-02"), 0o6755);
        user("docs/hello.txt", "trusted.secret", b"1");
        user("link", "trusted.on-a-link", b"2");
        user(
            "docs/deep/small-04",
            "security.capability",
            &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        );
    }
    set_mode(&root.join("docs/deep/small-05"), 0o000);
    set_mode(&root.join("docs/deep/small-06"), 0o444);
    set_mode(&root.join("docs/deep/small-07"), 0o777);
    set_mode(&root.join("empty"), 0o1777);
    set_mode(&root.join("docs/deep/deeper"), 0o2750);
    for (path, seconds, nanoseconds) in [
        ("docs/hello.txt", 1_000_000_000, 123_456_789),
        ("docs/empty.txt", -5, 999_999_999),
        ("link", 1_234_567_890, 1),
        ("pipe", 1_111_111_111, 2),
        ("sparse", 0, 0),
        ("docs/deep/deeper/deepest", 1_500_000_000, 3),
        ("docs/deep/deeper", 1_500_000_001, 4),
        ("docs/deep", 1_500_000_002, 5),
        ("docs", 1_500_000_003, 6),
        ("empty", 1_500_000_004, 7),
    ] {
        set_modified(&root.join(path), seconds, nanoseconds);
    }
    set_mode(&root.join("docs/deep/deeper/deepest"), 0o500);
}

/// A sample, stored, and a place to restore it to.
pub struct Stage {
    pub temp: tempfile::TempDir,
    pub source: PathBuf,
    pub target: PathBuf,
    pub blobs: MemoryBlobs,
    pub tree: BlobId,
}

impl Stage {
    /// The tree of [`make_sample`].
    pub fn sample() -> Self {
        Self::new(make_sample)
    }

    /// A tree made by `make`; chunks of 16 KiB, frames of 64 KiB, eight frames a pack.
    pub fn new(make: impl FnOnce(&Path)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let (source, target) = (temp.path().join("source"), temp.path().join("target"));
        fs::create_dir(&source).unwrap();
        make(&source);
        let blobs = MemoryBlobs::new(64 << 10, 8);
        let (tree, _) = snapshot_of(&source, 16 << 10, &blobs);
        blobs.finish();
        Self { temp, source, target, blobs, tree }
    }

    /// Stores the source again, after it was changed.
    pub fn store_again(&mut self) {
        let blobs = MemoryBlobs::new(64 << 10, 8);
        self.tree = snapshot_of(&self.source, 16 << 10, &blobs).0;
        blobs.finish();
        self.blobs = blobs;
    }

    pub fn sink(&self) -> LocalSink {
        LocalSink::new(&self.target, &LocalOptions::default()).unwrap()
    }

    pub fn try_restore(&self, options: &RestoreOptions) -> Result<RestoreReport> {
        restore(&self.blobs, &self.tree, &self.sink(), &Everything, options, &Silent, &Cancel::default())
    }

    /// Restores everything; nothing may go wrong.
    #[track_caller]
    pub fn restore(&self, options: &RestoreOptions) -> RestoreReport {
        let report = self.try_restore(options).unwrap();
        assert_eq!(report.problem_count, 0, "{:#?}", report.problems);
        report
    }
}

/// Many windows, and few files at a time.
pub fn small_windows() -> RestoreOptions {
    RestoreOptions { window_bytes: 2000, threads: 3, ..RestoreOptions::default() }
}
