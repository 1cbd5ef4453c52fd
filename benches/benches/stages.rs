//! Cost of each stage of a backup by itself: `cargo bench -p coffer-benches`. Prints figures; nothing fails for being
//! slow. All data comes from fixed seeds.
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use repo_core::{
    blob::{BlobKind, Compression},
    chunker::{Chunker, ChunkerParameters},
    codec,
    compress::{Compressor, Decompressor, Level},
    crypto::{
        aead::{Cipher, Nonce},
        keys::{Keys, MasterKey, ObjectKind},
    },
    id::{BlobId, RepositoryId},
    limits::{DATA_FRAME_BYTES, PACK_BYTES},
    time::Timestamp,
    tree::{
        name::Name,
        node::{Content, Entry, Metadata, Mode, Node, NodeKind},
    },
};

/// Data that is cut; larger than the caches next to the core.
const CUT_BYTES: usize = 64 << 20;
/// A small file, a middling one, an average chunk.
const BLOB_BYTES: [usize; 3] = [1 << 10, 16 << 10, 128 << 10];
/// What is sealed: a frame of tree pages or of well compressed data, and a frame that did not compress.
const SEAL_BYTES: [usize; 2] = [256 << 10, DATA_FRAME_BYTES];
/// Entries of one directory page.
const ENTRIES: usize = 500;

const MASTER_KEY: [u8; 32] = [0x42; 32];
const REPOSITORY: RepositoryId = RepositoryId([7; 32]);

/// Bytes that do not compress.
fn random(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Words in random order with random numbers between them: compresses about as a log does.
fn text(length: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "error",
        "warning",
        "connection",
        "from",
        "to",
        "accepted",
        "closed",
        "user",
        "session",
        "timeout",
        "retry",
        "request",
        "response",
        "of",
        "bytes",
        "after",
    ];
    let mut bytes = Vec::with_capacity(length + 64);
    for pair in random("text", length).chunks_exact(2) {
        if bytes.len() >= length {
            break;
        }
        let end = if pair[0] < 24 { '\n' } else { ' ' };
        bytes.extend_from_slice(format!("{} {}{end}", WORDS[usize::from(pair[0] % 16)], pair[1] / 16).as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Blocks of 64 KiB, random and text in turn.
fn mixed(length: usize) -> Vec<u8> {
    let (random, text) = (random("mixed", length), text(length));
    random
        .chunks(64 << 10)
        .zip(text.chunks(64 << 10))
        .enumerate()
        .flat_map(|(i, (random, text))| if i % 2 == 0 { random } else { text })
        .copied()
        .collect()
}

fn keys() -> Keys {
    Keys::new(MasterKey::from_bytes(MASTER_KEY), REPOSITORY)
}

fn cut(criterion: &mut Criterion) {
    let chunker = Chunker::new(ChunkerParameters::default(), &keys().gear_table()).unwrap();
    let mut group = criterion.benchmark_group("cut");
    group.throughput(Throughput::Bytes(CUT_BYTES as u64)).sample_size(20);
    for (name, data) in [("random", random("cut", CUT_BYTES)), ("text", text(CUT_BYTES))] {
        group.bench_function(name, |bencher| bencher.iter(|| chunker.chunks(black_box(&data)).count()));
    }
    group.finish();
}

fn hash(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("blob id");
    for length in BLOB_BYTES {
        let data = random("hash", length);
        group.throughput(Throughput::Bytes(length as u64)).bench_function(
            BenchmarkId::from_parameter(length),
            |bencher| {
                bencher.iter(|| keys.blob_id(BlobKind::Data, black_box(&data)));
            },
        );
    }
    group.finish();

    let data = random("pack", PACK_BYTES);
    let mut group = criterion.benchmark_group("SHA-256 of a pack");
    group.throughput(Throughput::Bytes(PACK_BYTES as u64)).sample_size(20);
    group.bench_function("aws-lc", |bencher| {
        bencher.iter(|| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, black_box(&data)));
    });
    group.bench_function("sha2", |bencher| bencher.iter(|| <sha2::Sha256 as sha2::Digest>::digest(black_box(&data))));
    group.finish();
}

fn compress(criterion: &mut Criterion) {
    let frames = [
        ("text", text(DATA_FRAME_BYTES)),
        ("mixed", mixed(DATA_FRAME_BYTES)),
        ("random", random("frame", DATA_FRAME_BYTES)),
    ];
    let mut group = criterion.benchmark_group("compress a frame, level auto");
    group.throughput(Throughput::Bytes(DATA_FRAME_BYTES as u64)).sample_size(30);
    for (name, frame) in &frames {
        let (mut compressor, mut packed) = (Compressor::new(Level::AUTO), Vec::new());
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                packed.clear();
                compressor.compress(black_box(frame), &mut packed)
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("decompress a frame");
    group.throughput(Throughput::Bytes(DATA_FRAME_BYTES as u64)).sample_size(30);
    for (name, frame) in &frames {
        let (mut packed, mut plain) = (Vec::new(), Vec::new());
        let compression: Compression = Compressor::new(Level::AUTO).compress(frame, &mut packed);
        let mut decompressor = Decompressor::new();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| decompressor.decompress(compression, black_box(&packed), frame.len(), &mut plain).unwrap());
        });
    }
    group.finish();
}

