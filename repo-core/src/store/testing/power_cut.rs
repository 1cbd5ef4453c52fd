//! What a power cut may leave of the changes a [`super::Disk`] remembers.
//!
//! The model promises no more than POSIX does: bytes survive once their file was synced, names once their folder was.
//! Of everything else any part may survive or not, in any combination. (The method is that of Pillai and others, "All
//! File Systems Are Not Created Equal", OSDI 2014.)

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::disk::Change;

/// What became of bytes that were written and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsynced {
    /// Lost.
    Lost,
    /// On the disk nonetheless.
    Kept,
    /// Of the right length, but zero.
    Zeros,
}

/// A change of names that may or may not have reached the disk.
#[derive(Debug, Clone)]
enum NameChange {
    Folder(PathBuf),
    Name(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

impl NameChange {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) | Self::Name(path, _) | Self::Rename(path, ..) | Self::Remove(path) => path.parent(),
        }
    }
}

#[derive(Clone, Default)]
struct File {
    written: Vec<u8>,
    synced_bytes: usize,
}

/// Names on the disk: folders, and files by their number.
#[derive(Clone, Default)]
struct Names {
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, usize>,
}

impl Names {
    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Folder(path) => {
                self.folders.insert(path.clone());
            }
            NameChange::Name(path, file) => {
                self.files.insert(path.clone(), *file);
            }
            NameChange::Rename(from, to, file) => {
                self.files.remove(from);
                self.files.insert(to.clone(), *file);
            }
            NameChange::Remove(path) => {
                self.files.remove(path);
            }
        }
    }
}

/// Most changes of names under way at once of which every combination is tried; of more, only the most telling ones.
const COMBINED_CHANGES: usize = 6;

/// What may be on the disk after a power cut.
pub struct Remains {
    files: Vec<File>,
    names: Names,
    unsynced: Unsynced,
}

/// Every state of the disk that a power cut after these changes may leave, beside what was there before the first.
///
/// # Panics
/// When the log contradicts itself.
#[must_use]
pub fn power_cut(log: &[Change]) -> Vec<Remains> {
    let mut files: Vec<File> = Vec::new();
    let mut open: BTreeMap<&Path, usize> = BTreeMap::new();
    let mut durable = Names::default();
    let mut current = Names::default();
    let mut pending: Vec<NameChange> = Vec::new();
    for change in log {
        let renaming = match change {
            Change::MakeFolder(path) => Some(NameChange::Folder(path.clone())),
            Change::Create(path) => {
                files.push(File::default());
                open.insert(path, files.len() - 1);
                Some(NameChange::Name(path.clone(), files.len() - 1))
            }
            Change::Write(path, bytes) => {
                files[open[path.as_path()]].written.extend(bytes);
                None
            }
            Change::SyncFile(path) => {
                let file = &mut files[open[path.as_path()]];
                file.synced_bytes = file.written.len();
                None
            }
            Change::Rename(from, to) => Some(NameChange::Rename(from.clone(), to.clone(), current.files[from])),
            Change::Link(from, to) => Some(NameChange::Name(to.clone(), current.files[from])),
            Change::Remove(path) => Some(NameChange::Remove(path.clone())),
            Change::SyncFolder(folder) => {
                pending.retain(|change| {
                    let synced = change.folder() == Some(folder);
                    if synced {
                        durable.apply(change);
                    }
                    !synced
                });
                None
            }
        };
        if let Some(renaming) = renaming {
            current.apply(&renaming);
            pending.push(renaming);
        }
    }
    let mut remains = Vec::new();
    for combination in combinations(pending.len()) {
        let mut names = durable.clone();
        for (change, _) in pending.iter().zip(&combination).filter(|(_, kept)| **kept) {
            names.apply(change);
        }
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Zeros] {
            remains.push(Remains { files: files.clone(), names: names.clone(), unsynced });
        }
    }
    remains
}

/// Which of `count` changes are kept: all combinations of few; of many none, all, and all but or only each one.
fn combinations(count: usize) -> Vec<Vec<bool>> {
    if count <= COMBINED_CHANGES {
        return (0..1_u32 << count).map(|bits| (0..count).map(|place| bits >> place & 1 == 1).collect()).collect();
    }
    let each =
        (0..count).flat_map(|one| [true, false].map(|kept| (0..count).map(|place| (place == one) == kept).collect()));
    each.chain([vec![false; count], vec![true; count]]).collect()
}

impl Remains {
    /// Writes what was left of `base` to the empty folder `target`. What lies in folders that were lost is lost.
    ///
    /// # Errors
    /// When `target` cannot be written to.
    pub fn write_to(&self, base: &Path, target: &Path) -> io::Result<()> {
        // Sorted: a folder comes before what it holds.
        for folder in &self.names.folders {
            if let Ok(below) = folder.strip_prefix(base) {
                ignore_missing(fs::create_dir(target.join(below)))?;
            }
        }
        for (path, file) in &self.names.files {
            let (Ok(below), Some(file)) = (path.strip_prefix(base), self.files.get(*file)) else { continue };
            ignore_missing(fs::write(target.join(below), self.bytes(file)))?;
        }
        Ok(())
    }

    fn bytes(&self, file: &File) -> Vec<u8> {
        let mut bytes = file.written.clone();
        match self.unsynced {
            Unsynced::Lost => bytes.truncate(file.synced_bytes),
            Unsynced::Kept => {}
            Unsynced::Zeros => bytes.iter_mut().skip(file.synced_bytes).for_each(|byte| *byte = 0),
        }
        bytes
    }
}

fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
