//! Directory handles: what they name stays the same directory, and only so many are open at once.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
    process::{Resource, getrlimit},
};

use super::identity_of;
use crate::{
    sink::{Identity, SinkError},
    tree::name::Name,
};

/// How a directory is opened: never through a link.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The extended attribute with the access list that new entries of a directory get.
const DEFAULT_ACCESS_LIST: &str = "system.posix_acl_default";

/// A directory of the target: the chain of names that leads to it, and which one it is.
#[derive(Clone)]
pub struct LocalDirectory(Arc<Inner>);

struct Inner {
    parent: Option<LocalDirectory>,
    /// Its name in its parent; nothing for the root.
    name: Option<Name>,
    identity: Identity,
    origin: Origin,
    open: Mutex<Weak<OwnedFd>>,
    /// The root stays open: everything else is found from it.
    _root: Option<Arc<OwnedFd>>,
}

/// Where a directory comes from, and what it does to files that are made in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// Made by this restore.
    pub(super) made: bool,
    /// Hands down a default access list.
    pub(super) inherits: bool,
}

impl Drop for Inner {
    /// Frees the parents one by one: a chain of thousands must not take as many stack frames.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut inner) = parent.and_then(|directory| Arc::into_inner(directory.0)) {
            parent = inner.parent.take();
        }
    }
}

impl LocalDirectory {
    /// Which directory it is.
    pub(super) fn identity(&self) -> Identity {
        self.0.identity
    }

    /// Where it comes from.
    pub(super) fn origin(&self) -> Origin {
        self.0.origin
    }
}

/// The directories that are open, oldest first.
pub(super) struct OpenDirectories {
    open: Mutex<VecDeque<Arc<OwnedFd>>>,
    most: usize,
}

impl OpenDirectories {
    /// Keeps at most so many open; unless that is said, a quarter of what this process may have open, within reason.
    pub(super) fn new(most: Option<usize>) -> Self {
        let most = most.unwrap_or_else(|| {
            let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
            usize::try_from(limit).unwrap_or(usize::MAX).clamp(8, 512)
        });
        Self { open: Mutex::default(), most }
    }

    /// A handle for a directory that was just opened.
    pub(super) fn enter(
        &self,
        parent: Option<&LocalDirectory>,
        name: Option<&Name>,
        fd: OwnedFd,
        made: bool,
    ) -> Result<LocalDirectory, Errno> {
        let identity = identity_of(&fs::fstat(&fd)?);
        let inherits = match parent {
            Some(parent) if made => parent.origin().inherits,
            _ => fs::fgetxattr_query(&fd, DEFAULT_ACCESS_LIST).is_ok(),
        };
        let origin = Origin { made, inherits };
        let fd = Arc::new(fd);
        let open = Mutex::new(Arc::downgrade(&fd));
        let root = if parent.is_none() {
            Some(fd)
        } else {
            self.keep(fd);
            None
        };
        let (parent, name) = (parent.cloned(), name.cloned());
        Ok(LocalDirectory(Arc::new(Inner { parent, name, identity, origin, open, _root: root })))
    }

    /// The open directory. When it was closed meanwhile, it is opened again name by name from the nearest parent that is
    /// still open, and must be the one it was.
    pub(super) fn get(&self, directory: &LocalDirectory) -> Result<Arc<OwnedFd>, SinkError> {
        let failed = |cause: Errno| SinkError::new("open the directory", cause);
        let mut closed = Vec::new();
        let mut at = directory;
        let mut fd = loop {
            if let Some(fd) = at.0.open.lock().unwrap_or_else(PoisonError::into_inner).upgrade() {
                break fd;
            }
            closed.push(at);
            at = at.0.parent.as_ref().ok_or_else(|| failed(Errno::BADF))?;
        };
        for directory in closed.into_iter().rev() {
            let Some(name) = &directory.0.name else { return Err(failed(Errno::BADF)) };
            let child = self.open(&fd, name).map_err(failed)?;
            if identity_of(&fs::fstat(&child).map_err(failed)?) != directory.identity() {
                let cause = std::io::Error::other("another directory was put in its place");
                return Err(SinkError::new("open the directory", cause));
            }
            let child = Arc::new(child);
            *directory.0.open.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&child);
            self.keep(Arc::clone(&child));
            fd = child;
        }
        Ok(fd)
    }

    /// Opens a directory in an open one.
    pub(super) fn open(&self, parent: &OwnedFd, name: &Name) -> Result<OwnedFd, Errno> {
        self.retry(|| fs::openat(parent, name.as_bytes(), OPEN, Mode::empty()))
    }

    /// Does `open`; when too many files are open, closes all directories and does it once more.
    pub(super) fn retry<T>(&self, open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) => {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
                open()
            }
            done => done,
        }
    }

    /// Keeps a directory open until `most` others were opened after it.
    fn keep(&self, fd: Arc<OwnedFd>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.most {
            open.pop_front();
        }
        open.push_back(fd);
    }
}
