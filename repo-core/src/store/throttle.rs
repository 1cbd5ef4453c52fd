//! Keeps transfers to so many bytes a second.

use std::{
    fmt,
    num::NonZeroU64,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{ByteRange, ObjectName, Store, retry::Pace};
use crate::error::StoreError;

/// Limits of both directions, shared by all connections of a store.
pub struct Throttle {
    sent: Option<Bucket>,
    fetched: Option<Bucket>,
    pace: Arc<dyn Pace>,
}

/// One direction. Whoever moves bytes is given the time slot after everybody's before, and waits for its begin: the rate is kept whatever
/// the sizes are, and nobody is passed over.
struct Bucket {
    bytes_per_second: NonZeroU64,
    /// When all that was admitted will have passed.
    free: Mutex<Duration>,
}

impl Bucket {
    fn time_of(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Gives away the next time slot; how long it is until it begins.
    fn reserve(&self, bytes: u64, pace: &dyn Pace) -> Duration {
        let now = pace.now();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = now.max(*free);
        *free = begin.saturating_add(self.time_of(bytes));
        begin.saturating_sub(now)
    }

    fn pass(&self, bytes: u64, pace: &dyn Pace) {
        let pause = self.reserve(bytes, pace);
        if !pause.is_zero() {
            pace.sleep(pause);
        }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |bucket: &Option<Bucket>| bucket.as_ref().map(|bucket| bucket.bytes_per_second);
        out.debug_struct("Throttle")
            .field("sent", &rate(&self.sent))
            .field("fetched", &rate(&self.fetched))
            .finish_non_exhaustive()
    }
}

impl Throttle {
    /// Limits in bytes a second, for what is sent to a store and what is fetched from it.
    #[must_use]
    pub fn new(sent: Option<NonZeroU64>, fetched: Option<NonZeroU64>, pace: Arc<dyn Pace>) -> Self {
        let bucket = |rate: Option<NonZeroU64>| {
            rate.map(|bytes_per_second| Bucket { bytes_per_second, free: Mutex::new(Duration::ZERO) })
        };
        Self { sent: bucket(sent), fetched: bucket(fetched), pace }
    }

    /// Waits until so many bytes may be sent.
    pub fn send(&self, bytes: u64) {
        if let Some(bucket) = &self.sent {
            bucket.pass(bytes, &*self.pace);
        }
    }

    /// Waits until so many bytes may be fetched, or, called with what came, so long that more may come.
    pub fn fetch(&self, bytes: u64) {
        if let Some(bucket) = &self.fetched {
            bucket.pass(bytes, &*self.pace);
        }
    }

    /// Like [`Self::send`], for those who wait in their own way: for how long.
    #[must_use]
    pub fn send_pause(&self, bytes: u64) -> Duration {
        self.sent.as_ref().map_or(Duration::ZERO, |bucket| bucket.reserve(bytes, &*self.pace))
    }

    /// Like [`Self::fetch`], for those who wait in their own way: for how long.
    #[must_use]
    pub fn fetch_pause(&self, bytes: u64) -> Duration {
        self.fetched.as_ref().map_or(Duration::ZERO, |bucket| bucket.reserve(bytes, &*self.pace))
    }

    /// Whether there is a limit for what is sent, and for what is fetched.
    #[cfg(any(feature = "bucket", feature = "sftp"))]
    pub(super) const fn has_limits(&self) -> (bool, bool) {
        (self.sent.is_some(), self.fetched.is_some())
    }

    /// How long a transfer may take only because of the limits, when so many others share them.
    #[must_use]
    pub fn longest(&self, sent_bytes: u64, fetched_bytes: u64, sharers: usize) -> Duration {
        let time = |bucket: &Option<Bucket>, bytes: u64| {
            let all = bytes.saturating_mul(sharers.max(1) as u64);
            bucket.as_ref().map_or(Duration::ZERO, |bucket| bucket.time_of(all))
        };
        time(&self.sent, sent_bytes).saturating_add(time(&self.fetched, fetched_bytes))
    }
}

/// A store whose transfers are kept to limits, an object or a part of one at a time. Where a store can do it finer, it does so itself.
pub struct ThrottledStore<S> {
    inner: S,
    throttle: Arc<Throttle>,
}

impl<S: Store> ThrottledStore<S> {
    /// Keeps what goes to `inner` and comes from there to the limits.
    pub const fn new(inner: S, throttle: Arc<Throttle>) -> Self {
        Self { inner, throttle }
    }
}

impl<S: Store> Store for ThrottledStore<S> {
    hand_on!(self.inner: create, list, stat, delete, abilities, location);

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        self.throttle.send(bytes.len() as u64);
        self.inner.put(name, bytes)
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.inner.get(name, range, into)?;
        self.throttle.fetch(into.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Place, memory::MemoryStore, testing::contract::object};

    /// A clock that only pauses move.
    #[derive(Default)]
    struct Still(Mutex<Duration>);

    impl Pace for Still {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, pause: Duration) {
            *self.0.lock().unwrap() += pause;
        }
        fn jitter(&self, _: Duration) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn the_rate_is_kept_whatever_the_sizes_are() {
        let pace = Arc::new(Still::default());
        let throttle = Throttle::new(NonZeroU64::new(1_000), None, Arc::<Still>::clone(&pace));
        for bytes in [1, 10_000, 0, 999, 500, 500] {
            throttle.send(bytes);
            throttle.fetch(1 << 40);
        }
        throttle.send(1);
        assert_eq!(pace.now(), Duration::from_secs(12), "what is before has passed");
        *pace.0.lock().unwrap() = Duration::from_mins(1);
        throttle.send(5_000);
        assert_eq!(pace.now(), Duration::from_mins(1), "nothing is saved up, and nothing is owed for long");
        assert_eq!(throttle.longest(1_000, 1 << 40, 5), Duration::from_secs(5));
        throttle.send(u64::MAX);
        assert_eq!(throttle.longest(u64::MAX, 0, 5).as_secs(), u64::MAX / 1_000_000_000);
    }

    #[test]
    fn objects_pass_one_after_the_other() {
        let pace = Arc::new(Still::default());
        let rate = NonZeroU64::new(100);
        let throttle = Arc::new(Throttle::new(rate, rate, Arc::<Still>::clone(&pace)));
        let store = ThrottledStore::new(MemoryStore::new(), throttle);
        let mut bytes = Vec::new();
        for content in [[1; 200], [2; 200]] {
            let name = object(Place::Data, &content);
            store.put(&name, &content).unwrap();
            store.get(&name, ByteRange::WholeUpTo { limit_bytes: 200 }, &mut bytes).unwrap();
            assert_eq!(bytes, content);
        }
        assert_eq!(
            pace.now(),
            Duration::from_secs(2),
            "the second put waits for the first, and the second get is after its slot"
        );
    }
}
