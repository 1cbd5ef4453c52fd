//! A tree on a local file system.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use globset::{Glob, GlobSet, GlobSetBuilder};
use rustix::{
    fs::{self, AtFlags, FileType, Mode as RawMode, OFlags, RenameFlags, Stat},
    io::Errno,
    process::geteuid,
};

use self::{
    attributes::{Leftovers, Notes, Rules, Subject},
    handle::OpenDirectories,
};
use super::{Attributes, Existing, ExistingKind, Identity, Sink, SinkError, Special};
use crate::{
    error::{Error, Result as CoreResult},
    time::Timestamp,
    tree::{
        name::{Name, escape},
        node::Mode,
    },
};

mod attributes;
mod file;
mod handle;

pub use handle::LocalDirectory;

type Result<T, E = SinkError> = std::result::Result<T, E>;

/// How a local tree is written.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Set owners, as far as this process may.
    pub owners: bool,
    /// Make devices, as far as this process may.
    pub devices: bool,
    /// Patterns (`*`, `?`, `[…]`, `{…}`) of names of extended attributes that are neither set nor removed.
    pub exclude_xattrs: Vec<String>,
    /// If there are any: patterns of those that are set and removed, all others are not.
    pub include_xattrs: Vec<String>,
    /// Most directories that are kept open; a quarter of the files this process may have open unless it is said here.
    pub open_directories: Option<usize>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            owners: true,
            devices: true,
            exclude_xattrs: Vec::new(),
            include_xattrs: Vec::new(),
            open_directories: None,
        }
    }
}

/// A directory of the local file system as the root of a restore.
///
/// The root is the only path that is ever resolved, once. Everything below is opened name by name, never through a link.
pub struct LocalSink {
    root: PathBuf,
    devices: bool,
    rules: Rules,
    directories: OpenDirectories,
}

/// An open file of a [`LocalSink`].
pub struct LocalFile {
    fd: OwnedFd,
    leftovers: Leftovers,
}

impl LocalSink {
    /// Below `root`, which need not exist.
    ///
    /// # Errors
    /// When a pattern is none.
    pub fn new(root: impl Into<PathBuf>, options: &LocalOptions) -> CoreResult<Self> {
        let exclude_xattrs = name_patterns(&options.exclude_xattrs)?;
        let include_xattrs = name_patterns(&options.include_xattrs)?;
        let root_user = geteuid().is_root();
        let rules =
            Rules { root: root_user, owners: options.owners, exclude_xattrs, include_xattrs, notes: Notes::default() };
        let root = root.into();
        Ok(Self { root, devices: options.devices, rules, directories: OpenDirectories::new(options.open_directories) })
    }

    fn fd(&self, directory: &LocalDirectory) -> Result<Arc<OwnedFd>> {
        self.directories.get(directory)
    }

    fn enter_root(&self) -> Result<LocalDirectory, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(&self.root, flags, RawMode::empty())?;
        self.directories.enter(None, None, fd, false)
    }

    /// Opens something for its name only, to set the attributes of just that.
    fn open_named(&self, parent: &OwnedFd, name: &Name) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.directories.retry(|| fs::openat(parent, name.as_bytes(), flags, RawMode::empty()))
    }

    /// Makes a link, pipe or device; whether this process may.
    fn make_node(&self, parent: &OwnedFd, name: &Name, special: &Special<'_>) -> Result<bool> {
        let private = RawMode::RUSR | RawMode::WUSR;
        let (file_type, device) = match special {
            Special::Symlink(target) => {
                fs::symlinkat(*target, parent, name.as_bytes()).map_err(failed("make the symbolic link"))?;
                return Ok(true);
            }
            Special::Fifo => (FileType::Fifo, 0),
            Special::BlockDevice(device) => (FileType::BlockDevice, fs::makedev(device.major, device.minor)),
            Special::CharacterDevice(device) => (FileType::CharacterDevice, fs::makedev(device.major, device.minor)),
        };
        if file_type != FileType::Fifo && !(self.devices && self.rules.root) {
            self.rules.notes.device();
            return Ok(false);
        }
        match fs::mknodat(parent, name.as_bytes(), file_type, private, device) {
            Ok(()) => Ok(true),
            // Root of a user namespace only.
            Err(Errno::PERM) if file_type != FileType::Fifo => {
                self.rules.notes.device();
                Ok(false)
            }
            Err(error) => Err(SinkError::new("make the pipe or device", error)),
        }
    }
}

