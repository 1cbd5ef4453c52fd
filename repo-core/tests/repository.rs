//! A repository as a whole, below the engines: blobs in, blobs out.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use repo_core::{
    blob::{BlobKind, ReadBlobs, WriteBlobs},
    compress::Level,
    crypto::{kdf::KdfCost, keys::ObjectKind, recorder},
    error::Error,
    id::BlobId,
    index::{builder::IndexBuilder, set::IndexSet},
    pack::reader::{PackKey, read_directory},
    repository::{
        InitOptions, Repository,
        config::Parameters,
        notes::Mark,
        reader::BlobReader,
        seal::Seal,
        session::{Session, SessionOptions},
    },
    runtime::SystemRuntime,
    snapshot::Listing,
    store::{ByteRange, ObjectName, Place, Store, memory::MemoryStore},
};

fn init(store: &MemoryStore) -> Arc<Repository> {
    recorder::start();
    let options = InitOptions {
        password: b"secret",
        host: "host".into(),
        user: "user".into(),
        kdf_cost: KdfCost::TEST,
        parameters: Parameters::tiny(),
    };
    Arc::new(Repository::init(Arc::new(store.clone()), Arc::new(SystemRuntime), &options).unwrap())
}

fn session(repository: &Arc<Repository>) -> Session {
    let index = Arc::new(IndexSet::load(repository.store(), repository.keys(), None).unwrap());
    let options = SessionOptions { level: Level::AUTO, dry_run: false, note: None };
    Session::open(Arc::clone(repository), index, options).unwrap()
}

fn reader(repository: &Arc<Repository>) -> BlobReader {
    let index = Arc::new(IndexSet::load(repository.store(), repository.keys(), None).unwrap());
    BlobReader::new(Arc::clone(repository), index, 1 << 20)
}

/// Blob contents that are all different, of many lengths, half of them compressible.
fn contents(from: u32, to: u32) -> Vec<(BlobKind, Vec<u8>)> {
    (from..to)
        .map(|i| {
            let kind = if i % 3 == 0 { BlobKind::Tree } else { BlobKind::Data };
            let mut bytes = i.to_le_bytes().to_vec();
            if i % 2 == 0 {
                bytes.resize(i as usize % 700, 7);
            } else {
                let mut hash = blake3::Hasher::new();
                hash.update(&bytes);
                bytes = vec![0; i as usize % 900];
                hash.finalize_xof().fill(&mut bytes);
                bytes.extend_from_slice(&i.to_le_bytes());
            }
            (kind, bytes)
        })
        .collect()
}

fn write(session: &Session, contents: &[(BlobKind, Vec<u8>)]) -> (Vec<BlobId>, usize) {
    let mut new = 0;
    let ids = contents
        .iter()
        .map(|(kind, bytes)| {
            let (id, is_new) = session.write_blob(*kind, bytes).unwrap();
            new += usize::from(is_new);
            id
        })
        .collect();
    (ids, new)
}

fn check(repository: &Arc<Repository>, contents: &[(BlobKind, Vec<u8>)], ids: &[BlobId]) {
    let reader = reader(repository);
    let mut bytes = Vec::new();
    for ((kind, expected), id) in contents.iter().zip(ids) {
        reader.read_blob(*kind, id, &mut bytes).unwrap();
        assert_eq!(&bytes, expected);
    }
}

fn no_rescue(_: &Session, _: &std::collections::BTreeSet<repo_core::id::PackId>) -> repo_core::error::Result<()> {
    panic!("nothing is condemned")
}

