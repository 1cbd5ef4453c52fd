//! A store whose listings lag behind: for a while nobody sees what was put, and everybody still sees what was deleted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use repo_core::{
    error::StoreError,
    hand_on,
    repository::Repository,
    runtime::{Runtime, SystemRuntime},
    store::{Abilities, ObjectInfo, ObjectName, Place, Store, memory::MemoryStore},
    time::Timestamp,
};

/// How long that is.
const DELAY_MS: u64 = 5000;

/// The store, and the clock of all who use it. Time goes on only while somebody sleeps.
#[derive(Clone)]
pub struct LateStore {
    inner: MemoryStore,
    late: Arc<Mutex<Late>>,
}

#[derive(Default)]
struct Late {
    now_ms: u64,
    put: BTreeMap<ObjectName, u64>,
    deleted: BTreeMap<ObjectName, (u64, ObjectInfo)>,
}

impl LateStore {
    pub fn new(inner: MemoryStore) -> Self {
        Self { inner, late: Arc::default() }
    }

    pub fn open(&self) -> Arc<Repository> {
        Arc::new(Repository::open(Arc::new(self.clone()), Arc::new(self.clone()), b"secret", None).unwrap())
    }
}

impl Runtime for LateStore {
    fn now(&self) -> Timestamp {
        SystemRuntime.now()
    }
    fn random(&self, into: &mut [u8]) {
        SystemRuntime.random(into);
    }
    fn sleep_ms(&self, milliseconds: u64) {
        self.late.lock().unwrap().now_ms += milliseconds;
    }
    fn is_running(&self, process: u32) -> bool {
        process == std::process::id()
    }
}

impl Store for LateStore {
    hand_on!(self.inner: create, get, stat, location);

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.put(name, bytes)?;
        let mut late = self.late.lock().unwrap();
        let now_ms = late.now_ms;
        late.put.insert(*name, now_ms);
        Ok(())
    }
    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let late = self.late.lock().unwrap();
        let is_recent = |since_ms: u64| since_ms + DELAY_MS > late.now_ms;
        self.inner.list(place, &mut |info| {
            if !late.put.get(&info.name).is_some_and(|put_ms| is_recent(*put_ms)) {
                visit(info);
            }
        })?;
        let ghosts =
            late.deleted.iter().filter(|(name, (deleted_ms, _))| name.place() == place && is_recent(*deleted_ms));
        ghosts.for_each(|(_, (_, info))| visit(*info));
        Ok(())
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let info = self.inner.stat(name)?;
        self.inner.delete(name)?;
        let mut late = self.late.lock().unwrap();
        let now_ms = late.now_ms;
        late.deleted.extend(info.map(|info| (*name, (now_ms, info))));
        Ok(())
    }
    fn abilities(&self) -> Abilities {
        Abilities { visibility_delay_ms: DELAY_MS, ..self.inner.abilities() }
    }
}