impl Sink for LocalSink {
    type Directory = LocalDirectory;
    type File = LocalFile;

    fn open_root(&self) -> Result<Option<LocalDirectory>> {
        match self.enter_root() {
            Ok(root) => Ok(Some(root)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(SinkError::new("open the target", error)),
        }
    }

    fn make_root(&self) -> Result<LocalDirectory> {
        std::fs::create_dir_all(&self.root).map_err(|error| SinkError::new("make the target", error))?;
        self.enter_root().map_err(failed("open the target"))
    }

    fn names(&self, directory: &LocalDirectory) -> Result<Vec<Name>> {
        let fd = self.fd(directory)?;
        let failed = failed("list the directory");
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(
                    Name::new(name).map_err(|error| SinkError::new("list the directory", io::Error::other(error)))?,
                );
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn stat(&self, directory: &LocalDirectory, name: &Name) -> Result<Option<Existing>> {
        let fd = self.fd(directory)?;
        match fs::statat(&fd, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(existing(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(SinkError::new("look at what is there", error)),
        }
    }

    fn open_directory(&self, parent: &LocalDirectory, name: &Name, same_device: bool) -> Result<LocalDirectory> {
        let parent_fd = self.fd(parent)?;
        let fd = self.directories.open(&parent_fd, name).map_err(failed("open the directory"))?;
        let directory =
            self.directories.enter(Some(parent), Some(name), fd, false).map_err(failed("open the directory"))?;
        if same_device && directory.identity().device != parent.identity().device {
            return Err(SinkError::new(
                "enter the directory",
                io::Error::other("another file system is mounted there"),
            ));
        }
        Ok(directory)
    }

    fn make_directory(&self, parent: &LocalDirectory, name: &Name) -> Result<LocalDirectory> {
        let failed = failed("make the directory");
        let parent_fd = self.fd(parent)?;
        fs::mkdirat(&parent_fd, name.as_bytes(), RawMode::RWXU).map_err(failed)?;
        let fd = self.directories.open(&parent_fd, name).map_err(failed)?;
        self.directories.enter(Some(parent), Some(name), fd, true).map_err(failed)
    }

    fn unlock_directory(&self, directory: &LocalDirectory) {
        // Root may do everything anyway. For others, a failure shows when something in the directory is to be changed.
        if !self.rules.root
            && let Ok(fd) = self.fd(directory)
            && let Ok(stat) = fs::fstat(&fd)
            && stat.st_mode & 0o700 != 0o700
        {
            let _ = fs::fchmod(&fd, RawMode::from_raw_mode(stat.st_mode & 0o7777 | 0o700));
        }
    }

    fn finish_directory(&self, directory: &LocalDirectory, attributes: &Attributes) -> Vec<SinkError> {
        let origin = directory.origin();
        let leftovers = if origin.made && !origin.inherits { Leftovers::None } else { Leftovers::Any };
        match self.fd(directory) {
            Ok(fd) => self.rules.apply(&Subject::Open(&fd), attributes, leftovers),
            Err(error) => vec![error],
        }
    }

    fn create(&self, directory: &LocalDirectory, name: &Name, mode: Mode) -> Result<LocalFile> {
        let parent = self.fd(directory)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = RawMode::from_raw_mode(mode.bits() & 0o777);
        let fd = self
            .directories
            .retry(|| fs::openat(&parent, name.as_bytes(), flags, mode))
            .map_err(failed("create the file"))?;
        let leftovers = if directory.origin().inherits { Leftovers::AccessList } else { Leftovers::None };
        Ok(LocalFile { fd, leftovers })
    }

    fn open(&self, directory: &LocalDirectory, name: &Name, identity: Identity, write: bool) -> Result<LocalFile> {
        let failed = failed("open the file");
        let parent = self.fd(directory)?;
        // Waiting for the other end of a pipe that was put there would be for ever.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let flags = flags | if write { OFlags::RDWR } else { OFlags::RDONLY };
        let open = || fs::openat(&parent, name.as_bytes(), flags, RawMode::empty());
        let fd = self.directories.retry(open).map_err(failed)?;
        let stat = fs::fstat(&fd).map_err(failed)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() || identity_of(&stat) != identity {
            return Err(SinkError::new("open the file", io::Error::other("another file was put in its place")));
        }
        Ok(LocalFile { fd, leftovers: Leftovers::Any })
    }

    fn identity(&self, file: &LocalFile) -> Result<Identity> {
        fs::fstat(&file.fd).map(|stat| identity_of(&stat)).map_err(failed("look at the file"))
    }

    fn read_at(&self, file: &LocalFile, offset_bytes: u64, into: &mut [u8]) -> Result<usize> {
        file::read_at(&file.fd, offset_bytes, into).map_err(failed("read the file"))
    }

    fn write_at(&self, file: &LocalFile, offset_bytes: u64, bytes: &[u8]) -> Result<()> {
        file::write_at(&file.fd, offset_bytes, bytes).map_err(failed("write the file"))
    }

    fn set_length(&self, file: &LocalFile, length_bytes: u64) -> Result<()> {
        fs::ftruncate(&file.fd, length_bytes).map_err(failed("set the length of the file"))
    }

    fn is_hole(&self, file: &LocalFile, offset_bytes: u64, length_bytes: u64) -> Result<bool> {
        file::is_hole(&file.fd, offset_bytes, length_bytes).map_err(failed("look for holes of the file"))
    }

    fn make_hole(&self, file: &LocalFile, offset_bytes: u64, length_bytes: u64) -> Result<()> {
        file::make_hole(&file.fd, offset_bytes, length_bytes).map_err(failed("make a hole in the file"))
    }

    fn has_attributes(&self, file: &LocalFile, attributes: &Attributes) -> Result<bool> {
        self.rules.holds(&file.fd, attributes).map_err(failed("look at the file"))
    }

    fn finish_file(&self, file: LocalFile, attributes: &Attributes) -> Vec<SinkError> {
        self.rules.apply(&Subject::Open(&file.fd), attributes, file.leftovers)
    }

    fn link_target(&self, directory: &LocalDirectory, name: &Name) -> Result<Vec<u8>> {
        let fd = self.fd(directory)?;
        let target = fs::readlinkat(&fd, name.as_bytes(), Vec::new()).map_err(failed("read the symbolic link"))?;
        Ok(target.into_bytes())
    }

    fn make_special(
        &self,
        directory: &LocalDirectory,
        name: &Name,
        special: &Special<'_>,
        attributes: &Attributes,
    ) -> Result<Option<(Identity, Vec<SinkError>)>> {
        let parent = self.fd(directory)?;
        if !self.make_node(&parent, name, special)? {
            return Ok(None);
        }
        let failed = failed("look at what was restored");
        let fd = self.open_named(&parent, name).map_err(failed)?;
        let stat = fs::fstat(&fd).map_err(failed)?;
        if !is_as_made(&stat, special) {
            return Err(SinkError::new(
                "look at what was restored",
                io::Error::other("something else is in its place"),
            ));
        }
        let symlink = matches!(special, Special::Symlink(_));
        let leftovers = if directory.origin().inherits && !symlink { Leftovers::AccessList } else { Leftovers::None };
        let problems = self.rules.apply(&Subject::Named { fd: &fd, symlink }, attributes, leftovers);
        Ok(Some((identity_of(&stat), problems)))
    }

    fn link(&self, from: (&LocalDirectory, &Name), identity: Identity, to: (&LocalDirectory, &Name)) -> Result<()> {
        let failed = failed("make the hard link");
        let (from_fd, to_fd) = (self.fd(from.0)?, self.fd(to.0)?);
        let (from_name, to_name) = (from.1.as_bytes(), to.1.as_bytes());
        fs::linkat(&from_fd, from_name, &to_fd, to_name, AtFlags::empty()).map_err(failed)?;
        let linked = fs::statat(&to_fd, to_name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if identity_of(&linked) == identity {
            return Ok(());
        }
        // Somebody changed what the first name means. What it means now is not ours to give a name here.
        fs::unlinkat(&to_fd, to_name, AtFlags::empty()).map_err(failed)?;
        Err(SinkError::new("make the hard link", io::Error::other("another file was put in its place")))
    }

    fn rename(&self, directory: &LocalDirectory, from: &Name, to: &Name, replace: bool) -> Result<()> {
        let fd = self.fd(directory)?;
        let (from, to) = (from.as_bytes(), to.as_bytes());
        let failed = failed("give the file its name");
        if replace {
            return fs::renameat(&fd, from, &fd, to).map_err(failed);
        }
        match fs::renameat_with(&fd, from, &fd, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs::linkat(&fd, from, &fd, to, AtFlags::empty()).map_err(failed)?;
                fs::unlinkat(&fd, from, AtFlags::empty()).map_err(failed)
            }
            done => done.map_err(failed),
        }
    }

    fn remove(&self, directory: &LocalDirectory, name: &Name) -> Result<()> {
        fs::unlinkat(self.fd(directory)?, name.as_bytes(), AtFlags::empty()).map_err(failed("remove the file"))
    }

    fn remove_directory(&self, directory: &LocalDirectory, name: &Name) -> Result<()> {
        fs::unlinkat(self.fd(directory)?, name.as_bytes(), AtFlags::REMOVEDIR).map_err(failed("remove the directory"))
    }

    fn sync(&self, root: &LocalDirectory) -> Result<()> {
        fs::syncfs(self.fd(root)?).map_err(failed("write everything to the disk"))
    }

    fn notes(&self) -> Vec<String> {
        self.rules.notes.list()
    }
}

impl std::fmt::Display for LocalSink {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&escape(self.root.as_os_str().as_encoded_bytes()))
    }
}

fn name_patterns(patterns: &[String]) -> CoreResult<GlobSet> {
    let invalid = |error: globset::Error| Error::Invalid(error.to_string());
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(invalid)?);
    }
    set.build().map_err(invalid)
}

