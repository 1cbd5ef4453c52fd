//! Writes the seeds in `corpus/`: one small input for each thing a target can come upon. Run it after the format has
//! changed: `cargo run --example seeds` in this folder.

use std::{error::Error, fs, path::Path};

use repo_core::{
    codec,
    compress::{Compressor, Level},
    id::BlobId,
    limits,
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
