//! The disk below a [`LocalStore`]: remembers every operation that changes it, fails the n-th, and rebuilds what a
//! power cut may leave behind.
//!
//! The model promises no more than POSIX does: bytes survive once their file was synced, names once their folder was.
//! Of everything else any part may survive or not, in any combination. (The method is that of Pillai and others, "All
//! File Systems Are Not Created Equal", OSDI 2014.)

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno;

use crate::store::local::{
    LocalStore,
    files::{Files, Folder, NewFile, System},
};

/// One change of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A folder was made.
    MakeFolder(PathBuf),
    /// A file was made.
    Create(PathBuf),
    /// Bytes were written to a file, named as it was when it was made.
    Write(PathBuf, Vec<u8>),
    /// A file's bytes were made durable.
    SyncFile(PathBuf),
    /// A file was renamed.
    Rename(PathBuf, PathBuf),
    /// A file got a second name.
    Link(PathBuf, PathBuf),
    /// A name was removed.
    Remove(PathBuf),
    /// The names in a folder were made durable.
    SyncFolder(PathBuf),
}

/// The kinds of [`Change`], to make one kind fail always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the changes")]
pub enum ChangeKind {
    MakeFolder,
    Create,
    Write,
    SyncFile,
    Rename,
    Link,
    Remove,
    SyncFolder,
}

#[derive(Default)]
struct State {
    log: Vec<Change>,
    attempts: u64,
    /// Attempt numbers that fail, first and last, with the error number.
    failing: Option<(u64, u64, i32)>,
    failing_kinds: Vec<(ChangeKind, i32)>,
    /// Kinds that are reported done without being done.
    skipped_kinds: Vec<ChangeKind>,
    struck: u64,
}

