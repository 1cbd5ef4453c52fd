use proptest::prelude::*;

use super::*;

/// The rule as the module's documentation states it, one byte at a time.
fn plain_rule(parameters: ChunkerParameters, table: &[u64; 256], bytes: &[u8]) -> usize {
    let ones = |count: u32| (0..count).map(|bit| 1_u64 << (60 - bit)).sum::<u64>();
    let (bits, level) = (parameters.average_bytes.trailing_zeros(), u32::from(parameters.normalization));
    let end = bytes.len().min(parameters.max_bytes as usize);
    let mut hash = 0_u64;
    for (i, byte) in bytes.iter().enumerate().take(end).skip(parameters.min_bytes as usize) {
        hash = hash.wrapping_mul(2).wrapping_add(table[usize::from(*byte)]);
        let mask = if i < parameters.average_bytes as usize { ones(bits + level) } else { ones(bits - level) };
        if hash & mask == 0 {
            return i;
        }
    }
    end
}

/// What the crate `fastcdc` makes of it.
fn oracle(parameters: ChunkerParameters, table: &[u64; 256], bytes: &[u8]) -> usize {
    let chunker = Chunker::new(parameters, table).unwrap();
    let (strict, loose) = (chunker.strict_mask, chunker.loose_mask);
    let shifted = table.map(|gear| gear << 1);
    fastcdc::v2020::cut_gear(
        bytes,
        parameters.min_bytes as usize,
        parameters.average_bytes as usize,
        parameters.max_bytes as usize,
        strict,
        loose,
        strict << 1,
        loose << 1,
        table,
        &shifted,
    )
    .1
}

/// Pseudo-random numbers by `SplitMix64` (Steele, Lea, Flood 2014).
fn numbers(mut seed: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

fn table(seed: u64) -> [u64; 256] {
    let mut numbers = numbers(seed);
    std::array::from_fn(|_| numbers.next().unwrap())
}

fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    numbers(seed).flat_map(u64::to_le_bytes).take(length).collect()
}

prop_compose! {
    /// Small ones, so that a few kilobytes hold many chunks; even, since the oracle looks at pairs of bytes.
    fn parameters()(bits in 8_u32..=12, less in 0_u32..=4000, more in 0_u32..=8000, normalization in 0_u8..=3)
        -> ChunkerParameters {
        let average_bytes = 1 << bits;
        let min_bytes = (average_bytes - less.min(average_bytes - 256)) & !1;
        ChunkerParameters { min_bytes, average_bytes, max_bytes: average_bytes + (more & !1), normalization }
    }
}

/// Random bytes; few distinct bytes; long runs; a repeated pattern.
fn data() -> impl Strategy<Value = Vec<u8>> {
    (any::<u64>(), 0_usize..40_000, 0_u8..4, 1_usize..300).prop_map(|(seed, length, kind, period)| {
        let mut bytes = random_bytes(seed, length);
        match kind {
            0 => {}
            1 => bytes.iter_mut().for_each(|byte| *byte &= 1),
            2 => {
                for run in bytes.chunks_mut(period * 10) {
                    run.fill(run[0]);
                }
            }
            _ => bytes = bytes.iter().copied().take(period).cycle().take(length).collect(),
        }
        bytes
    })
}

proptest! {
    #[test]
    fn follows_the_plain_rule_and_the_oracle(parameters in parameters(), seed: u64, data in data()) {
        let table = table(seed);
        let chunker = Chunker::new(parameters, &table).unwrap();
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let length = chunker.next_cut(rest);
            prop_assert_eq!(length, plain_rule(parameters, &table, rest));
            let theirs = oracle(parameters, &table, rest);
            if length != theirs {
                // The crate steps by two bytes and leaves out the last byte of an odd rest.
                prop_assert_eq!((theirs, length), (rest.len(), rest.len() - 1));
                prop_assert_eq!(rest.len() % 2, 1);
            }
            rest = &rest[length..];
        }
    }

    /// A buffer that ends too early gives no cut or the right one.
    #[test]
    fn certain_cuts_stay(parameters in parameters(), seed: u64, data in data(), at in 0_usize..40_000) {
        let chunker = Chunker::new(parameters, &table(seed)).unwrap();
        let part = &data[..at.min(data.len())];
        match chunker.certain_cut(part) {
            Some(length) => prop_assert_eq!(length, chunker.next_cut(&data)),
            None => prop_assert!(part.len() < chunker.max_bytes() && chunker.next_cut(&data) >= part.len()),
        }
        prop_assert!(data.len() < chunker.max_bytes() || chunker.certain_cut(&data).is_some());
    }

    #[test]
    fn chunks_are_the_data(parameters in parameters(), seed: u64, data in data()) {
        let chunker = Chunker::new(parameters, &table(seed)).unwrap();
        let chunks: Vec<&[u8]> = chunker.chunks(&data).collect();
        prop_assert_eq!(&chunks.concat(), &data);
        let (min, max) = (parameters.min_bytes as usize, parameters.max_bytes as usize);
        prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= max));
        prop_assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() >= min));
    }
}

