//! A repository in memory: for tests, simulations and measurements without a disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store};
use crate::{
    error::{StoreError, StoreErrorKind},
    time::Timestamp,
};

/// Objects in memory. Clones share them; [`Self::fork`] does not.
#[derive(Clone, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
}

#[derive(Clone, Default)]
struct Content {
    objects: BTreeMap<ObjectName, Object>,
    now: Option<Timestamp>,
}

#[derive(Clone)]
struct Object {
    bytes: Arc<[u8]>,
    modified: Option<Timestamp>,
}

impl MemoryStore {
    /// Without any object.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of its own with the same objects as this one has now. Their bytes are shared until replaced.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { content: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Sets the store's clock: what objects stored from now on have as their time of storing. Without it they have none.
    pub fn set_time(&self, now: Timestamp) {
        self.lock().now = Some(now);
    }

    /// The names of all objects, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<ObjectName> {
        self.lock().objects.keys().copied().collect()
    }

    /// An object's bytes.
    #[must_use]
    pub fn bytes_of(&self, name: &ObjectName) -> Option<Arc<[u8]>> {
        self.lock().objects.get(name).map(|object| Arc::clone(&object.bytes))
    }

    /// Sets an object's bytes behind the repository's back, as damage would, whether it was there or not.
    pub fn replace(&self, name: &ObjectName, bytes: impl Into<Arc<[u8]>>) {
        let mut content = self.lock();
        let modified = content.now;
        content.objects.insert(*name, Object { bytes: bytes.into(), modified });
    }

    /// Removes an object behind the repository's back; tells whether it was there.
    pub fn remove(&self, name: &ObjectName) -> bool {
        self.lock().objects.remove(name).is_some()
    }

    /// Sum of the objects' sizes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.lock().objects.values().map(|object| object.bytes.len() as u64).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, kind: StoreErrorKind, operation: &'static str, name: &ObjectName, reason: String) -> StoreError {
        StoreError { kind, operation, object: name.to_string(), location: self.location(), source: reason.into() }
    }
}

impl Object {
    fn info(&self, name: ObjectName) -> ObjectInfo {
        ObjectInfo { name, size_bytes: self.bytes.len() as u64, modified: self.modified }
    }
}

impl Store for MemoryStore {
    fn create(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        let bytes = Arc::from(bytes);
        let mut content = self.lock();
        if content.objects.contains_key(name) {
            return Err(self.error(StoreErrorKind::Exists, "write", name, "it is there already".into()));
        }
        let modified = content.now;
        content.objects.insert(*name, Object { bytes, modified });
        Ok(())
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        into.clear();
        let bytes = self
            .bytes_of(name)
            .ok_or_else(|| self.error(StoreErrorKind::NotFound, "read", name, "there is no such object".into()))?;
        let part = part(&bytes, range).ok_or_else(|| {
            let reason = format!("it has {} bytes, which does not fit {range:?}", bytes.len());
            self.error(StoreErrorKind::Damage, "read", name, reason)
        })?;
        into.extend_from_slice(part);
        Ok(())
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        // Told without the lock, so that whoever listens may use the store.
        let infos: Vec<_> = self
            .lock()
            .objects
            .iter()
            .filter(|(name, _)| name.place() == place)
            .map(|(name, object)| object.info(*name))
            .collect();
        infos.into_iter().for_each(visit);
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        Ok(self.lock().objects.get(name).map(|object| object.info(*name)))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.remove(name);
        Ok(())
    }

    fn abilities(&self) -> Abilities {
        Abilities { exclusive_put: true, connections: 4, visibility_delay_ms: 0 }
    }

    fn location(&self) -> String {
        "memory".into()
    }
}

fn part(bytes: &[u8], range: ByteRange) -> Option<&[u8]> {
    match range {
        ByteRange::WholeUpTo { limit_bytes } => (bytes.len() as u64 <= limit_bytes).then_some(bytes),
        ByteRange::Exact { offset_bytes, length_bytes } => {
            let start = usize::try_from(offset_bytes).ok()?;
            bytes.get(start..start.checked_add(usize::try_from(length_bytes).ok()?)?)
        }
        ByteRange::Suffix { length_bytes } => {
            let length = usize::try_from(length_bytes).unwrap_or(usize::MAX).min(bytes.len());
            bytes.get(bytes.len() - length..)
        }
    }
}
