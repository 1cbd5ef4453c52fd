//! Repositories written by earlier versions, which every later version must read.
//!
//! `tests/golden/repository-vN` was written once by version N of the format and is never written again; beside it lies
//! `repository-vN.txt`, all that is in it. To add one for a new version, change [`write_repository`] to what is new, and
//! run it:
//!
//! ```text
//! cargo test -p repo-core --test golden_repository -- --ignored write
//! ```
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod golden;

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use golden::{
    Foreseen,
    listing::listing,
    noise,
    values::{bytes, entry, plain_metadata, rich_metadata, time, xattr},
};
use repo_core::{
    blob::{BlobKind, WriteBlobs},
    compress::Level,
    crypto::{kdf::KdfCost, keys::ObjectKind},
    id::{BlobId, PackId},
    index::set::IndexSet,
    repository::{
        InitOptions, Repository,
        config::Parameters,
        notes::{ExpireNote, Mark},
        seal::Seal,
        session::{Session, SessionOptions},
    },
    runtime::SystemRuntime,
    snapshot::{Listing, Protection, Snapshot},
    store::{ObjectName, Place, memory::MemoryStore},
    tree::{
        content::ContentWriter,
        directory::DirectoryWriter,
        node::{Content, Device, HardLinks, Metadata, NodeKind, Piece, Totals},
    },
};

/// The versions that are tested, each with its passwords.
const VERSIONS: [(u32, &[&str]); 1] = [(1, &["golden", "pässword"])];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A repository on disk, in memory: whatever the test does, the files stay as they are.
fn load(version: u32) -> MemoryStore {
    let store = MemoryStore::new();
    let root = directory().join(format!("repository-v{version}"));
    store.replace(&ObjectName::CONFIG, fs::read(root.join("config")).unwrap());
    for place in Place::HASHED {
        let mut pending = vec![root.join(place.name())];
        while let Some(path) = pending.pop() {
            for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                    continue;
                }
                let id: PackId = entry.file_name().to_str().unwrap().parse().unwrap();
                let bytes = fs::read(entry.path()).unwrap();
                assert_eq!(golden::sha256(&bytes), id.to_string(), "every name is the hash of the bytes");
                store.replace(&ObjectName::new(place, id), bytes);
            }
        }
    }
    store
}

#[test]
fn every_version_is_read_completely() {
    for (version, passwords) in VERSIONS {
        let store = load(version);
        let expected = fs::read_to_string(directory().join(format!("repository-v{version}.txt"))).unwrap();
        for password in passwords {
            let (store, runtime) = (Arc::new(store.clone()), Arc::new(SystemRuntime));
            let repository = Repository::open(store, runtime, password.as_bytes(), None).unwrap();
            let found = listing(&Arc::new(repository));
            for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
                assert_eq!(found, expected, "version {version}, line {}", number + 1);
            }
            assert_eq!(found, expected, "version {version}");
        }
    }
}

/// A later version can also write to it.
#[test]
fn every_version_is_written_to() {
    for (version, passwords) in VERSIONS {
        let store = load(version);
        let repository = Arc::new(
            Repository::open(Arc::new(store), Arc::new(SystemRuntime), passwords[0].as_bytes(), None).unwrap(),
        );
        let before = Listing::read(&repository).unwrap();
        assert!(before.damaged.is_empty());
        let (_, old) = before.snapshots.last().unwrap();
        let session = session(&repository);
        assert!(session.need(BlobKind::Tree, &old.tree));
        let body = Snapshot { tags: vec!["again".into()], ..old.clone() };
        let id = session.commit(&body, &mut no_rescue).unwrap();
        let after = Listing::read(&repository).unwrap();
        assert_eq!(after.snapshots.len(), before.snapshots.len() + 1);
        assert!(after.snapshots.iter().any(|(listed, snapshot)| *listed == id && *snapshot == body));
    }
}

#[test]
fn no_version_is_left_out() {
    let there: BTreeSet<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("repository-v"))
        .collect();
    let tested = VERSIONS
        .iter()
        .flat_map(|(version, _)| [format!("repository-v{version}"), format!("repository-v{version}.txt")])
        .collect();
    assert_eq!(there, tested);
}

fn no_rescue(_: &Session, _: &BTreeSet<PackId>) -> repo_core::error::Result<()> {
    panic!("nothing of what is needed is condemned")
}

fn session(repository: &Arc<Repository>) -> Session {
    let index = Arc::new(IndexSet::load(repository.store(), repository.keys(), None).unwrap());
    let options = SessionOptions { level: Level::AUTO, dry_run: false, note: None };
    Session::open(Arc::clone(repository), index, options).unwrap()
}

