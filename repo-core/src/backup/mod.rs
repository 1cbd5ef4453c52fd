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
    error::{Error, Result},
    id::{NoteId, SnapshotId},
    progress::{Cancel, Problem, Progress},
    repository::{
        Repository,
        notes::Session as SessionNote,
        reader::{BlobReader, CACHE_BYTES},
        session::{Added, Session, SessionOptions},
    },
    snapshot::{Listing, Protection, Snapshot, Summary},
    source::Source,
    store::{ObjectName, Place},
    time::Timestamp,
    tree::node::{Extension, Totals},
};

mod adopt;
mod assembly;
mod count;
mod engine;
mod file;
mod large;
mod metadata;
mod queue;
mod rescue;
mod reuse;
mod scan;
mod tally;

use adopt::Known;
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
    loop {
        match backup_once(repository, source, options, progress, cancel) {
            Err(Error::PrunedAway) if attempt < ATTEMPTS_MAX && source.can_be_read_again() => attempt += 1,
            result => return result,
        }
    }
}

fn backup_once(
    repository: &Arc<Repository>,
    source: &dyn Source,
    options: &BackupOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<BackupReport> {
    let started = repository.runtime().now();
    let identity = options.label.as_ref().map_or_else(|| source.targets(), |label| vec![label.clone()]);
    let parent = find_parent(repository, options, &identity)?;
    let known = Known::load(repository, options.note.as_ref(), options.dry_run)?;
    let session_options = SessionOptions { level: options.level, dry_run: options.dry_run, note: options.note.clone() };
    let session = Session::open(Arc::clone(repository), Arc::new(known.index), session_options)?;
    session.distrust(&known.distrusted);

    let reader = BlobReader::new(Arc::clone(repository), Arc::clone(session.index()), CACHE_BYTES);
    let before = parent.as_ref().map(|(_, snapshot)| snapshot);
    let engine = Engine::new(&session, &reader, source, options, before, progress, cancel)?;
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

    let ended = repository.runtime().now();
    let summary = Summary { started, ended, problems: outcome.problem_count, ..outcome.summary };
    let mut report = BackupReport {
        snapshot: None,
        parent: parent.as_ref().map(|(id, _)| *id),
        summary,
        totals: outcome.totals,
        added: Added::default(),
        problems: outcome.problems,
        problem_count: outcome.problem_count,
    };
    let unchanged =
        parent.as_ref().is_some_and(|(_, parent)| parent.tree == outcome.tree && parent.root == outcome.root);
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
    let body = Snapshot {
        time: options.time.unwrap_or(started),
        utc_offset_seconds: options.utc_offset_seconds,
        host: options.host.clone(),
        user: options.user.clone(),
        user_number: options.user_number,
        group_number: options.group_number,
        source: identity,
        label: options.label.clone(),
        paths: source.paths(),
        tags: sorted(&options.tags),
        excludes: options.excludes.clone(),
        tree: outcome.tree,
        totals: outcome.totals,
        root: outcome.root,
        parent: report.parent,
        original: None,
        program: options.program.clone(),
        users: outcome.owners.users,
        groups: outcome.owners.groups,
        protection: options.protection,
        summary: report.summary,
        extensions: Vec::new(),
    };
    cancel.check()?;
    let tree = body.tree;
    report.snapshot = Some(session.commit(&body, &mut |session, _| rescue::store_again(session, &tree))?);
    remove_notes(repository, &known.left_behind);
    Ok(report)
}

/// Removes what killed runs left. A note that stays costs the next backup a look.
fn remove_notes(repository: &Repository, notes: &[NoteId]) {
    for note in notes {
        let _ = repository.store().delete(&ObjectName::new(Place::Locks, *note));
    }
}

fn unreadable_index(error: &Error) -> Problem {
    Problem { path: b"index".to_vec(), during: "read", message: error.chain() }
}

impl BackupReport {
    fn complete(&mut self, added: Added) {
        self.added = added;
        self.summary.data_blobs = added.data_blobs;
        self.summary.tree_blobs = added.tree_blobs;
        self.summary.bytes_added = added.data_bytes + added.tree_bytes;
        self.summary.bytes_added_packed = added.data_packed_bytes + added.tree_packed_bytes;
    }
}

fn sorted(tags: &[String]) -> Vec<String> {
    let mut tags = tags.to_vec();
    tags.sort();
    tags.dedup();
    tags
}

/// The parent, if there is one. A damaged snapshot cannot be one; that is `check`'s to tell.
fn find_parent(
    repository: &Repository,
    options: &BackupOptions,
    identity: &[String],
) -> Result<Option<(SnapshotId, Snapshot)>> {
    match options.parent {
        Parent::None => Ok(None),
        Parent::Newest => {
            let newest = Listing::read(repository)?.newest_of(&options.host, identity).cloned();
            Ok(newest.filter(|(_, snapshot)| Extension::first_needed(&snapshot.extensions).is_none()))
        }
        Parent::Snapshot(id) => {
            let found = Listing::read(repository)?.snapshots.into_iter().find(|(listed, _)| *listed == id);
            let (id, snapshot) = found.ok_or_else(|| Error::NoSnapshot { query: id.to_string() })?;
            snapshot.check_known(&id)?;
            Ok(Some((id, snapshot)))
        }
    }
}
