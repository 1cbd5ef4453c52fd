//! The expirer: whoever removes bodies that were never sealed. Announce, then look for a seal, then remove.
//!
//! ```text
//! E1  put an expire note for each    barrier, and wait until they are visible everywhere
//! E2  list the seals, and the bodies
//!       a seal names it -> it is a backup and stays
//! E3  delete the others              barrier, and wait
//! E4  delete the notes               last; our own, and those of others whose body is gone
//! ```
//!
//! Whoever finishes what somebody else has left puts notes of his own all the same: whoever may still delete a body has a note there
//! that only he takes back. With one note for two, the one that sees the seal would take it back while the other, who has looked a
//! moment earlier, is about to delete; the writer in between would see the body and no note. For the same reason the note of a body
//! that turns out to be sealed goes only if it is our own.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{NoteId, SnapshotId},
    protocol::WrongAnswer,
};

/// What to do next. A step has ended when its effect is durable, not when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// E1: put a note for each of these bodies.
    PutNotes(BTreeSet<SnapshotId>),
    /// Wait the store's visibility delay.
    Wait(After),
    /// E2: list and read the seals, and tell which of these bodies are there and sealed. Begins after E1 has ended. A seal that cannot
    /// be read, or is of a newer version, may name any of them: that ends the run.
    ListSeals(BTreeSet<SnapshotId>),
    /// E3: delete these bodies. Some may be gone already.
    DeleteBodies(BTreeSet<SnapshotId>),
    /// E4: delete these notes.
    DeleteNotes(BTreeSet<NoteId>),
    /// Nothing more: so many bodies were removed.
    Done(usize),
}

