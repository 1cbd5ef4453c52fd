//! The pruner's driver.

use std::collections::BTreeMap;

use repo_core::{
    id::NoteId,
    protocol::pruner::{After, Answer, MarkFound, Outcome, Root, Step},
};

use crate::{
    config::{Mutation, Wait},
    process::{Job, Process, PrunerRun, Steps, What, event},
    world::{Bits, Kind, Slot, World, bit, each, subsets},
};

impl PrunerRun {
    fn answer(&mut self, answer: Answer) {
        self.machine.answer(answer).expect("the step's own answer");
        self.half = false;
        self.todo = None;
    }

    fn live(&self, world: &World) -> Bits {
        world.about(Kind::Bodies, self.roots)
    }

    /// Packs that are listed and indexed.
    fn usable(&self, world: &World) -> Bits {
        self.packs & world.about(Kind::Runs, self.runs)
    }

    /// Live blobs in none of the packs that count.
    fn uncovered(&self, world: &World, condemned: Bits) -> Bits {
        self.live(world) & !world.about(Kind::Packs, self.usable(world) & !condemned)
    }
}

impl Steps<'_> {
    pub(crate) fn pruner(&mut self, mut run: PrunerRun) {
        let kept = run.clone();
        let same = || Job::Pruner(kept);
        let (world, process) = (self.world, self.process.clone());
        let has_condemned = !run.machine.marks().is_empty();
        match run.machine.step().clone() {
            Step::ListMarks if has_condemned && self.has(Mutation::PrunerIgnoresMarks) => {
                run.answer(Answer::Marks(BTreeMap::new()));
                self.prune_on(("P6 lists no marks", 0), world, process, run);
            }
            Step::ListMarks => self.list_marks(&run, has_condemned),
            Step::ListRoots if has_condemned && self.has(Mutation::PrunerListsRootsOnce) => {
                run.answer(Answer::RootsListed);
                self.prune_on(("P5 lists no bodies", 0), world, process, run);
            }
            Step::ListRoots if run.half => {
                for runs in self.list(Kind::Runs, true, same) {
                    let mut run = PrunerRun { runs, ..run.clone() };
                    run.answer(Answer::RootsListed);
                    self.prune_on(("P2 lists the index", runs), world, self.process.clone(), run);
                }
            }
            Step::ListRoots => {
                for roots in self.list(Kind::Bodies, true, same) {
                    let mut run = PrunerRun { roots, ..run.clone() };
                    if has_condemned {
                        run.answer(Answer::RootsListed);
                    } else {
                        run.half = true;
                    }
                    self.prune_on(("P2, P5 lists the bodies", roots), world, self.process.clone(), run);
                }
            }
            Step::ChooseVictims { condemned } => {
                for packs in self.list(Kind::Packs, false, same) {
                    let run = PrunerRun { packs, ..run.clone() };
                    let process = self.process.clone();
                    if run.uncovered(&world, 0) != 0 {
                        let mut run = run;
                        run.answer(Answer::Missing(Root::Tentative));
                        self.events |= event::MISSED;
                        self.prune_on(("P3 misses something", packs), world, process, run);
                        continue;
                    }
                    for victims in self.victims(&run, Slot::bits(&condemned)) {
                        let mut run = run.clone();
                        run.missing = run.live(&world) & world.about(Kind::Packs, victims);
                        run.missing &= run.uncovered(&world, Slot::bits(&condemned) | victims);
                        run.answer(Answer::Victims(Slot::set(victims)));
                        self.prune_on(("P3 chooses", victims), world, process.clone(), run);
                    }
                }
            }
            Step::CopyLive(_) | Step::Rescue { .. } => self.copy(run),
            Step::PutMark(packs) => {
                let packs = Slot::bits(&packs);
                let Some((world, slot)) = self.put(Kind::Marks, packs, same) else { return };
                let mut process = self.process.clone();
                self.wait(Wait::Mark, &world, &mut process);
                run.answer(Answer::MarkPut(Slot::of(slot)));
                self.prune_on(("P4 condemns", packs), world, process, run);
            }
            Step::ListPacks if self.has(Mutation::PrunerChecksByTheOldListing) => {
                run.answer(Answer::PacksListed);
                self.prune_on(("P7 lists no packs", 0), world, process, run);
            }
            Step::ListPacks if run.half => {
                for runs in self.list(Kind::Runs, true, same) {
                    let mut run = PrunerRun { runs, ..run.clone() };
                    run.answer(Answer::PacksListed);
                    self.prune_on(("P7 lists the index", runs), world, self.process.clone(), run);
                }
            }
            Step::ListPacks => {
                for packs in self.list(Kind::Packs, false, same) {
                    let run = PrunerRun { packs, half: true, ..run.clone() };
                    self.prune_on(("P7 lists the packs", packs), world, self.process.clone(), run);
                }
            }
            Step::PutIndex(victims) => {
                let replaced = world.concerned(Kind::Runs, run.runs, Slot::bits(&victims));
                if self.has(Mutation::PrunerDeletesRunsBeforePuttingNewOnes) && !run.half {
                    let mut todo = run.todo.unwrap_or(replaced);
                    let (world, deleted) = self.delete(Kind::Runs, &mut todo);
                    run.todo = Some(todo);
                    run.half = todo == 0;
                    return self.prune_on(("P9 deletes a run, too early", deleted), world, process, run);
                }
                let names = self.new_index(&run, Slot::bits(&victims));
                let Some((world, _)) = self.put(Kind::Runs, names, same) else { return };
                run.runs = replaced;
                run.answer(Answer::IndexPut);
                self.prune_on(("P9 puts a run for", names), world, self.process.clone(), run);
            }
            Step::DeleteRuns | Step::DeletePacks(_) | Step::DeleteMarks(_) => self.delete_some(run),
            Step::Check { condemned } => {
                for seals in self.list(Kind::Seals, true, same) {
                    let mut run = run.clone();
                    let nowhere = run.uncovered(&world, 0);
                    let sealed = world.about(Kind::Seals, seals) & run.roots;
                    let process = self.process.clone();
                    let what = ("P8 lists the seals", seals);
                    self.events |= event::MISSED;
                    if world.about(Kind::Bodies, sealed) & nowhere != 0 {
                        run.answer(Answer::Missing(Root::Committed));
                    } else if !run.missed {
                        run.missed = true;
                        run.answer(Answer::Missing(Root::Tentative));
                    } else if world.about(Kind::Packs, run.packs) & nowhere != 0
                        && !self.has(Mutation::PrunerPassesOverWhatIsUnindexed)
                    {
                        // In a pack that no run names: it is not nowhere.
                        run.answer(Answer::Missing(Root::Tentative));
                    } else {
                        self.events |= event::PASSED_OVER;
                        run.missed = false;
                        if self.check(&world, &mut run, Slot::bits(&condemned), nowhere) {
                            self.stop(what, world, process);
                            continue;
                        }
                    }
                    self.prune_on(what, world, process, run);
                }
            }
            Step::Wait(_) | Step::Done(_) => {}
        }
    }

    /// P8, of what is somewhere. Whether to stop after too many rescues.
    fn check(&mut self, world: &World, run: &mut PrunerRun, condemned: Bits, nowhere: Bits) -> bool {
        let uncovered = run.uncovered(world, condemned) & !nowhere;
        if uncovered == 0 {
            run.answer(Answer::Covered);
        } else if run.machine.rescues() == self.actor.config.rescues {
            self.events |= event::PRUNER_GAVE_UP;
            return true;
        } else {
            self.events |= event::PRUNER_RESCUED;
            run.missing = uncovered;
            run.answer(Answer::Rescuable);
        }
        false
    }

    /// P1 and P6. Whoever may adopt may be wrong about it.
    fn list_marks(&mut self, run: &PrunerRun, has_condemned: bool) {
        let kept = run.clone();
        let world = self.world;
        for marks in self.list(Kind::Marks, true, || Job::Pruner(kept)) {
            let may_adopt = (self.actor.config.adopts || self.actor.tidies) && !has_condemned && marks != 0;
            let choices: &[bool] = match (may_adopt, self.actor.tidies) {
                (false, _) => &[false],
                (true, true) => &[true],
                (true, false) => &[false, true],
            };
            for is_abandoned in choices.iter().copied() {
                let found = |slot| {
                    let packs = Slot::set(world.about(Kind::Marks, bit(slot)));
                    (NoteId::of(slot), MarkFound { packs, is_abandoned })
                };
                let mut run = run.clone();
                run.answer(Answer::Marks(each(marks).map(found).collect()));
                let mut process = self.process.clone();
                if is_abandoned {
                    run.adopts = true;
                    self.wait(Wait::AdoptedMark, &world, &mut process);
                }
                let what = if is_abandoned { "P1 takes over the marks" } else { "P1, P6 lists the marks" };
                self.prune_on((what, marks), world, process, run);
            }
        }
    }

    /// What may be condemned. A pruner that tidies keeps packs in which everything is live and nowhere else.
    fn victims(&self, run: &PrunerRun, condemned: Bits) -> Vec<Bits> {
        let candidates = (run.packs | self.world.about(Kind::Runs, run.runs)) & !condemned & !self.young(Kind::Packs);
        if self.actor.tidies {
            let (mut open, mut keep) = (run.live(&self.world), 0);
            for pack in each(run.usable(&self.world) & !condemned) {
                let holds = self.world.about(Kind::Packs, bit(pack));
                if holds & !open == 0 {
                    keep |= bit(pack);
                    open &= !holds;
                }
            }
            return vec![candidates & !keep];
        }
        subsets(candidates).filter(|victims| victims.count_ones() <= self.actor.config.victims).collect()
    }

    /// P3's second half, and what follows a no in P8: one operation of it.
    fn copy(&mut self, mut run: PrunerRun) {
        let kept = run.clone();
        let same = || Job::Pruner(kept);
        if run.missing != 0 {
            // What is gone is passed over.
            let there = run.missing & self.world.about(Kind::Packs, self.world.here(Kind::Packs));
            if there == 0 {
                run.missing = 0;
                let process = self.process.clone();
                return self.prune_on(("P3, P8 finds nothing to copy", 0), self.world, process, run);
            }
            let Some((world, slot)) = self.put(Kind::Packs, there, same) else { return };
            run.pack = bit(slot);
            run.missing = 0;
            self.prune_on(("P3, P8 copies into", run.pack), world, self.process.clone(), run);
        } else {
            let Some((world, _)) = self.put(Kind::Runs, run.pack, same) else { return };
            let what = ("P3, P8 puts a run for", run.pack);
            run.pack = 0;
            self.prune_on(what, world, self.process.clone(), run);
        }
    }

    /// P9 to P11, one operation.
    fn delete_some(&mut self, mut run: PrunerRun) {
        let mut todo = run.todo.unwrap_or_default();
        let swapped = self.has(Mutation::PrunerDeletesPacksBeforeTheIndex);
        let marks_first = self.has(Mutation::PrunerDeletesMarksBeforePacks);
        let kind = match run.machine.step() {
            Step::DeleteRuns if swapped => Kind::Packs,
            Step::DeleteRuns => Kind::Runs,
            Step::DeletePacks(_) if swapped => Kind::Runs,
            Step::DeletePacks(_) if marks_first => Kind::Marks,
            Step::DeletePacks(_) => Kind::Packs,
            _ if marks_first => Kind::Packs,
            _ => Kind::Marks,
        };
        let (world, deleted) = self.delete(kind, &mut todo);
        run.todo = Some(todo);
        let what = match kind {
            Kind::Runs => "P9 deletes a run",
            Kind::Packs => "P10 deletes a pack",
            _ => "P11 deletes a mark",
        };
        self.prune_on((what, deleted), world, self.process.clone(), run);
    }

    fn new_index(&self, run: &PrunerRun, victims: Bits) -> Bits {
        let replaced = self.world.concerned(Kind::Runs, run.runs, victims);
        let names = self.world.about(Kind::Runs, replaced) & !victims;
        if self.has(Mutation::PrunerDropsEntriesOfPacksItMissed) { names & run.packs } else { names }
    }

    /// What a deleting step deletes.
    fn todo(&self, run: &PrunerRun) -> Bits {
        let swapped = self.has(Mutation::PrunerDeletesPacksBeforeTheIndex);
        let marks_first = self.has(Mutation::PrunerDeletesMarksBeforePacks);
        let marks = Slot::bits(run.machine.marks());
        let victims = Slot::bits(run.machine.victims());
        match run.machine.step() {
            Step::DeleteRuns if swapped => victims,
            Step::DeleteRuns => run.runs,
            Step::DeletePacks(_) if swapped => run.runs,
            Step::DeletePacks(_) if marks_first => marks,
            Step::DeletePacks(_) => victims,
            _ if marks_first => victims,
            _ => marks,
        }
    }

    /// Goes on to the next operation.
    fn prune_on(&mut self, what: What, world: World, mut process: Process, mut run: PrunerRun) {
        loop {
            match run.machine.step().clone() {
                Step::CopyLive(_) if run.missing == 0 && run.pack == 0 => {
                    // Not needed any more; fewer states.
                    if !self.has(Mutation::PrunerChecksByTheOldListing) {
                        run.packs = 0;
                        run.runs = 0;
                    }
                    run.answer(Answer::Copied);
                }
                Step::Rescue { .. } if run.missing == 0 && run.pack == 0 => run.answer(Answer::Copied),
                // Begun when the mark was put, or found.
                Step::Wait(After::Mark) => run.answer(Answer::Waited),
                Step::Wait(after) => {
                    let at = match after {
                        After::Index => Wait::Index,
                        After::Delete => Wait::PackDelete,
                        _ => Wait::PrunerRescue,
                    };
                    self.wait(at, &world, &mut process);
                    run.answer(Answer::Waited);
                }
                Step::Check { condemned } => {
                    let condemned = Slot::bits(&condemned);
                    let own = Slot::bits(run.machine.victims());
                    let counts_own = self.has(Mutation::PrunerCountsItsVictims);
                    let condemned = if counts_own { condemned & !own } else { condemned };
                    if run.uncovered(&world, 0) != 0 {
                        // Who needs it is looked up in the seals.
                        break;
                    }
                    run.missed = false;
                    if self.check(&world, &mut run, condemned, 0) {
                        return self.stop(what, world, process);
                    }
                }
                Step::PutIndex(victims)
                    if self.new_index(&run, Slot::bits(&victims)) == 0
                        && !self.has(Mutation::PrunerDeletesRunsBeforePuttingNewOnes) =>
                {
                    run.runs = world.concerned(Kind::Runs, run.runs, Slot::bits(&victims));
                    run.answer(Answer::IndexPut);
                }
                Step::DeleteRuns | Step::DeletePacks(_) | Step::DeleteMarks(_) => {
                    let todo = run.todo.unwrap_or_else(|| self.todo(&run));
                    run.todo = Some(todo);
                    if todo != 0 {
                        break;
                    }
                    let answer = match run.machine.step() {
                        Step::DeleteRuns => Answer::RunsDeleted,
                        Step::DeletePacks(_) => Answer::PacksDeleted,
                        _ => Answer::MarksDeleted,
                    };
                    run.answer(answer);
                }
                Step::Done(outcome) => {
                    if outcome == Outcome::Pruned {
                        self.events |= if run.adopts { event::ADOPTED } else { event::PRUNED };
                    }
                    return self.done(what, world, process, 0);
                }
                _ => break,
            }
        }
        self.go(what, world, process, Job::Pruner(run));
    }
}
