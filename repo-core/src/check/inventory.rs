//! What the index says there is, held against what the store lists.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    check::{
        Context,
        finding::{FindingKind, pack_name},
        losses::Losses,
        objects::{WRONG_NAME, concerns_one_object, what},
    },
    error::{Error, Result, StoreErrorKind},
    id::PackId,
    index::{
        digest,
        run::decode_run,
        set::{IndexSet, Run},
        table::PackRow,
    },
    limits,
    pack::builder::object_id,
    store::{ByteRange, Place},
};

/// How often the runs are listed again because one was gone: somebody merged it meanwhile.
const ATTEMPTS_MAX: usize = 4;

/// A pack as the index describes it.
#[derive(Clone, Copy)]
pub(super) struct Pack {
    /// Position of the run that names it.
    pub(super) run: usize,
    /// Row of it in that run.
    pub(super) row_number: u32,
    /// The row.
    pub(super) row: PackRow,
    /// Its size in the store; `None` where it is not.
    pub(super) stored_bytes: Option<u64>,
}

/// The index, and the packs that it names.
pub(super) struct Inventory {
    pub(super) index: Arc<IndexSet>,
    /// Each pack once.
    pub(super) packs: BTreeMap<PackId, Pack>,
    /// Packs that no run names, with their sizes.
    pub(super) unindexed: BTreeMap<PackId, u64>,
}

/// Reads every index run and lists every pack.
pub(super) fn take(context: &Context<'_>, losses: &mut Losses) -> Result<Inventory> {
    let (inventory, damaged) = Inventory::read(context)?;
    for (name, what) in damaged {
        context.findings.add(name, what);
    }
    for (id, pack) in &inventory.packs {
        if pack.stored_bytes.is_none() {
            losses.pack(*id, context.findings.add(pack_name(*id), FindingKind::PackMissing));
        }
    }
    for (id, size_bytes) in &inventory.unindexed {
        context.findings.add(pack_name(*id), FindingKind::PackUnindexed { size_bytes: *size_bytes });
    }
    inventory.compare_runs(context);
    Ok(inventory)
}

/// Whether the index, read anew, no longer names one of the packs that are lost: it was pruned meanwhile.
pub(super) fn any_removed(context: &Context<'_>, losses: &Losses) -> Result<bool> {
    if losses.packs().next().is_none() {
        return Ok(false);
    }
    let (index, damaged) = read_index(context)?;
    let named: HashSet<PackId> = index.all_packs().map(|row| row.id).collect();
    // A run that is damaged by now may be the one that names it.
    Ok(damaged.is_empty() && losses.packs().any(|pack| !named.contains(pack)))
}

/// Runs that are damaged or newer than this program, and how.
type Damaged = Vec<(crate::store::ObjectName, FindingKind)>;

impl Inventory {
    fn read(context: &Context<'_>) -> Result<(Self, Damaged)> {
        let (index, damaged) = read_index(context)?;
        let mut stored: BTreeMap<PackId, u64> = BTreeMap::new();
        context.repository.store().list(Place::Data, &mut |info| {
            stored.insert(info.name.id().into(), info.size_bytes);
        })?;
        let mut packs = BTreeMap::new();
        for (number, run) in index.runs().iter().enumerate() {
            for (row_number, row) in rows(run) {
                let stored_bytes = stored.get(&row.id).copied();
                packs.entry(row.id).or_insert(Pack { run: number, row_number, row, stored_bytes });
            }
        }
        stored.retain(|pack, _| !packs.contains_key(pack));
        Ok((Self { index: Arc::new(index), packs, unindexed: stored }, damaged))
    }

    /// A pack that several runs name must be the same in each.
    fn compare_runs(&self, context: &Context<'_>) {
        let rows_in_all: usize = self.index.runs().iter().map(|run| run.table.counts().packs as usize).sum();
        if rows_in_all == self.packs.len() {
            return;
        }
        let mut seen: HashMap<PackId, (u64, Vec<crate::id::IndexId>, bool)> = HashMap::new();
        for run in self.index.runs() {
            let digests = digest::of_packs(&run.table);
            for (number, row) in rows(run) {
                let digest = digests.get(number as usize).copied().unwrap_or_default();
                let (first, runs, differs) = seen.entry(row.id).or_insert((digest, Vec::new(), false));
                *differs |= *first != digest;
                runs.push(run.id);
            }
        }
        let mut differing: Vec<_> = seen.into_iter().filter(|(_, (_, _, differs))| *differs).collect();
        differing.sort_unstable_by_key(|(id, _)| *id);
        for (id, (_, runs, _)) in differing {
            context.findings.add(pack_name(id), FindingKind::IndexContradiction { runs });
        }
    }
}

/// The packs of a run.
pub(super) fn rows(run: &Run) -> impl Iterator<Item = (u32, PackRow)> {
    (0..run.table.counts().packs).filter_map(|number| Some((number, run.table.pack(number)?)))
}

/// Reads every run there is. One that is listed and not there was merged into another or cleaned meanwhile; the listing is done again. Where
/// listings lag behind, they may go on naming it; then it is passed over. Whatever nobody else names is found to be missing.
fn read_index(context: &Context<'_>) -> Result<(IndexSet, Damaged)> {
    let lost = |reason| FindingKind::IndexDamaged { reason };
    for attempt in 1.. {
        let mut set = IndexSet::default();
        let mut damaged = Damaged::new();
        let mut gone = false;
        let mut bytes = Vec::new();
        for info in context.repository.list(Place::Index)? {
            context.cancel.check()?;
            let range = ByteRange::WholeUpTo { limit_bytes: limits::INDEX_BYTES_MAX };
            let table = match context.repository.store().get(&info.name, range, &mut bytes).map_err(Error::from) {
                Ok(()) => decode_run(context.repository.keys(), &bytes, &info.name),
                Err(error) => Err(error),
            };
            match table {
                Ok(table) => {
                    if object_id(&bytes) != info.name.id() {
                        damaged.push((info.name, lost(WRONG_NAME.to_owned())));
                    }
                    set.add(info.name.id().into(), info.size_bytes, Arc::new(table));
                }
                Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => gone = true,
                Err(error) if concerns_one_object(&error) => {
                    damaged.push((info.name, what(&error, lost)));
                }
                Err(error) => return Err(error),
            }
        }
        if !gone || attempt == ATTEMPTS_MAX {
            return Ok((set, damaged));
        }
    }
    unreachable!("the last attempt returns")
}
