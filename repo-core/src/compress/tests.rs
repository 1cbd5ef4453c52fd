use proptest::prelude::*;

use super::*;

/// Bytes that do not compress.
fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that compress about as well as a log file.
fn text(length: usize) -> Vec<u8> {
    (0_u64..)
        .flat_map(|i| format!("line {i}: {} of {}\n", i.wrapping_mul(i) % 977, i % 13).into_bytes())
        .take(length)
        .collect()
}

fn levels() -> impl Iterator<Item = Level> {
    (-7..=22).map(|level| Level::zstd(level).unwrap()).chain([Level::OFF])
}

fn packed(level: Level, plain: &[u8]) -> (Compression, Vec<u8>) {
    let mut packed = Vec::new();
    let compression = Compressor::new(level).compress(plain, &mut packed);
    (compression, packed)
}

#[test]
fn every_level_round_trips_and_appends() {
    for level in levels() {
        let (mut compressor, mut decompressor) = (Compressor::new(level), Decompressor::new());
        for plain in [vec![], vec![1], vec![0; 31], vec![0; 32], vec![0; 3000], text(100_000), random(100_000)] {
            let mut into = b"before".to_vec();
            let compression = compressor.compress(&plain, &mut into);
            let packed = into.strip_prefix(b"before").unwrap();
            let mut back = b"old".to_vec();
            decompressor.decompress(compression, packed, plain.len(), &mut back).unwrap();
            assert_eq!(back, plain, "level {level}, {} bytes", plain.len());
        }
    }
}

#[test]
fn raw_unless_three_percent_are_saved() {
    for level in levels().filter(|level| *level != Level::OFF) {
        assert_eq!(packed(level, &random(1 << 18)).0, Compression::Raw, "{level}");
        let (compression, bytes) = packed(level, &text(1 << 18));
        assert_eq!(compression, Compression::Zstd, "{level}");
        assert!(bytes.len() < 1 << 17, "{level}");
    }
    assert_eq!(packed(Level::OFF, &text(1 << 18)).0, Compression::Raw);

    // Zeros cost next to nothing, so that the share of them is what is saved.
    for level in [Level::FASTEST, Level::AUTO, Level::BETTER, Level::MAX] {
        let length = 1 << 18;
        for (zeros, expected) in [(length / 50, Compression::Raw), (length / 28, Compression::Zstd)] {
            let plain = [random(length - zeros), vec![0; zeros]].concat();
            assert_eq!(packed(level, &plain).0, expected, "level {level}, {zeros} zeros");
        }
    }
}

/// Wherever one text file lies between much that does not compress, it is found.
#[test]
fn mixed_frames_are_judged_as_a_whole() {
    for level in [Level::FASTEST, Level::AUTO, Level::MAX] {
        for at in [0, 100_000, 777_777, (1 << 20) - 65_536] {
            let mut plain = random(1 << 20);
            plain[at..at + 65_536].copy_from_slice(&text(65_536));
            let (compression, bytes) = packed(level, &plain);
            assert_eq!(compression, Compression::Zstd, "level {level}, text at {at}");
            let saved = plain.len() - bytes.len();
            assert!(saved > 32_768, "level {level}, text at {at}: {saved} saved of 65536");
        }
    }
}

/// A repetition is found although no single place looks compressible.
#[test]
fn repeated_random_bytes_compress() {
    let plain = random(100_000).repeat(10);
    for level in [Level::FASTEST, Level::AUTO, Level::MAX] {
        let (compression, bytes) = packed(level, &plain);
        assert_eq!(compression, Compression::Zstd, "{level}");
        assert!(bytes.len() < 150_000, "{level}: {}", bytes.len());
    }
}

#[test]
fn the_frame_has_its_size_and_nothing_else() {
    // RFC 8878 3.1.1: magic, then a descriptor byte: single segment, 4-byte content size, no checksum, no dictionary.
    let (_, bytes) = packed(Level::AUTO, &text(1 << 20));
    assert_eq!(bytes[..9], [0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000, 0, 0, 0x10, 0]);
}

#[test]
fn every_cut_and_extension_is_refused() {
    let plain = text(3000);
    let (compression, whole) = packed(Level::AUTO, &plain);
    assert_eq!(compression, Compression::Zstd);
    let mut decompressor = Decompressor::new();
    let mut into = Vec::new();
    for length in 0..whole.len() {
        for kind in [Compression::Zstd, Compression::Raw] {
            assert!(decompressor.decompress(kind, &whole[..length], plain.len(), &mut into).is_err(), "{length}");
            assert!(into.is_empty() && into.capacity() <= plain.len());
        }
    }
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].as_slice();
    for behind in [&[0], skippable, &whole] {
        let longer = [&whole, behind].concat();
        let outcome = decompressor.decompress(Compression::Zstd, &longer, plain.len(), &mut into);
        assert_eq!(outcome, Err(DecompressError::NotOneFrame));
    }
    let before = [skippable, &whole].concat();
    assert_eq!(
        decompressor.decompress(Compression::Zstd, &before, plain.len(), &mut into),
        Err(DecompressError::NotOneFrame)
    );
    decompressor.decompress(Compression::Zstd, &whole, plain.len(), &mut into).unwrap();
    assert_eq!(into, plain);
}

