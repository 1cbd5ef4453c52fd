//! Keys, key slots, objects and containers, sections 3 to 9 of `docs/format.md`, as literal bytes or their SHA-256, made from
//! fixed keys and foreseen random bytes.
//!
//! What is hashed here is stored raw, since zstd's output may change with its version; that it is raw is tested, too.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod golden;

use golden::{Foreseen, ascending, hex, keys, noise, sha256, values};
use repo_core::{
    blob::{BlobKind, Compression},
    codec::encode,
    crypto::{
        aead::{Nonce, TAG_BYTES},
        kdf::KdfCost,
        keys::{Keys, ObjectKind},
        slot::{self, SlotInfo},
    },
    envelope::{
        container::{ContainerWriter, FOOTER_BYTES, Footer, open_frame},
        header::{HEADER_BYTES, Header, ObjectCipher},
        object,
        padding::padme,
    },
    id::{BlobId, PackId},
    index::{builder::IndexBuilder, run::decode_run},
    pack::{
        builder::{FinishedPack, PackBuilder, PackedFrame},
        directory::PackBlob,
        reader::{directory_of, open_pack_frame},
    },
    runtime::Runtime,
    store::{ObjectName, Place},
    tree::TreeBlob,
};
use serde::{Serialize, de::DeserializeOwned};

#[test]
fn keys_and_ids() {
    let keys = keys();
    let mut found = Vec::new();
    for kind in BlobKind::ALL {
        for plain in [&b""[..], b"hello, world\n"] {
            found.push(keys.blob_id(kind, plain).to_string());
        }
    }
    assert_eq!(found, EXPECTED_BLOB_IDS);
    let table = keys.gear_table();
    assert_eq!([table[0], table[1], table[2], table[255]], EXPECTED_GEAR);
    // An object's key does not leave the crate; what it seals does.
    let header = Header::new(ObjectKind::Mark, ascending(0x80));
    let mut sealed = Vec::new();
    ObjectCipher::new(&keys, &header).seal(Nonce::frame(0x0102), b"plain", &mut sealed, &mut Vec::new()).unwrap();
    assert_eq!(
        hex(&header.bytes()),
        format!("434f464645520d0a01000900000000 00{}", hex(&ascending(0x80))).replace(' ', "")
    );
    assert_eq!(hex(&sealed), EXPECTED_SEALED_PART);
}

#[test]
fn key_slot() {
    let info = SlotInfo { created: values::time(-2, 3), host: "höst".into(), user: "u".repeat(65) };
    let cost = KdfCost { memory_kib: 64, passes: 2, lanes: 3 };
    let bytes = slot::wrap(&keys(), &info, "pässword".as_bytes(), cost, &Foreseen::default()).unwrap();
    assert_eq!(bytes.len(), 326);
    assert_eq!(hex(&bytes[..88]), EXPECTED_SLOT_HEADER);
    assert_eq!(sha256(&bytes), EXPECTED_SLOT);
    let opened = slot::unwrap(&bytes, "pässword".as_bytes()).unwrap();
    let opened = Keys::new(opened.master, opened.repository);
    assert_eq!(opened.repository(), keys().repository());
    assert_eq!(opened.gear_table(), keys().gear_table());
    assert_eq!(slot::info(&bytes, &opened).unwrap(), SlotInfo { user: "u".repeat(64), ..info });
}

/// Seals a value, makes sure that it was not compressed, and returns the hash of its bytes.
fn seal<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(kind: ObjectKind, value: &T) -> String {
    let bytes = object::seal(&keys(), kind, value, &Foreseen::default()).unwrap();
    assert_eq!(&object::open::<T>(&keys(), kind, &bytes, &"it").unwrap(), value);
    let header = Header::parse(&bytes, kind, &"it").unwrap();
    let mut content = Vec::new();
    ObjectCipher::new(&keys(), &header).open(Nonce::frame(0), &bytes[HEADER_BYTES..], &mut content).unwrap();
    let plain = encode(value);
    let mut expected = [&plain.len().to_le_bytes()[..4], &plain.len().to_le_bytes()[..4], &[0], &plain].concat();
    let length = if kind == ObjectKind::Seal { 500 } else { expected.len().next_multiple_of(64) };
    expected.resize(length, 0);
    assert_eq!(hex(&content), hex(&expected), "{kind:?} is stored raw and padded");
    sha256(&bytes)
}

