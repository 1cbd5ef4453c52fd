//! Walking a tree in order, without recursion.

use crate::{
    blob::ReadBlobs,
    error::{Damage, Error, Result},
    id::BlobId,
    limits,
    tree::{
        directory::{DirectoryEntries, find},
        name::{Name, escape},
        node::{Entry, Extension, Node, NodeKind},
    },
};

/// What a visitor sees.
pub enum Visit<'a> {
    /// An entry; for a directory, before its entries.
    Entry(&'a Entry),
    /// A directory whose entries have all been visited.
    Leave(&'a Entry),
    /// A part of the directory `path` could not be read; the walk goes on behind it.
    Unreadable(Error),
}

/// Whether to go into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// Visit its entries.
    Into,
    /// Go on with what follows it.
    Past,
}

/// Visits everything below `tree` in order: each directory, then its entries, depth first. The path given to the visitor is
/// relative, its components joined by `/`, and empty for the root.
///
/// # Errors
/// Those of `visit`, which end the walk; what cannot be read is told to `visit` instead.
pub fn walk(
    blobs: &dyn ReadBlobs,
    tree: &BlobId,
    visit: &mut dyn FnMut(&[u8], Visit<'_>) -> Result<Descend>,
) -> Result<()> {
    walk_some(blobs, tree, &|_| None, visit)
}

/// [`walk`] where of each directory only the entries with the names are visited that `names` gives for its path, or all. What would have to
/// be read only for others is not.
///
/// # Errors
/// As [`walk`].
pub fn walk_some(
    blobs: &dyn ReadBlobs,
    tree: &BlobId,
    names: &dyn Fn(&[u8]) -> Option<Vec<Name>>,
    visit: &mut dyn FnMut(&[u8], Visit<'_>) -> Result<Descend>,
) -> Result<()> {
    struct Level<'a> {
        entries: DirectoryEntries<'a>,
        /// The directory itself, but for the root.
        entry: Option<Entry>,
        /// Length of its path.
        path_bytes: usize,
    }

    let mut path = Vec::new();
    let mut levels = match DirectoryEntries::open_some(blobs, tree, names(&path)) {
        Ok(entries) => vec![Level { entries, entry: None, path_bytes: 0 }],
        Err(error) => {
            visit(&path, Visit::Unreadable(error))?;
            Vec::new()
        }
    };
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_bytes);
        let Some(next) = level.entries.next() else {
            if let Some(level) = levels.pop()
                && let Some(entry) = level.entry
            {
                visit(&path, Visit::Leave(&entry))?;
            }
            continue;
        };
        let entry = match next {
            Ok(entry) => entry,
            Err(error) => {
                visit(&path, Visit::Unreadable(error))?;
                continue;
            }
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.name.as_bytes());
        if visit(&path, Visit::Entry(&entry))? == Descend::Past {
            continue;
        }
        let NodeKind::Directory { tree, .. } = &entry.node.kind else { continue };
        if levels.len() >= limits::TREE_DEPTH_MAX {
            let damage = Damage::new(format_args!("tree blob {tree}"), "directories are nested too deep");
            visit(&path, Visit::Unreadable(damage.into()))?;
            visit(&path, Visit::Leave(&entry))?;
            continue;
        }
        match DirectoryEntries::open_some(blobs, tree, names(&path)) {
            Ok(entries) => levels.push(Level { entries, entry: Some(entry), path_bytes: path.len() }),
            Err(error) => {
                visit(&path, Visit::Unreadable(error))?;
                visit(&path, Visit::Leave(&entry))?;
            }
        }
    }
    Ok(())
}

/// Components of a path below a snapshot's root: split at `/`, empty ones and `.` left out.
///
/// # Errors
/// When a component cannot be a name (`..`, too long).
pub fn components(path: &[u8]) -> Result<Vec<Name>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| {
            Name::new(part)
                .map_err(|error| Error::Invalid(format!("\"{}\" is no path in a snapshot: {error}", escape(path))))
        })
        .collect()
}

/// Finds the node at a path below `tree`; `None` for the root itself, which is no entry of anything.
///
/// # Errors
/// When it is not there, a page on the way cannot be read, or something on the way was made by a newer program.
pub fn lookup(blobs: &dyn ReadBlobs, tree: &BlobId, path: &[u8], snapshot: &str) -> Result<Option<Node>> {
    let missing = || Error::NoSuchPath { path: escape(path).into_owned(), snapshot: snapshot.to_owned() };
    let mut found: Option<Node> = None;
    for name in components(path)? {
        let directory = match found.as_ref().map(|node| &node.kind) {
            None => *tree,
            Some(NodeKind::Directory { tree, .. }) => *tree,
            Some(_) => return Err(missing()),
        };
        let node = find(blobs, &directory, &name)?.ok_or_else(missing)?;
        Extension::check(&node.metadata.extensions, &format_args!("\"{name}\" in snapshot {snapshot}"))?;
        found = Some(node);
    }
    Ok(found)
}
