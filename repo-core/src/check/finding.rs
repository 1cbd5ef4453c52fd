//! What a check found: values that say what is wrong with which object, who suffers, and what to do next.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::{
    id::{BlobId, IndexId, ObjectId, PackId, SealId, SnapshotId},
    store::{ObjectName, Place},
    tree::name::escape,
};

/// Findings that are kept one by one; what comes beyond is counted in a last one.
const FINDINGS_MAX: usize = 10_000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is wrong; worth knowing.
    Hint,
    /// Something is lost, damaged or contradicts itself.
    Error,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The object: place and name in the store (`data/ab/abcd…`), or `data blob 12ab…`, `tree blob 12ab…`.
    pub object: String,
    /// What is wrong with it.
    pub what: FindingKind,
    /// Which files and directories of which snapshots suffer from it.
    pub suffering: Suffering,
}

/// Paths in snapshots that cannot be restored whole. Empty where nothing suffers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Suffering {
    /// The first of them.
    pub paths: Vec<SnapshotPath>,
    /// How many there are.
    pub total: u64,
    /// The search ended early: there may be more than `total`.
    pub at_least: bool,
}

/// A path in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotPath {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Path below its root, components joined by `/`; empty for the root.
    pub path: Vec<u8>,
}

impl fmt::Display for SnapshotPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:/{}", self.snapshot.short(), escape(&self.path))
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindingKind {
    /// The config is not there or does not open.
    ConfigLost {
        /// Why.
        reason: String,
    },
    /// A key slot is damaged.
    KeyDamaged {
        /// How.
        reason: String,
    },
    /// A snapshot body is damaged.
    SnapshotDamaged {
        /// How.
        reason: String,
    },
    /// A seal is damaged.
    SealDamaged {
        /// How.
        reason: String,
    },
    /// A committed snapshot is not there.
    SnapshotMissing {
        /// The seal that commits it.
        seal: SealId,
    },
    /// A committed snapshot is not there, and whoever has committed it may still be at work.
    SnapshotLeaving {
        /// The seal that commits it.
        seal: SealId,
    },
    /// A snapshot that no seal commits.
    Tentative,
    /// A session, mark or expire note is damaged.
    NoteDamaged {
        /// How.
        reason: String,
    },
    /// An index run is damaged.
    IndexDamaged {
        /// How.
        reason: String,
    },
    /// Index runs describe a pack differently.
    IndexContradiction {
        /// The runs.
        runs: Vec<IndexId>,
    },
    /// The index describes a pack differently than the pack does itself. The pack's own data is whole.
    IndexWrong {
        /// How.
        reason: String,
    },
    /// A pack that the index names is not there.
    PackMissing,
    /// A pack that the index names is not there, and no snapshot needs it: two prunes that met may leave this.
    PackGone,
    /// A pack is damaged.
    PackDamaged {
        /// How.
        reason: String,
        /// Blobs in it, as far as known.
        blobs: u64,
        /// Those of them that cannot be read from it any more.
        lost_blobs: u64,
    },
    /// A pack that no index run names.
    PackUnindexed {
        /// Its size.
        size_bytes: u64,
    },
    /// A blob that a snapshot needs is in no index run.
    BlobMissing,
    /// The index gives a blob another length than the file that needs it.
    BlobLength {
        /// Length by the index.
        index_bytes: u32,
        /// Length by the file.
        needed_bytes: u64,
    },
    /// A page of a directory or a piece list cannot be read, or is not valid.
    TreeDamaged {
        /// How.
        reason: String,
    },
    /// Sums in the tree do not add up. Contents are not concerned.
    TotalsWrong {
        /// How.
        reason: String,
    },
    /// It was made by a newer version of this program, which cannot tell whether it is sound.
    Newer {
        /// How that shows.
        reason: String,
    },
    /// There are more findings than are listed.
    More {
        /// How many.
        count: u64,
    },
}