/// With default parameters and sizes, against the plain rule and the oracle, for every normalization level.
#[test]
fn default_sizes_follow_the_rule() {
    let data = random_bytes(1, 8 << 20);
    for normalization in 0..=3 {
        let parameters = ChunkerParameters { normalization, ..ChunkerParameters::default() };
        let table = table(2);
        let chunker = Chunker::new(parameters, &table).unwrap();
        let mut rest = data.as_slice();
        let mut count = 0;
        while !rest.is_empty() {
            let length = chunker.next_cut(rest);
            assert_eq!(length, plain_rule(parameters, &table, rest));
            assert_eq!(length, oracle(parameters, &table, rest));
            rest = &rest[length..];
            count += 1;
        }
        assert!((60..200).contains(&count), "level {normalization}: {count} chunks");
    }
}

#[test]
fn edges() {
    let parameters = ChunkerParameters { min_bytes: 256, average_bytes: 512, max_bytes: 1024, normalization: 1 };
    let (min, average, max) = (256, 512, 1024);
    // Every hash is zero: each position cuts, the first one being the minimum.
    let always = Chunker::new(parameters, &[0; 256]).unwrap();
    // Bit 57 of every hash is one: nothing ever cuts.
    let never = Chunker::new(parameters, &[1 << 57; 256]).unwrap();
    for length in [0, 1, min - 1, min, min + 1, average - 1, average, average + 1, max - 1, max, max + 1, 3 * max] {
        let data = vec![7; length];
        assert_eq!(always.next_cut(&data), length.min(min), "{length}");
        assert_eq!(never.next_cut(&data), length.min(max), "{length}");
        assert_eq!(always.certain_cut(&data), (length > min).then_some(min), "{length}");
        assert_eq!(never.certain_cut(&data), (length >= max).then_some(max), "{length}");
    }
    assert_eq!(always.chunks(&[]).count(), 0);
}

/// The first byte that counts is the one at the minimum, the last one that at `max - 1`.
#[test]
fn every_position_between_minimum_and_maximum_can_cut() {
    let parameters = ChunkerParameters { min_bytes: 256, average_bytes: 512, max_bytes: 1024, normalization: 0 };
    // Zeros keep the hash at its odd value that never cuts; a one at `position` makes it a multiple of 2^61.
    let masked = mask(9);
    let mut table = [0; 256];
    table[0] = 1 << 52;
    for position in 0..1100_usize {
        let mut hash = 0_u64;
        for _ in 256..position {
            hash = (hash << 1).wrapping_add(table[0]);
        }
        table[1] = 0_u64.wrapping_sub(hash << 1);
        let chunker = Chunker::new(parameters, &table).unwrap();
        let mut data = vec![0; 1200];
        data[position] = 1;
        let length = chunker.next_cut(&data);
        assert_eq!(length, plain_rule(parameters, &table, &data), "{position}");
        if (256..1024).contains(&position) {
            assert_eq!(length, position);
        }
    }
    assert_eq!(masked.count_ones(), 9);
}

/// Data inserted at the front moves the cuts, but soon they fall on the same bytes again.
#[test]
fn cuts_resynchronize() {
    let parameters = ChunkerParameters { min_bytes: 256, average_bytes: 1024, max_bytes: 4096, normalization: 2 };
    let chunker = Chunker::new(parameters, &table(3)).unwrap();
    let data = random_bytes(4, 1 << 20);
    let ends = |data: &[u8], from: usize| -> std::collections::HashSet<usize> {
        let mut end = 0;
        chunker
            .chunks(data)
            .map(|chunk| {
                end += chunk.len();
                data.len() - end
            })
            .filter(|to_the_end| *to_the_end < from)
            .collect()
    };
    for inserted in [1, 17, 300, 5000] {
        let moved = [random_bytes(5, inserted), data.clone()].concat();
        let from = (1 << 20) - (64 << 10);
        assert_eq!(ends(&data, from), ends(&moved, from), "{inserted}");
    }
}
