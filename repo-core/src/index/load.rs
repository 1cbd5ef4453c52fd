//! Reading the runs that are listed now.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    cache::table::LARGE_RUN_BYTES,
    error::{Error, Result, StoreErrorKind},
    id::IndexId,
    index::{
        cached,
        paged::{Origin, PagedRun, Paging},
        table::RunTable,
    },
    parallel::for_each,
    store::{ObjectInfo, Place},
};

/// How often a listing is repeated when a run it named is gone: somebody merged it meanwhile.
const LISTINGS_MAX: usize = 5;

/// A run that can be looked into.
#[derive(Clone)]
pub(super) enum Loaded {
    /// Its tables are here.
    Whole(Arc<RunTable>),
    /// It is read page by page.
    Paged(Arc<PagedRun>),
}

/// Lists all runs, and reads those that are not `known`, which never change; with `paging`, large ones that are not in the local cache page
/// by page. What was listed `ahead` is not listed again, unless it names what
/// is gone.
///
/// # Errors
/// When one of them cannot be read. With `damaged`, runs that are damaged or newer than this program are told of there and left out.
pub(super) fn load(
    origin: &Origin<'_>,
    mut ahead: Option<Vec<ObjectInfo>>,
    paging: Option<Paging>,
    known: &dyn Fn(IndexId) -> Option<Loaded>,
    mut damaged: Option<&mut Vec<Error>>,
) -> Result<Vec<(ObjectInfo, Loaded)>> {
    let told = damaged.as_ref().map_or(0, |damaged| damaged.len());
    for _ in 1..LISTINGS_MAX {
        match load_once(origin, ahead.take(), paging, known, damaged.as_deref_mut(), false) {
            Err(error) if is_gone(&error) => {
                if let Some(damaged) = damaged.as_deref_mut() {
                    damaged.truncate(told);
                }
            }
            result => return result,
        }
    }
    load_once(origin, None, paging, known, damaged, true)
}

/// A run that is listed and not there was merged or cleaned by somebody meanwhile; the listing that comes next names what holds its
/// entries. Where listings lag behind, it may be named for a while yet: then it is `passed_over`, as later listings will.
fn load_once(
    origin: &Origin<'_>,
    ahead: Option<Vec<ObjectInfo>>,
    paging: Option<Paging>,
    known: &dyn Fn(IndexId) -> Option<Loaded>,
    mut damaged: Option<&mut Vec<Error>>,
    passed_over: bool,
) -> Result<Vec<(ObjectInfo, Loaded)>> {
    let mut listed: BTreeMap<IndexId, ObjectInfo> = BTreeMap::new();
    let mut add = |info: ObjectInfo| _ = listed.insert(info.name.id().into(), info);
    match ahead {
        Some(ahead) => ahead.into_iter().for_each(add),
        None => origin.store.list(Place::Index, &mut add)?,
    }
    if let Some(cache) = origin.cache {
        let ids = listed.keys().map(|id| (*id).into()).collect();
        cache.retain_tables(&ids);
        cache.retain_pages(&ids);
    }
    let missing: Vec<_> = listed.iter().filter(|(id, _)| known(**id).is_none()).map(|(_, info)| *info).collect();
    let mut fresh = read_all(origin, paging, missing)?;
    let mut runs = Vec::with_capacity(listed.len());
    for (id, info) in listed {
        let run = match fresh.remove(&id) {
            Some(run) => run,
            None => known(id).ok_or(Error::Poisoned),
        };
        match (run, damaged.as_deref_mut()) {
            (Ok(run), _) => runs.push((info, run)),
            (Err(error), _) if is_gone(&error) && passed_over => {}
            (Err(error), _) if is_gone(&error) => return Err(error),
            (Err(error), Some(damaged)) if error.is_damage() || error.is_newer() => damaged.push(error),
            (Err(error), _) => return Err(error),
        }
    }
    Ok(runs)
}

fn is_gone(error: &Error) -> bool {
    error.store_kind() == Some(StoreErrorKind::NotFound)
}

/// Reads runs: several small ones and directories of large ones at once, large ones as a whole one after the other.
fn read_all(
    origin: &Origin<'_>,
    paging: Option<Paging>,
    missing: Vec<ObjectInfo>,
) -> Result<BTreeMap<IndexId, Result<Loaded>>> {
    let paged = |info: &ObjectInfo| paging.filter(|paging| info.size_bytes >= paging.run_bytes_min);
    let (quick, slow): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|info| info.size_bytes < LARGE_RUN_BYTES || paged(info).is_some());
    let fresh = Mutex::new(BTreeMap::new());
    let read = |info: &ObjectInfo| {
        let id = info.name.id().into();
        let run = match paged(info) {
            Some(paging) => match origin.cache.and_then(|cache| cached::kept(cache, id)) {
                Some(table) => Ok(Loaded::Whole(Arc::new(table))),
                None => PagedRun::open(origin, id, info.size_bytes, paging).map(|run| Loaded::Paged(Arc::new(run))),
            },
            None => origin.whole_run(id, info.size_bytes).map(|table| Loaded::Whole(Arc::new(table))),
        };
        match run {
            Err(error) if !error.is_damage() && !error.is_newer() => Err(error),
            run => {
                fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(id, run);
                Ok(())
            }
        }
    };
    for_each(&quick, origin.store.abilities().connections.max(1), read)?;
    slow.iter().try_for_each(read)?;
    Ok(fresh.into_inner().unwrap_or_else(PoisonError::into_inner))
}
