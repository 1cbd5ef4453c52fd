//! Writes the seeds in `corpus/`: one small input for each thing a target can come upon. Run it after the format has
//! changed: `cargo run --example seeds` in this folder.

use std::{error::Error, fs, path::Path};

use repo_core::{
    blob::{BlobKind, Compression},
    codec,
    compress::{Compressor, Level},
    id::{BlobId, PackId, RepositoryId},
    index::table::{BlobPrefix, FrameRow, LocationRow, PackRow},
    pack::reader::PackKey,
    limits,
    pack::directory::{PackBlob, PackDirectory, PackFrame},
    repository::{
        config::{Config, Parameters},
        notes::Mark,
    },
    time::Timestamp,
    tree::{
        EntryPage, PiecePage, TreeBlob,
        name::{Bytes, Name},
        node::{Content, Device, Entry, HardLinks, Metadata, Mode, Node, NodeKind, Piece, Totals, Xattr},
    },
};

fn main() -> Result<(), Box<dyn Error>> {
    let entries = entries();
    let blobs = [
        TreeBlob::Entries(Vec::new()),
        TreeBlob::Entries(entries.clone()),
        TreeBlob::EntryPages(vec![page("block", 1), page("link", 1)]),
        TreeBlob::Pieces(pieces()),
        TreeBlob::PiecePages(vec![PiecePage { length_bytes: 1_001_000, page: id(3) }; 2]),
    ];
    for (number, blob) in blobs.iter().enumerate() {
        write("tree_blob", number, &codec::encode(blob))?;
    }

    // Blob 0 is the root, with a file whose pieces are in blob 3 and a directory that is blob 1, and so on.
    let tree = [
        TreeBlob::Entries(entries),
        TreeBlob::Entries(Vec::new()),
        TreeBlob::PiecePages(vec![PiecePage { length_bytes: 1_001_000, page: id(3) }]),
        TreeBlob::Pieces(pieces()),
    ];
    write("tree_walk", 0, &joined(&tree))?;
    let paged = [
        TreeBlob::EntryPages(vec![page("a", 1), page("b", 2)]),
        TreeBlob::Entries(vec![entry("a", NodeKind::Fifo)]),
        TreeBlob::Entries(vec![entry("b", NodeKind::Directory { tree: id(3), totals: Totals::default() })]),
        TreeBlob::Entries(vec![entry("c", NodeKind::Socket)]),
    ];
    write("tree_walk", 1, &joined(&paged))?;

    for (number, name) in
        [&b"file"[..], b"..", b"a/b/./c", "\u{202e}gpj.exe".as_bytes(), b"\xff\\\x1b[0m"].iter().enumerate()
    {
        write("name", number, name)?;
    }
    write("name", 5, &codec::encode(&name("encoded")))?;
    let text: Vec<u8> = (0..1500_u32).map(|i| (i * i >> 5).to_le_bytes()[0]).collect();
    write("chunker", 0, &[&[0x12, 3], text.as_slice()].concat())?;
    let mut packed = Vec::new();
    Compressor::new(Level::AUTO).compress(&[b'x'; 1000], &mut packed);
    write("compress", 0, &[1000_u16.to_be_bytes().as_slice(), &packed].concat())?;
    write("pack_directory", 0, &[100_000_u32.to_le_bytes().as_slice(), &codec::encode(&pack_directory())].concat())?;
    write("index_table", 0, &index_table())?;
    for (number, content) in [config(), mark()].iter().enumerate() {
        write("sealed_object", number, content)?;
    }
    write("lists", 0, b"# comment\n*.o\n  !/a/**/[a-c]?\\*  \n$HOME/${nothing}x$$\n")?;
    write("lists", 1, b"\xff\xfea\0/\0b\0\n\0")?;
    write("lists", 2, b"/a b\0c\0")?;
    write("aead", 0, b"\x05\x01some bytes to seal")?;
    write(
        "key_slot",
        0,
        &[b"COFFER\r\n\x01\x00\x02\x01".as_slice(), &[8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], &[0; 290]].concat(),
    )?;
    Ok(())
}

fn write(target: &str, number: usize, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed-{number}")), bytes)?;
    Ok(())
}

/// As `tree_walk` reads it: each blob behind two bytes of length.
fn joined(blobs: &[TreeBlob]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for blob in blobs {
        let encoded = codec::encode(blob);
        let length = u16::try_from(encoded.len()).expect("seeds are short");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&encoded);
    }
    bytes
}

