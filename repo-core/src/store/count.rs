//! Counts requests and bytes on their way to a store: for reports, and for tests that hold work to a bound.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{ByteRange, ObjectInfo, ObjectName, Place, Store};
use crate::error::StoreError;

/// What has passed through a [`CountingStore`]. Requests that failed are counted too, their bytes are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Objects written.
    pub puts: u64,
    /// Objects or parts of objects read.
    pub gets: u64,
    /// Places listed.
    pub lists: u64,
    /// Objects looked at.
    pub stats: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Entries that listings told of.
    pub listed_entries: u64,
}

impl Counts {
    /// All requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.puts + self.gets + self.lists + self.stats + self.deletes
    }

    /// What has been added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            puts: self.puts - earlier.puts,
            gets: self.gets - earlier.gets,
            lists: self.lists - earlier.lists,
            stats: self.stats - earlier.stats,
            deletes: self.deletes - earlier.deletes,
            written_bytes: self.written_bytes - earlier.written_bytes,
            read_bytes: self.read_bytes - earlier.read_bytes,
            listed_entries: self.listed_entries - earlier.listed_entries,
        }
    }
}

/// A store that counts.
#[derive(Default)]
pub struct CountingStore<S> {
    inner: S,
    puts: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
    stats: AtomicU64,
    deletes: AtomicU64,
    written_bytes: AtomicU64,
    read_bytes: AtomicU64,
    listed_entries: AtomicU64,
}

impl<S: Store> CountingStore<S> {
    /// Counts what passes to `inner`.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            puts: AtomicU64::default(),
            gets: AtomicU64::default(),
            lists: AtomicU64::default(),
            stats: AtomicU64::default(),
            deletes: AtomicU64::default(),
            written_bytes: AtomicU64::default(),
            read_bytes: AtomicU64::default(),
            listed_entries: AtomicU64::default(),
        }
    }

    /// The counts so far. Taken while requests are under way they need not be of one moment.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            puts: of(&self.puts),
            gets: of(&self.gets),
            lists: of(&self.lists),
            stats: of(&self.stats),
            deletes: of(&self.deletes),
            written_bytes: of(&self.written_bytes),
            read_bytes: of(&self.read_bytes),
            listed_entries: of(&self.listed_entries),
        }
    }

    /// What it counts for.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl<S: Store> Store for CountingStore<S> {
    hand_on!(self.inner: create, abilities, location);

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        add(&self.puts, 1);
        self.inner.put(name, bytes).inspect(|()| add(&self.written_bytes, bytes.len() as u64))
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        add(&self.gets, 1);
        self.inner.get(name, range, into).inspect(|()| add(&self.read_bytes, into.len() as u64))
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        add(&self.lists, 1);
        self.inner.list(place, &mut |info| {
            add(&self.listed_entries, 1);
            visit(info);
        })
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        add(&self.stats, 1);
        self.inner.stat(name)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        add(&self.deletes, 1);
        self.inner.delete(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{memory::MemoryStore, testing::contract::object};

    #[test]
    fn requests_and_bytes_are_counted() {
        let store = CountingStore::new(MemoryStore::new());
        let [name, missing] = [object(Place::Data, b"content"), object(Place::Data, b"missing")];
        let mut bytes = Vec::new();
        store.put(&name, b"content").unwrap();
        store.put(&name, b"content").unwrap_err();
        let first = store.counts();
        assert_eq!(first, Counts { puts: 2, written_bytes: 7, ..Counts::default() });
        store.get(&name, ByteRange::Suffix { length_bytes: 3 }, &mut bytes).unwrap();
        store.get(&missing, ByteRange::Suffix { length_bytes: 3 }, &mut bytes).unwrap_err();
        store.list(Place::Data, &mut |_| {}).unwrap();
        store.stat(&name).unwrap();
        store.delete(&name).unwrap();
        let expected =
            Counts { gets: 2, lists: 1, stats: 1, deletes: 1, read_bytes: 3, listed_entries: 1, ..Counts::default() };
        assert_eq!(store.counts().since(&first), expected);
        assert_eq!(store.counts().requests(), 7);
    }
}
