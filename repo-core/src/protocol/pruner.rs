//! The pruner: whoever deletes packs. Condemn, then look for claims, then delete.
//!
//! ```text
//! P1  list marks                those whose owner seems dead are taken over: wait, then from P5 on
//! P2  list bodies, walk         what they need is live
//! P3  choose victims            copy what is live in them, put index runs; barrier
//! P4  put the mark              CONDEMN; barrier, and wait until it is visible everywhere
//! P5  list bodies again, walk what is new
//! P6  list marks
//! P7  list packs and the index  begins after P6 has ended
//! P8  every live blob lies in a pack that is listed in P7, in the index, and in no mark of P6, our own included
//!       no, but it is somewhere -> copy it, put index runs, wait, go to P5
//!       it is nowhere           -> look once more from P5 on; then end and delete nothing
//! P9  put index runs without the victims; barrier, wait; delete the runs they replace
//! P10 delete the victims        barrier, and wait
//! P11 delete the mark           last
//! ```
//!
//! Why the orders are what they are, and the proof: `docs/protocol.md`.
//!
//! The machine knows packs and marks. What is live, and where it lies, is the driver's to know: one bit for each entry of the
//! index is enough.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{NoteId, PackId},
    protocol::{RESCUES_MAX, WrongAnswer},
};

/// What to do next. A step has ended when its effect is durable, not when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// P1 and P6: list and read the marks; all of them, whoever put them. Begins after the step before has ended.
    ListMarks,
    /// P2 and P5: list the bodies, sealed or not, *then* load the index, then walk the trees that were not walked before. Live is
    /// what the bodies of this listing need; those of an earlier listing that are gone were forgotten and do not count any more.
    ///
    /// A blob that the walk does not find is looked for again in an index that is loaded once more, the visibility delay later:
    /// its run was put before its body, but the listing may have shown them the other way round. If it is still missing,
    /// the answer is the same; the driver remembers it and tells of it at the next [`Step::ChooseVictims`] or [`Step::Check`].
    ListRoots,
    /// P3, first half: list the packs and choose those that are to go, by the index and the roots of P2. A pack that the index
    /// names and that is not there should be chosen, too: that is how entries without a pack leave the index. So may packs that no
    /// index run names.
    ChooseVictims {
        /// What others have condemned: no copy in these counts, and they need not be chosen.
        condemned: BTreeSet<PackId>,
    },
    /// P3, second half: copy what is live and lies in these packs, and nowhere else that counts, to new packs; then put index runs
    /// for those. Barrier after the packs, and after the runs. A source that is not there any more is passed over: P8 will tell.
    CopyLive(BTreeSet<PackId>),
    /// P4: put one mark that names exactly these.
    PutMark(BTreeSet<PackId>),
    /// Wait the store's visibility delay.
    Wait(After),
    /// P7: list the packs, and load the index. Begins after P6 has ended; nothing of it may be older.
    ListPacks,
    /// P8: look whether every live blob lies in a pack that P7 listed in full length, that the index of P7 names, and that is not
    /// condemned.
    ///
    /// At a second look the driver may leave out of account what only tentative bodies need, if it lies in *no* pack that P7 listed.
    /// The index cannot tell that, since a listing can miss an old run and the one it is merged into; packs that no run of
    /// P7 names have to be read. What no pack holds is not deleted by us, and its writer finds out in W7.
    Check {
        /// What does not count: our own victims, and what the marks of P6 name.
        condemned: BTreeSet<PackId>,
    },
    /// P8 said no: copy what is missing from wherever it still is, condemned packs included, to new packs; then put index runs.
    /// Barriers as for [`Step::CopyLive`], and as there a source that has vanished is passed over.
    Rescue {
        /// Where copies do not count.
        condemned: BTreeSet<PackId>,
    },
    /// P9: for the runs of P7's index that name any of these, put runs with the same entries without these. Runs that P7 did not
    /// read are left alone, and so is every other entry, even one whose pack seems to be gone.
    PutIndex(BTreeSet<PackId>),
    /// P9: delete the runs that [`Step::PutIndex`] has replaced, and no others.
    DeleteRuns,
    /// P10: delete these packs. Goes on when every single one is gone or was not there.
    DeletePacks(BTreeSet<PackId>),
    /// P11: delete these marks.
    DeleteMarks(BTreeSet<NoteId>),
    /// Nothing more.
    Done(Outcome),
}