fn id(number: u8) -> BlobId {
    let mut bytes = [0xb5; 32];
    bytes[0] = number;
    BlobId(bytes)
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("seeds have good names")
}

fn page(first: &str, number: u8) -> EntryPage {
    EntryPage { first: name(first), page: id(number), totals: Totals { files: 2, directories: 1, bytes: 300 } }
}

fn pieces() -> Vec<Piece> {
    vec![Piece::Data { blob: id(200), length_bytes: 1000 }, Piece::Hole { length_bytes: 1_000_000 }]
}

fn entry(text: &str, kind: NodeKind) -> Entry {
    let time = Timestamp::new(1_700_000_000, 999_999_999).expect("less than a second");
    let metadata = Metadata {
        mode: Mode::from_bits(0o4755),
        user: 0,
        group: 65_534,
        modified: time,
        changed: Timestamp::from_seconds(-1),
        accessed: Some(time),
        inode: 70_000,
        hard_links: Some(HardLinks { device: 3, count: 2 }),
        xattrs: vec![Xattr {
            name: Bytes::new(*b"user.colour").expect("short"),
            value: Bytes::new(*b"green").expect("short"),
        }],
        extensions: Vec::new(),
    };
    Entry { name: name(text), node: Node { kind, metadata } }
}

fn entries() -> Vec<Entry> {
    let device = Device { major: 8, minor: 1 };
    let file = |size_bytes, content| NodeKind::File { size_bytes, content };
    vec![
        entry("block", NodeKind::BlockDevice { device }),
        entry("character", NodeKind::CharacterDevice { device }),
        entry("directory", NodeKind::Directory { tree: id(1), totals: Totals::default() }),
        entry("empty", file(0, Content::Empty)),
        entry("fifo", NodeKind::Fifo),
        entry("large", file(1_001_000, Content::List(id(2)))),
        entry(
            "link",
            NodeKind::Symlink { target: Bytes::<{ limits::LINK_BYTES_MAX }>::new(*b"../to").expect("short") },
        ),
        entry("one", file(5, Content::Blob(id(201)))),
        entry("pieces", file(1_001_000, Content::Pieces(pieces()))),
        entry("socket", NodeKind::Socket),
    ]
}

fn pack_directory() -> PackDirectory {
    let blob = |number, length_bytes| PackBlob { id: id(number), length_bytes };
    let frames = vec![
        PackFrame {
            stored_bytes: 500,
            plain_bytes: 1300,
            compression: Compression::Zstd,
            blobs: vec![blob(1, 300), blob(2, 1000)],
        },
        PackFrame { stored_bytes: 2016, plain_bytes: 2000, compression: Compression::Raw, blobs: vec![blob(3, 2000)] },
    ];
    PackDirectory { frames }
}

/// As `index_table` reads it: the four counts as bytes, then the tables.
fn index_table() -> Vec<u8> {
    let pack = PackRow {
        id: PackId([4; 32]),
        key: PackKey { salt: [5; 32], version: 1 },
        size_bytes: 4096,
        first_frame: 0,
        frames: 1,
        kind: BlobKind::Data,
    };
    let frame =
        FrameRow { pack: 0, offset_bytes: 48, stored_bytes: 500, plain_bytes: 1300, compression: Compression::Zstd };
    let location = |offset_bytes, length_bytes| LocationRow { frame: 0, offset_bytes, length_bytes }.encode();
    let prefix = |number| BlobPrefix::from(&id(number)).0;
    let parts: [&[u8]; 7] =
        [&[2, 0, 1, 1], &prefix(1), &prefix(2), &location(0, 300), &location(300, 1000), &frame.encode(), &pack.encode()];
    parts.concat()
}

/// As it lies under the seal of an object: packed length, plain length, compression, bytes.
fn object_content<T: serde::Serialize>(choice: u8, value: &T) -> Vec<u8> {
    let plain = codec::encode(value);
    let length = u32::try_from(plain.len()).expect("seeds are short").to_le_bytes();
    [[choice].as_slice(), &length, &length, &[0], &plain, &[0; 7]].concat()
}

fn config() -> Vec<u8> {
    object_content(
        0,
        &Config::new(RepositoryId([9; 32]), Timestamp::from_seconds(1_700_000_000), Parameters::default()),
    )
}

fn mark() -> Vec<u8> {
    object_content(3, &Mark { packs: vec![PackId([4; 32]); 2], created: Timestamp::from_seconds(1_700_000_000) })
}
