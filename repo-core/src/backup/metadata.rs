//! From what the source tells to what is stored.

use crate::{
    source::{FileType, Stat},
    time::Timestamp,
    tree::node::{HardLinks, Metadata, Xattr},
};

/// Metadata of an entry.
pub(super) fn metadata(stat: &Stat, xattrs: Vec<Xattr>, with_atime: bool) -> Metadata {
    Metadata {
        mode: stat.mode,
        user: stat.user,
        group: stat.group,
        modified: stat.modified,
        changed: stat.changed,
        accessed: with_atime.then_some(stat.accessed),
        inode: stat.inode,
        hard_links: hard_links(stat),
        xattrs,
        extensions: Vec::new(),
    }
}

/// Metadata of an entry that is not stored as it is: the next backup must not take it for unchanged, however little it changes.
/// No inode has changed last at this moment, so it is kept for this meaning.
pub(super) fn to_be_read_again(metadata: Metadata) -> Metadata {
    Metadata { changed: Timestamp::default(), ..metadata }
}

/// Whether an entry was stored by [`to_be_read_again`].
pub(super) fn must_be_read_again(before: &Metadata) -> bool {
    before.changed == Timestamp::default()
}

/// What ties the names of one file together.
pub(super) fn hard_links(stat: &Stat) -> Option<HardLinks> {
    (stat.links > 1 && stat.file_type != FileType::Directory)
        .then_some(HardLinks { device: stat.device, count: stat.links })
}
