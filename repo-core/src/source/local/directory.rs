//! One open directory: its entries by name, each with one system call.

use std::{
    ffi::CString,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering},
};

use rustix::{
    fs::{Mode, OFlags, RawDir, SeekFrom, openat, readlinkat, seek},
    io::{Errno, pread},
};

use super::{
    Shared,
    place::Place,
    reader::LocalFile,
    stat::{stat_entry, stat_followed, stat_open},
    targets::Node,
    xattr::{self, Of},
};
use crate::{
    limits,
    source::{
        Directory, FileReader, FileType, Severity, SourceError, Stat,
        exclude::{Scope, Tag, Verdict},
        path,
    },
    tree::{
        name::{Name, NameError},
        node::Xattr,
    },
};

/// Room for one call of `getdents`.
const LISTING_BYTES: usize = 32 << 10;

/// An open directory.
pub(super) struct LocalDirectory {
    shared: Arc<Shared>,
    /// Opened for reading if the directory is taken whole, else only as a place (`O_PATH`).
    file: OwnedFd,
    place: Arc<Place>,
    stat: Stat,
    /// Targets in it, and what leads to them.
    targets: Option<Arc<Node>>,
    /// Whether it is taken whole, or the targets in it only.
    is_whole: bool,
    /// The device of the target it belongs to.
    device: u64,
    /// What the patterns say of it, and of its entries.
    verdict: Verdict,
    scope: OnceLock<Scope>,
    /// Whether it was listed before. Listing moves the descriptor's position.
    was_listed: Mutex<bool>,
}

impl LocalDirectory {
    /// Opens the directory that a group of targets is relative to.
    pub(super) fn open_base(shared: &Arc<Shared>, path: &[u8], targets: &Arc<Node>) -> Result<Self, SourceError> {
        let place = Place::absolute(path);
        let open = || {
            let file = open_directory(rustix::fs::CWD, path, targets.is_target, true)?;
            let stat = stat_open(file.as_fd())?;
            Ok((file, stat))
        };
        let (file, stat) = open().map_err(|error: Errno| failure("open", path.to_vec(), error, Severity::Fatal))?;
        let components: Vec<&[u8]> = path::components(path).collect();
        Ok(Self {
            shared: Arc::clone(shared),
            file,
            place,
            stat,
            targets: Some(Arc::clone(targets)),
            is_whole: targets.is_target,
            device: stat.device,
            verdict: shared.rules.verdict_of(&components),
            scope: OnceLock::new(),
            was_listed: Mutex::new(false),
        })
    }

    /// Whether it has an entry of this name, wanted or not.
    pub(super) fn holds(&self, name: &[u8]) -> bool {
        stat_entry(self.file.as_fd(), name).is_ok()
    }

    /// What the tree of targets says of an entry.
    fn target(&self, name: &Name) -> Option<&Arc<Node>> {
        self.targets.as_ref()?.children.get(name)
    }

    /// What an entry is, whatever the rules say. Links on the way to a target are followed.
    fn look(&self, name: &Name, target: Option<&Arc<Node>>) -> Result<Stat, Errno> {
        let directory = self.file.as_fd();
        match target {
            Some(node) if !node.children.is_empty() => match stat_followed(directory, name.as_bytes()) {
                Ok(stat) if stat.file_type == FileType::Directory => Ok(stat),
                Ok(_) | Err(Errno::NOENT) if node.is_target || self.is_whole => stat_entry(directory, name.as_bytes()),
                Ok(_) => Err(Errno::NOTDIR),
                Err(error) => Err(error),
            },
            _ => stat_entry(directory, name.as_bytes()),
        }
    }

    fn is_foreign(&self, stat: &Stat) -> bool {
        self.shared.one_file_system && stat.device != self.device
    }

    fn scope(&self) -> &Scope {
        self.scope.get_or_init(|| {
            let path = self.place.path();
            self.shared.rules.scope(&path::components(&path).collect::<Vec<_>>(), self.verdict)
        })
    }

    /// What the patterns say of an entry.
    fn verdict_of(&self, name: &Name) -> Verdict {
        if self.shared.rules.has_patterns() {
            self.shared.rules.verdict(self.scope(), name.as_bytes())
        } else {
            Verdict::default()
        }
    }