/// After what to wait for visibility.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum After {
    /// Notes were put: who seals from now on shall see them, and we shall see the seals that were put before.
    Notes,
    /// Bodies were deleted: who misses the note shall miss the body, too.
    Delete,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Step::PutNotes`]: the notes, each with its body.
    NotesPut(BTreeMap<NoteId, SnapshotId>),
    /// To [`Step::Wait`].
    Waited,
    /// To [`Step::ListSeals`]: those that are sealed, and there.
    Sealed(BTreeSet<SnapshotId>),
    /// To [`Step::DeleteBodies`].
    BodiesDeleted,
    /// To [`Step::DeleteNotes`].
    NotesDeleted,
}

/// The expirer's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expirer {
    step: Step,
    /// Our own.
    notes: BTreeMap<NoteId, SnapshotId>,
    /// Those of others.
    found: BTreeMap<NoteId, SnapshotId>,
    /// Those that are not backups.
    expired: BTreeSet<SnapshotId>,
}

impl Expirer {
    /// Removes those of these bodies that have no seal.
    #[must_use]
    pub fn new(bodies: BTreeSet<SnapshotId>) -> Self {
        let step = if bodies.is_empty() { Step::Done(0) } else { Step::PutNotes(bodies) };
        Self { step, notes: BTreeMap::new(), found: BTreeMap::new(), expired: BTreeSet::new() }
    }

    /// Finishes what others have begun; to be wrong about their being dead is safe.
    #[must_use]
    pub fn adopt(found: BTreeMap<NoteId, SnapshotId>) -> Self {
        Self { found: found.clone(), ..Self::new(found.into_values().collect()) }
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
            (Step::PutNotes(_), Answer::NotesPut(notes)) => {
                self.notes = notes;
                Step::Wait(After::Notes)
            }
            (Step::Wait(After::Notes), Answer::Waited) => Step::ListSeals(self.notes.values().copied().collect()),
            (Step::ListSeals(bodies), Answer::Sealed(sealed)) => {
                self.expired = bodies.difference(&sealed).copied().collect();
                if self.expired.is_empty() { self.delete_notes() } else { Step::DeleteBodies(self.expired.clone()) }
            }
            (Step::DeleteBodies(_), Answer::BodiesDeleted) => Step::Wait(After::Delete),
            (Step::Wait(After::Delete), Answer::Waited) => self.delete_notes(),
            (Step::DeleteNotes(_), Answer::NotesDeleted) => Step::Done(self.expired.len()),
            (step, answer) => return Err(WrongAnswer::new(step, &answer)),
        };
        self.step = next;
        Ok(())
    }

    fn delete_notes(&self) -> Step {
        let over = self.found.iter().filter(|(_, body)| self.expired.contains(body));
        Step::DeleteNotes(self.notes.iter().chain(over).map(|(note, _)| *note).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(numbers: &[u8]) -> BTreeSet<SnapshotId> {
        numbers.iter().map(|number| SnapshotId([*number; 32])).collect()
    }

    fn note(number: u8) -> NoteId {
        NoteId([number; 32])
    }

    fn notes(numbers: &[u8]) -> BTreeMap<NoteId, SnapshotId> {
        numbers.iter().map(|number| (note(*number), SnapshotId([*number; 32]))).collect()
    }

    fn own_notes(numbers: &[u8]) -> BTreeMap<NoteId, SnapshotId> {
        numbers.iter().map(|number| (note(100 + number), SnapshotId([*number; 32]))).collect()
    }

    fn go(expirer: &mut Expirer, step: &Step, answer: Answer) {
        assert_eq!(expirer.step(), step);
        expirer.answer(answer).unwrap();
    }

    #[test]
    fn what_has_no_seal_goes_and_its_note_after_it() {
        let mut expirer = Expirer::new(bodies(&[1, 2]));
        go(&mut expirer, &Step::PutNotes(bodies(&[1, 2])), Answer::NotesPut(notes(&[1, 2])));
        go(&mut expirer, &Step::Wait(After::Notes), Answer::Waited);
        go(&mut expirer, &Step::ListSeals(bodies(&[1, 2])), Answer::Sealed(bodies(&[2])));
        go(&mut expirer, &Step::DeleteBodies(bodies(&[1])), Answer::BodiesDeleted);
        go(&mut expirer, &Step::Wait(After::Delete), Answer::Waited);
        go(&mut expirer, &Step::DeleteNotes([note(1), note(2)].into()), Answer::NotesDeleted);
        assert_eq!(*expirer.step(), Step::Done(1));
    }

    #[test]
    fn what_others_began_is_finished_under_notes_of_our_own() {
        let mut expirer = Expirer::adopt(notes(&[1, 2]));
        go(&mut expirer, &Step::PutNotes(bodies(&[1, 2])), Answer::NotesPut(own_notes(&[1, 2])));
        go(&mut expirer, &Step::Wait(After::Notes), Answer::Waited);
        go(&mut expirer, &Step::ListSeals(bodies(&[1, 2])), Answer::Sealed(bodies(&[2])));
        go(&mut expirer, &Step::DeleteBodies(bodies(&[1])), Answer::BodiesDeleted);
        go(&mut expirer, &Step::Wait(After::Delete), Answer::Waited);
        go(&mut expirer, &Step::DeleteNotes([note(1), note(101), note(102)].into()), Answer::NotesDeleted);
        assert_eq!(*expirer.step(), Step::Done(1));
    }

    #[test]
    fn notes_of_others_on_sealed_bodies_stay() {
        let mut expirer = Expirer::adopt(notes(&[2]));
        go(&mut expirer, &Step::PutNotes(bodies(&[2])), Answer::NotesPut(own_notes(&[2])));
        go(&mut expirer, &Step::Wait(After::Notes), Answer::Waited);
        go(&mut expirer, &Step::ListSeals(bodies(&[2])), Answer::Sealed(bodies(&[2])));
        go(&mut expirer, &Step::DeleteNotes([note(102)].into()), Answer::NotesDeleted);
        assert_eq!(*expirer.step(), Step::Done(0));
        assert_eq!(*Expirer::adopt(notes(&[])).step(), Step::Done(0));
    }

    #[test]
    fn wrong_answers_change_nothing() {
        let mut expirer = Expirer::new(bodies(&[1]));
        let before = expirer.clone();
        assert!(expirer.answer(Answer::Sealed(bodies(&[]))).is_err());
        assert_eq!(expirer, before);
        assert_eq!(*Expirer::new(bodies(&[])).step(), Step::Done(0));
    }
}
