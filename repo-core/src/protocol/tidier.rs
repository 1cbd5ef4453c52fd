//! The tidier: whoever removes seals whose bodies are all gone ("orphans"). Look twice, then remove.
//!
//! ```text
//! T1  list and read the seals, then list the bodies    old seals that name no body that is listed
//! T2  wait until what was put before is visible everywhere
//! T3  look for each body by its name                   one is there -> the seal stays
//! T4  delete the other seals
//! ```
//!
//! An orphan commits nothing, so to delete it changes nothing for anybody; what matters is that it is one. A body is put, and visible,
//! before any seal that names it, its name does not come twice, and a put is repeated for far less time than it takes a seal to be old.
//! So a body that is missed in T1 and in T3 was deleted. Usually an expirer did that while its writer was just sealing, and the writer was
//! killed before it could look for the note (W9, W10); nobody was told of that backup. Or the store has lost a backup, or somebody deleted
//! it by hand: that is why a young orphan stays, for `check` to tell of, and whoever removes an old one has to tell of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{SealId, SnapshotId},
    protocol::WrongAnswer,
};

/// What to do next. A step has ended when its effect is durable, not when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// T1: list and read the seals, and then list the bodies.
    ListSeals,
    /// T2: wait the store's visibility delay.
    Wait,
    /// T3: look for each of these bodies by its name.
    FindBodies(BTreeSet<SnapshotId>),
    /// T4: delete these. Some may be gone already.
    DeleteSeals(BTreeSet<SealId>),
    /// Nothing more: these bodies had a seal and are gone.
    Done(BTreeSet<SnapshotId>),
}

/// A seal as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SealFound {
    /// The bodies it names.
    pub bodies: BTreeSet<SnapshotId>,
    /// Whether it was stored longer ago than any writer takes. False where the store cannot tell.
    pub is_old: bool,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Step::ListSeals`]: every seal, and every body that is listed.
    Listed(BTreeMap<SealId, SealFound>, BTreeSet<SnapshotId>),
    /// To [`Step::Wait`].
    Waited,
    /// To [`Step::FindBodies`]: those that are there.
    Found(BTreeSet<SnapshotId>),
    /// To [`Step::DeleteSeals`].
    SealsDeleted,
}

/// The tidier's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tidier {
    step: Step,
    orphans: BTreeMap<SealId, BTreeSet<SnapshotId>>,
}

impl Default for Tidier {
    fn default() -> Self {
        Self { step: Step::ListSeals, orphans: BTreeMap::new() }
    }
}

impl Tidier {
    /// What to do next.
    #[must_use]
    pub const fn step(&self) -> &Step {
        &self.step
    }

    /// Takes what came of the step and goes on to the next.
    ///
    /// # Errors
    /// When the answer belongs to another step; the state is as before.
    pub fn answer(&mut self, answer: Answer) -> Result<(), WrongAnswer> {
        let next = match (&self.step, answer) {
            (Step::ListSeals, Answer::Listed(seals, there)) => {
                let is_orphan = |seal: &SealFound| seal.is_old && seal.bodies.is_disjoint(&there);
                let orphans = seals.into_iter().filter(|(_, seal)| is_orphan(seal));
                self.orphans = orphans.map(|(id, seal)| (id, seal.bodies)).collect();
                if self.orphans.is_empty() { Step::Done(BTreeSet::new()) } else { Step::Wait }
            }
            (Step::Wait, Answer::Waited) => Step::FindBodies(self.bodies()),
            (Step::FindBodies(_), Answer::Found(there)) => {
                self.orphans.retain(|_, bodies| bodies.is_disjoint(&there));
                let seals: BTreeSet<_> = self.orphans.keys().copied().collect();
                if seals.is_empty() { Step::Done(BTreeSet::new()) } else { Step::DeleteSeals(seals) }
            }
            (Step::DeleteSeals(_), Answer::SealsDeleted) => Step::Done(self.bodies()),
            (step, answer) => return Err(WrongAnswer::new(step, &answer)),
        };
        self.step = next;
        Ok(())
    }

    fn bodies(&self) -> BTreeSet<SnapshotId> {
        self.orphans.values().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(numbers: &[u8]) -> BTreeSet<SnapshotId> {
        numbers.iter().map(|number| SnapshotId([*number; 32])).collect()
    }

    fn seal(number: u8) -> SealId {
        SealId([number; 32])
    }

    fn seals(found: &[(u8, &[u8], bool)]) -> BTreeMap<SealId, SealFound> {
        let one =
            |(id, named, is_old): &(u8, &[u8], bool)| (seal(*id), SealFound { bodies: bodies(named), is_old: *is_old });
        found.iter().map(one).collect()
    }

    fn go(tidier: &mut Tidier, step: &Step, answer: Answer) {
        assert_eq!(tidier.step(), step);
        tidier.answer(answer).unwrap();
    }

    #[test]
    fn only_what_is_old_and_missed_twice_goes() {
        let found = seals(&[
            (11, &[1], true),
            (12, &[2], true),
            (13, &[3], false),
            (14, &[4, 5], true),
            (15, &[6, 7], true),
            (16, &[8, 9], true),
        ]);
        let mut tidier = Tidier::default();
        go(&mut tidier, &Step::ListSeals, Answer::Listed(found, bodies(&[1, 5, 99])));
        go(&mut tidier, &Step::Wait, Answer::Waited);
        go(&mut tidier, &Step::FindBodies(bodies(&[2, 6, 7, 8, 9])), Answer::Found(bodies(&[7])));
        go(&mut tidier, &Step::DeleteSeals([seal(12), seal(16)].into()), Answer::SealsDeleted);
        assert_eq!(*tidier.step(), Step::Done(bodies(&[2, 8, 9])));
    }

    #[test]
    fn nothing_to_do() {
        let mut tidier = Tidier::default();
        go(&mut tidier, &Step::ListSeals, Answer::Listed(seals(&[(11, &[1], true), (12, &[2], false)]), bodies(&[1])));
        assert_eq!(*tidier.step(), Step::Done(bodies(&[])));
        let mut tidier = Tidier::default();
        go(&mut tidier, &Step::ListSeals, Answer::Listed(seals(&[(11, &[1], true)]), bodies(&[])));
        go(&mut tidier, &Step::Wait, Answer::Waited);
        go(&mut tidier, &Step::FindBodies(bodies(&[1])), Answer::Found(bodies(&[1])));
        assert_eq!(*tidier.step(), Step::Done(bodies(&[])), "a listing had missed it");
    }

    #[test]
    fn wrong_answers_change_nothing() {
        let mut tidier = Tidier::default();
        let before = tidier.clone();
        assert!(tidier.answer(Answer::Found(bodies(&[]))).is_err());
        assert_eq!(tidier, before);
    }
}
