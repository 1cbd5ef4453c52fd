//! Owner, permissions, extended attributes and times: setting only what differs, in the one order that works.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use globset::GlobSet;
use rustix::{
    fs::{self, AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags},
    io::Errno,
};

use super::{modified_of, proc_path};
use crate::{
    limits,
    sink::{Attributes, SinkError},
    time::Timestamp,
};

/// Extended attributes that hold an access list; setting one changes the mode.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// What this process may set, what the user wants set, and what was left out because of either.
pub(super) struct Rules {
    /// Whether this process is root (of its user namespace).
    pub(super) root: bool,
    /// Set owners.
    pub(super) owners: bool,
    /// Leave these extended attributes alone.
    pub(super) exclude_xattrs: GlobSet,
    /// If there are any, leave all but these alone.
    pub(super) include_xattrs: GlobSet,
    /// Reasons for notes.
    pub(super) notes: Notes,
}

/// What was left out, to be told once.
#[derive(Default)]
pub(super) struct Notes {
    owners: AtomicBool,
    set_id: AtomicBool,
    devices: AtomicBool,
    /// Name spaces of extended attributes, and why they cannot be set.
    xattrs: Mutex<BTreeMap<String, &'static str>>,
}

impl Notes {
    pub(super) fn device(&self) {
        self.devices.store(true, Ordering::Relaxed);
    }

    fn xattr(&self, name: &[u8], why: &'static str) {
        let space = name.split(|byte| *byte == b'.').next().unwrap_or(name);
        let space = if name.starts_with(b"system.posix_acl") { b"system.posix_acl" } else { space };
        let space = String::from_utf8_lossy(space).into_owned();
        self.xattrs.lock().unwrap_or_else(PoisonError::into_inner).entry(space).or_insert(why);
    }

    /// The notes, as sentences.
    pub(super) fn list(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.owners.load(Ordering::Relaxed) {
            notes.push("owners were not restored, since only root can set them".to_owned());
        }
        if self.set_id.load(Ordering::Relaxed) {
            notes.push("set-user-id and set-group-id bits were not restored, since the owner was not".to_owned());
        }
        if self.devices.load(Ordering::Relaxed) {
            notes.push("devices were not restored, since only root can make them".to_owned());
        }
        for (space, why) in self.xattrs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            notes.push(format!("extended attributes {space}.* were not restored: {why}"));
        }
        notes
    }
}

/// Extended attributes that may be there although the snapshot has them not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// None: it was made just now.
    None,
    /// It was made just now, in a directory that hands down its default access list.
    AccessList,
    /// It was there before.
    Any,
}

/// Something whose attributes are set, by handle.
pub(super) enum Subject<'a> {
    /// An open file or directory.
    Open(&'a OwnedFd),
    /// Opened for its name only: link, pipe, device.
    Named { fd: &'a OwnedFd, symlink: bool },
}

impl Subject<'_> {
    fn fd(&self) -> &OwnedFd {
        match self {
            Self::Open(fd) | Self::Named { fd, .. } => fd,
        }
    }

    fn stat(&self) -> Result<Stat, Errno> {
        fs::fstat(self.fd())
    }

    fn set_owner(&self, user: Option<Uid>, group: Option<Gid>) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::fchown(fd, user, group),
            Self::Named { fd, .. } => fs::chownat(fd, "", user, group, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::fchmod(fd, mode),
            // A link has no permissions of its own.
            Self::Named { symlink: true, .. } => Ok(()),
            Self::Named { fd, .. } => fs::chmod(proc_path(fd), mode),
        }
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::futimens(fd, times),
            Self::Named { fd, .. } => fs::utimensat(fd, "", times, AtFlags::EMPTY_PATH),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Named { fd, .. } => fs::setxattr(proc_path(fd), name, value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::fremovexattr(fd, name),
            Self::Named { fd, .. } => fs::removexattr(proc_path(fd), name),
        }
    }

    /// The names of all extended attributes, and the value of one. Reading them is possible for open files only, which is
    /// all that is asked for.
    fn xattr_names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let Self::Open(fd) = self else { return Ok(Vec::new()) };
        let mut list = vec![0; fs::flistxattr_query(fd)?];
        let length = fs::flistxattr(fd, &mut list[..])?;
        list.truncate(length);
        Ok(list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    fn has_xattr(&self, name: &[u8], value: &[u8]) -> bool {
        let Self::Open(fd) = self else { return false };
        let mut found = vec![0; limits::XATTR_VALUE_BYTES_MAX];
        fs::fgetxattr(fd, name, &mut found[..]).is_ok_and(|length| found.get(..length) == Some(value))
    }
}

impl Rules {
    /// Whether an extended attribute is none of our business.
    fn excludes(&self, name: &[u8]) -> bool {
        let name = Path::new(OsStr::from_bytes(name));
        self.exclude_xattrs.is_match(name) || !(self.include_xattrs.is_empty() || self.include_xattrs.is_match(name))
    }

    /// Whether an attribute that is there but not in the snapshot is to go. Those of security modules and of the kernel
    /// itself are made by the system, not by users, and stay.
    fn removes(&self, name: &[u8], wanted: &Attributes) -> bool {
        (name.starts_with(b"user.") || name.starts_with(b"system.posix_acl"))
            && !self.excludes(name)
            && !wanted.xattrs.iter().any(|xattr| xattr.name.as_bytes() == name)
    }