#[test]
fn objects() {
    // A body need not be a snapshot for this; noise keeps it raw, whatever zstd's version.
    let value: Vec<u8> = noise(9, 2000);
    let found = [
        seal(ObjectKind::Config, &values::config()),
        seal(ObjectKind::Snapshot, &value),
        seal(ObjectKind::Seal, &values::seal()),
        seal(ObjectKind::Seal, &values::seal_with_copy()),
        seal(ObjectKind::Session, &values::session()),
        seal(ObjectKind::Mark, &values::mark()),
        seal(ObjectKind::ExpireNote, &values::expire_note()),
        seal(ObjectKind::StoreReport, &values::store_report()),
    ];
    assert_eq!(found, EXPECTED_OBJECTS);
}

/// A body of ordinary text is compressed; what comes out is the same, whatever zstd made of it.
#[test]
fn compressed_object() {
    let mut snapshot = values::snapshot();
    snapshot.excludes = vec!["*.tmp".into(); 300];
    let bytes = object::seal(&keys(), ObjectKind::Snapshot, &snapshot, &Foreseen::default()).unwrap();
    assert!(bytes.len() < encode(&snapshot).len() / 2);
    assert_eq!(bytes.len() % 64, 0, "48 bytes of header, 16 of tag, and a multiple of 64");
    let back: repo_core::snapshot::Snapshot = object::open(&keys(), ObjectKind::Snapshot, &bytes, &"it").unwrap();
    assert_eq!(back, snapshot);
}

#[test]
fn container() {
    let mut writer = ContainerWriter::new(&keys(), ObjectKind::DataPack, &Foreseen::default(), vec![7; 9]);
    assert_eq!(writer.add_frame(b"one").unwrap(), 48);
    assert_eq!(writer.add_frame(b"").unwrap(), 48 + 19);
    let directory = noise(1, 300);
    let (id, bytes) = writer.finish(&directory).unwrap();
    assert_eq!(id.to_string(), EXPECTED_CONTAINER);
    assert_eq!(bytes.len() as u64, padme(48 + 19 + 16 + 16 + 316 + 96));
    assert_eq!(bytes[..48], bytes[bytes.len() - 48..]);
    assert_eq!(sha256(&bytes), EXPECTED_CONTAINER);
    let footer = Footer::open(&keys(), ObjectKind::DataPack, &bytes, bytes.len() as u64, &"it").unwrap();
    assert_eq!(footer.directory_offset_bytes, bytes.len() as u64 - 96 - 316);
    assert_eq!(footer.directory_stored_bytes, 316);
    let at = usize::try_from(footer.directory_offset_bytes).unwrap();
    assert_eq!(footer.open_directory(&keys(), &bytes[at..at + 316], &"it").unwrap(), directory);
    // What is between the frames and the directory are sealed zeros.
    let mut padding = vec![1];
    ObjectCipher::new(&keys(), &footer.header).open(Nonce::PADDING, &bytes[83..at], &mut padding).unwrap();
    assert_eq!(padding, vec![0; at - 83 - TAG_BYTES]);
}

/// Two frames of noise with three blobs each. All ids differ, so that the directory stays raw, too.
fn pack(kind: BlobKind, runtime: &dyn Runtime) -> FinishedPack {
    let keys = keys();
    let mut pack = PackBuilder::new(&keys, kind, runtime, Vec::new());
    for seed in 0..2 {
        let plain = noise(seed, 700);
        let lengths = [100, 1, 599];
        let mut rest = plain.as_slice();
        let mut blobs = Vec::new();
        for length in lengths {
            let (blob, behind) = rest.split_at(length);
            blobs.push(PackBlob { id: keys.blob_id(kind, blob), length_bytes: length.try_into().unwrap() });
            rest = behind;
        }
        let frame = PackedFrame { packed: &plain, compression: Compression::Raw, plain_bytes: 700, blobs };
        pack.add(frame).unwrap();
    }
    pack.finish().unwrap()
}

