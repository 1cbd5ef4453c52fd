//! Does what the pruner's machine says, step by step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    compress::Level,
    crypto::keys::ObjectKind,
    error::{Error, Result},
    id::{BlobId, IndexId, NoteId, ObjectId, PackId, SnapshotId},
    index::set::IndexSet,
    progress::{Cancel, Progress},
    protocol::pruner::{Answer, MarkFound, Outcome, Pruner, Root, Step},
    prune::{
        PruneOptions, PruneReport,
        copy::Mover,
        cover::Uncovered,
        expire,
        live::Live,
        plan::{Limits, Victim},
        roots, runs,
    },
    repository::{
        Repository,
        notes::Mark,
        reader::BlobReader,
        session::{Session, SessionOptions},
    },
    store::{ObjectName, Place},
    time::Timestamp,
};

/// Plain bytes of tree frames that are kept while trees are walked.
pub(super) const TREE_CACHE_BYTES: usize = 32 << 20;

/// How often it is looked for what snapshots need, while others forget and prune.
const LOOKS_MAX: u32 = 3;

/// A mark is taken over from a prune that seems to be at work after so many seconds.
const MARK_OLD_SECONDS: i64 = 24 * 3600;

/// A pack as the store lists it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) size_bytes: u64,
    /// When it was stored, by the store's clock.
    pub(super) modified: Option<Timestamp>,
}

/// A prune at work.
pub(super) struct Engine<'a> {
    pub(super) repository: &'a Arc<Repository>,
    pub(super) options: &'a PruneOptions,
    pub(super) limits: Limits,
    progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
    threads: usize,
    pub(super) session: Session,
    /// The index of the last step that loaded it.
    pub(super) index: Arc<IndexSet>,
    pub(super) live: Live,
    /// The bodies of the last listing, with the roots of their trees.
    pub(super) bodies: BTreeMap<SnapshotId, BlobId>,
    /// Packs of the last listing.
    pub(super) listed: HashMap<PackId, Listed>,
    /// Packs that go by our own plan.
    pub(super) victims: Vec<Victim>,
    pub(super) missing: Vec<Uncovered>,
    /// Index runs that were put anew, and may go once that is visible.
    put_anew: HashSet<IndexId>,
    /// What is missing of unfinished snapshots alone was missing before.
    pub(super) looked_twice: bool,
    /// Not everything that unfinished snapshots need could be walked to.
    pub(super) walked_apart: bool,
}