fn failed(during: &'static str) -> impl Fn(Errno) -> SinkError + Copy {
    move |error| SinkError::new(during, error)
}

/// The path that means an open file itself, for calls that have no other way to name it.
fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn identity_of(stat: &Stat) -> Identity {
    Identity { device: stat.st_dev, inode: stat.st_ino }
}

fn modified_of(stat: &Stat) -> Timestamp {
    Timestamp::new(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)).unwrap_or_default()
}

fn existing(stat: &Stat) -> Existing {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => ExistingKind::File,
        FileType::Directory => ExistingKind::Directory,
        FileType::Symlink => ExistingKind::Symlink,
        _ => ExistingKind::Other,
    };
    Existing {
        kind,
        identity: identity_of(stat),
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified: modified_of(stat),
        links: stat.st_nlink,
    }
}

/// Whether this is what was just made, and has no other name.
fn is_as_made(stat: &Stat, special: &Special<'_>) -> bool {
    let file_type = FileType::from_raw_mode(stat.st_mode);
    let expected = match special {
        Special::Symlink(_) => FileType::Symlink,
        Special::Fifo => FileType::Fifo,
        Special::BlockDevice(_) => FileType::BlockDevice,
        Special::CharacterDevice(_) => FileType::CharacterDevice,
    };
    file_type == expected && stat.st_nlink == 1
}
