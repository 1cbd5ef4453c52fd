//! The numbers that, with the secret table, decide where files are cut; stored in the repository's config.

use serde::{Deserialize, Serialize};

use crate::limits;

/// Smallest value of any of the three lengths. Of use to tests only; a real repository would drown in entries.
const BYTES_MIN: u32 = 256;

/// Largest value of any of the three lengths: the largest blob.
#[expect(clippy::cast_possible_truncation, reason = "8 MiB; a test holds it")]
const BYTES_MAX: u32 = limits::BLOB_BYTES_MAX as u32;

/// Largest normalization level, as in the paper.
const NORMALIZATION_MAX: u8 = 3;

/// Lengths of chunks. Two repositories share cut points only if these and the key are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkerParameters {
    /// No chunk but a file's last is shorter.
    pub min_bytes: u32,
    /// What lengths are drawn towards; a power of two.
    pub average_bytes: u32,
    /// No chunk is longer.
    pub max_bytes: u32,
    /// How strongly: the masks have as many ones more before the average and fewer behind it (0 to 3).
    pub normalization: u8,
}

impl Default for ChunkerParameters {
    /// 16 KiB, 64 KiB, 256 KiB (`docs/decisions/0005-sizes.md`), level 2: the level that found most duplicates for its number of chunks.
    fn default() -> Self {
        Self { min_bytes: 16 << 10, average_bytes: 64 << 10, max_bytes: 256 << 10, normalization: 2 }
    }
}

/// Why chunker parameters are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    /// One of the lengths is too small or too large.
    #[error("the {which} chunk length of {bytes} bytes is not between {BYTES_MIN} and {BYTES_MAX}")]
    Length {
        /// Which one.
        which: &'static str,
        /// What it is.
        bytes: u32,
    },
    /// The lengths are not in ascending order.
    #[error("chunk lengths must ascend: minimum {min_bytes}, average {average_bytes}, maximum {max_bytes} bytes")]
    Order {
        /// The minimum.
        min_bytes: u32,
        /// The average.
        average_bytes: u32,
        /// The maximum.
        max_bytes: u32,
    },
    /// The average is no power of two, so that no number of mask bits fits it.
    #[error("the average chunk length of {0} bytes is not a power of two")]
    NotPowerOfTwo(u32),
    /// There is no such level.
    #[error("normalization level {0} is not between 0 and {NORMALIZATION_MAX}")]
    Normalization(u8),
}

impl ChunkerParameters {
    /// Holds the parameters against their bounds; to be called on what a config says, too.
    ///
    /// # Errors
    /// Names the first bound that is broken.
    pub fn validate(&self) -> Result<(), ParametersError> {
        let Self { min_bytes, average_bytes, max_bytes, normalization } = *self;
        for (which, bytes) in [("minimum", min_bytes), ("average", average_bytes), ("maximum", max_bytes)] {
            if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
                return Err(ParametersError::Length { which, bytes });
            }
        }
        if !average_bytes.is_power_of_two() {
            return Err(ParametersError::NotPowerOfTwo(average_bytes));
        }
        if min_bytes > average_bytes || average_bytes > max_bytes {
            return Err(ParametersError::Order { min_bytes, average_bytes, max_bytes });
        }
        if normalization > NORMALIZATION_MAX {
            return Err(ParametersError::Normalization(normalization));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        assert_eq!(u64::from(BYTES_MAX), limits::BLOB_BYTES_MAX as u64);
        let good = ChunkerParameters::default();
        assert_eq!(good.validate(), Ok(()));
        let all = |bytes| ChunkerParameters { min_bytes: bytes, average_bytes: bytes, max_bytes: bytes, ..good };
        for bytes in [BYTES_MIN, BYTES_MAX] {
            assert_eq!(all(bytes).validate(), Ok(()), "{bytes}");
        }
        for (bad, error) in [
            (all(0), ParametersError::Length { which: "minimum", bytes: 0 }),
            (all(BYTES_MIN - 1), ParametersError::Length { which: "minimum", bytes: BYTES_MIN - 1 }),
            (
                ChunkerParameters { average_bytes: u32::MAX, ..good },
                ParametersError::Length { which: "average", bytes: u32::MAX },
            ),
            (
                ChunkerParameters { max_bytes: BYTES_MAX + 1, ..good },
                ParametersError::Length { which: "maximum", bytes: BYTES_MAX + 1 },
            ),
            (ChunkerParameters { average_bytes: 100_000, ..good }, ParametersError::NotPowerOfTwo(100_000)),
            (
                ChunkerParameters { min_bytes: (64 << 10) + 1, ..good },
                ParametersError::Order { min_bytes: (64 << 10) + 1, average_bytes: 64 << 10, max_bytes: 256 << 10 },
            ),
            (
                ChunkerParameters { max_bytes: 32 << 10, ..good },
                ParametersError::Order { min_bytes: 16 << 10, average_bytes: 64 << 10, max_bytes: 32 << 10 },
            ),
            (ChunkerParameters { normalization: 4, ..good }, ParametersError::Normalization(4)),
        ] {
            assert_eq!(bad.validate(), Err(error), "{bad:?}");
        }
    }
}
