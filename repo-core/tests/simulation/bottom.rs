//! A real store in place of the simulated one's memory: everything is put into it, read, listed and deleted there, and each answer has
//! to be the one that is known to be right.

use std::{fmt::Debug, sync::Arc};

use repo_core::{
    error::{StoreError, StoreErrorKind},
    store::{ByteRange, ObjectInfo, ObjectName, Place, Store, memory::MemoryStore},
};

use crate::world::State;

/// What an answer comes to, for comparison.
type Told<T> = Result<T, StoreErrorKind>;

fn told<T>(answer: Result<T, StoreError>) -> Told<T> {
    answer.map_err(|error| error.kind)
}

impl State {
    /// An answer of the real store that differs from what it has to be ends the simulation.
    fn hold<T: PartialEq + Debug>(&mut self, what: &str, right: &Told<T>, found: Result<T, StoreError>) {
        let words = found.as_ref().err().map(|error| format!("{error}: {}", error.source));
        let found = told(found);
        if found != *right {
            self.fail(format!("the real store answers {what} with {found:?} ({words:?}), not with {right:?}"));
        }
    }

    /// Stores an object; `right` is whether there is none of that name yet.
    pub fn put_below(&mut self, name: &ObjectName, bytes: &[u8], is_new: bool) {
        let Some(bottom) = self.bottom.clone() else { return };
        let right = if is_new { Ok(()) } else { Err(StoreErrorKind::Exists) };
        self.hold(&format!("put {name}"), &right, bottom.put(name, bytes));
    }

    /// Replaces what was read by what the real store gives, which is the same.
    pub fn get_below(&mut self, name: &ObjectName, range: ByteRange, right: Told<()>, into: &mut Vec<u8>) {
        let Some(bottom) = self.bottom.clone() else { return };
        let mut found = Vec::new();
        let answer = bottom.get(name, range, &mut found).map(|()| found.clone());
        let right = right.map(|()| std::mem::replace(into, found));
        self.hold(&format!("get {name} {range:?}"), &right, answer);
    }

    /// Looks at an object.
    pub fn stat_below(&mut self, name: &ObjectName) {
        let Some(bottom) = self.bottom.clone() else { return };
        let right = self.objects.get(name).map(|object| object.bytes.len() as u64);
        let found = bottom.stat(name).map(|found| found.map(|info| info.size_bytes));
        self.hold(&format!("stat {name}"), &Ok(right), found);
    }

    /// Lists a place.
    pub fn list_below(&mut self, place: Place) {
        let Some(bottom) = self.bottom.clone() else { return };
        let here = self.objects.iter().filter(|(name, _)| name.place() == place);
        let right: Vec<_> = here.map(|(name, object)| (*name, object.bytes.len() as u64)).collect();
        self.hold(&format!("list {}", place.name()), &Ok(right), listed(&*bottom, place));
    }

    /// Removes an object, which may not be there.
    pub fn delete_below(&mut self, name: &ObjectName) {
        let Some(bottom) = self.bottom.clone() else { return };
        self.hold(&format!("delete {name}"), &Ok(()), bottom.delete(name));
    }
}

fn listed(store: &dyn Store, place: Place) -> Result<Vec<(ObjectName, u64)>, StoreError> {
    let mut entries = Vec::new();
    store.list(place, &mut |ObjectInfo { name, size_bytes, .. }| entries.push((name, size_bytes)))?;
    entries.sort_unstable();
    entries.dedup(); // may be told of twice
    Ok(entries)
}

/// Whether the real store has exactly what is known to be there.
pub fn compare(bottom: &Arc<dyn Store>, known: &MemoryStore) -> Result<(), String> {
    let failed = |error: StoreError| format!("the real store answers with an error: {error}: {}", error.source);
    for place in Place::HASHED.into_iter().chain([Place::Config]) {
        let (found, right) = (listed(&**bottom, place).map_err(failed)?, listed(known, place).map_err(failed)?);
        if found != right {
            return Err(format!("the real store answers list {} with {found:?}, not with {right:?}", place.name()));
        }
        for (name, _) in right {
            let mut bytes = Vec::new();
            bottom.get(&name, ByteRange::WholeUpTo { limit_bytes: u64::MAX }, &mut bytes).map_err(failed)?;
            if known.bytes_of(&name).as_deref() != Some(&bytes) {
                return Err(format!("the real store answers get {name} with other bytes"));
            }
        }
    }
    Ok(())
}

/// The comparison can fail: each lie of a store ends the simulation with the words that tell which.
#[test]
fn a_real_store_that_lies_is_noticed() {
    use repo_core::store::testing::{Fault, FaultStore, Request};

    for (request, fault, words) in [
        (Request::Put, Fault::PutDropped, "NotFound"),
        (Request::Put, Fault::PutCut { kept_bytes: 100, error: None }, "answers"),
        (Request::Delete, Fault::DeleteDropped, "answers list"),
        (Request::Get, Fault::GetFlipped { bit: 77 }, "answers get"),
        (Request::List, Fault::ListOmits { position: 0 }, "answers list"),
        (Request::List, Fault::ListStale, "answers list"),
    ] {
        let lying = FaultStore::new(MemoryStore::new()).always(request, None, fault.clone());
        let failure = crate::simulate(1, false, Some(Arc::new(lying))).failure.expect("it is noticed");
        assert!(failure.contains("the real store answers") && failure.contains(words), "{fault:?}: {failure}");
    }
    let honest = crate::simulate(1, false, Some(Arc::new(MemoryStore::new())));
    assert_eq!((honest.failure, honest.trace), (None, crate::simulate(1, false, None).trace));
}
