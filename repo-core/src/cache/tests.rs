//! Files that are damaged, foreign, gone or in the way: none is believed, none does harm.

use std::{fs, os::unix::fs::PermissionsExt};

use sha2::{Digest, Sha256};

use super::*;
use crate::{
    cache::table::Shape,
    crypto::keys::MasterKey,
    id::{IndexId, RepositoryId},
    runtime::SystemRuntime,
};

const RUN: IndexId = IndexId([7; 32]);
const SHAPE: Shape = [1, 2, 3, 4];

fn keys(number: u8) -> Keys {
    Keys::new(MasterKey::from_bytes([number; 32]), RepositoryId([9; 32]))
}

fn cache(base: &Path) -> Cache {
    Cache::new(base, &keys(1), Arc::new(SystemRuntime), Scope::All, 1 << 20)
}

fn tables(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * i % 251).unwrap()).collect()
}

fn keep_table(cache: &Cache, id: IndexId, bytes: &[u8]) {
    let mut table = cache.begin_table(id, SHAPE, bytes.len() as u64).unwrap();
    bytes.chunks(100).for_each(|part| table.write(part));
    let written = table.finish().unwrap();
    assert_eq!(written.mapping().as_ref(), bytes);
    assert_eq!(written.publish().as_ref(), bytes);
}

fn read_table(cache: &Cache, id: IndexId) -> Option<Vec<u8>> {
    cache.table(id).map(|(shape, mapping)| {
        assert_eq!(shape, SHAPE);
        mapping.as_ref().to_vec()
    })
}

#[test]
fn a_table_that_was_changed_in_any_byte_or_length_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let bytes = tables(700);
    keep_table(&cache, RUN, &bytes);
    let path = cache.path(Part::Tables, &RUN.to_string());
    let good = fs::read(&path).unwrap();
    assert_eq!(read_table(&cache, RUN).unwrap(), bytes);
    for at in 0..good.len() {
        for bit in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            fs::write(&path, &bad).unwrap();
            assert!(read_table(&cache, RUN).is_none() && !path.exists(), "byte {at}");
        }
    }
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(read_table(&cache, RUN).is_none() && !path.exists(), "length {length}");
    }
    fs::write(&path, [good.as_slice(), &[0]].concat()).unwrap();
    assert!(read_table(&cache, RUN).is_none() && !path.exists());
    keep_table(&cache, RUN, &bytes);
    assert_eq!(read_table(&cache, RUN).unwrap(), bytes);
}

#[test]
fn a_table_of_another_run_or_another_key_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) =
        (cache(folder.path()), Cache::new(folder.path(), &keys(2), Arc::new(SystemRuntime), Scope::All, 1 << 20));
    let other = IndexId([8; 32]);
    keep_table(&ours, RUN, &tables(300));
    fs::copy(ours.path(Part::Tables, &RUN.to_string()), ours.path(Part::Tables, &other.to_string())).unwrap();
    assert!(read_table(&ours, other).is_none());
    assert!(read_table(&ours, RUN).is_some());
    assert!(read_table(&others, RUN).is_none());
    assert!(read_table(&ours, RUN).is_none(), "it was dropped");
}

#[test]
fn what_is_mapped_outlives_its_file_and_its_release() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let bytes = tables(100_000);
    keep_table(&cache, RUN, &bytes);
    let (_, mapping) = cache.table(RUN).unwrap();
    fs::remove_dir_all(cache.folder()).unwrap();
    mapping.release();
    assert_eq!(mapping.as_ref(), bytes);
    // And the folder comes back.
    keep_table(&cache, RUN, &bytes);
    assert_eq!(read_table(&cache, RUN).unwrap(), bytes);
    assert_eq!(fs::metadata(cache.folder()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn an_empty_table_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    keep_table(&cache, RUN, &[]);
    assert_eq!(read_table(&cache, RUN), Some(Vec::new()));
}

#[test]
fn a_table_that_is_not_finished_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let mut table = cache.begin_table(RUN, SHAPE, 10).unwrap();
    table.write(b"123456789");
    assert!(table.finish().is_none(), "it is shorter than was said");
    drop(cache.begin_table(RUN, SHAPE, 10));
    assert_eq!(fs::read_dir(cache.folder().join("tables")).unwrap().count(), 0);
}

#[test]
fn snapshots_are_held_against_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let id = |bytes: &[u8]| ObjectId(Sha256::digest(bytes).into());
    let bytes = tables(200);
    let name = id(&bytes);
    cache.keep_snapshot(&name, b"another one");
    assert_eq!(cache.snapshot(&name), None);
    cache.keep_snapshot(&name, &bytes);
    let path = cache.path(Part::Snapshots, &name.to_string());
    for at in 0..bytes.len() {
        assert_eq!(cache.snapshot(&name).as_ref(), Some(&bytes));
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        fs::write(&path, &bad).unwrap();
        assert_eq!(cache.snapshot(&name), None);
        assert!(!path.exists());
        fs::write(&path, &bytes[..at]).unwrap();
        assert_eq!(cache.snapshot(&name), None);
        cache.keep_snapshot(&name, &bytes);
    }
    cache.retain_snapshots(&BTreeSet::from([name]));
    assert!(path.exists());
    cache.retain_snapshots(&BTreeSet::new());
    assert!(!path.exists());
}

