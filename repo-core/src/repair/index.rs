//! Making the index agree with the packs.
//!
//! ```text
//! read all runs; list the packs; list them again: what neither listing has, and the store denies one by one, is missing
//! read the directories of packs that no run names, that are described differently or with another size (or of all)
//! a run is wrong if it is damaged, or says of any pack anything but what that says itself, or names one that is missing
//! put runs for all packs that only wrong runs name, and for those no run names; read them back; barrier
//! delete the wrong runs
//! ```
//!
//! A sound index is left as it is, to the last object. What a pack that cannot be read says of itself is not known: what the index says
//! of it stays.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use crate::{
    crypto::keys::ObjectKind,
    error::{Error, Result, StoreErrorKind},
    id::PackId,
    index::{builder::IndexBuilder, digest},
    pack::reader::{PackSummary, read_directory},
    parallel,
    progress::{Cancel, Progress},
    repair::runs::Runs,
    repository::{Repository, notes::Session},
    store::{ObjectName, Place},
};

/// Blobs of one run that is written: what is in memory at once. A larger run is written alone.
const RUN_BLOBS: usize = 1 << 20;

/// What is to be done.
#[derive(Debug, Clone, Default)]
pub struct IndexOptions {
    /// Ask every pack what it holds, rather than those alone about which there is a doubt.
    pub read_all_packs: bool,
    /// Find out, and change nothing.
    pub dry_run: bool,
    /// Who works here; `None` leaves no note.
    pub note: Option<Session>,
}

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Packs in the store.
    pub packs: u64,
    /// Runs that could be read.
    pub runs: u64,
    /// Runs that cannot be read, and how that shows.
    pub runs_damaged: Vec<String>,
    /// Runs of a newer version of this program, which were left as they are.
    pub runs_newer: u64,
    /// Runs that were replaced, the damaged ones included.
    pub runs_replaced: u64,
    /// Runs that were stored.
    pub runs_stored: u64,
    /// Packs that no run named, and that are named now.
    pub packs_found: BTreeSet<PackId>,
    /// Packs that were described wrongly.
    pub packs_mended: BTreeSet<PackId>,
    /// Packs that the index named and that are not there.
    pub packs_missing: BTreeSet<PackId>,
    /// Packs that do not say what they hold, and how that shows.
    pub packs_unreadable: BTreeMap<PackId, String>,
}

impl IndexReport {
    /// Whether nothing had to be done.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.runs_replaced == 0 && self.packs_found.is_empty()
    }
}

/// What a pack says of itself.
enum Truth {
    Says(PackSummary),
    Unreadable(String),
    /// It was removed meanwhile.
    Gone,
}

