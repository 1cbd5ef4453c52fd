//! P9: an index without the packs that go.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    error::{Result, StoreErrorKind},
    id::{IndexId, PackId},
    index::{
        builder::IndexBuilder,
        run::read_run,
        set::{IndexSet, Run},
        table::RunTable,
    },
    repository::Repository,
    store::{ObjectName, Place},
};

/// Blobs of one run that is written: what is in memory at once. A larger run is written alone.
const RUN_BLOBS: usize = 1 << 20;

/// Which of the runs that were `put` anew may be deleted: those of which every other pack is named elsewhere, by runs that are listed
/// after the new ones are visible everywhere.
///
/// A pack may not be named there though its run was put, if somebody else has pruned it meanwhile, or the store does not keep what it
/// confirms. The old run then stays until the next prune; an entry without a pack is in nobody's way.
///
/// # Errors
/// When what is there now cannot be listed or read.
pub(super) fn replaced(
    repository: &Repository,
    index: &IndexSet,
    victims: &BTreeSet<PackId>,
    old: &HashSet<IndexId>,
) -> Result<Vec<IndexId>> {
    let named = named_now(repository, index, old)?;
    let is_replaced = |run: &&Run| {
        old.contains(&run.id) && packs_of(&run.table).all(|pack| victims.contains(&pack) || named.contains(&pack))
    };
    Ok(index.runs().iter().filter(is_replaced).map(|run| run.id).collect())
}

/// The packs that runs name which are there now, but for these runs.
fn named_now(repository: &Repository, index: &IndexSet, but: &HashSet<IndexId>) -> Result<HashSet<PackId>> {
    let known: HashMap<IndexId, &Run> = index.runs().iter().map(|run| (run.id, run)).collect();
    let mut named = HashSet::new();
    for info in repository.list(Place::Index)? {
        let id = IndexId::from(info.name.id());
        if but.contains(&id) {
            continue;
        }
        match known.get(&id) {
            Some(run) => named.extend(packs_of(&run.table)),
            // One at a time: together they are as large as the whole index.
            None => match read_run(repository.store(), repository.keys(), id) {
                Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => {}
                table => named.extend(packs_of(&table?)),
            },
        }
    }
    Ok(named)
}

/// For the runs of `index` that name any of `victims`, or what others name too, puts runs that name the same without these. Tells which
/// runs they replace.
///
/// # Errors
/// When a run cannot be put.
pub(super) fn put(repository: &Repository, index: &IndexSet, victims: &BTreeSet<PackId>) -> Result<HashSet<IndexId>> {
    let repeated = repeated(index);
    let mut old = HashSet::new();
    let mut builder = new_builder(victims);
    for run in index.runs() {
        if !packs_of(&run.table).any(|pack| victims.contains(&pack)) && !repeated.contains(&run.id) {
            continue;
        }
        if !builder.is_empty() && builder.blobs() + blobs_of(run) > RUN_BLOBS {
            put_run(repository, std::mem::replace(&mut builder, new_builder(victims)))?;
        }
        builder.add_table(&run.table);
        old.insert(run.id);
    }
    put_run(repository, builder)?;
    Ok(old)
}

/// Runs that name packs which others name too: merged before, by somebody who was not allowed to delete them, or did not come to it. They
/// are put together, as long as that is little.
fn repeated(index: &IndexSet) -> HashSet<IndexId> {
    let mut first: HashMap<PackId, &Run> = HashMap::new();
    let mut repeated: HashMap<IndexId, &Run> = HashMap::new();
    for run in index.runs() {
        for pack in packs_of(&run.table) {
            if let Some(other) = first.insert(pack, run) {
                repeated.insert(other.id, other);
                repeated.insert(run.id, run);
            }
        }
    }
    let blobs: usize = repeated.values().map(|run| blobs_of(run)).sum();
    if blobs > RUN_BLOBS { HashSet::new() } else { repeated.into_keys().collect() }
}

fn packs_of(table: &RunTable) -> impl Iterator<Item = PackId> {
    (0..table.counts().packs).filter_map(|row| table.pack(row)).map(|pack| pack.id)
}

fn blobs_of(run: &Run) -> usize {
    let counts = run.table.counts();
    counts.data as usize + counts.tree as usize
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
    let name = ObjectName::new(Place::Index, run.id);
    repository.put_object(&name, &run.bytes)?;
    repository.read_back(&name)
}
