//! A store that remembers every operation, so that a test can check their order.
//!
//! One counter numbers all beginnings and ends. Operation A happened before operation B when A's end is smaller than
//! B's beginning; otherwise they were under way at the same time, and nothing may depend on their order.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    error::{StoreError, StoreErrorKind},
    store::{ByteRange, ObjectInfo, ObjectName, Place, Store},
};

/// What was asked of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// [`Store::create`]
    Create,
    /// [`Store::put`]
    Put {
        /// The object.
        name: ObjectName,
        /// Its size.
        size_bytes: u64,
    },
    /// [`Store::get`]
    Get {
        /// The object.
        name: ObjectName,
        /// What of it.
        range: ByteRange,
    },
    /// [`Store::list`]
    List {
        /// The place.
        place: Place,
    },
    /// [`Store::stat`]
    Stat {
        /// The object.
        name: ObjectName,
    },
    /// [`Store::delete`]
    Delete {
        /// The object.
        name: ObjectName,
    },
}

/// An operation with the numbers of its beginning and end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What was asked.
    pub operation: Operation,
    /// The number of its beginning.
    pub begin: u64,
    /// The number of its end and how it ended; nothing while it is under way.
    pub end: Option<(u64, Result<(), StoreErrorKind>)>,
}

impl Event {
    /// Whether it ended, with success, before `later` began.
    #[must_use]
    pub fn succeeded_before(&self, later: &Self) -> bool {
        matches!(self.end, Some((end, Ok(()))) if end < later.begin)
    }
}

#[derive(Default)]
struct Log {
    next: u64,
    events: Vec<Event>,
}

impl Log {
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

/// A store that remembers. Clones share the log.
#[derive(Clone)]
pub struct RecordingStore<S> {
    inner: S,
    log: Arc<Mutex<Log>>,
}

impl<S: Store> RecordingStore<S> {
    /// Remembers what passes to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, log: Arc::default() }
    }

    /// All operations so far, in the order in which they began.
    pub fn events(&self) -> Vec<Event> {
        self.with_log(|log| log.events.clone())
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn with_log<T>(&self, job: impl FnOnce(&mut Log) -> T) -> T {
        job(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn recorded<T>(
        &self,
        operation: Operation,
        perform: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let position = self.with_log(|log| {
            let begin = log.number();
            log.events.push(Event { operation, begin, end: None });
            log.events.len() - 1
        });
        let answer = perform();
        let outcome = answer.as_ref().map(|_| ()).map_err(|error| error.kind);
        self.with_log(|log| {
            let end = log.number();
            log.events[position].end = Some((end, outcome));
        });
        answer
    }
}

impl<S: Store> Store for RecordingStore<S> {
    hand_on!(self.inner: abilities, location);

    fn create(&self) -> Result<(), StoreError> {
        self.recorded(Operation::Create, || self.inner.create())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        let operation = Operation::Put { name: *name, size_bytes: bytes.len() as u64 };
        self.recorded(operation, || self.inner.put(name, bytes))
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.recorded(Operation::Get { name: *name, range }, || self.inner.get(name, range, into))
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.recorded(Operation::List { place }, || self.inner.list(place, visit))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        self.recorded(Operation::Stat { name: *name }, || self.inner.stat(name))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.recorded(Operation::Delete { name: *name }, || self.inner.delete(name))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;
    use crate::store::{
        memory::MemoryStore,
        testing::{Fault, FaultStore, contract::object},
    };

    #[test]
    fn order_and_outcome_are_remembered() {
        let faulty = FaultStore::new(MemoryStore::new()).at(1, Fault::FailBefore(StoreErrorKind::NoSpace));
        let store = RecordingStore::new(faulty);
        let name = object(Place::Data, b"pack");
        store.put(&name, b"pack").unwrap();
        store.put(&ObjectName::CONFIG, b"config").unwrap_err();
        store.list(Place::Data, &mut |_| {}).unwrap();
        let [put, failed, list] = &store.events()[..] else { panic!("three operations") };
        assert_eq!(put.operation, Operation::Put { name, size_bytes: 4 });
        assert_eq!((put.begin, put.end), (0, Some((1, Ok(())))));
        assert_eq!(failed.end, Some((3, Err(StoreErrorKind::NoSpace))));
        assert!(put.succeeded_before(failed) && put.succeeded_before(list));
        assert!(!failed.succeeded_before(list) && !list.succeeded_before(put));
    }

    #[test]
    fn what_is_under_way_together_has_no_order() {
        /// Lets its operations go on only when two are under way.
        struct Meeting(MemoryStore, Barrier);
        impl Store for Meeting {
            hand_on!(self.0: put, get, list, stat, delete, abilities, location);

            fn create(&self) -> Result<(), StoreError> {
                self.1.wait();
                self.0.create()
            }
        }
        let store = RecordingStore::new(Meeting(MemoryStore::new(), Barrier::new(2)));
        thread::scope(|scope| {
            scope.spawn(|| store.create().unwrap());
            scope.spawn(|| store.create().unwrap());
        });
        let [one, two] = &store.events()[..] else { panic!("two operations") };
        assert!(!one.succeeded_before(two) && !two.succeeded_before(one));
    }
}
