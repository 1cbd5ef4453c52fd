//! Repositories in folders of other machines, by the SSH File Transfer Protocol over a pipe to a server: usually that of an `ssh`, which
//! the caller starts.
//!
//! An object is written under a temporary name in its own folder, made durable where the server can do that (`fsync@openssh.com`), its
//! length compared, and renamed: with `OpenSSH` that never replaces anything. Only [`SftpStore::create`] makes folders, so that a backup
//! to a machine whose disk is not mounted fails and does not begin anew below the mount point.

use std::{
    collections::BTreeSet,
    fmt, io,
    io::{Read, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use self::session::Session;
use super::{
    Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store,
    backend::{Backend, Failure, located},
    flow::{self, Flow},
    remote,
};
use crate::{error::StoreErrorKind, id::ObjectId, time::Timestamp};

mod files;
mod session;
mod wire;

/// Requests in flight at once, unless it is said otherwise. All go over one connection.
pub const CONNECTIONS: usize = 5;

/// Memory that is set aside for what is to come.
const BELIEVED_BYTES: u64 = 64 << 20;

/// A way to a server, with both directions of it.
pub struct Pipe {
    /// What the server sends.
    pub reader: Box<dyn Read + Send>,
    /// What is sent to the server.
    pub writer: Box<dyn Write + Send>,
    /// What carries both.
    pub carrier: Box<dyn Carrier>,
}

/// What carries a conversation: the program that was started for it.
pub trait Carrier: Send {
    /// Ends it, at once.
    fn end(&mut self);

    /// What it said for people since it was started; asked after it ended.
    fn last_words(&mut self) -> String;
}

/// Makes a new way to the server. Called from any thread, one call at a time.
pub type Connect = dyn Fn() -> io::Result<Pipe> + Send + Sync;

/// A repository in a folder of another machine.
pub struct SftpStore {
    connect: Box<Connect>,
    session: Mutex<Option<Arc<Session>>>,
    root: String,
    location: String,
    connections: usize,
    temporary_names: AtomicUsize,
    /// What tells temporary names of this process from those of others.
    nonce: u64,
    /// Folders in which was looked for what killed writers left.
    tidied: Mutex<BTreeSet<String>>,
    flow: Flow,
}

impl SftpStore {
    /// The repository in the folder `root`, whether there is one or not; nothing is sent. A folder without a leading slash is below the
    /// user's home. `location` says in messages where it is.
    pub fn new(root: &str, location: String, connections: usize, connect: Box<Connect>) -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self {
            connect,
            session: Mutex::new(None),
            root: root.trim_end_matches('/').to_owned(),
            location,
            connections: if connections == 0 { CONNECTIONS } else { connections },
            temporary_names: AtomicUsize::new(0),
            nonce: RandomState::new().hash_one(std::process::id()),
            tidied: Mutex::default(),
            flow: Flow::default(),
        }
    }

    /// With limits, and an end.
    #[must_use]
    pub fn with_flow(self, flow: Flow) -> Self {
        Self { flow, ..self }
    }

    /// The conversation with the server; a new one if there is none, or none any more.
    fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut current = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = current.as_ref().filter(|session| !session.is_over()) {
            return Ok(Arc::clone(session));
        }
        *current = None;
        if self.flow.begin().is_over() {
            return Err(flow::cut());
        }
        let pipe = (self.connect)().map_err(|error| Failure::permanent(format!("cannot start ssh: {error}")))?;
        let session = Arc::new(Session::begin(pipe, self.flow.clone())?);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    fn path(&self, below: &impl fmt::Display) -> String {
        format!("{}/{below}", self.root)
    }

    fn place_path(&self, place: Place) -> String {
        match place {
            Place::Config if self.root.is_empty() => "/".to_owned(),
            Place::Config => self.root.clone(),
            place => self.path(&place.name()),
        }
    }

    /// Whether the repository is here, so that "no such file" means what it says.
    fn is_here(&self, session: &Session, place: Place) -> Result<bool, Failure> {
        let there = |path: &str| session.look(path).map(|found| found.is_some());
        Ok(there(&self.place_path(place))? || there(&self.path(&ObjectName::CONFIG))?)
    }

    fn gone(&self, place: Place) -> Failure {
        Failure::permanent(format!("there is no folder {} there; is its disk mounted?", self.place_path(place)))
    }

    /// After "no such file": succeeds when the object is what is missing, and not the whole repository.
    fn is_only_the_object(&self, session: &Session, place: Place) -> Result<(), Failure> {
        if place != Place::Config {
            return if self.is_here(session, place)? { Ok(()) } else { Err(self.gone(place)) };
        }
        // Servers say so of what would lie below a file, too.
        match session.look(&self.place_path(place)) {
            Ok(Some(found)) if found.is_surely_file() => Err(no_folder(&self.place_path(place))),
            _ => Ok(()),
        }
    }

    /// Removes what killed writers left in a folder, once in a process, as far as that is possible. The time of the file just made there
    /// says what the server's clock says now.
    fn tidy(&self, session: &Session, folder: &str, fresh: &str) {
        if !self.tidied.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
            return;
        }
        let (mut found, mut now) = (Vec::new(), None);
        let fresh = &fresh[folder.len() + 1..];
        let listed = session.list(folder, |name, attributes| {
            let Some(name) = std::str::from_utf8(name).ok().filter(|name| name.starts_with(remote::TEMPORARY)) else {
                return;
            };
            // A server that does not tell what it is leaves it where it is.
            let Some(modified) = attributes.modified.filter(|_| attributes.is_surely_file()) else { return };
            if name == fresh {
                now = Some(modified);
            } else {
                found.push((name.to_owned(), modified));
            }
        });
        let Some(now) = now.filter(|_| listed.is_ok()) else { return };
        for (name, modified) in found {
            if remote::is_left_behind(modified.into(), now.into()) {
                let _ = session.remove(&format!("{folder}/{name}"));
            }
        }
    }

    /// Servers say no more than "failure" when the disk is full.
    fn explained(&self, session: &Session, failed: Failure, bytes: &[u8]) -> Failure {
        let is_full =
            || session.free_bytes(&self.place_path(Place::Config)).is_some_and(|free| free < bytes.len() as u64);
        match failed.kind {
            StoreErrorKind::Permanent if is_full() => {
                Failure::new(StoreErrorKind::NoSpace, "the server's disk is full")
            }
            _ => failed,
        }
    }

    /// Does something for every folder, several at once: each takes some journeys to the server and back.
    fn each(&self, folders: &[String], work: impl Fn(&String) -> Result<(), Failure> + Sync) -> Result<(), Failure> {
        let next = AtomicUsize::new(0);
        let run = || {
            while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
                work(folder)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (1..self.connections.min(folders.len())).map(|_| scope.spawn(run)).collect();
            let own = run();
            threads.into_iter().fold(own, |done, thread| {
                let other =
                    thread.join().unwrap_or_else(|_| Err(Failure::permanent("a thread of a listing ended early")));
                done.and(other)
            })
        })
    }
}