impl<'a> Engine<'a> {
    pub(super) fn open(
        repository: &'a Arc<Repository>,
        options: &'a PruneOptions,
        limits: Limits,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let index = Arc::new(load_index(repository, &IndexSet::with_cache(repository.cache().cloned()))?);
        let note = options.note.clone();
        let session_options = SessionOptions { level: Level::AUTO, dry_run: options.dry_run, note };
        let session = Session::open(Arc::clone(repository), Arc::clone(&index), session_options)?;
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            repository,
            options,
            limits,
            progress,
            cancel,
            threads: options.threads.unwrap_or_else(cores),
            session,
            live: Live::new(Arc::clone(&index)),
            index,
            bodies: BTreeMap::new(),
            listed: HashMap::new(),
            victims: Vec::new(),
            missing: Vec::new(),
            put_anew: HashSet::new(),
            looked_twice: false,
            walked_apart: false,
        })
    }

    /// Ends the session, whatever came of it.
    pub(super) fn close(self) -> Result<()> {
        if self.options.dry_run { Ok(()) } else { self.session.close() }
    }

    /// Finishes what others left, then prunes by a plan of its own.
    pub(super) fn run(&mut self, report: &mut PruneReport) -> Result<()> {
        if !self.options.dry_run {
            report.expired = expire::expire(self.repository, self.options.note.as_ref())?;
            report.lost = expire::tidy_seals(self.repository)?;
        }
        loop {
            let mut pruner = Pruner::default();
            let adopted = self.drive(&mut pruner, report)?;
            if !adopted {
                break;
            }
        }
        if !self.options.dry_run {
            if self.victims.is_empty() {
                self.put_runs_together()?;
            }
            expire::remove_notes(self.repository, self.options.note.as_ref())?;
        }
        Ok(())
    }

    /// Where nothing goes, runs that say the same are put together nevertheless: every lookup looks into each.
    fn put_runs_together(&self) -> Result<()> {
        let old = runs::put(self.repository, &self.index, &BTreeSet::new())?;
        if old.is_empty() {
            return Ok(());
        }
        self.wait();
        self.delete(Place::Index, runs::replaced(self.repository, &self.index, &BTreeSet::new(), &old)?)
    }

    /// Drives one machine to its end; whether that was for marks of others, so that our own plan is still to come.
    fn drive(&mut self, pruner: &mut Pruner, report: &mut PruneReport) -> Result<bool> {
        let mut own = false;
        loop {
            self.cancel.check()?;
            let answer = match pruner.step().clone() {
                Step::ListMarks => Answer::Marks(self.list_marks()?),
                Step::ListRoots => {
                    self.list_roots()?;
                    Answer::RootsListed
                }
                Step::ChooseVictims { condemned } => {
                    own = true;
                    let answer = self.choose(&condemned, report)?;
                    if self.options.dry_run && matches!(answer, Answer::Victims(_)) {
                        return Ok(false);
                    }
                    answer
                }
                Step::CopyLive(packs) => {
                    self.session.distrust(&packs);
                    self.copy(Self::move_live, report)?;
                    Answer::Copied
                }
                Step::PutMark(packs) => Answer::MarkPut(self.put_mark(&packs)?),
                Step::Wait(_) => {
                    self.wait();
                    Answer::Waited
                }
                Step::ListPacks => {
                    self.listed = self.list_packs()?;
                    self.load_index()?;
                    Answer::PacksListed
                }
                Step::Check { condemned } => self.check(&condemned)?,
                Step::Rescue { condemned } => {
                    self.session.distrust(&condemned);
                    self.copy(Self::rescue, report)?;
                    Answer::Copied
                }
                Step::PutIndex(packs) => {
                    self.put_anew = runs::put(self.repository, &self.index, &packs)?;
                    Answer::IndexPut
                }
                Step::DeleteRuns => {
                    let old = std::mem::take(&mut self.put_anew);
                    let runs = runs::replaced(self.repository, &self.index, pruner.victims(), &old)?;
                    self.delete(Place::Index, runs)?;
                    Answer::RunsDeleted
                }
                Step::DeletePacks(packs) => {
                    report.packs_deleted += packs.len() as u64;
                    self.delete(Place::Data, packs)?;
                    Answer::PacksDeleted
                }
                Step::DeleteMarks(marks) => {
                    report.marks_finished += if own { 0 } else { marks.len() as u64 };
                    self.delete(Place::Locks, marks)?;
                    Answer::MarksDeleted
                }
                Step::Done(outcome) => {
                    report.rescues += pruner.rescues();
                    report.bodies = self.bodies.len() as u64;
                    return self.done(outcome, own);
                }
            };
            pruner.answer(answer).map_err(|error| Error::Invalid(error.to_string()))?;
        }
    }

    fn done(&self, outcome: Outcome, own: bool) -> Result<bool> {
        match outcome {
            Outcome::Nothing => Ok(false),
            Outcome::Pruned => Ok(!own),
            Outcome::GaveUp => Err(Error::Refused(
                "others pruned again and again what was being moved, so nothing was deleted here; run it again, the next prune goes on \
                 from here"
                    .into(),
            )),
            Outcome::Missing(root) => {
                let snapshots = match root {
                    Root::Committed => "a snapshot needs",
                    Root::Tentative => "an unfinished snapshot needs",
                };
                let first = self
                    .missing
                    .first()
                    .map_or(String::new(), |blob| format!(" (the first is {} blob {}…)", blob.kind, blob.prefix));
                Err(Error::Refused(format!(
                    "nothing was deleted, since {} that {snapshots} cannot be found{first}; \"coffer check\" tells what is lost, and \
                     what to do",
                    if self.missing.len() == 1 { "a blob".to_owned() } else { format!("{} blobs", self.missing.len()) }
                )))
            }
        }
    }

    fn delete<I: Into<ObjectId>>(&self, place: Place, ids: impl IntoIterator<Item = I>) -> Result<()> {
        let names: Vec<_> = ids.into_iter().map(|id| ObjectName::new(place, id)).collect();
        self.repository.delete_objects(&names)
    }

    fn wait(&self) {
        self.repository.runtime().sleep_ms(self.repository.store().abilities().visibility_delay_ms);
    }

    /// P1 and P6. A mark does not say whose it is: it counts as left behind when no other prune is at work, or when it is old.
    fn list_marks(&self) -> Result<BTreeMap<NoteId, MarkFound>> {
        let notes = self.repository.notes()?;
        let over: HashSet<_> = self.repository.left_behind(&notes, self.options.note.as_ref())?.into_iter().collect();
        let own = self.session.note();
        let others = notes
            .sessions
            .iter()
            .any(|(id, session)| session.operation == "prune" && Some(*id) != own && !over.contains(id));
        let now = self.repository.runtime().now();
        let is_old = |created: Timestamp| now.seconds().saturating_sub(created.seconds()) > MARK_OLD_SECONDS;
        let found = notes.marks.into_iter().map(|(id, mark)| {
            let is_abandoned = !self.options.dry_run && (!others || is_old(mark.created));
            (id, MarkFound { packs: mark.packs.into_iter().collect(), is_abandoned })
        });
        Ok(found.collect())
    }

    /// P2 and P5. When a page is not found, everything is looked at once more, the visibility delay later: its run may not have been
    /// listed yet, or its snapshot was forgotten and pruned while it was walked.
    fn list_roots(&mut self) -> Result<()> {
        self.walked_apart = false;
        for _ in 1..LOOKS_MAX {
            match self.list_roots_once() {
                Err(error) if error.is_damage() => {
                    self.wait();
                    self.bodies.clear();
                }
                result => return result,
            }
        }
        self.list_roots_apart()
    }

    fn list_roots_once(&mut self) -> Result<()> {
        let known: BTreeSet<_> = self.bodies.keys().copied().collect();
        let passed_over = self.passed_over();
        let new = roots::read(self.repository, &mut self.bodies, passed_over)?;
        self.load_index()?;
        if !known.is_empty() && known.iter().all(|id| self.bodies.contains_key(id)) {
            return self.walk(&self.live, new);
        }
        // What is needed by those that are gone alone does not count any more.
        self.live = Live::new(Arc::clone(&self.index));
        self.walk(&self.live, self.bodies.values().copied())
    }

    /// Something cannot be read again and again. Where sealed snapshots need it, nobody knows what they need; one that is not finished
    /// counts as far as it can be read (see [`Engine::check`]).
    fn list_roots_apart(&mut self) -> Result<()> {
        let passed_over = self.passed_over();
        roots::read(self.repository, &mut self.bodies, passed_over)?;
        self.load_index()?;
        self.walked_apart = true;
        self.walk_apart()
    }

    /// Walks everything anew by the index of now, one snapshot after the other.
    pub(super) fn walk_apart(&mut self) -> Result<()> {
        self.live = Live::new(Arc::clone(&self.index));
        let sealed = roots::sealed(self.repository)?;
        for (body, tree) in &self.bodies {
            match self.walk(&self.live, [*tree]) {
                Err(error) if error.is_damage() && !sealed.contains(body) => {}
                result => result.map_err(roots::because)?,
            }
        }
        Ok(())
    }

    /// Takes in what these trees need.
    pub(super) fn walk(&self, live: &Live, trees: impl IntoIterator<Item = BlobId>) -> Result<()> {
        let reader = BlobReader::new(Arc::clone(self.repository), Arc::clone(&self.index), TREE_CACHE_BYTES);
        let walked = live.add_trees(&reader, trees, self.threads, self.cancel);
        self.index.release();
        walked
    }

    fn passed_over(&self) -> &'a BTreeSet<SnapshotId> {
        const NONE: &BTreeSet<SnapshotId> = &BTreeSet::new();
        if self.options.dry_run { &self.options.gone } else { NONE }
    }

    fn load_index(&mut self) -> Result<()> {
        self.index = Arc::new(load_index(self.repository, &self.index)?);
        Ok(())
    }

    /// Copies, makes it durable and known, and reads back what was stored.
    fn copy(&mut self, work: impl FnOnce(&Self) -> Result<()>, report: &mut PruneReport) -> Result<()> {
        let before = self.session.stored_packs();
        let runs = self.session.stored_runs().len();
        match work(self) {
            // The first failure of the session says more than that there was one.
            Err(Error::Poisoned) => return Err(self.session.take_failure().unwrap_or(Error::Poisoned)),
            result => result?,
        }
        self.session.flush()?;
        let stored: Vec<_> = self.session.stored_packs().difference(&before).copied().collect();
        self.mover().read_back(&stored)?;
        self.session.put_index(false)?;
        for run in self.session.stored_runs().iter().skip(runs) {
            self.repository.read_back(run)?;
        }
        report.packs_stored += stored.len() as u64;
        Ok(())
    }

    fn mover(&self) -> Mover<'_> {
        Mover {
            repository: self.repository,
            session: &self.session,
            live: &self.live,
            threads: self.threads,
            progress: self.progress,
            cancel: self.cancel,
        }
    }

    fn move_live(&self) -> Result<()> {
        let moved: Vec<_> = self.victims.iter().filter(|victim| victim.is_moved()).collect();
        let bytes = moved.iter().map(|victim| victim.size_bytes).sum();
        self.progress.found(moved.len() as u64, bytes);
        self.progress.found_all();
        self.mover().move_packs(&moved)
    }

    fn put_mark(&self, packs: &BTreeSet<PackId>) -> Result<NoteId> {
        let mark = Mark { packs: packs.iter().copied().collect(), created: self.repository.runtime().now() };
        Ok(self.repository.save(Place::Locks, ObjectKind::Mark, &mark)?.into())
    }
}

/// The whole index, of which runs in `before` are not read again; a run that cannot be read may be the only one that knows of something
/// needed.
fn load_index(repository: &Repository, before: &IndexSet) -> Result<IndexSet> {
    before.reload(repository.store(), repository.keys()).map_err(roots::because)
}
