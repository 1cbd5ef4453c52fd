//! Repositories with a local cache: what they ask the store for, and that nothing they find in the cache misleads them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{
    bench::{TestRuntime, assert_same, back_up_model, init, init_with, open, snapshots},
    model::{Seen, Thing, read_back},
    sample::noise,
};
use repo_core::{
    blob::{BlobKind, ReadBlobs},
    cache::{Cache, Scope},
    check::{CheckOptions, check},
    error::StoreError,
    hand_on,
    progress::{Cancel, Silent},
    repository::{Repository, config::Parameters, reader::BlobReader},
    store::{
        ByteRange, ObjectName, Place, Store,
        count::{CountingStore, Counts},
        memory::MemoryStore,
    },
    tree::{
        node::{Content, NodeKind},
        walk::lookup,
    },
};

type Counted = Arc<CountingStore<MemoryStore>>;

fn counted(store: &MemoryStore) -> Counted {
    Arc::new(CountingStore::new(store.clone()))
}

/// Opens a repository with a cache.
fn open_with(store: impl Store + 'static, base: &Path) -> Arc<Repository> {
    let mut repository = open(store);
    let cache = Cache::new(base, repository.keys(), Arc::new(TestRuntime), Scope::All, 1 << 30);
    Arc::get_mut(&mut repository).unwrap().attach_cache(Arc::new(cache));
    repository
}

fn reader(repository: &Arc<Repository>) -> BlobReader {
    BlobReader::new(Arc::clone(repository), Arc::new(repository.load_index(None).unwrap()), 1 << 20)
}

/// Everything in the only snapshot, as a command sees it that begins now.
fn read(repository: &Arc<Repository>) -> std::collections::BTreeMap<Vec<u8>, Seen> {
    let snapshots = snapshots(repository);
    assert_eq!(snapshots.len(), 1);
    read_back(&reader(repository), &snapshots[0].1.tree).unwrap()
}

