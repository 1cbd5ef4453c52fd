//! The local store in the places it meets outside the laboratory: full, read-only and vanished disks, foreign files.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "also the helpers of a test may fail it and speak")]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use repo_core::{
    error::StoreErrorKind,
    store::{ByteRange, ObjectName, Place, Store, local::LocalStore, testing::contract::object},
};

const ALL: ByteRange = ByteRange::WholeUpTo { limit_bytes: u64::MAX };

fn kind<T>(done: Result<T, repo_core::error::StoreError>) -> Result<T, StoreErrorKind> {
    done.map_err(|error| error.kind)
}

fn get(store: &LocalStore, name: &ObjectName) -> Result<Vec<u8>, StoreErrorKind> {
    let mut bytes = Vec::new();
    kind(store.get(name, ALL, &mut bytes)).map(|()| bytes)
}

fn list(store: &LocalStore, place: Place) -> Result<BTreeSet<ObjectName>, StoreErrorKind> {
    let mut names = BTreeSet::new();
    kind(store.list(place, &mut |info| {
        names.insert(info.name);
    }))
    .map(|()| names)
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        paths.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            paths.extend(below(&entry.path()));
        }
    }
    paths
}

fn temporaries(folder: &Path) -> usize {
    below(folder).iter().filter(|path| path.file_name().unwrap().as_bytes().starts_with(b".tmp-")).count()
}

/// A small file system in memory, gone at the end.
struct Mounted {
    point: tempfile::TempDir,
}

impl Mounted {
    /// Nothing where mounting is not permitted; says so.
    fn new(options: &str) -> Option<Self> {
        let point = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "coffer-test"]).arg(point.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { point }),
            failed => {
                println!("SKIPPED: a tmpfs cannot be mounted here: {failed:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.point.path()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(self.path()).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", "--quiet"]).arg(self.path()).status();
    }
}

#[test]
fn folders_are_the_owners_only_and_nothing_is_touched_before_create() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("a/b");
    let store = LocalStore::new(&root);
    assert!(!base.path().join("a").exists());
    store.create().unwrap();
    let places = Place::HASHED.map(|place| root.join(place.name()));
    for folder in [&base.path().join("a"), &root].into_iter().chain(&places) {
        assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o7777, 0o700, "{}", folder.display());
    }
    let name = object(Place::Data, b"pack");
    store.put(&name, b"pack").unwrap();
    assert_eq!(fs::metadata(root.join(name.to_string())).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(store.stat(&name).unwrap().unwrap().modified.unwrap().seconds() > 1_700_000_000);
}

#[test]
fn the_location_is_safe_to_print() {
    let store = LocalStore::new(Path::new(std::ffi::OsStr::from_bytes(b"/a\x1b[2J\xff/b")));
    assert_eq!(store.location(), "/a\\u{1b}[2J\\xff/b");
    assert!(store.put(&ObjectName::CONFIG, b"").unwrap_err().source.to_string().contains("/a\\u{1b}[2J\\xff/b"));
}