impl FindingKind {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Tentative | Self::SnapshotLeaving { .. } | Self::PackUnindexed { .. } | Self::PackGone => {
                Severity::Hint
            }
            _ => Severity::Error,
        }
    }

    /// What to do next, in words; nothing where there is nothing to be done.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::ConfigLost { .. } => {
                "copy the object \"config\" from another copy of the repository; nothing opens without it"
            }
            Self::KeyDamaged { .. } => {
                "open the repository with another password, remove this key and add the password anew; or copy the key from \
                 another copy of the repository"
            }
            Self::SnapshotDamaged { .. } | Self::SnapshotMissing { .. } => {
                "copy the snapshot's object from another copy of the repository; or run the backup again, and later prune, which removes \
                 what is left of it"
            }
            Self::SealDamaged { .. } => {
                "copy the object from another copy of the repository, or run the backup again; until then the snapshots it commits \
                 show as tentative"
            }
            Self::SnapshotLeaving { .. } => {
                "it expired while it was made, and is made anew if its backup is still at work; check again when that is done"
            }
            Self::Tentative => "a backup is at work, or was cut short; it goes away with a later prune",
            Self::NoteDamaged { .. } => {
                "end all programs that use the repository, remove the object, and run prune to its end"
            }
            Self::IndexDamaged { .. } | Self::IndexContradiction { .. } => {
                "run \"repair index\": it is made anew from the packs, which tell themselves what they hold"
            }
            Self::IndexWrong { .. } => {
                "run \"repair index --read-all-packs\": it is made anew from the packs, which tell themselves what they hold"
            }
            Self::PackMissing => {
                "copy the pack from another copy of the repository; or run \"repair index\", then the backup again, which stores \
                 anew what is still at the source"
            }
            Self::PackGone => "nothing is lost; the next prune takes it out of the index",
            Self::PackDamaged { lost_blobs: 0, .. } => {
                "all data in it can still be read; run \"repair packs\" with its id, then prune, which stores it anew before more is \
                 damaged; and test the disk"
            }
            Self::PackDamaged { .. } => {
                "copy the pack from another copy of the repository; or run \"repair packs\" with its id, then the backup again, which \
                 stores anew what is still at the source, then prune; and test disk and memory"
            }
            Self::PackUnindexed { .. } => {
                "a backup is at work, or was cut short; prune removes what nobody needs, \"repair index\" finds it again"
            }
            Self::BlobMissing | Self::BlobLength { .. } => {
                "run \"repair index\"; if that does not find it, run the backup again, which stores anew what is still at the source"
            }
            Self::TreeDamaged { .. } => {
                "run the backup again; \"repair snapshots\" makes the snapshots usable without what is lost"
            }
            Self::TotalsWrong { .. } => {
                "contents are not concerned, but a program wrote this wrongly: please report it"
            }
            Self::Newer { .. } => "check with the version of coffer that wrote it, or a newer one",
            Self::More { .. } => "mend what is listed and check again",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigLost { reason }
            | Self::KeyDamaged { reason }
            | Self::SnapshotDamaged { reason }
            | Self::SealDamaged { reason }
            | Self::NoteDamaged { reason }
            | Self::IndexDamaged { reason }
            | Self::TreeDamaged { reason }
            | Self::TotalsWrong { reason }
            | Self::Newer { reason } => out.write_str(reason),
            Self::SnapshotMissing { seal } => {
                write!(out, "the snapshot was committed (by snapshots/{seal}) but is not there")
            }
            Self::SnapshotLeaving { seal } => {
                write!(out, "the snapshot was committed just now (by snapshots/{seal}) and is not there")
            }
            Self::Tentative => out.write_str("the snapshot is not committed"),
            Self::IndexContradiction { runs } => {
                out.write_str("index runs describe it differently:")?;
                runs.iter().try_for_each(|run| write!(out, " {}", run.short()))
            }
            Self::IndexWrong { reason } => {
                write!(out, "the index describes it wrongly ({reason}); the pack itself is whole")
            }
            Self::PackMissing => out.write_str("the index names it, but it is not there"),
            Self::PackGone => out.write_str("the index names it, but it is not there; no snapshot needs it"),
            Self::PackDamaged { reason, blobs, lost_blobs: 0 } => {
                write!(out, "{reason}; all its {blobs} blobs can still be read")
            }
            Self::PackDamaged { reason, blobs, lost_blobs } => {
                write!(out, "{reason}; {lost_blobs} of its {blobs} blobs cannot be read")
            }
            Self::PackUnindexed { size_bytes } => write!(out, "no index run names it ({size_bytes} bytes)"),
            Self::BlobMissing => out.write_str("a snapshot needs it, but it is in no index run"),
            Self::BlobLength { index_bytes, needed_bytes } => {
                write!(out, "it has {index_bytes} bytes by the index and {needed_bytes} by the file that needs it")
            }
            Self::More { count } => write!(out, "{count} more errors were found and are not listed"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.object, self.what)
    }
}

/// Number of a finding.
pub(super) type FindingNumber = usize;

/// Collects findings, from any thread.
#[derive(Default)]
pub(super) struct Findings(Mutex<Vec<Finding>>);

impl Findings {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Finding>> {
        // What is pushed is pushed whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a finding and tells its number.
    pub(super) fn add(&self, object: impl fmt::Display, what: FindingKind) -> FindingNumber {
        let mut findings = self.lock();
        let full = findings.len() > FINDINGS_MAX;
        if full && let Some(Finding { what: FindingKind::More { count }, .. }) = findings.last_mut() {
            *count += 1;
            return FINDINGS_MAX;
        }
        let (object, what) = match findings.len() {
            FINDINGS_MAX => ("the repository".to_owned(), FindingKind::More { count: 1 }),
            _ => (object.to_string(), what),
        };
        findings.push(Finding { severity: what.severity(), object, what, suffering: Suffering::default() });
        findings.len() - 1
    }

    /// Changes a finding.
    pub(super) fn update(&self, number: FindingNumber, change: impl FnOnce(&mut Finding)) {
        if let Some(finding) = self.lock().get_mut(number) {
            change(finding);
        }
    }

    /// To be called when all that suffers from something is known: packs that are missing, and from which nothing suffers, are no error.
    /// Where anything else is wrong, nobody knows that.
    pub(super) fn excuse_missing_packs(&self) {
        let mut findings = self.lock();
        let is_excused = |finding: &Finding| finding.what == FindingKind::PackMissing && finding.suffering.total == 0;
        if findings.iter().all(|finding| finding.severity == Severity::Hint || is_excused(finding)) {
            for finding in findings.iter_mut().filter(|finding| is_excused(finding)) {
                finding.what = FindingKind::PackGone;
                finding.severity = finding.what.severity();
            }
        }
    }

    /// All of them, errors first.
    pub(super) fn into_sorted(self) -> Vec<Finding> {
        let mut findings = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }
}

/// How a pack is called.
pub(super) fn pack_name(pack: PackId) -> ObjectName {
    ObjectName::new(Place::Data, ObjectId::from(pack))
}

/// How a tree blob is called.
pub(super) fn tree_blob_name(id: &BlobId) -> String {
    format!("tree blob {id}")
}
