//! P8: whether everything that is needed lies in packs that are there to stay.

use std::collections::{BTreeSet, HashSet};

use crate::{
    blob::{BlobKind, BlobLocation},
    id::PackId,
    index::{set::IndexSet, table::BlobPrefix},
    prune::live::Live,
};

/// A needed blob that lies in no pack that counts.
#[derive(Debug, Clone)]
pub(super) struct Uncovered {
    pub(super) kind: BlobKind,
    /// What is known of its id.
    pub(super) prefix: BlobPrefix,
    /// Where it may still be read, in packs that do not count.
    pub(super) copies: Vec<BlobLocation>,
}

/// Needed blobs of which no copy lies in a pack that `counts`: one that is listed, in no mark, and named by `index`, which was read last.
pub(super) fn uncovered(live: &Live, index: &IndexSet, counts: &HashSet<PackId>) -> Vec<Uncovered> {
    let mut found = Vec::new();
    let mut met: BTreeSet<(BlobKind, BlobPrefix)> = BTreeSet::new();
    for (number, run) in live.index().runs().iter().enumerate() {
        let packs: Vec<bool> = (0..run.table.counts().packs)
            .map(|row| run.table.pack(row).is_some_and(|pack| counts.contains(&pack.id)))
            .collect();
        for kind in BlobKind::ALL {
            for row in (0..run.table.counts().blobs(kind)).filter(|row| live.has(number, kind, *row)) {
                let Some((prefix, location)) = run.table.blob(kind, row) else { continue };
                run.table.walked(row);
                let frame = run.table.frame(location.frame);
                if frame.is_some_and(|(frame, _)| packs.get(frame.pack as usize) == Some(&true)) {
                    continue;
                }
                if let Some(blob) = look(live, index, counts, kind, prefix)
                    && met.insert((kind, prefix))
                {
                    found.push(blob);
                }
            }
        }
    }
    for (kind, id) in live.unindexed() {
        found.extend(look(live, index, counts, kind, BlobPrefix::from(&id)));
    }
    found
}

/// A blob by all copies of it that either index knows.
fn look(
    live: &Live,
    index: &IndexSet,
    counts: &HashSet<PackId>,
    kind: BlobKind,
    prefix: BlobPrefix,
) -> Option<Uncovered> {
    let mut copies = Vec::new();
    for set in [index, live.index()] {
        for run in set.runs() {
            for (_, location) in run.table.find_all(kind, prefix) {
                if std::ptr::eq(set, index) && counts.contains(&location.frame.pack) {
                    return None;
                }
                copies.push(location);
            }
        }
    }
    Some(Uncovered { kind, prefix, copies })
}
