//! The drivers of forgetter and expirer.

use repo_core::{
    id::{NoteId, SealId, SnapshotId},
    protocol::{
        expirer::{self, Expirer},
        forgetter::{self, Outcome},
    },
};

use crate::{
    config::{Mutation, Wait},
    process::{ExpirerRun, ForgetterRun, Job, Process, Steps, What, event},
    world::{Bits, Kind, Slot, World, bit, each},
};

impl ForgetterRun {
    fn answer(&mut self, answer: forgetter::Answer) {
        self.machine.answer(answer).expect("the step's own answer");
        self.todo = None;
    }
}

impl ExpirerRun {
    fn answer(&mut self, answer: expirer::Answer) {
        self.machine.as_mut().expect("it has begun").answer(answer).expect("the step's own answer");
        self.todo = None;
        self.listed = None;
    }
}

/// Which body each of these notes names.
fn bodies(world: &World, notes: Bits) -> Vec<(NoteId, SnapshotId)> {
    let named = |slot| each(world.about(Kind::Notes, bit(slot))).map(move |body| (NoteId::of(slot), Slot::of(body)));
    each(notes).flat_map(named).collect()
}

impl Steps<'_> {
    pub(crate) fn forgetter(&mut self, mut run: ForgetterRun) {
        use forgetter::{Answer, Step};
        let kept = run.clone();
        let same = || Job::Forgetter(kept);
        let world = self.world;
        match run.machine.step().clone() {
            Step::ListSeals => {
                for seals in self.list(Kind::Seals, true, same) {
                    let named = |slot| (SealId::of(slot), Slot::set(world.about(Kind::Seals, bit(slot))));
                    let mut run = run.clone();
                    run.answer(Answer::Seals(each(seals).map(named).collect()));
                    self.forget_on(("F1 lists the seals", seals), world, self.process.clone(), run);
                }
            }
            Step::PutSeals(_) if self.has(Mutation::ForgetterSealsNothingAgain) => {
                run.answer(Answer::SealsPut);
                self.forget_on(("F2 seals nothing", 0), world, self.process.clone(), run);
            }
            Step::PutSeals(bodies) => {
                let bodies = Slot::bits(&bodies);
                let Some((world, _)) = self.put(Kind::Seals, bodies, same) else { return };
                let mut process = self.process.clone();
                self.wait(Wait::Reseal, &world, &mut process);
                run.answer(Answer::SealsPut);
                self.forget_on(("F2 seals the others", bodies), world, process, run);
            }
            Step::ListExpireNotes if self.has(Mutation::ForgetterLooksForNoNotes) => {
                run.answer(Answer::ExpireNotes(Slot::set(0)));
                self.forget_on(("F3 lists no notes", 0), world, self.process.clone(), run);
            }
            Step::ListExpireNotes => {
                for notes in self.list(Kind::Notes, true, same) {
                    let mut run = run.clone();
                    run.answer(Answer::ExpireNotes(Slot::set(world.about(Kind::Notes, notes))));
                    self.forget_on(("F3 lists the notes", notes), world, self.process.clone(), run);
                }
            }
            Step::DeleteSeals(_) | Step::DeleteBodies(_) => {
                let (kind, what) = match run.machine.step() {
                    Step::DeleteSeals(_) => (Kind::Seals, "F4 deletes a seal"),
                    _ => (Kind::Bodies, "F5 deletes a body"),
                };
                let mut todo = run.todo.unwrap_or_default();
                let (world, deleted) = self.delete(kind, &mut todo);
                run.todo = Some(todo);
                self.forget_on((what, deleted), world, self.process.clone(), run);
            }
            Step::Wait | Step::Done(_) => {}
        }
    }

    fn forget_on(&mut self, what: What, world: World, process: Process, mut run: ForgetterRun) {
        use forgetter::{Answer, Step};
        loop {
            let (todo, answer) = match run.machine.step() {
                Step::Wait => (0, Answer::Waited),
                Step::DeleteSeals(seals) => (Slot::bits(seals), Answer::SealsDeleted),
                Step::DeleteBodies(bodies) => (Slot::bits(bodies), Answer::BodiesDeleted),
                Step::Done(outcome) => {
                    self.events |= match outcome {
                        Outcome::Forgotten => event::FORGOTTEN,
                        Outcome::Disturbed => event::DISTURBED,
                    };
                    return self.done(what, world, process, 0);
                }
                _ => break,
            };
            let todo = run.todo.unwrap_or(todo);
            if todo != 0 {
                run.todo = Some(todo);
                break;
            }
            run.answer(answer);
        }
        self.go(what, world, process, Job::Forgetter(run));
    }

    pub(crate) fn expirer(&mut self, mut run: ExpirerRun) {
        use expirer::{Answer, Step};
        let kept = run.clone();
        let same = || Job::Expirer(kept);
        let world = self.world;
        let Some(machine) = &run.machine else { return self.find_work(&run) };
        match machine.step().clone() {
            Step::PutNotes(bodies) => {
                let body = run.todo.unwrap_or(Slot::bits(&bodies));
                let body = bit(each(body).next().expect("a body without a note"));
                let Some((world, slot)) = self.put(Kind::Notes, body, same) else { return };
                run.todo = Some(run.todo.unwrap_or(Slot::bits(&bodies)) & !body);
                run.notes |= bit(slot);
                self.expire_on(("E1 puts a note for", body), world, self.process.clone(), run);
            }
            Step::ListSeals(bodies) if self.has(Mutation::ExpirerListsNoSeals) => {
                drop(bodies);
                run.answer(Answer::Sealed(Slot::set(0)));
                self.expire_on(("E2 lists no seals", 0), world, self.process.clone(), run);
            }
            Step::ListSeals(_) if run.listed.is_none() => {
                for seals in self.list(Kind::Seals, true, same) {
                    let run = ExpirerRun { listed: Some(world.about(Kind::Seals, seals)), ..run.clone() };
                    self.expire_on(("E2 lists the seals", seals), world, self.process.clone(), run);
                }
            }
            Step::ListSeals(bodies) => {
                for there in self.list(Kind::Bodies, false, same) {
                    let mut run = run.clone();
                    let sealed = Slot::bits(&bodies) & run.listed.unwrap_or_default() & there;
                    run.answer(Answer::Sealed(Slot::set(sealed)));
                    self.expire_on(("E2 lists the bodies", there), world, self.process.clone(), run);
                }
            }
            Step::DeleteBodies(_) | Step::DeleteNotes(_) => {
                let is_first = matches!(machine.step(), Step::DeleteBodies(_));
                let swapped = self.has(Mutation::ExpirerDeletesNotesFirst);
                let (kind, what) = if is_first == swapped {
                    (Kind::Notes, "E4 deletes a note")
                } else {
                    (Kind::Bodies, "E3 deletes a body")
                };
                let mut todo = run.todo.unwrap_or_default();
                let (world, deleted) = self.delete(kind, &mut todo);
                run.todo = Some(todo);
                self.expire_on((what, deleted), world, self.process.clone(), run);
            }
            Step::Wait(_) | Step::Done(_) => {}
        }
    }

    /// Looks for bodies without a seal, or for what others have left.
    fn find_work(&mut self, run: &ExpirerRun) {
        use expirer::Answer;
        let kept = run.clone();
        let same = || Job::Expirer(kept);
        let world = self.world;
        if run.adopts {
            for notes in self.list(Kind::Notes, true, same) {
                let machine = Some(Expirer::adopt(bodies(&world, notes).into_iter().collect()));
                let found = if self.has(Mutation::AdopterDeletesNotesOfBackups) { notes } else { 0 };
                let mut run = ExpirerRun { machine, found, ..run.clone() };
                if self.has(Mutation::AdopterPutsNoNotes) && notes != 0 {
                    run.answer(Answer::NotesPut(bodies(&world, notes).into_iter().collect()));
                }
                self.expire_on(("E1 takes over the notes", notes), world, self.process.clone(), run);
            }
            return;
        }
        let Some(sealed) = run.listed else {
            for seals in self.list(Kind::Seals, true, same) {
                let run = ExpirerRun { listed: Some(world.about(Kind::Seals, seals)), ..run.clone() };
                self.expire_on(("lists the seals", seals), world, self.process.clone(), run);
            }
            return;
        };
        for bodies in self.list(Kind::Bodies, false, same) {
            let unsealed = bodies & !sealed & !self.young(Kind::Bodies);
            let choices: Vec<Bits> =
                if self.actor.tidies || unsealed == 0 { vec![unsealed] } else { each(unsealed).map(bit).collect() };
            for chosen in choices {
                let machine = Some(Expirer::new(Slot::set(chosen)));
                let run = ExpirerRun { machine, listed: None, ..run.clone() };
                self.expire_on(("finds bodies without a seal", chosen), world, self.process.clone(), run);
            }
        }
    }

    fn expire_on(&mut self, what: What, world: World, mut process: Process, mut run: ExpirerRun) {
        use expirer::{After, Answer, Step};
        let swapped = self.has(Mutation::ExpirerDeletesNotesFirst);
        while let Some(machine) = &run.machine {
            let (todo, answer) = match machine.step() {
                Step::PutNotes(_) if run.todo == Some(0) => {
                    self.wait(Wait::Note, &world, &mut process);
                    (0, Answer::NotesPut(bodies(&world, run.notes).into_iter().collect()))
                }
                Step::Wait(after) => {
                    if *after == After::Delete {
                        self.wait(Wait::BodyDelete, &world, &mut process);
                    }
                    (0, Answer::Waited)
                }
                Step::DeleteBodies(_) if swapped => (run.notes, Answer::BodiesDeleted),
                Step::DeleteBodies(bodies) => (Slot::bits(bodies), Answer::BodiesDeleted),
                Step::DeleteNotes(notes) if swapped => {
                    (world.about(Kind::Notes, Slot::bits(notes)), Answer::NotesDeleted)
                }
                Step::DeleteNotes(notes) if run.adopts && self.has(Mutation::AdopterPutsNoNotes) => {
                    let gone = world.concerned(Kind::Notes, Slot::bits(notes), !world.here(Kind::Bodies));
                    (gone, Answer::NotesDeleted)
                }
                Step::DeleteNotes(notes) => (Slot::bits(notes) | run.found, Answer::NotesDeleted),
                Step::Done(removed) => {
                    if *removed > 0 {
                        self.events |= event::EXPIRED;
                    }
                    return self.done(what, world, process, 0);
                }
                _ => break,
            };
            let todo = if matches!(machine.step(), Step::PutNotes(_)) { 0 } else { run.todo.unwrap_or(todo) };
            if todo != 0 {
                run.todo = Some(todo);
                break;
            }
            run.answer(answer);
        }
        self.go(what, world, process, Job::Expirer(run));
    }
}
