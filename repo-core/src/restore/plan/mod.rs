//! Walks the snapshot in order, makes directories and what has no content, and plans the files.

use std::{collections::HashMap, sync::Arc};

use self::{
    group::{First, Group},
    level::{Level, Place, place_one},
};
use super::{
    context::Context,
    delete,
    directory::Directory,
    existing::{Listing, is_kept},
    queue::Queue,
    report::add,
    window::Window,
};
use crate::{
    error::{Error, Result},
    id::BlobId,
    progress::Outcome,
    sink::{Attributes, Existing, ExistingKind, Sink, SinkError},
    tree::{
        name::Name,
        node::{Entry, Extension, NodeKind},
        walk::{Descend, Visit, walk_some},
    },
};

mod files;
mod group;
mod level;
mod specials;

/// Plans a restore, and carries out whatever needs no content.
pub(super) struct Planner<'a, S: Sink> {
    context: &'a Context<'a, S>,
    queue: &'a Queue<S>,
    levels: Vec<Level<S>>,
    window: Window<S>,
    groups: HashMap<(u64, u64), Group<S>>,
}

/// Where an entry is to go.
enum Spot<S: Sink> {
    /// Here, where something may be already.
    In(Arc<Directory<S>>, Option<Existing>),
    /// A dry run, and not even its directory is there.
    Absent,
    /// It cannot be made; that was told.
    None,
}

impl<'a, S: Sink> Planner<'a, S> {
    pub(super) fn new(context: &'a Context<'a, S>, queue: &'a Queue<S>) -> Self {
        let (levels, window) = (Vec::new(), Window::default());
        Self { context, queue, levels, window, groups: HashMap::new() }
    }

    /// Walks everything below `tree`.
    ///
    /// # Errors
    /// When the target cannot be opened, or everything has to stop.
    pub(super) fn run(mut self, tree: &BlobId) -> Result<()> {
        let root = self.root()?;
        self.levels.push(root);
        let context = self.context;
        let names = |path: &[u8]| context.select.names_in(path);
        walk_some(context.blobs, tree, &names, &mut |path, visit| self.visit(path, visit))?;
        self.context.progress.found_all();
        self.leave();
        self.flush();
        self.context.check()
    }

    fn root(&self) -> Result<Level<S>> {
        let sink = self.context.sink;
        let failed = |error: SinkError| Error::Io { during: error.during, path: ".".into(), source: error.cause };
        let handle =
            if self.context.options.dry_run { sink.open_root() } else { sink.make_root().map(Some) }.map_err(failed)?;
        let (place, listing) = match handle {
            Some(handle) => {
                let names = sink.names(&handle).map_err(failed)?;
                (Place::There(Directory::root(handle)), Some(Listing::new(names)))
            }
            None => (Place::Absent, None),
        };
        Ok(Level { name: None, attributes: None, selected: true, place, listing, incomplete: false })
    }

    fn visit(&mut self, path: &[u8], visit: Visit<'_>) -> Result<Descend> {
        self.context.check()?;
        match visit {
            Visit::Entry(entry) => return Ok(self.entry(path, entry)),
            Visit::Leave(_) => self.leave(),
            Visit::Unreadable(error) => {
                if let Some(level) = self.levels.last_mut() {
                    level.incomplete = true;
                }
                if let Err(error) = self.context.give_up_on(error) {
                    self.context.problem(path.to_vec(), "read the directory", error.chain());
                }
            }
        }
        self.context.check()?;
        Ok(Descend::Past)
    }

    fn entry(&mut self, path: &[u8], entry: &Entry) -> Descend {
        let is_directory = matches!(entry.node.kind, NodeKind::Directory { .. });
        let listed = self
            .levels
            .last_mut()
            .and_then(|level| level.listing.as_mut())
            .is_some_and(|listing| listing.see(&entry.name));
        let selection = self.context.select.select(path, is_directory);
        if is_directory {
            if !selection.restore && !selection.descend {
                return Descend::Past;
            }
            if let Err(newer) = Extension::check(&entry.node.metadata.extensions, &"it") {
                self.context.problem(path.to_vec(), "restore", newer.to_string());
                return Descend::Past;
            }
            return self.directory(entry, selection.restore);
        }
        if selection.restore {
            if let Err(newer) = Extension::check(&entry.node.metadata.extensions, &"it") {
                self.context.failed(path.to_vec(), "restore", newer.to_string());
                return Descend::Past;
            }
            match &entry.node.kind {
                NodeKind::File { size_bytes, content } => self.file(entry, listed, *size_bytes, content),
                NodeKind::Socket => add(&self.context.tally.sockets, 1),
                _ => self.special(entry, listed),
            }
        }
        Descend::Past
    }

