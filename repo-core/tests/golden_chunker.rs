//! Cut points that must never change: with other ones every file would be stored again.
//!
//! The numbers come from a separate program that was written after the rule in `repo_core::chunker`, and each test asks
//! the crate `fastcdc` as well.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use repo_core::{
    chunker::{Chunker, ChunkerParameters},
    crypto::keys::{Keys, MasterKey},
    id::RepositoryId,
};

/// Sizes one step above the default ones, as the separate program had them that made the literals.
const LARGER: ChunkerParameters =
    ChunkerParameters { min_bytes: 32 << 10, average_bytes: 128 << 10, max_bytes: 512 << 10, normalization: 2 };

/// Pseudo-random numbers by `SplitMix64` (Steele, Lea, Flood 2014).
fn numbers(mut seed: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

/// 256 numbers from seed 1.
fn table() -> [u64; 256] {
    let mut numbers = numbers(1);
    std::array::from_fn(|_| numbers.next().unwrap())
}

/// Little-endian numbers from seed 2.
fn random_bytes(length: usize) -> Vec<u8> {
    numbers(2).flat_map(u64::to_le_bytes).take(length).collect()
}

/// The same, but only the letters a to h.
fn letters(length: usize) -> Vec<u8> {
    random_bytes(length).into_iter().map(|byte| b'a' + (byte & 7)).collect()
}

fn parameters(min_bytes: u32, average_bytes: u32, max_bytes: u32, normalization: u8) -> ChunkerParameters {
    ChunkerParameters { min_bytes, average_bytes, max_bytes, normalization }
}

fn lengths(parameters: ChunkerParameters, table: &[u64; 256], data: &[u8]) -> Vec<usize> {
    let chunker = Chunker::new(parameters, table).unwrap();
    let lengths: Vec<usize> = chunker.chunks(data).map(<[u8]>::len).collect();
    assert_eq!(lengths, oracle(parameters, table, data), "another opinion than the oracle's");
    lengths
}

/// `fastcdc`'s opinion, with the masks written out once more.
fn oracle(parameters: ChunkerParameters, table: &[u64; 256], mut data: &[u8]) -> Vec<usize> {
    let bits = parameters.average_bytes.ilog2();
    let mask = |ones: u32| ((1_u64 << ones) - 1) << (61 - ones);
    let level = u32::from(parameters.normalization);
    let (strict, loose) = (mask(bits + level), mask(bits - level));
    let shifted = table.map(|gear| gear << 1);
    let mut lengths = Vec::new();
    while !data.is_empty() {
        let (_, length) = fastcdc::v2020::cut_gear(
            data,
            parameters.min_bytes as usize,
            parameters.average_bytes as usize,
            parameters.max_bytes as usize,
            strict,
            loose,
            strict << 1,
            loose << 1,
            table,
            &shifted,
        );
        lengths.push(length);
        data = &data[length..];
    }
    lengths
}

#[test]
fn default_parameters_on_random_bytes() {
    assert_eq!(
        lengths(LARGER, &table(), &random_bytes(2 << 20)),
        [
            158_256, 175_278, 153_918, 141_616, 144_939, 173_712, 46_464, 166_944, 172_417, 167_385, 133_385, 123_887,
            134_879, 204_072
        ]
    );
}

#[test]
fn every_normalization_level_on_letters() {
    for (level, expected) in [
        vec![2035, 696, 785, 512, 2381, 512, 1352, 1589, 2598, 939, 936, 2049],
        vec![2035, 1481, 1032, 1861, 1074, 1053, 1326, 1496, 1102, 1251, 624, 2049],
        vec![1678, 1053, 1237, 1590, 851, 1074, 1053, 1059, 1216, 1649, 1251, 624, 1394, 655],
        vec![1678, 1053, 1237, 1134, 1103, 1077, 1027, 1148, 1037, 1196, 770, 1251, 1403, 1270],
    ]
    .into_iter()
    .enumerate()
    {
        let parameters = parameters(512, 1024, 4096, u8::try_from(level).unwrap());
        assert_eq!(lengths(parameters, &table(), &letters(16 << 10)), expected, "level {level}");
    }
}

#[test]
fn largest_lengths() {
    let parameters = parameters(1 << 20, 4 << 20, 8 << 20, 2);
    assert_eq!(
        lengths(parameters, &table(), &random_bytes(24 << 20)),
        [5_593_633, 5_121_048, 4_521_165, 3_124_390, 4_362_387, 2_443_201]
    );
}

/// From a master key to the cuts: the table's derivation is part of the format as well.
#[test]
fn from_the_master_key() {
    let keys = Keys::new(MasterKey::from_bytes([0x42; 32]), RepositoryId([7; 32]));
    let table = keys.gear_table();
    assert_eq!((table[0], table[255]), (0x26a_f7fa_774b_a7d2, 0x3949_c53f_b9d1_a165));
    assert_eq!(
        lengths(LARGER, &table, &random_bytes(1 << 20)),
        [83_611, 150_277, 178_258, 200_311, 178_209, 207_641, 50_269]
    );
}

#[test]
fn constant_bytes_are_cut_at_the_maximum_or_the_minimum() {
    let parameters = parameters(512, 1024, 4096, 2);
    let data = vec![0x55; 10_000];
    assert_eq!(lengths(parameters, &table(), &data), [4096, 4096, 1808]);
    assert_eq!(lengths(parameters, &[0; 256], &data[..1601]), [512, 512, 512, 65]);
}

/// Where the data ends relative to the three lengths. The oracle leaves out the last byte of an odd rest, so the
/// literals stand alone here.
#[test]
fn ends_of_data() {
    let parameters = parameters(512, 1024, 4096, 0);
    let chunker = Chunker::new(parameters, &table()).unwrap();
    let data = [0x55; 5000];
    for length in [0, 1, 511, 512, 513, 1023, 1024, 1025, 4095, 4096] {
        assert_eq!(chunker.next_cut(&data[..length]), length);
    }
    assert_eq!(chunker.next_cut(&data[..4097]), 4096);
    let always = Chunker::new(parameters, &[0; 256]).unwrap();
    for length in [511, 512, 513, 514, 5000] {
        assert_eq!(always.next_cut(&data[..length]), length.min(512));
    }
}
