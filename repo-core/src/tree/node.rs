//! What the tree says of one file, directory or other entry (`docs/format.md` section 7).
//!
//! The order of fields and variants is the stored encoding; a change needs a new format version.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    error::Error,
    id::BlobId,
    limits,
    time::Timestamp,
    tree::name::{Bytes, Name},
};

/// A directory entry: a name and what it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name, unique in its directory.
    pub name: Name,
    /// What it names.
    pub node: Node,
}

/// One file, directory or other thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is, with its content.
    pub kind: NodeKind,
    /// Everything else about it.
    pub metadata: Metadata,
}

/// What a node is, with what belongs to that kind only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// A regular file.
    File {
        /// Its length, holes included; always the sum of its pieces.
        size_bytes: u64,
        /// Its bytes.
        content: Content,
    },
    /// A directory.
    Directory {
        /// Root page of its entries.
        tree: BlobId,
        /// Sums over everything below it.
        totals: Totals,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points to, as it is.
        target: Bytes<{ limits::LINK_BYTES_MAX }>,
    },
    /// A block device.
    BlockDevice {
        /// Its number.
        device: Device,
    },
    /// A character device.
    CharacterDevice {
        /// Its number.
        device: Device,
    },
    /// A named pipe.
    Fifo,
    /// A socket; stored so that it is known to have been there, never restored.
    Socket,
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// There are none.
    Empty,
    /// One data blob holds the whole file.
    Blob(BlobId),
    /// Up to [`limits::INLINE_PIECES`] pieces, in order.
    Pieces(Vec<Piece>),
    /// More pieces than that: the root page of a piece list.
    List(BlobId),
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// Bytes, as one data blob.
    Data {
        /// The blob.
        blob: BlobId,
        /// Its length.
        length_bytes: u32,
    },
    /// A hole: zeros that take no space.
    Hole {
        /// Its length; not zero.
        length_bytes: u64,
    },
}

impl Piece {
    /// How many bytes of the file it is.
    #[must_use]
    pub const fn length_bytes(&self) -> u64 {
        match *self {
            Self::Data { length_bytes, .. } => length_bytes as u64,
            Self::Hole { length_bytes } => length_bytes,
        }
    }
}

/// Sums over a directory and everything below it (itself not counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Everything that is not a directory.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Lengths of all regular files, each hard link counted.
    pub bytes: u64,
}

impl Totals {
    /// Adds, staying at the largest number rather than running over (sums come from the store).
    pub const fn add(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.directories = self.directories.saturating_add(other.directories);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// What a node adds to the totals of the directory it is in.
    #[must_use]
    pub const fn of(node: &Node) -> Self {
        match &node.kind {
            NodeKind::Directory { totals, .. } => {
                Self { files: totals.files, directories: totals.directories.saturating_add(1), bytes: totals.bytes }
            }
            NodeKind::File { size_bytes, .. } => Self { files: 1, directories: 0, bytes: *size_bytes },
            _ => Self { files: 1, directories: 0, bytes: 0 },
        }
    }
}

/// Everything about a node that does not depend on what kind it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Permission bits with set-uid, set-gid and sticky: `0o7777` at most.
    pub mode: Mode,
    /// Numeric owner.
    pub user: u32,
    /// Numeric group.
    pub group: u32,
    /// When its content changed last.
    pub modified: Timestamp,
    /// When its inode changed last; not restored, used to notice changes. Zero where what is stored is not all, or not one state of
    /// it: the next backup looks at it again.
    pub changed: Timestamp,
    /// When it was read last, if that was asked for.
    pub accessed: Option<Timestamp>,
    /// Inode number, used to notice changes.
    pub inode: u64,
    /// For something with several names: which of them are the same.
    pub hard_links: Option<HardLinks>,
    /// Extended attributes, sorted by name; POSIX ACLs are among them.
    pub xattrs: Vec<Xattr>,
    /// What later programs say of it, strictly ascending by tag. None in version 1.
    #[serde(deserialize_with = "checked_extensions")]
    pub extensions: Vec<Extension>,
}

/// Something that a later program says of an entry or a snapshot, without a new version of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// What it is. Readers pass over an even tag they do not know, and must not act on what carries an odd one.
    pub tag: u32,
    /// What it says.
    pub value: Bytes<{ limits::EXTENSION_BYTES_MAX }>,
}

impl Extension {
    /// The first tag that this program must know to act on what carries it, and does not.
    #[must_use]
    pub fn first_needed(extensions: &[Self]) -> Option<u32> {
        extensions.iter().map(|extension| extension.tag).find(|tag| !tag.is_multiple_of(2))
    }

    /// Asks whether this program may act on what carries these extensions.
    ///
    /// # Errors
    /// [`Error::NewerExtension`], naming `what`, when a newer program says that one has to know more than this one does.
    pub fn check(extensions: &[Self], what: &dyn std::fmt::Display) -> Result<(), Error> {
        match Self::first_needed(extensions) {
            None => Ok(()),
            Some(tag) => Err(Error::NewerExtension { object: what.to_string(), tag }),
        }
    }
}

/// Decodes extensions and checks their number and order.
pub(crate) fn checked_extensions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Extension>, D::Error> {
    let extensions = Vec::<Extension>::deserialize(deserializer)?;
    if extensions.len() > limits::EXTENSIONS_MAX {
        return Err(D::Error::custom("too many extensions"));
    }
    if !extensions.is_sorted_by(|a, b| a.tag < b.tag) {
        return Err(D::Error::custom("the tags of extensions do not ascend"));
    }
    Ok(extensions)
}

/// Permission bits, `0o7777` at most; decoding refuses others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mode(u16);

impl Mode {
    /// The permission bits of `bits`, whatever file type they came with.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self((bits & 0o7777) as u16)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }
}

impl TryFrom<u32> for Mode {
    type Error = &'static str;

    fn try_from(bits: u32) -> Result<Self, Self::Error> {
        if bits <= 0o7777 { Ok(Self::from_bits(bits)) } else { Err("a mode has bits above 0o7777") }
    }
}

impl From<Mode> for u32 {
    fn from(mode: Mode) -> Self {
        mode.bits()
    }
}

/// Tells which names of a snapshot are one file: those with equal device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardLinks {
    /// The device it was on.
    pub device: u64,
    /// How many names it had.
    pub count: u64,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// Its name with its name space: `user.colour`.
    pub name: Bytes<{ limits::XATTR_NAME_BYTES_MAX }>,
    /// Its value.
    pub value: Bytes<{ limits::XATTR_VALUE_BYTES_MAX }>,
}
