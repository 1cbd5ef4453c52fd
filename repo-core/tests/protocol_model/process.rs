//! A process: the real machine of its task, and what its driver remembers. Every operation on the store is one step.

use repo_core::protocol::{expirer::Expirer, forgetter::Forgetter, pruner::Pruner, writer::Writer};

use crate::{
    config::{Config, Mutation, Task, Wait},
    world::{Bits, KINDS, Kind, Scan, Slot, Unsettled, World, bit, each},
};

/// What has happened in a search: that it is safe says nothing where nothing happens.
pub(crate) mod event {
    pub(crate) const COMMITTED: u16 = 1;
    pub(crate) const WRITER_RESCUED: u16 = 2;
    pub(crate) const CLAIMED_TWICE: u16 = 4;
    pub(crate) const PRUNED: u16 = 8;
    pub(crate) const PRUNER_RESCUED: u16 = 16;
    pub(crate) const ADOPTED: u16 = 32;
    pub(crate) const EXPIRED: u16 = 64;
    pub(crate) const FORGOTTEN: u16 = 128;
    pub(crate) const MISSED: u16 = 256;
    pub(crate) const DISTURBED: u16 = 512;
    pub(crate) const PRUNER_GAVE_UP: u16 = 1024;
    pub(crate) const PASSED_OVER: u16 = 2048;
    pub(crate) const LEANED: u16 = 4096;
}

