//! The index for those who look up a few blobs: small runs, and those in the local cache, as a whole; large ones page by page.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    blob::{BlobKind, BlobLocation, FrameLocation},
    cache::Cache,
    error::{Error, Result},
    id::BlobId,
    index::{
        load::{Loaded, load},
        paged::{Origin, PagedFound, PagedRun, Paging},
        set::{Found, IndexSet},
        table::{BlobPrefix, PackRow},
    },
    parallel::for_each,
};

/// The index of a repository at one moment, of which not all is here.
pub struct Lookup {
    whole: Arc<IndexSet>,
    /// The run that was stored last comes first: what is looked for first, the root of a tree, is most likely in there.
    paged: Vec<Arc<PagedRun>>,
    paging: Option<Paging>,
    /// Among those that are read page by page, the run in which something was found last.
    last: AtomicUsize,
}

/// A blob found in the index.
#[derive(Debug, Clone, Copy)]
pub struct Located {
    /// Where it lies.
    pub location: BlobLocation,
    /// Its pack.
    pub pack: PackRow,
    place: LocatedIn,
}

#[derive(Debug, Clone, Copy)]
enum LocatedIn {
    Whole(Found),
    Paged(usize, PagedFound),
}

impl From<Arc<IndexSet>> for Lookup {
    /// An index of which everything is here, and which stays so.
    fn from(whole: Arc<IndexSet>) -> Self {
        Self { whole, paged: Vec::new(), paging: None, last: AtomicUsize::new(0) }
    }
}

impl Lookup {
    /// Lists all runs and reads what is to be read beforehand.
    ///
    /// # Errors
    /// When one of them cannot be read. With `damaged`, runs that are damaged or newer than this program are told of there and left out.
    pub fn load(
        origin: &Origin<'_>,
        cache: Option<Arc<Cache>>,
        paging: Paging,
        damaged: Option<&mut Vec<Error>>,
    ) -> Result<Self> {
        let nothing = Arc::new(IndexSet::with_cache(cache));
        Self { whole: nothing, paged: Vec::new(), paging: Some(paging), last: AtomicUsize::new(0) }
            .load_now(origin, damaged)
    }

    fn load_now(&self, origin: &Origin<'_>, damaged: Option<&mut Vec<Error>>) -> Result<Self> {
        let known = |id| match self.whole.run(id) {
            Some(run) => Some(Loaded::Whole(Arc::clone(&run.table))),
            None => self.paged.iter().find(|run| run.id() == id).map(|run| Loaded::Paged(Arc::clone(run))),
        };
        let mut whole = IndexSet::with_cache(self.whole.cache().cloned());
        let mut paged = Vec::new();
        for (info, loaded) in load(origin, None, self.paging, &known, damaged)? {
            match loaded {
                Loaded::Whole(table) => whole.add(info.name.id().into(), info.size_bytes, table),
                Loaded::Paged(run) => paged.push((info.modified, run)),
            }
        }
        paged.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
        let paged = paged.into_iter().map(|(_, run)| run).collect();
        Ok(Self { whole: Arc::new(whole), paged, paging: self.paging, last: AtomicUsize::new(0) })
    }

    /// What it has become since it was read: lists the runs again and reads those it does not have. `None` if nothing has changed. Runs
    /// that are damaged or newer than this program are left out.
    ///
    /// # Errors
    /// When the store fails.
    pub fn refresh(&self, origin: &Origin<'_>) -> Result<Option<Self>> {
        if self.paging.is_none() {
            return Ok(self.whole.refresh(origin.store, origin.keys)?.map(|whole| Self::from(Arc::new(whole))));
        }
        let fresh = self.load_now(origin, Some(&mut Vec::new()))?;
        let is_known = |run: &Arc<PagedRun>| self.paged.iter().any(|known| known.id() == run.id());
        let same = fresh.whole.runs().len() == self.whole.runs().len()
            && fresh.paged.len() == self.paged.len()
            && fresh.whole.runs().iter().all(|run| self.whole.run(run.id).is_some())
            && fresh.paged.iter().all(is_known);
        Ok((!same).then_some(fresh))
    }

