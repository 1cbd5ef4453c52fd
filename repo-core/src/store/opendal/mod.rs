//! Repositories in buckets, through `OpenDAL`: the only place that knows it, and the only one with an asynchronous runtime.
//!
//! Every object is written with one request, by a writer of its own, and no layer of `OpenDAL` repeats anything
//! ([`super::retry`] does). What its errors mean is decided in `failure`, since it calls much temporary that is not.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::{Either, select};
use opendal::{Buffer, BytesRange, Metadata, Operator, options};
use tokio::runtime::{Builder, Runtime};

use self::{failure::failure, spare::Spare};
use super::{
    Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store,
    backend::{Backend, Failure},
    flow::{self, Flow, Watch},
    remote,
};
use crate::{
    error::{Error, StoreErrorKind},
    time::Timestamp,
};

mod failure;
mod heard;
mod http;
#[cfg(feature = "services")]
mod listings;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "services")]
pub mod service;
mod spare;
#[cfg(feature = "services")]
mod staged;

/// Requests in flight at once, unless it is said otherwise.
pub const CONNECTIONS: usize = 8;

/// Threads that drive connections; the work is done by those who call the store.
const RUNTIME_THREADS: usize = 2;

/// Memory that is set aside for what was asked for before it comes.
const BELIEVED_BYTES: u64 = 64 << 20;

/// A repository below a prefix of a bucket.
pub struct BucketStore {
    clients: RwLock<Arc<Clients>>,
    /// How they are made anew, with credentials that are asked for again.
    renew: Option<Box<Renew>>,
    /// Held by who does so.
    renewing: Mutex<()>,
    /// Whether the store has ever done what it was asked for.
    has_answered: AtomicBool,
    location: String,
    connections: usize,
    /// How an object is kept from replacing another.
    exclusive: RwLock<Exclusive>,
    spare: Spare,
    flow: Flow,
}

/// What sends requests.
struct Clients {
    operator: Operator,
    /// The same for packs, where they are to be stored in another way.
    packs: Operator,
}

type Renew = dyn Fn() -> Result<Clients, Error> + Send + Sync;

/// How an object is kept from replacing another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exclusive {
    /// The store does it.
    ByCondition,
    /// It cannot; it is asked beforehand.
    ByAsking,
}

impl BucketStore {
    fn new(clients: Clients, location: String, connections: usize, exclusive: Exclusive, flow: Flow) -> Self {
        let connections = if connections == 0 { CONNECTIONS } else { connections };
        Self {
            clients: RwLock::new(Arc::new(clients)),
            renew: None,
            renewing: Mutex::new(()),
            has_answered: AtomicBool::new(false),
            location,
            connections,
            exclusive: RwLock::new(exclusive),
            spare: Spare::default(),
            flow,
        }
    }

    fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.clients.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn operator(&self) -> Operator {
        self.clients().operator.clone()
    }

    /// Does it, and once again with new credentials when those there were have expired.
    fn with_credentials<T>(&self, request: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        let used = self.clients();
        let failed = match request() {
            Err(failed) if self.is_expired(&failed) => failed,
            done => {
                if done.is_ok() {
                    self.has_answered.store(true, Ordering::Relaxed);
                }
                return done;
            }
        };
        let expired = |reason: &str, failed: Failure| {
            Failure::new(StoreErrorKind::Refresh, format!("the credentials have expired{reason} ({})", failed.source))
        };
        let Some(renew) = &self.renew else { return Err(expired("", failed)) };
        {
            let _one_at_a_time = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody else may have done it meanwhile.
            if Arc::ptr_eq(&used, &self.clients()) {
                match renew() {
                    Ok(clients) => *self.clients.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(clients),
                    Err(error) => return Err(expired(&format!(", and there are no others: {error}"), failed)),
                }
            }
        }
        match request() {
            Err(failed) if self.is_expired(&failed) => {
                Err(expired(", and where they come from there are no newer ones", failed))
            }
            done => done,
        }
    }

