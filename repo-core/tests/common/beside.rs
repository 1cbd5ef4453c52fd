//! A store beside which somebody else works.

use std::sync::{Arc, Mutex};

use repo_core::{
    error::StoreError,
    hand_on,
    store::{ByteRange, ObjectInfo, ObjectName, Place, Store, memory::MemoryStore},
};

/// What happens between two operations of the backup, by somebody else.
type Other = Box<dyn FnMut(&Moment) + Send>;

/// The operation that is about to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Put(ObjectName, u64),
    List(Place),
    Delete(ObjectName),
    Else,
}

/// A store beside which somebody else works.
#[derive(Clone)]
pub struct Shared(MemoryStore, Arc<Mutex<Other>>);

impl Shared {
    pub fn new(store: &MemoryStore, other: impl FnMut(&Moment) + Send + 'static) -> Self {
        Self(store.clone(), Arc::new(Mutex::new(Box::new(other))))
    }

    fn at(&self, moment: Moment) {
        (self.1.lock().unwrap())(&moment);
    }
}

impl Store for Shared {
    hand_on!(self.0: create, abilities, location);

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        self.at(Moment::Put(*name, bytes.len() as u64));
        self.0.put(name, bytes)
    }
    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.at(Moment::Else);
        self.0.get(name, range, into)
    }
    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.at(Moment::List(place));
        self.0.list(place, visit)
    }
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        self.at(Moment::Else);
        self.0.stat(name)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.at(Moment::Delete(*name));
        self.0.delete(name)
    }
}
