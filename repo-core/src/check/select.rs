//! Which packs are read: all, a fixed part of them, or a random choice.

use crate::{
    check::ReadData,
    error::{Error, Result},
    id::PackId,
    runtime::Runtime,
};

/// Refuses what cannot be meant.
pub(super) fn validate(read_data: ReadData) -> Result<()> {
    let problem = match read_data {
        ReadData::Part { n, t } if n == 0 || n > t => format!("there is no part {n} of {t}"),
        ReadData::Percent(percent) if !(percent > 0.0 && percent <= 100.0) => {
            format!("{percent} % is not more than 0 and at most 100")
        }
        ReadData::Bytes(0) => "a check of 0 bytes of data reads nothing".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::Invalid(problem))
}

/// Chooses among packs with their sizes. A random choice takes whole packs until it has at least the size asked for, hence one at
/// least. `packs` is sorted by name.
pub(super) fn choose(packs: Vec<(PackId, u64)>, read_data: ReadData, runtime: &dyn Runtime) -> Vec<PackId> {
    let all_bytes = packs.iter().fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let target_bytes = match read_data {
        ReadData::None => return Vec::new(),
        ReadData::All => return packs.into_iter().map(|(pack, _)| pack).collect(),
        ReadData::Part { n, t } => {
            // Names are hashes, so any of their bytes spread the packs evenly.
            let part = |pack: &PackId| u32::from_be_bytes(*pack.0.first_chunk().unwrap_or(&[0; 4])) % t.max(1) + 1;
            return packs.into_iter().map(|(pack, _)| pack).filter(|pack| part(pack) == n).collect();
        }
        ReadData::Percent(percent) => share(all_bytes, percent),
        ReadData::Bytes(bytes) => bytes,
    };
    // A hash of name and fresh randomness puts them in an order that is new each time.
    let seed = runtime.random_32();
    let mut shuffled: Vec<_> =
        packs.into_iter().map(|(pack, bytes)| (*blake3::keyed_hash(&seed, &pack.0).as_bytes(), pack, bytes)).collect();
    shuffled.sort_unstable_by_key(|(order, ..)| *order);
    let mut chosen_bytes: u64 = 0;
    shuffled
        .into_iter()
        .take_while(|(_, _, bytes)| {
            let wanted = chosen_bytes < target_bytes.max(1);
            chosen_bytes = chosen_bytes.saturating_add(*bytes);
            wanted
        })
        .map(|(_, pack, _)| pack)
        .collect()
}

/// So many percent of a number of bytes, rounded up.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a sample size need not be exact, and stays between 0 and the whole"
)]
fn share(all_bytes: u64, percent: f64) -> u64 {
    if percent >= 100.0 { all_bytes } else { ((all_bytes as f64) * percent / 100.0).ceil() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SystemRuntime;

    fn packs() -> Vec<(PackId, u64)> {
        (0..100u8).map(|i| (PackId([i.wrapping_mul(37); 32]), 10)).collect()
    }

    fn count(read_data: ReadData) -> usize {
        validate(read_data).unwrap();
        choose(packs(), read_data, &SystemRuntime).len()
    }

    #[test]
    fn parts_are_disjoint_and_together_all() {
        for t in [1, 2, 3, 7, 100, 100_000] {
            let mut all: Vec<_> =
                (1..=t).flat_map(|n| choose(packs(), ReadData::Part { n, t }, &SystemRuntime)).collect();
            all.sort_unstable();
            let mut expected: Vec<_> = packs().into_iter().map(|(pack, _)| pack).collect();
            expected.sort_unstable();
            assert_eq!(all, expected, "{t}");
            if t > 1000 {
                break;
            }
        }
    }

    #[test]
    fn samples() {
        assert_eq!(count(ReadData::None), 0);
        assert_eq!(count(ReadData::All), 100);
        assert_eq!(count(ReadData::Percent(100.0)), 100);
        assert_eq!(count(ReadData::Percent(0.001)), 1);
        assert_eq!(count(ReadData::Percent(50.0)), 50);
        assert_eq!(count(ReadData::Bytes(1)), 1);
        assert_eq!(count(ReadData::Bytes(101)), 11);
        assert_eq!(count(ReadData::Bytes(u64::MAX)), 100);
        assert!(choose(Vec::new(), ReadData::Percent(5.0), &SystemRuntime).is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            ReadData::Part { n: 0, t: 5 },
            ReadData::Part { n: 6, t: 5 },
            ReadData::Part { n: 1, t: 0 },
            ReadData::Percent(0.0),
            ReadData::Percent(-1.0),
            ReadData::Percent(100.1),
            ReadData::Percent(f64::NAN),
            ReadData::Percent(f64::INFINITY),
            ReadData::Bytes(0),
        ] {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
    }
}
