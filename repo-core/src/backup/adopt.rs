//! Finding again what a run that was killed had stored.
//!
//! Packs are durable before an index run names them. A run that dies between the two leaves packs nobody knows. It also leaves its
//! session's note; where there is one, the packs are listed, and those without an index are read by their own directories.

use std::collections::BTreeSet;

use crate::{
    error::Result,
    id::PackId,
    index::{builder::IndexBuilder, run::decode_run, set::IndexSet},
    pack::reader::read_directory,
    repository::Repository,
    store::{ObjectName, Place},
};

/// Reads the index; adds a run for packs that were left without one.
///
/// # Errors
/// When the index cannot be read. A pack that cannot be read is none of ours; `check` tells of it.
pub(super) fn load_index(repository: &Repository, dry_run: bool) -> Result<IndexSet> {
    let notes = repository.notes()?;
    let mut index = IndexSet::load(repository.store(), repository.keys(), None)?;
    if notes.sessions.is_empty() || dry_run {
        return Ok(index);
    }
    let known: BTreeSet<PackId> = index.all_packs().map(|pack| pack.id).collect();
    let condemned = notes.condemned();
    let mut builder = IndexBuilder::default();
    for info in repository.list(Place::Data)? {
        let id = PackId::from(info.name.id());
        if known.contains(&id) || condemned.contains(&id) {
            continue;
        }
        let (Ok(pack), Ok(size_bytes)) = (
            read_directory(repository.store(), repository.keys(), id, info.size_bytes),
            u32::try_from(info.size_bytes),
        ) else {
            continue;
        };
        builder.add_pack(id, pack.salt, size_bytes, pack.kind, &pack.directory);
    }
    if !builder.is_empty() {
        let run = builder.finish(repository.keys(), repository.runtime())?;
        let name = ObjectName::new(Place::Index, run.id);
        repository.put_object(&name, &run.bytes)?;
        let table = decode_run(repository.keys(), &run.bytes, &name)?;
        index.add(run.id, run.bytes.len() as u64, table);
    }
    Ok(index)
}