    /// Begins a directory.
    fn directory(&mut self, entry: &Entry, selected: bool) -> Descend {
        self.levels.push(Level {
            name: Some(entry.name.clone()),
            attributes: Some(Attributes::of(&entry.node.metadata)),
            selected,
            place: Place::Unmade,
            listing: None,
            incomplete: false,
        });
        self.place(selected);
        if matches!(self.levels.last(), Some(Level { place: Place::Refused, .. })) {
            self.levels.pop();
            return Descend::Past;
        }
        Descend::Into
    }

    /// Ends the directory that was begun last.
    fn leave(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        let Place::There(directory) = level.place else { return };
        if self.context.options.delete
            && !self.context.stopped()
            && let Some(listing) = level.listing
        {
            if level.incomplete {
                let why = "a part of the directory cannot be read, so nobody knows what else belongs in it";
                self.context.problem(directory.path(), "remove what is not in the snapshot", why);
            } else {
                delete::remove_all(self.context, &directory, listing.unseen());
            }
        }
        directory.release(self.context);
    }

    /// Finds the innermost directory in the target, with `make` making it and those around it if need be.
    fn place(&mut self, make: bool) {
        let depth = self.levels.len();
        let unmade = self.levels.iter().rev().take_while(|level| matches!(level.place, Place::Unmade)).count();
        let first = if make { depth - unmade } else { depth.saturating_sub(1) };
        for index in first.max(1)..depth {
            let (above, rest) = self.levels.split_at_mut(index);
            let (Some(parent), Some(level)) = (above.last(), rest.first_mut()) else { return };
            place_one(self.context, parent, level, make);
        }
    }

    /// Where an entry of the innermost directory is to go.
    fn spot(&mut self, name: &Name, listed: bool) -> Spot<S> {
        self.place(true);
        let Some(level) = self.levels.last() else { return Spot::None };
        let directory = match &level.place {
            Place::There(directory) => Arc::clone(directory),
            Place::Absent => return Spot::Absent,
            Place::Unmade | Place::Refused => return Spot::None,
        };
        if !listed {
            return Spot::In(directory, None);
        }
        match self.context.sink.stat(&directory.handle, name) {
            Ok(existing) => Spot::In(directory, existing),
            Err(error) => {
                self.context.failed_in_sink(directory.path_of(name), error);
                Spot::None
            }
        }
    }

    /// The path of an entry of the innermost directory.
    fn path_of(&self, name: &Name) -> Vec<u8> {
        let names = self.levels.iter().filter_map(|level| level.name.as_ref());
        names.chain([name]).map(Name::as_bytes).collect::<Vec<_>>().join(&b'/')
    }

    /// Counts an entry that is not a directory.
    fn found(&self, bytes: u64) {
        add(&self.context.tally.files_found, 1);
        add(&self.context.tally.bytes_found, bytes);
        self.context.progress.found(1, bytes);
    }

    /// Whether what is there stays, which is then told.
    fn keeps(
        &self,
        directory: &Directory<S>,
        entry: &Entry,
        existing: Option<&Existing>,
        kind: ExistingKind,
        size_bytes: u64,
        attributes: &Attributes,
    ) -> bool {
        let kept =
            existing.is_some_and(|there| is_kept(self.context.options.overwrite, there, kind, size_bytes, attributes));
        if kept {
            add(&self.context.tally.bytes_unchanged, size_bytes);
            self.context.item(Outcome::Unchanged, size_bytes, || directory.path_of(&entry.name));
        }
        kept
    }

    /// Removes a directory that is where something else is to go: an empty one, or with [`super::RestoreOptions::delete`]
    /// any. Whether that worked; if not, it is told.
    fn clear_directory(&self, parent: &Directory<S>, name: &Name) -> bool {
        let context = self.context;
        let cleared = if context.options.delete {
            delete::remove(context, &parent.handle, &parent.path(), name.clone())
        } else if context.options.dry_run {
            let names = context.sink.open_directory(&parent.handle, name, true);
            names.and_then(|directory| context.sink.names(&directory)).is_ok_and(|names| names.is_empty())
        } else {
            context.sink.remove_directory(&parent.handle, name).is_ok()
        };
        if !cleared {
            context.failed(parent.path_of(name), "restore", "a directory that is not empty is in its place");
        }
        cleared
    }

    fn is_full(&self) -> bool {
        self.window.memory_bytes() >= self.context.options.window_bytes
    }

    /// Hands the window over.
    fn flush(&mut self) {
        let (window, tasks) = std::mem::take(&mut self.window).prepare(self.context);
        if !tasks.is_empty() {
            self.queue.push(window, tasks);
        }
    }
}
