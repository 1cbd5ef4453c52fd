//! Cutting: chunks are within their bounds and make up the input, cuts do not depend on how much of what follows is
//! known, and the quick scan cuts where the rule written down says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repo_core::chunker::{Chunker, ChunkerParameters};

/// A table that is not secret: splitmix64.
fn table() -> [u64; 256] {
    std::array::from_fn(|i| {
        let mut x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    })
}

/// The rule as `docs/format.md` has it, byte by byte.
fn by_the_rule(parameters: ChunkerParameters, table: &[u64; 256], data: &[u8]) -> usize {
    let (min, average) = (parameters.min_bytes as usize, parameters.average_bytes as usize);
    let n = data.len().min(parameters.max_bytes as usize);
    let bits = parameters.average_bytes.ilog2();
    let level = u32::from(parameters.normalization);
    let mask = |ones: u32| (u64::MAX >> (64 - ones)) << (61 - ones);
    let mut h = 0_u64;
    for (i, byte) in data.iter().enumerate().take(n).skip(min) {
        h = h.wrapping_mul(2).wrapping_add(table[usize::from(*byte)]);
        if h & mask(if i < average { bits + level } else { bits - level }) == 0 {
            return i;
        }
    }
    n
}

fuzz_target!(|input: &[u8]| {
    let [choice, repeat, some @ ..] = input else { return };
    let parameters = ChunkerParameters {
        min_bytes: 256 + u32::from(*choice) % 7,
        average_bytes: 512 << (choice >> 4 & 1),
        max_bytes: 1024 + u32::from(*choice) * 5,
        normalization: choice & 3,
    };
    let table = table();
    let Ok(chunker) = Chunker::new(parameters, &table) else { return };
    // Repeated with a difference, so that a short input makes a long file.
    let data: Vec<u8> = (0..=repeat % 16).flat_map(|round| some.iter().map(move |byte| byte ^ round)).collect();

    let mut rest = data.as_slice();
    for chunk in chunker.chunks(&data) {
        assert_eq!(chunk, &rest[..chunk.len()]);
        assert_eq!(chunk.len(), by_the_rule(parameters, &table, rest));
        assert!(chunk.len() <= parameters.max_bytes as usize);
        assert!(chunk.len() >= parameters.min_bytes as usize || chunk.len() == rest.len());
        for known in [chunk.len() / 2, chunk.len(), chunk.len() + 1, rest.len()] {
            if let Some(cut) = rest.get(..known).and_then(|known| chunker.certain_cut(known)) {
                assert_eq!(cut, chunk.len(), "a cut that was certain after {known} bytes");
            }
        }
        rest = &rest[chunk.len()..];
    }
    assert!(rest.is_empty());
});
