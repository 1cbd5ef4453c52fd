//! What takes part in a search, and what may be done wrongly in it.

use crate::world::{Bits, Kind};

/// What a process does, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// A backup that needs these blobs, and has them.
    Backup(Bits),
    /// A backup that is killed before it puts its body.
    Store(Bits),
    /// A new body for the same tree as the one this process has committed last, or the first body there is. Has no blobs of its own.
    Edit,
    /// The same, which counts on the claim of its original where it may.
    Lean,
    /// Forgets the body before the last edit.
    ForgetOld,
    /// Forgets bodies that were there from the beginning.
    Forget(Bits),
    Prune,
    /// Finds a body without a seal and removes it.
    Expire,
    /// Finishes what other expirers have begun.
    AdoptNotes,
}

/// What a driver does wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    WriterChecksNothing,
    EditorChecksNothing,
    LeanerLooksForNoMarks,
    LeanerLooksForNoBasis,
    WriterListsNoMarks,
    WriterListsPacksBeforeMarks,
    WriterBelievesAFreshIndex,
    WriterListsNoPacks,
    WriterLooksForNoNotes,
    WriterLooksForNoBody,
    PrunerListsRootsOnce,
    PrunerIgnoresMarks,
    PrunerDeletesMarksBeforePacks,
    PrunerDeletesRunsBeforePuttingNewOnes,
    PrunerDropsEntriesOfPacksItMissed,
    PrunerDeletesPacksBeforeTheIndex,
    PrunerChecksByTheOldListing,
    PrunerCountsItsVictims,
    PrunerPassesOverWhatIsUnindexed,
    ExpirerListsNoSeals,
    ExpirerDeletesNotesFirst,
    AdopterPutsNoNotes,
    AdopterDeletesNotesOfBackups,
    ForgetterLooksForNoNotes,
    ForgetterSealsNothingAgain,
    NoWait(Wait),
    /// Those who delete do not spare what may be put again.
    Impatience,
}

/// Where somebody waits for visibility.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Merge,
    Claim,
    Seal,
    WriterRescue,
    Mark,
    AdoptedMark,
    PrunerRescue,
    Index,
    PackDelete,
    Note,
    BodyDelete,
    Reseal,
}

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) name: &'static str,
    /// Bodies that are there from the beginning, each with the blobs it needs.
    pub(crate) bodies: &'static [Bits],
    /// Whether one seal names all of them.
    pub(crate) one_seal: bool,
    /// Packs from the beginning, with their blobs.
    pub(crate) packs: &'static [Bits],
    /// Index runs from the beginning, with their packs.
    pub(crate) runs: &'static [Bits],
    /// One for each process.
    pub(crate) scripts: Vec<Vec<Task>>,
    /// Whether what is put and deleted becomes visible late.
    pub(crate) delayed: bool,
    /// What is listed in several pages, during which others go on.
    pub(crate) torn: &'static [Kind],
    /// What may be put although the answer was lost, so that it is put again, however late.
    pub(crate) lost: &'static [Kind],
    /// Whether writers merge the runs they found into their own.
    pub(crate) merges: bool,
    /// Whether pruners may take any mark for abandoned.
    pub(crate) adopts: bool,
    /// Largest number of victims in a mark.
    pub(crate) victims: u32,
    /// After so many rescues a process stops.
    pub(crate) rescues: u32,
    /// Whether to look, in every state, if those who come later can clean up should everybody die now.
    pub(crate) cleans_up: bool,
    pub(crate) mutation: Option<Mutation>,
    /// What has to happen at some point, else the search has not tried what it is there for.
    pub(crate) happens: u16,
    /// What must not happen.
    pub(crate) never: u16,
}

impl Config {
    /// One snapshot in one pack, and these processes.
    pub(crate) fn new(name: &'static str, scripts: &[&[Task]]) -> Self {
        Self {
            name,
            bodies: &[0b011],
            one_seal: false,
            packs: &[0b011],
            runs: &[0b1],
            scripts: scripts.iter().map(|script| script.to_vec()).collect(),
            delayed: false,
            torn: &[],
            lost: &[],
            merges: false,
            adopts: false,
            victims: 1,
            rescues: 1,
            cleans_up: false,
            mutation: None,
            happens: 0,
            never: 0,
        }
    }

    pub(crate) fn with(mut self, mutation: Mutation) -> Self {
        self.mutation = Some(mutation);
        self
    }

    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}
