//! What a backup knows of the repository when it begins, and finding again what a run that was killed had stored.
//!
//! Packs are durable before an index run names them. A run that dies between the two leaves packs nobody knows, and its session's
//! note. Where such a note is found, the packs are listed: those without an index are read by their own directories, and those
//! that an index names but that are not there whole do not count, so that what they held is stored anew. The note goes once this
//! backup is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    error::{Error, Result},
    id::{NoteId, PackId},
    index::{builder::IndexBuilder, run::decode_run, set::IndexSet},
    pack::reader::read_directory,
    parallel::both,
    repository::{Repository, first_look::FirstLook, notes::Session},
    store::{ObjectName, Place},
};

/// What a backup begins with.
pub(super) struct Known {
    /// Where blobs are.
    pub(super) index: IndexSet,
    /// Packs of the index whose blobs do not count as stored: condemned, or known not to be there whole.
    pub(super) distrusted: BTreeSet<PackId>,
    /// Notes of sessions that have ended without removing them, to be removed once this backup is committed.
    pub(super) left_behind: Vec<NoteId>,
    /// Index runs that cannot be read. What they name is stored again where it is needed.
    pub(super) damaged: Vec<Error>,
}

impl Known {
    /// Reads notes and index, as far as they were not listed when the repository was opened, and takes in what earlier runs left; stores an index run for it unless this is a dry run.
    ///
    /// # Errors
    /// When the store fails, or a note that says what is being deleted cannot be read.
    pub(super) fn load(
        repository: &Repository,
        mut look: FirstLook,
        own: Option<&Session>,
        dry_run: bool,
    ) -> Result<Self> {
        let mut damaged = Vec::new();
        let runs = look.listed(Place::Index).transpose()?;
        let (notes, index) = both(
            repository.store().abilities().connections,
            || look.notes(repository),
            || repository.load_listed_index(runs, Some(&mut damaged)),
        );
        let (notes, index) = (notes?, index?);
        let left_behind = repository.left_behind(&notes, own)?;
        let mut known = Self { index, distrusted: notes.condemned(), left_behind, damaged };
        if !known.left_behind.is_empty() {
            known.adopt(repository, dry_run)?;
        }
        Ok(known)
    }

    fn adopt(&mut self, repository: &Repository, dry_run: bool) -> Result<()> {
        let mut missing: BTreeMap<PackId, u64> =
            self.index.all_packs().map(|pack| (pack.id, pack.size_bytes.into())).collect();
        let mut unknown = Vec::new();
        for info in repository.list(Place::Data)? {
            let id = PackId::from(info.name.id());
            match missing.get(&id) {
                Some(size_bytes) if *size_bytes == info.size_bytes => _ = missing.remove(&id),
                Some(_) => {}
                None => unknown.push((id, info.size_bytes)),
            }
        }
        unknown.retain(|(id, _)| !self.distrusted.contains(id));
        self.distrusted.extend(missing.into_keys());
        if dry_run {
            return Ok(());
        }
        let mut builder = IndexBuilder::default();
        for (id, size_bytes) in unknown {
            match read_directory(repository.store(), repository.keys(), id, size_bytes) {
                Ok(pack) => {
                    let size_bytes = u32::try_from(size_bytes).unwrap_or(u32::MAX);
                    builder.add_pack(id, pack.key, size_bytes, pack.kind, &pack.directory);
                }
                // None of ours, or not whole; `check` tells of it.
                Err(error) if error.is_damage() || error.is_newer() => {}
                Err(error) => return Err(error),
            }
        }
        if !builder.is_empty() {
            let run = builder.finish(repository.keys(), repository.runtime())?;
            let name = ObjectName::new(Place::Index, run.id);
            repository.put_object(&name, &run.bytes)?;
            let table = decode_run(repository.keys(), &run.bytes, &name)?;
            self.index.add(run.id, run.bytes.len() as u64, Arc::new(table));
        }
        Ok(())
    }
}