/// Why an operation is done, for the trace; and the objects it is about.
pub(crate) type What = (&'static str, Bits);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    /// Which of its tasks it does.
    pub(crate) task: u8,
    /// The body it has committed last.
    pub(crate) committed: u8,
    /// The one before.
    pub(crate) old: u8,
    /// A listing that is under way.
    pub(crate) scan: Option<Scan>,
    /// To be waited for before the next operation.
    pub(crate) wait: Option<Unsettled>,
    /// What was put, but nobody said so.
    pub(crate) unsure: Option<u8>,
    pub(crate) job: Job,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    Idle,
    Writer(WriterRun),
    Pruner(PrunerRun),
    Forgetter(ForgetterRun),
    Expirer(ExpirerRun),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct WriterRun {
    pub(crate) machine: Writer,
    /// Blobs.
    pub(crate) needs: Bits,
    /// It has no blobs of its own.
    pub(crate) edits: bool,
    /// The body whose claim it leans on, as long as it does.
    pub(crate) leans: Option<u8>,
    /// It is killed before it claims.
    pub(crate) dies: bool,
    /// Runs it has read in W1, as long as it may merge them.
    pub(crate) runs: Bits,
    /// Packs of which it knows, and which it trusts.
    pub(crate) known: Bits,
    /// Packs that count for it already in this round.
    pub(crate) found: Bits,
    /// Blobs that are still to be stored.
    pub(crate) missing: Bits,
    /// The pack it has just put, not yet in the index.
    pub(crate) pack: Bits,
    /// Runs to be deleted, since they were merged.
    pub(crate) merged: Bits,
    pub(crate) claims: u8,
    /// Packs listed too early, by mutation.
    pub(crate) early: Option<Bits>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct PrunerRun {
    pub(crate) machine: Pruner,
    pub(crate) adopts: bool,
    /// Bodies of the last listing.
    pub(crate) roots: Bits,
    /// Packs of the last listing.
    pub(crate) packs: Bits,
    /// Runs of the last listing.
    pub(crate) runs: Bits,
    /// Blobs that are still to be copied.
    pub(crate) missing: Bits,
    /// The pack it has just put, not yet in the index.
    pub(crate) pack: Bits,
    /// The first of two operations of a step is done.
    pub(crate) half: bool,
    /// What is still to be deleted in this step; `None` before it has begun.
    pub(crate) todo: Option<Bits>,
    /// Something that only tentative bodies need was nowhere when it was looked for the last time.
    pub(crate) missed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ForgetterRun {
    pub(crate) machine: Forgetter,
    pub(crate) todo: Option<Bits>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct ExpirerRun {
    /// `None` while it looks for something to do.
    pub(crate) machine: Option<Expirer>,
    pub(crate) adopts: bool,
    /// Bodies, or seals, of the first of two listings.
    pub(crate) listed: Option<Bits>,
    /// Notes it has put.
    pub(crate) notes: Bits,
    /// Notes of others that it deletes by mutation.
    pub(crate) found: Bits,
    pub(crate) todo: Option<Bits>,
}

impl Process {
    pub(crate) fn new(script: &[Task]) -> Self {
        let mut process = Self { task: 0, committed: 0, old: 0, scan: None, wait: None, unsure: None, job: Job::Idle };
        process.start(script.first().copied());
        process
    }

    fn start(&mut self, task: Option<Task>) {
        let forgetter =
            |bodies: Bits| Job::Forgetter(ForgetterRun { machine: Forgetter::new(Slot::set(bodies)), todo: None });
        self.job = match task {
            None => Job::Idle,
            Some(Task::Backup(needs)) => Job::Writer(WriterRun { needs, ..WriterRun::default() }),
            Some(Task::Store(needs)) => Job::Writer(WriterRun { needs, dies: true, ..WriterRun::default() }),
            Some(Task::Edit) => Job::Writer(WriterRun { edits: true, ..WriterRun::default() }),
            Some(Task::Lean) => {
                Job::Writer(WriterRun { edits: true, leans: Some(self.committed), ..WriterRun::default() })
            }
            Some(Task::ForgetOld) => forgetter(bit(self.old)),
            Some(Task::Forget(bodies)) => forgetter(bodies),
            Some(Task::Prune) => Job::Pruner(PrunerRun::default()),
            Some(Task::Expire) => Job::Expirer(ExpirerRun::default()),
            Some(Task::AdoptNotes) => Job::Expirer(ExpirerRun { adopts: true, ..ExpirerRun::default() }),
        };
    }

    /// Bodies that the process is about to forget, or has forgotten.
    pub(crate) fn forgets(&self, task: Option<Task>) -> Bits {
        match task {
            Some(Task::ForgetOld) => bit(self.old),
            Some(Task::Forget(bodies)) => bodies,
            _ => 0,
        }
    }
}

/// What a step leads to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Next {
    pub(crate) what: What,
    pub(crate) world: World,
    pub(crate) process: Process,
    /// The user was told that this is a backup.
    pub(crate) reported: Bits,
    /// The user was told that this will be forgotten.
    pub(crate) forgets: Bits,
    pub(crate) events: u16,
}

/// Who does the steps.
#[derive(Clone, Copy)]
pub(crate) struct Actor<'a> {
    pub(crate) config: &'a Config,
    pub(crate) script: &'a [Task],
    /// Its slots, by kind.
    pub(crate) slots: [Bits; KINDS],
    /// Comes after all others have died, and always takes the sensible choice.
    pub(crate) tidies: bool,
}

/// All that a process can do next.
pub(crate) struct Steps<'a> {
    pub(crate) actor: Actor<'a>,
    pub(crate) world: World,
    /// Without its job, which is at work.
    pub(crate) process: Process,
    pub(crate) next: Vec<Next>,
    pub(crate) events: u16,
}

impl<'a> Steps<'a> {
    pub(crate) fn of(actor: Actor<'a>, world: &World, process: &Process) -> Vec<Next> {
        let (mut world, mut process) = (*world, process.clone());
        // The wait ends as late as it can: right before the next operation.
        if let Some(unsettled) = process.wait.take() {
            world.settle(&unsettled);
        }
        let job = std::mem::replace(&mut process.job, Job::Idle);
        let mut steps = Self { actor, world, process, next: Vec::new(), events: 0 };
        match job {
            Job::Idle => {}
            Job::Writer(run) => steps.writer(run),
            Job::Pruner(run) => steps.pruner(run),
            Job::Forgetter(run) => steps.forgetter(run),
            Job::Expirer(run) => steps.expirer(run),
        }
        steps.next
    }

    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        self.actor.config.has(mutation)
    }

    /// Goes on with this job in this world.
    pub(crate) fn go(&mut self, what: What, world: World, process: Process, job: Job) {
        let process = Process { job, ..process };
        let events = std::mem::take(&mut self.events);
        self.next.push(Next { what, world, process, reported: 0, forgets: 0, events });
    }

    /// The job is done.
    pub(crate) fn done(&mut self, what: What, world: World, mut process: Process, reported: Bits) {
        process.task += 1;
        let task = self.actor.script.get(process.task as usize).copied();
        process.start(task);
        let forgets = process.forgets(task);
        let events = std::mem::take(&mut self.events);
        self.next.push(Next { what, world, process, reported, forgets, events });
    }

    /// The process ends for good.
    pub(crate) fn stop(&mut self, what: What, world: World, mut process: Process) {
        process.task = u8::MAX;
        process.wait = None;
        let events = std::mem::take(&mut self.events);
        self.next.push(Next { what, world, process, reported: 0, forgets: 0, events });
    }

    /// All that a listing may show. A listing in pages only begins at first, and there is nothing yet.
    pub(crate) fn list(&mut self, kind: Kind, read: bool, job: impl FnOnce() -> Job) -> Vec<Bits> {
        if self.actor.config.torn.contains(&kind) && !self.actor.tidies {
            let Some(scan) = self.process.scan.take() else {
                let process = Process { scan: Some(self.world.begin(kind)), ..self.process.clone() };
                self.go(("begins to list", 0), self.world, process, job());
                return Vec::new();
            };
            return self.world.end(kind, scan, read).collect();
        }
        self.world.end(kind, self.world.begin(kind), read).collect()
    }

    /// All that a put may lead to: the world after it, and what was put. When the answer may be lost, the put is done again later.
    pub(crate) fn put(&mut self, kind: Kind, about: Bits, job: impl FnOnce() -> Job) -> Option<(World, u8)> {
        let mut world = self.world;
        if let Some(slot) = self.process.unsure.take() {
            world.put_again(kind, slot);
            return Some((world, slot));
        }
        let Some(slot) = world.put(kind, about, self.actor.slots[kind as usize]) else {
            let process = self.process.clone();
            self.stop(("has no room left", about), world, process);
            return None;
        };
        if self.actor.config.lost.contains(&kind) && !self.actor.tidies {
            let process = Process { unsure: Some(slot), ..self.process.clone() };
            let mut world = world;
            world.lose(kind, slot);
            self.go(("puts without an answer", bit(slot)), world, process, job());
        }
        Some((world, slot))
    }

    /// What is too young to be deleted.
    pub(crate) fn young(&self, kind: Kind) -> Bits {
        if self.has(Mutation::Impatience) { 0 } else { self.world.unsure(kind) }
    }

    /// Deletes the first of `todo`.
    pub(crate) fn delete(&self, kind: Kind, todo: &mut Bits) -> (World, Bits) {
        let mut world = self.world;
        let Some(slot) = each(*todo).next() else { return (world, 0) };
        world.delete(kind, slot);
        *todo &= !bit(slot);
        (world, bit(slot))
    }

    /// What has to be waited for at this place, beginning now.
    pub(crate) fn wait(&self, at: Wait, world: &World, process: &mut Process) {
        process.wait = if self.has(Mutation::NoWait(at)) { None } else { world.unsettled() };
    }
}
