//! From what the source tells to what is stored.

use crate::{
    source::{FileType, Stat},
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
    }
}

/// What ties the names of one file together.
pub(super) fn hard_links(stat: &Stat) -> Option<HardLinks> {
    (stat.links > 1 && stat.file_type != FileType::Directory)
        .then_some(HardLinks { device: stat.device, count: stat.links })
}