    /// Whether new credentials may help: the store says so, or does not know any more those that it knew.
    fn is_expired(&self, failed: &Failure) -> bool {
        let knew = self.has_answered.load(Ordering::Relaxed);
        failed.kind == StoreErrorKind::Refresh
            || knew && failed.kind == StoreErrorKind::Denied && failure::names_the_credentials(failed)
    }

    fn exclusive(&self) -> Exclusive {
        *self.exclusive.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_once(&self, name: &ObjectName, bytes: &Buffer) -> Result<(), Failure> {
        let size_bytes = bytes.len() as u64;
        // Some stores take the condition and pay no heed to it. Names that are hashes bear that, the config does not.
        let ask = name.place() == Place::Config || self.exclusive() == Exclusive::ByAsking;
        if ask && self.tell_once(name)?.is_some() {
            return Err(Failure::exists());
        }
        let clients = self.clients();
        let put = |if_not_exists| {
            let operator = if name.place() == Place::Data { &clients.packs } else { &clients.operator };
            let options = options::WriteOptions { if_not_exists, ..options::WriteOptions::default() };
            let (path, bytes) = (name.to_string(), bytes.clone());
            self.run(self.sending(size_bytes), async move { operator.write_options(&path, bytes, options).await })
        };
        match put(self.exclusive() == Exclusive::ByCondition) {
            Err(failed) if self.exclusive() == Exclusive::ByCondition && failure::knows_no_conditions(&failed) => {
                *self.exclusive.write().unwrap_or_else(PoisonError::into_inner) = Exclusive::ByAsking;
                if self.tell_once(name)?.is_some() {
                    return Err(Failure::exists());
                }
                put(false).map(|_| ())
            }
            done => done.map(|_| ()),
        }
    }

    fn read_once(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), Failure> {
        into.clear();
        match range {
            ByteRange::WholeUpTo { limit_bytes } => self.fetch(name, BytesRange::new(0, None), limit_bytes, into),
            ByteRange::Exact { offset_bytes, length_bytes } => self.read_exact(name, offset_bytes, length_bytes, into),
            ByteRange::Suffix { length_bytes } => self.read_suffix(name, length_bytes, into),
        }
    }

    fn read_exact(
        &self,
        name: &ObjectName,
        offset_bytes: u64,
        length_bytes: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let short = |size: &str| {
            Failure::damage(format!("it has {size} bytes; {length_bytes} from byte {offset_bytes} on are wanted"))
        };
        let end = offset_bytes.checked_add(length_bytes).filter(|end| i64::try_from(*end).is_ok());
        if length_bytes == 0 || end.is_none() {
            // Nothing that could be asked for; but the object must be there, and reach as far.
            let size_bytes = self.tell_once(name)?.ok_or_else(Failure::absent)?.size_bytes;
            return if end.is_some_and(|end| end <= size_bytes) { Ok(()) } else { Err(short(&size_bytes.to_string())) };
        }
        let fetched = self.fetch(name, BytesRange::new(offset_bytes, Some(length_bytes)), length_bytes, into);
        match fetched {
            Ok(()) if into.len() as u64 == length_bytes => Ok(()),
            Ok(()) => Err(short("fewer")),
            // That less has come than was asked for has no kind of its own.
            Err(failed) if matches!(failed.kind, StoreErrorKind::Permanent | StoreErrorKind::Damage) => {
                let size_bytes = self.tell_once(name)?.ok_or_else(Failure::absent)?.size_bytes;
                Err(if end.is_some_and(|end| end <= size_bytes) { failed } else { short(&size_bytes.to_string()) })
            }
            Err(failed) => Err(failed),
        }
    }

    fn read_suffix(&self, name: &ObjectName, length_bytes: u64, into: &mut Vec<u8>) -> Result<(), Failure> {
        if length_bytes == 0 {
            return self.tell_once(name)?.map(|_| ()).ok_or_else(Failure::absent);
        }
        if i64::try_from(length_bytes).is_err() {
            return self.read_once(name, ByteRange::WholeUpTo { limit_bytes: u64::MAX }, into);
        }
        match self.fetch(name, BytesRange::suffix(length_bytes), length_bytes, into) {
            // An empty object has no last byte.
            Err(failed) if failed.kind == StoreErrorKind::Damage => match self.tell_once(name)? {
                Some(found) if found.size_bytes == 0 => Ok(()),
                _ => Err(failed),
            },
            done => done,
        }
    }

    /// Appends what comes to `into`, but not more than `limit_bytes`.
    fn fetch(&self, name: &ObjectName, range: BytesRange, limit_bytes: u64, into: &mut Vec<u8>) -> Result<(), Failure> {
        let path = name.to_string();
        if limit_bytes <= BELIEVED_BYTES {
            let expected = usize::try_from(limit_bytes).unwrap_or(0);
            into.try_reserve(expected).map_err(|_| Failure::permanent("there is not enough memory for it"))?;
        }
        let read = async {
            use futures_util::StreamExt as _;
            let reader = self.operator().reader(&path).await?;
            let mut stream = Box::pin(reader.into_stream(range).await?);
            loop {
                // A connection over which nothing comes is given up long before the whole would have to be there.
                match tokio::time::timeout(remote::SILENCE, stream.next()).await {
                    Ok(Some(part)) => {
                        for bytes in part? {
                            if (into.len() + bytes.len()) as u64 > limit_bytes {
                                return Ok(Err(Failure::damage(format!(
                                    "it has more bytes than it can have; no more than {limit_bytes} are possible"
                                ))));
                            }
                            into.extend_from_slice(&bytes);
                            if let Some(throttle) = &self.flow.throttle {
                                tokio::time::sleep(throttle.fetch_pause(bytes.len() as u64)).await;
                            }
                        }
                    }
                    Ok(None) => return Ok(Ok(())),
                    Err(_) => {
                        return Ok(Err(Failure::new(StoreErrorKind::Retry, "the store was silent for too long")));
                    }
                }
            }
        };
        self.run(self.flow.deadline(0, limit_bytes, self.connections), read)?
    }

    fn list_once(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), Failure> {
        if place == Place::Config {
            self.tell_once(&ObjectName::CONFIG)?.into_iter().for_each(visit);
            return Ok(());
        }
        let folder = format!("{}/", place.name());
        let list = async {
            use futures_util::StreamExt as _;
            let mut lister = self.operator().lister_with(&folder).recursive(true).await?;
            loop {
                match tokio::time::timeout(remote::LISTING_SILENCE, lister.next()).await {
                    Ok(Some(entry)) => {
                        let entry = entry?;
                        if let Some(name) = ObjectName::at_path(place, entry.path().trim_start_matches('/')) {
                            visit(info(name, entry.metadata()));
                        }
                    }
                    Ok(None) => return Ok(Ok(())),
                    Err(_) => {
                        return Ok(Err(Failure::new(StoreErrorKind::Retry, "the store was silent for too long")));
                    }
                }
            }
        };
        // No end is set to a listing that goes on: each page of it has one.
        self.run(Duration::from_hours(24), list)?
    }

    /// How long a request may take that sends so much.
    fn sending(&self, size_bytes: u64) -> Duration {
        self.flow.deadline(size_bytes, 0, self.connections)
    }

    /// Waits for a request, for so long; less when the operation is ended.
    fn run<T>(
        &self,
        longest: Duration,
        request: impl Future<Output = Result<T, opendal::Error>>,
    ) -> Result<T, Failure> {
        let runtime = runtime().map_err(|error| Failure::permanent(format!("cannot start threads: {error}")))?;
        let watch = self.flow.begin();
        runtime.block_on(heard::listening(async move {
            let request = pin!(tokio::time::timeout(longest, request));
            match select(request, pin!(over(watch))).await {
                Either::Left((Ok(done), _)) => done.map_err(|error| failure(&error)),
                Either::Left((Err(_), _)) => Err(Failure::new(StoreErrorKind::Retry, "it took too long")),
                Either::Right(_) => Err(flow::cut()),
            }
        }))
    }

    fn tell_once(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, Failure> {
        let path = name.to_string();
        match self.run(remote::deadline(0), async { self.operator().stat(&path).await }) {
            Ok(found) => Ok(Some(info(*name, &found))),
            // That there is no bucket looks the same here, and what is wrong with a key, a clock or a region is not told; only an answer with
            // a body tells.
            Err(failed)
                if matches!(failed.kind, StoreErrorKind::Permanent | StoreErrorKind::Denied)
                    || failed.kind == StoreErrorKind::NotFound && name.place() == Place::Config =>
            {
                match self.fetch(name, BytesRange::new(0, Some(1)), 1, &mut Vec::new()) {
                    Err(failed) if failed.kind == StoreErrorKind::NotFound => Ok(None),
                    Err(failed) => Err(failed),
                    // It has come just now.
                    Ok(()) => self
                        .run(remote::deadline(0), async { self.operator().stat(&path).await })
                        .map(|metadata| Some(info(*name, &metadata))),
                }
            }
            Err(failed) if failed.kind == StoreErrorKind::NotFound => Ok(None),
            Err(failed) => Err(failed),
        }
    }
}

fn info(name: ObjectName, metadata: &Metadata) -> ObjectInfo {
    let modified = metadata.last_modified().map(|time| Timestamp::from_seconds(time.into_inner().as_second()));
    ObjectInfo { name, size_bytes: metadata.content_length(), modified }
}

/// Waits until a request is to be cut.
async fn over(watch: Watch) {
    while !watch.is_over() {
        tokio::time::sleep(flow::LOOK).await;
    }
}

fn runtime() -> Result<&'static Runtime, &'static io::Error> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let build =
        || Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().thread_name("store").build();
    RUNTIME.get_or_init(build).as_ref()
}

/// A mistake in what was given.
fn invalid(error: &opendal::Error) -> Error {
    Error::Invalid(remote::excerpt(error.message()))
}

impl Backend for BucketStore {
    /// Buckets are made by their owner; that there is one, and that it may be listed, is asked.
    fn make(&self) -> Result<(), Failure> {
        let list = || self.run(remote::deadline(0), async { self.operator().list_with("keys/").limit(1).await });
        match self.with_credentials(list) {
            Err(failed) if failed.kind != StoreErrorKind::NotFound => Err(failed),
            _ => Ok(()),
        }
    }

