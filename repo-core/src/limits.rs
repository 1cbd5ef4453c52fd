//! Every bound, with its unit. Nothing read from a store is believed beyond these; nothing is allocated from a number
//! that was not held against one of them first.

/// Plain bytes after which a frame is closed: the unit of compression and encryption. At 2 MiB source code takes 2 % less than at
/// 1 MiB, and a reader that wants one file still opens little (`docs/decisions/0005-sizes.md`).
pub const DATA_FRAME_BYTES: usize = 2 << 20;

/// Plain bytes after which a frame of tree pages is closed. Smaller than for data, since a reader that wants one
/// directory has to open a whole frame.
pub const TREE_FRAME_BYTES: usize = 128 << 10;

/// Stored bytes a pack is filled up to. A Padmé size, so that a full pack needs next to no padding.
pub const PACK_BYTES: usize = 32 << 20;

/// Largest pack a reader accepts.
pub const PACK_BYTES_MAX: u64 = 256 << 20;

/// Largest blob of any kind.
pub const BLOB_BYTES_MAX: usize = 8 << 20;

/// Largest frame (plain or stored) a reader accepts: a blob of the largest size, and a frame already begun.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Largest plain size of a pack's or an index run's directory.
pub const DIRECTORY_BYTES_MAX: usize = 64 << 20;

/// Most frames in one pack, and most pages in one index run.
pub const FRAMES_MAX: usize = 1 << 20;

/// Most blobs in one pack.
pub const PACK_BLOBS_MAX: usize = 4 << 20;

/// Largest plain size of a stand-alone object (config, snapshot, seal, session, mark).
pub const OBJECT_BYTES_MAX: usize = 64 << 20;

/// Largest stored size of a stand-alone object.
pub const OBJECT_STORED_BYTES_MAX: u64 = 80 << 20;

/// Largest index run a reader accepts.
pub const INDEX_BYTES_MAX: u64 = 4 << 30;

/// Most entries in one index run; a backup writes further runs beyond it.
pub const INDEX_ENTRIES_MAX: usize = 32 << 20;

/// Longest name of a directory entry (Linux `NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;

/// Longest target of a symbolic link (Linux `PATH_MAX`).
pub const LINK_BYTES_MAX: usize = 4096;

/// Longest name of an extended attribute (Linux `XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES_MAX: usize = 255;

/// Largest value of an extended attribute (Linux `XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: usize = 64 << 10;

/// Largest sum of one entry's extended attributes (Linux `XATTR_LIST_MAX` bounds the names alone).
pub const XATTRS_BYTES_MAX: usize = 1 << 20;

/// Most extensions of one entry or snapshot.
pub const EXTENSIONS_MAX: usize = 64;

/// Largest value of an extension.
pub const EXTENSION_BYTES_MAX: usize = 64 << 10;

/// Encoded bytes a page of a directory or a piece list has at least before it may end at a content-defined border.
pub const PAGE_BYTES_MIN: usize = 16 << 10;

/// Encoded bytes at which such a page ends in any case.
pub const PAGE_BYTES_MAX: usize = 128 << 10;

/// Most levels of pages below a directory's or a piece list's root.
pub const PAGE_LEVELS_MAX: u8 = 8;

/// Pieces a file's entry holds itself; longer lists have pages of their own.
pub const INLINE_PIECES: usize = 16;

/// Deepest directory that is read or written.
pub const TREE_DEPTH_MAX: usize = 8192;

/// Largest file, as Linux has it.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// Most key slots that are tried with a password.
pub const KEY_SLOTS_MAX: usize = 64;

/// Most bodies that one seal commits.
pub const SEAL_BODIES_MAX: usize = 15;

const _: () = {
    assert!(DATA_FRAME_BYTES + BLOB_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(FRAME_BYTES_MAX as u64 <= PACK_BYTES_MAX);
    assert!(PACK_BYTES as u64 <= PACK_BYTES_MAX);
    assert!(PAGE_BYTES_MAX <= BLOB_BYTES_MAX);
    // A page ends after the entry that fills it; the largest entry still fits a blob.
    let extensions_bytes = EXTENSIONS_MAX * (EXTENSION_BYTES_MAX + 10);
    let entry_bytes = XATTRS_BYTES_MAX + extensions_bytes + 2 * LINK_BYTES_MAX + INLINE_PIECES * 48 + 4096;
    assert!(PAGE_BYTES_MAX + entry_bytes <= BLOB_BYTES_MAX);
    assert!(PACK_BYTES_MAX < u32::MAX as u64);
};
