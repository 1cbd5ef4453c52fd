//! One rich value of each stored structure. They must not change: golden bytes depend on them.

use std::collections::BTreeMap;

use repo_core::{
    chunker::ChunkerParameters,
    id::{BlobId, PackId, RepositoryId, SnapshotId},
    repository::{
        config::{Config, Parameters},
        notes::{ExpireNote, Mark, Session},
        seal::Seal,
        store_report::{Answer, Extent, Finding, Question, Report},
    },
    snapshot::{Protection, Snapshot, Summary},
    time::Timestamp,
    tree::{
        name::{Bytes, Name},
        node::{Content, Device, Entry, Extension, HardLinks, Metadata, Mode, Node, NodeKind, Piece, Totals, Xattr},
    },
};

use super::{ascending, noise, noise_32};

pub fn time(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp::new(seconds, nanoseconds).unwrap()
}

pub fn bytes<const MAX: usize>(value: &[u8]) -> Bytes<MAX> {
    Bytes::new(value).unwrap()
}

pub fn xattr(name: &[u8], value: &[u8]) -> Xattr {
    Xattr { name: bytes(name), value: bytes(value) }
}

pub fn totals() -> Totals {
    Totals { files: 250, directories: 251, bytes: 1 << 40 }
}

/// Nothing special.
pub fn plain_metadata() -> Metadata {
    Metadata {
        mode: Mode::from_bits(0o644),
        user: 0,
        group: 0,
        modified: time(0, 0),
        changed: time(0, 0),
        accessed: None,
        inode: 0,
        hard_links: None,
        xattrs: Vec::new(),
        extensions: Vec::new(),
    }
}

/// Everything special.
pub fn rich_metadata() -> Metadata {
    Metadata {
        mode: Mode::from_bits(0o7777),
        user: 1000,
        group: u32::MAX,
        modified: time(1_700_000_000, 999_999_999),
        changed: time(-1, 500_000_000),
        accessed: Some(time(i64::MIN, 1)),
        inode: u64::MAX,
        hard_links: Some(HardLinks { device: 64_768, count: 2 }),
        xattrs: vec![xattr(b"security.capability", &[1, 0, 0, 2]), xattr(b"user.colour", b"green")],
        extensions: vec![Extension { tag: 300, value: bytes(b"later") }],
    }
}

pub fn entry(name: &[u8], kind: NodeKind, metadata: Metadata) -> Entry {
    Entry { name: Name::new(name).unwrap(), node: Node { kind, metadata } }
}

/// One entry of each kind and each form of content, names ascending.
pub fn entries() -> Vec<Entry> {
    let file = |size_bytes, content| NodeKind::File { size_bytes, content };
    let pieces = vec![
        Piece::Data { blob: BlobId(ascending(0x40)), length_bytes: 65_535 },
        Piece::Hole { length_bytes: 1 << 32 },
        Piece::Data { blob: BlobId(ascending(0x60)), length_bytes: 1 },
    ];
    let device = Device { major: 259, minor: 1_048_575 };
    vec![
        entry(b"\x01", file(0, Content::Empty), plain_metadata()),
        entry(b"blob", file(7, Content::Blob(BlobId(ascending(0x80)))), rich_metadata()),
        entry(b"block", NodeKind::BlockDevice { device }, plain_metadata()),
        entry(b"character", NodeKind::CharacterDevice { device: Device { major: 1, minor: 3 } }, plain_metadata()),
        entry(b"directory", NodeKind::Directory { tree: BlobId(ascending(0xa0)), totals: totals() }, plain_metadata()),
        entry(b"fifo", NodeKind::Fifo, plain_metadata()),
        entry(b"list", file(u64::MAX >> 1, Content::List(BlobId(ascending(0xc0)))), plain_metadata()),
        entry(b"not \xff UTF-8", file((1 << 32) + 65_536, Content::Pieces(pieces)), plain_metadata()),
        entry(b"socket", NodeKind::Socket, plain_metadata()),
        entry("symlink é".as_bytes(), NodeKind::Symlink { target: bytes(b"../\xfe") }, plain_metadata()),
    ]
}

pub fn snapshot() -> Snapshot {
    Snapshot {
        time: time(1_795_219_200, 0),
        utc_offset_seconds: -12_600,
        host: "h".into(),
        user: "ü".into(),
        user_number: 1000,
        group_number: 100,
        source: vec!["/a".into(), "b".into()],
        label: Some("l".into()),
        paths: vec!["/a".into(), "/w/b".into()],
        tags: vec!["x".into(), "y".into()],
        excludes: vec!["*.o".into()],
        tree: BlobId(noise_32(1)),
        totals: totals(),
        root: Some(rich_metadata()),
        parent: Some(SnapshotId(noise_32(2))),
        original: Some(SnapshotId(noise_32(3))),
        program: "coffer 0.1.0".into(),
        users: BTreeMap::from([(0, "root".into()), (1000, "u".into())]),
        groups: BTreeMap::from([(100, "g".into())]),
        protection: Protection::Until(time(1_900_000_000, 0)),
        summary: Summary {
            started: time(1_795_219_200, 1),
            ended: time(1_795_219_260, 2),
            files_new: 1,
            files_changed: 2,
            files_unmodified: 300,
            directories_new: 4,
            directories_changed: 5,
            directories_unmodified: 6,
            bytes_read: 1 << 33,
            data_blobs: 70_000,
            tree_blobs: 9,
            bytes_added: 10,
            bytes_added_packed: 11,
            problems: 12,
        },
        extensions: vec![Extension { tag: 0, value: bytes(b"") }, Extension { tag: 2, value: bytes(b"x") }],
    }
}

pub fn config() -> Config {
    let chunker = ChunkerParameters { min_bytes: 32_768, average_bytes: 131_072, max_bytes: 524_288, normalization: 2 };
    let parameters = Parameters { chunker, data_frame_bytes: 1 << 20, tree_frame_bytes: 1 << 18, pack_bytes: 32 << 20 };
    Config::new(RepositoryId(ascending(0x20)), time(1_795_219_200, 123_456_789), parameters)
}

pub fn seal() -> Seal {
    Seal::new(vec![SnapshotId(noise_32(4)), SnapshotId(noise_32(5))])
}

/// A body of 320 stored bytes, and the seal that has it.
pub fn seal_with_copy() -> Seal {
    let body = noise(10, 320);
    Seal::with_copy(SnapshotId::from(repo_core::pack::builder::object_id(&body)), &body)
}

pub fn session() -> Session {
    Session {
        operation: "backup".into(),
        host: "h".into(),
        user: "u".into(),
        process: 4_194_304,
        started: time(1_795_219_200, 5),
    }
}

pub fn mark() -> Mark {
    Mark { packs: vec![PackId(noise_32(6)), PackId(noise_32(7))], created: time(1_795_219_200, 6) }
}

pub fn store_report() -> Report {
    let finding = |question, answer, detail: &str| Finding { question, answer, detail: detail.into() };
    Report {
        program: "coffer 1".into(),
        location: "/srv/backup".into(),
        made: time(1_795_219_300, 8),
        extent: Extent::Long,
        clock_ahead_seconds: Some(-7),
        findings: vec![
            finding(Question::Visibility, Answer::Kept, "there"),
            finding(Question::Rights, Answer::Broken, "no"),
        ],
    }
}

pub fn expire_note() -> ExpireNote {
    ExpireNote { body: SnapshotId(noise_32(8)), created: time(1_795_219_200, 7) }
}
