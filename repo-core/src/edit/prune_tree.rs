//! A tree without what rules leave out.
//!
//! A directory in which nothing can be left out is taken over by its id, and nothing below it is read. Others are read entry by entry
//! and written as they are read; pages that come out as they were are there already and are not stored again.

use std::collections::HashMap;

use crate::{
    blob::{ReadBlobs, WriteBlobs},
    error::{Damage, Result},
    id::BlobId,
    limits,
    progress::Cancel,
    source::exclude::{ExcludeRules, Scope, Verdict},
    tree::{
        directory::{DirectoryEntries, DirectoryWriter},
        name::escape,
        node::{Entry, Extension, NodeKind, Totals},
    },
};

/// What became of directories, for snapshots that share them: by a hash of path and tree. `None` for those that stay as they are.
#[derive(Default)]
pub(super) struct Memory(HashMap<[u8; 16], Option<(BlobId, Totals)>>);

impl Memory {
    fn key(path: &[Vec<u8>], tree: &BlobId) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(tree.as_bytes());
        for component in path {
            hasher.update(component).update(b"/");
        }
        *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
    }
}

/// Leaves out what rules say.
pub(super) struct TreePruner<'a> {
    blobs: &'a dyn ReadBlobs,
    into: &'a dyn WriteBlobs,
    rules: &'a ExcludeRules,
    memory: &'a mut Memory,
    cancel: &'a Cancel,
    /// Components of the directory that is being read.
    path: Vec<Vec<u8>>,
}

/// A directory on the way.
struct Level<'a> {
    /// The directory itself; none for the root.
    entry: Option<Entry>,
    tree: BlobId,
    totals: Totals,
    entries: DirectoryEntries<'a>,
    writer: DirectoryWriter,
    scope: Scope,
    changed: bool,
}

impl<'a> TreePruner<'a> {
    pub(super) fn new(
        blobs: &'a dyn ReadBlobs,
        into: &'a dyn WriteBlobs,
        rules: &'a ExcludeRules,
        memory: &'a mut Memory,
        cancel: &'a Cancel,
    ) -> Self {
        Self { blobs, into, rules, memory, cancel, path: Vec::new() }
    }

    /// The root of the tree without what is left out, and its sums.
    ///
    /// # Errors
    /// When something on the way cannot be read, or was made by a newer program: then nothing may be said of what is in it.
    pub(super) fn prune(&mut self, tree: &BlobId, totals: Totals) -> Result<(BlobId, Totals)> {
        let root = self.level(None, *tree, totals, Verdict::default())?;
        let mut levels = vec![root];
        loop {
            let Some(level) = levels.last_mut() else { return Ok((*tree, totals)) };
            if let Some(entry) = level.entries.next() {
                if let Some(below) = self.entry(level, entry?)? {
                    levels.push(below);
                }
                continue;
            }
            let Some(level) = levels.pop() else { continue };
            let (changed, entry) = (level.changed, level.entry);
            let key = Memory::key(&self.path, &level.tree);
            let written = level.writer.finish(self.into)?;
            self.memory.0.insert(key, changed.then_some(written));
            let (tree, totals) = if changed { written } else { (level.tree, level.totals) };
            let (Some(above), Some(mut entry)) = (levels.last_mut(), entry) else { return Ok((tree, totals)) };
            entry.node.kind = NodeKind::Directory { tree, totals };
            above.changed |= changed;
            above.writer.push(&entry, self.into)?;
            self.path.pop();
        }
    }

    /// Takes an entry; of a directory that has to be looked into, begins it.
    fn entry(&mut self, level: &mut Level<'a>, mut entry: Entry) -> Result<Option<Level<'a>>> {
        self.cancel.check()?;
        let name = entry.name.as_bytes();
        let verdict = self.rules.verdict(&level.scope, name);
        if self.rules.excludes(verdict) {
            level.changed = true;
            return Ok(None);
        }
        Extension::check(&entry.node.metadata.extensions, &format_args!("\"{}\"", self.shown(name)))?;
        if let NodeKind::Directory { tree, totals } = entry.node.kind {
            self.path.push(name.to_vec());
            if self.may_exclude_below() {
                match self.memory.0.get(&Memory::key(&self.path, &tree)) {
                    None => return self.level(Some(entry), tree, totals, verdict).map(Some),
                    Some(None) => {}
                    Some(Some((tree, totals))) => {
                        entry.node.kind = NodeKind::Directory { tree: *tree, totals: *totals };
                        level.changed = true;
                    }
                }
            }
            self.path.pop();
        }
        level.writer.push(&entry, self.into)?;
        Ok(None)
    }

    fn level(&self, entry: Option<Entry>, tree: BlobId, totals: Totals, verdict: Verdict) -> Result<Level<'a>> {
        if self.path.len() > limits::TREE_DEPTH_MAX {
            return Err(Damage::new(format_args!("tree blob {tree}"), "directories are nested too deep").into());
        }
        let scope = self.rules.scope(&self.components(), verdict);
        let entries = DirectoryEntries::open(self.blobs, &tree)?;
        Ok(Level { entry, tree, totals, entries, writer: DirectoryWriter::default(), scope, changed: false })
    }

    fn components(&self) -> Vec<&[u8]> {
        self.path.iter().map(Vec::as_slice).collect()
    }

    fn may_exclude_below(&self) -> bool {
        self.rules.may_exclude_below(&self.components())
    }

    fn shown(&self, name: &[u8]) -> String {
        let mut path = self.path.iter().fold(Vec::new(), |path, component| [&path[..], b"/", component].concat());
        path.push(b'/');
        path.extend_from_slice(name);
        escape(&path).into_owned()
    }
}
