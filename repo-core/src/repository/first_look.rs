//! What a backup looks at first: listings and notes that are asked for while the password is still being turned into a key.
//!
//! None of it needs the key, so that where the store is far away nobody waits for it. It is a little older than what a later listing would
//! show, and so only the first step of a writer goes by it (W1 in `docs/protocol.md`), and only once. What is out of date by then is found out
//! by the steps that follow, which list anew.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    error::{Error, Result},
    parallel::for_each,
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

/// What was answered, if it was asked. A failure is for whoever wants the answer.
#[derive(Default)]
pub(crate) struct FirstLook {
    listings: BTreeMap<Place, Result<Vec<ObjectInfo>>>,
    notes: BTreeMap<ObjectName, Result<Vec<u8>>>,
}

impl FirstLook {
    /// Asks for all of it, with all of the store's connections but the one by which the key comes.
    pub(super) fn take(store: &dyn Store) -> Self {
        let threads = store.abilities().connections.saturating_sub(1);
        let listings = ask(&[Place::Locks, Place::Snapshots, Place::Index], threads, |place| list(store, *place));
        let listed = listings.get(&Place::Locks).into_iter().flatten().flatten();
        let small = listed.filter(|info| info.size_bytes <= NOTE_BYTES_MAX).map(|info| info.name);
        let notes = ask(&small.take(NOTES_MAX).collect::<Vec<_>>(), threads, |name| load_bytes(store, name));
        Self { listings, notes }
    }

    /// A listing, if it was asked for.
    pub(crate) fn listed(&mut self, place: Place) -> Option<Result<Vec<ObjectInfo>>> {
        self.listings.remove(&place)
    }

    /// [`Repository::notes`] by what was answered.
    pub(crate) fn notes(mut self, repository: &Repository) -> Result<Notes> {
        let listed = self.listed(Place::Locks).unwrap_or_else(|| repository.list(Place::Locks))?;
        repository.read_notes(&listed, self.notes)
    }
}

/// Asks for several things at once.
fn ask<N: Copy + Ord + Send + Sync, T: Send>(
    names: &[N],
    threads: usize,
    answer: impl Fn(&N) -> Result<T> + Sync,
) -> BTreeMap<N, Result<T>> {
    let answers = Mutex::new(BTreeMap::new());
    let lock = || answers.lock().unwrap_or_else(PoisonError::into_inner);
    let keep = |name: &N| {
        let answer = answer(name);
        lock().insert(*name, answer);
        Ok::<_, Error>(())
    };
    let _ = for_each(names, threads, keep);
    answers.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Repository {
    /// What was asked for while it was being opened, for the first backup; nothing for a later one.
    pub(crate) fn take_first_look(&self) -> FirstLook {
        std::mem::take(&mut self.first_look.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
