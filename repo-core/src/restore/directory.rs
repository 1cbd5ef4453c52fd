//! Directories of the target while something is still to be done in them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::context::Context;
use crate::{
    sink::{Attributes, Sink},
    tree::name::Name,
};

/// A directory in the target. Gets its attributes when everything in it is done, since making files changes its times, and
/// its permissions may forbid making any.
pub(super) struct Directory<S: Sink> {
    pub(super) handle: S::Directory,
    parent: Option<Arc<Self>>,
    name: Option<Name>,
    /// What it gets in the end, unless it is to stay as it is.
    attributes: Option<Attributes>,
    /// What is still to be done in it; the walk that is in it counts as one.
    pending: AtomicUsize,
}

impl<S: Sink> Directory<S> {
    pub(super) fn root(handle: S::Directory) -> Arc<Self> {
        Arc::new(Self { handle, parent: None, name: None, attributes: None, pending: AtomicUsize::new(1) })
    }

    pub(super) fn below(
        parent: &Arc<Self>,
        name: Name,
        handle: S::Directory,
        attributes: Option<Attributes>,
    ) -> Arc<Self> {
        parent.hold();
        let parent = Some(Arc::clone(parent));
        Arc::new(Self { handle, parent, name: Some(name), attributes, pending: AtomicUsize::new(1) })
    }

    /// One thing more is to be done in it.
    pub(super) fn hold(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// One thing in it is done. With the last one it is finished, and one thing is done in its parent.
    pub(super) fn release(&self, context: &Context<'_, S>) {
        let mut directory = self;
        while directory.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            if let Some(attributes) = &directory.attributes {
                for error in context.sink.finish_directory(&directory.handle, attributes) {
                    context.sink_problem(directory.path(), error);
                }
            }
            match &directory.parent {
                Some(parent) => directory = parent,
                None => break,
            }
        }
    }

    /// Its path below the root.
    pub(super) fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = Some(self);
        while let Some(directory) = at {
            names.extend(directory.name.as_ref().map(Name::as_bytes));
            at = directory.parent.as_deref();
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The path of an entry of it.
    pub(super) fn path_of(&self, name: &Name) -> Vec<u8> {
        let mut path = self.path();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        path
    }
}

impl<S: Sink> Drop for Directory<S> {
    /// Frees the parents one by one: a chain of thousands must not take as many stack frames.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut directory) = parent.and_then(Arc::into_inner) {
            parent = directory.parent.take();
        }
    }
}
