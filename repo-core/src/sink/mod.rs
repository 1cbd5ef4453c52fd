//! Where the files of a restore go: the trait the restore engine writes through, and what implements it.
//!
//! The engine knows no file system. It names things by a directory handle and one checked [`Name`], never by a path, so
//! that nothing a hostile tree or a hostile target holds can lead it out of the place it was given.

use std::io;

use crate::{
    time::Timestamp,
    tree::{
        name::Name,
        node::{Device, Metadata, Mode, Xattr},
    },
};

pub mod local;

/// A tree of directories that takes files, with random access to their bytes.
///
/// Every method may be called from any thread. No method follows a symbolic link in the last component, and a directory
/// handle always means the directory it was made for: if another one stands at its place meanwhile, the call fails.
pub trait Sink: Send + Sync {
    /// A directory. Clones are the same directory; holding many must cost memory only, not open files.
    type Directory: Clone + Send + Sync;
    /// An open regular file.
    type File: Send;

    /// Opens the directory everything goes below, or tells that there is none.
    ///
    /// # Errors
    /// When it is there and cannot be opened as a directory.
    fn open_root(&self) -> Result<Option<Self::Directory>, SinkError>;

    /// Opens that directory, making it and its parents if need be.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    fn make_root(&self) -> Result<Self::Directory, SinkError>;

    /// Names of everything in a directory, sorted by their bytes.
    ///
    /// # Errors
    /// When the listing is not complete.
    fn names(&self, directory: &Self::Directory) -> Result<Vec<Name>, SinkError>;

    /// What has this name, or nothing.
    ///
    /// # Errors
    /// When it cannot be told.
    fn stat(&self, directory: &Self::Directory, name: &Name) -> Result<Option<Existing>, SinkError>;

    /// Opens a directory that is there.
    ///
    /// # Errors
    /// When it is no directory, or lies on another file system than its parent and `same_device` asks for one.
    fn open_directory(
        &self,
        parent: &Self::Directory,
        name: &Name,
        same_device: bool,
    ) -> Result<Self::Directory, SinkError>;

    /// Makes a directory that only its owner can enter.
    ///
    /// # Errors
    /// When the name is taken, among others.
    fn make_directory(&self, parent: &Self::Directory, name: &Name) -> Result<Self::Directory, SinkError>;

    /// Lets entries of a directory that is there be changed, if its permissions forbid it and can be set by this process.
    /// Called before [`Self::finish_directory`], which sets the permissions for good.
    fn unlock_directory(&self, directory: &Self::Directory);

    /// Gives a directory its attributes. Called last, when nothing in it will change any more. Returns what could not be
    /// kept, one by one.
    fn finish_directory(&self, directory: &Self::Directory, attributes: &Attributes) -> Vec<SinkError>;

    /// Makes an empty regular file and opens it for writing; `mode` says who may open it until it is finished, at most.
    ///
    /// # Errors
    /// When the name is taken, among others.
    fn create(&self, directory: &Self::Directory, name: &Name, mode: Mode) -> Result<Self::File, SinkError>;

    /// Opens a regular file that is there, for reading and, if `write`, for writing.
    ///
    /// # Errors
    /// When it is no regular file, or not the one of this identity.
    fn open(
        &self,
        directory: &Self::Directory,
        name: &Name,
        identity: Identity,
        write: bool,
    ) -> Result<Self::File, SinkError>;

    /// Which file this is.
    ///
    /// # Errors
    /// When it cannot be told.
    fn identity(&self, file: &Self::File) -> Result<Identity, SinkError>;

    /// Reads up to `into.len()` bytes at `offset_bytes` and returns how many: fewer only at the end of the file.
    ///
    /// # Errors
    /// When reading fails.
    fn read_at(&self, file: &Self::File, offset_bytes: u64, into: &mut [u8]) -> Result<usize, SinkError>;

    /// Writes all bytes at `offset_bytes`.
    ///
    /// # Errors
    /// When not all of them could be written.
    fn write_at(&self, file: &Self::File, offset_bytes: u64, bytes: &[u8]) -> Result<(), SinkError>;

    /// Cuts the file or makes it longer by a hole.
    ///
    /// # Errors
    /// When the file cannot be that long, among others.
    fn set_length(&self, file: &Self::File, length_bytes: u64) -> Result<(), SinkError>;

    /// Whether nothing but zeros that take no space is in this range.
    ///
    /// # Errors
    /// When it cannot be told.
    fn is_hole(&self, file: &Self::File, offset_bytes: u64, length_bytes: u64) -> Result<bool, SinkError>;

