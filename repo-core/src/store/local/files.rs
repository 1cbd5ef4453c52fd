//! The seam below the local store: every operation that changes the disk, and nothing else.
//!
//! Tests put a recorder in its place ([`crate::store::testing::Disk`]) that fails the n-th operation, or replays what
//! a power cut would have left. Reading needs no seam: it changes nothing.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

/// Tries when the system says "not now", and the pause between them: one second together.
const BUSY_TRIES: usize = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// An open folder. Objects are reached through it, so that a file system unmounted or moved in mid-work gives an error
/// and never another folder of the same path.
pub(crate) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = patiently(|| fs::openat(CWD, path, flags, Mode::empty()))?;
        Ok(Self { handle, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// A file being written, under a temporary name.
pub(crate) struct NewFile {
    handle: OwnedFd,
    #[cfg_attr(not(any(test, feature = "test-support")), expect(dead_code, reason = "the recorder's key"))]
    path: PathBuf,
}

impl NewFile {
    /// What it is called while it is written.
    #[cfg(any(test, feature = "test-support"))]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for NewFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// What changes the disk. The methods given here are the system's own.
pub(crate) trait Files: Send + Sync {
    /// Makes a folder only its owner may enter.
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        patiently(|| fs::mkdirat(CWD, path, Mode::RWXU))
    }

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        match patiently(|| fs::fsync(folder)) {
            // Some network and FUSE file systems know no such request for a folder; they have nothing to be flushed.
            Err(error)
                if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// Makes a new file that nothing else has.
    fn create(&self, folder: &Folder, name: &str) -> io::Result<NewFile> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Writable for its owner: several network file systems will not delete a file that is not.
        let handle = patiently(|| fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR))?;
        Ok(NewFile { handle, path: folder.path.join(name) })
    }

    /// Writes all of `bytes`.
    fn write(&self, file: &NewFile, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = patiently(|| rustix::io::write(file, rest))?;
            rest = match rest.get(written..) {
                Some(rest) if written > 0 => rest,
                _ => return Err(io::ErrorKind::WriteZero.into()),
            };
        }
        Ok(())
    }

    /// Makes a file's bytes durable. After an error the bytes are lost: a second call may lie.
    fn sync_file(&self, file: &NewFile) -> io::Result<()> {
        patiently(|| fs::fsync(file))
    }

    /// Gives a file another name in its folder; fails when the name is taken.
    fn rename(&self, folder: &Folder, from: &str, to: &str) -> io::Result<()> {
        patiently(|| fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE))
    }

    /// Gives a file a second name in its folder; fails when the name is taken.
    fn link(&self, folder: &Folder, from: &str, to: &str) -> io::Result<()> {
        patiently(|| fs::linkat(folder, from, folder, to, AtFlags::empty()))
    }

    /// Removes a name.
    fn remove(&self, folder: &Folder, name: &str) -> io::Result<()> {
        patiently(|| fs::unlinkat(folder, name, AtFlags::empty()))
    }
}

/// The disk as it is.
pub(crate) struct System;

impl Files for System {}

/// Asks again when a signal came in between, and a bounded number of times when the system is busy.
pub(super) fn patiently<T>(mut operation: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    for _ in 0..BUSY_TRIES {
        loop {
            match operation() {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                done => return done.map_err(io::Error::from),
            }
        }
        thread::sleep(BUSY_PAUSE);
    }
    Err(Errno::AGAIN.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_and_short_business_are_waited_for_and_no_more() {
        let after = |errors: usize, errno| {
            let mut calls = 0;
            patiently(|| {
                calls += 1;
                if calls > errors { Ok(calls) } else { Err(errno) }
            })
            .map_err(|error| Errno::from_io_error(&error))
        };
        assert_eq!(after(1000, Errno::INTR), Ok(1001));
        assert_eq!(after(3, Errno::AGAIN), Ok(4));
        assert_eq!(after(BUSY_TRIES, Errno::AGAIN), Err(Some(Errno::AGAIN)));
        assert_eq!(after(1, Errno::IO), Err(Some(Errno::IO)));
    }
}