#[test]
fn packs() {
    for (kind, (expected_id, expected_salt)) in BlobKind::ALL.into_iter().zip(EXPECTED_PACKS) {
        let pack = pack(kind, &Foreseen::default());
        assert_eq!((pack.id.to_string().as_str(), hex(&pack.key.salt).as_str()), (expected_id, expected_salt));
        assert_eq!(pack.bytes[10], if kind == BlobKind::Data { 3 } else { 4 });
        let read = directory_of(&keys(), pack.id, &pack.bytes).unwrap();
        assert_eq!((read.kind, read.key, &read.directory), (kind, pack.key, &pack.directory));
        let mut plain = Vec::new();
        for (number, (frame, _)) in read.directory.locations(pack.id).enumerate() {
            let from = frame.offset_bytes as usize;
            assert_eq!(from, 48 + 716 * number);
            let stored = &pack.bytes[from..from + frame.stored_bytes as usize];
            open_pack_frame(&keys(), kind, &pack.key, &frame, stored, &mut plain).unwrap();
            assert_eq!(plain, noise(number as u64, 700));
        }
    }
}

/// The tables of a run by hand, from the tables of the document.
#[test]
fn index_run() {
    let runtime = Foreseen::default();
    let packs = BlobKind::ALL.map(|kind| pack(kind, &runtime));
    let mut builder = IndexBuilder::default();
    for pack in &packs {
        let size = u32::try_from(pack.bytes.len()).unwrap();
        builder.add_pack(pack.id, pack.key, size, pack.kind, &pack.directory);
    }
    let run = builder.finish(&keys(), &runtime).unwrap();

    let mut ids: Vec<u8> = Vec::new();
    let mut locations: Vec<u8> = Vec::new();
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    for (number_of_pack, pack) in packs.iter().enumerate() {
        let mut rows: Vec<(BlobId, [u8; 12])> = Vec::new();
        for (frame, directory) in pack.directory.frames.iter().enumerate() {
            let mut offset = 0;
            for blob in &directory.blobs {
                let row =
                    [number(2 * number_of_pack + frame), number(offset), blob.length_bytes.to_le_bytes()].concat();
                rows.push((blob.id, row.try_into().unwrap()));
                offset += blob.length_bytes as usize;
            }
        }
        rows.sort_unstable();
        ids.extend(rows.iter().flat_map(|(id, _)| &id.0[..20]));
        locations.extend(rows.iter().flat_map(|(_, row)| *row));
    }
    let mut expected = [ids, locations].concat();
    for pack in 0..2 {
        for frame in 0..2 {
            let raw = (700_u32 + (1 << 31)).to_le_bytes();
            expected.extend([number(pack), number(48 + 716 * frame), number(716), raw].concat());
        }
    }
    for (row, pack) in packs.iter().enumerate() {
        expected.extend(pack.id.0.iter().chain(&pack.key.salt));
        expected.extend([number(pack.bytes.len()), number(2 * row), number(2), [u8::from(row == 1), 0, 1, 0]].concat());
    }
    assert_eq!(expected.len(), 32 * 12 + 16 * 4 + 80 * 2);

    let name = ObjectName::new(Place::Index, run.id);
    let footer = Footer::open(&keys(), ObjectKind::Index, &run.bytes, run.bytes.len() as u64, &name).unwrap();
    let (start, end) = (usize::try_from(footer.directory_offset_bytes).unwrap(), run.bytes.len() - FOOTER_BYTES);
    let directory = footer.open_directory(&keys(), &run.bytes[start..end], &name).unwrap();
    let directory: repo_core::index::run::RunDirectory = repo_core::codec::decode(&directory).unwrap();
    assert_eq!(directory.pages.len(), 1);
    let page = directory.pages[0];
    assert_eq!(page.first.to_be_bytes(), expected[..8]);
    let stored = &run.bytes[48..48 + page.stored_bytes as usize];
    let cipher = ObjectCipher::new(&keys(), &footer.header);
    let mut plain = Vec::new();
    open_frame(&cipher, 0, page.compression, stored, expected.len(), &mut Vec::new(), &mut plain).unwrap();
    assert_eq!(hex(&plain), hex(&expected));

    let table = decode_run(&keys(), &run.bytes, &name).unwrap();
    let last = packs[1].directory.frames[1].blobs[2].id;
    let (row, location) = table.find(BlobKind::Tree, &last).unwrap();
    assert_eq!((row, location.frame.pack, location.frame.ordinal), (1, packs[1].id, 1));
    assert_eq!((location.frame.offset_bytes, location.offset_bytes, location.length_bytes), (764, 101, 599));
    assert!(table.find(BlobKind::Data, &last).is_none());
}