    /// Makes a hole of this range, or fills it with zeros where that cannot be.
    ///
    /// # Errors
    /// When it could do neither.
    fn make_hole(&self, file: &Self::File, offset_bytes: u64, length_bytes: u64) -> Result<(), SinkError>;

    /// Whether [`Self::finish_file`] would change nothing.
    ///
    /// # Errors
    /// When it cannot be told.
    fn has_attributes(&self, file: &Self::File, attributes: &Attributes) -> Result<bool, SinkError>;

    /// Gives a file its attributes. Called last. Returns what could not be kept, one by one.
    fn finish_file(&self, file: Self::File, attributes: &Attributes) -> Vec<SinkError>;

    /// Where a symbolic link points to.
    ///
    /// # Errors
    /// When it is none.
    fn link_target(&self, directory: &Self::Directory, name: &Name) -> Result<Vec<u8>, SinkError>;

    /// Makes something that is neither a directory nor a regular file, with its attributes. Returns which one it is and
    /// what could not be kept; `None` when this sink leaves out such things, which [`Self::notes`] then says.
    ///
    /// # Errors
    /// When the name is taken, among others.
    fn make_special(
        &self,
        directory: &Self::Directory,
        name: &Name,
        special: &Special<'_>,
        attributes: &Attributes,
    ) -> Result<Option<(Identity, Vec<SinkError>)>, SinkError>;

    /// Gives `identity`, which is at `from`, another name.
    ///
    /// # Errors
    /// When the name is taken, or something else was at `from`; no new name is left then.
    fn link(
        &self,
        from: (&Self::Directory, &Name),
        identity: Identity,
        to: (&Self::Directory, &Name),
    ) -> Result<(), SinkError>;

    /// Gives something another name in its directory, in one step; with `replace` in place of what has that name.
    ///
    /// # Errors
    /// When the name is taken and `replace` is not set, among others.
    fn rename(&self, directory: &Self::Directory, from: &Name, to: &Name, replace: bool) -> Result<(), SinkError>;

    /// Removes a name that is no directory's.
    ///
    /// # Errors
    /// When it is one, among others.
    fn remove(&self, directory: &Self::Directory, name: &Name) -> Result<(), SinkError>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// When it is not empty, among others.
    fn remove_directory(&self, directory: &Self::Directory, name: &Name) -> Result<(), SinkError>;

    /// Returns when everything is on stable storage.
    ///
    /// # Errors
    /// When that failed.
    fn sync(&self, root: &Self::Directory) -> Result<(), SinkError>;

    /// What was left out by rule rather than by failure, in words, each once.
    fn notes(&self) -> Vec<String>;
}

/// Tells one file of a sink from all others, whatever its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// Something that is in the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// What kind of thing it is.
    pub kind: ExistingKind,
    /// Which one it is.
    pub identity: Identity,
    /// Length of a regular file.
    pub size_bytes: u64,
    /// When its content changed last.
    pub modified: Timestamp,
    /// How many names it has.
    pub links: u64,
}

/// What kind of thing is in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, pipe or socket.
    Other,
}

/// Neither a directory nor a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Special<'a> {
    /// A symbolic link to this target.
    Symlink(&'a [u8]),
    /// A block device.
    BlockDevice(Device),
    /// A character device.
    CharacterDevice(Device),
    /// A named pipe.
    Fifo,
}

/// What a restored entry gets besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: Mode,
    /// Numeric owner.
    pub user: u32,
    /// Numeric group.
    pub group: u32,
    /// When its content changed last.
    pub modified: Timestamp,
    /// When it was read last, if that is known.
    pub accessed: Option<Timestamp>,
    /// Extended attributes; a sink may be told to leave some alone.
    pub xattrs: Box<[Xattr]>,
}

impl Attributes {
    /// Those of a node.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            mode: metadata.mode,
            user: metadata.user,
            group: metadata.group,
            modified: metadata.modified,
            accessed: metadata.accessed,
            xattrs: metadata.xattrs.clone().into(),
        }
    }
}

/// Why something could not be done in a sink.
#[derive(Debug, thiserror::Error)]
#[error("cannot {during}: {cause}")]
pub struct SinkError {
    /// What was being done, as a verb: "write", "set the owner".
    pub during: &'static str,
    /// The cause.
    pub cause: io::Error,
}

impl SinkError {
    /// While doing `during`, `cause` came up.
    pub fn new(during: &'static str, cause: impl Into<io::Error>) -> Self {
        Self { during, cause: cause.into() }
    }

    /// Whether everything else would fail the same way: the disk or the quota is full, or nothing can be written at all.
    #[must_use]
    pub fn concerns_everything(&self) -> bool {
        matches!(
            self.cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
        )
    }

    /// Whether the name was taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.cause.kind() == io::ErrorKind::AlreadyExists
    }
}