fn tree() -> Thing {
    let mut root = Thing::directory([("a", Thing::file(noise(1, 50_000)))]);
    for directory in 0..20 {
        root.put(format!("d{directory}").as_bytes(), Thing::directory([]));
        for file in 0..10 {
            let content = noise(100 * directory + file, 300);
            root.put(format!("d{directory}/{file}").as_bytes(), Thing::file(content));
        }
    }
    root
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if !path.ends_with("CACHEDIR.TAG") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What is asked for between two moments.
fn asked(store: &Counted, work: impl FnOnce()) -> Counts {
    let before = store.counts();
    work();
    store.counts().since(&before)
}

#[test]
fn what_was_read_once_is_not_fetched_again() {
    let store = MemoryStore::new();
    let tree = tree();
    back_up_model(&init(store.clone()), &tree);
    let folder = tempfile::tempdir().unwrap();
    let counted = counted(&store);
    let cold = asked(&counted, || assert_same(&read(&open_with(Arc::clone(&counted), folder.path())), &tree.seen()));
    let listed = asked(&counted, || assert_eq!(snapshots(&open_with(Arc::clone(&counted), folder.path())).len(), 1));
    // Config, keys, the key; the listing of snapshots.
    assert_eq!((listed.gets, listed.lists, listed.stats), (2, 2, 0), "{listed:?}");
    let warm = asked(&counted, || assert_same(&read(&open_with(Arc::clone(&counted), folder.path())), &tree.seen()));
    let data = store.names().iter().filter(|name| name.place() == Place::Data).count();
    assert!(data > 2);
    let plain = asked(&counted, || assert_same(&read(&open(Arc::clone(&counted))), &tree.seen()));
    assert!(cold.gets < plain.gets, "frames of trees come several at once: {cold:?}, {plain:?}");
    // What is left to be fetched are frames of data.
    assert!(warm.gets < cold.gets && warm.read_bytes < cold.read_bytes, "{warm:?}, {cold:?}");
}

/// A backup leaves in the cache what the next one compares with, the index included.
#[test]
fn an_unchanged_backup_fetches_nothing() {
    let store = MemoryStore::new();
    let tree = tree();
    let folder = tempfile::tempdir().unwrap();
    let counted = counted(&store);
    init(store.clone());
    back_up_model(&open_with(Arc::clone(&counted), folder.path()), &tree);
    for _ in 0..2 {
        let asked = asked(&counted, || {
            let repository = open_with(Arc::clone(&counted), folder.path());
            back_up_model(&repository, &tree);
        });
        // Config and key, and the backup's own note, when it looks for marks: before it begins and when it is done.
        assert!(asked.gets <= 5, "{asked:?}");
    }
}

/// Whatever happens to the files of a cache, what is read is right, and `check` hears nothing of it.
#[test]
fn a_damaged_cache_misleads_nobody() {
    let store = MemoryStore::new();
    let tree = tree();
    back_up_model(&init(store.clone()), &tree);
    let folder = tempfile::tempdir().unwrap();
    let expected = tree.seen();
    let fill = || assert_same(&read(&open_with(store.clone(), folder.path())), &expected);
    fill();
    let files = files_below(folder.path());
    for part in ["tables", "snapshots", "trees"] {
        assert!(files.iter().any(|file| file.parent().unwrap().ends_with(part)), "{part}: {files:?}");
    }
    let good: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    // One byte of every file at once, at all places of the shorter ones and at many of the longer ones; then cut, grown and empty.
    let changes = 40;
    for number in 0..changes {
        for (file, good) in files.iter().zip(&good) {
            let at = good.len() * number / changes;
            let mut bad = good.clone();
            match number % 4 {
                0 => bad.truncate(at),
                1 => bad[at] ^= 1 << (number % 8),
                2 => bad[good.len() - 1 - at] ^= 0x55,
                _ => bad.extend_from_slice(good),
            }
            fs::write(file, bad).unwrap();
        }
        fill();
        for (file, good) in files.iter().zip(&good) {
            assert_eq!(&fs::read(file).unwrap(), good, "{number}: what was wrong was replaced: {}", file.display());
        }
    }
    // One file in place of another.
    for (from, to) in files.iter().zip(files.iter().skip(1)) {
        fs::copy(from, to).unwrap();
    }
    fill();
}

/// A frame in the cache is not what is checked.
#[test]
fn a_check_reads_the_store() {
    let store = MemoryStore::new();
    let tree = tree();
    back_up_model(&init(store.clone()), &tree);
    let folder = tempfile::tempdir().unwrap();
    assert_same(&read(&open_with(store.clone(), folder.path())), &tree.seen());
    let sound = |repository: &Arc<Repository>| {
        let report = check(repository, CheckOptions::default(), &Silent, &Cancel::default()).unwrap();
        report.findings.is_empty()
    };
    assert!(sound(&open_with(store.clone(), folder.path())));
    for place in [Place::Snapshots, Place::Index, Place::Data] {
        let mut found = false;
        for name in store.names().into_iter().filter(|name| name.place() == place) {
            let good = store.bytes_of(&name).unwrap();
            let mut bad = good.to_vec();
            let middle = bad.len() / 2;
            bad[middle.min(400)] ^= 1;
            store.replace(&name, bad);
            found |= !sound(&open_with(store.clone(), folder.path()));
            store.replace(&name, good);
        }
        assert!(found, "{place:?}");
    }
}

#[test]
fn the_cache_of_another_repository_is_of_no_use() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree();
    let stores = [MemoryStore::new(), MemoryStore::new()];
    for store in &stores {
        back_up_model(&init(store.clone()), &tree);
        assert_same(&read(&open_with(store.clone(), folder.path())), &tree.seen());
    }
    let mut folders: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    let [one, other] = folders.as_slice() else { panic!("{folders:?}") };
    let aside = folder.path().join("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(aside, other).unwrap();
    for store in &stores {
        let counted = counted(store);
        let repository = open_with(Arc::clone(&counted), folder.path());
        let asked = asked(&counted, || assert_same(&read(&repository), &tree.seen()));
        assert!(asked.gets > 3, "{asked:?}");
    }
}

/// Readers with caches of their own in one folder, while somebody clears it again and again, and one backs up.
#[test]
fn several_at_once_and_one_who_clears() {
    let store = MemoryStore::new();
    let tree = tree();
    back_up_model(&init(store.clone()), &tree);
    let folder = tempfile::tempdir().unwrap();
    let expected = tree.seen();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..15 {
                        let repository = open_with(store.clone(), folder.path());
                        assert_same(&read(&repository), &expected);
                        let problem = repository.cache().unwrap().take_problem();
                        // That its folder vanished while a file was written to it is no more than that.
                        let reason = problem.map_or_else(String::new, |problem| problem.reason);
                        assert!(reason.is_empty() || reason.contains("No such file"), "{reason}");
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for cache in repo_core::cache::folder::list(folder.path()).unwrap_or_default() {
                    let _ = repo_core::cache::folder::remove(&cache);
                }
                std::thread::yield_now();
            }
        });
        let results: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        for result in results {
            result.unwrap();
        }
    });
}

/// Every file of the cache goes after the index was read, and between one page and the next.
#[test]
fn what_vanishes_in_use_is_fetched() {
    let store = MemoryStore::new();
    let tree = tree();
    back_up_model(&init(store.clone()), &tree);
    let folder = tempfile::tempdir().unwrap();
    assert_same(&read(&open_with(store.clone(), folder.path())), &tree.seen());
    let repository = open_with(store, folder.path());
    let snapshots = snapshots(&repository);
    let reader = reader(&repository);
    fs::remove_dir_all(repository.cache().unwrap().folder()).unwrap();
    assert_same(&read_back(&reader, &snapshots[0].1.tree).unwrap(), &tree.seen());
}

