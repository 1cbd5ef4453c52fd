//! Asking the kernel what something is: one `statx` each.

use std::os::fd::BorrowedFd;

use rustix::{
    fs::{AtFlags, Statx, StatxFlags, makedev, statx},
    io::{Errno, Result},
};

use crate::{
    source::{FileType, Stat},
    time::Timestamp,
    tree::node::{Device, Mode},
};

/// Length from which on it is worth asking for holes.
const SPARSE_BYTES_MIN: u64 = 64 << 10;

/// What an entry of a directory is, without following links.
pub(super) fn stat_entry(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Stat> {
    ask(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// What an entry of a directory leads to.
pub(super) fn stat_followed(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Stat> {
    ask(directory, name, AtFlags::empty())
}

/// What an open file or directory is.
pub(super) fn stat_open(file: BorrowedFd<'_>) -> Result<Stat> {
    ask(file, b"", AtFlags::EMPTY_PATH)
}

fn ask(at: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> Result<Stat> {
    let found = statx(at, name, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)?;
    let file_type = match rustix::fs::FileType::from_raw_mode(found.stx_mode.into()) {
        rustix::fs::FileType::RegularFile => FileType::File,
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        rustix::fs::FileType::CharacterDevice => FileType::CharacterDevice,
        rustix::fs::FileType::Fifo => FileType::Fifo,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::Unknown => return Err(Errno::NOTSUP),
    };
    Ok(convert(file_type, &found))
}

fn convert(file_type: FileType, found: &Statx) -> Stat {
    let is_file = file_type == FileType::File;
    let is_device = matches!(file_type, FileType::BlockDevice | FileType::CharacterDevice);
    let time = |time: &rustix::fs::StatxTimestamp| {
        Timestamp::new(time.tv_sec, time.tv_nsec).unwrap_or(Timestamp::from_seconds(time.tv_sec))
    };
    Stat {
        file_type,
        size_bytes: if is_file { found.stx_size } else { 0 },
        sparse: is_file && found.stx_size >= SPARSE_BYTES_MIN && found.stx_blocks.saturating_mul(512) < found.stx_size,
        mode: Mode::from_bits(found.stx_mode.into()),
        user: found.stx_uid,
        group: found.stx_gid,
        modified: time(&found.stx_mtime),
        changed: time(&found.stx_ctime),
        accessed: time(&found.stx_atime),
        inode: found.stx_ino,
        device: makedev(found.stx_dev_major, found.stx_dev_minor),
        links: found.stx_nlink.into(),
        special: if is_device {
            Device { major: found.stx_rdev_major, minor: found.stx_rdev_minor }
        } else {
            Device { major: 0, minor: 0 }
        },
    }
}