/// Writes the repository of this version, with everything in it that the format knows.
#[test]
#[ignore = "writes a new golden repository; the old ones must stay as they are"]
fn write_repository() {
    let (version, passwords) = VERSIONS[VERSIONS.len() - 1];
    let root = directory().join(format!("repository-v{version}"));
    assert!(!root.exists(), "{} is there already", root.display());
    let store = MemoryStore::new();
    let options = InitOptions {
        password: passwords[0].as_bytes(),
        host: "golden-host".into(),
        user: "golden-user".into(),
        kdf_cost: KdfCost::TEST,
        parameters: Parameters::tiny(),
    };
    let repository =
        Arc::new(Repository::init(Arc::new(store.clone()), Arc::new(Foreseen::default()), &options).unwrap());
    repository.add_key(passwords[1].as_bytes(), "höst".into(), String::new(), KdfCost::TEST).unwrap();

    let first = first_snapshot(&repository);
    let second = second_snapshot(&repository, &first);
    // Two bodies with one seal, and a body without one.
    let save_body = |body: &Snapshot| repository.save(Place::Snapshots, ObjectKind::Snapshot, body).unwrap().into();
    let times = [300, 301, 302].map(|seconds| Snapshot { time: time(seconds, 0), ..second.clone() });
    let [a, b, tentative] = times.map(|body| save_body(&body));
    repository.save(Place::Snapshots, ObjectKind::Seal, &Seal::new(vec![a, b])).unwrap();
    repository.save(Place::Locks, ObjectKind::Session, &golden::values::session()).unwrap();
    repository.save(Place::Locks, ObjectKind::Mark, &golden::values::mark()).unwrap();
    let note = ExpireNote { body: tentative, created: repository.runtime().now() };
    repository.save(Place::Locks, ObjectKind::ExpireNote, &note).unwrap();
    let empty = Mark { packs: Vec::new(), created: time(-1, 1) };
    repository.save(Place::Locks, ObjectKind::Mark, &empty).unwrap();

    for name in store.names() {
        let path = root.join(name.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, store.bytes_of(&name).unwrap()).unwrap();
    }
    fs::write(root.with_extension("txt"), listing(&repository)).unwrap();
}

/// One entry of each kind, each form of content, a long directory and a long file.
fn first_snapshot(repository: &Arc<Repository>) -> Snapshot {
    let session = session(repository);
    let mut frame = session.frame_writer(BlobKind::Data);
    let mut data = |plain: &[u8]| {
        let id = repository.keys().blob_id(BlobKind::Data, plain);
        if session.claim(BlobKind::Data, &id) {
            frame.add(id, plain).unwrap();
        }
        id
    };
    let file = |content: ContentWriter| {
        let (content, size_bytes) = content.finish(&session).unwrap();
        NodeKind::File { size_bytes, content }
    };
    let mut one = |plain: &[u8]| {
        let mut content = ContentWriter::default();
        content.push(piece(data(plain), plain), &session).unwrap();
        file(content)
    };

    let greeting = one(b"hello, world\n");
    let noisy = one(&noise(1, 900));
    let compressible = one(&b"again and ".repeat(80));
    let shared = plain_metadata();
    let link = Metadata {
        inode: 77,
        hard_links: Some(HardLinks { device: 64_768, count: 3 }),
        mode: repo_core::tree::node::Mode::from_bits(0o4755),
        ..shared.clone()
    };
    let null = NodeKind::CharacterDevice { device: Device { major: 1, minor: 3 } };
    let disk = NodeKind::BlockDevice { device: Device { major: 259, minor: 1_048_575 } };
    let link_to = |target: &[u8]| NodeKind::Symlink { target: bytes(target) };

    let mut holes = ContentWriter::default();
    for part in [hole(4096), piece(data(b"island"), b"island"), hole(1), piece(data(b"cape"), b"cape"), hole(70_000)] {
        holes.push(part, &session).unwrap();
    }
    let holes = file(holes);
    let mut all_hole = ContentWriter::default();
    all_hole.push(hole(1 << 20), &session).unwrap();
    let all_hole = file(all_hole);
    let long = long_file(&session, &mut data);

    let mut directory = DirectoryWriter::default();
    let mut add = |name: &[u8], kind: NodeKind, metadata: &Metadata| {
        directory.push(&entry(name, kind, metadata.clone()), &session).unwrap();
    };
    let (empty_tree, empty_totals) = DirectoryWriter::default().finish(&session).unwrap();
    let (long_tree, long_totals) = long_directory(&session);
    let empty = NodeKind::File { size_bytes: 0, content: Content::Empty };
    add(b"\x01 control\n", empty.clone(), &shared);
    add(b"all-hole", all_hole, &shared);
    add(b"compressible", compressible, &shared);
    add(b"disk", disk, &shared);
    add(b"empty", empty, &rich_metadata());
    add(b"empty-directory", NodeKind::Directory { tree: empty_tree, totals: empty_totals }, &shared);
    add(b"fifo", NodeKind::Fifo, &shared);
    add(b"greeting", greeting.clone(), &link);
    add(b"greeting-too", greeting, &link);
    add(b"holes", holes, &shared);
    add(b"long", long, &shared);
    add(b"long-directory", NodeKind::Directory { tree: long_tree, totals: long_totals }, &shared);
    add(b"noise", noisy, &shared);
    add(b"not \xff\xfe UTF-8 \\", link_to(b"\xff/../\xfe"), &shared);
    add(b"null", null, &shared);
    add(b"socket", NodeKind::Socket, &shared);
    add(&[b'x'; 255], link_to(b"/nowhere"), &shared);
    add("żółw".as_bytes(), link_to("жук".as_bytes()), &shared);
    let (tree, totals) = directory.finish(&session).unwrap();
    frame.flush().unwrap();
    drop(frame);
    commit(session, Snapshot { time: time(100, 0), tree, totals, ..golden::values::snapshot() })
}

