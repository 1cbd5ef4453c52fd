//! The encoding of values, section 2 of `docs/format.md`: literal bytes, and what two other implementations of the same
//! encoding say.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod golden;

use std::collections::BTreeMap;

use bincode1::Options as _;
use golden::{hex, values};
use proptest::prelude::*;
use repo_core::{
    blob::Compression,
    codec::{self, decode, encode},
    id::{BlobId, PackId},
    index::{
        run::{RunDirectory, RunPage},
        table::Counts,
    },
    pack::directory::{PackBlob, PackDirectory, PackFrame},
    snapshot::{Protection, Snapshot},
    tree::{
        EntryPage, PiecePage, TreeBlob,
        name::{Bytes, Name},
        node::{Content, Device, Entry, Extension, HardLinks, Metadata, Mode, Node, NodeKind, Piece, Totals, Xattr},
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// Encodes a value, and has the others encode and decode it, too.
fn agreed<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> Vec<u8> {
    let bytes = encode(value);
    assert_eq!(&decode::<T>(&bytes).unwrap(), value);

    let old = bincode1::DefaultOptions::new();
    assert_eq!(old.serialize(value).unwrap(), bytes, "bincode 1");
    assert_eq!(&old.deserialize::<T>(&bytes).unwrap(), value, "bincode 1");

    let next = bincode_next::config::standard();
    assert_eq!(bincode_next::serde::encode_to_vec(value, next).unwrap(), bytes, "bincode-next");
    let (decoded, length): (T, usize) = bincode_next::serde::decode_from_slice(&bytes, next).unwrap();
    assert_eq!((&decoded, length), (value, bytes.len()), "bincode-next");
    bytes
}

#[track_caller]
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, expected: &str) {
    assert_eq!(hex(&agreed(value)), expected, "{value:?}");
}

/// The examples of the document and the ends of every form.
#[test]
fn numbers_and_texts() {
    for (number, expected) in [
        (0_u64, "00"),
        (250, "fa"),
        (251, "fbfb00"),
        (65_535, "fbffff"),
        (65_536, "fc00000100"),
        (u64::from(u32::MAX), "fcffffffff"),
        (1 << 32, "fd0000000001000000"),
        (u64::MAX, "fdffffffffffffffff"),
    ] {
        check(&number, expected);
        if let Ok(number) = u32::try_from(number) {
            check(&number, expected);
        }
    }
    for (number, expected) in [
        (0_i64, "00"),
        (-1, "01"),
        (1, "02"),
        (125, "fa"),
        (-126, "fbfb00"),
        (i64::MAX, "fdfeffffffffffffff"),
        (i64::MIN, "fdffffffffffffffff"),
    ] {
        check(&number, expected);
        if let Ok(number) = i32::try_from(number) {
            check(&number, expected);
        }
    }
    check(&i32::MIN, "fcffffffff");
    check(&255_u8, "ff");
    check(&"hé".to_string(), "0368c3a9");
    check(&vec![1_u32, 300], "0201fb2c01");
    check(&Some(7_u8), "0107");
    check(&None::<u8>, "00");
    check(&BTreeMap::from([(300_u32, "b".to_string()), (1, "a".to_string())]), "02010161fb2c010162");
    check(&values::time(-1, 500_000_000), "01fc0065cd1d");
    check(&PackId([0xab; 32]), &"ab".repeat(32));
    check(&Mode::from_bits(0o7777), "fbff0f");
    check(&Name::new(*b"n\xff").unwrap(), "026eff");
}

#[test]
fn only_one_encoding_is_taken() {
    for longer in ["fb0100", "fbfa00", "fcffff0000", "fdffffffff00000000"] {
        assert!(decode::<u64>(&unhex(longer)).is_err(), "{longer}");
    }
    assert!(decode::<u32>(&unhex("fd0000000001000000")).is_err(), "too large for its type");
    assert!(decode::<u64>(&unhex("fe00000000000000000000000000000000")).is_err(), "a form for 128 bits");
    assert!(decode::<Option<u8>>(&unhex("0200")).is_err(), "no such option");
    assert!(decode::<Piece>(&unhex("0200")).is_err(), "no such variant");
    assert!(decode::<u8>(&unhex("0000")).is_err(), "bytes behind it");
    assert!(decode::<String>(&unhex("02c328")).is_err(), "not UTF-8");
    assert!(decode::<String>(&unhex("fdffffffffffffff7f")).is_err(), "a length beyond everything");
    for map in ["0202000100", "0201000100"] {
        assert!(decode::<BTreeMap<u32, String>>(&unhex(map)).is_err(), "keys that do not ascend: {map}");
    }
    assert!(decode::<repo_core::time::Timestamp>(&unhex("00fc00ca9a3b")).is_err(), "a second has no such nanosecond");
    assert!(decode::<Mode>(&unhex("fb0010")).is_err(), "no such mode");
    let plain = hex(&encode(&values::plain_metadata()));
    let extensions = |text: &str| decode::<Metadata>(&unhex(&format!("{}{text}", &plain[..plain.len() - 2])));
    assert!(extensions("0200000200").is_ok(), "tags that ascend");
    assert!(extensions("0202000000").is_err(), "tags that descend");
    assert!(extensions("0202000200").is_err(), "a tag that comes twice");
    let many = |count: u8| (0..count).map(|tag| format!("{tag:02x}00")).collect::<Vec<_>>().concat();
    assert!(extensions(&format!("40{}", many(64))).is_ok(), "as many as there may be");
    assert!(extensions(&format!("41{}", many(65))).is_err(), "more than there may be");
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn entries() {
    let expected = EXPECTED_ENTRIES;
    let entries = values::entries();
    assert_eq!(entries.len(), expected.len());
    for (entry, expected) in entries.iter().zip(expected) {
        check(entry, expected);
    }
    let page = encode(&TreeBlob::Entries(entries.clone()));
    assert_eq!(hex(&page), format!("000a{}", expected.concat()));
    agreed(&TreeBlob::Entries(entries));
}

#[test]
fn pages() {
    let first = Name::new(*b"m").unwrap();
    let page = BlobId([0xee; 32]);
    let ee = "ee".repeat(32);
    check(&TreeBlob::Entries(Vec::new()), "0000");
    check(
        &TreeBlob::EntryPages(vec![EntryPage { first, page, totals: values::totals() }]),
        &format!("0101016d{ee}fafbfb00fd0000000000010000"),
    );
    check(
        &TreeBlob::Pieces(vec![Piece::Hole { length_bytes: 300 }, Piece::Data { blob: page, length_bytes: 70_000 }]),
        &format!("020201fb2c0100{ee}fc70110100"),
    );
    check(&TreeBlob::PiecePages(vec![PiecePage { length_bytes: 1, page }]), &format!("030101{ee}"));
}

#[test]
fn directories_of_packs_and_runs() {
    let blobs =
        vec![PackBlob { id: BlobId([1; 32]), length_bytes: 251 }, PackBlob { id: BlobId([2; 32]), length_bytes: 0 }];
    let zstd = PackFrame { stored_bytes: 100, plain_bytes: 251, compression: Compression::Zstd, blobs };
    let raw = PackFrame { stored_bytes: 16, plain_bytes: 0, compression: Compression::Raw, blobs: Vec::new() };
    check(
        &PackDirectory { frames: vec![zstd, raw] },
        &format!("0264fbfb000102{}fbfb00{}0010000000", "01".repeat(32), "02".repeat(32)),
    );
    let counts = Counts { data: 1, tree: 300, frames: 2, packs: 3 };
    let page = RunPage { stored_bytes: 65_552, compression: Compression::Raw, first: 0x0102_0304_0506_0708 };
    check(&RunDirectory { counts, pages: vec![page] }, "01fb2c01020301fc1000010000fd0807060504030201");
}

#[test]
fn objects() {
    check(&values::snapshot(), EXPECTED_SNAPSHOT);
    check(&values::config(), EXPECTED_CONFIG);
    check(&values::seal(), EXPECTED_SEAL);
    check(&values::session(), EXPECTED_SESSION);
    check(&values::mark(), EXPECTED_MARK);
    check(&values::expire_note(), EXPECTED_EXPIRE_NOTE);
    check(&values::store_report(), EXPECTED_STORE_REPORT);
    check(&Protection::None, "00");
    check(&Protection::Forever, "01");
}

fn time() -> impl Strategy<Value = repo_core::time::Timestamp> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| values::time(seconds, nanoseconds))
}

