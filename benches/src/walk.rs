//! The files below a directory in walk order, as fast as the system gives them.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, openat};

/// How everything is opened.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A regular file by its directory and name.
#[derive(Debug)]
pub struct Found {
    directory: Arc<OwnedFd>,
    name: CString,
}

impl Found {
    /// Opens it.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(&self) -> io::Result<OwnedFd> {
        Ok(openat(self.directory.as_fd(), &self.name, OPEN, Mode::empty())?)
    }
}

/// Depth first, entries by name in descending order (so that the last is the next one), files and directories mixed.
#[derive(Debug)]
pub struct Walk {
    open: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    directory: Arc<OwnedFd>,
    entries: Vec<(CString, FileType)>,
}

impl Walk {
    /// Begins at a directory.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = openat(CWD, root, OPEN | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { open: vec![Level::list(root)?] })
    }

    /// The next file.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn next_file(&mut self) -> io::Result<Option<Found>> {
        while let Some(level) = self.open.last_mut() {
            match level.entries.pop() {
                None => {
                    self.open.pop();
                }
                Some((name, FileType::Directory)) => {
                    let directory = openat(level.directory.as_fd(), &name, OPEN | OFlags::DIRECTORY, Mode::empty())?;
                    self.open.push(Level::list(directory)?);
                }
                Some((name, FileType::RegularFile)) => {
                    return Ok(Some(Found { directory: Arc::clone(&level.directory), name }));
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }
}

impl Level {
    fn list(directory: OwnedFd) -> io::Result<Self> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                entries.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        entries.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        Ok(Self { directory: Arc::new(directory), entries })
    }
}
