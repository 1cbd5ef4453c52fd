//! The disk below a [`LocalStore`]: remembers every operation that changes it, and fails the n-th. What a power cut
//! would leave of the changes it remembers is worked out in [`super::power_cut`].

use std::{
    io,
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

/// The error number of "no space left", for scripts.
pub const NO_SPACE: i32 = Errno::NOSPC.raw_os_error();
/// The error number of "input/output error".
pub const IO_ERROR: i32 = Errno::IO.raw_os_error();
/// The error number of "read-only file system".
pub const READ_ONLY: i32 = Errno::ROFS.raw_os_error();
/// The error number of "invalid argument", which file systems give that do not know a kind of rename.
pub const NOT_KNOWN: i32 = Errno::INVAL.raw_os_error();