#[test]
fn a_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let bytes = tables(200);
    let name = ObjectId(Sha256::digest(&bytes).into());
    cache.keep_snapshot(&name, &bytes);
    let path = cache.path(Part::Snapshots, &name.to_string());
    let aside = folder.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    assert_eq!(cache.snapshot(&name), None);
    cache.keep_snapshot(&name, &bytes);
    assert_eq!(cache.snapshot(&name), Some(bytes.clone()), "the link was replaced");
    assert_eq!(fs::read(&aside).unwrap(), bytes);
}

fn used_bytes(cache: &Cache) -> u64 {
    cache.files().iter().map(|file| file.size_bytes).sum()
}

#[test]
fn the_limit_is_kept_and_what_was_used_last_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let pack = PackId([3; 32]);
    let stored = vec![5; 64 << 10];
    let long_ago = cache.now() - Duration::from_hours(1000);
    for ordinal in 0..100 {
        cache.keep_frame(&pack, ordinal, &stored);
        assert!(used_bytes(&cache) <= 1 << 20, "{ordinal}");
        // All were used long ago, one after the other, but for the first, which is used again and again.
        let path = cache.path(Part::Trees, &frame_name(&pack, ordinal));
        let used = long_ago + Duration::from_secs(ordinal.into());
        File::options().write(true).open(path).unwrap().set_modified(used).unwrap();
        assert!(cache.frame(&pack, 0, 64 << 10).is_some(), "{ordinal}");
    }
    assert!(cache.frame(&pack, 99, 64 << 10).is_some());
    assert!(cache.frame(&pack, 1, 64 << 10).is_none());
    assert!(used_bytes(&cache) > 1 << 19);
    // What has no room at all does not drive out the rest.
    cache.keep_frame(&pack, 1000, &vec![5; 2 << 20]);
    assert!(!cache.has_frame(&pack, 1000) && cache.has_frame(&pack, 99));
    assert_eq!(cache.take_problem(), None);
}

#[test]
fn two_that_write_into_one_folder_keep_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let caches = [cache(folder.path()), cache(folder.path())];
    let pack = PackId([3; 32]);
    for ordinal in 0..200 {
        caches[ordinal as usize % 2].keep_frame(&pack, ordinal, &vec![5; 64 << 10]);
    }
    assert!(
        used_bytes(&caches[0]) <= 2 << 20,
        "each knows what it has written itself, and looks when that is the limit"
    );
}

#[test]
fn what_killed_processes_left_goes() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    cache.keep_frame(&PackId([3; 32]), 0, b"stored");
    let left = cache.path(Part::Trees, "tmp-left");
    let young = cache.path(Part::Trees, "tmp-young");
    for path in [&left, &young] {
        fs::write(path, b"part").unwrap();
    }
    File::options().write(true).open(&left).unwrap().set_modified(cache.now() - Duration::from_hours(2)).unwrap();
    assert_eq!(cache.files().len(), 1);
    assert!(!left.exists() && young.exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("file");
    fs::write(&base, b"in the way").unwrap();
    let cache = cache(&base);
    cache.keep_frame(&PackId([3; 32]), 0, b"stored");
    cache.keep_frame(&PackId([3; 32]), 1, b"stored");
    assert!(cache.begin_table(RUN, SHAPE, 10).is_none());
    assert!(cache.frame(&PackId([3; 32]), 0, 6).is_none() && cache.table(RUN).is_none());
    assert!(cache.take_problem().unwrap().is_first);
    assert_eq!(cache.take_problem(), None);
}

#[test]
fn large_tables_alone_are_kept_of_repositories_nearby() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path(), &keys(1), Arc::new(SystemRuntime), Scope::LargeTables, 1 << 30);
    cache.keep_frame(&PackId([3; 32]), 0, b"stored");
    cache.keep_snapshot(&ObjectId(Sha256::digest(b"a").into()), b"a");
    assert!(!cache.keeps_table(table::LARGE_RUN_BYTES - 1) && cache.keeps_table(table::LARGE_RUN_BYTES));
    assert!(!cache.folder().exists(), "nothing is made before there is something to be kept");
}

#[test]
fn caches_are_listed_and_removed() {
    let base = tempfile::tempdir().unwrap();
    let cache = cache(base.path());
    keep_table(&cache, RUN, &tables(5000));
    cache.keep_frame(&PackId([3; 32]), 0, b"stored");
    fs::create_dir(base.path().join("another")).unwrap();
    let listed = folder::list(base.path()).unwrap();
    let [one] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((one.repository, one.files), (RepositoryId([9; 32]), 2));
    assert!(one.size_bytes >= 5000 && one.used.is_some());
    let tag = fs::read_to_string(base.path().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
    folder::remove(one).unwrap();
    folder::remove(one).unwrap();
    assert!(folder::list(base.path()).unwrap().is_empty() && base.path().join("another").exists());
    assert!(folder::list(&base.path().join("missing")).unwrap().is_empty());
}

#[test]
fn folders_are_made_while_somebody_clears_them() {
    let base = tempfile::tempdir().unwrap();
    let cache = cache(base.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = fs::remove_dir_all(&cache.folder);
            }
        });
        let failed: Vec<_> = (0..10_000).filter_map(|_| cache.make().err()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(failed.is_empty(), "{} times, as in: {}", failed.len(), failed[0]);
    });
}
