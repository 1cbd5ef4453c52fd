//! What a store sees of its objects: bytes that look like chance, sizes that tell little, and nothing that comes twice.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a test may panic, and counts"
)]

mod common;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{
    bench::options,
    model::{ModelSource, Thing},
};
use repo_core::{
    backup::{BackupOptions, backup},
    crypto::kdf::KdfCost,
    progress::{Cancel, Silent},
    repository::{InitOptions, Repository, config::Parameters},
    runtime::{Runtime, SystemRuntime},
    store::{ByteRange, Place, Store, memory::MemoryStore},
    time::Timestamp,
};

/// The plain part of an object: magic, version, kind and salt (`docs/format.md`, 5.1).
const HEADER_BYTES: usize = 48;
/// Of which these are the salt.
const SALT: std::ops::Range<usize> = 16..48;
const TAG_BYTES: usize = 16;
const SEAL_BYTES: usize = 564;
/// Bytes of equal length that do not come twice by chance.
const WINDOW_BYTES: usize = 16;

/// Random bytes from a seed, so that the test comes out the same each time.
struct Seeded {
    seed: u64,
    drawn: AtomicU64,
}

impl Runtime for Seeded {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn random(&self, into: &mut [u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&self.drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        hasher.finalize_xof().fill(into);
    }

    fn sleep_ms(&self, _milliseconds: u64) {}

    fn is_running(&self, process: u32) -> bool {
        SystemRuntime.is_running(process)
    }
}

/// An object: where it is, and its bytes.
type Object = (Place, Vec<u8>);

/// Files as different from chance as they can be.
fn tree() -> Thing {
    let mut tree = Thing::directory([("zeros", Thing::file(vec![0; 300_000]))]);
    for file in 0..60_u64 {
        let lines = (0..9000_u64).map(|line| format!("{} {} some words\n", file, line * line * 7919 % 1_000_003));
        tree.put(format!("file {file}").as_bytes(), Thing::file(lines.collect::<String>().into_bytes()));
    }
    tree
}

/// A repository of its own with these files, and everything in it.
fn objects(seed: u64, tree: &Thing) -> Vec<Object> {
    let store = MemoryStore::new();
    let runtime = Arc::new(Seeded { seed, drawn: AtomicU64::new(0) });
    let init = InitOptions {
        password: b"secret",
        host: "host".into(),
        user: "user".into(),
        kdf_cost: KdfCost::TEST,
        parameters: Parameters::tiny(),
    };
    let repository = Arc::new(Repository::init(Arc::new(store.clone()), runtime, &init).unwrap());
    let how = BackupOptions { threads: Some(1), checkpoint_every_seconds: 0, ..options() };
    backup(&repository, &ModelSource::new(tree), &how, &Silent, &Cancel::default()).unwrap();
    let mut objects = Vec::new();
    for place in [Place::Data, Place::Index, Place::Snapshots] {
        let mut names = Vec::new();
        store.list(place, &mut |info| names.push(info.name)).unwrap();
        for name in names {
            let mut bytes = Vec::new();
            store.get(&name, ByteRange::WholeUpTo { limit_bytes: 1 << 30 }, &mut bytes).unwrap();
            objects.push((place, bytes));
        }
    }
    objects
}

/// The sealed part of an object; packs and index runs repeat their header at the end.
fn sealed((place, bytes): &Object) -> &[u8] {
    let end = if *place == Place::Snapshots { bytes.len() } else { bytes.len() - HEADER_BYTES };
    &bytes[HEADER_BYTES..end]
}

/// Pearson's chi-square of byte values against all being equally likely, in standard deviations from what is expected (Wilson and
/// Hilferty's approximation to the normal distribution).
fn deviations(bytes: impl Iterator<Item = u8>) -> f64 {
    let (mut counts, mut all) = ([0_u64; 256], 0_u64);
    for byte in bytes {
        counts[usize::from(byte)] += 1;
        all += 1;
    }
    assert!(all > 256 * 100, "there is enough to judge by: {all} bytes");
    let expected = all as f64 / 256.0;
    let chi_square: f64 = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    let freedom = 255.0_f64;
    let variance = 2.0 / (9.0 * freedom);
    ((chi_square / freedom).cbrt() - (1.0 - variance)) / variance.sqrt()
}

fn neighbours(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.windows(2).map(|pair| pair[0] ^ pair[1])
}

#[test]
fn stored_bytes_look_like_chance() {
    let objects = objects(1, &tree());
    let bytes = objects.iter().flat_map(|object| sealed(object).iter().copied());
    let each = deviations(bytes);
    let beside = deviations(objects.iter().flat_map(|object| neighbours(sealed(object))));
    println!("{each:.2} and {beside:.2} standard deviations");
    // The seed is fixed; other seeds are beyond 4 once in 16,000 times.
    assert!(each.abs() < 4.0, "{each}");
    assert!(beside.abs() < 4.0, "{beside}");
    // And the measure tells chance from text, and from bytes of which one in a hundred is plain.
    let text = b"It was the best of times, it was the worst of times. ".repeat(1000);
    assert!(deviations(text.iter().copied()) > 100.0);
    let all: Vec<u8> = objects.iter().flat_map(|object| sealed(object).iter().copied()).collect();
    let leaky = all
        .iter()
        .enumerate()
        .map(|(at, byte)| if at % 100 == 0 { b'a' + u8::try_from(at % 23).unwrap() } else { *byte });
    assert!(deviations(leaky) > 4.0);
}

#[test]
fn nothing_comes_twice() {
    let tree = tree();
    let (one, other) = (objects(1, &tree), objects(2, &tree));
    let mut salts = HashSet::new();
    let mut seen = HashSet::new();
    for object in &one {
        assert!(salts.insert(object.1[SALT].to_vec()), "a salt comes twice");
        for window in sealed(object).chunks_exact(WINDOW_BYTES) {
            assert!(seen.insert(window), "stored bytes come twice in a repository");
        }
    }
    for object in &other {
        assert!(salts.insert(object.1[SALT].to_vec()), "a salt comes twice");
        for window in sealed(object).windows(WINDOW_BYTES) {
            assert!(!seen.contains(window), "two repositories with the same files have bytes in common");
        }
    }
}

/// Whether a length has no more significant bits than the paper allows: those of its exponent's length and one.
fn is_padme(length: usize) -> bool {
    let exponent = length.ilog2();
    let significant = exponent.ilog2() + 1;
    length.trailing_zeros() >= exponent - significant
}

#[test]
fn sizes_tell_little() {
    assert!(is_padme(1024) && is_padme(4352) && !is_padme(1000) && !is_padme(4097), "the examples of the format");
    let mut sizes = HashSet::new();
    for (place, bytes) in objects(3, &tree()) {
        let length = bytes.len();
        if place == Place::Snapshots {
            let is_full = (length - HEADER_BYTES - TAG_BYTES).is_multiple_of(64);
            assert!(length == SEAL_BYTES || is_full, "a body of {length} bytes");
        } else {
            assert!(is_padme(length), "{place:?} of {length} bytes");
            sizes.insert(length);
        }
    }
    println!("{} different sizes", sizes.len());
}
