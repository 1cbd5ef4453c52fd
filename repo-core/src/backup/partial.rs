//! The tree of a backup that is at work: all that is finished, in directories and files as far as they have come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use crate::{
    backup::{
        assembly::{FinishedRoot, OpenDirectory},
        engine::Engine,
        large::Pieces,
    },
    error::Result,
    tree::node::Entry,
};

/// Something unfinished in a directory.
#[derive(Clone)]
pub(super) enum Unfinished {
    Directory(Weak<OpenDirectory>),
    File(Weak<Pieces>),
}

/// Stores the tree as far as it has come; the work goes on beside it. `None` when it is complete.
///
/// Every blob it names is in the hands of the session by then.
pub(super) fn partial_tree(engine: &Engine<'_>, root: &Arc<OpenDirectory>) -> Result<Option<FinishedRoot>> {
    // From the top down first, then back up, each directory after those in it. Not a recursion: they can be nested thousands deep.
    struct Open {
        directory: Arc<OpenDirectory>,
        /// The one it is in, and its position there.
        place: Option<(usize, usize)>,
        entries: BTreeMap<usize, Entry>,
    }
    let mut open = vec![Open { directory: Arc::clone(root), place: None, entries: BTreeMap::new() }];
    let mut number = 0;
    while let Some(Open { directory, .. }) = open.get(number) {
        let mut files = Vec::new();
        for (position, unfinished) in directory.unfinished() {
            match unfinished {
                Unfinished::Directory(directory) => open.extend(directory.upgrade().map(|directory| Open {
                    directory,
                    place: Some((number, position)),
                    entries: BTreeMap::new(),
                })),
                Unfinished::File(file) => files.extend(file.upgrade().map(|file| (position, file))),
            }
        }
        for (position, file) in files {
            if let (Some(entry), Some(open)) = (file.so_far(engine)?, open.get_mut(number)) {
                open.entries.insert(position, entry);
            }
        }
        number += 1;
    }
    while let Some(Open { directory, place, entries }) = open.pop() {
        let Some((tree, totals)) = directory.so_far(engine, &entries)? else {
            // Finished meanwhile: the directory above has it.
            continue;
        };
        let Some((above, position)) = place else {
            return Ok(Some(FinishedRoot { tree, totals, metadata: directory.metadata_so_far(engine) }));
        };
        if let (Some(entry), Some(above)) = (directory.entry_so_far(engine, tree, totals), open.get_mut(above)) {
            above.entries.insert(position, entry);
        }
    }
    Ok(None)
}
