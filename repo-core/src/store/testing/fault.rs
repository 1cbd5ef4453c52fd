//! A store that fails and lies by a script.
//!
//! The fault is a parameter: a sweep runs a scenario once without faults to learn the number of operations, and then
//! once for every operation and every fault, and each time asks whether the outcome is one of those allowed.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    error::{StoreError, StoreErrorKind},
    store::{ByteRange, ObjectInfo, ObjectName, Place, Store},
};

/// What goes wrong with an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and it fails.
    FailBefore(StoreErrorKind),
    /// It is done, and the answer is lost: it fails.
    FailAfter(StoreErrorKind),
    /// The process dies before it: this and every later operation fails with [`Stopped`] as the cause.
    StopBefore,
    /// The process dies after it, before the answer is seen.
    StopAfter,
    /// `put` stores the first bytes only, and fails or reports success.
    PutCut {
        /// How many bytes are stored; all, if there are fewer.
        kept_bytes: usize,
        /// The error; none is the lie that all went well.
        error: Option<StoreErrorKind>,
    },
    /// `put` stores nothing and reports success.
    PutDropped,
    /// `delete` removes nothing and reports success.
    DeleteDropped,
    /// `get` gives the right length with this bit, counted from the start and wrapping around, turned over.
    GetFlipped {
        /// The bit.
        bit: usize,
    },
    /// `get` gives so many bytes less, and reports success.
    GetShort {
        /// How many are missing at the end.
        missing_bytes: usize,
    },
    /// `get` gives so many zero bytes more, and reports success.
    GetLong {
        /// How many.
        added_bytes: usize,
    },
    /// `get` gives the same range of another object.
    GetOther(ObjectName),
    /// `get` gives these bytes, whatever was asked for: an older version, or a proxy's login page.
    GetBytes(Vec<u8>),
    /// `list` leaves out one entry, by its position.
    ListOmits {
        /// The position.
        position: usize,
    },
    /// `list` ends after so many entries, and reports success.
    ListEnds {
        /// How many entries are told.
        kept_entries: usize,
    },
    /// `list` tells of so many entries and then fails.
    ListFails {
        /// How many entries are told.
        kept_entries: usize,
        /// The error.
        error: StoreErrorKind,
    },
    /// `list` tells of every entry twice, the second time in reverse order.
    ListRepeats,
    /// `list` also tells of every object of the place that was deleted through this store.
    ListStale,
}

/// Kinds of operation, to script one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// [`Store::create`]
    Create,
    /// [`Store::put`]
    Put,
    /// [`Store::get`]
    Get,
    /// [`Store::list`]
    List,
    /// [`Store::stat`]
    Stat,
    /// [`Store::delete`]
    Delete,
}

/// The cause of every error after the script stopped the process.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the test stopped the process here")]
pub struct Stopped;

#[derive(Debug, thiserror::Error)]
#[error("the test made operation {0} fail")]
struct Scripted(u64);

struct Rule {
    fault: Fault,
    request: Option<Request>,
    place: Option<Place>,
    first: u64,
    last: u64,
}

#[derive(Default)]
struct Script {
    rules: Vec<Rule>,
    stopped: bool,
    deleted: Vec<ObjectInfo>,
}

/// A store with faults. Operations are numbered from 0 in the order in which they begin.
pub struct FaultStore<S> {
    inner: S,
    operations: AtomicU64,
    struck: AtomicU64,
    script: Mutex<Script>,
}

impl<S: Store> FaultStore<S> {
    /// Without any faults yet.
    pub fn new(inner: S) -> Self {
        Self { inner, operations: AtomicU64::new(0), struck: AtomicU64::new(0), script: Mutex::default() }
    }

    /// Makes operation `number` go wrong. If the fault does not concern that kind of operation, nothing happens.
    #[must_use]
    pub fn at(self, number: u64, fault: Fault) -> Self {
        self.rule(Rule { fault, request: None, place: None, first: number, last: number })
    }

    /// Makes operation `number` and all later ones go wrong.
    #[must_use]
    pub fn from(self, number: u64, fault: Fault) -> Self {
        self.rule(Rule { fault, request: None, place: None, first: number, last: u64::MAX })
    }

