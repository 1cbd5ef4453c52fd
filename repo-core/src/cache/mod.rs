//! The local cache of a repository: a folder that may vanish at any moment and is never believed.
//!
//! | folder | holds | believed because |
//! |---|---|---|
//! | `tables/` | tables of index runs, plain, to be mapped ([`table`]) | a keyed hash over all of it is right |
//! | `pages/` | directories and pages of index runs, as stored ([`pages`]) | a keyed hash over each is right |
//! | `snapshots/` | bodies and seals, as stored | their name is their SHA-256 |
//! | `trees/` | frames of tree packs, as stored | whoever opens one finds that it authenticates |
//!
//! Files are written under a temporary name and renamed, so that nobody sees half of one, and never changed. There are no locks: a file
//! that somebody removes is fetched again, and what is mapped stays. Whatever fails here costs time and nothing else; the first failure
//! is kept for whoever wants to tell of it.
//!
//! The format is nobody's business but this program's: a file of another version is not believed, and replaced.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    crypto::keys::Keys,
    id::{ObjectId, PackId},
    limits,
    runtime::Runtime,
};

pub mod folder;
pub mod map;
pub mod pages;
pub mod table;

#[cfg(test)]
mod tests;

/// What a cache may take unless something else is asked for.
pub const CACHE_BYTES_MAX: u64 = 4 << 30;

/// When the limit is reached, so much of it is left free, as one part in so many.
const ROOM: u64 = 8;

/// A file that was used later than so long ago is not marked as used again.
const TOUCHED_EVERY: Duration = Duration::from_mins(10);

/// How often folders are made that vanish while they are.
const MAKINGS_MAX: usize = 10;

/// Temporary files older than this are of processes that were killed.
const LEFT_BEHIND: Duration = Duration::from_hours(1);

/// What temporary names begin with.
const TEMPORARY: &str = "tmp-";

/// What is kept of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything that saves requests: for stores that are far away.
    All,
    /// The tables of large index runs, so that they need not be in memory: for repositories on this machine, which are as near as their
    /// cache is.
    LargeTables,
}

/// The folders of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Tables,
    Pages,
    Snapshots,
    Trees,
}

impl Part {
    const ALL: [Self; 4] = [Self::Tables, Self::Pages, Self::Snapshots, Self::Trees];

    const fn name(self) -> &'static str {
        match self {
            Self::Tables => "tables",
            Self::Pages => "pages",
            Self::Snapshots => "snapshots",
            Self::Trees => "trees",
        }
    }
}

/// The cache of one repository.
pub struct Cache {
    base: PathBuf,
    folder: PathBuf,
    key: Zeroizing<[u8; 32]>,
    scope: Scope,
    runtime: Arc<dyn Runtime>,
    limit_bytes: u64,
    /// What all of its files take, once it is known.
    size_bytes: Mutex<Option<u64>>,
    /// Nothing is written any more: it could not be.
    read_only: AtomicBool,
    problem: Mutex<Option<Problem>>,
}

/// Why a cache is not written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What failed, and why.
    pub reason: String,
    /// Its folder could not be made: it has never been there.
    pub is_first: bool,
}

impl Cache {
    /// The cache of a repository, in the folder that has the caches of all. Folders are made when there is something to be kept.
    #[must_use]
    pub fn new(base: &Path, keys: &Keys, runtime: Arc<dyn Runtime>, scope: Scope, limit_bytes: u64) -> Self {
        Self {
            base: base.to_owned(),
            folder: folder::of(base, keys.repository()),
            key: keys.cache_key(),
            scope,
            runtime,
            limit_bytes,
            size_bytes: Mutex::default(),
            read_only: AtomicBool::new(false),
            problem: Mutex::default(),
        }
    }

    /// Makes its folders.
    fn make(&self) -> io::Result<()> {
        let make = || {
            folder::make_base(&self.base)?;
            make_private(&self.folder)?;
            Part::ALL.iter().try_for_each(|part| make_private(&self.folder.join(part.name())))
        };
        // Somebody who clears the cache at the same time takes away what was just made, or found to be there.
        let vanished =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists);
        let mut makings = (1..MAKINGS_MAX).map(|_| make());
        makings.find(|made| !made.as_ref().is_err_and(vanished)).unwrap_or_else(make)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether snapshots and trees are kept, too.
    #[must_use]
    pub const fn keeps_objects(&self) -> bool {
        matches!(self.scope, Scope::All)
    }

