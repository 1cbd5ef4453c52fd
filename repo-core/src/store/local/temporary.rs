//! The temporary names objects are written under, and the removal of those that crashed writers left behind.

use std::{
    hash::{BuildHasher, RandomState},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{self, AtFlags, Dir, FileType};

use super::{
    files::{Files, Folder, NewFile},
    listing::modified,
};

/// How a temporary name begins; no object's does.
const PREFIX: &str = ".tmp-";

/// Age, by the file system's own clock, at which a temporary file is held to be left behind. A writer that slept longer
/// finds its file gone and writes the object again.
const LEFT_BEHIND_SECONDS: i64 = 3 * 24 * 60 * 60;

/// Makes names that no other writer makes, on this or another machine.
pub(super) struct TemporaryNames {
    writer: u64,
    made: AtomicU64,
}

impl TemporaryNames {
    pub(super) fn new() -> Self {
        // A hash of nothing under a random key. It need not be unpredictable: a taken name is refused by the system.
        Self { writer: RandomState::new().hash_one(()), made: AtomicU64::new(0) }
    }

    /// A new name at each call.
    pub(super) fn next(&self) -> String {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        format!("{PREFIX}{}-{made}-{:016x}", process::id(), self.writer)
    }
}

/// Removes what crashed writers left in `folder`, as far as that is possible. `fresh` is a file just made there: its
/// time of writing tells what the file system's clock says now.
pub(super) fn sweep(files: &dyn Files, folder: &Folder, fresh: &NewFile) {
    let Some(now) = fs::fstat(fresh).ok().and_then(|stat| modified(&stat)) else { return };
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !name.starts_with(PREFIX) {
            continue;
        }
        let Ok(stat) = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_old =
            modified(&stat).is_some_and(|then| now.seconds().saturating_sub(then.seconds()) > LEFT_BEHIND_SECONDS);
        if is_file && is_old {
            let _ = files.remove(folder, name);
        }
    }
}