/// Changed bytes may decompress to something else, which the blob's id tells; never to another length.
#[test]
fn no_flip_changes_the_length() {
    let plain = text(2000);
    let (_, whole) = packed(Level::AUTO, &plain);
    let mut decompressor = Decompressor::new();
    for position in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[position] ^= 1 << bit;
            let mut into = Vec::new();
            match decompressor.decompress(Compression::Zstd, &changed, plain.len(), &mut into) {
                Ok(()) => assert_eq!(into.len(), plain.len()),
                Err(_) => assert!(into.is_empty()),
            }
            assert!(into.capacity() <= plain.len(), "byte {position}, bit {bit}");
        }
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let plain = text(5000);
    let mut decompressor = Decompressor::new();
    for level in [Level::AUTO, Level::OFF] {
        let (compression, bytes) = packed(level, &plain);
        for expected in [0, 1, 4999, 5001, 1 << 20] {
            let mut into = Vec::new();
            assert_eq!(
                decompressor.decompress(compression, &bytes, expected, &mut into),
                Err(DecompressError::Size { expected, found: 5000 })
            );
            assert_eq!(into.capacity(), 0);
        }
    }
}

/// A gigabyte of zeros in some ten kilobytes, with and without its content size.
#[test]
fn bombs_are_refused_without_room_for_them() {
    let mut honest = Vec::with_capacity(1 << 20);
    let mut stream = zstd::stream::Encoder::new(&mut honest, 19).unwrap();
    stream.set_pledged_src_size(Some(1 << 30)).unwrap();
    let mut anonymous = Vec::with_capacity(1 << 20);
    let mut without_size = zstd::stream::Encoder::new(&mut anonymous, 19).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..1 << 10 {
        std::io::Write::write_all(&mut stream, &zeros).unwrap();
        std::io::Write::write_all(&mut without_size, &zeros).unwrap();
    }
    stream.finish().unwrap();
    without_size.finish().unwrap();
    assert!(honest.len() < 1 << 17 && anonymous.len() < 1 << 17);

    let mut decompressor = Decompressor::new();
    let mut into = Vec::new();
    assert_eq!(
        decompressor.decompress(Compression::Zstd, &honest, 1 << 20, &mut into),
        Err(DecompressError::Size { expected: 1 << 20, found: 1 << 30 })
    );
    assert_eq!(
        decompressor.decompress(Compression::Zstd, &anonymous, 1 << 20, &mut into),
        Err(DecompressError::NotOneFrame)
    );
    assert_eq!(into.capacity(), 0);

    // One that lies: the content size in its header says 1 MiB (bytes 6 to 9 after magic, descriptor and window).
    let at = honest.windows(4).position(|bytes| bytes == (1_u32 << 30).to_le_bytes()).unwrap();
    honest[at..at + 4].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    let outcome = decompressor.decompress(Compression::Zstd, &honest, 1 << 20, &mut into);
    assert!(matches!(outcome, Err(DecompressError::Corrupt(_))), "{outcome:?}");
    assert!(into.is_empty() && into.capacity() <= 1 << 20);
}

proptest! {
    #[test]
    fn round_trips(pieces in prop::collection::vec((0_usize..5000, 0_u8..3), 0..12), level in -7_i32..=12) {
        let plain: Vec<u8> = pieces
            .into_iter()
            .flat_map(|(length, kind)| match kind {
                0 => random(length),
                1 => text(length),
                _ => vec![0; length],
            })
            .collect();
        let (compression, bytes) = packed(Level::zstd(level).unwrap(), &plain);
        prop_assert!(bytes.len() <= plain.len());
        let mut back = Vec::new();
        Decompressor::new().decompress(compression, &bytes, plain.len(), &mut back).unwrap();
        prop_assert_eq!(back, plain);
    }

    #[test]
    fn anything_else_is_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), claimed in 0_usize..300) {
        let magic = [&[0x28, 0xb5, 0x2f, 0xfd], bytes.as_slice()].concat();
        for packed in [bytes, magic] {
            let mut into = Vec::new();
            match Decompressor::new().decompress(Compression::Zstd, &packed, claimed, &mut into) {
                Ok(()) => prop_assert_eq!(into.len(), claimed),
                Err(_) => prop_assert!(into.is_empty()),
            }
            prop_assert!(into.capacity() <= claimed);
        }
    }
}
