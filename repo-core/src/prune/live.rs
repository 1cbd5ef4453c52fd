//! Which blobs are live: named by a snapshot body, sealed or not. One bit for each row of the index.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    blob::{BlobKind, ReadBlobs},
    error::Result,
    id::BlobId,
    index::set::IndexSet,
    progress::Cancel,
    tree::visit::{Visitor, visit},
};

/// The live blobs, as the index of one moment has them, each at one copy at least. Grows only.
pub(super) struct Live {
    index: Arc<IndexSet>,
    /// By run.
    rows: Vec<Rows>,
    /// Live blobs that are in no run of this index: of backups that came later, or lost.
    others: Mutex<BTreeSet<(BlobKind, BlobId)>>,
}

struct Rows {
    data: Vec<AtomicU64>,
    tree: Vec<AtomicU64>,
}

impl Rows {
    fn of(&self, kind: BlobKind) -> &[AtomicU64] {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.tree,
        }
    }
}

fn bits(rows: u32) -> Vec<AtomicU64> {
    (0..rows.div_ceil(64)).map(|_| AtomicU64::new(0)).collect()
}

fn is_set(bits: &[AtomicU64], row: u32) -> bool {
    bits.get(row as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (row % 64) & 1 == 1)
}

/// Sets a bit; whether it was not set before.
fn set(bits: &[AtomicU64], row: u32) -> bool {
    let bit = 1 << (row % 64);
    bits.get(row as usize / 64).is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
}

impl Live {
    pub(super) fn new(index: Arc<IndexSet>) -> Self {
        let rows = index.runs().iter().map(|run| run.table.counts());
        let rows = rows.map(|counts| Rows { data: bits(counts.data), tree: bits(counts.tree) }).collect();
        Self { index, rows, others: Mutex::default() }
    }

    pub(super) fn index(&self) -> &Arc<IndexSet> {
        &self.index
    }

    fn others(&self) -> MutexGuard<'_, BTreeSet<(BlobKind, BlobId)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in everything that these trees name.
    ///
    /// # Errors
    /// When a page cannot be read: then nobody knows what is live.
    pub(super) fn add_trees(
        &self,
        blobs: &dyn ReadBlobs,
        roots: impl IntoIterator<Item = BlobId>,
        threads: usize,
        cancel: &Cancel,
    ) -> Result<()> {
        visit(blobs, roots, threads, self, cancel)
    }

    /// Says that a blob is live, at the first copy that is found; whether that is news. Now and then it says so of what was told
    /// before, at another copy.
    fn mark(&self, kind: BlobKind, id: &BlobId) -> bool {
        for (number, run) in self.index.runs_by_nearness() {
            if let Some(row) = run.table.rows_of(kind, id).next() {
                self.index.found_in(number);
                return self.rows.get(number).is_some_and(|rows| set(rows.of(kind), row));
            }
        }
        self.others().insert((kind, *id))
    }

    /// Whether a blob is live.
    pub(super) fn contains(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.index.runs_by_nearness().any(|(number, run)| {
            let mut rows = run.table.rows_of(kind, id);
            rows.any(|row| {
                self.index.found_in(number);
                self.has(number, kind, row)
            })
        }) || self.others().contains(&(kind, *id))
    }

    /// Whether the blob in this row of this run was found live there; it may have been found so at another copy of it.
    pub(super) fn has(&self, run: usize, kind: BlobKind, row: u32) -> bool {
        self.rows.get(run).is_some_and(|rows| is_set(rows.of(kind), row))
    }

    /// Live blobs that are in no run.
    pub(super) fn unindexed(&self) -> Vec<(BlobKind, BlobId)> {
        self.others().iter().copied().collect()
    }
}

impl Visitor for Live {
    fn page(&self, page: &BlobId) -> bool {
        self.mark(BlobKind::Tree, page)
    }

    fn data(&self, blob: &BlobId) {
        self.mark(BlobKind::Data, blob);
    }
}
