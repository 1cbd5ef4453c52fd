//! Copying snapshots to another repository.
//!
//! Ids of blobs are made with a key of the repository, so that the same bytes have another id in another one, and a tree, which names
//! blobs, other bytes. A copy therefore decodes what it copies, holds every blob against its id, and writes the trees anew. What the
//! destination has is not stored again, also where a backup of its own has stored it, if both cut files alike
//! ([`Repository::init_like`]).
//!
//! ```text
//! found    which snapshots are there already, and beside which earlier copy a snapshot can be walked
//! walk     a tree as a row of events: what is as in the earlier copy is taken over from there, and not read
//! data     wanted blobs, frame by frame in the order of the packs; whole frames are not compressed again
//! write    the tree anew
//! engine   one snapshot after the other, the oldest first; each is committed when it is complete
//! ```
//!
//! The walk goes ahead by so many blobs, then these are copied, then a second walk follows and writes: memory is bounded, however
//! large a snapshot is.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    compress::Level,
    error::{Error, Result},
    id::SnapshotId,
    progress::{Cancel, Progress},
    repository::{Repository, notes::Session as SessionNote, session::Added},
    snapshot::{Listing, Snapshot},
};

mod data;
mod engine;
mod found;
mod walk;
mod write;

use engine::Engine;
use found::Found;

/// Blobs after which a walk waits until they are copied: some 30 GB.
const WINDOW_BLOBS: usize = 1 << 18;

/// How to copy.
pub struct CopyOptions {
    /// Do everything but store anything.
    pub dry_run: bool,
    /// How hard to compress what is compressed anew.
    pub level: Level,
    /// Compress everything anew, not only what cannot be taken over as it is.
    pub compress: bool,
    /// Threads that read and compute; as many as there are cores unless said otherwise.
    pub threads: Option<usize>,
    /// Blobs that are found before they are copied.
    pub window_blobs: usize,
    /// Who works here, to be seen in the destination; `None` leaves no note.
    pub note: Option<SessionNote>,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            level: Level::AUTO,
            compress: false,
            threads: None,
            window_blobs: WINDOW_BLOBS,
            note: None,
        }
    }
}

/// What became of one snapshot.
#[derive(Debug)]
pub struct Copied {
    /// Its id in the source.
    pub id: SnapshotId,
    /// What it is there.
    pub snapshot: Snapshot,
    /// How it ended.
    pub outcome: Outcome,
}

/// How the copy of one snapshot ended.
#[derive(Debug)]
pub enum Outcome {
    /// This copy of it was there already.
    WasThere(SnapshotId),
    /// This is its copy. `None` after a dry run.
    Made(Option<SnapshotId>),
    /// There is none.
    Failed(Error),
}

/// What became of all of them.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// In their order, the oldest first.
    pub copies: Vec<Copied>,
    /// How many were not tried, since a store fails.
    pub not_tried: usize,
    /// What was stored.
    pub added: Added,
}

/// Copies snapshots of a listing of `source` to `destination`, one after the other, the oldest first. The source is only read. Those that
/// are in the destination already are passed over: with the same original, and everything else the same, too. One that cannot be read
/// does not keep the others from being copied, unless a store fails.
///
/// # Errors
/// When nothing could be begun; the error of the only snapshot; [`Error::Cancelled`] when the user stopped it: complete copies stay, and
/// what else was stored is found by the next run.
pub fn copy(
    source: &Arc<Repository>,
    listing: &Listing,
    ids: &[SnapshotId],
    destination: &Arc<Repository>,
    options: &CopyOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<CopyReport> {
    destination.check_writable()?;
    if source.id() == destination.id() {
        return Err(Error::Invalid("source and destination are the same repository".into()));
    }
    let wanted: BTreeSet<_> = ids.iter().collect();
    let snapshots: Vec<_> = listing.snapshots.iter().filter(|(id, _)| wanted.contains(id)).collect();
    if let Some(missing) = wanted.into_iter().find(|id| snapshots.iter().all(|(there, _)| there != *id)) {
        return Err(Error::NoSnapshot { query: missing.to_string() });
    }
    let mut found = Found::new(listing, &Listing::read(destination)?);
    let mut engine = Engine::new(source, destination, options, progress, cancel);
    let mut report = CopyReport::default();
    let mut result = Ok(());
    progress.found(snapshots.iter().filter(|(id, _)| found.copy_of(id).is_none()).count() as u64, 0);
    for (number, (id, snapshot)) in snapshots.iter().enumerate() {
        result = cancel.check();
        if result.is_err() {
            break;
        }
        let outcome = match found.copy_of(id) {
            Some(there) => Outcome::WasThere(there),
            None => match engine.copy(id, snapshot, &found) {
                Ok((made, tree)) => {
                    if let Some(made) = made {
                        found.add(*id, made, tree);
                    }
                    Outcome::Made(made)
                }
                Err(error) => Outcome::Failed(error),
            },
        };
        let stop = matches!(&outcome, Outcome::Failed(error) if !(error.is_damage() || error.is_newer()));
        if !matches!(outcome, Outcome::WasThere(_)) {
            progress.done(1, 0);
        }
        report.copies.push(Copied { id: *id, snapshot: snapshot.clone(), outcome });
        if stop {
            report.not_tried = snapshots.len() - number - 1;
            break;
        }
    }
    report.added = engine.close();
    result?;
    cancel.check()?;
    match report.copies.as_mut_slice() {
        [Copied { outcome: Outcome::Failed(error), .. }] => Err(std::mem::replace(error, Error::Poisoned)),
        _ => Ok(report),
    }
}