fn named(place: Place, name: &str, found: wire::Attributes) -> Option<ObjectInfo> {
    info(ObjectName::new(place, name.parse::<ObjectId>().ok()?), found)
}

/// What is told of an object, unless something other than a file bears its name.
fn info(name: ObjectName, found: wire::Attributes) -> Option<ObjectInfo> {
    let size_bytes = found.size_bytes.filter(|_| found.is_file())?;
    Some(ObjectInfo {
        name,
        size_bytes,
        modified: found.modified.map(|seconds| Timestamp::from_seconds(seconds.into())),
    })
}

/// A file is where a folder should be.
fn no_folder(path: &str) -> Failure {
    Failure::permanent(format!("Not a directory: {path}"))
}

impl Backend for SftpStore {
    fn make(&self) -> Result<(), Failure> {
        let session = self.session()?;
        let is_folder = |path: &str| session.look(path).map(|found| found.is_some_and(|found| !found.is_file()));
        let make = |path: &str| match session.make_folder(path) {
            Err(failed) => match session.look(path)? {
                Some(found) if found.is_surely_file() => Err(no_folder(path)),
                Some(found) if !found.is_file() => Ok(()),
                _ => Err(failed),
            },
            Ok(()) => Ok(()),
        };
        let levels: Vec<usize> =
            self.root.match_indices('/').map(|(position, _)| position).filter(|end| *end > 0).collect();
        for end in levels.into_iter().chain([self.root.len()]) {
            let path = &self.root[..end];
            if !path.is_empty() && !is_folder(path)? {
                make(path)?;
            }
        }
        Place::HASHED.iter().try_for_each(|place| make(&self.place_path(*place)))
    }