    /// Makes every operation of a kind go wrong, in one place or in all.
    #[must_use]
    pub fn always(self, request: Request, place: Option<Place>, fault: Fault) -> Self {
        self.rule(Rule { fault, request: Some(request), place, first: 0, last: u64::MAX })
    }

    fn rule(self, rule: Rule) -> Self {
        self.script().rules.push(rule);
        self
    }

    /// Forgets all faults, and lets a stopped store work again; the numbers go on.
    pub fn mend(&self) {
        let mut script = self.script();
        script.rules.clear();
        script.stopped = false;
    }

    /// How many operations have begun.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    /// How many faults really happened. A sweep that never strikes tests nothing.
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }

    /// Whether the script has stopped the process.
    pub fn is_stopped(&self) -> bool {
        self.script().stopped
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strike(&self) {
        self.struck.fetch_add(1, Ordering::SeqCst);
    }

    /// Begins an operation: what goes wrong with it, and how to make its error; or the error at once.
    fn begin(&self, request: Request, place: Place, object: &dyn ToString) -> Result<Begun, StoreError> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        let begun = Begun { number, request, object: object.to_string(), location: self.inner.location(), fault: None };
        let mut script = self.script();
        if script.stopped {
            return Err(begun.stopped());
        }
        let fault = script
            .rules
            .iter()
            .filter(|rule| (rule.first..=rule.last).contains(&number))
            .filter(|rule| rule.request.is_none_or(|only| only == request))
            .find(|rule| rule.place.is_none_or(|only| only == place))
            .map(|rule| rule.fault.clone());
        match fault {
            Some(Fault::FailBefore(kind)) => {
                self.strike();
                Err(begun.error(kind))
            }
            Some(Fault::StopBefore) => {
                self.strike();
                script.stopped = true;
                Err(begun.stopped())
            }
            fault => Ok(Begun { fault, ..begun }),
        }
    }

    /// Ends an operation that was done: the answer may still be lost, by a fault of its own or since another thread's
    /// operation stopped the process.
    fn end<T>(&self, begun: &Begun, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let mut script = self.script();
        match begun.fault {
            Some(Fault::StopAfter) => {
                self.strike();
                script.stopped = true;
                Err(begun.stopped())
            }
            _ if script.stopped => Err(begun.stopped()),
            Some(Fault::FailAfter(kind)) => {
                self.strike();
                Err(begun.error(kind))
            }
            _ => answer,
        }
    }
}

/// An operation under way.
struct Begun {
    number: u64,
    request: Request,
    object: String,
    location: String,
    fault: Option<Fault>,
}

impl Begun {
    fn error(&self, kind: StoreErrorKind) -> StoreError {
        self.caused(kind, Box::new(Scripted(self.number)))
    }

    fn stopped(&self) -> StoreError {
        self.caused(StoreErrorKind::Permanent, Box::new(Stopped))
    }

    fn caused(&self, kind: StoreErrorKind, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
        let operation = match self.request {
            Request::Create => "create",
            Request::Put => "write",
            Request::Get => "read",
            Request::List => "list",
            Request::Stat => "look at",
            Request::Delete => "delete",
        };
        StoreError { kind, operation, object: self.object.clone(), location: self.location.clone(), source }
    }
}

impl<S: Store> Store for FaultStore<S> {
    hand_on!(self.inner: abilities, location);