/// A disk that remembers and fails. Clones are the same disk; stores may share it.
#[derive(Clone, Default)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    /// The repository at `path`, over this disk.
    #[must_use]
    pub fn store(&self, path: impl AsRef<Path>) -> LocalStore {
        LocalStore::with_files(path.as_ref(), Arc::new(self.clone()))
    }

    /// Makes the change `number` (counted from 0 over all attempts, also failed ones) fail with an error number. A
    /// write that fails has written half.
    pub fn fail_at(&self, number: u64, errno: i32) {
        self.lock().failing = Some((number, number, errno));
    }

    /// Makes the change `number` and all later ones fail.
    pub fn fail_from(&self, number: u64, errno: i32) {
        self.lock().failing = Some((number, u64::MAX, errno));
    }

    /// Makes every change of a kind fail.
    pub fn fail_kind(&self, kind: ChangeKind, errno: i32) {
        self.lock().failing_kinds.push((kind, errno));
    }

    /// Makes every change of a kind be reported done and not be done, to show that a test notices.
    pub fn skip_kind(&self, kind: ChangeKind) {
        self.lock().skipped_kinds.push(kind);
    }

    /// Forgets all faults.
    pub fn mend(&self) {
        let mut state = self.lock();
        state.failing = None;
        state.failing_kinds.clear();
        state.skipped_kinds.clear();
    }

    /// How many changes were attempted.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.lock().attempts
    }

    /// How many failed by these faults.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// The changes done so far. Its length is a point in time at which the power may be cut.
    #[must_use]
    pub fn log(&self) -> Vec<Change> {
        self.lock().log.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs a change and remembers it. The lock is held meanwhile: the log's order is the true one.
    fn change<T>(
        &self,
        kind: ChangeKind,
        change: Change,
        spoil: impl FnOnce() -> Option<Change>,
        perform: impl FnOnce(bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        let number = state.attempts;
        state.attempts += 1;
        let by_number = state.failing.filter(|(first, last, _)| (first..=last).contains(&&number)).map(|fault| fault.2);
        let by_kind = state.failing_kinds.iter().find(|(failing, _)| *failing == kind).map(|fault| fault.1);
        if let Some(errno) = by_number.or(by_kind) {
            state.struck += 1;
            state.log.extend(spoil());
            return Err(io::Error::from_raw_os_error(errno));
        }
        let skipped = state.skipped_kinds.contains(&kind);
        let done = perform(skipped)?;
        if !skipped {
            state.log.push(change);
        }
        Ok(done)
    }
}

/// Most changes leave nothing behind when they fail.
fn nothing() -> Option<Change> {
    None
}

impl Files for Disk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let change = Change::MakeFolder(path.to_owned());
        self.change(ChangeKind::MakeFolder, change, nothing, |_| System.make_folder(path))
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        // Not passed on: what is durable is decided by the log, and a sweep runs through thousands of these.
        let change = Change::SyncFolder(folder.path().to_owned());
        self.change(ChangeKind::SyncFolder, change, nothing, |_| Ok(()))
    }

    fn create(&self, folder: &Folder, name: &str) -> io::Result<NewFile> {
        let change = Change::Create(folder.path().join(name));
        self.change(ChangeKind::Create, change, nothing, |_| System.create(folder, name))
    }

    fn write(&self, file: &NewFile, bytes: &[u8]) -> io::Result<()> {
        let change = Change::Write(file.path().to_owned(), bytes.to_owned());
        let spoil = || {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            System.write(file, half).ok()?;
            Some(Change::Write(file.path().to_owned(), half.to_owned()))
        };
        self.change(
            ChangeKind::Write,
            change,
            spoil,
            |skipped| if skipped { Ok(()) } else { System.write(file, bytes) },
        )
    }

    fn sync_file(&self, file: &NewFile) -> io::Result<()> {
        let change = Change::SyncFile(file.path().to_owned());
        self.change(ChangeKind::SyncFile, change, nothing, |_| Ok(()))
    }

    fn rename(&self, folder: &Folder, from: &str, to: &str) -> io::Result<()> {
        let change = Change::Rename(folder.path().join(from), folder.path().join(to));
        self.change(ChangeKind::Rename, change, nothing, |_| System.rename(folder, from, to))
    }

    fn link(&self, folder: &Folder, from: &str, to: &str) -> io::Result<()> {
        let change = Change::Link(folder.path().join(from), folder.path().join(to));
        self.change(ChangeKind::Link, change, nothing, |_| System.link(folder, from, to))
    }

    fn remove(&self, folder: &Folder, name: &str) -> io::Result<()> {
        let change = Change::Remove(folder.path().join(name));
        self.change(ChangeKind::Remove, change, nothing, |_| System.remove(folder, name))
    }
}

/// What became of bytes that were written and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsynced {
    /// Lost.
    Lost,
    /// On the disk nonetheless.
    Kept,
    /// Of the right length, but zero.
    Zeros,
}

/// A change of names that may or may not have reached the disk.
#[derive(Debug, Clone)]
enum NameChange {
    Folder(PathBuf),
    Name(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

impl NameChange {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) | Self::Name(path, _) | Self::Rename(path, ..) | Self::Remove(path) => path.parent(),
        }
    }
}

#[derive(Clone, Default)]
struct File {
    written: Vec<u8>,
    synced_bytes: usize,
}

/// Names on the disk: folders, and files by their number.
#[derive(Clone, Default)]
struct Names {
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, usize>,
}

impl Names {
    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Folder(path) => {
                self.folders.insert(path.clone());
            }
            NameChange::Name(path, file) => {
                self.files.insert(path.clone(), *file);
            }
            NameChange::Rename(from, to, file) => {
                self.files.remove(from);
                self.files.insert(to.clone(), *file);
            }
            NameChange::Remove(path) => {
                self.files.remove(path);
            }
        }
    }
}

/// Most changes of names under way at once of which every combination is tried; of more, only the most telling ones.
const COMBINED_CHANGES: usize = 6;

/// What may be on the disk after a power cut.
pub struct Remains {
    files: Vec<File>,
    names: Names,
    unsynced: Unsynced,
}

