//! All runs of a repository together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    blob::{BlobKind, BlobLocation, FrameLocation},
    cache::Cache,
    crypto::keys::Keys,
    error::{Error, Result},
    id::{BlobId, IndexId, PackId},
    index::{
        load::{Loaded, load},
        paged::Origin,
        table::{BlobPrefix, PackRow, RunTable},
    },
    store::{ObjectInfo, Store},
};

/// One run of the set.
pub struct Run {
    /// Its name.
    pub id: IndexId,
    /// Its stored size.
    pub size_bytes: u64,
    /// Its tables.
    pub table: Arc<RunTable>,
    /// Number, among all packs of the set, of its first pack.
    first_pack: u32,
}

/// The index of a repository at one moment.
#[derive(Default)]
pub struct IndexSet {
    runs: Vec<Run>,
    /// Where a blob was found last: what is looked for next was mostly stored at the same time, so that one look is enough.
    last: AtomicUsize,
    /// Where tables are kept in files.
    cache: Option<Arc<Cache>>,
}

/// A blob found in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub location: BlobLocation,
    /// Number of its pack among all packs of the set; see [`IndexSet::pack`].
    pub pack: u32,
}

impl IndexSet {
    /// A set without a run, which keeps the tables of those that it reads later in a local cache, if there is one.
    #[must_use]
    pub fn with_cache(cache: Option<Arc<Cache>>) -> Self {
        Self { cache, ..Self::default() }
    }

    /// Lists and reads all runs.
    ///
    /// # Errors
    /// When one of them cannot be read. With `damaged`, runs that are damaged or newer than this program are told of there and left out.
    pub fn load(store: &dyn Store, keys: &Keys, damaged: Option<&mut Vec<Error>>) -> Result<Self> {
        Self::default().load_now(store, keys, damaged)
    }

    /// What this set has become since it was read: lists the runs again and reads those it does not have. `None` if nothing has
    /// changed. Runs that are damaged or newer than this program are left out.
    ///
    /// # Errors
    /// When the store fails.
    pub fn refresh(&self, store: &dyn Store, keys: &Keys) -> Result<Option<Self>> {
        let fresh = self.load_now(store, keys, Some(&mut Vec::new()))?;
        let same = fresh.runs.len() == self.runs.len() && fresh.runs.iter().all(|run| self.run(run.id).is_some());
        Ok((!same).then_some(fresh))
    }

    /// The runs that are there now, all of them; those of this set, which never change, are not read again.
    ///
    /// # Errors
    /// When the store fails, or a run is damaged or newer than this program.
    pub fn reload(&self, store: &dyn Store, keys: &Keys) -> Result<Self> {
        self.load_now(store, keys, None)
    }

    /// Lists all runs, and reads those that are not in this set, which never change.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_now(&self, store: &dyn Store, keys: &Keys, damaged: Option<&mut Vec<Error>>) -> Result<Self> {
        self.load_listed(None, store, keys, damaged)
    }

    /// [`Self::load_now`] for who may have listed the runs a moment ago.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_listed(
        &self,
        listed: Option<Vec<ObjectInfo>>,
        store: &dyn Store,
        keys: &Keys,
        damaged: Option<&mut Vec<Error>>,
    ) -> Result<Self> {
        let origin = Origin { store, keys, cache: self.cache.as_deref() };
        let known = |id| self.run(id).map(|run| Loaded::Whole(Arc::clone(&run.table)));
        let mut set = Self::with_cache(self.cache.clone());
        for (info, loaded) in load(&origin, listed, None, &known, damaged)? {
            if let Loaded::Whole(table) = loaded {
                set.add(info.name.id().into(), info.size_bytes, table);
            }
        }
        Ok(set)
    }

    /// Where it keeps tables.
    pub(super) const fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref()
    }

    /// Adds a run.
    pub fn add(&mut self, id: IndexId, size_bytes: u64, table: Arc<RunTable>) {
        let first_pack = self.packs();
        self.runs.push(Run { id, size_bytes, table, first_pack });
    }

    /// The runs.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn run(&self, id: IndexId) -> Option<&Run> {
        self.runs.iter().find(|run| run.id == id)
    }

    /// Packs of all runs; one that is named by several runs counts several times.
    #[must_use]
    pub fn packs(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.first_pack + run.table.counts().packs)
    }

    /// A pack by its number.
    #[must_use]
    pub fn pack(&self, number: u32) -> Option<PackRow> {
        let behind = self.runs.partition_point(|run| run.first_pack <= number);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        run.table.pack(number - run.first_pack)
    }

    /// The frames of a pack, by its number, that are in this range.
    pub fn frames(&self, pack: u32, ordinals: std::ops::Range<u32>) -> impl Iterator<Item = FrameLocation> {
        let run = self.runs.partition_point(|run| run.first_pack <= pack).checked_sub(1);
        let run = run.and_then(|run| self.runs.get(run));
        run.into_iter().flat_map(move |run| {
            let row = run.table.pack(pack - run.first_pack);
            let rows = row.map_or(0..0, |row| {
                let row_of = |ordinal: u32| row.first_frame.saturating_add(ordinal.min(row.frames));
                row_of(ordinals.start)..row_of(ordinals.end)
            });
            rows.filter_map(|row| run.table.frame(row)).map(|(_, frame)| frame)
        })
    }

    /// Every pack, with how often it is named.
    pub fn all_packs(&self) -> impl Iterator<Item = PackRow> {
        (0..self.packs()).filter_map(|number| self.pack(number))
    }

    /// The first of [`Self::copies`] that `accept` agrees to.
    #[must_use]
    pub fn find_where(&self, kind: BlobKind, id: &BlobId, accept: impl Fn(&PackId) -> bool) -> Option<Found> {
        self.copies(kind, id).find(|found| accept(&found.location.frame.pack))
    }

    /// The first of [`Self::copies`].
    #[must_use]
    pub fn find(&self, kind: BlobKind, id: &BlobId) -> Option<Found> {
        self.copies(kind, id).next()
    }

    /// What was looked at need not stay in memory, as far as it is in files.
    pub fn release(&self) {
        self.runs.iter().for_each(|run| run.table.release());
    }

    /// The runs with their numbers, in the order in which a blob is looked for best.
    pub fn runs_by_nearness(&self) -> impl Iterator<Item = (usize, &Run)> {
        let last = self.last.load(Ordering::Relaxed);
        let all = || self.runs.iter().enumerate();
        all().skip(last).chain(all().take(last.min(self.runs.len())))
    }

    /// Something was found in this run.
    pub fn found_in(&self, run: usize) {
        // Written only when it changes, since all threads read it.
        if self.last.load(Ordering::Relaxed) != run {
            self.last.store(run, Ordering::Relaxed);
        }
    }

    /// All copies of a blob; the same copy comes several times if several runs name it. Runs know the beginnings of ids only: one
    /// that is another blob, whose id begins alike, may be among them, and the next is to be tried then.
    pub fn copies<'a>(&'a self, kind: BlobKind, id: &BlobId) -> impl Iterator<Item = Found> + use<'a> {
        let prefix = BlobPrefix::from(id);
        self.runs_by_nearness().flat_map(move |(number, run)| {
            run.table.find_all(kind, prefix).map(move |(pack, location)| {
                self.found_in(number);
                Found { location, pack: run.first_pack + pack }
            })
        })
    }
}