/// As coffer does it, and with the portable implementation that it uses where there is no C compiler.
fn seal(criterion: &mut Criterion) {
    use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};

    let cipher = Cipher::new(&keys().object_key(ObjectKind::DataPack, &[9; 32]));
    let portable = Aes256Gcm::new(&MASTER_KEY.into());
    let nonce = aes_gcm::Nonce::from([0; 12]);
    for length in SEAL_BYTES {
        let plain = random("seal", length);
        let mut group = criterion.benchmark_group(format!("seal and open {length} bytes"));
        group.throughput(Throughput::Bytes(length as u64));
        let mut bytes = Vec::with_capacity(length + 16);
        // The copy is part of the figure; it is a few percent.
        group.bench_function("seal", |bencher| {
            bencher.iter(|| {
                bytes.clear();
                bytes.extend_from_slice(black_box(&plain));
                cipher.seal(Nonce::frame(0), &[], &mut bytes, 0);
            });
        });
        let mut opened = Vec::new();
        group.bench_function("open", |bencher| {
            bencher.iter(|| cipher.open(Nonce::frame(0), &[], black_box(&bytes), &mut opened).unwrap());
        });
        group.bench_function("seal, portable", |bencher| {
            bencher.iter(|| {
                bytes.clear();
                bytes.extend_from_slice(black_box(&plain));
                portable.encrypt_inout_detached(&nonce, &[], bytes.as_mut_slice().into()).unwrap()
            });
        });
        let tag = {
            bytes.clear();
            bytes.extend_from_slice(&plain);
            portable.encrypt_inout_detached(&nonce, &[], bytes.as_mut_slice().into()).unwrap()
        };
        group.bench_function("open, portable", |bencher| {
            bencher.iter(|| {
                opened.clear();
                opened.extend_from_slice(black_box(&bytes));
                portable.decrypt_inout_detached(&nonce, &[], opened.as_mut_slice().into(), &tag).unwrap();
            });
        });
        group.finish();
    }
}

fn entries() -> Vec<Entry> {
    (0..ENTRIES)
        .map(|i| {
            let mut blob = [0; 32];
            blob.copy_from_slice(&random(&i.to_string(), 32));
            Entry {
                name: Name::new(format!("entry-{i:05}.c").into_bytes()).unwrap(),
                node: Node {
                    kind: NodeKind::File { size_bytes: 4000 + i as u64, content: Content::Blob(BlobId(blob)) },
                    metadata: Metadata {
                        mode: Mode::from_bits(0o644),
                        user: 1000,
                        group: 1000,
                        modified: Timestamp::from_seconds(1_700_000_000),
                        changed: Timestamp::from_seconds(1_700_000_001),
                        accessed: None,
                        inode: 9_000_000 + i as u64,
                        hard_links: None,
                        xattrs: Vec::new(),
                        extensions: Vec::new(),
                    },
                },
            }
        })
        .collect()
}

fn encode(criterion: &mut Criterion) {
    let entries = entries();
    let bytes = codec::encode(&entries);
    let mut group = criterion.benchmark_group("codec, entries of a directory");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    let mut into = Vec::new();
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            into.clear();
            codec::encode_into(black_box(&entries), &mut into);
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| codec::decode::<Vec<Entry>>(black_box(&bytes)).unwrap());
    });
    group.finish();
}

criterion_group!(stages, cut, hash, compress, seal, encode);
criterion_main!(stages);
