//! The folder that has the caches of all repositories: finding, measuring and removing them. Needs no key.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::id::RepositoryId;

/// What tells backup programs to pass a folder over (<https://bford.info/cachedir/>).
const TAG_NAME: &str = "CACHEDIR.TAG";
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # What is in here can be had again from coffer's repositories, and may be removed at any time.\n";

/// Deepest folder that is measured.
const DEPTH_MAX: usize = 8;

/// The cache of one repository, as a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFolder {
    /// Which repository.
    pub repository: RepositoryId,
    /// Where.
    pub path: PathBuf,
    /// Its files.
    pub files: u64,
    /// What they take on the disk.
    pub size_bytes: u64,
    /// When any of them was used last.
    pub used: Option<SystemTime>,
}

/// Where the cache of a repository is, if it is anywhere.
#[must_use]
pub fn of(base: &Path, repository: RepositoryId) -> PathBuf {
    base.join(repository.to_string())
}

/// The caches below this folder, the one used last first. Whatever else is there is passed over.
///
/// # Errors
/// When the folder cannot be listed. One that is not there has none.
pub fn list(base: &Path) -> io::Result<Vec<CacheFolder>> {
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(repository) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let used = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
        let mut folder = CacheFolder { repository, path: entry.path(), files: 0, size_bytes: 0, used };
        measure(&entry.path(), &mut folder, DEPTH_MAX);
        found.push(folder);
    }
    found.sort_by_key(|folder| (std::cmp::Reverse(folder.used), folder.repository));
    Ok(found)
}

/// Adds up what is below a folder. What vanishes meanwhile does not count.
fn measure(path: &Path, folder: &mut CacheFolder, depth: usize) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        folder.used = folder.used.max(metadata.modified().ok());
        if metadata.is_dir() {
            if let Some(depth) = depth.checked_sub(1) {
                measure(&entry.path(), folder, depth);
            }
        } else {
            folder.files += 1;
            folder.size_bytes += metadata.blocks() * 512;
        }
    }
}

/// Removes a cache. Those who use it meanwhile fetch again what they miss.
///
/// # Errors
/// When something of it cannot be removed.
pub fn remove(folder: &CacheFolder) -> io::Result<()> {
    match fs::remove_dir_all(&folder.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Makes the folder for the caches of all repositories.
pub(super) fn make_base(base: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(base)?;
    let tag = base.join(TAG_NAME);
    if tag.exists() { Ok(()) } else { fs::write(tag, TAG) }
}
