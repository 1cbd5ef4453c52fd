//! Removing what is in the target and not in the snapshot.

use super::{context::Context, directory::Directory, report::add};
use crate::{
    progress::Outcome,
    sink::{ExistingKind, Sink, SinkError},
    tree::name::Name,
};

/// A directory that is being emptied.
struct Level<S: Sink> {
    handle: S::Directory,
    names: std::vec::IntoIter<Name>,
    name: Name,
    path_bytes: usize,
    /// Whether something in it stays, and it with that.
    stays: bool,
}

/// Removes these entries of a directory, as far as the rule selects them.
pub(super) fn remove_all<S: Sink>(
    context: &Context<'_, S>,
    directory: &Directory<S>,
    names: impl Iterator<Item = Name>,
) {
    let base = directory.path();
    for name in names {
        if context.stopped() {
            return;
        }
        remove(context, &directory.handle, &base, name);
    }
}

/// Removes one entry with everything in it. What is excluded stays, and so do the directories around it; other file
/// systems that are mounted there are not entered.
pub(super) fn remove<S: Sink>(context: &Context<'_, S>, parent: &S::Directory, base: &[u8], name: Name) -> bool {
    let mut path = base.to_vec();
    let mut levels: Vec<Level<S>> = Vec::new();
    let mut next = Some(name);
    loop {
        let at = levels.last().map_or(base.len(), |level| level.path_bytes);
        path.truncate(at);
        let here = levels.last().map_or(parent, |level| &level.handle);
        let gone = if let Some(name) = next.take() {
            extend(&mut path, &name);
            match enter(context, here, &name, &path) {
                Entered::Directory(handle, names) => {
                    let (names, path_bytes) = (names.into_iter(), path.len());
                    levels.push(Level { handle, names, name, path_bytes, stays: false });
                    true
                }
                Entered::Removed(gone) => gone,
            }
        } else {
            true
        };
        if !gone && let Some(level) = levels.last_mut() {
            level.stays = true;
        } else if !gone {
            return false;
        }
        // Go on in this directory, or, when it is done, remove it and go on in its parent.
        let Some(level) = levels.last_mut() else { return true };
        next = level.names.next();
        if next.is_some() && !context.stopped() {
            continue;
        }
        let Some(level) = levels.pop() else { return true };
        let here = levels.last().map_or(parent, |level| &level.handle);
        path.truncate(level.path_bytes);
        let stays = level.stays || context.stopped() || !remove_directory(context, here, &level.name, &path);
        match levels.last_mut() {
            Some(above) => above.stays |= stays,
            None => return !stays,
        }
        next = None;
    }
}

enum Entered<S: Sink> {
    /// It is a directory with these entries.
    Directory(S::Directory, Vec<Name>),
    /// It is none; whether it is gone.
    Removed(bool),
}

fn enter<S: Sink>(context: &Context<'_, S>, parent: &S::Directory, name: &Name, path: &[u8]) -> Entered<S> {
    let problem = |error: SinkError| {
        context.sink_problem(path.to_vec(), error);
        Entered::Removed(false)
    };
    let existing = match context.sink.stat(parent, name) {
        Ok(Some(existing)) => existing,
        Ok(None) => return Entered::Removed(true),
        Err(error) => return problem(error),
    };
    let is_directory = existing.kind == ExistingKind::Directory;
    if !context.select.select(path, is_directory).restore {
        return Entered::Removed(false);
    }
    if is_directory {
        let opened = context.sink.open_directory(parent, name, true);
        return match opened.and_then(|handle| Ok((context.sink.names(&handle)?, handle))) {
            Ok((names, handle)) => Entered::Directory(handle, names),
            Err(error) => problem(error),
        };
    }
    if !context.options.dry_run
        && let Err(error) = context.sink.remove(parent, name)
    {
        return problem(error);
    }
    tell(context, path, existing.size_bytes);
    Entered::Removed(true)
}

fn remove_directory<S: Sink>(context: &Context<'_, S>, parent: &S::Directory, name: &Name, path: &[u8]) -> bool {
    if !context.options.dry_run
        && let Err(error) = context.sink.remove_directory(parent, name)
    {
        context.sink_problem(path.to_vec(), error);
        return false;
    }
    tell(context, path, 0);
    true
}

fn tell<S: Sink>(context: &Context<'_, S>, path: &[u8], bytes: u64) {
    add(&context.tally.deleted, 1);
    if context.progress.wants_items() {
        context.progress.item(path, Outcome::Deleted, bytes);
    }
}

fn extend(path: &mut Vec<u8>, name: &Name) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
}