/// Makes the index agree with the packs. `progress` is told of packs whose directories are read, as files.
///
/// # Errors
/// When the store fails, or contradicts itself about what there is: then no run is deleted.
pub fn index(
    repository: &Repository,
    options: &IndexOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<IndexReport> {
    repository.check_writable()?;
    let runs = Runs::read(repository)?;
    // Marks before packs: what is condemned and no longer in the index shall not come back.
    let condemned = repository.notes()?.condemned();
    let mut listed = list(repository)?;
    listed.extend(list(repository)?);
    let mut report = IndexReport {
        packs: listed.len() as u64,
        runs: runs.read.len() as u64,
        runs_damaged: runs.damaged.iter().map(|(_, error)| error.chain()).collect(),
        runs_newer: runs.newer.len() as u64,
        ..IndexReport::default()
    };
    let mut said: BTreeMap<PackId, Said> = BTreeMap::new();
    for (pack, digest) in runs.read.iter().flat_map(super::runs::ReadRun::packs) {
        let said = said.entry(pack.id).or_insert(Said { digest, size_bytes: pack.size_bytes.into(), differs: false });
        said.differs |= said.digest != digest;
    }
    report.packs_missing = missing(repository, &said, &listed)?;
    let in_doubt: Vec<(PackId, u64)> = listed
        .iter()
        .filter(|(pack, size_bytes)| match said.get(pack) {
            Some(said) => options.read_all_packs || said.differs || said.size_bytes != **size_bytes,
            None => !condemned.contains(pack),
        })
        .map(|(pack, size_bytes)| (*pack, *size_bytes))
        .collect();
    let truths = ask(repository, &in_doubt, progress, cancel)?;
    let mut plan = Plan::new(&runs, &said, &listed, truths, &mut report);
    if !plan.is_empty() && !options.dry_run {
        let note =
            options.note.as_ref().map(|note| repository.save(Place::Locks, ObjectKind::Session, note)).transpose()?;
        let result = plan.carry_out(repository, &runs, &mut report, cancel);
        if let Some(note) = note {
            // One that stays costs the next backup a look.
            let _ = repository.delete_object(&ObjectName::new(Place::Locks, note));
        }
        result?;
    }
    Ok(report)
}

/// What the runs say of a pack.
struct Said {
    digest: u64,
    size_bytes: u64,
    differs: bool,
}

fn list(repository: &Repository) -> Result<BTreeMap<PackId, u64>> {
    let packs = repository.list(Place::Data)?;
    Ok(packs.into_iter().map(|info| (info.name.id().into(), info.size_bytes)).collect())
}

/// Packs that the index names and that are not there, by two listings and by asking for each.
fn missing(
    repository: &Repository,
    said: &BTreeMap<PackId, Said>,
    listed: &BTreeMap<PackId, u64>,
) -> Result<BTreeSet<PackId>> {
    let missing: BTreeSet<PackId> = said.keys().filter(|pack| !listed.contains_key(pack)).copied().collect();
    for pack in &missing {
        let name = ObjectName::new(Place::Data, *pack);
        if repository.store().stat(&name)?.is_some() {
            return Err(Error::Refused(format!(
                "nothing was changed: the store lists its packs without {name}, and has it; nothing can be decided by such listings"
            )));
        }
    }
    Ok(missing)
}

/// Reads the directories of these packs.
fn ask(
    repository: &Repository,
    packs: &[(PackId, u64)],
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<HashMap<PackId, Truth>> {
    progress.found(packs.len() as u64, 0);
    progress.found_all();
    let truths = Mutex::new(HashMap::new());
    let threads = repository.store().abilities().connections.max(1);
    parallel::for_each(packs, threads, |(pack, size_bytes)| {
        cancel.check()?;
        let truth = match read_directory(repository.store(), repository.keys(), *pack, *size_bytes) {
            Ok(summary) => Truth::Says(summary),
            Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => Truth::Gone,
            Err(error) if error.is_damage() || error.is_newer() => Truth::Unreadable(error.chain()),
            Err(error) if error.store_kind() == Some(StoreErrorKind::Permanent) => Truth::Unreadable(error.chain()),
            Err(error) => return Err(error),
        };
        progress.done(1, 0);
        truths.lock().unwrap_or_else(PoisonError::into_inner).insert(*pack, truth);
        Ok(())
    })?;
    Ok(truths.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What has to be put and deleted.
struct Plan {
    /// Packs with what they say of themselves, which no run names rightly, or a wrong one names, too.
    add: BTreeMap<PackId, (u32, PackSummary)>,
    /// Packs whose rows are not taken from wrong runs: they are not there, or nobody knows which are right.
    leave_out: HashSet<PackId>,
    /// Wrong runs that can be read, by position.
    wrong: Vec<usize>,
    delete: Vec<ObjectName>,
}

impl Plan {
    fn new(
        runs: &Runs,
        said: &BTreeMap<PackId, Said>,
        listed: &BTreeMap<PackId, u64>,
        truths: HashMap<PackId, Truth>,
        report: &mut IndexReport,
    ) -> Self {
        let mut digests = HashMap::new();
        let mut summaries = BTreeMap::new();
        let mut disputed = HashSet::new();
        for (pack, truth) in truths {
            let size_bytes = listed.get(&pack).and_then(|bytes| u32::try_from(*bytes).ok()).unwrap_or(u32::MAX);
            match truth {
                Truth::Says(summary) => {
                    digests.insert(pack, digest::of_directory(pack, size_bytes, &summary));
                    summaries.insert(pack, (size_bytes, summary));
                }
                Truth::Unreadable(reason) => {
                    if said.get(&pack).is_some_and(|said| said.differs) {
                        disputed.insert(pack);
                    }
                    report.packs_unreadable.insert(pack, reason);
                }
                Truth::Gone => {}
            }
        }
        let (mut wrong, mut delete) = (Vec::new(), Vec::new());
        let (mut right, mut replaced) = (HashSet::new(), HashSet::new());
        for (position, run) in runs.read.iter().enumerate() {
            let mut is_wrong = run.misnamed;
            for (pack, digest) in run.packs() {
                if digests.get(&pack.id).is_some_and(|truth| *truth != digest) {
                    report.packs_mended.insert(pack.id);
                    is_wrong = true;
                }
                is_wrong |= report.packs_missing.contains(&pack.id);
            }
            if !is_wrong {
                right.extend(run.packs().map(|(pack, _)| pack.id));
                continue;
            }
            // Where nobody knows which of several runs is right, all stay.
            if !run.packs().any(|(pack, _)| disputed.contains(&pack.id)) {
                wrong.push(position);
                replaced.extend(run.packs().map(|(pack, _)| pack.id));
                delete.push(run.name);
            }
        }
        // A run that a disk does not give today may be all that is known of a pack that it does not give either.
        let in_the_dark = report.packs_unreadable.keys().any(|pack| !said.contains_key(pack));
        let may_come_back = |error: &Error| error.store_kind() == Some(StoreErrorKind::Permanent);
        let lost = runs.damaged.iter().filter(|(_, error)| !(in_the_dark && may_come_back(error)));
        delete.extend(lost.map(|(name, _)| *name));
        // Whoever deletes a run has put one that names the same, whatever other runs name it today.
        summaries.retain(|pack, _| replaced.contains(pack) || !right.contains(pack));
        report.packs_found = summaries.keys().filter(|pack| !said.contains_key(pack)).copied().collect();
        // Rows of packs in dispute are those of runs that stay.
        let leave_out = report.packs_missing.iter().copied().chain(disputed).collect();
        report.runs_replaced = delete.len() as u64;
        Self { add: summaries, leave_out, wrong, delete }
    }

    fn is_empty(&self) -> bool {
        self.add.is_empty() && self.delete.is_empty()
    }

    fn carry_out(
        &mut self,
        repository: &Repository,
        runs: &Runs,
        report: &mut IndexReport,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut builder = self.builder();
        for (pack, (size_bytes, summary)) in std::mem::take(&mut self.add) {
            if builder.blobs() > RUN_BLOBS {
                report.runs_stored += put(repository, std::mem::replace(&mut builder, self.builder()))?;
            }
            builder.add_pack(pack, summary.key, size_bytes, summary.kind, &summary.directory);
            self.leave_out.insert(pack);
        }
        for run in self.wrong.iter().filter_map(|position| runs.read.get(*position)) {
            cancel.check()?;
            let counts = run.table.counts();
            if !builder.is_empty() && builder.blobs() + counts.data as usize + counts.tree as usize > RUN_BLOBS {
                report.runs_stored += put(repository, std::mem::replace(&mut builder, self.builder()))?;
            }
            builder.add_table(&run.table);
            self.leave_out.extend(run.packs().map(|(pack, _)| pack.id));
        }
        report.runs_stored += put(repository, builder)?;
        // Otherwise a reader could see neither the new runs nor the old ones.
        repository.runtime().sleep_ms(repository.store().abilities().visibility_delay_ms);
        cancel.check()?;
        repository.delete_objects(&self.delete)
    }

    fn builder(&self) -> IndexBuilder {
        let mut builder = IndexBuilder::default();
        builder.leave_out(self.leave_out.iter().copied());
        builder
    }
}

/// Puts a run and reads it back; how many that were.
fn put(repository: &Repository, builder: IndexBuilder) -> Result<u64> {
    if builder.is_empty() {
        return Ok(0);
    }
    let run = builder.finish(repository.keys(), repository.runtime())?;
    let name = ObjectName::new(Place::Index, run.id);
    repository.put_object(&name, &run.bytes)?;
    repository.read_back(&name)?;
    Ok(1)
}
