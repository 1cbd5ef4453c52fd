//! Checking a repository: is all there that snapshots need, and is it what it was?
//!
//! What is wrong is a value, a [`Finding`], and the check goes on; an error ends it only where the store fails or the user stops it.
//! Nothing is locked and nothing is changed: what backups and prunes do meanwhile is told apart from damage by looking again.

use std::sync::Arc;

use crate::{
    error::Result,
    progress::{Cancel, Progress},
    repository::{Repository, reader::BlobReader},
};

mod book;
mod data;
mod finding;
mod foresee;
mod inventory;
mod losses;
mod objects;
mod page;
mod select;
mod suffering;
mod trees;

pub use finding::{Finding, FindingKind, Severity, SnapshotPath, Suffering};
pub use foresee::foresee;

use finding::Findings;
use losses::Losses;

/// How much of the data is read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// None: trees are read, and that all they need is there, is taken from index and listing.
    #[default]
    None,
    /// All of it.
    All,
    /// The `n`-th of `t` parts, counted from 1: always the same packs, so that all parts together are everything.
    Part {
        /// Which part.
        n: u32,
        /// Of how many.
        t: u32,
    },
    /// A random choice of packs with this share of all bytes, at least one pack.
    Percent(f64),
    /// A random choice of packs with so many bytes, at least one pack.
    Bytes(u64),
}

/// What is checked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CheckOptions {
    /// How much of the data is read.
    pub read_data: ReadData,
    /// Threads, each of which holds a pack when data is read; 0 is one for each processor.
    pub threads: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// What is wrong or worth knowing; errors first.
    pub findings: Vec<Finding>,
    /// Committed snapshots whose trees were walked.
    pub snapshots: u64,
    /// Distinct pages of their trees.
    pub tree_pages: u64,
    /// Packs that the index names.
    pub packs: u64,
    /// Their size.
    pub packs_bytes: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Their size.
    pub packs_read_bytes: u64,
    /// Packs that no index run names.
    pub packs_unindexed: u64,
    /// Their size.
    pub packs_unindexed_bytes: u64,
}

impl CheckReport {
    /// How many errors there are.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let counts = self.findings.iter().map(|finding| match (finding.severity, &finding.what) {
            (Severity::Hint, _) => 0,
            (_, FindingKind::More { count }) => *count,
            _ => 1,
        });
        counts.sum()
    }

    /// Whether all errors are that something was made by a newer version of this program.
    #[must_use]
    pub fn is_only_newer(&self) -> bool {
        let mut errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error).peekable();
        errors.peek().is_some() && errors.all(|finding| matches!(finding.what, FindingKind::Newer { .. }))
    }

    /// Whether there is no error; hints may still be there.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors() == 0
    }

    /// Whether making the index anew would help.
    #[must_use]
    pub fn suggests_repair_index(&self) -> bool {
        self.findings.iter().any(|finding| {
            matches!(
                finding.what,
                FindingKind::IndexDamaged { .. }
                    | FindingKind::IndexContradiction { .. }
                    | FindingKind::IndexWrong { .. }
                    | FindingKind::PackMissing
                    | FindingKind::BlobMissing
                    | FindingKind::BlobLength { .. }
            )
        })
    }

    /// Whether a prune would free space that nobody needs.
    #[must_use]
    pub fn suggests_prune(&self) -> bool {
        self.packs_unindexed > 0 || self.findings.iter().any(|finding| finding.what == FindingKind::PackGone)
    }

    /// Packs that are damaged or missing, as their names in the store.
    pub fn broken_packs(&self) -> impl Iterator<Item = &str> {
        self.findings
            .iter()
            .filter(|finding| matches!(finding.what, FindingKind::PackDamaged { .. } | FindingKind::PackMissing))
            .map(|finding| finding.object.as_str())
    }
}

/// What every part of a check needs.
struct Context<'a> {
    repository: &'a Arc<Repository>,
    threads: usize,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    findings: &'a Findings,
}

/// Checks a repository. `progress` is told of packs that are read, as files.
///
/// # Errors
/// When the store fails for more than single objects, the options make no sense, or a stop was asked for. Damage is no error; it is in
/// the report.
pub fn check(
    repository: &Arc<Repository>,
    options: CheckOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<CheckReport> {
    select::validate(options.read_data)?;
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if options.threads == 0 { processors() } else { options.threads };
    let mut attempt = 1;
    loop {
        let findings = Findings::default();
        let context = Context { repository, threads, progress, cancel, findings: &findings };
        let (report, disturbed) = check_once(&context, options.read_data, attempt == 1)?;
        if !disturbed || attempt == ATTEMPTS_MAX {
            return Ok(CheckReport { findings: findings.into_sorted(), ..report });
        }
        attempt += 1;
    }
}

/// How often everything is checked anew because something was found missing that others had removed meanwhile.
const ATTEMPTS_MAX: usize = 3;

impl Context<'_> {
    /// Waits until listings show what was stored before. Whether that took any time.
    fn wait_for_listings(&self) -> bool {
        let delay_ms = self.repository.store().abilities().visibility_delay_ms;
        self.repository.runtime().sleep_ms(delay_ms);
        delay_ms > 0
    }
}

/// Checks everything once. Tells besides whether what is missing may be so because it was forgotten and pruned since it was listed, or,
/// the first time, because listings lag behind.
fn check_once(context: &Context<'_>, read_data: ReadData, is_first: bool) -> Result<(CheckReport, bool)> {
    let mut losses = Losses::default();
    objects::check_small_objects(context)?;
    // Snapshots before the index before the packs: all that a snapshot needs was there before it.
    let snapshots = objects::check_snapshots(context)?;
    let inventory = inventory::take(context, &mut losses)?;
    let reader = BlobReader::new(Arc::clone(context.repository), Arc::clone(&inventory.index), TREE_CACHE_BYTES)
        .of_store_alone();
    let walked = trees::check_trees(context, &reader, &snapshots, &mut losses)?;
    let suspects: Vec<_> = walked.unreadable.iter().map(|(page, _)| *page).collect();
    let read = data::check_data(context, &inventory, read_data, &suspects, &mut losses)?;
    trees::tell_unreadable(context, &inventory.index, walked.unreadable, &mut losses);
    let mut disturbed = false;
    if !losses.is_empty() {
        disturbed = is_first && context.wait_for_listings()
            || objects::any_removed(context, &snapshots)?
            || inventory::any_removed(context, &losses)?;
        if !disturbed {
            suffering::find(context, &reader, &snapshots, &losses)?;
            context.findings.excuse_missing_packs();
        }
    }
    let report = CheckReport {
        findings: Vec::new(),
        snapshots: snapshots.len() as u64,
        tree_pages: walked.pages,
        packs: inventory.packs.len() as u64,
        packs_bytes: inventory.packs.values().filter_map(|pack| pack.stored_bytes).sum(),
        packs_read: read.packs,
        packs_read_bytes: read.bytes,
        packs_unindexed: inventory.unindexed.len() as u64,
        packs_unindexed_bytes: inventory.unindexed.values().sum(),
    };
    Ok((report, disturbed))
}

/// Opened frames of tree pages that are kept. Pages are read in the reverse of the order they were written in, so that few suffice.
const TREE_CACHE_BYTES: usize = 16 << 20;