    fn create(&self) -> Result<(), StoreError> {
        let begun = self.begin(Request::Create, Place::Config, &"the repository's folders")?;
        self.end(&begun, self.inner.create())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        let begun = self.begin(Request::Put, name.place(), name)?;
        let answer = match begun.fault {
            Some(Fault::PutDropped) => {
                self.strike();
                Ok(())
            }
            Some(Fault::PutCut { kept_bytes, error }) => {
                self.strike();
                let cut = bytes.get(..kept_bytes).unwrap_or(bytes);
                self.inner.put(name, cut).and_then(|()| error.map_or(Ok(()), |kind| Err(begun.error(kind))))
            }
            _ => self.inner.put(name, bytes),
        };
        self.end(&begun, answer)
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let begun = self.begin(Request::Get, name.place(), name)?;
        let answer = match &begun.fault {
            Some(Fault::GetOther(other)) => self.inner.get(other, range, into).inspect(|()| self.strike()),
            Some(Fault::GetBytes(bytes)) => {
                self.strike();
                into.clear();
                into.extend_from_slice(bytes);
                Ok(())
            }
            fault => self.inner.get(name, range, into).inspect(|()| {
                if distort(fault.as_ref(), into) {
                    self.strike();
                }
            }),
        };
        let answer = self.end(&begun, answer);
        if answer.is_err() {
            into.clear();
        }
        answer
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let begun = self.begin(Request::List, place, &place.name())?;
        let mut entries = Vec::new();
        let mut answer = self.inner.list(place, &mut |info| entries.push(info));
        let told = entries.clone();
        match begun.fault {
            Some(Fault::ListOmits { position }) if position < entries.len() => {
                entries.remove(position);
            }
            Some(Fault::ListEnds { kept_entries }) => entries.truncate(kept_entries),
            Some(Fault::ListFails { kept_entries, error }) => {
                entries.truncate(kept_entries);
                answer = Err(begun.error(error));
                self.strike();
            }
            Some(Fault::ListRepeats) => entries.extend(told.iter().rev()),
            Some(Fault::ListStale) => {
                entries.extend(self.script().deleted.iter().filter(|info| info.name.place() == place));
            }
            _ => {}
        }
        if entries != told && answer.is_ok() {
            self.strike();
        }
        let answer = self.end(&begun, answer);
        entries.into_iter().for_each(visit);
        answer
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        let begun = self.begin(Request::Stat, name.place(), name)?;
        self.end(&begun, self.inner.stat(name))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let begun = self.begin(Request::Delete, name.place(), name)?;
        if begun.fault == Some(Fault::DeleteDropped) {
            self.strike();
            return self.end(&begun, Ok(()));
        }
        let info = self.inner.stat(name).ok().flatten();
        let answer = self.inner.delete(name);
        if answer.is_ok() {
            self.script().deleted.extend(info);
        }
        self.end(&begun, answer)
    }
}