#[test]
fn foreign_names_are_passed_over() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::new(base.path());
    store.create().unwrap();
    let [pack, index] = [object(Place::Data, b"content"), object(Place::Index, b"content")];
    store.put(&pack, b"content").unwrap();
    store.put(&index, b"content").unwrap();
    let id = pack.id().to_string();
    let elsewhere = object(Place::Data, b"in a wrong folder").id().to_string();
    let foreign = [
        ".tmp-1-0-0123456789abcdef".to_owned(),
        id[..63].to_owned(),
        format!("{id}0"),
        format!("{id}~"),
        format!(".{id}.swp"),
        ".nfs000000000000002a00000001".to_owned(),
        object(Place::Data, b"other").id().to_string().to_uppercase(),
    ];
    let folders = [base.path().join("data"), base.path().join("data").join(&id[..2]), base.path().join("index")];
    for folder in &folders {
        for name in &foreign {
            fs::write(folder.join(name), "foreign").unwrap();
        }
        fs::write(folder.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "foreign").unwrap();
        fs::create_dir(folder.join("lost+found")).unwrap();
        // What bears an object's name, but is none.
        fs::create_dir(folder.join(object(Place::Data, b"a folder").id().to_string())).unwrap();
        symlink("nowhere", folder.join(object(Place::Data, b"a link").id().to_string())).unwrap();
    }
    fs::write(base.path().join("data").join(&id[..2]).join(&elsewhere), "foreign").unwrap();
    fs::write(base.path().join("data").join(&id), "foreign").unwrap();
    for folder in ["AB", "abc", "zz", "a"] {
        fs::create_dir(base.path().join("data").join(folder)).unwrap();
        fs::write(base.path().join("data").join(folder).join(format!("ab{}", &id[2..])), "foreign").unwrap();
    }
    let unused = (0..=255_u8).map(|first| format!("{first:02x}")).find(|first| *first != id[..2]).unwrap();
    fs::write(base.path().join("data").join(unused), "a file for a folder").unwrap();
    assert_eq!(list(&store, Place::Data), Ok(BTreeSet::from([pack])));
    assert_eq!(list(&store, Place::Index), Ok(BTreeSet::from([index])));
    for place in [Place::Keys, Place::Locks, Place::Snapshots] {
        assert_eq!(list(&store, place), Ok(BTreeSet::new()));
    }
}

/// None of these may hang, follow, or be taken for an object.
#[test]
fn only_regular_files_are_objects() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::new(base.path());
    store.create().unwrap();
    let [folder, fifo, link] = [&b"folder"[..], b"fifo", b"link"].map(|content| object(Place::Locks, content));
    let path = |name: &ObjectName| base.path().join(name.to_string());
    fs::create_dir(path(&folder)).unwrap();
    assert!(Command::new("mkfifo").arg(path(&fifo)).status().unwrap().success());
    fs::write(base.path().join("elsewhere"), "secret").unwrap();
    symlink("../elsewhere", path(&link)).unwrap();
    for name in [folder, fifo, link] {
        assert!(matches!(get(&store, &name), Err(StoreErrorKind::Damage | StoreErrorKind::Permanent)), "{name}");
        assert_eq!(kind(store.stat(&name)), Ok(None));
        assert_eq!(kind(store.put(&name, b"mine")), Err(StoreErrorKind::Exists));
    }
    assert_eq!(fs::read(base.path().join("elsewhere")).unwrap(), b"secret");
    assert_eq!(list(&store, Place::Locks), Ok(BTreeSet::new()));
}

#[test]
fn the_end_of_a_huge_file_is_read_without_the_rest() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::new(base.path());
    store.create().unwrap();
    let name = object(Place::Index, b"huge");
    File::create(base.path().join(name.to_string())).unwrap().set_len(8 << 40).unwrap();
    let mut bytes = Vec::new();
    store.get(&name, ByteRange::Suffix { length_bytes: 3 }, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 3]);
    let limited = ByteRange::WholeUpTo { limit_bytes: 1 << 20 };
    assert_eq!(kind(store.get(&name, limited, &mut bytes)), Err(StoreErrorKind::Damage));
    assert!(bytes.is_empty() && bytes.capacity() < 1 << 20);
    let beyond = ByteRange::Exact { offset_bytes: 8, length_bytes: 8 << 40 };
    assert_eq!(kind(store.get(&name, beyond, &mut bytes)), Err(StoreErrorKind::Damage));
}

#[test]
fn what_crashed_writers_left_is_swept_up_after_days() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::new(base.path());
    store.create().unwrap();
    let folder = base.path().join("snapshots");
    let [old, young, other] = [".tmp-1-0-old", ".tmp-1-0-young", "notes.txt"].map(|name| folder.join(name));
    for (path, days) in [(&old, 4), (&young, 2), (&other, 400)] {
        let file = File::create(path).unwrap();
        file.set_modified(
            SystemTime::UNIX_EPOCH.elapsed().map(|now| SystemTime::UNIX_EPOCH + now).unwrap()
                - Duration::from_secs(days * 86_400),
        )
        .unwrap();
    }
    store.put(&object(Place::Snapshots, b"one"), b"one").unwrap();
    assert!(!old.exists() && young.exists() && other.exists());
}