/// A disk that is full: processes may not write files beyond some blocks.
#[test]
fn a_full_disk_costs_time_alone() {
    let script = "trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact a_full_disk --ignored";
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new("sh").args(["-c", script]).arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run by the test above, in a process that may not write much"]
fn a_full_disk() {
    let store = MemoryStore::new();
    let tree = tree();
    back_up_model(&init(store.clone()), &tree);
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let repository = open_with(store.clone(), folder.path());
        assert_same(&read(&repository), &tree.seen());
        let problem = repository.cache().unwrap().take_problem().expect("it is told of");
        assert!(!problem.is_first, "{problem:?}");
    }
    assert!(files_below(folder.path()).iter().all(|file| !file.to_string_lossy().contains("tmp-")));
}

/// A fresh machine, a repository far away, one small file out of many: what that takes.
#[test]
fn one_file_out_of_many_on_a_fresh_machine() {
    let store = MemoryStore::new();
    let mut tree = Thing::directory([]);
    for directory in 0..200 {
        tree.put(format!("d{directory:03}").as_bytes(), Thing::directory([]));
        for file in 0..50 {
            let content = noise(1000 * directory + file, 3000);
            tree.put(format!("d{directory:03}/file{file:02}").as_bytes(), Thing::file(content));
        }
    }
    back_up_model(&init_with(store.clone(), Parameters::default()), &tree);
    let folder = tempfile::tempdir().unwrap();
    for (gets_max, lists) in [(7, 3), (3, 3)] {
        let counted = counted(&store);
        let repository = open_with(Arc::clone(&counted), folder.path());
        let (_, snapshot) = snapshots(&repository).remove(0);
        let listed = counted.counts();
        assert!(listed.read_bytes < 8 << 10, "{listed:?}");
        let reader = reader(&repository);
        let node = lookup(&reader, &snapshot.tree, b"d123/file07", "").unwrap().unwrap();
        let NodeKind::File { content: Content::Blob(blob), .. } = node.kind else { panic!("it is a small file") };
        let mut bytes = Vec::new();
        reader.read_blob(BlobKind::Data, &blob, &mut bytes).unwrap();
        assert_eq!(bytes, noise(123_007, 3000));
        let counts = counted.counts();
        assert!(counts.gets <= gets_max && counts.lists <= lists && counts.stats == 0, "{counts:?}");
        assert!(counts.read_bytes <= 4 << 20, "{counts:?}");
    }
}

/// From wherever in a tree a path is, its directories take two requests: one for those with much below them, one for the others.
#[test]
fn a_path_takes_two_requests_from_anywhere() {
    let store = MemoryStore::new();
    let mut tree = Thing::directory([]);
    let path = |above: u32, below: u32| format!("directory{above:02}/{above:02}{below:02}-directory");
    for above in 0..60 {
        tree.put(format!("directory{above:02}").as_bytes(), Thing::directory([]));
        for below in 0..40 {
            tree.put(path(above, below).as_bytes(), Thing::directory([]));
            for file in 0..30 {
                let content = format!("{above} {below} {file}").into_bytes();
                tree.put(format!("{}/file{file:02}", path(above, below)).as_bytes(), Thing::file(content));
            }
        }
    }
    back_up_model(&init_with(store.clone(), Parameters::default()), &tree);
    for number in (0..2400).step_by(37) {
        let folder = tempfile::tempdir().unwrap();
        let counted = counted(&store);
        let repository = open_with(Arc::clone(&counted), folder.path());
        let (_, snapshot) = snapshots(&repository).remove(0);
        let reader = reader(&repository);
        let path = format!("{}/file17", path(number / 40, number % 40));
        let counts = asked(&counted, || {
            lookup(&reader, &snapshot.tree, path.as_bytes(), "").unwrap().unwrap();
        });
        assert!(counts.gets <= 2 && counts.read_bytes <= 640 << 10, "{path}: {counts:?}");
    }
}

/// A store that tells how many gets of snapshots were under way at once.
struct Busy {
    inner: MemoryStore,
    now: std::sync::atomic::AtomicUsize,
    most: std::sync::atomic::AtomicUsize,
}

impl Store for Busy {
    hand_on!(self.inner: create, put, list, stat, delete, abilities, location);

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        if name.place() == Place::Snapshots {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            // Long enough for others to come, however busy the machine is; not waited for where they have come.
            let waits = (0..200).take_while(|_| self.most.load(Ordering::SeqCst) < 2);
            waits.for_each(|_| std::thread::sleep(std::time::Duration::from_millis(5)));
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
        self.inner.get(name, range, into)
    }
}

/// To choose among several snapshots, whoever has no cache does not read them one after the other either.
#[test]
fn snapshots_are_read_several_at_once() {
    let store = MemoryStore::new();
    let repository = init(store.clone());
    for seed in 0..8 {
        back_up_model(&repository, &Thing::directory([("a", Thing::file(noise(seed, 500)))]));
    }
    let busy = Arc::new(Busy { inner: store, now: 0.into(), most: 0.into() });
    assert_eq!(snapshots(&open(busy.clone())).len(), 8);
    assert!(busy.most.load(Ordering::SeqCst) > 1);
}
