//! A small repository with every kind of object in it, made by hand so that anything can be put into it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "each test uses a part of it; helpers of tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use repo_core::{
    blob::{BlobKind, WriteBlobs},
    check::{CheckOptions, CheckReport, ReadData, check},
    compress::Level,
    crypto::{kdf::KdfCost, keys::ObjectKind, recorder},
    error::Result,
    id::{BlobId, PackId, SnapshotId},
    index::set::IndexSet,
    progress::{Cancel, Silent},
    repository::{
        InitOptions, Repository,
        config::Parameters,
        notes,
        reader::BlobReader,
        session::{Session, SessionOptions},
    },
    runtime::SystemRuntime,
    snapshot::{Protection, Snapshot, Summary},
    store::{Place, memory::MemoryStore},
    time::Timestamp,
    tree::{
        content::ContentWriter,
        directory::DirectoryWriter,
        name::Name,
        node::{Content, Entry, Metadata, Mode, Node, NodeKind, Piece, Totals},
    },
};

pub(crate) fn init(store: &MemoryStore) -> Arc<Repository> {
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

pub(crate) fn open(store: &MemoryStore) -> Arc<Repository> {
    Arc::new(Repository::open(Arc::new(store.clone()), Arc::new(SystemRuntime), b"secret", None).unwrap())
}

pub(crate) fn index(repository: &Arc<Repository>) -> Arc<IndexSet> {
    Arc::new(IndexSet::load(repository.store(), repository.keys(), None).unwrap())
}

pub(crate) fn session(repository: &Arc<Repository>) -> Session {
    let options = SessionOptions { level: Level::AUTO, dry_run: false, note: None };
    Session::open(Arc::clone(repository), index(repository), options).unwrap()
}

pub(crate) fn reader(repository: &Arc<Repository>) -> BlobReader {
    BlobReader::new(Arc::clone(repository), index(repository), 1 << 20)
}

pub(crate) fn no_rescue(_: &Session, _: &BTreeSet<PackId>) -> Result<()> {
    panic!("nothing is condemned")
}

/// Checks everything with one thread.
pub(crate) fn check_all(repository: &Arc<Repository>) -> CheckReport {
    check_with(repository, ReadData::All)
}

pub(crate) fn check_with(repository: &Arc<Repository>, read_data: ReadData) -> CheckReport {
    check(repository, CheckOptions { read_data, threads: 1 }, &Silent, &Cancel::default()).unwrap()
}

pub(crate) fn metadata() -> Metadata {
    Metadata {
        mode: Mode::from_bits(0o644),
        user: 1000,
        group: 100,
        modified: Timestamp::new(1_700_000_000, 123_456_789).unwrap(),
        changed: Timestamp::from_seconds(1_700_000_001),
        accessed: None,
        inode: 7,
        hard_links: None,
        xattrs: Vec::new(),
        extensions: Vec::new(),
    }
}

pub(crate) fn entry(name: &str, kind: NodeKind) -> Entry {
    Entry { name: Name::new(name.as_bytes()).unwrap(), node: Node { kind, metadata: metadata() } }
}

/// Bytes that do not compress, different for each seed.
pub(crate) fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_derive_key("noise").update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn snapshot(tree: BlobId, totals: Totals, time: i64) -> Snapshot {
    Snapshot {
        time: Timestamp::from_seconds(time),
        utc_offset_seconds: 0,
        host: "host".into(),
        user: "user".into(),
        user_number: 0,
        group_number: 0,
        source: vec!["/x".into()],
        label: None,
        paths: vec!["/x".into()],
        tags: Vec::new(),
        excludes: Vec::new(),
        tree,
        totals,
        root: None,
        parent: None,
        original: None,
        program: "test".into(),
        users: BTreeMap::new(),
        groups: BTreeMap::new(),
        protection: Protection::None,
        summary: Summary::default(),
        extensions: Vec::new(),
    }
}

/// Writes trees through a session and remembers every blob.
pub(crate) struct Writer {
    pub(crate) session: Session,
    pub(crate) written: Mutex<BTreeMap<(bool, BlobId), Vec<u8>>>,
}

impl WriteBlobs for Writer {
    fn write_blob(&self, kind: BlobKind, plain: &[u8]) -> Result<(BlobId, bool)> {
        let (id, new) = self.session.write_blob(kind, plain)?;
        self.written.lock().unwrap().insert((kind == BlobKind::Tree, id), plain.to_vec());
        Ok((id, new))
    }
}

impl Writer {
    pub(crate) fn new(repository: &Arc<Repository>) -> Self {
        Self { session: session(repository), written: Mutex::default() }
    }

    /// A file of these bytes, cut every `piece_bytes`, and a hole behind them.
    pub(crate) fn file(&self, name: &str, bytes: &[u8], piece_bytes: usize, hole_bytes: u64) -> Entry {
        let mut content = ContentWriter::default();
        for piece in bytes.chunks(piece_bytes) {
            let (blob, _) = self.write_blob(BlobKind::Data, piece).unwrap();
            content.push(Piece::Data { blob, length_bytes: piece.len() as u32 }, self).unwrap();
        }
        if hole_bytes > 0 {
            content.push(Piece::Hole { length_bytes: hole_bytes }, self).unwrap();
        }
        let (content, size_bytes) = content.finish(self).unwrap();
        entry(name, NodeKind::File { size_bytes, content })
    }

    pub(crate) fn directory(&self, entries: &[Entry]) -> (BlobId, Totals) {
        let mut writer = DirectoryWriter::default();
        for entry in entries {
            writer.push(entry, self).unwrap();
        }
        writer.finish(self).unwrap()
    }

    pub(crate) fn directory_entry(&self, name: &str, entries: &[Entry]) -> Entry {
        let (tree, totals) = self.directory(entries);
        entry(name, NodeKind::Directory { tree, totals })
    }

    pub(crate) fn commit(self, entries: &[Entry], time: i64) -> SnapshotId {
        let (tree, totals) = self.directory(entries);
        self.session.commit(&snapshot(tree, totals, time), &mut no_rescue).unwrap()
    }

    pub(crate) fn commit_tree(self, tree: BlobId, totals: Totals) -> SnapshotId {
        self.session.commit(&snapshot(tree, totals, 1), &mut no_rescue).unwrap()
    }
}

/// What is in the small repository.
pub(crate) struct Small {
    pub(crate) store: MemoryStore,
    pub(crate) repository: Arc<Repository>,
    pub(crate) snapshots: Vec<SnapshotId>,
    /// Every blob of the snapshots, by whether it is a tree blob and its id.
    pub(crate) blobs: BTreeMap<(bool, BlobId), Vec<u8>>,
    pub(crate) tentative: SnapshotId,
}

/// Two snapshots, a tentative one, two keys, a session, a mark and an expire note.
pub(crate) fn small() -> Small {
    let store = MemoryStore::default();
    let repository = init(&store);
    repository.add_key(b"other", "h".into(), "u".into(), KdfCost::TEST).unwrap();
    let mut blobs = BTreeMap::new();
    let mut snapshots = Vec::new();

    let writer = Writer::new(&repository);
    let first = [
        writer.file("a", b"small file", 1000, 0),
        writer.file("b", &noise("b", 2_000), 500, 5_000),
        writer.directory_entry("c", &[writer.file("long", &noise("long", 900), 50, 0)]),
        entry("d", NodeKind::File { size_bytes: 0, content: Content::Empty }),
    ];
    blobs.append(&mut writer.written.lock().unwrap());
    let (tree, totals) = writer.directory(&first);
    blobs.append(&mut writer.written.lock().unwrap());
    snapshots.push(writer.commit_tree(tree, totals));

    let writer = Writer::new(&repository);
    let mut second = first.to_vec();
    second.push(writer.file("e", &noise("e", 1_500), 600, 0));
    let (tree, totals) = writer.directory(&second);
    blobs.append(&mut writer.written.lock().unwrap());
    snapshots.push(writer.commit_tree(tree, totals));

    let body = snapshot(tree, totals, 3);
    let tentative = repository.save(Place::Snapshots, ObjectKind::Snapshot, &body).unwrap().into();
    let created = repository.runtime().now();
    let note =
        notes::Session { operation: "backup".into(), host: "h".into(), user: "u".into(), process: 1, started: created };
    let place = Place::Locks;
    repository.save(place, ObjectKind::Session, &note).unwrap();
    repository.save(place, ObjectKind::Mark, &notes::Mark { packs: vec![PackId([9; 32])], created }).unwrap();
    repository.save(place, ObjectKind::ExpireNote, &notes::ExpireNote { body: SnapshotId([8; 32]), created }).unwrap();
    Small { store, repository, snapshots, blobs, tentative }
}
