//! What a backup looks at first: listings and notes that are asked for while the password is still being turned into a key.
//!
//! None of it needs the key, so that where the store is far away nobody waits for it. It is a little older than what a later listing would
//! show, and so only the first step of a writer goes by it (W1 in `docs/protocol.md`), and only once. What is out of date by then is found out
//! by the steps that follow, which list anew.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    error::{Error, Result},
    index::set::IndexSet,
    parallel::{both, for_each},
    repository::{
        Repository,
        notes::Notes,
        objects::{list, load_bytes},
    },
    store::{ObjectInfo, ObjectName, Place, Store},
};

/// Most notes that are read beforehand. There are that many only where nobody may delete them.
const NOTES_MAX: usize = 32;

/// A larger note is a mark of many packs.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// What was asked and not yet used. A failure is told to whoever wants the answer.
#[derive(Default)]
pub(super) struct FirstLook(Mutex<Answers>);

#[derive(Default)]
struct Answers {
    listings: BTreeMap<Place, Result<Vec<ObjectInfo>>>,
    notes: BTreeMap<ObjectName, Result<Vec<u8>>>,
}

impl FirstLook {
    /// Asks for all of it at once, as far as the store has connections.
    pub(super) fn take(store: &dyn Store) -> Self {
        let connections = store.abilities().connections;
        let (snapshots, (index, (locks, notes))) = both(
            connections,
            || list(store, Place::Snapshots),
            || both(connections, || list(store, Place::Index), || read_notes(store, connections)),
        );
        let listings = [(Place::Snapshots, snapshots), (Place::Index, index), (Place::Locks, locks)];
        Self(Mutex::new(Answers { listings: listings.into(), notes }))
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Bytes = BTreeMap<ObjectName, Result<Vec<u8>>>;

fn read_notes(store: &dyn Store, connections: usize) -> (Result<Vec<ObjectInfo>>, Bytes) {
    let listed = list(store, Place::Locks);
    let small = listed.iter().flatten().filter(|info| info.size_bytes <= NOTE_BYTES_MAX);
    let names: Vec<_> = small.map(|info| info.name).take(NOTES_MAX).collect();
    let notes = Mutex::new(Bytes::new());
    let read = |name: &ObjectName| {
        let bytes = load_bytes(store, name);
        notes.lock().unwrap_or_else(PoisonError::into_inner).insert(*name, bytes);
        Ok::<_, Error>(())
    };
    let _ = for_each(&names, connections, read);
    (listed, notes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Repository {
    /// [`Self::list`] for the first step of a writer.
    pub(crate) fn first_listing(&self, place: Place) -> Result<Vec<ObjectInfo>> {
        let listed = self.first_look.lock().listings.remove(&place);
        listed.unwrap_or_else(|| self.list(place))
    }

    /// [`Self::notes`] for the first step of a writer.
    pub(crate) fn first_notes(&self) -> Result<Notes> {
        let listed = self.first_listing(Place::Locks)?;
        let read = std::mem::take(&mut self.first_look.lock().notes);
        self.read_notes(&listed, read)
    }

    /// [`Self::load_index`] for the first step of a writer.
    pub(crate) fn load_first_index(&self, damaged: Option<&mut Vec<Error>>) -> Result<IndexSet> {
        let listed = Some(self.first_listing(Place::Index)?);
        IndexSet::with_cache(self.cache().cloned()).load_listed(listed, self.store(), self.keys(), damaged)
    }
}
