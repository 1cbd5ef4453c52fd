//! The writer: whoever adds a snapshot (backup, tag, rewrite, copy). Claim, then check, then commit.
//!
//! ```text
//! W1  list the index            decide what is missing
//! W2  put missing packs         barrier
//! W3  put index runs            barrier
//! W4  put the snapshot body     CLAIM; barrier, and wait until it is visible everywhere
//! W5  list marks
//! W6  list packs                begins after W5 has ended
//! W7  every pack that is needed is listed in W6 and condemned by no mark of W5
//!       no  -> store its blobs again, put index, go to W5
//! W8  put the seal              COMMIT
//! W9  list expire notes
//! W10 is the body still there?    begins after W9 has ended
//!       it is not, or a note names it -> not a success: a new body, go to W4
//! ```
//!
//! Why the orders are what they are, and the proof: `docs/protocol.md`.

use std::collections::BTreeSet;

use crate::{
    id::{PackId, SnapshotId},
    protocol::WrongAnswer,
};

pub use crate::protocol::RESCUES_MAX;

/// How often a body that was expired under the writer is put anew.
pub const CLAIMS_MAX: u32 = 5;

/// What to do next. A step has ended when its effect is durable and visible, not when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// W1: list and read the index.
    ListIndex,
    /// W2 and W3: put packs, then index runs; tell which packs the snapshot needs, new and old.
    Store,
    /// W4: put the snapshot body, wait for visibility.
    PutBody,
    /// W5: list marks and tell which packs they condemn.
    ListMarks,
    /// W6: list packs.
    ListPacks,
    /// W7 said no: store the blobs that are needed from these packs again, put index runs.
    Rescue(BTreeSet<PackId>),
    /// W8: put the seal for this body.
    PutSeal(SnapshotId),
    /// W9: list expire notes and tell which bodies they name.
    ListExpireNotes,
    /// W10: look whether this body is there. Begins after W9 has ended: a note goes only after its body.
    FindBody(SnapshotId),
    /// Nothing more.
    Done(Outcome),
}

