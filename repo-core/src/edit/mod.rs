//! Editing snapshots: other tags, another host, time or label, and the same without some of its files.
//!
//! A snapshot never changes. An edit puts a new one, which tells its original, and then forgets the old one if that is wanted. Whoever
//! edits is a writer like any other (`docs/protocol.md`): the new snapshot is sealed before the seal of the old one goes, so that at
//! every moment there is at least one. What the new one takes over from the old one is protected by the old one until then.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    compress::Level,
    error::{Error, Result},
    id::SnapshotId,
    progress::{Cancel, Progress},
    repository::{Repository, notes::Session as SessionNote, uncommit::Uncommitter},
    snapshot::{Listing, Protection, Snapshot},
    source::exclude::ExcludeRules,
    time::Timestamp,
    tree::node::Totals,
};

mod changes;
mod editor;
mod prune_tree;

pub use changes::{Changes, TagChange};
use editor::Editor;

/// What to leave out of snapshots.
#[derive(Default)]
pub struct Exclude {
    /// The rules; only patterns count. They are held against paths from the snapshot's root on, which begin with a slash.
    pub rules: ExcludeRules,
    /// The patterns as texts, to be remembered in the snapshot.
    pub patterns: Vec<String>,
}

/// How to edit.
pub struct EditOptions {
    /// What else to say of the snapshots.
    pub changes: Changes,
    /// What to leave out of them.
    pub exclude: Exclude,
    /// A tag for those that are changed, so that they are told apart from their originals.
    pub mark: Option<String>,
    /// Forget the old ones. Otherwise both are there.
    pub forget: bool,
    /// An edit that may lose files of a protected snapshot, by forgetting the old one, is refused without this.
    pub even_protected: bool,
    /// Do everything but store or forget anything.
    pub dry_run: bool,
    /// How hard to compress new directories.
    pub level: Level,
    /// Who works here; `None` leaves no note.
    pub note: Option<SessionNote>,
}

impl EditOptions {
    /// Other tags, in place of the snapshots as they are.
    #[must_use]
    pub fn tags(change: TagChange) -> Self {
        Self {
            changes: Changes { tags: change, ..Changes::default() },
            exclude: Exclude::default(),
            mark: None,
            forget: true,
            even_protected: true,
            dry_run: false,
            level: Level::AUTO,
            note: None,
        }
    }
}

/// What became of one snapshot.
#[derive(Debug)]
pub struct Edit {
    /// The snapshot.
    pub id: SnapshotId,
    /// How.
    pub outcome: Outcome,
    /// Sums over its tree before.
    pub before: Totals,
    /// Sums over the new one's tree.
    pub after: Totals,
    /// What it is now, or would be.
    pub snapshot: Snapshot,
}

/// How one edit ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is what was asked for already.
    Unchanged,
    /// There is this new one. `None` after a dry run.
    Made(Option<SnapshotId>),
    /// An earlier run has made this one, which is just what was asked for.
    WasMade(SnapshotId),
    /// There is this new one, and the old one could not be forgotten, so that there are two now.
    Doubled(SnapshotId, Error),
    /// It is as it was.
    Failed(Error),
}

/// What became of all of them.
#[derive(Debug, Default)]
pub struct EditReport {
    /// In their order.
    pub edits: Vec<Edit>,
    /// How many were not tried, since the store fails.
    pub not_tried: usize,
}

/// Edits snapshots of a listing, one after the other. One that fails does not keep the others from it, unless the store is the reason.
///
/// # Errors
/// [`Error::Refused`] when one is protected, and it could lose files by being forgotten; [`Error::NoSnapshot`] when one is not in the
/// listing; nothing was done then. If it is the first snapshot that fails, with its error, and there are no others.
/// [`Error::Cancelled`] when the user stopped it; what was done by then stays.
pub fn edit(
    repository: &Arc<Repository>,
    listing: &Listing,
    ids: &[SnapshotId],
    options: &EditOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<EditReport> {
    repository.check_writable()?;
    let originals = find(repository, listing, ids, options)?;
    let mut editor = Editor::new(repository, listing, options, cancel);
    let mut forgetting = Uncommitter::new(repository, listing.seals.iter().cloned());
    progress.found(originals.len() as u64, 0);
    progress.found_all();
    let mut report = EditReport::default();
    let mut result = Ok(());
    for (number, (id, original)) in originals.iter().enumerate() {
        result = cancel.check();
        if result.is_err() {
            break;
        }
        let edit = one(&mut editor, &mut forgetting, id, original, options);
        progress.done(1, 0);
        let stop = match &edit.outcome {
            Outcome::Doubled(..) => true,
            Outcome::Failed(error) => !(error.is_damage() || error.is_newer() || is_gone(error)),
            _ => false,
        };
        report.edits.push(edit);
        if stop {
            report.not_tried = originals.len() - number - 1;
            break;
        }
    }
    // Everything that counts is committed. A note that stays costs the next session a look.
    let _ = editor.close();
    result?;
    cancel.check()?;
    match report.edits.as_mut_slice() {
        [Edit { outcome: Outcome::Failed(error), .. }] => Err(std::mem::replace(error, Error::Poisoned)),
        _ => Ok(report),
    }
}

/// Whether somebody else has forgotten or edited the snapshot meanwhile.
const fn is_gone(error: &Error) -> bool {
    matches!(error, Error::NoSnapshot { .. })
}

/// The snapshots that are meant, the oldest first.
fn find<'a>(
    repository: &Repository,
    listing: &'a Listing,
    ids: &[SnapshotId],
    options: &EditOptions,
) -> Result<Vec<&'a (SnapshotId, Snapshot)>> {
    let wanted: BTreeSet<_> = ids.iter().collect();
    let found: Vec<_> = listing.snapshots.iter().filter(|(id, _)| wanted.contains(id)).collect();
    if let Some(missing) = wanted.into_iter().find(|id| found.iter().all(|(there, _)| there != *id)) {
        return Err(Error::NoSnapshot { query: missing.to_string() });
    }
    let now = repository.runtime().now();
    if options.forget
        && !options.even_protected
        && let Some((id, _)) = found.iter().find(|(_, snapshot)| is_protected(snapshot, now))
    {
        return Err(Error::Refused(format!("snapshot {} is protected", id.short())));
    }
    Ok(found)
}

/// The same rule as for forgetting.
fn is_protected(snapshot: &Snapshot, now: Timestamp) -> bool {
    match snapshot.protection {
        Protection::None => false,
        Protection::Forever => true,
        Protection::Until(until) => now < until,
    }
}

fn one(
    editor: &mut Editor<'_>,
    forgetting: &mut Uncommitter<'_>,
    id: &SnapshotId,
    original: &Snapshot,
    options: &EditOptions,
) -> Edit {
    let mut edit = Edit {
        id: *id,
        outcome: Outcome::Unchanged,
        before: original.totals,
        after: original.totals,
        snapshot: original.clone(),
    };
    edit.outcome = match editor.make(id, original) {
        Ok(None) => Outcome::Unchanged,
        Ok(Some((outcome, snapshot))) => {
            (edit.after, edit.snapshot) = (snapshot.totals, snapshot);
            match outcome {
                Outcome::Made(Some(new)) | Outcome::WasMade(new) if options.forget && !options.dry_run => {
                    match forgetting.forget([*id].into()) {
                        Ok(()) => Outcome::Made(Some(new)),
                        Err(error) => Outcome::Doubled(new, error),
                    }
                }
                outcome => outcome,
            }
        }
        Err(error) => Outcome::Failed(error),
    };
    edit
}
