//! Tries again what failed for a passing reason.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{ByteRange, ObjectInfo, ObjectName, Place, Store};
use crate::{
    error::{StoreError, StoreErrorKind},
    progress::Cancel,
};

/// The cause of a failure after which the store asks to be left alone for a while (`Retry-After` of HTTP). [`RetryStore`] does so.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; it asks to be left alone for {} s", pause.as_secs())]
pub struct Busy {
    /// What the store said.
    pub reason: String,
    /// For how long.
    pub pause: Duration,
}

/// How long and how often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Time after the beginning of a request at which it is given up.
    pub budget: Duration,
    /// The same as long as the store has not answered any request: more likely than an outage is then a wrong name.
    pub first_contact: Duration,
    /// Upper bound of the first pause; it doubles with each further one.
    pub first_pause: Duration,
    /// Bound beyond which it does not grow.
    pub longest_pause: Duration,
    /// Time after which the user is told.
    pub quiet: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            budget: Duration::from_mins(15),
            first_contact: Duration::from_mins(15),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_mins(1),
            quiet: Duration::from_secs(10),
        }
    }
}

/// Time and chance, so that tests need neither. Called from many threads.
pub trait Pace: Send + Sync {
    /// Time since some moment in the past; never runs backwards.
    fn now(&self) -> Duration;

    /// Waits.
    fn sleep(&self, pause: Duration);

    /// Any time from zero up to `longest`.
    fn jitter(&self, longest: Duration) -> Duration;
}

/// The machine's clock, which goes on while the machine sleeps: a request that is tried again after a night in a bag would come long after
/// others took it for given up (`docs/protocol.md`, names that come twice). A pause ends soon after a cancel.
pub struct SystemPace {
    start: Duration,
    cancel: Cancel,
}

/// Time since the machine was started, sleep included.
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

impl SystemPace {
    /// Pauses that end when the operation is cancelled.
    #[must_use]
    pub fn new(cancel: Cancel) -> Self {
        Self { start: since_boot(), cancel }
    }
}

impl Pace for SystemPace {
    fn now(&self) -> Duration {
        since_boot().saturating_sub(self.start)
    }

    fn sleep(&self, pause: Duration) {
        let end = self.now() + pause;
        while let Some(rest) = end.checked_sub(self.now()).filter(|rest| !rest.is_zero()) {
            if self.cancel.is_cancelled() {
                return;
            }
            thread::sleep(rest.min(Duration::from_millis(100)));
        }
    }

