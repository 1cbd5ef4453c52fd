//! Ends a run that would take more requests, or cost more, than was allowed.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    ByteRange, ObjectInfo, ObjectName, Place, Store,
    count::{CountingStore, Counts},
};
use crate::error::{StoreError, StoreErrorKind};

/// Bytes for which prices of transfer are told.
const GIB_BYTES: u128 = 1 << 30;

/// Entries that one request of a listing brings, at S3 and B2.
const PAGE_ENTRIES: u64 = 1_000;

/// What a store charges, in billionths of a unit of whatever currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prices {
    /// For storing an object.
    pub put: u64,
    /// For reading one, or a part.
    pub get: u64,
    /// For a page of a listing.
    pub list: u64,
    /// For asking about one.
    pub stat: u64,
    /// For deleting one.
    pub delete: u64,
    /// For each GiB sent there.
    pub written_gib: u64,
    /// For each GiB fetched from there.
    pub read_gib: u64,
}

impl Prices {
    /// What so much costs, rounded down.
    #[must_use]
    pub fn cost(&self, counts: &Counts) -> u64 {
        let times = |price: u64, count: u64| u128::from(price) * u128::from(count);
        let pages = counts.lists.max(counts.listed_entries.div_ceil(PAGE_ENTRIES));
        let requests = times(self.put, counts.puts)
            + times(self.get, counts.gets)
            + times(self.list, pages)
            + times(self.stat, counts.stats)
            + times(self.delete, counts.deletes);
        let bytes = times(self.written_gib, counts.written_bytes) + times(self.read_gib, counts.read_bytes);
        u64::try_from(requests + bytes / GIB_BYTES).unwrap_or(u64::MAX)
    }
}

/// How much a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Most requests.
    pub requests_max: Option<u64>,
    /// Most cost, by the prices. Of requests under way at the same time only the last one's bytes are known beforehand, so that it
    /// may be overstepped by the bytes of what each thread fetches at once.
    pub cost_max: Option<u64>,
    /// What things cost.
    pub prices: Prices,
}

/// A store that counts, and refuses what goes beyond a [`Budget`]. Own notes may always be deleted: a run that is ended here
/// leaves as little behind as any other.
pub struct BudgetStore<S> {
    inner: CountingStore<S>,
    budget: Budget,
    begun: AtomicU64,
}

impl<S: Store> BudgetStore<S> {
    /// Lets through to `inner` what the budget allows.
    pub fn new(inner: S, budget: Budget) -> Self {
        Self { inner: CountingStore::new(inner), budget, begun: AtomicU64::new(0) }
    }

    /// What went through so far.
    pub fn counts(&self) -> Counts {
        self.inner.counts()
    }

    /// What so much costs here.
    pub fn cost_of(&self, counts: &Counts) -> u64 {
        self.budget.prices.cost(counts)
    }

    /// Lets a request pass, or tells why not.
    fn admit(&self, next: Counts, operation: &'static str, object: &dyn std::fmt::Display) -> Result<(), StoreError> {
        let refuse = |reason: &'static str| {
            Err(StoreError {
                kind: StoreErrorKind::OverBudget,
                operation,
                object: object.to_string(),
                location: self.location(),
                source: reason.into(),
            })
        };
        if let Some(cost_max) = self.budget.cost_max {
            let after = self.budget.prices.cost(&self.counts()).saturating_add(self.budget.prices.cost(&next));
            if after > cost_max {
                return refuse("it would cost more than was allowed");
            }
        }
        let requests_max = self.budget.requests_max.unwrap_or(u64::MAX);
        let admitted = |begun: u64| (begun < requests_max).then_some(begun + 1);
        if self.begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admitted).is_err() {
            return refuse("it would take more requests than were allowed");
        }
        Ok(())
    }
}

impl<S: Store> Store for BudgetStore<S> {
    hand_on!(self.inner: create, abilities, location);

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        let next = Counts { puts: 1, written_bytes: bytes.len() as u64, ..Counts::default() };
        self.admit(next, "write", name)?;
        self.inner.put(name, bytes)
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let read_bytes = match range {
            ByteRange::Exact { length_bytes, .. } | ByteRange::Suffix { length_bytes } => length_bytes,
            ByteRange::WholeUpTo { .. } => 0,
        };
        self.admit(Counts { gets: 1, read_bytes, ..Counts::default() }, "read", name)?;
        self.inner.get(name, range, into)
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.admit(Counts { lists: 1, ..Counts::default() }, "list", &place.name())?;
        self.inner.list(place, visit)
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        self.admit(Counts { stats: 1, ..Counts::default() }, "look at", name)?;
        self.inner.stat(name)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        if name.place() != Place::Locks {
            self.admit(Counts { deletes: 1, ..Counts::default() }, "delete", name)?;
        }
        self.inner.delete(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{memory::MemoryStore, testing::contract::object};

    const PRICES: Prices =
        Prices { put: 5_000, get: 400, list: 5_000, stat: 400, delete: 0, written_gib: 0, read_gib: 90_000_000 };

    #[test]
    fn costs_add_up() {
        let counts = Counts { puts: 2, gets: 3, lists: 1, listed_entries: 2_001, ..Counts::default() };
        assert_eq!(PRICES.cost(&counts), 2 * 5_000 + 3 * 400 + 3 * 5_000, "a listing of 2,001 takes three pages");
        assert_eq!(PRICES.cost(&Counts { read_bytes: 1 << 29, ..Counts::default() }), 45_000_000);
        let huge = Counts { read_bytes: u64::MAX, ..Counts::default() };
        assert!(PRICES.cost(&huge) > 1 << 50);
        assert_eq!(Prices { read_gib: u64::MAX, ..PRICES }.cost(&huge), u64::MAX);
    }

    #[test]
    fn the_last_request_within_the_budget_passes_and_no_other() {
        let name = object(Place::Data, b"content");
        for (requests_max, cost_max) in [(Some(3), None), (None, Some(5_000 + 2 * 400)), (Some(3), Some(u64::MAX))] {
            let store = BudgetStore::new(MemoryStore::new(), Budget { requests_max, cost_max, prices: PRICES });
            store.put(&name, b"content").unwrap();
            for _ in 0..2 {
                store.stat(&name).unwrap();
            }
            let mut bytes = Vec::new();
            let range = ByteRange::Suffix { length_bytes: 3 };
            assert_eq!(store.get(&name, range, &mut bytes).unwrap_err().kind, StoreErrorKind::OverBudget);
            assert_eq!(store.put(&name, b"content").unwrap_err().kind, StoreErrorKind::OverBudget);
            assert_eq!(store.list(Place::Data, &mut |_| {}).unwrap_err().kind, StoreErrorKind::OverBudget);
            store.delete(&object(Place::Locks, b"note")).unwrap();
            assert_eq!((store.counts().requests(), store.cost_of(&store.counts())), (4, 5_800));
        }
    }

    #[test]
    fn many_threads_do_not_overstep_it() {
        let budget = Budget { requests_max: Some(100), ..Budget::default() };
        let store = BudgetStore::new(MemoryStore::new(), budget);
        let name = object(Place::Data, b"content");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| drop(store.stat(&name))));
            }
        });
        assert_eq!(store.counts().requests(), 100);
    }
}