    /// Whether something could not be written, so that nothing is written any more.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// What went wrong first since this was asked last. Work goes on without the cache, or with what there is.
    #[must_use]
    pub fn take_problem(&self) -> Option<Problem> {
        lock(&self.problem).take()
    }

    fn failed(&self, error: &io::Error) {
        self.read_only.store(true, Ordering::Relaxed);
        let reason = || format!("cannot write to {}: {error}", self.folder.display());
        lock(&self.problem).get_or_insert_with(|| Problem { reason: reason(), is_first: !self.folder.exists() });
    }

    /// A snapshot body or seal, as stored, if it is here.
    #[must_use]
    pub fn snapshot(&self, id: &ObjectId) -> Option<Vec<u8>> {
        if !self.keeps_objects() {
            return None;
        }
        let name = id.to_string();
        let bytes = self.read(Part::Snapshots, &name, limits::OBJECT_STORED_BYTES_MAX)?;
        let is_whole = ObjectId(Sha256::digest(&bytes).into()) == *id;
        if !is_whole {
            self.remove(Part::Snapshots, &name);
        }
        is_whole.then_some(bytes)
    }

    /// Whether a snapshot body or seal is here, as it seems.
    #[must_use]
    pub fn has_snapshot(&self, id: &ObjectId) -> bool {
        self.path(Part::Snapshots, &id.to_string()).exists()
    }

    /// Keeps a snapshot body or seal, as stored, under the name that is its hash.
    pub fn keep_snapshot(&self, id: &ObjectId, bytes: &[u8]) {
        // One that is not what its name says would be dropped when it is read: it stays with whoever tells of the damage.
        if self.keeps_objects() && ObjectId(Sha256::digest(bytes).into()) == *id {
            self.write(Part::Snapshots, &id.to_string(), bytes);
        }
    }

    /// Drops the snapshots that are not listed any more.
    pub fn retain_snapshots(&self, listed: &BTreeSet<ObjectId>) {
        if self.keeps_objects() {
            self.retain(Part::Snapshots, listed);
        }
    }

    /// A frame of a tree pack, as stored, if it is here. Whoever cannot open it calls [`Self::drop_frame`] and fetches it.
    #[must_use]
    pub fn frame(&self, pack: &PackId, ordinal: u32, stored_bytes: u32) -> Option<Vec<u8>> {
        if !self.keeps_objects() {
            return None;
        }
        let name = frame_name(pack, ordinal);
        let bytes = self.read(Part::Trees, &name, stored_bytes.into())?;
        let is_whole = bytes.len() == stored_bytes as usize;
        if !is_whole {
            self.remove(Part::Trees, &name);
        }
        is_whole.then_some(bytes)
    }

    /// Whether a frame of a tree pack is here, as it seems.
    #[must_use]
    pub fn has_frame(&self, pack: &PackId, ordinal: u32) -> bool {
        self.path(Part::Trees, &frame_name(pack, ordinal)).exists()
    }

    /// Keeps a frame of a tree pack, as stored.
    pub fn keep_frame(&self, pack: &PackId, ordinal: u32, stored: &[u8]) {
        if self.keeps_objects() {
            self.write(Part::Trees, &frame_name(pack, ordinal), stored);
        }
    }

    /// Drops a frame that is not what it should be.
    pub fn drop_frame(&self, pack: &PackId, ordinal: u32) {
        self.remove(Part::Trees, &frame_name(pack, ordinal));
    }

