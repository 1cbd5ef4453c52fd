//! What a check would ask of the store.

use super::{CheckOptions, select};
use crate::{
    blob::BlobKind,
    error::Result,
    index::set::IndexSet,
    repository::Repository,
    store::{Place, count::Counts},
};

/// About what a check of the repository, as it is now, takes: known from its index and from listings, without reading what would be checked.
/// Trees are counted as whole packs, of which a check reads the parts that it needs.
///
/// # Errors
/// When the options make no sense, the store fails, or the index cannot be read.
pub fn foresee(repository: &Repository, options: CheckOptions) -> Result<Counts> {
    select::validate(options.read_data)?;
    let index = IndexSet::load(repository.store(), repository.keys(), None)?;
    let mut counts = Counts { gets: 1, ..Counts::default() }; // the config
    for place in Place::HASHED {
        counts.lists += 1;
        for info in repository.list(place)? {
            counts.listed_entries += 1;
            if place != Place::Data {
                counts.gets += 1;
                counts.read_bytes += info.size_bytes;
            }
        }
    }
    // Packs and the index are looked at anew at the end.
    counts.lists += 2;
    let packs: Vec<_> = index.all_packs().map(|row| (row.id, row.kind, u64::from(row.size_bytes))).collect();
    let chosen = select::choose(
        packs.iter().map(|(id, _, size)| (*id, *size)).collect(),
        options.read_data,
        repository.runtime(),
    );
    let chosen: std::collections::BTreeSet<_> = chosen.into_iter().collect();
    for (id, kind, size_bytes) in packs {
        let reads = u64::from(kind == BlobKind::Tree) + u64::from(chosen.contains(&id));
        counts.gets += reads;
        counts.read_bytes += reads * size_bytes;
    }
    Ok(counts)
}
