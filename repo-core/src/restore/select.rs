//! Which entries of a snapshot are restored.

use crate::tree::name::Name;

/// A rule that says of every entry whether it is restored.
pub trait Select: Sync {
    /// What becomes of the entry with this path, relative to the tree that is restored and joined by `/`.
    fn select(&self, path: &[u8], is_directory: bool) -> Selection;

    /// The names of all entries in the directory with this path that [`Self::select`] may say anything of but [`Selection::NONE`]; nothing if
    /// it may say that of any. Large directories are then read only where these are.
    fn names_in(&self, directory: &[u8]) -> Option<Vec<Name>> {
        let _ = directory;
        None
    }
}

/// What a rule says of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Restore it; for a directory: make it and set its attributes.
    pub restore: bool,
    /// For a directory: look at its entries. One that is not restored itself is made when something in it is.
    pub descend: bool,
}

impl Selection {
    /// The entry, and everything in it as far as the rule says so.
    pub const ALL: Self = Self { restore: true, descend: true };
    /// Nothing of it.
    pub const NONE: Self = Self { restore: false, descend: false };
}

/// Restores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Everything;

impl Select for Everything {
    fn select(&self, _: &[u8], _: bool) -> Selection {
        Selection::ALL
    }
}

impl<F: Fn(&[u8], bool) -> Selection + Sync> Select for F {
    fn select(&self, path: &[u8], is_directory: bool) -> Selection {
        self(path, is_directory)
    }
}