/// Makes an answer wrong; tells whether it was.
fn distort(fault: Option<&Fault>, bytes: &mut Vec<u8>) -> bool {
    match fault {
        Some(Fault::GetFlipped { bit }) if !bytes.is_empty() => {
            let place = (bit / 8) % bytes.len();
            bytes[place] ^= 1 << (bit % 8);
            true
        }
        Some(Fault::GetShort { missing_bytes }) if *missing_bytes > 0 && !bytes.is_empty() => {
            bytes.truncate(bytes.len().saturating_sub(*missing_bytes));
            true
        }
        Some(Fault::GetLong { added_bytes }) if *added_bytes > 0 => {
            bytes.resize(bytes.len() + added_bytes, 0);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::store::{memory::MemoryStore, testing::contract::object};

    const KIND: StoreErrorKind = StoreErrorKind::Retry;
    const ALL: ByteRange = ByteRange::WholeUpTo { limit_bytes: 1000 };

    fn filled() -> (MemoryStore, [ObjectName; 3]) {
        let memory = MemoryStore::new();
        let names = [&b"one"[..], b"two", b"three"].map(|content| {
            let name = object(Place::Index, content);
            memory.put(&name, content).unwrap();
            name
        });
        (memory, names)
    }

    fn got(store: &impl Store, name: &ObjectName) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.get(name, ALL, &mut bytes).unwrap();
        bytes
    }

    fn listed(store: &impl Store) -> (Vec<ObjectName>, bool) {
        let mut names = Vec::new();
        let done = store.list(Place::Index, &mut |info| names.push(info.name)).is_ok();
        (names, done)
    }

    #[test]
    fn before_and_after_differ_in_what_was_done() {
        for (fault, done) in [
            (Fault::FailBefore(KIND), false),
            (Fault::FailAfter(KIND), true),
            (Fault::StopBefore, false),
            (Fault::StopAfter, true),
        ] {
            let (memory, [one, ..]) = filled();
            let store = FaultStore::new(memory.clone()).at(1, fault.clone());
            store.stat(&one).unwrap();
            let error = store.delete(&one).unwrap_err();
            assert_eq!(memory.bytes_of(&one).is_none(), done, "{fault:?}");
            assert_eq!(error.source().unwrap().is::<Stopped>(), store.is_stopped());
            assert_eq!((store.operations(), store.struck()), (2, 1));
            let stops = matches!(fault, Fault::StopBefore | Fault::StopAfter);
            assert_eq!(store.stat(&one).is_err(), stops, "{fault:?}");
            assert_eq!(store.is_stopped(), stops);
            store.mend();
            store.stat(&one).unwrap();
        }
    }

    #[test]
    fn puts_are_cut_and_dropped() {
        let name = object(Place::Data, b"content");
        for kept_bytes in 0..9 {
            for error in [None, Some(KIND)] {
                let store = FaultStore::new(MemoryStore::new()).at(0, Fault::PutCut { kept_bytes, error });
                assert_eq!(store.put(&name, b"content").map_err(|error| error.kind).err(), error);
                assert_eq!(&*store.inner().bytes_of(&name).unwrap(), &b"content"[..kept_bytes.min(7)]);
            }
        }
        let store = FaultStore::new(MemoryStore::new()).from(0, Fault::PutDropped);
        store.put(&name, b"content").unwrap();
        assert!(store.inner().names().is_empty() && store.struck() == 1);
    }

    #[test]
    fn gets_lie() {
        let (memory, [one, two, _]) = filled();
        for (fault, expected) in [
            (Fault::GetFlipped { bit: 9 }, &b"ole"[..]),
            (Fault::GetFlipped { bit: 9 + 24 }, b"ole"),
            (Fault::GetShort { missing_bytes: 1 }, b"on"),
            (Fault::GetShort { missing_bytes: 10 }, b""),
            (Fault::GetLong { added_bytes: 2 }, b"one\0\0"),
            (Fault::GetOther(two), b"two"),
            (Fault::GetBytes(b"<html>".to_vec()), b"<html>"),
        ] {
            let store = FaultStore::new(memory.clone()).always(Request::Get, Some(Place::Index), fault);
            assert_eq!(got(&store, &one), expected);
            assert_eq!(store.struck(), 1);
            assert_eq!(&*memory.bytes_of(&one).unwrap(), b"one", "what is stored stays as it is");
        }
        let elsewhere = FaultStore::new(memory).always(Request::Get, Some(Place::Data), Fault::GetOther(two));
        assert_eq!((got(&elsewhere, &one), elsewhere.struck()), (b"one".to_vec(), 0));
    }

    #[test]
    fn listings_and_deletes_lie() {
        let (memory, [one, ..]) = filled();
        let names = listed(&memory).0;
        let with = |fault| listed(&FaultStore::new(memory.clone()).at(0, fault));
        assert_eq!(with(Fault::ListOmits { position: 1 }), (vec![names[0], names[2]], true));
        assert_eq!(with(Fault::ListOmits { position: 3 }), (names.clone(), true));
        assert_eq!(with(Fault::ListEnds { kept_entries: 1 }), (names[..1].to_vec(), true));
        assert_eq!(with(Fault::ListFails { kept_entries: 2, error: KIND }), (names[..2].to_vec(), false));
        let twice = [0, 1, 2, 2, 1, 0].map(|position| names[position]);
        assert_eq!(with(Fault::ListRepeats), (twice.to_vec(), true));

        let store = FaultStore::new(memory.fork()).at(0, Fault::DeleteDropped).from(2, Fault::ListStale);
        store.delete(&one).unwrap();
        assert!(store.inner().bytes_of(&one).is_some());
        store.delete(&one).unwrap();
        assert!(store.inner().bytes_of(&one).is_none());
        let (mut told, done) = listed(&store);
        told.sort();
        assert!(done && told == names, "the deleted one is told of still");
        assert_eq!(store.struck(), 2);
    }
}