/// How a writer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The snapshot is committed.
    Committed(SnapshotId),
    /// Pruners were faster again and again; the body stays tentative and protects what it can.
    PrunedAway,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Step::ListIndex`].
    IndexListed,
    /// To [`Step::Store`] and [`Step::Rescue`]: the packs that hold what the snapshot needs now.
    Stored(BTreeSet<PackId>),
    /// To [`Step::PutBody`].
    BodyPut(SnapshotId),
    /// To [`Step::ListMarks`]: every condemned pack.
    Marks(BTreeSet<PackId>),
    /// To [`Step::ListPacks`]: those of the needed packs that are there.
    Packs(BTreeSet<PackId>),
    /// To [`Step::PutSeal`].
    SealPut,
    /// To [`Step::ListExpireNotes`]: every body that is being removed.
    ExpireNotes(BTreeSet<SnapshotId>),
    /// To [`Step::FindBody`]: whether it is there.
    BodyFound(bool),
}

/// The writer's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Writer {
    step: Step,
    needed: BTreeSet<PackId>,
    condemned: BTreeSet<PackId>,
    body: Option<SnapshotId>,
    rescues: u32,
    claims: u32,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            step: Step::ListIndex,
            needed: BTreeSet::new(),
            condemned: BTreeSet::new(),
            body: None,
            rescues: 0,
            claims: 0,
        }
    }
}

impl Writer {
    /// What to do next.
    #[must_use]
    pub const fn step(&self) -> &Step {
        &self.step
    }

    /// How often something had to be stored again after the claim.
    #[must_use]
    pub const fn rescues(&self) -> u32 {
        self.rescues
    }

    /// The packs the snapshot needs.
    #[must_use]
    pub const fn needed(&self) -> &BTreeSet<PackId> {
        &self.needed
    }

    /// Takes what came of the step and goes on to the next.
    ///
    /// # Errors
    /// When the answer belongs to another step; the state is as before.
    pub fn answer(&mut self, answer: Answer) -> Result<(), WrongAnswer> {
        let next = match (&self.step, answer) {
            (Step::ListIndex, Answer::IndexListed) => Step::Store,
            (Step::Store, Answer::Stored(needed)) => {
                self.needed = needed;
                Step::PutBody
            }
            // The body is already there and claims; only the check is repeated.
            (Step::Rescue(_), Answer::Stored(needed)) => {
                self.needed = needed;
                Step::ListMarks
            }
            (Step::PutBody, Answer::BodyPut(body)) => {
                self.body = Some(body);
                self.claims += 1;
                Step::ListMarks
            }
            (Step::ListMarks, Answer::Marks(condemned)) => {
                self.condemned = condemned;
                Step::ListPacks
            }
            (Step::ListPacks, Answer::Packs(present)) => self.check(&present),
            (Step::PutSeal(_), Answer::SealPut) => Step::ListExpireNotes,
            (Step::ListExpireNotes, Answer::ExpireNotes(expired)) => match self.body {
                Some(body) if !expired.contains(&body) => Step::FindBody(body),
                _ => self.claim_again(),
            },
            (Step::FindBody(body), Answer::BodyFound(true)) => Step::Done(Outcome::Committed(*body)),
            (Step::FindBody(_), Answer::BodyFound(false)) => self.claim_again(),
            (step, answer) => return Err(WrongAnswer::new(step, &answer)),
        };
        self.step = next;
        Ok(())
    }

    /// W7.
    fn check(&mut self, present: &BTreeSet<PackId>) -> Step {
        let counts = |pack: &&PackId| present.contains(pack) && !self.condemned.contains(pack);
        let lost: BTreeSet<PackId> = self.needed.iter().filter(|pack| !counts(pack)).copied().collect();
        match self.body {
            Some(body) if lost.is_empty() => Step::PutSeal(body),
            _ if self.rescues < RESCUES_MAX => {
                self.rescues += 1;
                Step::Rescue(lost)
            }
            _ => Step::Done(Outcome::PrunedAway),
        }
    }

    /// W9 or W10 found that the body was expired under us.
    fn claim_again(&self) -> Step {
        if self.claims < CLAIMS_MAX { Step::PutBody } else { Step::Done(Outcome::PrunedAway) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs(numbers: &[u8]) -> BTreeSet<PackId> {
        numbers.iter().map(|number| PackId([*number; 32])).collect()
    }

    const BODY: SnapshotId = SnapshotId([9; 32]);

    fn claimed(needed: &[u8]) -> Writer {
        let mut writer = Writer::default();
        for answer in [Answer::IndexListed, Answer::Stored(packs(needed)), Answer::BodyPut(BODY)] {
            writer.answer(answer).unwrap();
        }
        writer
    }

    #[test]
    fn the_straight_way() {
        let mut writer = claimed(&[1, 2]);
        assert_eq!(*writer.step(), Step::ListMarks);
        writer.answer(Answer::Marks(packs(&[3]))).unwrap();
        assert_eq!(*writer.step(), Step::ListPacks);
        writer.answer(Answer::Packs(packs(&[1, 2, 3]))).unwrap();
        assert_eq!(*writer.step(), Step::PutSeal(BODY));
        writer.answer(Answer::SealPut).unwrap();
        writer.answer(Answer::ExpireNotes(BTreeSet::new())).unwrap();
        assert_eq!(*writer.step(), Step::FindBody(BODY));
        writer.answer(Answer::BodyFound(true)).unwrap();
        assert_eq!(*writer.step(), Step::Done(Outcome::Committed(BODY)));
    }

    #[test]
    fn condemned_and_absent_packs_do_not_count() {
        for (marks, present, lost) in [(&[2][..], &[1, 2][..], &[2][..]), (&[], &[1], &[2]), (&[1], &[2], &[1])] {
            let mut writer = claimed(&[1, 2]);
            writer.answer(Answer::Marks(packs(marks))).unwrap();
            writer.answer(Answer::Packs(packs(present))).unwrap();
            assert_eq!(*writer.step(), Step::Rescue(packs(lost)));
            writer.answer(Answer::Stored(packs(&[1, 7]))).unwrap();
            assert_eq!(*writer.step(), Step::ListMarks, "checked anew after a rescue");
        }
    }

    #[test]
    fn rescues_are_bounded() {
        let mut writer = claimed(&[1]);
        for _ in 0..RESCUES_MAX {
            writer.answer(Answer::Marks(packs(&[1]))).unwrap();
            writer.answer(Answer::Packs(packs(&[1]))).unwrap();
            writer.answer(Answer::Stored(packs(&[1]))).unwrap();
        }
        writer.answer(Answer::Marks(packs(&[1]))).unwrap();
        writer.answer(Answer::Packs(packs(&[1]))).unwrap();
        assert_eq!(*writer.step(), Step::Done(Outcome::PrunedAway));
    }

    /// The expirer deletes the body and then its note: whoever misses the note has to miss the body.
    #[test]
    fn an_expired_body_is_no_success() {
        for has_note in [true, false] {
            let mut writer = claimed(&[]);
            for _ in 0..CLAIMS_MAX {
                assert_eq!(*writer.step(), Step::ListMarks);
                writer.answer(Answer::Marks(packs(&[]))).unwrap();
                writer.answer(Answer::Packs(packs(&[]))).unwrap();
                writer.answer(Answer::SealPut).unwrap();
                if has_note {
                    writer.answer(Answer::ExpireNotes([BODY].into())).unwrap();
                } else {
                    writer.answer(Answer::ExpireNotes([SnapshotId([8; 32])].into())).unwrap();
                    writer.answer(Answer::BodyFound(false)).unwrap();
                }
                if *writer.step() == Step::PutBody {
                    writer.answer(Answer::BodyPut(BODY)).unwrap();
                }
            }
            assert_eq!(*writer.step(), Step::Done(Outcome::PrunedAway));
        }
    }

    #[test]
    fn wrong_answers_change_nothing() {
        let mut writer = Writer::default();
        let before = writer.clone();
        assert!(writer.answer(Answer::SealPut).is_err());
        assert_eq!(writer, before);
    }
}