    /// Everything in the directory, as the kernel lists it, sorted.
    fn list(&self) -> Result<Vec<Name>, SourceError> {
        let mut names = Vec::new();
        let mut was_listed = self.was_listed.lock().unwrap_or_else(PoisonError::into_inner);
        if *was_listed {
            seek(&self.file, SeekFrom::Start(0)).map_err(|error| self.error("list", error))?;
        }
        *was_listed = true;
        let mut buffer = Vec::with_capacity(LISTING_BYTES);
        let mut listing = RawDir::new(self.file.as_fd(), buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            match entry {
                Ok(entry) => match Name::new(entry.file_name().to_bytes()) {
                    Ok(name) => names.push(name),
                    Err(NameError::Dots) => {}
                    Err(error) => {
                        let path = self.place.path_of(entry.file_name().to_bytes());
                        let cause = std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
                        self.shared.report(SourceError { during: "store", path, severity: Severity::Entry, cause });
                    }
                },
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.error("list", error)),
            }
        }
        drop(was_listed);
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Takes out of a listing what the rules exclude by name.
    fn exclude(&self, names: &mut Vec<Name>) {
        let rules = &self.shared.rules;
        let is_wanted = |name: &Name| self.target(name).is_some_and(|node| node.is_wanted());
        let tags: Vec<&Tag> = rules.tags().iter().filter(|tag| self.has_tag(names, tag)).collect();
        if !tags.is_empty() {
            names.retain(|name| tags.iter().all(|tag| *tag.name == *name.as_bytes()) || is_wanted(name));
        }
        if rules.has_patterns() {
            let scope = self.scope();
            names.retain(|name| !rules.excludes(rules.verdict(scope, name.as_bytes())) || is_wanted(name));
        }
    }

    /// Whether the directory is marked by a file of this name and beginning. One that cannot be read marks nothing; it is
    /// told of when it is backed up.
    fn has_tag(&self, names: &[Name], tag: &Tag) -> bool {
        if names.binary_search_by(|name| name.as_bytes().cmp(&tag.name)).is_err() {
            return false;
        }
        if tag.header.is_empty() {
            return true;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(file) = openat(&self.file, &*tag.name, flags, Mode::empty()) else { return false };
        let mut beginning = vec![0; tag.header.len()];
        pread(&file, &mut beginning[..], 0).is_ok_and(|count| beginning[..count] == *tag.header)
    }

    /// A failure with the directory itself.
    fn error(&self, during: &'static str, error: Errno) -> SourceError {
        failure(during, self.place.path(), error, if is_gone(error) { Severity::Vanished } else { Severity::Entry })
    }

    /// A failure with an entry. What the user named cannot just vanish.
    fn entry_error(&self, during: &'static str, name: &Name, error: Errno) -> SourceError {
        let severity = if is_gone(error) && self.target(name).is_none() { Severity::Vanished } else { Severity::Entry };
        failure(during, self.path_of(name), error, severity)
    }

    /// The same, where the kernel's word for it would mislead.
    fn replaced(&self, during: &'static str, name: &Name, by: &'static str) -> SourceError {
        let cause = std::io::Error::other(format!("it was replaced by something that is {by}"));
        SourceError { during, path: self.path_of(name), severity: Severity::Entry, cause }
    }

    /// Calls `read` with what names an open directory or an entry of it for the calls that take paths only.
    fn with_path<T>(&self, name: Option<&Name>, read: impl Fn(&CString) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut magic = format!("/proc/self/fd/{}", self.file.as_raw_fd()).into_bytes();
        let mut plain = self.place.path();
        if let Some(name) = name {
            magic = [&magic, &b"/"[..], name.as_bytes()].concat();
            plain = self.place.path_of(name.as_bytes());
        }
        match read(&CString::new(magic).map_err(|_| Errno::INVAL)?) {
            // Without /proc the path has to do.
            Err(Errno::NOENT | Errno::NOTDIR) => read(&CString::new(plain).map_err(|_| Errno::INVAL)?),
            other => other,
        }
    }
}

impl Directory for LocalDirectory {
    fn stat(&self) -> Stat {
        self.stat
    }

    fn own_xattrs(&self) -> Result<Vec<Xattr>, SourceError> {
        let found = match xattr::read_all(Of::File(self.file.as_fd())) {
            // Opened as a place only.
            Err(Errno::BADF) => self.with_path(None, |path| xattr::read_all(Of::Followed(path))),
            other => other,
        };
        let found = found.map_err(|error| self.error("read extended attributes of", error))?;
        Ok(self.shared.xattrs(found, || self.place.path()))
    }

    fn names(&self) -> Result<Vec<Name>, SourceError> {
        let targets = || self.targets.iter().flat_map(|node| &node.children);
        let mut names = if self.is_whole { self.list()? } else { targets().map(|(name, _)| name.clone()).collect() };
        self.exclude(&mut names);
        if self.is_whole && targets().next().is_some() {
            // Also those that are not there: asking for them will say so.
            names.extend(targets().filter(|(_, node)| node.is_wanted()).map(|(name, _)| name.clone()));
            names.sort_unstable();
            names.dedup();
        }
        Ok(names)
    }