#[test]
fn blobs_come_back_and_are_stored_once() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let first = contents(0, 2_000);
    let writing = session(&repository);
    let (ids, new) = write(&writing, &first);
    assert!(new > 1_900, "{new}");
    let body = writing.commit(&"body".to_string(), &mut no_rescue).unwrap();
    check(&repository, &first, &ids);

    let seals: Vec<_> = repository.list(Place::Snapshots).unwrap();
    assert_eq!(seals.len(), 2);
    let seal: Seal = seals
        .iter()
        .find(|info| info.size_bytes == repo_core::envelope::object::SEAL_BYTES)
        .map(|info| repository.load(&info.name, ObjectKind::Seal).unwrap())
        .unwrap();
    assert_eq!(seal.bodies, [body]);

    // The same again, and a little more, with the repository opened anew.
    let repository =
        Arc::new(Repository::open(Arc::new(store.clone()), Arc::new(SystemRuntime), b"secret", None).unwrap());
    let packs = repository.list(Place::Data).unwrap().len();
    let second = contents(0, 2_010);
    let writing = session(&repository);
    let (ids, new) = write(&writing, &second);
    assert!((8..=10).contains(&new), "{new}");
    writing.commit(&"body 2".to_string(), &mut no_rescue).unwrap();
    check(&repository, &second, &ids);
    assert!(repository.list(Place::Data).unwrap().len() - packs <= 12);
    assert!(recorder::sealed() > 1_000);
}

#[test]
fn index_runs_stay_few() {
    let store = MemoryStore::default();
    let repository = init(&store);
    for round in 0..60 {
        let writing = session(&repository);
        write(&writing, &contents(round * 20, round * 20 + 20));
        writing.commit(&round, &mut no_rescue).unwrap();
    }
    let runs = repository.list(Place::Index).unwrap().len();
    assert!(runs <= 10, "{runs} runs");
    let all = contents(0, 1_200);
    let ids: Vec<_> = all.iter().map(|(kind, bytes)| repository.keys().blob_id(*kind, bytes)).collect();
    check(&repository, &all, &ids);
}

#[test]
fn condemned_packs_are_rescued_before_the_commit() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let all = contents(0, 300);
    let writing = session(&repository);
    write(&writing, &all);
    writing.commit(&"one".to_string(), &mut no_rescue).unwrap();

    let condemned: Vec<_> = repository.list(Place::Data).unwrap().iter().map(|info| info.name.id().into()).collect();
    let mark = Mark { packs: condemned.clone(), created: repository.runtime().now() };
    repository.save(Place::Locks, ObjectKind::Mark, &mark).unwrap();

    let writing = session(&repository);
    let (ids, new) = write(&writing, &all);
    assert_eq!(new, 0);
    let mut rescues = 0;
    writing
        .commit(&"two".to_string(), &mut |session, lost| {
            rescues += 1;
            assert!(lost.iter().all(|pack| condemned.contains(pack)));
            write(session, &all);
            Ok(())
        })
        .unwrap();
    assert_eq!(rescues, 1);
    // The pruner goes on and deletes what it condemned; the second snapshot has all it needs.
    for pack in condemned {
        store.delete(&ObjectName::new(Place::Data, pack)).unwrap();
    }
    check(&repository, &all, &ids);
}

#[test]
fn keys() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let open = |password: &[u8]| Repository::open(Arc::new(store.clone()), Arc::new(SystemRuntime), password, None);
    assert!(matches!(open(b"other"), Err(Error::WrongPassword { .. })));
    let added = repository.add_key(b"other", "h2".into(), "u2".into(), KdfCost::TEST).unwrap();
    assert!(open(b"other").is_ok() && open(b"secret").is_ok());
    let listed = repository.list_keys().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().any(|key| key.id == added && !key.current && key.info.as_ref().unwrap().host == "h2"));
    assert!(repository.remove_key(repository.key()).is_err());
    open(b"other").unwrap().remove_key(repository.key()).unwrap();
    assert!(matches!(open(b"secret"), Err(Error::WrongPassword { .. })));
    open(b"other").unwrap().change_password(b"third", "h".into(), "u".into(), KdfCost::TEST).unwrap();
    assert!(open(b"other").is_err() && open(b"third").is_ok());
    assert_eq!(store.names().iter().filter(|name| name.place() == Place::Keys).count(), 1);
}

