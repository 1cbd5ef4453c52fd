//! Backup: from a source to a committed snapshot.
//!
//! ```text
//! scan (list, stat, compare with the parent) ─┬─ unchanged: the parent's node again
//!                                             ├─ small files, some at a time ─ read, cut, hash ─┐
//!                                             └─ large files: read and cut ─ segments ─ hash ────┤
//!                                                 new blobs ─ frame ─ compress, verify, seal ─ pack ─ upload
//! entries of a directory, in order ─ pages ─ tree blobs, bottom up
//! ```
//!
//! All threads are alike and take whatever task is nearest to the end (`queue.rs`); scanning goes on only when there is nothing else to
//! do, so that what is known of and not yet stored stays small.

use std::sync::Arc;

use crate::{
    compress::Level,
    error::{Damage, Error, Result},
    id::{NoteId, SnapshotId},
    parallel::both,
    progress::{Cancel, Problem, Progress},
    repository::{
        Repository,
        notes::Session as SessionNote,
        reader::{BlobReader, CACHE_BYTES},
        session::{Added, Session, SessionOptions},
    },
    snapshot::{Protection, Snapshot, Summary, rescue::store_again},
    source::Source,
    store::{ObjectName, Place},
    time::Timestamp,
    tree::node::Totals,
};

mod adopt;
mod assembly;
mod body;
mod checkpoint;
mod count;
mod earlier;
mod engine;
mod file;
mod large;
mod metadata;
mod partial;
mod queue;
mod reuse;
mod scan;
mod tally;

use adopt::Known;
use body::{body, identity};
use earlier::Earlier;
use engine::Engine;

/// Which snapshot to look for changes against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parent {
    /// The newest of the same host and source.
    #[default]
    Newest,
    /// None: everything is read.
    None,
    /// This one.
    Snapshot(SnapshotId),
}

/// Seconds between two checkpoints, unless said otherwise.
pub const CHECKPOINT_EVERY_SECONDS: u64 = 600;

/// How to back up.
pub struct BackupOptions {
    /// The snapshot's time, if it is not to be now.
    pub time: Option<Timestamp>,
    /// Seconds east of UTC, for display.
    pub utc_offset_seconds: i32,
    /// The machine this is a backup of.
    pub host: String,
    /// Who makes it.
    pub user: String,
    /// Who makes it, as a number.
    pub user_number: u32,
    /// Group of who makes it, as a number.
    pub group_number: u32,
    /// What it is a backup of, if not its targets.
    pub label: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Patterns that were left out, to be remembered.
    pub excludes: Vec<String>,
    /// Name and version of the program.
    pub program: String,
    /// How the snapshot may be removed.
    pub protection: Protection,
    /// What to compare with.
    pub parent: Parent,
    /// A file whose inode alone changed is taken for unchanged in its content.
    pub ignore_ctime: bool,
    /// A file whose inode number alone changed is taken for unchanged.
    pub ignore_inode: bool,
    /// Store when files were read last.
    pub with_atime: bool,
    /// Make no snapshot when nothing changed since the parent.
    pub skip_if_unchanged: bool,
    /// Do everything but store anything.
    pub dry_run: bool,
    /// How hard to compress.
    pub level: Level,
    /// Threads; by default one more than there are cores, so that one may wait for the disk.
    pub threads: Option<usize>,
    /// Who works here; `None` leaves no note.
    pub note: Option<SessionNote>,
    /// Claim what is finished so often, so that the next backup goes on from there if this one is cut short; never if that is zero.
    pub checkpoint_every_seconds: u64,
    /// Make them in a thread of its own, beside the work. Otherwise whoever reads files makes them, between two files: for those to whom
    /// a further thread is no gain, or who want everything to happen in one order.
    pub checkpoints_beside: bool,
    /// Count what there is beforehand, in a thread of its own, so that progress can tell how much is left.
    pub count_ahead: bool,
}

impl BackupOptions {
    /// A backup as most are wanted: of everything, compared with the newest of its kind, with the default compression. `host` is the
    /// machine it is of, `user` who makes it, `program` what makes it.
    #[must_use]
    pub fn new(host: &str, user: &str, program: &str) -> Self {
        Self {
            time: None,
            utc_offset_seconds: 0,
            host: host.to_owned(),
            user: user.to_owned(),
            user_number: 0,
            group_number: 0,
            label: None,
            tags: Vec::new(),
            excludes: Vec::new(),
            program: program.to_owned(),
            protection: Protection::None,
            parent: Parent::Newest,
            ignore_ctime: false,
            ignore_inode: false,
            with_atime: false,
            skip_if_unchanged: false,
            dry_run: false,
            level: Level::AUTO,
            threads: None,
            note: None,
            checkpoint_every_seconds: CHECKPOINT_EVERY_SECONDS,
            checkpoints_beside: true,
            count_ahead: false,
        }
    }
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The committed snapshot; none after a dry run, or where nothing changed and that was to be skipped.
    pub snapshot: Option<SnapshotId>,
    /// What was compared with.
    pub parent: Option<SnapshotId>,
    /// Unfinished snapshots, of backups cut short since the parent, of which what had been finished was not read again.
    pub unfinished: Vec<SnapshotId>,
    /// Counters.
    pub summary: Summary,
    /// Sums over the tree.
    pub totals: Totals,
    /// What was stored.
    pub added: Added,
    /// The first entries that could not be saved, or not as they should.
    pub problems: Vec<Problem>,
    /// How many there were.
    pub problem_count: u64,
}