    fn entry(&self, name: &Name) -> Result<Option<Stat>, SourceError> {
        let target = self.target(name);
        let stat = self.look(name, target).map_err(|error| self.entry_error("read", name, error))?;
        if stat.file_type != FileType::Directory
            && let Some(missing) = target.and_then(|node| node.children.keys().next())
        {
            // It is stored as what it is, but there is a target that cannot be in it.
            let path = self.place.child(name.as_bytes()).path_of(missing.as_bytes());
            self.shared.report(failure("read", path, Errno::NOTDIR, Severity::Entry));
        }
        if target.is_none_or(|node| !node.is_wanted()) {
            let is_directory = stat.file_type == FileType::Directory;
            // A target's device is what others are held against, whichever it is.
            let is_elsewhere = target.is_none() && !is_directory && self.is_foreign(&stat);
            let is_too_large = stat.file_type == FileType::File && self.shared.rules.is_too_large(stat.size_bytes);
            if is_elsewhere || is_too_large {
                return Ok(None);
            }
        }
        Ok(Some(stat))
    }

    fn directory(&self, name: &Name) -> Result<Arc<dyn Directory>, SourceError> {
        let target = self.target(name);
        let is_target = target.is_some_and(|node| node.is_target);
        let leads_on = target.is_some_and(|node| !node.children.is_empty());
        let mut is_whole = is_target || self.is_whole;
        let mut open = || {
            if self.shared.one_file_system && is_whole && !is_target {
                is_whole = !self.is_foreign(&self.look(name, target)?);
            }
            let file = match open_directory(self.file.as_fd(), name.as_bytes(), is_whole, false) {
                // A link that leads to targets: they are wanted, not everything else that is there.
                Err(Errno::NOTDIR | Errno::LOOP) if leads_on => {
                    is_whole = false;
                    open_directory(self.file.as_fd(), name.as_bytes(), false, true)
                }
                other => other,
            }?;
            let stat = stat_open(file.as_fd())?;
            Ok((file, stat))
        };
        let (file, stat) = open().map_err(|error: Errno| match error {
            Errno::NOTDIR | Errno::LOOP => self.replaced("open", name, "no directory"),
            error => self.entry_error("open", name, error),
        })?;
        Ok(Arc::new(Self {
            shared: Arc::clone(&self.shared),
            file,
            place: self.place.child(name.as_bytes()),
            stat,
            targets: target.cloned(),
            is_whole,
            device: if is_target || !self.is_whole { stat.device } else { self.device },
            verdict: self.verdict_of(name),
            scope: OnceLock::new(),
            was_listed: Mutex::new(false),
        }))
    }

    fn file(&self, name: &Name, expected: &Stat) -> Result<Box<dyn FileReader>, SourceError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = |flags| openat(&self.file, name.as_bytes(), flags, Mode::empty());
        let may_hide = expected.user == self.shared.user || !self.shared.must_touch.load(Ordering::Relaxed);
        let mut result = open(if may_hide { flags | OFlags::NOATIME } else { flags });
        if may_hide && result.as_ref().err() == Some(&Errno::PERM) {
            self.shared.must_touch.store(true, Ordering::Relaxed);
            result = open(flags);
        }
        let file = result.map_err(|error| match error {
            Errno::LOOP | Errno::NXIO => self.replaced("open", name, "no regular file"),
            error => self.entry_error("open", name, error),
        })?;
        let (shared, place) = (Arc::clone(&self.shared), Arc::clone(&self.place));
        Ok(Box::new(LocalFile::new(file, shared, place, name.clone(), expected)))
    }

    fn link_target(&self, name: &Name) -> Result<Vec<u8>, SourceError> {
        let target = readlinkat(&self.file, name.as_bytes(), Vec::with_capacity(limits::NAME_BYTES_MAX));
        target.map(CString::into_bytes).map_err(|error| match error {
            Errno::INVAL => self.replaced("read", name, "no symbolic link"),
            error => self.entry_error("read", name, error),
        })
    }

    fn xattrs(&self, name: &Name) -> Result<Vec<Xattr>, SourceError> {
        let found = self.with_path(Some(name), |path| xattr::read_all(Of::Entry(path)));
        let during = "read extended attributes of";
        let (xattrs, problems) = found.map_err(|error| self.entry_error(during, name, error))?;
        // An error rather than a part: the entry must not look complete to the next backup.
        match problems.into_iter().next() {
            Some(cause) => Err(SourceError { during, path: self.path_of(name), severity: Severity::Entry, cause }),
            None => Ok(xattrs),
        }
    }

    fn path_of(&self, name: &Name) -> Vec<u8> {
        self.place.path_of(name.as_bytes())
    }
}

/// Opens a directory for reading, or as a place only. Reading leaves no trace where that is permitted.
fn open_directory(at: BorrowedFd<'_>, name: &[u8], to_read: bool, follow: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    if !to_read {
        return openat(at, name, flags | OFlags::PATH, Mode::empty());
    }
    match openat(at, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(at, name, flags, Mode::empty()),
        other => other,
    }
}

fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::STALE)
}

fn failure(during: &'static str, path: Vec<u8>, error: Errno, severity: Severity) -> SourceError {
    SourceError { during, path, severity, cause: error.into() }
}
