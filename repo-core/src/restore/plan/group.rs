//! Names of the snapshot that are one file.

use std::sync::{Arc, PoisonError};

use super::Planner;
use crate::{
    restore::{
        context::Context,
        directory::Directory,
        file::File,
        link::{Link, Links},
    },
    sink::{Existing, ExistingKind, Identity, Sink},
    tree::{
        name::Name,
        node::{Entry, HardLinks, NodeKind},
    },
};

/// Names that are one file.
pub(super) struct Group<S: Sink> {
    first: First<S>,
    /// What the names must agree in to be one file.
    kind: NodeKind,
    /// Names still to come, if all of them are in the snapshot.
    left: u64,
}

/// The name that was met first.
pub(super) enum First<S: Sink> {
    File(Arc<File<S>>),
    There { directory: Arc<Directory<S>>, name: Name, identity: Identity },
}

impl<S: Sink> First<S> {
    /// Makes a link now, or lets it wait until the file is there.
    fn link(&self, context: &Context<'_, S>, link: Link<S>) {
        match self {
            Self::There { directory, name, identity } => link.make(context, (directory, name), *identity),
            Self::File(file) => {
                let Some(links) = &file.links else { return };
                let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
                match &mut *links {
                    Links::Waiting(waiting) => waiting.push(link),
                    Links::Made(identity) => {
                        let identity = *identity;
                        drop(links);
                        link.make(context, (&file.directory, &file.name), identity);
                    }
                    Links::Lost(reason) => {
                        let reason = reason.clone();
                        drop(links);
                        link.lose(context, &reason);
                    }
                }
            }
        }
    }
}

impl<S: Sink> Planner<'_, S> {
    /// Remembers the first name of something that has several.
    pub(super) fn begin_group(&mut self, entry: &Entry, first: First<S>) {
        if let Some(HardLinks { device, count }) = entry.node.metadata.hard_links {
            let group = Group { first, kind: entry.node.kind.clone(), left: count.saturating_sub(1) };
            self.groups.insert((device, entry.node.metadata.inode), group);
        }
    }

    /// Something that was kept may be what the snapshot has: further names of it are then links to it.
    pub(super) fn begin_group_if_same(
        &mut self,
        directory: &Arc<Directory<S>>,
        entry: &Entry,
        existing: Option<&Existing>,
    ) {
        if let (Some(there), NodeKind::File { size_bytes, .. }) = (existing, &entry.node.kind)
            && there.kind == ExistingKind::File
            && there.size_bytes == *size_bytes
            && there.modified == entry.node.metadata.modified
        {
            let (directory, name) = (Arc::clone(directory), entry.name.clone());
            self.begin_group(entry, First::There { directory, name, identity: there.identity });
        }
    }

    /// If the entry is a further name of something that was met before, plans the link.
    pub(super) fn joins_group(
        &mut self,
        directory: &Arc<Directory<S>>,
        entry: &Entry,
        existing: Option<Existing>,
    ) -> bool {
        let Some(HardLinks { device, .. }) = entry.node.metadata.hard_links else { return false };
        let key = (device, entry.node.metadata.inode);
        // Names that differ in content were read at different times; each gets what was stored for it.
        if self.groups.get(&key).is_none_or(|group| group.kind != entry.node.kind) {
            return false;
        }
        if existing.is_some_and(|there| there.kind == ExistingKind::Directory)
            && !self.clear_directory(directory, &entry.name)
        {
            return true;
        }
        let existing = existing.filter(|there| there.kind != ExistingKind::Directory);
        let Some(group) = self.groups.get_mut(&key) else { return false };
        group.left = group.left.saturating_sub(1);
        let link = Link::new(directory, entry.name.clone(), existing);
        group.first.link(self.context, link);
        if group.left == 0 {
            self.groups.remove(&key);
        }
        true
    }
}