/// The repository's folder is gone, as when its disk is not mounted: nothing is made anew, nothing looks empty.
#[test]
fn a_vanished_repository_is_neither_empty_nor_made_anew() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("mounted");
    let store = LocalStore::new(&root);
    store.create().unwrap();
    let names = Place::HASHED.map(|place| object(place, b"content"));
    store.put(&ObjectName::CONFIG, b"config").unwrap();
    for name in &names {
        store.put(name, b"content").unwrap();
    }
    fs::rename(&root, base.path().join("elsewhere")).unwrap();
    for mount_point in [false, true] {
        if mount_point {
            fs::create_dir(&root).unwrap();
        }
        for name in &names {
            assert_eq!(kind(store.put(name, b"content")), Err(StoreErrorKind::Permanent));
            assert_eq!(get(&store, name), Err(StoreErrorKind::Permanent));
            assert_eq!(kind(store.stat(name)), Err(StoreErrorKind::Permanent));
            assert_eq!(kind(store.delete(name)), Err(StoreErrorKind::Permanent));
            assert_eq!(list(&store, name.place()), Err(StoreErrorKind::NotFound));
        }
        assert_eq!(get(&store, &ObjectName::CONFIG), Err(StoreErrorKind::NotFound), "this asks for a repository");
        assert_eq!(kind(store.stat(&ObjectName::CONFIG)), Ok(None));
        assert_eq!(list(&store, Place::Config).is_ok(), mount_point);
        assert_eq!(root.exists(), mount_point);
        assert!(!mount_point || below(&root).is_empty());
    }
    fs::remove_dir(&root).unwrap();
    fs::rename(base.path().join("elsewhere"), &root).unwrap();
    for name in &names {
        assert_eq!(get(&store, name).as_deref(), Ok(&b"content"[..]));
    }
}

/// Programs that copy folders may leave out empty ones.
#[test]
fn empty_folders_may_be_missing_where_there_is_a_config() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::new(base.path());
    store.create().unwrap();
    store.put(&ObjectName::CONFIG, b"config").unwrap();
    fs::remove_dir(base.path().join("locks")).unwrap();
    let name = object(Place::Locks, b"content");
    assert_eq!(list(&store, Place::Locks), Ok(BTreeSet::new()));
    assert_eq!(get(&store, &name), Err(StoreErrorKind::NotFound));
    assert_eq!(kind(store.stat(&name)), Ok(None));
    assert_eq!(kind(store.delete(&name)), Ok(()));
    let refused = store.put(&name, b"content").unwrap_err();
    assert!(refused.kind == StoreErrorKind::Permanent && refused.source.to_string().contains("/locks"));
    store.create().unwrap();
    store.put(&name, b"content").unwrap();

    let pack = object(Place::Data, b"content");
    for _ in 0..2 {
        store.put(&pack, b"content").unwrap();
        store.delete(&pack).unwrap();
        fs::remove_dir(base.path().join(pack.to_string()).parent().unwrap()).unwrap();
        assert_eq!(get(&store, &pack), Err(StoreErrorKind::NotFound));
        assert_eq!(list(&store, Place::Data), Ok(BTreeSet::new()));
    }
}

