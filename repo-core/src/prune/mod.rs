//! Prune: giving back the space of what no snapshot needs, beside backups at work (`docs/protocol.md`).
//!
//! ```text
//! live      which blobs any body needs: one bit for each row of the index
//! usage     how much of each pack that is, frame by frame
//! plan      which packs go, and what becomes of their frames (pure)
//! copy      moves what is needed out of packs that go, and reads it back
//! cover     whether everything needed lies in packs that stay
//! runs      the index without the packs that go
//! choose    what goes, and whether what stays is enough, by what the store lists
//! rescue    stores again what lies only in packs that go
//! engine    does what the protocol's machine says, step by step
//! expire    removes unfinished snapshots that nobody finishes, and notes of what is over
//! ```

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    error::Result,
    id::SnapshotId,
    progress::{Cancel, Progress},
    repository::{Repository, notes::Session as SessionNote},
};

mod choose;
mod copy;
mod cover;
mod engine;
mod expire;
mod live;
pub mod plan;
mod rescue;
mod roots;
mod runs;
pub mod usage;

use plan::{Limits, MaxUnused, Plan};
use usage::BlobCounts;

/// How to prune.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// How much that nobody needs may stay.
    pub max_unused: MaxUnused,
    /// Most bytes of packs that are read and stored again.
    pub max_repack_bytes: Option<u64>,
    /// Plan, and change nothing.
    pub dry_run: bool,
    /// Snapshots that a dry run passes over, as if they were forgotten already.
    pub gone: BTreeSet<SnapshotId>,
    /// Threads; as many as there are cores unless said otherwise.
    pub threads: Option<usize>,
    /// Who works here; `None` leaves no note.
    pub note: Option<SessionNote>,
}

/// What a prune did, or would do.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// What goes, and why.
    pub plan: Plan,
    /// Blobs, by what becomes of them.
    pub blobs: BlobCounts,
    /// Bodies, sealed or not, whose data was kept.
    pub bodies: u64,
    /// Packs that were deleted, those that others had condemned included.
    pub packs_deleted: u64,
    /// Packs that were stored with what was moved.
    pub packs_stored: u64,
    /// Marks of prunes that were cut short, and that were finished.
    pub marks_finished: u64,
    /// Unfinished snapshots that were too old, and were removed.
    pub expired: Vec<SnapshotId>,
    /// Snapshots that had been committed and are gone. Their seals were old, and were removed: nobody else tells of them any more.
    pub lost: Vec<SnapshotId>,
    /// Times that something had to be moved after its pack was condemned, since a snapshot was made meanwhile.
    pub rescues: u32,
}

/// Removes what no snapshot needs.
///
/// # Errors
/// When anything that tells what is needed cannot be read, or something needed is nowhere: then nothing is deleted. When the store fails:
/// whatever was done by then harms nobody, and the next prune goes on from there.
pub fn prune(
    repository: &Arc<Repository>,
    options: &PruneOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<PruneReport> {
    repository.check_writable()?;
    let mut report = PruneReport::default();
    let limits = Limits {
        max_unused: options.max_unused,
        max_repack_bytes: options.max_repack_bytes,
        pack_bytes: repository.config().parameters.pack_bytes.into(),
    };
    let mut engine = engine::Engine::open(repository, options, limits, progress, cancel)?;
    let result = engine.run(&mut report);
    let closed = engine.close();
    result?;
    closed?;
    Ok(report)
}