    fn jitter(&self, longest: Duration) -> Duration {
        // A hash of nothing under a new random key: chance enough to keep clients from trying in step.
        let chance = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(u32::MAX);
        longest.mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

/// Tells the user that the store is in trouble: a request that has been failing for longer than
/// [`RetryPolicy::quiet`] will be tried again.
#[derive(Debug)]
pub struct RetryNotice<'a> {
    /// The failure.
    pub error: &'a StoreError,
    /// How often it was tried.
    pub attempts: u32,
    /// For how long.
    pub elapsed: Duration,
    /// The pause before it is tried again.
    pub pause: Duration,
    /// For how long it is tried at most.
    pub budget: Duration,
}

type Notify = Box<dyn Fn(&RetryNotice<'_>) + Send + Sync>;

/// A store that tries again, with full jitter, whatever fails with [`StoreErrorKind::Retry`].
pub struct RetryStore<S> {
    inner: S,
    policy: RetryPolicy,
    pace: Arc<dyn Pace>,
    cancel: Cancel,
    notify: Notify,
    /// Whether it has ever answered.
    reached: AtomicBool,
    /// Until when it asked to be left alone; by all, not only by the request that heard it.
    busy_until: Mutex<Duration>,
}

impl<S: Store> RetryStore<S> {
    /// Tries again what fails at `inner`, until `cancel` or the policy ends it. `notify` is called from any thread.
    pub fn new(
        inner: S,
        policy: RetryPolicy,
        cancel: Cancel,
        notify: impl Fn(&RetryNotice<'_>) + Send + Sync + 'static,
    ) -> Self {
        let pace = Arc::new(SystemPace::new(cancel.clone()));
        Self {
            inner,
            policy,
            pace,
            cancel,
            notify: Box::new(notify),
            reached: AtomicBool::new(false),
            busy_until: Mutex::default(),
        }
    }

    /// With other time and chance.
    #[must_use]
    pub fn with_pace(self, pace: Arc<dyn Pace>) -> Self {
        Self { pace, ..self }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Tries until it succeeds, fails for a lasting reason, or the budget is spent. The request learns whether it was
    /// tried before.
    fn retry<T>(&self, mut request: impl FnMut(bool) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let start = self.pace.now();
        let mut longest = self.policy.first_pause;
        let mut attempts = 0;
        loop {
            self.leave_alone();
            let error = match request(attempts > 0) {
                Err(error) if error.kind == StoreErrorKind::Retry => error,
                done => {
                    self.reached.store(true, Ordering::Relaxed);
                    return done;
                }
            };
            attempts += 1;
            let elapsed = self.pace.now().saturating_sub(start);
            let mut pause = self.pace.jitter(longest);
            if let Some(busy) = error.source.downcast_ref::<Busy>() {
                // Not to be overloaded takes a store that is there.
                self.reached.store(true, Ordering::Relaxed);
                pause += busy.pause;
            }
            let reached = self.reached.load(Ordering::Relaxed);
            let budget = if reached { self.policy.budget } else { self.policy.first_contact.min(self.policy.budget) };
            if elapsed + pause >= budget || self.cancel.is_cancelled() {
                return Err(error);
            }
            if elapsed >= self.policy.quiet {
                (self.notify)(&RetryNotice { error: &error, attempts, elapsed, pause, budget });
            }
            if let Some(busy) = error.source.downcast_ref::<Busy>() {
                let mut until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
                *until = (self.pace.now() + busy.pause).max(*until);
            }
            self.pace.sleep(pause);
            if self.cancel.is_cancelled() {
                return Err(error);
            }
            longest = (longest * 2).min(self.policy.longest_pause);
        }
    }

    /// Waits while the store asked to be left alone, and a little longer, not to come back together with all others.
    fn leave_alone(&self) {
        let until = *self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = until.checked_sub(self.pace.now()).filter(|rest| !rest.is_zero()) {
            self.pace.sleep(rest + self.pace.jitter(self.policy.first_pause));
        }
    }

    /// After a lost answer: whether the object that is there is the one this client wanted to write.
    ///
    /// Names are hashes, so the same size is proof enough that it is whole; only the config has a name that another
    /// client's object can have too.
    fn is_ours(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool, StoreError> {
        if name.place() == Place::Config {
            let mut found = Vec::new();
            let limit_bytes = u64::MAX;
            self.inner.get(name, ByteRange::WholeUpTo { limit_bytes }, &mut found)?;
            return Ok(found == bytes);
        }
        Ok(self.inner.stat(name)?.is_some_and(|info| info.size_bytes == bytes.len() as u64))
    }
}

impl<S: Store> Store for RetryStore<S> {
    hand_on!(self.inner: abilities, location);

    fn create(&self) -> Result<(), StoreError> {
        self.retry(|_| self.inner.create())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        self.retry(|again| match self.inner.put(name, bytes) {
            Err(error) if again && error.kind == StoreErrorKind::Exists => {
                if self.is_ours(name, bytes)? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            done => done,
        })
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.retry(|_| self.inner.get(name, range, into))
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        // What a failed listing told is not to be relied on, so nothing is passed on before its end.
        let entries = self.retry(|_| {
            let mut entries = Vec::new();
            self.inner.list(place, &mut |info| entries.push(info)).map(|()| entries)
        })?;
        entries.into_iter().for_each(visit);
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        self.retry(|_| self.inner.stat(name))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.retry(|_| self.inner.delete(name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize};

    use super::*;
    use crate::store::{
        memory::MemoryStore,
        testing::{Fault, FaultStore, contract::object},
    };

    /// A clock that only pauses move, and the longest pause every time.
    #[derive(Default)]
    struct Still(Mutex<Vec<Duration>>);

    impl Pace for Still {
        fn now(&self) -> Duration {
            self.0.lock().unwrap().iter().sum()
        }
        fn sleep(&self, pause: Duration) {
            self.0.lock().unwrap().push(pause);
        }
        fn jitter(&self, longest: Duration) -> Duration {
            longest
        }
    }

    fn retrying<S: Store>(inner: S) -> (RetryStore<S>, Arc<Still>, Arc<AtomicUsize>) {
        let (pace, notices) = (Arc::new(Still::default()), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&notices);
        let store = RetryStore::new(inner, RetryPolicy::default(), Cancel::default(), move |notice| {
            assert!(notice.elapsed >= Duration::from_secs(10) && notice.attempts > 1);
            count.fetch_add(1, Ordering::SeqCst);
        });
        (store.with_pace(Arc::<Still>::clone(&pace)), pace, notices)
    }

    #[test]
    fn every_lost_answer_of_every_request_is_mended() {
        for fault in [Fault::FailBefore(StoreErrorKind::Retry), Fault::FailAfter(StoreErrorKind::Retry)] {
            for number in 0..11 {
                let (store, pace, notices) = retrying(FaultStore::new(MemoryStore::new()).at(number, fault.clone()));
                for name in [object(Place::Data, b"bytes"), ObjectName::CONFIG] {
                    store.create().unwrap();
                    store.put(&name, b"bytes").unwrap();
                    let mut bytes = Vec::new();
                    store.get(&name, ByteRange::Suffix { length_bytes: 9 }, &mut bytes).unwrap();
                    assert_eq!(bytes, b"bytes");
                    let mut listed = 0;
                    store.list(name.place(), &mut |_| listed += 1).unwrap();
                    assert_eq!(listed, 1);
                    assert!(store.stat(&name).unwrap().is_some());
                    if name != ObjectName::CONFIG {
                        store.delete(&name).unwrap();
                        assert!(store.inner().inner().names().is_empty());
                    }
                }
                assert_eq!(store.inner().struck(), 1);
                assert_eq!(*pace.0.lock().unwrap(), [RetryPolicy::default().first_pause]);
                assert_eq!(notices.load(Ordering::SeqCst), 0);
            }
        }
    }

    #[test]
    fn a_lost_race_is_not_taken_for_an_own_success() {
        let memory = MemoryStore::new();
        let (store, ..) = retrying(FaultStore::new(memory.clone()).at(0, Fault::FailBefore(StoreErrorKind::Retry)));
        memory.put(&ObjectName::CONFIG, b"their").unwrap();
        assert_eq!(store.put(&ObjectName::CONFIG, b"bytes").unwrap_err().kind, StoreErrorKind::Exists);
        // A cut object under the same name, from an attempt that failed halfway at a store that shows it.
        let name = object(Place::Data, b"bytes");
        let cut = Fault::PutCut { kept_bytes: 3, error: Some(StoreErrorKind::Retry) };
        let (store, ..) = retrying(FaultStore::new(memory).at(0, cut));
        assert_eq!(store.put(&name, b"bytes").unwrap_err().kind, StoreErrorKind::Exists);
    }

    #[test]
    fn the_budget_ends_it_and_the_user_is_told() {
        let (store, pace, notices) =
            retrying(FaultStore::new(MemoryStore::new()).from(0, Fault::FailBefore(StoreErrorKind::Retry)));
        assert_eq!(store.create().unwrap_err().kind, StoreErrorKind::Retry);
        let pauses = pace.0.lock().unwrap().clone();
        let policy = RetryPolicy::default();
        assert!(pauses.iter().sum::<Duration>() < policy.budget);
        assert!(pauses.iter().sum::<Duration>() + policy.longest_pause >= policy.budget, "and no sooner than needed");
        assert!(pauses.iter().all(|pause| *pause <= policy.longest_pause));
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        // 0.5 + 1 + 2 + 4 + 8 s: the notices begin with the fifth pause behind us.
        assert_eq!(notices.load(Ordering::SeqCst), pauses.len() - 5);
        assert_eq!(store.inner().operations(), pauses.len() as u64 + 1);
    }

    #[test]
    fn a_store_that_never_answered_is_given_up_sooner() {
        let policy = RetryPolicy { first_contact: Duration::from_secs(30), ..RetryPolicy::default() };
        for answers in [0, 1] {
            let pace = Arc::new(Still::default());
            let faulty = FaultStore::new(MemoryStore::new()).from(answers, Fault::FailBefore(StoreErrorKind::Retry));
            let store =
                RetryStore::new(faulty, policy, Cancel::default(), |_| {}).with_pace(Arc::<Still>::clone(&pace));
            (0..answers).for_each(|_| assert!(store.stat(&ObjectName::CONFIG).unwrap().is_none()));
            assert_eq!(store.create().unwrap_err().kind, StoreErrorKind::Retry);
            assert_eq!(pace.now() < policy.first_contact, answers == 0);
        }
    }

    /// Refuses so many requests, and asks to be left alone for so long each time.
    struct BusyStore {
        inner: MemoryStore,
        refusals: AtomicU64,
        pause: Duration,
    }

    impl Store for BusyStore {
        hand_on!(self.inner: put, get, list, stat, delete, abilities, location);

        fn create(&self) -> Result<(), StoreError> {
            let left = self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if left.is_err() {
                return Ok(());
            }
            let source = Box::new(Busy { reason: "busy".into(), pause: self.pause });
            let (object, location) = ("it".into(), self.location());
            Err(StoreError { kind: StoreErrorKind::Retry, operation: "create", object, location, source })
        }
    }

    fn busy(refusals: u64, pause_seconds: u64) -> BusyStore {
        let (inner, pause) = (MemoryStore::new(), Duration::from_secs(pause_seconds));
        BusyStore { inner, refusals: refusals.into(), pause }
    }

    #[test]
    fn a_store_that_asks_to_be_left_alone_is() {
        let first_pause = RetryPolicy::default().first_pause;
        let (store, pace, _) = retrying(busy(2, 40));
        store.create().unwrap();
        let asked = Duration::from_secs(40);
        assert_eq!(*pace.0.lock().unwrap(), [asked + first_pause, asked + 2 * first_pause]);
        // Nor do others ask meanwhile.
        let (store, pace, _) = retrying(busy(1, 40));
        *store.busy_until.lock().unwrap() = asked;
        assert!(store.stat(&ObjectName::CONFIG).unwrap().is_none());
        assert_eq!(pace.now(), asked + first_pause);
        assert!(store.stat(&ObjectName::CONFIG).unwrap().is_none());
        assert_eq!(pace.now(), asked + first_pause, "and not for longer");
    }

    #[test]
    fn what_it_asks_for_has_a_bound() {
        // Longer than anybody would wait: it is told at once.
        let (store, pace, _) = retrying(busy(1, 3600));
        let error = store.create().unwrap_err();
        assert_eq!((error.kind, pace.now()), (StoreErrorKind::Retry, Duration::ZERO));
        assert_eq!(error.source.to_string(), "busy; it asks to be left alone for 3600 s");
        store.create().unwrap();
        // For ever, in small pieces: the budget ends it.
        let (store, pace, _) = retrying(busy(u64::MAX, 100));
        assert!(store.create().is_err());
        assert!(pace.now() < RetryPolicy::default().budget && pace.now() > Duration::from_mins(10));
        // One that is there and busy is not a wrong address.
        let policy = RetryPolicy { first_contact: Duration::from_secs(30), ..RetryPolicy::default() };
        let pace = Arc::new(Still::default());
        let store = RetryStore::new(busy(1, 60), policy, Cancel::default(), |_| {});
        store.with_pace(Arc::<Still>::clone(&pace)).create().unwrap();
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        use StoreErrorKind::{Clock, Damage, Denied, Exists, NoSpace, NotFound, Permanent, Refresh};
        for kind in [Clock, Damage, Denied, Exists, NoSpace, NotFound, Permanent, Refresh] {
            let (store, ..) = retrying(FaultStore::new(MemoryStore::new()).from(0, Fault::FailBefore(kind)));
            assert_eq!(store.put(&ObjectName::CONFIG, b"").unwrap_err().kind, kind);
            assert_eq!(store.inner().operations(), 1);
        }
    }

    #[test]
    fn a_cancel_ends_it() {
        let cancel = Cancel::default();
        let faulty = FaultStore::new(MemoryStore::new()).from(0, Fault::FailBefore(StoreErrorKind::Retry));
        let store = RetryStore::new(faulty, RetryPolicy::default(), cancel.clone(), |_| {});
        thread::scope(|scope| {
            let waiting = scope.spawn(|| store.create().unwrap_err().kind);
            thread::sleep(Duration::from_millis(50));
            cancel.cancel();
            assert_eq!(waiting.join().unwrap(), StoreErrorKind::Retry);
        });
    }

    #[test]
    fn jitter_keeps_its_bounds_and_varies() {
        let pace = SystemPace::new(Cancel::default());
        let longest = Duration::from_secs(1);
        let pauses: Vec<_> = (0..100).map(|_| pace.jitter(longest)).collect();
        assert!(pauses.iter().all(|pause| *pause <= longest));
        assert!(pauses.iter().any(|pause| *pause < longest / 2) && pauses.iter().any(|pause| *pause > longest / 2));
    }
}