    /// The runs that are here as a whole.
    #[must_use]
    pub const fn whole(&self) -> &Arc<IndexSet> {
        &self.whole
    }

    /// The runs that are read page by page.
    #[must_use]
    pub fn paged(&self) -> &[Arc<PagedRun>] {
        &self.paged
    }

    /// All copies of a blob, as [`IndexSet::copies`] gives them; those that cost no request first. A run that cannot be looked into gives
    /// its error.
    pub fn copies<'a>(
        &'a self,
        origin: Origin<'a>,
        kind: BlobKind,
        id: &BlobId,
    ) -> impl Iterator<Item = Result<Located>> + use<'a> {
        let prefix = BlobPrefix::from(id);
        let whole = self.whole.copies(kind, id).filter_map(|found| {
            let pack = self.whole.pack(found.pack)?;
            Some(Ok(Located { location: found.location, pack, place: LocatedIn::Whole(found) }))
        });
        // The run in which something was found last, those that have been read as a whole meanwhile, and only then all others, at once.
        let last = self.last.load(Ordering::Relaxed);
        let mut away = Vec::new();
        let stages = if self.paged.is_empty() { 0..0 } else { 0..3 };
        let paged = stages.flat_map(move |stage| {
            let numbers = match stage {
                0 => vec![last],
                1 => {
                    let is_here = |number: &usize| self.paged.get(*number).is_some_and(|run| run.is_whole());
                    let (here, others) = (0..self.paged.len()).filter(|number| *number != last).partition(is_here);
                    away = others;
                    here
                }
                _ => std::mem::take(&mut away),
            };
            let threads = if stage < 2 { 1 } else { origin.store.abilities().connections.max(1) };
            self.find_in(&origin, &numbers, threads, kind, prefix)
        });
        whole.chain(paged)
    }

    /// What these of the runs that are read page by page have.
    fn find_in(
        &self,
        origin: &Origin<'_>,
        numbers: &[usize],
        threads: usize,
        kind: BlobKind,
        prefix: BlobPrefix,
    ) -> Vec<Result<Located>> {
        let all = Mutex::new(Vec::new());
        let look = |number: &usize| {
            let Some(run) = self.paged.get(*number) else { return Ok(()) };
            let found = run.find_all(origin, kind, prefix);
            all.lock().unwrap_or_else(PoisonError::into_inner).push((*number, found));
            Ok(())
        };
        // Each tells of its own failure.
        let _ = for_each(numbers, threads, look);
        let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.sort_by_key(|(number, _)| *number);
        let mut located = Vec::new();
        for (number, found) in all {
            match found {
                Ok(found) => located.extend(found.into_iter().map(|found| {
                    let place = LocatedIn::Paged(number, found);
                    Ok(Located { location: found.location, pack: found.pack, place })
                })),
                Err(error) => located.push(Err(error)),
            }
        }
        // Where there is one copy, the failure of another run is nobody's business.
        located.sort_by_key(Result::is_err);
        if let Some(Ok(Located { place: LocatedIn::Paged(number, _), .. })) = located.first() {
            self.last.store(*number, Ordering::Relaxed);
        }
        located
    }

    /// The frames, in this range, of the pack in which something was found, as far as they are known without a request.
    #[must_use]
    pub fn frames(&self, located: &Located, ordinals: Range<u32>) -> Vec<FrameLocation> {
        match located.place {
            LocatedIn::Whole(found) => self.whole.frames(found.pack, ordinals).collect(),
            LocatedIn::Paged(number, found) => {
                self.paged.get(number).map_or_else(Vec::new, |run| run.frames(&found, ordinals))
            }
        }
    }
}