/// How often a backup is made anew because others pruned what it had relied on.
const ATTEMPTS_MAX: u32 = 3;

/// Backs `source` up into a new snapshot. When somebody prunes what it relies on before it is claimed, it is made anew, if the source can
/// be read again.
///
/// # Errors
/// When no snapshot could be committed. What was stored until then stays, is not visible as a snapshot, and is used by the next
/// backup. That single entries could not be read is no error; it is told of in the report.
pub fn backup(
    repository: &Arc<Repository>,
    source: &dyn Source,
    options: &BackupOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<BackupReport> {
    let mut attempt = 1;
    let mut checkpoints = Vec::new();
    let result = loop {
        match backup_once(repository, source, options, progress, cancel, &mut checkpoints) {
            Err(error) if error.is_pruned_away() && attempt < ATTEMPTS_MAX && source.can_be_read_again() => {
                attempt += 1;
            }
            Err(Error::Vanished { object }) if attempt == ATTEMPTS_MAX => break Err(vanished_again(&object)),
            result => break result,
        }
    };
    if result.is_ok() {
        for checkpoint in checkpoints {
            remove(repository, &ObjectName::new(Place::Snapshots, checkpoint));
        }
    }
    result
}

/// Nobody prunes what was just stored again and again; a store that loses things does.
fn vanished_again(object: &str) -> Error {
    let reason = format!(
        "it was stored a moment ago and is gone, after {ATTEMPTS_MAX} attempts: the store does not keep what it confirms, or somebody \
         prunes all the time; run again"
    );
    Damage::new(object, reason).into()
}

fn backup_once(
    repository: &Arc<Repository>,
    source: &dyn Source,
    options: &BackupOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
    checkpoints: &mut Vec<SnapshotId>,
) -> Result<BackupReport> {
    let mut look = repository.take_first_look();
    let listed = look.listed(Place::Snapshots);
    let (earlier, known) = both(
        repository.store().abilities().connections,
        || Earlier::find(repository, options, &identity(source, options), listed),
        || Known::load(repository, look, options.note.as_ref(), options.dry_run),
    );
    let (earlier, known) = (earlier?, known?);
    let session_options = SessionOptions { level: options.level, dry_run: options.dry_run, note: options.note.clone() };
    let session = Session::open_beside(Arc::clone(repository), Arc::new(known.index), session_options)?;
    session.distrust(&known.distrusted);

    let reader = BlobReader::new(Arc::clone(repository), Arc::clone(session.index()), CACHE_BYTES);
    let engine = Engine::new(&session, &reader, source, options, &earlier, progress, cancel)?;
    for damage in &known.damaged {
        engine.tally.problem(unreadable_index(damage), progress);
    }
    let outcome = match engine.run() {
        Ok(outcome) => outcome,
        Err(error) => {
            // The note goes only with an orderly end; the reason for the end is what the user must hear of.
            if matches!(error, Error::Cancelled | Error::Source(_)) {
                let _ = session.close();
            }
            return Err(error);
        }
    };

    let root = outcome.root;
    checkpoints.extend(outcome.checkpoint);
    let mut report = BackupReport {
        snapshot: None,
        parent: earlier.parent.as_ref().map(|(id, _)| *id),
        unfinished: earlier.unfinished.iter().map(|(id, _)| *id).collect(),
        summary: outcome.summary,
        totals: root.totals,
        added: Added::default(),
        problems: outcome.problems,
        problem_count: outcome.summary.problems,
    };
    let is_same = |parent: &Snapshot| parent.tree == root.tree && parent.root.as_ref() == Some(&root.metadata);
    let unchanged = earlier.parent.as_ref().is_some_and(|(_, parent)| is_same(parent));
    if options.dry_run || (options.skip_if_unchanged && unchanged) {
        session.flush()?;
        report.complete(session.added());
        session.close()?;
        if !options.dry_run {
            remove_notes(repository, &known.left_behind);
        }
        return Ok(report);
    }
    session.flush()?;
    report.complete(session.added());
    let tree = root.tree;
    let body = body(source, options, report.parent, root, outcome.owners, report.summary);
    cancel.check()?;
    report.snapshot = Some(session.commit(&body, &mut |session, _| store_again(session, &tree))?);
    remove_notes(repository, &known.left_behind);
    Ok(report)
}

/// Removes what killed runs left. A note that stays costs the next backup a look.
fn remove_notes(repository: &Repository, notes: &[NoteId]) {
    for note in notes {
        remove(repository, &ObjectName::new(Place::Locks, *note));
    }
}

/// Removes what harms nobody if it stays.
fn remove(repository: &Repository, name: &ObjectName) {
    let _ = repository.store().delete(name);
}

fn unreadable_index(error: &Error) -> Problem {
    Problem { path: b"index".to_vec(), during: "read", message: error.chain() }
}

impl BackupReport {
    fn complete(&mut self, added: Added) {
        self.added = added;
        self.summary.take_added(added);
    }
}