    /// The owner to set, as far as it differs.
    fn owner_change(&self, stat: &Stat, wanted: &Attributes) -> Option<(Option<u32>, Option<u32>)> {
        let change = (
            (stat.st_uid != wanted.user).then_some(wanted.user),
            (stat.st_gid != wanted.group).then_some(wanted.group),
        );
        if !self.owners || change == (None, None) {
            return None;
        }
        if !self.root {
            self.notes.owners.store(true, Ordering::Relaxed);
            return None;
        }
        Some(change)
    }

    /// The mode to set. A set-id bit is worth something only with the right owner; with another it is a hole.
    fn mode_for(&self, wanted: &Attributes, directory: bool, owned: bool) -> u32 {
        let mode = wanted.mode.bits();
        let trusted = if directory { true } else { self.root && self.owners && owned };
        if mode & SET_ID != 0 && !trusted {
            self.notes.set_id.store(true, Ordering::Relaxed);
            return mode & !SET_ID;
        }
        mode
    }

    /// Whether [`Self::apply`] would change nothing.
    pub(super) fn holds(&self, fd: &OwnedFd, wanted: &Attributes) -> Result<bool, Errno> {
        let subject = Subject::Open(fd);
        let stat = subject.stat()?;
        if self.owner_change(&stat, wanted).is_some()
            || stat.st_mode & 0o7777 != self.mode_for(wanted, false, true)
            || modified_of(&stat) != wanted.modified
        {
            return Ok(false);
        }
        let there = match subject.xattr_names() {
            Ok(names) => names,
            Err(Errno::NOTSUP) => return Ok(true),
            Err(error) => return Err(error),
        };
        Ok(!there.iter().any(|name| self.removes(name, wanted))
            && wanted.xattrs.iter().all(|xattr| {
                self.excludes(xattr.name.as_bytes())
                    || (!self.root && is_of_root(xattr.name.as_bytes()))
                    || subject.has_xattr(xattr.name.as_bytes(), xattr.value.as_bytes())
            }))
    }

    /// Sets everything that differs: the owner first, since that clears set-id bits and capabilities; then extended
    /// attributes, while the file may still be written; then the mode; the times last.
    pub(super) fn apply(&self, subject: &Subject<'_>, wanted: &Attributes, leftovers: Leftovers) -> Vec<SinkError> {
        let mut failed = Vec::new();
        let stat = match subject.stat() {
            Ok(stat) => stat,
            Err(error) => return vec![SinkError::new("look at what was restored", error)],
        };
        let directory = fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        let mut owned = true;
        if let Some((user, group)) = self.owner_change(&stat, wanted)
            && let Err(error) = set_owner(subject, user, group)
        {
            owned = false;
            failed.push(SinkError::new("set the owner", error));
        }
        self.remove_xattrs(subject, wanted, leftovers, &mut failed);
        self.set_xattrs(subject, wanted, &mut failed);
        let mode = self.mode_for(wanted, directory, owned);
        // Setting an owner or an access list changes the mode, too.
        let touched = leftovers != Leftovers::None
            || !wanted.xattrs.is_empty()
            || stat.st_uid != wanted.user
            || stat.st_gid != wanted.group;
        if (touched || stat.st_mode & 0o7777 != mode)
            && let Err(error) = subject.set_mode(Mode::from_raw_mode(mode))
        {
            failed.push(SinkError::new("set the permissions", error));
        }
        let accessed = wanted.accessed.map_or(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, timespec);
        let times = Timestamps { last_access: accessed, last_modification: timespec(wanted.modified) };
        if let Err(error) = subject.set_times(&times) {
            failed.push(SinkError::new("set the times", error));
        }
        failed
    }

    fn remove_xattrs(
        &self,
        subject: &Subject<'_>,
        wanted: &Attributes,
        leftovers: Leftovers,
        failed: &mut Vec<SinkError>,
    ) {
        match leftovers {
            Leftovers::None => {}
            Leftovers::AccessList => {
                if self.removes(ACCESS_LIST, wanted) {
                    // Nearly always there is none.
                    let _ = subject.remove_xattr(ACCESS_LIST);
                }
            }
            Leftovers::Any => {
                for name in subject.xattr_names().unwrap_or_default() {
                    if self.removes(&name, wanted)
                        && let Err(error) = subject.remove_xattr(&name)
                    {
                        failed.push(SinkError::new("remove an extended attribute", error));
                    }
                }
            }
        }
    }

    fn set_xattrs(&self, subject: &Subject<'_>, wanted: &Attributes, failed: &mut Vec<SinkError>) {
        for xattr in &wanted.xattrs {
            let name = xattr.name.as_bytes();
            if self.excludes(name) {
                continue;
            }
            if !self.root && is_of_root(name) {
                self.notes.xattr(name, "only root can set them");
                continue;
            }
            match subject.set_xattr(name, xattr.value.as_bytes()) {
                Ok(()) => {}
                Err(Errno::NOTSUP) => self.notes.xattr(name, "the file system has none"),
                Err(Errno::PERM) if is_of_root(name) => self.notes.xattr(name, "this process may not set them"),
                Err(error) => failed.push(SinkError::new("set an extended attribute", error)),
            }
        }
    }
}

/// Extended attributes that only root can set.
fn is_of_root(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}

fn set_owner(subject: &Subject<'_>, user: Option<u32>, group: Option<u32>) -> Result<(), Errno> {
    // All ones means "leave it" to the kernel, and nobody can be called that.
    if user == Some(u32::MAX) || group == Some(u32::MAX) {
        return Err(Errno::INVAL);
    }
    subject.set_owner(user.map(Uid::from_raw), group.map(Gid::from_raw))
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.seconds(), tv_nsec: time.nanoseconds().into() }
}