/// A small one, with most options not there.
fn second_snapshot(repository: &Arc<Repository>, first: &Snapshot) -> Snapshot {
    let session = session(repository);
    let plain = b"hello, world\n";
    let mut content = ContentWriter::default();
    let (blob, is_new) = session.write_blob(BlobKind::Data, plain).unwrap();
    assert!(!is_new, "the first snapshot has it already");
    content.push(piece(blob, plain), &session).unwrap();
    let (content, size_bytes) = content.finish(&session).unwrap();
    let mut directory = DirectoryWriter::default();
    let greeting = NodeKind::File { size_bytes, content };
    directory.push(&entry(b"greeting", greeting, rich_metadata()), &session).unwrap();
    let (tree, totals) = directory.finish(&session).unwrap();
    commit(
        session,
        Snapshot {
            time: time(200, 999_999_999),
            utc_offset_seconds: 3600,
            label: None,
            tags: Vec::new(),
            excludes: Vec::new(),
            tree,
            totals,
            root: None,
            parent: None,
            original: None,
            users: [].into(),
            groups: [].into(),
            protection: Protection::Forever,
            ..first.clone()
        },
    )
}

fn commit(session: Session, body: Snapshot) -> Snapshot {
    session.commit(&body, &mut no_rescue).unwrap();
    body
}

fn hole(length_bytes: u64) -> Piece {
    Piece::Hole { length_bytes }
}

fn piece(blob: BlobId, plain: &[u8]) -> Piece {
    Piece::Data { blob, length_bytes: plain.len().try_into().unwrap() }
}

/// A file with a piece list of several pages: the same few blobs over and over, some of which end a page.
fn long_file(session: &Session, data: &mut impl FnMut(&[u8]) -> BlobId) -> NodeKind {
    let keys = session.repository().keys();
    let ends_page = |plain: &[u8]| keys.blob_id(BlobKind::Data, plain).0[0] == 0;
    let border = (0..10_000).map(|i| format!("border {i}")).find(|text| ends_page(text.as_bytes())).unwrap();
    let mut content = ContentWriter::default();
    for i in 0..1500 {
        let plain = if i % 600 == 599 { border.clone() } else { format!("piece {}", i % 7) };
        content.push(piece(data(plain.as_bytes()), plain.as_bytes()), session).unwrap();
        if i % 100 == 50 {
            content.push(hole(i), session).unwrap();
        }
    }
    let (content, size_bytes) = content.finish(session).unwrap();
    assert!(matches!(content, Content::List(_)));
    NodeKind::File { size_bytes, content }
}

/// A directory of several pages.
fn long_directory(session: &Session) -> (BlobId, Totals) {
    let metadata = Metadata { xattrs: vec![xattr(b"user.padding", &[b'.'; 400])], ..plain_metadata() };
    let ends_page = |name: &String| blake3::hash(name.as_bytes()).as_bytes()[0] == 0;
    let names: Vec<String> = (0..5000).map(|i| format!("{i:04}")).collect();
    let mut chosen: Vec<&String> = names.iter().skip(2500).filter(|name| ends_page(name)).take(3).collect();
    chosen.extend(names.iter().step_by(50));
    chosen.sort();
    chosen.dedup();
    let mut directory = DirectoryWriter::default();
    for name in chosen {
        let kind = NodeKind::File { size_bytes: 0, content: Content::Empty };
        directory.push(&entry(name.as_bytes(), kind, metadata.clone()), session).unwrap();
    }
    directory.finish(session).unwrap()
}
