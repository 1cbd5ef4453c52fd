//! What happened in a run, by kind. A kind that never happens tests nothing, so the run fails when one is missing.

use std::fmt;

macro_rules! events {
    ($($name:ident: $text:literal,)*) => {
        /// Something a run must have seen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event { $($name,)* }

        impl Event {
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, $text),)*];
        }
    };
}

events! {
    Seeds: "seeds",
    Operations: "store operations",
    Backups: "backups that succeeded",
    Prunes: "prunes that succeeded",
    PacksDeleted: "packs deleted by them",
    Forgets: "snapshots forgotten",
    Tagged: "snapshots tagged",
    Rewritten: "snapshots rewritten",
    Copied: "snapshots copied from another repository",
    CopyThere: "copies that were there already",
    Checkpoints: "checkpoints of backups",
    Reads: "snapshots read back while others worked",
    Checks: "checks while others worked",
    Looks: "looks of the oracle at the whole repository",
    Restores: "snapshots restored and compared by the oracle",
    FailedBefore: "requests that failed",
    PutAnswerLost: "puts done, answer lost",
    DeleteAnswerLost: "deletes done, answer lost",
    OtherAnswerLost: "gets and lists done, answer lost",
    PutCutVisible: "packs cut short under their own name",
    PutCut: "other puts cut short",
    ListCut: "listings that failed half way",
    Retried: "requests that succeeded when tried again",
    Slow: "answers that came late",
    Slept: "processes that slept for days",
    ClockForward: "clocks set forward",
    ClockBack: "clocks set back",
    ListMissed: "listings that missed what was put within the delay",
    ListGhost: "listings that showed what was deleted within the delay",
    GetMissed: "gets that missed what was put within the delay",
    PagesShifted: "listings with a put or delete between their pages",
    CrashBackupBeforeClaim: "backups killed before the claim",
    CrashCheckpointed: "backups killed after a checkpoint, before the claim",
    CrashBackupClaimed: "backups killed between claim and seal",
    CrashBackupSealed: "backups killed after the seal, before they could tell",
    CrashPruneBeforeMark: "prunes killed before the mark",
    CrashPruneMarked: "prunes killed between mark and first delete",
    CrashPruneDeleting: "prunes killed while deleting",
    CrashForget: "forgets killed half way",
    CrashEditBeforeClaim: "edits killed before the claim",
    CrashEditClaimed: "edits killed between claim and seal",
    CrashEditSealed: "edits killed between the new seal and the delete of the old snapshot",
    CrashEditDeleting: "edits killed after they had begun to delete the old snapshot",
    CrashCopyBeforeClaim: "copies killed before a claim",
    CrashCopyClaimed: "copies killed between claim and seal",
    CrashCopySealed: "copies killed after a seal",
    CrashReader: "readers and checks killed",
    Overlaps: "packs deleted while a backup was at work",
    TwoPrunes: "prunes begun while another was at work",
    WentOn: "backups that went on from a checkpoint",
    CheckpointTakenBack: "checkpoints taken back since what they need was pruned",
    CheckpointExpired: "backups whose checkpoint was expired by others",
    Adopted: "backups that adopted packs of one that was killed",
    EditRescued: "edits that stored again what was condemned",
    EditVanished: "edits of what somebody else forgot or edited meanwhile",
    TwoEdits: "edits begun of what another was editing",
    Doubled: "edits that could not delete the old snapshot",
    CopyRescued: "copies that stored again what was condemned",
    WriterRescued: "backups that stored again what was condemned",
    MadeAnew: "backups made anew since what they needed was pruned",
    PrunedAway: "backups of streams, edits and copies that gave up since what they needed was pruned",
    PrunerRescued: "prunes that moved again after the mark",
    PruneRefused: "prunes that refused to delete anything",
    MarkAdopted: "marks of killed prunes finished by another",
    LiveMarkAdopted: "marks taken from a prune that was alive",
    Expired: "unfinished snapshots expired",
    ExpiredAlive: "snapshots expired under a writer that was alive, and claimed anew",
    ForgottenUnderReader: "readers whose snapshot was forgotten and pruned",
}

/// How often each happened.
#[derive(Clone)]
pub struct Counts([u64; Event::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Event::ALL.len()])
    }
}

impl Counts {
    pub fn add(&mut self, event: Event) {
        self.add_many(event, 1);
    }

    pub fn add_many(&mut self, event: Event, count: u64) {
        self.0[event as usize] += count;
    }

    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.0.iter_mut().zip(other.0) {
            *own += more;
        }
    }

    /// Whether anything went on at all.
    pub fn happened(&self) -> bool {
        let some = [Event::Backups, Event::Prunes, Event::PacksDeleted, Event::Looks];
        some.iter().all(|event| self.0[*event as usize] > 0)
    }

    pub fn never(&self) -> Vec<&'static str> {
        Event::ALL.iter().filter(|(event, _)| self.0[*event as usize] == 0).map(|(_, text)| *text).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (event, text) in Event::ALL {
            writeln!(out, "{:>10}  {text}", self.0[*event as usize])?;
        }
        Ok(())
    }
}