fn id() -> impl Strategy<Value = BlobId> {
    any::<[u8; 32]>().prop_map(BlobId)
}

/// Numbers of every length.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)
}

fn short<const MAX: usize>() -> impl Strategy<Value = Bytes<MAX>> {
    prop::collection::vec(any::<u8>(), 0..300.min(MAX)).prop_map(|bytes| Bytes::new(bytes).unwrap())
}

fn name() -> impl Strategy<Value = Name> {
    prop::collection::vec(any::<u8>(), 1..256).prop_filter_map("no name", |bytes| Name::new(bytes).ok())
}

fn totals() -> impl Strategy<Value = Totals> {
    (number(), number(), number()).prop_map(|(files, directories, bytes)| Totals { files, directories, bytes })
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        (id(), any::<u32>()).prop_map(|(blob, length_bytes)| Piece::Data { blob, length_bytes }),
        number().prop_map(|length_bytes| Piece::Hole { length_bytes }),
    ]
}

fn kind() -> impl Strategy<Value = NodeKind> {
    let content = prop_oneof![
        Just(Content::Empty),
        id().prop_map(Content::Blob),
        prop::collection::vec(piece(), 0..20).prop_map(Content::Pieces),
        id().prop_map(Content::List),
    ];
    let device = || (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Device { major, minor });
    prop_oneof![
        (number(), content).prop_map(|(size_bytes, content)| NodeKind::File { size_bytes, content }),
        (id(), totals()).prop_map(|(tree, totals)| NodeKind::Directory { tree, totals }),
        short().prop_map(|target| NodeKind::Symlink { target }),
        device().prop_map(|device| NodeKind::BlockDevice { device }),
        device().prop_map(|device| NodeKind::CharacterDevice { device }),
        Just(NodeKind::Fifo),
        Just(NodeKind::Socket),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let links = (number(), number()).prop_map(|(device, count)| HardLinks { device, count });
    let xattr = (short(), short()).prop_map(|(name, value)| Xattr { name, value });
    let times = (time(), time(), prop::option::of(time()));
    let numbers = (0..=0o7777_u32, any::<u32>(), any::<u32>(), number());
    let extensions = prop::collection::btree_map(any::<u32>(), short(), 0..4);
    (times, numbers, prop::option::of(links), prop::collection::vec(xattr, 0..4), extensions).prop_map(
        |((modified, changed, accessed), (mode, user, group, inode), hard_links, xattrs, extensions)| Metadata {
            mode: Mode::from_bits(mode),
            user,
            group,
            modified,
            changed,
            accessed,
            inode,
            hard_links,
            xattrs,
            extensions: extensions.into_iter().map(|(tag, value)| Extension { tag, value }).collect(),
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    (name(), kind(), metadata()).prop_map(|(name, kind, metadata)| Entry { name, node: Node { kind, metadata } })
}

proptest! {
    #[test]
    fn three_implementations_agree_on_entries(entries in prop::collection::vec(entry(), 0..5)) {
        agreed(&TreeBlob::Entries(entries));
    }

    #[test]
    fn three_implementations_agree_on_snapshots(
        texts in prop::collection::vec(".{0,20}", 6),
        lists in prop::collection::vec(prop::collection::vec(".{0,20}", 0..4), 4),
        users in prop::collection::btree_map(any::<u32>(), ".{0,9}", 0..4),
        times in (time(), any::<i32>()),
        tree in id(),
        root in prop::option::of(metadata()),
    ) {
        let snapshot = Snapshot {
            time: times.0,
            utc_offset_seconds: times.1,
            host: texts[0].clone(),
            user: texts[1].clone(),
            label: Some(texts[2].clone()),
            program: texts[3].clone(),
            source: lists[0].clone(),
            paths: lists[1].clone(),
            tags: lists[2].clone(),
            excludes: lists[3].clone(),
            groups: users.clone(),
            users,
            tree,
            root,
            ..values::snapshot()
        };
        agreed(&snapshot);
    }

    /// Whatever bytes are taken for a value are those it is encoded to.
    #[test]
    fn what_is_taken_is_canonical(
        entry in entry(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&entry);
        prop_assert!(decode::<Entry>(&bytes[..cut.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = decode::<Entry>(&bytes) {
            prop_assert_eq!(encode(&other), bytes);
        }
    }

    #[test]
    fn lengths_are_numbers(length in any::<u32>()) {
        let mut bytes = Vec::new();
        codec::encode_length(length as usize, &mut bytes);
        prop_assert_eq!(bytes, encode(&u64::from(length)));
    }
}

/// Of [`values::entries`].
const EXPECTED_ENTRIES: [&str; 10] = [
    "0101000000fba4010000000000000000000000",
    "04626c6f62000701808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9ffbff0ffbe803fcfffffffffc00e2\
     a7cafcffc99a3b01fc0065cd1d01fdffffffffffffffff01fdffffffffffffffff01fb00fd02021373656375726974792e6361706162\
     696c69747904010000020b757365722e636f6c6f757205677265656e01fb2c01056c61746572",
    "05626c6f636b03fb0301fcffff0f00fba4010000000000000000000000",
    "09636861726163746572040103fba4010000000000000000000000",
    "096469726563746f727901a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebffafbfb00fd000000000001\
     0000fba4010000000000000000000000",
    "046669666f05fba4010000000000000000000000",
    "046c69737400fdffffffffffffff7f03c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedffba401000000\
     0000000000000000",
    "0b6e6f7420ff205554462d3800fd0000010001000000020300404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c\
     5d5e5ffbffff01fd000000000100000000606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f01fba40100\
     00000000000000000000",
    "06736f636b657406fba4010000000000000000000000",
    "0a73796d6c696e6b20c3a902042e2e2ffefba4010000000000000000000000",
];

const EXPECTED_SNAPSHOT: &str = "fc00be01d600fb6f62016802c3bcfbe8036402022f61016201016c02022f61042f772f62020178017901032a2e6f1a0d12016999e476\
     89dae5744d2b8c1903faf7ca2886a658150083100ef2c8eefafbfb00fd000000000001000001fbff0ffbe803fcfffffffffc00e2a7ca\
     fcffc99a3b01fc0065cd1d01fdffffffffffffffff01fdffffffffffffffff01fb00fd02021373656375726974792e6361706162696c\
     69747904010000020b757365722e636f6c6f757205677265656e01fb2c01056c6174657201ea21c7b3c885cf2fb547bb51016c8bbbac\
     a21db264cc9f332769ad8dd895f0a301e3d5003ead1a936380020220637f7b8e1c2812992da64345e823b227195fb97c0c636f666665\
     7220302e312e30020004726f6f74fbe80301750164016702fc00667fe200fc00be01d601fc78be01d6020102fb2c01040506fd000000\
     0002000000fc70110100090a0b0c020000020178";
const EXPECTED_CONFIG: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3ffc00be01d6fc15cd5b07fb0080fc00000200fc000008\
     0002fc00001000fc00000400fc000000020000";
const EXPECTED_SEAL: &str = "02846333980f613b6bffc8021457063c938c56ae0cee82eb27c27cc625c2ca116a7670a5a683b5119971841294a5291a339464be45d6\
     12a0e0e083dc6b09de86f3";
const EXPECTED_SESSION: &str = "066261636b757001680175fc00004000fc00be01d605";
const EXPECTED_MARK: &str = "02b7890e7019b8e244e32f4d84a995c0f01ea9776cbae240855f634a7ea0150daa6f3287cd13d7e1d790ece8ec6da9b2a553d1506c07\
     351269ff230d3b1de63a44fc00be01d606";
const EXPECTED_EXPIRE_NOTE: &str = "783b517cbdee46b786ef6dc4968398922606ee8e7a4f04156493f6c881a60dfbfc00be01d607";
const EXPECTED_STORE_REPORT: &str =
    "08636f6666657220310b2f7372762f6261636b7570fcc8be01d60801010d0200000574686572650702026e6f";
