//! P9: an index without the packs that go.

use std::collections::BTreeSet;

use crate::{
    error::Result,
    id::{IndexId, PackId},
    index::{builder::IndexBuilder, set::IndexSet},
    repository::Repository,
    store::{ObjectName, Place},
};

/// Blobs of one run that is written: what is in memory at once. A larger run is written alone.
const RUN_BLOBS: usize = 1 << 20;

/// For the runs of `index` that name any of `victims` puts runs that name the same without these. Tells which runs are replaced.
///
/// # Errors
/// When a run cannot be put.
pub(super) fn put(repository: &Repository, index: &IndexSet, victims: &BTreeSet<PackId>) -> Result<Vec<IndexId>> {
    let mut old: Vec<IndexId> = Vec::new();
    let mut builder = new_builder(victims);
    for run in index.runs() {
        let mut packs = (0..run.table.counts().packs).filter_map(|row| run.table.pack(row));
        if !packs.any(|pack| victims.contains(&pack.id)) {
            continue;
        }
        let counts = run.table.counts();
        if !builder.is_empty() && builder.blobs() + counts.data as usize + counts.tree as usize > RUN_BLOBS {
            put_run(repository, std::mem::replace(&mut builder, new_builder(victims)))?;
        }
        builder.add_table(&run.table);
        old.push(run.id);
    }
    put_run(repository, builder)?;
    Ok(old)
}

fn new_builder(victims: &BTreeSet<PackId>) -> IndexBuilder {
    let mut builder = IndexBuilder::default();
    builder.leave_out(victims.iter().copied());
    builder
}

fn put_run(repository: &Repository, builder: IndexBuilder) -> Result<()> {
    if builder.is_empty() {
        return Ok(());
    }
    let run = builder.finish(repository.keys(), repository.runtime())?;
    repository.put_object(&ObjectName::new(Place::Index, run.id), &run.bytes)
}
