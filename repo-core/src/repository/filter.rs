//! Which ids are certainly not in a set: a Bloom filter in blocks.

use crate::index::table::BlobPrefix;

/// Bits for each id: one of some eighty ids that are not there passes.
const BITS_PER_ID: usize = 10;

/// Words of 64 bits in a block: one line of the processor's cache, so that a question costs one look into memory.
const BLOCK_WORDS: usize = 8;

/// Bits set for each id, nine bits of the id for each of them.
const PROBES: u32 = 7;

/// F. Putze, P. Sanders, J. Singler: *Cache-, Hash- and Space-Efficient Bloom Filters* (2007). Ids are hashes already.
pub(super) struct Filter {
    blocks: Vec<[u64; BLOCK_WORDS]>,
}

impl Filter {
    /// A filter without an id, with room for so many.
    pub(super) fn for_ids(ids: usize) -> Self {
        let blocks = (ids.saturating_mul(BITS_PER_ID)).div_ceil(BLOCK_WORDS * 64).max(1);
        Self { blocks: vec![[0; BLOCK_WORDS]; blocks] }
    }

    pub(super) fn add(&mut self, id: &BlobPrefix) {
        let block = self.block(id);
        let Some(block) = self.blocks.get_mut(block) else { return };
        for (word, bit) in places(id) {
            block[word] |= bit;
        }
    }

    /// Whether it was added, or seems so.
    pub(super) fn may_have(&self, id: &BlobPrefix) -> bool {
        let block = self.blocks.get(self.block(id));
        block.is_some_and(|block| places(id).all(|(word, bit)| block[word] & bit != 0))
    }

    /// The number of an id's block, from its last eight bytes.
    fn block(&self, id: &BlobPrefix) -> usize {
        let hash = u64::from_le_bytes(*id.0.last_chunk().unwrap_or(&[0; 8]));
        usize::try_from((u128::from(hash) * self.blocks.len() as u128) >> 64).unwrap_or(0)
    }
}

/// The bits of an id in its block, from its first eight.
fn places(id: &BlobPrefix) -> impl Iterator<Item = (usize, u64)> + use<> {
    let hash = u64::from_le_bytes(*id.0.first_chunk().unwrap_or(&[0; 8]));
    (0..PROBES).map(move |probe| {
        let bits = hash >> (9 * probe);
        ((bits >> 6) as usize % BLOCK_WORDS, 1 << (bits & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlobId;

    fn id(number: u32) -> BlobPrefix {
        BlobPrefix::from(&BlobId(*blake3::hash(&number.to_le_bytes()).as_bytes()))
    }

    #[test]
    fn what_was_added_passes_and_little_else() {
        for count in [0, 1, 60, 10_000] {
            let mut filter = Filter::for_ids(count as usize);
            (0..count).for_each(|number| filter.add(&id(number)));
            assert!((0..count).all(|number| filter.may_have(&id(number))), "{count}");
            let passed = (1_000_000..1_010_000).filter(|number| filter.may_have(&id(*number))).count();
            assert!(passed < 300, "{passed} of 10,000 pass a filter of {count}");
        }
    }
}
