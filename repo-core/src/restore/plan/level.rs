//! Directories of the snapshot while they are walked, and where they are in the target.

use std::sync::Arc;

use crate::{
    restore::{
        context::Context,
        directory::Directory,
        existing::{Listing, is_kept},
        file::trusts_names,
        report::add,
    },
    sink::{Attributes, ExistingKind, Sink, SinkError},
    tree::name::Name,
};

/// A directory of the snapshot whose entries are being walked.
pub(super) struct Level<S: Sink> {
    pub(super) name: Option<Name>,
    pub(super) attributes: Option<Attributes>,
    pub(super) selected: bool,
    pub(super) place: Place<S>,
    /// What was in it before; nothing when it was not there.
    pub(super) listing: Option<Listing>,
    /// A part of it could not be read, so nobody knows what else it holds.
    pub(super) incomplete: bool,
}

/// Where a directory of the snapshot is in the target.
pub(super) enum Place<S: Sink> {
    /// Nowhere: nothing that is restored is in it so far.
    Unmade,
    /// Nowhere, since this is a dry run.
    Absent,
    /// Nowhere, and it cannot be made; that was told.
    Refused,
    /// Here.
    There(Arc<Directory<S>>),
}

/// Where a directory is, and what was in it before, if it was there.
type Found<S> = (Place<S>, Option<Listing>);

/// Finds one directory in the target, whose parent is there, with `make` making it if need be.
pub(super) fn place_one<S: Sink>(context: &Context<'_, S>, parent: &Level<S>, level: &mut Level<S>, make: bool) {
    let (Some(name), Some(attributes)) = (&level.name, &level.attributes) else { return };
    let above = match &parent.place {
        Place::There(directory) => directory,
        Place::Absent => {
            if make {
                add(&context.tally.directories_found, 1);
                add(&context.tally.directories_new, 1);
                level.place = Place::Absent;
            }
            return;
        }
        Place::Unmade => return,
        Place::Refused => {
            level.place = Place::Refused;
            return;
        }
    };
    let listed = parent.listing.as_ref().is_some_and(|listing| listing.has(name));
    match enter(context, above, name, attributes, level.selected, listed, make) {
        Ok(Some((place, listing))) => {
            add(&context.tally.directories_found, 1);
            if listing.is_none() {
                add(&context.tally.directories_new, 1);
            }
            level.place = place;
            level.listing = listing;
        }
        Ok(None) => {}
        Err(error) => {
            let cause = std::io::Error::other(format!("{}; nothing in it was restored", error.cause));
            let error = if error.concerns_everything() { error } else { SinkError::new(error.during, cause) };
            context.exempt_from_verification(|| above.path_of(name));
            context.sink_problem(above.path_of(name), error);
            level.place = Place::Refused;
        }
    }
}

/// Opens or makes a directory; nothing if it is not there and not to be made.
fn enter<S: Sink>(
    context: &Context<'_, S>,
    parent: &Arc<Directory<S>>,
    name: &Name,
    attributes: &Attributes,
    selected: bool,
    listed: bool,
    make: bool,
) -> Result<Option<Found<S>>, SinkError> {
    let (sink, options) = (context.sink, context.options);
    let existing = if listed { sink.stat(&parent.handle, name)? } else { None };
    if let Some(there) = existing
        && there.kind == ExistingKind::Directory
    {
        let handle = sink.open_directory(&parent.handle, name, false)?;
        let listing = Listing::new(sink.names(&handle)?);
        let kept = is_kept(options.overwrite, &there, ExistingKind::Directory, 0, attributes)
            && trusts_names(options.overwrite);
        let attributes = (selected && !kept && !options.dry_run).then(|| attributes.clone());
        if attributes.is_some() {
            sink.unlock_directory(&handle);
        }
        let directory = Directory::below(parent, name.clone(), handle, attributes);
        return Ok(Some((Place::There(directory), Some(listing))));
    }
    if !make {
        return Ok(None);
    }
    if let Some(there) = existing {
        if is_kept(options.overwrite, &there, ExistingKind::Directory, 0, attributes) {
            let cause = std::io::Error::other("something else is in its place and is to stay");
            return Err(SinkError::new("make the directory", cause));
        }
        if !options.dry_run {
            sink.remove(&parent.handle, name)?;
        }
    }
    if options.dry_run {
        return Ok(Some((Place::Absent, None)));
    }
    let handle = sink.make_directory(&parent.handle, name)?;
    let directory = Directory::below(parent, name.clone(), handle, Some(attributes.clone()));
    Ok(Some((Place::There(directory), None)))
}
