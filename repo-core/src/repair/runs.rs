//! Every index run there is: sound, damaged, or newer than this program.

use std::sync::Arc;

use crate::{
    error::{Error, Result, StoreErrorKind},
    index::{
        digest,
        run::decode_run,
        table::{PackRow, RunTable},
    },
    limits,
    pack::builder::object_id,
    repository::Repository,
    store::{ByteRange, ObjectName, Place},
};

/// How often the runs are listed again because one was gone: somebody merged it meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// A run that can be read.
pub(super) struct ReadRun {
    pub(super) name: ObjectName,
    pub(super) table: Arc<RunTable>,
    /// What it says of each of its packs, by row.
    pub(super) digests: Vec<u64>,
    /// Its bytes are not those it is named by, though they open.
    pub(super) misnamed: bool,
}

impl ReadRun {
    /// Its packs, each with what it says of it.
    pub(super) fn packs(&self) -> impl Iterator<Item = (PackRow, u64)> {
        let rows = (0..self.table.counts().packs).filter_map(|row| self.table.pack(row));
        rows.zip(self.digests.iter().copied())
    }
}

/// All runs.
#[derive(Default)]
pub(super) struct Runs {
    pub(super) read: Vec<ReadRun>,
    /// Those that are damaged, and how.
    pub(super) damaged: Vec<(ObjectName, Error)>,
    /// Those of a newer version. They are left as they are.
    pub(super) newer: Vec<Error>,
}

impl Runs {
    /// Reads them.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn read(repository: &Repository) -> Result<Self> {
        for attempt in 1.. {
            match Self::read_once(repository) {
                Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) && attempt < ATTEMPTS_MAX => {}
                result => return result,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn read_once(repository: &Repository) -> Result<Self> {
        let mut runs = Self::default();
        let mut bytes = Vec::new();
        for info in repository.list(Place::Index)? {
            let name = info.name;
            let range = ByteRange::WholeUpTo { limit_bytes: limits::INDEX_BYTES_MAX };
            let got = repository.store().get(&name, range, &mut bytes).map_err(Error::from);
            match got.and_then(|()| decode_run(repository.keys(), &bytes, &name)) {
                Ok(table) => {
                    let misnamed = object_id(&bytes) != name.id();
                    let digests = digest::of_packs(&table);
                    runs.read.push(ReadRun { name, table: Arc::new(table), digests, misnamed });
                }
                Err(error) if error.is_newer() => runs.newer.push(error),
                Err(error) => match error.store_kind() {
                    // The store cannot give this one: a bad sector.
                    Some(StoreErrorKind::Damage | StoreErrorKind::Permanent) => runs.damaged.push((name, error)),
                    None if error.is_damage() => runs.damaged.push((name, error)),
                    _ => return Err(error),
                },
            }
        }
        Ok(runs)
    }
}