#[test]
fn tree_page() {
    let page = encode(&TreeBlob::Entries(values::entries()));
    assert_eq!(keys().blob_id(BlobKind::Tree, &page).to_string(), EXPECTED_TREE_PAGE);
}

#[test]
fn names_are_hashes() {
    let pack = pack(BlobKind::Data, &Foreseen::default());
    assert_eq!(sha256(&pack.bytes), pack.id.to_string());
    let id = PackId(ascending(0));
    let digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    assert_eq!(ObjectName::new(Place::Data, id).to_string(), format!("data/00/{digits}"));
    assert_eq!(ObjectName::new(Place::Locks, id).to_string(), format!("locks/{digits}"));
    assert_eq!(ObjectName::CONFIG.to_string(), "config");
}

// These were computed by a program in another language, from the document.
const EXPECTED_BLOB_IDS: [&str; 4] = [
    "f86a8fa9bd8e4cea833fdb57faa4875863b540e0c2bfec6bbd3c59d5ca6f8546",
    "5f1f881dfe8ef28a229dbb656c332c321543d76b8956e5a0331d90190556f254",
    "4cde9fa374e4f95293a08acb3dc4e709740a950eb5640ebcc728f068b9ee087b",
    "64edea73b8c095882c93706d213b87d6b3987de8f8552c01228e4ffaf1ea16f4",
];
const EXPECTED_GEAR: [u64; 4] =
    [0x8a09_7c74_ca03_b4c5, 0xb7ba_cd7c_93f1_9fc4, 0x1e96_294c_9bd4_8e07, 0x0897_e069_9d36_64ba];
const EXPECTED_SEALED_PART: &str = "b5cbc9d3ebf204f0e7c011520903d115ec5cf64ec0";
const EXPECTED_SLOT_HEADER: &str = "434f464645520d0a0100020140000000020000000300000071e0a99173564931c0b8acc52d2685a8e39c64dc52e3d02390fdac2a12b155cba16331e1c2fc87b10aabc1c0046342fda0c4f9153e59752407c76d3eeea29973";
const EXPECTED_SLOT: &str = "368d10f107b59aa08c4eddf4944bbc8de2ca3e4364f015e2c0af60413286a466";
const EXPECTED_OBJECTS: [&str; 8] = [
    "df72d619c501e87a6b2b75d35c992c46551e1546fae2c9bf082a372fa1b3f619",
    "e7324e892f07ee6c383d31b65e7be0841a48bf7adf081b06edfc050990d017e6",
    "7e8d282c686f45c3d55e51e3351952bb15bbab57ea3bf450b23145a70079dc55",
    "b38d65af95f86e6f4d9f8bc48cfb053bff2683e6ef4d04b8cda5f6683fabf22e",
    "725e43691153c2529981e9a3889497d108ec3a3555c26d767a00b58ae2f57809",
    "bc85661ad1e544952592e355374a81ba44c8c046ce4e9500c8b5c12854c5e0a2",
    "4d0008f01f3e76fae71b8965662204a3a55bb948f100859c029cee18aa510361",
    "af2c5f053bb8023d7a0a5f7065e5797e09d2808936c184733b67418f0efee814",
];
const EXPECTED_CONTAINER: &str = "19b0e60e3db33932950946ee04c6f6b20d7a6f6b491df7728e87c356162cf686";
const EXPECTED_PACKS: [(&str, &str); 2] = [
    (
        "8a15576ba39a2cc70225c081aa3ff77525a0f522bff906b401a754d9434d834d",
        "71e0a99173564931c0b8acc52d2685a8e39c64dc52e3d02390fdac2a12b155cb",
    ),
    (
        "23801d57119cf90346784a29a8276cd69332c2bc8faf668141bbfc51627204c9",
        "71e0a99173564931c0b8acc52d2685a8e39c64dc52e3d02390fdac2a12b155cb",
    ),
];
const EXPECTED_TREE_PAGE: &str = "141d010508832c67efe11c49d1411621de1c6b8ff032899c648164f86a696e09";
