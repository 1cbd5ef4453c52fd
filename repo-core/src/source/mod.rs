//! Where the files of a backup come from: the trait the backup engine reads through, and what implements it.
//!
//! The engine knows no file system. A source is a tree of [`Directory`] values whose entries are asked for one by one, from
//! many threads; what a rule of the user excludes does not show up at all.

pub mod exclude;
pub mod files_from;
mod glob;
mod lines;
pub mod local;
mod owners;
pub(crate) mod path;
pub(crate) mod pattern;
pub mod stream;

use std::{collections::BTreeMap, sync::Arc};

pub use glob::BadPattern;
pub use lines::ListError;

use crate::{
    time::Timestamp,
    tree::{
        name::Name,
        node::{Device, Mode, Xattr},
    },
};

/// A tree to back up.
pub trait Source: Send + Sync {
    /// The directory that becomes the snapshot's root.
    ///
    /// # Errors
    /// When nothing of it can be read; the backup then fails as a whole.
    fn root(&self) -> Result<Arc<dyn Directory>, SourceError>;

    /// The targets as the user named them, before globs and lists: what this is a backup *of*.
    fn targets(&self) -> Vec<String>;

    /// The absolute paths that are backed up, for people and for compatibility.
    fn paths(&self) -> Vec<String>;

    /// Names of these users and groups on the machine the source is on; those without one are left out.
    fn owner_names(&self, users: &[u32], groups: &[u32]) -> OwnerNames;

    /// Takes what went wrong since the last call with parts of entries that were handed out nevertheless: an extended
    /// attribute that could not be read, a name that cannot be stored. They count like an entry that could not be saved.
    fn problems(&self) -> Vec<SourceError> {
        Vec::new()
    }

    /// Whether everything can be read a second time, from [`Self::root`] on; a stream cannot.
    fn can_be_read_again(&self) -> bool {
        false
    }

    /// Called once everything was read, before the snapshot is committed. A source that turns out to be incomplete as a
    /// whole (a command that failed) says so here.
    ///
    /// # Errors
    /// Any error means that no snapshot is made.
    fn finish(&self) -> Result<(), SourceError>;
}

/// Names for numeric owners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerNames {
    /// User names by number.
    pub users: BTreeMap<u32, String>,
    /// Group names by number.
    pub groups: BTreeMap<u32, String>,
}

/// One directory of a source. Kept open while entries of it are being worked on.
pub trait Directory: Send + Sync {
    /// What the directory itself is.
    fn stat(&self) -> Stat;

    /// Its extended attributes, sorted by name. One that cannot be stored is left out and told of by [`Source::problems`].
    ///
    /// # Errors
    /// When they cannot be read.
    fn own_xattrs(&self) -> Result<Vec<Xattr>, SourceError>;

    /// Its entries' names, sorted by their bytes, each once, without those a rule excludes by name or path.
    ///
    /// # Errors
    /// When the listing is not complete.
    fn names(&self) -> Result<Vec<Name>, SourceError>;

    /// What an entry is, without following links. `None` when a rule excludes it after all.
    ///
    /// # Errors
    /// When it cannot be told, or the entry has vanished.
    fn entry(&self, name: &Name) -> Result<Option<Stat>, SourceError>;

    /// Opens an entry that is a directory, without following links.
    ///
    /// # Errors
    /// When it cannot be opened or is no directory any more.
    fn directory(&self, name: &Name) -> Result<Arc<dyn Directory>, SourceError>;

    /// Opens an entry that is a regular file, without following links and without waiting. `expected` is what
    /// [`Self::entry`] said of it; it saves system calls, and need not be true any more.
    ///
    /// # Errors
    /// When it cannot be opened. That it is no regular file any more may come out only when it is read.
    fn file(&self, name: &Name, expected: &Stat) -> Result<Box<dyn FileReader>, SourceError>;

    /// Where an entry that is a symbolic link points to.
    ///
    /// # Errors
    /// When it cannot be read.
    fn link_target(&self, name: &Name) -> Result<Vec<u8>, SourceError>;

    /// The extended attributes of an entry that is not a regular file (those come from [`FileReader::finish`]).
    ///
    /// # Errors
    /// When they cannot be read.
    fn xattrs(&self, name: &Name) -> Result<Vec<Xattr>, SourceError>;

    /// The path of an entry, for messages.
    fn path_of(&self, name: &Name) -> Vec<u8>;
}

/// The content of one regular file, from its beginning to its end.
pub trait FileReader: Send {
    /// Appends the next bytes to `into`, at most `most_bytes` (more than zero). Holes are told of, neither read nor
    /// returned as bytes. A part of fewer than `most_bytes` does not mean that the file ends.
    ///
    /// Cheapest when the spare capacity of `into` is not zero and not above `most_bytes`: it is then filled as it is.
    ///
    /// # Errors
    /// When reading fails; the file is then not stored.
    fn read(&mut self, most_bytes: usize, into: &mut Vec<u8>) -> Result<Part, SourceError>;

    /// What the file is now that it was read, and its extended attributes, from the open file itself. Attributes that
    /// cannot be stored or read are left out and told of by [`Source::problems`]: they never cost the content.
    /// [`Stat::changed`] is then zero, so that the next backup does not take the file for unchanged.
    ///
    /// # Errors
    /// When that cannot be told, or it turns out to be no regular file.
    fn finish(&mut self) -> Result<(Stat, Vec<Xattr>), SourceError>;
}

/// What a call of [`FileReader::read`] came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// So many bytes were appended; not zero.
    Data(usize),
    /// A hole of so many bytes follows; not zero.
    Hole(u64),
    /// The file ends here.
    End,
}

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// What is known of an entry without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What kind of thing it is.
    pub file_type: FileType,
    /// Length of a regular file; zero for everything else, and for a stream whose length nobody knows.
    pub size_bytes: u64,
    /// Whether a regular file takes less space than its length, so that looking for holes is worth it.
    pub sparse: bool,
    /// Permission bits.
    pub mode: Mode,
    /// Numeric owner.
    pub user: u32,
    /// Numeric group.
    pub group: u32,
    /// When the content changed last.
    pub modified: Timestamp,
    /// When the inode changed last.
    pub changed: Timestamp,
    /// When it was read last.
    pub accessed: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// The device it is on.
    pub device: u64,
    /// How many names it has.
    pub links: u64,
    /// For a device: its number.
    pub special: Device,
}

/// What went wrong with a part of a source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {during} {}: {cause}", crate::tree::name::escape(path))]
pub struct SourceError {
    /// What was being done, as a verb: "read", "list", "open".
    pub during: &'static str,
    /// The path, as bytes.
    pub path: Vec<u8>,
    /// Whether the rest of the backup can go on.
    pub severity: Severity,
    /// The cause.
    pub cause: std::io::Error,
}

/// What a [`SourceError`] means for the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The entry vanished between two looks at it; nothing is left to save.
    Vanished,
    /// This entry cannot be saved; the rest can.
    Entry,
    /// Nothing of this source may become a snapshot.
    Fatal,
}
