//! From a password to a key: Argon2id (RFC 9106).

use argon2::{Algorithm, Argon2, Block, Params, Version};
use rayon::iter::{ParallelExtend, repeat_n};
use zeroize::Zeroizing;

/// Bytes Argon2id gives: a wrapping key and a commitment to it.
pub const OUTPUT_BYTES: usize = 64;

/// Costs of the derivation, stored in the key slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Why a password could not be turned into a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KdfError {
    /// The stored costs would let a hostile store exhaust this machine, or are not valid at all.
    #[error("key derivation costs out of bounds: {memory_kib} KiB, {passes} passes, {lanes} lanes")]
    OutOfBounds {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// The memory could not be had.
    #[error("key derivation failed: {0}")]
    Failed(String),
}

impl KdfCost {
    /// RFC 9106's second recommendation, the floor for new keys.
    pub const RECOMMENDED: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };

    /// Next to nothing, for tests that make many repositories.
    #[cfg(any(test, feature = "test-support"))]
    pub const TEST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    /// # Errors
    /// When a reader must refuse these costs before running them: above 4 GiB, 64 passes or 64 lanes, or not valid
    /// for Argon2.
    pub const fn check(self) -> Result<(), KdfError> {
        let Self { memory_kib, passes, lanes } = self;
        if memory_kib > 4 << 20 || passes > 64 || lanes > 64 || passes == 0 || lanes == 0 || memory_kib / 8 < lanes {
            return Err(KdfError::OutOfBounds { memory_kib, passes, lanes });
        }
        Ok(())
    }
}

/// Derives 64 bytes from a password.
///
/// # Errors
/// When the costs are out of bounds or the memory cannot be had.
pub fn derive(password: &[u8], salt: &[u8; 32], cost: KdfCost) -> Result<Zeroizing<[u8; OUTPUT_BYTES]>, KdfError> {
    cost.check()?;
    let failed = |error: argon2::Error| KdfError::Failed(error.to_string());
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(OUTPUT_BYTES)).map_err(failed)?;
    let mut memory = memory(params.block_count())?;
    let mut output = Zeroizing::new([0; OUTPUT_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, output.as_mut_slice(), &mut memory)
        .map_err(failed)?;
    Ok(output)
}

/// So many blocks, filled by all processors: to touch new memory for the first time takes as long as a pass over it.
fn memory(blocks: usize) -> Result<Vec<Block>, KdfError> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(blocks).map_err(|error| KdfError::Failed(error.to_string()))?;
    memory.par_extend(repeat_n(Block::new(), blocks));
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_costs_are_refused_before_they_run() {
        for (memory_kib, passes, lanes) in
            [(u32::MAX, 1, 1), (64, u32::MAX, 1), (64, 1, u32::MAX), (64, 0, 1), (64, 1, 0), (0, 1, 1), (15, 1, 2)]
        {
            let cost = KdfCost { memory_kib, passes, lanes };
            assert!(matches!(derive(b"x", &[0; 32], cost), Err(KdfError::OutOfBounds { .. })), "{cost:?}");
        }
    }
}