    /// The time of day, as files have it.
    fn now(&self) -> SystemTime {
        let now = self.runtime.now();
        SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(now.seconds()).unwrap_or_default(), now.nanoseconds())
    }

    fn path(&self, part: Part, name: &str) -> PathBuf {
        let mut path = self.folder.join(part.name());
        path.push(name);
        path
    }

    /// Opens a file and marks it as used.
    fn open_file(&self, part: Part, name: &str) -> Option<File> {
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(part, name)).ok()?;
        let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
        let now = self.now();
        let used = metadata.modified().ok().and_then(|used| now.duration_since(used).ok());
        if used.is_none_or(|age| age > TOUCHED_EVERY) {
            let _ = file.set_modified(now); // then it goes a little earlier
        }
        Some(file)
    }

    fn read(&self, part: Part, name: &str, limit_bytes: u64) -> Option<Vec<u8>> {
        let file = self.open_file(part, name)?;
        let size_bytes = file.metadata().ok()?.len();
        if size_bytes > limit_bytes {
            self.remove(part, name);
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).ok()?);
        file.take(limit_bytes).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn write(&self, part: Part, name: &str, bytes: &[u8]) {
        if let Some(mut file) = self.begin(part, name, bytes.len() as u64) {
            file.write(bytes);
            file.publish();
        }
    }

    /// Begins a file of about so many bytes, unless there is no room for one or nothing can be written.
    fn begin(&self, part: Part, name: &str, size_bytes: u64) -> Option<NewFile<'_>> {
        if self.is_read_only() || size_bytes > self.limit_bytes / ROOM * (ROOM - 1) {
            return None;
        }
        // The first time, and when somebody has cleared the cache meanwhile.
        if !self.folder.join(part.name()).is_dir()
            && let Err(error) = self.make()
        {
            self.failed(&error);
            return None;
        }
        self.make_room(size_bytes);
        // Random, since processes in several containers may share both a folder and a number.
        let mut random = [0; 8];
        self.runtime.random(&mut random);
        let temporary = self.path(part, &format!("{TEMPORARY}{:016x}", u64::from_le_bytes(random)));
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(flags);
        match options.open(&temporary) {
            Ok(file) => Some(NewFile {
                cache: self,
                file,
                temporary,
                path: self.path(part, name),
                failed: false,
                size_bytes: 0,
            }),
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn remove(&self, part: Part, name: &str) {
        let _ = fs::remove_file(self.path(part, name)); // then it is found to be wrong again
    }

    /// Drops what is named otherwise than one of these, and something behind a dot.
    fn retain(&self, part: Part, listed: &BTreeSet<ObjectId>) {
        let Ok(entries) = fs::read_dir(self.folder.join(part.name())) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.split('.').next()?.parse::<ObjectId>().ok());
            if id.is_some_and(|id| !listed.contains(&id)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes what was used longest ago until so much more has room.
    fn make_room(&self, more_bytes: u64) {
        let mut size_bytes = lock(&self.size_bytes);
        if let Some(known) = size_bytes.as_mut()
            && known.saturating_add(more_bytes) <= self.limit_bytes
        {
            *known += more_bytes;
            return;
        }
        // Others write here, too: what there is now is looked at anew.
        let mut files = self.files();
        let mut sum: u64 = files.iter().map(|file| file.size_bytes).sum();
        if sum.saturating_add(more_bytes) > self.limit_bytes {
            let goal_bytes = (self.limit_bytes / ROOM * (ROOM - 1)).saturating_sub(more_bytes);
            files.sort_by_key(|file| file.used);
            for file in files {
                if sum <= goal_bytes {
                    break;
                }
                if fs::remove_file(&file.path).is_ok() {
                    sum -= file.size_bytes;
                }
            }
        }
        *size_bytes = Some(sum + more_bytes);
    }

    /// All files. Those that killed processes were writing go on the way.
    fn files(&self) -> Vec<Found> {
        let now = self.now();
        let mut found = Vec::new();
        for part in Part::ALL {
            let Ok(entries) = fs::read_dir(self.folder.join(part.name())) else { continue };
            for entry in entries.flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                if is_temporary(&entry.file_name()) {
                    if now.duration_since(used).is_ok_and(|age| age > LEFT_BEHIND) {
                        let _ = fs::remove_file(entry.path());
                    }
                    continue;
                }
                found.push(Found { path: entry.path(), size_bytes: metadata.blocks() * 512, used });
            }
        }
        found
    }
}

/// A file of the cache.
struct Found {
    path: PathBuf,
    size_bytes: u64,
    used: SystemTime,
}

/// A file that is being written. What goes wrong is seen when it is published; dropped before, it is gone.
struct NewFile<'a> {
    cache: &'a Cache,
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    failed: bool,
    size_bytes: u64,
}

impl NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) {
        if self.failed {
            return;
        }
        if let Err(error) = self.file.write_all(bytes) {
            self.failed = true;
            self.cache.failed(&error);
        }
        self.size_bytes += bytes.len() as u64;
    }

    /// Gives it its name; whether that worked. What is at the name already is replaced.
    fn publish(self) -> bool {
        if self.failed {
            return false;
        }
        match fs::rename(&self.temporary, &self.path) {
            Ok(()) => true,
            Err(error) => {
                self.cache.failed(&error);
                false
            }
        }
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary); // it has its name, or nobody wants it
    }
}

fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

fn frame_name(pack: &PackId, ordinal: u32) -> String {
    format!("{pack}.{ordinal}")
}

/// Makes a folder only its owner may enter, or sees to it that it is one.
fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::symlink_metadata(folder)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        let reason = format!("{} is not a folder of this user", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is right after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
