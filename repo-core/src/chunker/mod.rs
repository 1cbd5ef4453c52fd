//! Content-defined chunking: where a file is cut into the pieces that are deduplicated.
//!
//! The rule is that of `FastCDC` in its 2020 form (Xia, Zou, Jiang, Zhou, Liu, Feng, Liu, Zhang: "The Design of Fast
//! Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 31(9), 2020): a gear hash that
//! starts anew behind the minimum of each chunk, and two masks that pull lengths towards the average. The gear table
//! is a secret of the repository ([`crate::crypto::keys::Keys::gear_table`]). Everything below is normative and
//! changes no more: another cut point would store every file again.
//!
//! Let `b` be the data from the beginning of the chunk, `T` the table, `n` the smaller of the data's length and
//! `max`, and arithmetic be modulo 2^64. For `i` from `min` to `n - 1`:
//!
//! ```text
//! h = 2 * h + T[b[i]]                       (h is 0 before the first step)
//! mask = strict when i < average, loose otherwise
//! if h AND mask == 0: the chunk is the first i bytes, and byte i begins the next one
//! ```
//!
//! If no `i` cuts, the chunk has `n` bytes. With `average = 2^a` and the normalization level `l`, the strict mask has
//! `a + l` one bits and the loose one `a - l`; the ones of both are contiguous and the topmost is bit 60. A byte leaves
//! bit 60 after 61 steps, so a cut depends on the 61 bytes up to it and on nothing before the minimum.
//!
//! The paper spreads its mask bits by hand over the lower 48; contiguous high ones see more bytes, have a rule instead
//! of a table, and deduplicated disk images and archives as well or slightly better when measured.

mod parameters;

use zeroize::Zeroizing;

pub use parameters::{ChunkerParameters, ParametersError};

/// Bytes that one step of the scan looks at.
const STEP_BYTES: usize = 4;

/// Position of the topmost one of every mask. As many bits above it stay free as the scan shifts by.
const MASK_TOP_BIT: u32 = 60;

const _: () = assert!(MASK_TOP_BIT as usize + STEP_BYTES <= u64::BITS as usize);

/// Cuts data into chunks. Immutable: one serves all threads.
pub struct Chunker {
    parameters: ChunkerParameters,
    min_bytes: usize,
    average_bytes: usize,
    max_bytes: usize,
    strict_mask: u64,
    loose_mask: u64,
    /// The gear table shifted left by 3, 2, 1 and 0 bits: what a byte adds at each place of a step.
    tables: Box<Zeroizing<[[u64; 256]; STEP_BYTES]>>,
}

impl Chunker {
    /// A chunker with these parameters and this gear table.
    ///
    /// # Errors
    /// When the parameters are out of bounds.
    pub fn new(parameters: ChunkerParameters, gear_table: &[u64; 256]) -> Result<Self, ParametersError> {
        parameters.validate()?;
        let average_bits = parameters.average_bytes.ilog2();
        let normalization = u32::from(parameters.normalization);
        let mut tables = Box::new(Zeroizing::new([[0; 256]; STEP_BYTES]));
        for (table, shift) in tables.iter_mut().zip((0..STEP_BYTES).rev()) {
            for (shifted, gear) in table.iter_mut().zip(gear_table) {
                *shifted = gear << shift;
            }
        }
        Ok(Self {
            parameters,
            min_bytes: parameters.min_bytes as usize,
            average_bytes: parameters.average_bytes as usize,
            max_bytes: parameters.max_bytes as usize,
            strict_mask: mask(average_bits + normalization),
            loose_mask: mask(average_bits - normalization),
            tables,
        })
    }

    /// The parameters it was made with.
    #[must_use]
    pub const fn parameters(&self) -> ChunkerParameters {
        self.parameters
    }

    /// Bytes that decide every cut: with so many at hand, [`Self::next_cut`] is right in the middle of a file too.
    #[must_use]
    pub const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Length of the chunk that begins with `bytes`, which is either at least [`Self::max_bytes`] long or the rest of
    /// the file. Zero only when `bytes` is empty.
    #[must_use]
    pub fn next_cut(&self, bytes: &[u8]) -> usize {
        self.certain_cut(bytes).unwrap_or(bytes.len())
    }

    /// Length of the chunk that begins with `bytes` if no byte that may follow can change it; nothing if more bytes
    /// are needed. At the end of the file the chunk is then all that is left.
    #[must_use]
    pub fn certain_cut(&self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.len().min(self.max_bytes);
        let middle = end.min(self.average_bytes);
        let mut hash = 0;
        let strict = bytes.get(self.min_bytes..middle).unwrap_or_default();
        let loose = bytes.get(self.average_bytes..end).unwrap_or_default();
        self.scan(strict, &mut hash, self.strict_mask)
            .map(|position| self.min_bytes + position)
            .or_else(|| self.scan(loose, &mut hash, self.loose_mask).map(|position| self.average_bytes + position))
            .or_else(|| (end == self.max_bytes).then_some(end))
    }

    /// The chunks of a whole file that is in memory; together they are the file, and none is empty.
    pub fn chunks<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let (chunk, behind) = rest.split_at_checked(self.next_cut(rest))?;
            rest = behind;
            (!chunk.is_empty()).then_some(chunk)
        })
    }

    /// Position of the first byte at which the hash has no bit of `mask`; goes on with `hash`.
    ///
    /// One byte at a time, each hash waits for the one before. Here a step of four bytes shifts the hash once and
    /// adds table entries that are shifted already, so that only a shift and an addition wait, and tests each of the
    /// four sums with the mask shifted as they are. The free bits above the masks are what makes that the same.
    ///
    /// Kept out of line and with the places of a step read one by one: both forms together compile to a loop that is a
    /// quarter faster.
    #[inline(never)]
    fn scan(&self, bytes: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        let [by_3, by_2, by_1, by_0] = &**self.tables;
        let (steps, rest) = bytes.as_chunks::<STEP_BYTES>();
        let mut h = *hash;
        for (step, places) in steps.iter().enumerate() {
            h <<= STEP_BYTES;
            let mut sum = by_3[usize::from(places[0])];
            if h.wrapping_add(sum) & mask << 3 == 0 {
                return Some(step * STEP_BYTES);
            }
            sum = sum.wrapping_add(by_2[usize::from(places[1])]);
            if h.wrapping_add(sum) & mask << 2 == 0 {
                return Some(step * STEP_BYTES + 1);
            }
            sum = sum.wrapping_add(by_1[usize::from(places[2])]);
            if h.wrapping_add(sum) & mask << 1 == 0 {
                return Some(step * STEP_BYTES + 2);
            }
            sum = sum.wrapping_add(by_0[usize::from(places[3])]);
            h = h.wrapping_add(sum);
            if h & mask == 0 {
                return Some(step * STEP_BYTES + 3);
            }
        }
        for (position, &byte) in rest.iter().enumerate() {
            h = (h << 1).wrapping_add(by_0[usize::from(byte)]);
            if h & mask == 0 {
                return Some(steps.len() * STEP_BYTES + position);
            }
        }
        *hash = h;
        None
    }
}

impl std::fmt::Debug for Chunker {
    /// Without the table, which is secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Chunker").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

/// `ones` one bits, the topmost at [`MASK_TOP_BIT`].
const fn mask(ones: u32) -> u64 {
    ((1 << ones) - 1) << (MASK_TOP_BIT + 1 - ones)
}

#[cfg(test)]
mod tests;