    fn making(&self) -> (&'static str, &'static str) {
        ("prepare", "the bucket")
    }

    fn write(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Failure> {
        let bytes = self.spare.copy(bytes);
        self.with_credentials(|| self.write_once(name, &bytes))
    }

    fn read(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), Failure> {
        let into = RefCell::new(into);
        self.with_credentials(|| self.read_once(name, range, &mut into.borrow_mut()))
    }

    fn list_place(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), Failure> {
        let visit = RefCell::new(visit);
        self.with_credentials(|| self.list_once(place, &mut *visit.borrow_mut()))
    }

    fn tell(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, Failure> {
        self.with_credentials(|| self.tell_once(name))
    }

    fn remove(&self, name: &ObjectName) -> Result<(), Failure> {
        let path = name.to_string();
        let delete = || self.run(remote::deadline(0), async { self.operator().delete(&path).await });
        match self.with_credentials(delete) {
            Err(failed) if failed.kind != StoreErrorKind::NotFound => Err(failed),
            _ => Ok(()),
        }
    }

    fn abilities(&self) -> Abilities {
        let exclusive_put = self.exclusive() == Exclusive::ByCondition;
        Abilities { exclusive_put, connections: self.connections, visibility_delay_ms: 0 }
    }

    fn location(&self) -> String {
        self.location.clone()
    }
}

impl Store for BucketStore {
    hand_on!(self as &dyn Backend);
}
