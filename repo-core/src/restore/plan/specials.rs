//! Restoring links, pipes and devices, which have no content to fetch.

use std::sync::Arc;

use super::{First, Planner, Spot};
use crate::{
    progress::Outcome,
    restore::directory::Directory,
    sink::{Attributes, Existing, ExistingKind, Sink, Special},
    tree::{
        name::Name,
        node::{Entry, NodeKind},
    },
};

impl<S: Sink> Planner<'_, S> {
    /// A link, pipe or device.
    pub(super) fn special(&mut self, entry: &Entry, listed: bool) {
        self.found(0);
        let attributes = Attributes::of(&entry.node.metadata);
        let (special, kind) = match &entry.node.kind {
            NodeKind::Symlink { target } => (Special::Symlink(target.as_bytes()), ExistingKind::Symlink),
            NodeKind::BlockDevice { device } => (Special::BlockDevice(*device), ExistingKind::Other),
            NodeKind::CharacterDevice { device } => (Special::CharacterDevice(*device), ExistingKind::Other),
            _ => (Special::Fifo, ExistingKind::Other),
        };
        match self.spot(&entry.name, listed) {
            Spot::In(directory, existing) => {
                if !self.keeps(&directory, entry, existing.as_ref(), kind, 0, &attributes)
                    && !self.joins_group(&directory, entry, existing)
                {
                    self.make_special(&directory, entry, existing, &special, &attributes);
                }
            }
            Spot::Absent => self.context.item(Outcome::New, 0, || self.path_of(&entry.name)),
            Spot::None => {}
        }
        self.context.progress.done(1, 0);
    }

    fn make_special(
        &mut self,
        directory: &Arc<Directory<S>>,
        entry: &Entry,
        existing: Option<Existing>,
        special: &Special<'_>,
        attributes: &Attributes,
    ) {
        let (context, name) = (self.context, &entry.name);
        let path = || directory.path_of(name);
        if let (Some(there), Special::Symlink(target)) = (&existing, special)
            && there.kind == ExistingKind::Symlink
            && there.modified == attributes.modified
            && context.sink.link_target(&directory.handle, name).is_ok_and(|found| found == *target)
        {
            let first = First::There { directory: Arc::clone(directory), name: name.clone(), identity: there.identity };
            self.begin_group(entry, first);
            return context.item(Outcome::Unchanged, 0, path);
        }
        let outcome = if existing.is_some() { Outcome::Changed } else { Outcome::New };
        if let Some(there) = existing {
            let is_free = if there.kind == ExistingKind::Directory {
                self.clear_directory(directory, name)
            } else {
                self.clear(directory, name)
            };
            if !is_free {
                return;
            }
        }
        if context.options.dry_run {
            return context.item(outcome, 0, path);
        }
        match context.sink.make_special(&directory.handle, name, special, attributes) {
            Ok(Some((identity, complaints))) => {
                for error in complaints {
                    context.sink_problem(path(), error);
                }
                let first = First::There { directory: Arc::clone(directory), name: name.clone(), identity };
                self.begin_group(entry, first);
                context.item(outcome, 0, path);
            }
            Ok(None) => {}
            Err(error) => {
                context.failed_in_sink(path(), error);
            }
        }
    }

    /// Removes what is where something else is to go, and is no directory; whether that worked.
    fn clear(&self, directory: &Directory<S>, name: &Name) -> bool {
        if self.context.options.dry_run {
            return true;
        }
        match self.context.sink.remove(&directory.handle, name) {
            Ok(()) => true,
            Err(error) => {
                self.context.failed_in_sink(directory.path_of(name), error);
                false
            }
        }
    }
}
