//! Further names of files that have several.

use std::{mem, sync::Arc};

use super::{context::Context, directory::Directory, report::add};
use crate::{
    progress::Outcome,
    sink::{Existing, Identity, Sink},
    tree::name::Name,
};

/// A further name of a file.
pub(super) struct Link<S: Sink> {
    directory: Arc<Directory<S>>,
    name: Name,
    /// What has the name now.
    existing: Option<Existing>,
}

/// The further names of one file: those that wait until it is made, or what came of it.
pub(super) enum Links<S: Sink> {
    Waiting(Vec<Link<S>>),
    Made(Identity),
    Lost(String),
}

impl<S: Sink> Default for Links<S> {
    fn default() -> Self {
        Self::Waiting(Vec::new())
    }
}

impl<S: Sink> Links<S> {
    /// The file is there; returns the links to make.
    pub(super) fn made(&mut self, identity: Identity) -> Vec<Link<S>> {
        match mem::replace(self, Self::Made(identity)) {
            Self::Waiting(links) => links,
            Self::Made(_) | Self::Lost(_) => Vec::new(),
        }
    }

    /// The file could not be restored; returns the links that share its fate.
    pub(super) fn lost(&mut self, reason: &str) -> Vec<Link<S>> {
        match mem::replace(self, Self::Lost(reason.to_owned())) {
            Self::Waiting(links) => links,
            Self::Made(_) | Self::Lost(_) => Vec::new(),
        }
    }
}

impl<S: Sink> Link<S> {
    pub(super) fn new(directory: &Arc<Directory<S>>, name: Name, existing: Option<Existing>) -> Self {
        directory.hold();
        Self { directory: Arc::clone(directory), name, existing }
    }

    fn path(&self) -> Vec<u8> {
        self.directory.path_of(&self.name)
    }

    /// Makes the link, now that its file is at `from`.
    pub(super) fn make(self, context: &Context<'_, S>, from: (&Directory<S>, &Name), identity: Identity) {
        let outcome = match &self.existing {
            Some(existing) if existing.identity == identity => Ok(Outcome::Unchanged),
            _ if context.options.dry_run => Ok(self.outcome()),
            existing => {
                let free = match existing {
                    Some(_) => context.sink.remove(&self.directory.handle, &self.name),
                    None => Ok(()),
                };
                let to = (&self.directory.handle, &self.name);
                free.and_then(|()| context.sink.link((&from.0.handle, from.1), identity, to)).map(|()| self.outcome())
            }
        };
        match outcome {
            Ok(outcome) => {
                if outcome != Outcome::Unchanged {
                    add(&context.tally.hard_links, 1);
                }
                context.item(outcome, 0, || self.path());
            }
            Err(error) => {
                context.failed_in_sink(self.path(), error);
            }
        }
        self.done(context);
    }

    /// The file could not be restored, so this name is missing as well.
    pub(super) fn lose(self, context: &Context<'_, S>, reason: &str) {
        let message = format!("another name of the same file could not be restored: {reason}");
        context.failed(self.path(), "restore", message);
        self.done(context);
    }

    fn outcome(&self) -> Outcome {
        if self.existing.is_some() { Outcome::Changed } else { Outcome::New }
    }

    fn done(self, context: &Context<'_, S>) {
        context.progress.done(1, 0);
        self.directory.release(context);
    }
}
