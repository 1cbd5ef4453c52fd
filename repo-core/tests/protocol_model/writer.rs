//! The writer's driver.

use repo_core::protocol::writer::{Answer, Outcome, Step};

use crate::{
    config::{Mutation, Wait},
    process::{Job, Process, Steps, What, WriterRun, event},
    world::{Bits, Kind, Slot, World, bit, each},
};

const CLAIMS: u8 = 2;

impl WriterRun {
    fn answer(&mut self, answer: Answer) {
        self.machine.answer(answer).expect("the step's own answer");
    }
}

/// Packs that together hold as many of these blobs as there are in `packs`.
fn pick(world: &World, blobs: Bits, packs: impl Iterator<Item = u8>) -> Bits {
    let (mut found, mut open) = (0, blobs);
    for pack in packs {
        let holds = world.about(Kind::Packs, bit(pack));
        if holds & open != 0 {
            found |= bit(pack);
            open &= !holds;
        }
    }
    found
}

impl Steps<'_> {
    pub(crate) fn writer(&mut self, mut run: WriterRun) {
        let kept = run.clone();
        let same = || Job::Writer(kept);
        let (world, process) = (self.world, self.process.clone());
        if run.edits && run.needs == 0 {
            run.needs = world.about(Kind::Bodies, bit(process.committed));
        }
        let unchecked = self.has(Mutation::WriterChecksNothing) || run.edits && self.has(Mutation::EditorChecksNothing);
        match run.machine.step().clone() {
            Step::ListIndex => {
                for runs in self.list(Kind::Runs, true, same) {
                    let mut choices = Vec::new();
                    let known = world.about(Kind::Runs, runs);
                    for found in [
                        pick(&world, run.needs, each(known)),
                        pick(&world, run.needs, each(known).collect::<Vec<_>>().into_iter().rev()),
                    ] {
                        if choices.contains(&found) {
                            continue;
                        }
                        choices.push(found);
                        let missing = run.needs & !world.about(Kind::Packs, found);
                        let merges = self.actor.config.merges && missing != 0;
                        let mut run =
                            WriterRun { known, found, missing, runs: if merges { runs } else { 0 }, ..run.clone() };
                        run.answer(Answer::IndexListed);
                        self.write_on(("W1 lists the index", runs), world, self.process.clone(), run);
                    }
                }
            }
            Step::Store | Step::Rescue(_) => self.store(run),
            Step::PutBody if run.claims == CLAIMS => self.stop(("has claimed often enough", 0), world, process),
            Step::PutBody => {
                let Some((world, slot)) = self.put(Kind::Bodies, run.needs, same) else { return };
                run.claims += 1;
                if run.claims > 1 {
                    self.events |= event::CLAIMED_TWICE;
                }
                let mut process = self.process.clone();
                self.wait(Wait::Claim, &world, &mut process);
                run.answer(Answer::BodyPut(Slot::of(slot)));
                self.write_on(("W4 puts the body", bit(slot)), world, process, run);
            }
            Step::ListMarks if unchecked || self.has(Mutation::WriterListsNoMarks) => {
                run.answer(Answer::Marks(Slot::set(0)));
                self.write_on(("W5 lists no marks", 0), world, process, run);
            }
            Step::ListMarks if self.has(Mutation::WriterListsPacksBeforeMarks) && run.early.is_none() => {
                for packs in self.list(Kind::Packs, false, same) {
                    let run = WriterRun { early: Some(packs), ..run.clone() };
                    self.write_on(("W6 lists the packs, too early", packs), world, self.process.clone(), run);
                }
            }
            Step::ListMarks => {
                for marks in self.list(Kind::Marks, true, same) {
                    let mut run = run.clone();
                    let blind = run.leans.is_some() && self.has(Mutation::LeanerLooksForNoMarks);
                    if marks != 0 && !blind {
                        // Everything is looked through.
                        run.leans = None;
                    }
                    let condemned = if blind { 0 } else { world.about(Kind::Marks, marks) };
                    run.answer(Answer::Marks(Slot::set(condemned)));
                    self.write_on(("W5 lists the marks", marks), world, self.process.clone(), run);
                }
            }
            Step::ListPacks if run.leans.is_some() => {
                let basis = run.leans.take().unwrap_or_default();
                let unseen = self.has(Mutation::LeanerLooksForNoBasis);
                for is_there in if unseen { &[true][..] } else { world.find(Kind::Bodies, basis) } {
                    if !is_there {
                        self.stop(("W5a misses its original", bit(basis)), world, process.clone());
                        continue;
                    }
                    self.events |= event::LEANED;
                    let mut run = run.clone();
                    let needed = run.machine.needed().clone();
                    run.answer(Answer::Packs(needed));
                    self.write_on(("W5a looks for its original", bit(basis)), world, process.clone(), run);
                }
            }
            Step::ListPacks if unchecked || self.has(Mutation::WriterListsNoPacks) => {
                let needed = run.machine.needed().clone();
                run.answer(Answer::Packs(needed));
                self.write_on(("W6 lists no packs", 0), world, process, run);
            }
            Step::ListPacks if run.early.is_some() => {
                let packs = run.early.take().unwrap_or_default();
                run.answer(Answer::Packs(Slot::set(packs)));
                self.write_on(("W6 has listed the packs", packs), world, process, run);
            }
            Step::ListPacks => {
                let index = self.has(Mutation::WriterBelievesAFreshIndex);
                let kind = if index { Kind::Runs } else { Kind::Packs };
                for listed in self.list(kind, index, same) {
                    let packs = if index { world.about(Kind::Runs, listed) } else { listed };
                    let mut run = run.clone();
                    run.answer(Answer::Packs(Slot::set(packs)));
                    self.write_on(("W6 lists the packs", packs), world, self.process.clone(), run);
                }
            }
            Step::PutSeal(body) => {
                let Some((world, _)) = self.put(Kind::Seals, bit(body.slot()), same) else { return };
                let mut process = self.process.clone();
                self.wait(Wait::Seal, &world, &mut process);
                run.answer(Answer::SealPut);
                self.write_on(("W8 seals", bit(body.slot())), world, process, run);
            }
            Step::ListExpireNotes if self.has(Mutation::WriterLooksForNoNotes) => {
                run.answer(Answer::ExpireNotes(Slot::set(0)));
                self.write_on(("W9 lists no notes", 0), world, process, run);
            }
            Step::ListExpireNotes => {
                for notes in self.list(Kind::Notes, true, same) {
                    let mut run = run.clone();
                    run.answer(Answer::ExpireNotes(Slot::set(world.about(Kind::Notes, notes))));
                    self.write_on(("W9 lists the notes", notes), world, self.process.clone(), run);
                }
            }
            Step::FindBody(body) => {
                let unseen = self.has(Mutation::WriterLooksForNoBody);
                for is_there in if unseen { &[true][..] } else { world.find(Kind::Bodies, body.slot()) } {
                    let mut run = run.clone();
                    run.answer(Answer::BodyFound(*is_there));
                    self.write_on(("W10 looks for the body", u16::from(*is_there)), world, process.clone(), run);
                }
            }
            Step::Done(_) => {}
        }
    }

    /// W2 and W3, and the same after W7: one operation of it.
    fn store(&mut self, mut run: WriterRun) {
        let kept = run.clone();
        let same = || Job::Writer(kept);
        if run.missing != 0 && !self.has_source(&run) {
            let process = self.process.clone();
            self.stop(("cannot read what it needs", run.missing), self.world, process);
        } else if run.missing != 0 {
            let Some((world, slot)) = self.put(Kind::Packs, run.missing, same) else { return };
            run.pack = bit(slot);
            run.missing = 0;
            self.write_on(("W2 puts a pack", run.pack), world, self.process.clone(), run);
        } else if run.pack != 0 && run.runs != 0 {
            for listed in self.list(Kind::Runs, false, same) {
                let run = WriterRun { merged: run.runs & listed, runs: 0, ..run.clone() };
                self.write_on(("W3 lists the runs", listed), self.world, self.process.clone(), run);
            }
        } else if run.pack != 0 {
            let names = run.pack | self.world.about(Kind::Runs, run.merged);
            let Some((world, _)) = self.put(Kind::Runs, names, same) else { return };
            run.found |= run.pack;
            run.known |= run.pack;
            run.pack = 0;
            let mut process = self.process.clone();
            if run.merged != 0 {
                self.wait(Wait::Merge, &world, &mut process);
            }
            self.write_on(("W3 puts a run for", names), world, process, run);
        } else {
            let mut todo = run.merged;
            let (world, deleted) = self.delete(Kind::Runs, &mut todo);
            run.merged = todo;
            self.write_on(("W3 deletes a run it has merged", deleted), world, self.process.clone(), run);
        }
    }

    /// Goes on to the next operation.
    fn write_on(&mut self, what: What, world: World, mut process: Process, mut run: WriterRun) {
        loop {
            match run.machine.step().clone() {
                Step::Store | Step::Rescue(_) if run.missing != 0 || run.pack != 0 || run.merged != 0 => break,
                Step::Store => {
                    run.runs = 0;
                    run.answer(Answer::Stored(Slot::set(run.found)));
                }
                Step::Rescue(lost) if (run.known | run.found) & Slot::bits(&lost) != 0 => {
                    if run.machine.rescues() > self.actor.config.rescues {
                        return self.stop(what, world, process);
                    }
                    self.events |= event::WRITER_RESCUED;
                    let lost = Slot::bits(&lost);
                    run.known &= !lost;
                    run.found &= !lost;
                    let open = run.needs & !world.about(Kind::Packs, run.found);
                    run.found |= pick(&world, open, each(run.known));
                    run.missing = run.needs & !world.about(Kind::Packs, run.found);
                }
                Step::Rescue(_) => {
                    self.wait(Wait::WriterRescue, &world, &mut process);
                    run.answer(Answer::Stored(Slot::set(run.found)));
                }
                Step::Done(Outcome::Committed(body)) => {
                    self.events |= event::COMMITTED;
                    process.old = process.committed;
                    process.committed = body.slot();
                    return self.done(what, world, process, bit(body.slot()));
                }
                Step::PutBody if run.dies => return self.done(what, world, process, 0),
                Step::Done(Outcome::PrunedAway) => return self.stop(what, world, process),
                _ => break,
            }
        }
        self.go(what, world, process, Job::Writer(run));
    }

    /// Whether all that is to be stored can be had: an edit has to read it from the store.
    fn has_source(&self, run: &WriterRun) -> bool {
        !run.edits || run.missing & !self.world.about(Kind::Packs, self.world.here(Kind::Packs)) == 0
    }
}
