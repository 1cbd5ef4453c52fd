//! The forgetter: whoever takes snapshots out of the list of backups. Uncommit, then remove.
//!
//! ```text
//! F1  list and read the seals        those that name any of the bodies
//! F2  put seals for the other bodies that these name; barrier, and wait until they are visible everywhere
//! F3  list the expire notes
//!       one names any of the others -> end; nothing has changed
//! F4  delete the seals of F1         barrier
//! F5  delete the bodies
//! ```
//!
//! F2 and F3 are left out where no other body is concerned. The new seal needs none of the writer's checks: the old one proves that
//! they were made, and a body protects its data from then on, as long as it is there. But a listing that takes its time can miss
//! both of two seals of which one replaces the other; so whoever puts a seal looks for expire notes after it, as the writer does.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{SealId, SnapshotId},
    protocol::WrongAnswer,
};

/// What to do next. A step has ended when its effect is durable, not when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// F1: list and read the seals, and tell of those that name any of the bodies.
    ListSeals,
    /// F2: put seals that name exactly these, as many seals as are needed.
    PutSeals(BTreeSet<SnapshotId>),
    /// Wait the store's visibility delay.
    Wait,
    /// F3: list the expire notes and tell which bodies they name.
    ListExpireNotes,
    /// F4: delete these.
    DeleteSeals(BTreeSet<SealId>),
    /// F5: delete these. Begins after F4 has ended.
    DeleteBodies(BTreeSet<SnapshotId>),
    /// Nothing more.
    Done(Outcome),
}

/// How a forgetter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// None of the bodies is a backup any more.
    Forgotten,
    /// A body that shall stay is being expired; its seal was left as it was, and nothing was forgotten.
    Disturbed,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Step::ListSeals`]: the seals that name any of the bodies, each with all the bodies it names.
    Seals(BTreeMap<SealId, BTreeSet<SnapshotId>>),
    /// To [`Step::PutSeals`].
    SealsPut,
    /// To [`Step::Wait`].
    Waited,
    /// To [`Step::ListExpireNotes`]: every body that is being removed.
    ExpireNotes(BTreeSet<SnapshotId>),
    /// To [`Step::DeleteSeals`].
    SealsDeleted,
    /// To [`Step::DeleteBodies`].
    BodiesDeleted,
}

/// The forgetter's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Forgetter {
    step: Step,
    bodies: BTreeSet<SnapshotId>,
    seals: BTreeSet<SealId>,
    others: BTreeSet<SnapshotId>,
}

impl Forgetter {
    /// Forgets these together; any number.
    #[must_use]
    pub fn new(bodies: BTreeSet<SnapshotId>) -> Self {
        let step = if bodies.is_empty() { Step::Done(Outcome::Forgotten) } else { Step::ListSeals };
        Self { step, bodies, seals: BTreeSet::new(), others: BTreeSet::new() }
    }

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
            (Step::ListSeals, Answer::Seals(seals)) => self.seals_listed(seals),
            (Step::PutSeals(_), Answer::SealsPut) => Step::Wait,
            (Step::Wait, Answer::Waited) => Step::ListExpireNotes,
            (Step::ListExpireNotes, Answer::ExpireNotes(notes)) if notes.is_disjoint(&self.others) => {
                Step::DeleteSeals(self.seals.clone())
            }
            (Step::ListExpireNotes, Answer::ExpireNotes(_)) => Step::Done(Outcome::Disturbed),
            (Step::DeleteSeals(_), Answer::SealsDeleted) => Step::DeleteBodies(self.bodies.clone()),
            (Step::DeleteBodies(_), Answer::BodiesDeleted) => Step::Done(Outcome::Forgotten),
            (step, answer) => return Err(WrongAnswer::new(step, &answer)),
        };
        self.step = next;
        Ok(())
    }

    fn seals_listed(&mut self, seals: BTreeMap<SealId, BTreeSet<SnapshotId>>) -> Step {
        for (seal, named) in seals {
            if !named.is_disjoint(&self.bodies) {
                self.seals.insert(seal);
                self.others.extend(named.difference(&self.bodies));
            }
        }
        match (self.seals.is_empty(), self.others.is_empty()) {
            (true, _) => Step::DeleteBodies(self.bodies.clone()),
            (false, true) => Step::DeleteSeals(self.seals.clone()),
            (false, false) => Step::PutSeals(self.others.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(numbers: &[u8]) -> BTreeSet<SnapshotId> {
        numbers.iter().map(|number| SnapshotId([*number; 32])).collect()
    }

    fn seals(found: &[(u8, &[u8])]) -> Answer {
        Answer::Seals(found.iter().map(|(seal, named)| (SealId([*seal; 32]), bodies(named))).collect())
    }

    fn go(forgetter: &mut Forgetter, step: &Step, answer: Answer) {
        assert_eq!(forgetter.step(), step);
        forgetter.answer(answer).unwrap();
    }

    #[test]
    fn the_seal_goes_before_the_body() {
        let mut forgetter = Forgetter::new(bodies(&[1, 2]));
        go(&mut forgetter, &Step::ListSeals, seals(&[(11, &[1]), (12, &[1, 2]), (13, &[3])]));
        go(&mut forgetter, &Step::DeleteSeals([11, 12].map(|seal| SealId([seal; 32])).into()), Answer::SealsDeleted);
        go(&mut forgetter, &Step::DeleteBodies(bodies(&[1, 2])), Answer::BodiesDeleted);
        assert_eq!(*forgetter.step(), Step::Done(Outcome::Forgotten));
    }

    #[test]
    fn a_body_without_a_seal_just_goes() {
        let mut forgetter = Forgetter::new(bodies(&[1]));
        go(&mut forgetter, &Step::ListSeals, seals(&[]));
        go(&mut forgetter, &Step::DeleteBodies(bodies(&[1])), Answer::BodiesDeleted);
        assert_eq!(*forgetter.step(), Step::Done(Outcome::Forgotten));
        assert_eq!(*Forgetter::new(bodies(&[])).step(), Step::Done(Outcome::Forgotten));
    }

    #[test]
    fn others_of_the_same_seal_are_sealed_again_first() {
        for disturbed in [false, true] {
            let mut forgetter = Forgetter::new(bodies(&[1]));
            go(&mut forgetter, &Step::ListSeals, seals(&[(11, &[1, 2, 3])]));
            go(&mut forgetter, &Step::PutSeals(bodies(&[2, 3])), Answer::SealsPut);
            go(&mut forgetter, &Step::Wait, Answer::Waited);
            let notes = bodies(if disturbed { &[3] } else { &[1, 4] });
            go(&mut forgetter, &Step::ListExpireNotes, Answer::ExpireNotes(notes));
            if disturbed {
                assert_eq!(*forgetter.step(), Step::Done(Outcome::Disturbed));
            } else {
                assert_eq!(*forgetter.step(), Step::DeleteSeals([SealId([11; 32])].into()));
            }
        }
    }

    #[test]
    fn wrong_answers_change_nothing() {
        let mut forgetter = Forgetter::new(bodies(&[1]));
        let before = forgetter.clone();
        assert!(forgetter.answer(Answer::SealsDeleted).is_err());
        assert_eq!(forgetter, before);
    }
}