/// A folder of packs may be a link to another disk; without that disk the listing fails.
#[test]
fn a_dangling_folder_is_not_an_empty_one() {
    let [base, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let store = LocalStore::new(base.path());
    store.create().unwrap();
    let pack = object(Place::Data, b"content");
    let folder = base.path().join(pack.to_string()).parent().unwrap().to_owned();
    let target = other.path().join("disk");
    fs::create_dir(&target).unwrap();
    symlink(&target, &folder).unwrap();
    store.put(&pack, b"content").unwrap();
    assert_eq!(list(&store, Place::Data), Ok(BTreeSet::from([pack])));
    fs::rename(&target, other.path().join("away")).unwrap();
    assert!(list(&store, Place::Data).is_err());
}

#[test]
fn a_full_disk_is_told_at_once_and_leaves_nothing_half_done() {
    // Also a size that leaves room for the name and the first part of an object only.
    for size_kib in (100..=180).step_by(4) {
        let Some(disk) = Mounted::new(&format!("size={size_kib}k")) else { return };
        let store = LocalStore::new(disk.path().join("repository"));
        store.create().unwrap();
        let contents: Vec<Vec<u8>> = (0..40_u8).map(|number| vec![number; 9000]).collect();
        let mut stored = BTreeSet::new();
        let mut refused = 0;
        for content in &contents {
            let name = object(Place::Data, content);
            match kind(store.put(&name, content)) {
                Ok(()) => assert!(stored.insert(name)),
                Err(kind) => {
                    assert_eq!(kind, StoreErrorKind::NoSpace);
                    assert_eq!(kind_of_missing(&store, &name), StoreErrorKind::NotFound);
                    refused += 1;
                }
            }
        }
        assert!(refused > 0 && !stored.is_empty(), "{size_kib} KiB: {refused} refused, {} stored", stored.len());
        assert_eq!(temporaries(disk.path()), 0);
        assert_eq!(list(&store, Place::Data), Ok(stored.clone()));
        for content in &contents {
            let name = object(Place::Data, content);
            assert_eq!(get(&store, &name).is_ok_and(|bytes| bytes == *content), stored.contains(&name));
        }
        // With no space at all an object can be removed, and then there is space.
        let [first, second] = stored.iter().take(2).copied().collect::<Vec<_>>()[..] else { panic!("two are stored") };
        store.delete(&first).unwrap();
        store.delete(&second).unwrap();
        store.put(&object(Place::Locks, b"note"), b"note").unwrap();
    }
}

fn kind_of_missing(store: &LocalStore, name: &ObjectName) -> StoreErrorKind {
    get(store, name).expect_err("it was refused")
}

#[test]
fn a_disk_without_inodes_is_full() {
    let Some(disk) = Mounted::new("size=1m,nr_inodes=12") else { return };
    let store = LocalStore::new(disk.path().join("repository"));
    store.create().unwrap();
    let refused = (0..20_u8).find_map(|number| kind(store.put(&object(Place::Keys, &[number]), &[number])).err());
    assert_eq!(refused, Some(StoreErrorKind::NoSpace));
    assert_eq!(temporaries(disk.path()), 0);
}

#[test]
fn a_read_only_disk_can_be_read() {
    let Some(disk) = Mounted::new("size=1m") else { return };
    let store = LocalStore::new(disk.path().join("repository"));
    store.create().unwrap();
    let [name, other] = [object(Place::Data, b"content"), object(Place::Data, b"other")];
    store.put(&name, b"content").unwrap();
    disk.run("mount", &["-o", "remount,ro"]);
    assert_eq!(kind(store.put(&other, b"other")), Err(StoreErrorKind::Denied));
    assert_eq!(kind(store.put(&object(Place::Index, b"other"), b"other")), Err(StoreErrorKind::Denied));
    assert_eq!(kind(store.delete(&name)), Err(StoreErrorKind::Denied));
    assert_eq!(get(&store, &name).as_deref(), Ok(&b"content"[..]));
    assert_eq!(list(&store, Place::Data), Ok(BTreeSet::from([name])));
    assert!(store.stat(&name).unwrap().is_some());
    disk.run("mount", &["-o", "remount,rw"]);
    store.put(&other, b"other").unwrap();
}

/// The mount point is the repository's folder itself; without the disk it is an empty folder.
#[test]
fn an_unmounted_disk_is_neither_empty_nor_written_below() {
    let Some(disk) = Mounted::new("size=1m") else { return };
    let store = LocalStore::new(disk.path());
    store.create().unwrap();
    store.put(&ObjectName::CONFIG, b"config").unwrap();
    let name = object(Place::Data, b"content");
    store.put(&name, b"content").unwrap();
    disk.run("umount", &[]);
    assert_eq!(list(&store, Place::Data), Err(StoreErrorKind::NotFound));
    assert_eq!(get(&store, &name), Err(StoreErrorKind::Permanent));
    assert_eq!(kind(store.put(&object(Place::Data, b"other"), b"other")), Err(StoreErrorKind::Permanent));
    assert!(below(disk.path()).is_empty());
}