    fn write(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Failure> {
        let session = self.session()?;
        let path = self.path(name);
        if session.look(&path)?.is_some() {
            return Err(Failure::exists());
        }
        let folder = &path[..path.rfind('/').unwrap_or(0)];
        let number = self.temporary_names.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{folder}/{}{:016x}-{number}", remote::TEMPORARY, self.nonce);
        let made = match session.make(&temporary) {
            // The first pack whose name begins so. The folder above it is not made: it is there, or its disk is not.
            Err(failed) if failed.kind == StoreErrorKind::NotFound && name.place() == Place::Data => {
                match session.make_folder(folder) {
                    Err(failed) if failed.kind == StoreErrorKind::NotFound => return Err(self.gone(Place::Data)),
                    _ => session.make(&temporary),
                }
            }
            made => made,
        };
        let file = made.map_err(|failed| match failed.kind {
            StoreErrorKind::NotFound => self.gone(name.place()),
            _ => self.explained(&session, failed, bytes),
        })?;
        self.tidy(&session, folder, &temporary);
        let written = file.write(bytes).map_err(|failed| self.explained(&session, failed, bytes));
        let named = written.and_then(|()| session.rename(&temporary, &path));
        let Err(failed) = named else { return Ok(()) };
        // What failed is told; if the file cannot be removed either, it lies there without harm.
        let _ = session.remove(&temporary);
        // A server says no more than "failure" when there is one already.
        let is_there = failed.kind == StoreErrorKind::Permanent && session.look(&path)?.is_some();
        Err(if is_there { Failure::exists() } else { failed })
    }

    fn read(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), Failure> {
        into.clear();
        let session = self.session()?;
        let file = match session.open(&self.path(name)) {
            Err(failed) if failed.kind == StoreErrorKind::NotFound => {
                self.is_only_the_object(&session, name.place())?;
                return Err(failed);
            }
            opened => opened?,
        };
        let (offset_bytes, length_bytes) = located(range, file.size_bytes()?)?;
        let expected = usize::try_from(length_bytes.min(BELIEVED_BYTES)).unwrap_or(0);
        into.try_reserve(expected).map_err(|_| Failure::permanent("there is not enough memory for it"))?;
        file.read(offset_bytes, length_bytes, into)
    }

    fn list_place(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), Failure> {
        let session = self.session()?;
        let none = || Failure { kind: StoreErrorKind::NotFound, ..self.gone(place) };
        if place == Place::Config {
            return match self.tell(&ObjectName::CONFIG)? {
                Some(info) => {
                    visit(info);
                    Ok(())
                }
                None if self.is_here(&session, place)? => Ok(()),
                None => Err(none()),
            };
        }
        let path = self.place_path(place);
        let mut folders = Vec::new();
        let listed = session.list(&path, |name, found| {
            let Ok(name) = std::str::from_utf8(name) else { return };
            let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
            if place == Place::Data {
                if digits(name) && !found.is_file() || digits(name) && found.is_folder() {
                    folders.push(name.to_owned());
                }
            } else if let Some(info) = named(place, name, found) {
                visit(info);
            }
        });
        match listed {
            Err(failed) if failed.kind == StoreErrorKind::NotFound => {
                return if self.is_here(&session, place)? { Ok(()) } else { Err(none()) };
            }
            listed => listed?,
        }
        let found = Mutex::new(Vec::new());
        self.each(&folders, |folder| {
            let mut packs = Vec::new();
            let listed = session.list(&format!("{path}/{folder}"), |name, attributes| {
                let name = std::str::from_utf8(name).unwrap_or_default();
                packs.extend(named(place, name, attributes).filter(|_| name.starts_with(folder.as_str())));
            });
            found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut packs);
            match listed {
                // Removed since its name was read.
                Err(failed) if failed.kind == StoreErrorKind::NotFound => Ok(()),
                listed => listed,
            }
        })?;
        found.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().for_each(visit);
        Ok(())
    }

    fn tell(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, Failure> {
        let session = self.session()?;
        match session.look(&self.path(name))? {
            Some(found) => Ok(info(*name, found)),
            None => self.is_only_the_object(&session, name.place()).map(|()| None),
        }
    }

    fn remove(&self, name: &ObjectName) -> Result<(), Failure> {
        match self.session()?.remove(&self.path(name)) {
            Err(failed) if failed.kind == StoreErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn abilities(&self) -> Abilities {
        Abilities { exclusive_put: true, connections: self.connections, visibility_delay_ms: 0 }
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn told(&self, failure: Failure) -> Failure {
        self.flow.told(failure)
    }
}

impl Store for SftpStore {
    hand_on!(self as &dyn Backend);
}