#[test]
fn no_repository_and_two() {
    let store = MemoryStore::default();
    let none = Repository::open(Arc::new(store.clone()), Arc::new(SystemRuntime), b"secret", None);
    assert!(matches!(none, Err(Error::NoRepository { .. })));
    init(&store);
    let options = InitOptions {
        password: b"x",
        host: String::new(),
        user: String::new(),
        kdf_cost: KdfCost::TEST,
        parameters: Parameters::default(),
    };
    let before = store.names();
    let again = Repository::init(Arc::new(store.clone()), Arc::new(SystemRuntime), &options);
    assert!(matches!(again, Err(Error::RepositoryExists { .. })));
    assert_eq!(store.names(), before);
}

/// Makes an object that this program wrote into one of a later version, as far as this program can tell.
fn of_a_later_version(store: &MemoryStore, name: &ObjectName) {
    let mut bytes = Vec::new();
    store.get(name, ByteRange::WholeUpTo { limit_bytes: 1 << 20 }, &mut bytes).unwrap();
    bytes[8] = 2;
    store.delete(name).unwrap();
    store.put(&ObjectName::new(name.place(), repo_core::pack::builder::object_id(&bytes)), &bytes).unwrap();
}

/// A seal that cannot be read may name any body: none is called tentative, nothing is called damaged.
#[test]
fn a_seal_of_a_later_version_is_told_of() {
    let store = MemoryStore::default();
    let repository = init(&store);
    session(&repository).commit(&"body".to_string(), &mut no_rescue).unwrap();
    let seals = repository.list(Place::Snapshots).unwrap();
    let seal = seals.iter().find(|info| info.size_bytes == repo_core::envelope::object::SEAL_BYTES).unwrap();
    of_a_later_version(&store, &seal.name);
    let listing = Listing::read(&repository).unwrap();
    assert!(listing.snapshots.is_empty() && listing.tentative.is_empty() && listing.damaged.is_empty());
    assert!(matches!(listing.newer.as_slice(), [Error::NewerFormat { found: 2, .. }]), "{:?}", listing.newer);
}

/// What a later version stored in a pack is not damage; a copy of ours is taken where there is one.
#[test]
fn a_pack_of_a_later_version_is_told_of_when_it_is_needed() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let writing = session(&repository);
    let (ids, _) = write(&writing, &[(BlobKind::Data, b"one".to_vec())]);
    writing.commit(&"body".to_string(), &mut no_rescue).unwrap();
    let pack = repository.list(Place::Data).unwrap().into_iter().next().unwrap();
    let (id, size_bytes) = (pack.name.id().into(), pack.size_bytes);
    let read = read_directory(repository.store(), repository.keys(), id, size_bytes).unwrap();
    for info in repository.list(Place::Index).unwrap() {
        store.delete(&info.name).unwrap();
    }
    let mut builder = IndexBuilder::default();
    let key = PackKey { version: 2, ..read.key };
    builder.add_pack(id, key, size_bytes.try_into().unwrap(), read.kind, &read.directory);
    let run = builder.finish(repository.keys(), repository.runtime()).unwrap();
    store.put(&ObjectName::new(Place::Index, run.id), &run.bytes).unwrap();
    let error = reader(&repository).read_blob(BlobKind::Data, &ids[0], &mut Vec::new()).unwrap_err();
    assert!(
        matches!(&error, Error::NewerFormat { object, found: 2, .. } if *object == pack.name.to_string()),
        "{error}"
    );
    assert!(error.is_newer() && !error.is_damage());
}

/// A slot of a later version may be the one for the password: it is not called wrong.
#[test]
fn a_key_slot_of_a_later_version_is_told_of() {
    let store = MemoryStore::default();
    init(&store);
    let open = |password: &[u8]| Repository::open(Arc::new(store.clone()), Arc::new(SystemRuntime), password, None);
    let mut bytes = b"COFFER\r\n\x02\x00\x02".to_vec();
    bytes.resize(400, 1);
    store.put(&ObjectName::new(Place::Keys, repo_core::pack::builder::object_id(&bytes)), &bytes).unwrap();
    assert!(matches!(open(b"other"), Err(Error::NewerFormat { found: 2, .. })));
    assert!(open(b"secret").is_ok());
}