/// Every state of the disk that a power cut after these changes may leave, beside what was there before the first.
///
/// # Panics
/// When the log contradicts itself.
#[must_use]
pub fn power_cut(log: &[Change]) -> Vec<Remains> {
    let mut files: Vec<File> = Vec::new();
    let mut open: BTreeMap<&Path, usize> = BTreeMap::new();
    let mut durable = Names::default();
    let mut current = Names::default();
    let mut pending: Vec<NameChange> = Vec::new();
    for change in log {
        let renaming = match change {
            Change::MakeFolder(path) => Some(NameChange::Folder(path.clone())),
            Change::Create(path) => {
                files.push(File::default());
                open.insert(path, files.len() - 1);
                Some(NameChange::Name(path.clone(), files.len() - 1))
            }
            Change::Write(path, bytes) => {
                files[open[path.as_path()]].written.extend(bytes);
                None
            }
            Change::SyncFile(path) => {
                let file = &mut files[open[path.as_path()]];
                file.synced_bytes = file.written.len();
                None
            }
            Change::Rename(from, to) => Some(NameChange::Rename(from.clone(), to.clone(), current.files[from])),
            Change::Link(from, to) => Some(NameChange::Name(to.clone(), current.files[from])),
            Change::Remove(path) => Some(NameChange::Remove(path.clone())),
            Change::SyncFolder(folder) => {
                pending.retain(|change| {
                    let synced = change.folder() == Some(folder);
                    if synced {
                        durable.apply(change);
                    }
                    !synced
                });
                None
            }
        };
        if let Some(renaming) = renaming {
            current.apply(&renaming);
            pending.push(renaming);
        }
    }
    let mut remains = Vec::new();
    for combination in combinations(pending.len()) {
        let mut names = durable.clone();
        for (change, _) in pending.iter().zip(&combination).filter(|(_, kept)| **kept) {
            names.apply(change);
        }
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Zeros] {
            remains.push(Remains { files: files.clone(), names: names.clone(), unsynced });
        }
    }
    remains
}

/// Which of `count` changes are kept: all combinations of few; of many none, all, and all but or only each one.
fn combinations(count: usize) -> Vec<Vec<bool>> {
    if count <= COMBINED_CHANGES {
        return (0..1_u32 << count).map(|bits| (0..count).map(|place| bits >> place & 1 == 1).collect()).collect();
    }
    let each =
        (0..count).flat_map(|one| [true, false].map(|kept| (0..count).map(|place| (place == one) == kept).collect()));
    each.chain([vec![false; count], vec![true; count]]).collect()
}

impl Remains {
    /// Writes what was left of `base` to the empty folder `target`. What lies in folders that were lost is lost.
    ///
    /// # Errors
    /// When `target` cannot be written to.
    pub fn write_to(&self, base: &Path, target: &Path) -> io::Result<()> {
        // Sorted: a folder comes before what it holds.
        for folder in &self.names.folders {
            if let Ok(below) = folder.strip_prefix(base) {
                ignore_missing(fs::create_dir(target.join(below)))?;
            }
        }
        for (path, file) in &self.names.files {
            let (Ok(below), Some(file)) = (path.strip_prefix(base), self.files.get(*file)) else { continue };
            ignore_missing(fs::write(target.join(below), self.bytes(file)))?;
        }
        Ok(())
    }

    fn bytes(&self, file: &File) -> Vec<u8> {
        let mut bytes = file.written.clone();
        match self.unsynced {
            Unsynced::Lost => bytes.truncate(file.synced_bytes),
            Unsynced::Kept => {}
            Unsynced::Zeros => bytes.iter_mut().skip(file.synced_bytes).for_each(|byte| *byte = 0),
        }
        bytes
    }
}

fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// The error number of "no space left", for scripts.
pub const NO_SPACE: i32 = Errno::NOSPC.raw_os_error();
/// The error number of "input/output error".
pub const IO_ERROR: i32 = Errno::IO.raw_os_error();
/// The error number of "read-only file system".
pub const READ_ONLY: i32 = Errno::ROFS.raw_os_error();
/// The error number of "invalid argument", which file systems give that do not know a kind of rename.
pub const NOT_KNOWN: i32 = Errno::INVAL.raw_os_error();