/// After what to wait for visibility.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum After {
    /// A mark was put, or found and taken over: whoever lists marks from now on shall see it, and we shall see every body that was
    /// put before.
    Mark,
    /// Something was stored again, or was not found: the next listing shall show what there is by now.
    Rescue,
    /// Index runs were put: they shall be found before those go that they replace.
    Index,
    /// Packs were deleted: whoever misses the mark shall miss them, too.
    Delete,
}

/// Which snapshot lacks a blob that is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    /// A seal names it: the repository is damaged.
    Committed,
    /// It is tentative: its writer may be about to store the blob, or died before.
    Tentative,
}

/// How a pruner ended. Only with [`Outcome::Pruned`] anything was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// There was nothing to delete, and no mark was put.
    Nothing,
    /// The victims, their entries in the index and the mark are gone.
    Pruned,
    /// Others condemned what was copied again and again. The mark stays; the next pruner takes it over.
    GaveUp,
    /// Something is needed and nowhere, also on a second look. If there is a mark, it stays.
    Missing(Root),
}

/// A mark as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MarkFound {
    /// What it condemns.
    pub packs: BTreeSet<PackId>,
    /// Whether its owner seems to be dead. To be wrong about that is safe: two may finish the same mark.
    pub is_abandoned: bool,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Step::ListMarks`].
    Marks(BTreeMap<NoteId, MarkFound>),
    /// To [`Step::ListRoots`].
    RootsListed,
    /// To [`Step::ChooseVictims`]: all that shall go in this run; none ends it.
    Victims(BTreeSet<PackId>),
    /// To [`Step::ChooseVictims`] and [`Step::Check`]: something live is in no pack that is listed and indexed, condemned or not.
    /// [`Root::Committed`] if any of those that lack it is.
    Missing(Root),
    /// To [`Step::CopyLive`] and [`Step::Rescue`].
    Copied,
    /// To [`Step::PutMark`].
    MarkPut(NoteId),
    /// To [`Step::Wait`].
    Waited,
    /// To [`Step::ListPacks`].
    PacksListed,
    /// To [`Step::Check`]: every live blob lies in a pack that counts.
    Covered,
    /// To [`Step::Check`]: those that do not lie in one that counts all lie in others that are listed and indexed.
    Rescuable,
    /// To [`Step::PutIndex`].
    IndexPut,
    /// To [`Step::DeleteRuns`].
    RunsDeleted,
    /// To [`Step::DeletePacks`].
    PacksDeleted,
    /// To [`Step::DeleteMarks`].
    MarksDeleted,
}

/// The pruner's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pruner {
    step: Step,
    victims: BTreeSet<PackId>,
    /// Our own mark, or those taken over. None before P4.
    marks: BTreeSet<NoteId>,
    condemned: BTreeSet<PackId>,
    rescues: u32,
    /// Something was nowhere when it was looked for the last time.
    missed: bool,
}

impl Default for Pruner {
    fn default() -> Self {
        Self {
            step: Step::ListMarks,
            victims: BTreeSet::new(),
            marks: BTreeSet::new(),
            condemned: BTreeSet::new(),
            rescues: 0,
            missed: false,
        }
    }
}

impl Pruner {
    /// What to do next.
    #[must_use]
    pub const fn step(&self) -> &Step {
        &self.step
    }

    /// What will be deleted; none before P4 has begun.
    #[must_use]
    pub const fn victims(&self) -> &BTreeSet<PackId> {
        &self.victims
    }

    /// The marks that are being finished: our own, or those taken over in P1. After such a run the driver starts anew for victims
    /// of its own.
    #[must_use]
    pub const fn marks(&self) -> &BTreeSet<NoteId> {
        &self.marks
    }

    /// How often something had to be copied after the mark.
    #[must_use]
    pub const fn rescues(&self) -> u32 {
        self.rescues
    }

    /// Takes what came of the step and goes on to the next.
    ///
    /// # Errors
    /// When the answer belongs to another step; the state is as before.
    pub fn answer(&mut self, answer: Answer) -> Result<(), WrongAnswer> {
        let next = match (&self.step, answer) {
            (Step::ListMarks, Answer::Marks(marks)) if self.marks.is_empty() => self.start(marks),
            (Step::ListMarks, Answer::Marks(marks)) => {
                self.condemned = marks.into_values().flat_map(|mark| mark.packs).collect();
                self.condemned.extend(&self.victims);
                Step::ListPacks
            }
            (Step::ListRoots, Answer::RootsListed) if self.marks.is_empty() => {
                Step::ChooseVictims { condemned: self.condemned.clone() }
            }
            (Step::ListRoots, Answer::RootsListed) => Step::ListMarks,
            (Step::ChooseVictims { .. }, Answer::Victims(victims)) if victims.is_empty() => {
                Step::Done(Outcome::Nothing)
            }
            (Step::ChooseVictims { .. }, Answer::Victims(victims)) => {
                self.victims = victims;
                self.missed = false;
                Step::CopyLive(self.victims.clone())
            }
            (Step::CopyLive(_), Answer::Copied) => Step::PutMark(self.victims.clone()),
            (Step::PutMark(_), Answer::MarkPut(mark)) => {
                self.marks.insert(mark);
                Step::Wait(After::Mark)
            }
            (Step::Wait(After::Mark | After::Rescue), Answer::Waited) => Step::ListRoots,
            (Step::ListPacks, Answer::PacksListed) => Step::Check { condemned: self.condemned.clone() },
            (Step::Check { .. }, Answer::Covered) => Step::PutIndex(self.victims.clone()),
            (Step::Check { .. }, Answer::Rescuable) if self.rescues < RESCUES_MAX => {
                self.rescues += 1;
                Step::Rescue { condemned: self.condemned.clone() }
            }
            (Step::Check { .. }, Answer::Rescuable) => Step::Done(Outcome::GaveUp),
            (Step::ChooseVictims { .. } | Step::Check { .. }, Answer::Missing(root)) => self.look_again(root),
            (Step::Rescue { .. }, Answer::Copied) => Step::Wait(After::Rescue),
            (Step::PutIndex(_), Answer::IndexPut) => Step::Wait(After::Index),
            (Step::Wait(After::Index), Answer::Waited) => Step::DeleteRuns,
            (Step::DeleteRuns, Answer::RunsDeleted) => Step::DeletePacks(self.victims.clone()),
            (Step::DeletePacks(_), Answer::PacksDeleted) => Step::Wait(After::Delete),
            (Step::Wait(After::Delete), Answer::Waited) => Step::DeleteMarks(self.marks.clone()),
            (Step::DeleteMarks(_), Answer::MarksDeleted) => Step::Done(Outcome::Pruned),
            (step, answer) => return Err(WrongAnswer::new(step, &answer)),
        };
        self.step = next;
        Ok(())
    }

    /// P1: takes over what others left, if they did.
    fn start(&mut self, marks: BTreeMap<NoteId, MarkFound>) -> Step {
        for (id, mark) in marks {
            if mark.is_abandoned {
                self.marks.insert(id);
                self.victims.extend(mark.packs);
            } else {
                self.condemned.extend(mark.packs);
            }
        }
        // That we see a mark does not mean that others see it; and a body put before it may not be visible to us yet.
        if self.marks.is_empty() { Step::ListRoots } else { Step::Wait(After::Mark) }
    }

    /// A listing that ran beside a rewrite of the index can have missed the old run and the new one; so nobody is alarmed by one
    /// look. Nothing is ever deleted after it, however often it was looked.
    fn look_again(&mut self, root: Root) -> Step {
        if self.missed {
            return Step::Done(Outcome::Missing(root));
        }
        self.missed = true;
        Step::Wait(After::Rescue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NoteId = NoteId([1; 32]);
    const OTHER: NoteId = NoteId([2; 32]);

    fn packs(numbers: &[u8]) -> BTreeSet<PackId> {
        numbers.iter().map(|number| PackId([*number; 32])).collect()
    }

    fn marks(found: &[(NoteId, &[u8], bool)]) -> Answer {
        let mark = |(id, of, is_abandoned): &(NoteId, &[u8], bool)| {
            (*id, MarkFound { packs: packs(of), is_abandoned: *is_abandoned })
        };
        Answer::Marks(found.iter().map(mark).collect())
    }

    /// Answers a step after having checked which it is.
    fn go(pruner: &mut Pruner, step: &Step, answer: Answer) {
        assert_eq!(pruner.step(), step);
        pruner.answer(answer).unwrap();
    }

    /// Up to the end of P4.
    fn condemned(victims: &[u8]) -> Pruner {
        let mut pruner = Pruner::default();
        go(&mut pruner, &Step::ListMarks, marks(&[(OTHER, &[7], false)]));
        go(&mut pruner, &Step::ListRoots, Answer::RootsListed);
        go(&mut pruner, &Step::ChooseVictims { condemned: packs(&[7]) }, Answer::Victims(packs(victims)));
        go(&mut pruner, &Step::CopyLive(packs(victims)), Answer::Copied);
        go(&mut pruner, &Step::PutMark(packs(victims)), Answer::MarkPut(OWN));
        pruner
    }

    /// P5 to P8.
    fn look(pruner: &mut Pruner, others: &[(NoteId, &[u8], bool)], counts_not: &[u8], answer: Answer) {
        go(pruner, &Step::ListRoots, Answer::RootsListed);
        go(pruner, &Step::ListMarks, marks(others));
        go(pruner, &Step::ListPacks, Answer::PacksListed);
        go(pruner, &Step::Check { condemned: packs(counts_not) }, answer);
    }

    fn finish(pruner: &mut Pruner, victims: &[u8], marks: &[NoteId]) {
        go(pruner, &Step::PutIndex(packs(victims)), Answer::IndexPut);
        go(pruner, &Step::Wait(After::Index), Answer::Waited);
        go(pruner, &Step::DeleteRuns, Answer::RunsDeleted);
        go(pruner, &Step::DeletePacks(packs(victims)), Answer::PacksDeleted);
        go(pruner, &Step::Wait(After::Delete), Answer::Waited);
        go(pruner, &Step::DeleteMarks(marks.iter().copied().collect()), Answer::MarksDeleted);
        assert_eq!(*pruner.step(), Step::Done(Outcome::Pruned));
    }

    #[test]
    fn the_straight_way() {
        let mut pruner = condemned(&[1, 2]);
        go(&mut pruner, &Step::Wait(After::Mark), Answer::Waited);
        look(&mut pruner, &[(OWN, &[1, 2], false), (OTHER, &[7], false)], &[1, 2, 7], Answer::Covered);
        finish(&mut pruner, &[1, 2], &[OWN]);
    }

    #[test]
    fn nothing_to_do() {
        let mut pruner = Pruner::default();
        pruner.answer(marks(&[])).unwrap();
        pruner.answer(Answer::RootsListed).unwrap();
        pruner.answer(Answer::Victims(BTreeSet::new())).unwrap();
        assert_eq!(*pruner.step(), Step::Done(Outcome::Nothing));
    }

    #[test]
    fn what_others_left_is_taken_over_after_a_wait() {
        let mut pruner = Pruner::default();
        let third = NoteId([3; 32]);
        go(&mut pruner, &Step::ListMarks, marks(&[(OWN, &[1], true), (OTHER, &[2], true), (third, &[3], false)]));
        go(&mut pruner, &Step::Wait(After::Mark), Answer::Waited);
        look(&mut pruner, &[(third, &[3], false)], &[1, 2, 3], Answer::Covered);
        finish(&mut pruner, &[1, 2], &[OWN, OTHER]);
    }

    #[test]
    fn rescues_are_checked_anew_and_bounded() {
        let mut pruner = condemned(&[1]);
        go(&mut pruner, &Step::Wait(After::Mark), Answer::Waited);
        for round in 0..RESCUES_MAX {
            assert_eq!(pruner.rescues(), round);
            look(&mut pruner, &[], &[1], Answer::Rescuable);
            go(&mut pruner, &Step::Rescue { condemned: packs(&[1]) }, Answer::Copied);
            go(&mut pruner, &Step::Wait(After::Rescue), Answer::Waited);
        }
        look(&mut pruner, &[], &[1], Answer::Rescuable);
        assert_eq!(*pruner.step(), Step::Done(Outcome::GaveUp));
    }

    #[test]
    fn nothing_is_deleted_when_something_is_nowhere() {
        for root in [Root::Committed, Root::Tentative] {
            let mut pruner = condemned(&[1]);
            go(&mut pruner, &Step::Wait(After::Mark), Answer::Waited);
            look(&mut pruner, &[], &[1], Answer::Missing(root));
            go(&mut pruner, &Step::Wait(After::Rescue), Answer::Waited);
            look(&mut pruner, &[], &[1], Answer::Missing(root));
            assert_eq!(*pruner.step(), Step::Done(Outcome::Missing(root)));
        }
    }

    #[test]
    fn wrong_answers_change_nothing() {
        let mut pruner = condemned(&[1]);
        let before = pruner.clone();
        for answer in [Answer::Covered, Answer::PacksDeleted, Answer::MarkPut(OTHER), Answer::Missing(Root::Committed)]
        {
            assert!(pruner.answer(answer).is_err());
            assert_eq!(pruner, before);
        }
    }
}
