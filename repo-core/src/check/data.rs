//! Reading packs whole: every byte is held against the pack's name, every frame opened, every blob held against its id.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    blob::{BlobKind, BlobLocation, FrameLocation},
    check::{
        Context, ReadData,
        finding::{FindingKind, pack_name},
        inventory::{Inventory, Pack},
        losses::Losses,
        objects::{WRONG_NAME, concerns_one_object, reason},
        select::choose,
    },
    error::{Error, Result, StoreErrorKind},
    id::{BlobId, PackId},
    index::{set::Run, table::BlobPrefix},
    limits,
    pack::{
        builder::object_id,
        reader::{PackKey, PackSummary, directory_of, open_pack_frame},
    },
    parallel::for_each_with,
    store::ByteRange,
};

/// What was read.
pub(super) struct Outcome {
    pub(super) packs: u64,
    pub(super) bytes: u64,
}

/// A frame by its place in a pack, and the blobs in it.
type Frame = (FrameLocation, Vec<(Expected, BlobLocation)>);

/// What a blob is held against.
#[derive(Clone, Copy)]
enum Expected {
    /// Its id, as the directory of its pack has it.
    Id(BlobId),
    /// As much of its id as the index has.
    Prefix(BlobPrefix),
}

impl Expected {
    fn is(&self, id: &BlobId) -> bool {
        match self {
            Self::Id(own) => own == id,
            Self::Prefix(prefix) => prefix.begins(id),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(out),
            Self::Prefix(prefix) => prefix.fmt(out),
        }
    }
}

struct Reading<'a> {
    context: &'a Context<'a>,
    inventory: &'a Inventory,
    /// For each run, how many blobs it says are in each of its packs.
    blob_counts: Vec<Vec<u32>>,
    losses: Mutex<&'a mut Losses>,
    /// Packs that could not be found where the index says they are.
    gone: Mutex<Vec<PackId>>,
}

/// Reads the chosen packs, those whose size is not what the index says, and those that hold tree pages that could not be read.
pub(super) fn check_data(
    context: &Context<'_>,
    inventory: &Inventory,
    read_data: ReadData,
    unreadable: &[BlobId],
    losses: &mut Losses,
) -> Result<Outcome> {
    let present = || inventory.packs.iter().filter_map(|(id, pack)| Some((*id, *pack, pack.stored_bytes?)));
    let sizes = present().map(|(id, _, bytes)| (id, bytes)).collect();
    let mut chosen: BTreeSet<PackId> = choose(sizes, read_data, context.repository.runtime()).into_iter().collect();
    chosen.extend(present().filter(|(_, pack, bytes)| u64::from(pack.row.size_bytes) != *bytes).map(|(id, ..)| id));
    for page in unreadable {
        let copies = inventory.index.copies(BlobKind::Tree, page);
        chosen.extend(
            copies
                .map(|copy| copy.location.frame.pack)
                .filter(|pack| inventory.packs.get(pack).is_some_and(|pack| pack.stored_bytes.is_some())),
        );
    }
    let mut chosen: Vec<Pack> = chosen.iter().filter_map(|id| inventory.packs.get(id).copied()).collect();
    if chosen.is_empty() {
        return Ok(Outcome { packs: 0, bytes: 0 });
    }
    // The largest first, so that no thread is left alone with one at the end.
    chosen.sort_by_key(|pack| std::cmp::Reverse((pack.stored_bytes, pack.row.id)));
    let bytes = chosen.iter().filter_map(|pack| pack.stored_bytes).sum();
    context.progress.found(chosen.len() as u64, bytes);
    context.progress.found_all();
    let reading = Reading {
        context,
        inventory,
        blob_counts: inventory.index.runs().iter().map(count_blobs).collect(),
        losses: Mutex::new(losses),
        gone: Mutex::default(),
    };
    let read_bytes = reading.run(&chosen)?;
    reading.tell_gone();
    Ok(Outcome { packs: chosen.len() as u64, bytes: read_bytes })
}

fn count_blobs(run: &Run) -> Vec<u32> {
    let counts = run.table.counts();
    let mut packs = vec![0u32; counts.packs as usize];
    for kind in BlobKind::ALL {
        for (_, location) in run.table.blobs(kind) {
            if let Some((row, _)) = run.table.frame(location.frame)
                && let Some(count) = packs.get_mut(row.pack as usize)
            {
                *count = count.saturating_add(1);
            }
        }
    }
    packs
}

impl<'a> Reading<'a> {
    /// Reads the packs with several threads. Each keeps its buffers, so that memory is bounded by one pack a thread. Tells how many
    /// bytes were read.
    fn run(&self, chosen: &[Pack]) -> Result<u64> {
        let read_bytes = AtomicU64::new(0);
        let buffers = || (Vec::new(), Vec::new());
        let work = |(bytes, plain): &mut (Vec<u8>, Vec<u8>), pack: &Pack| {
            self.context.cancel.check()?;
            self.examine(pack, bytes, plain)?;
            read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.context.progress.done(1, pack.stored_bytes.unwrap_or(0));
            Ok(())
        };
        for_each_with(chosen, self.context.threads, buffers, work, |_| Ok(()))?;
        Ok(read_bytes.into_inner())
    }

    /// Reads one pack and tells what is wrong with it.
    fn examine(&self, pack: &Pack, bytes: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<()> {
        let id = pack.row.id;
        let name = pack_name(id);
        bytes.clear();
        let range = ByteRange::WholeUpTo { limit_bytes: limits::PACK_BYTES_MAX };
        match self.context.repository.store().get(&name, range, bytes).map_err(Error::from) {
            Ok(()) => {}
            Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => {
                self.gone.lock().unwrap_or_else(PoisonError::into_inner).push(id);
                return Ok(());
            }
            Err(error) if concerns_one_object(&error) => {
                let blobs = self.indexed_blobs(pack);
                let what = FindingKind::PackDamaged { reason: reason(&error), blobs, lost_blobs: blobs };
                let finding = self.context.findings.add(name, what);
                self.lock().pack(id, finding);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let mut problems = Vec::new();
        if bytes.len() as u64 != u64::from(pack.row.size_bytes) {
            problems.push(format!("it has {} bytes, the index says {}", bytes.len(), pack.row.size_bytes));
        }
        if object_id(bytes) != id.into() {
            problems.push(WRONG_NAME.to_owned());
        }
        let summary = directory_of(self.context.repository.keys(), id, bytes);
        if let Err(error) = &summary
            && error.is_newer()
            && problems.is_empty()
        {
            let finding = self.context.findings.add(name, FindingKind::Newer { reason: reason(error) });
            self.lock().pack(id, finding);
            return Ok(());
        }
        let index_problem = match &summary {
            Ok(summary) => self.compare(pack, summary),
            Err(error) => {
                problems.push(reason(error));
                None
            }
        };
        // By the directory where it agrees with the index, which is cheaper; by the index otherwise, as readers go by it.
        match &summary {
            Ok(summary) if index_problem.is_none() => {
                let frames = summary.directory.blobs(id);
                let lost = self.open_frames(summary.kind, &summary.key, group(frames), bytes, plain);
                self.tell_pack(pack, problems, lost);
            }
            _ => {
                let row = &pack.row;
                let frames = self.frames_by_index(pack);
                let lost = self.open_frames(row.kind, &row.key, frames.into_iter(), bytes, plain);
                let whole = summary.as_ref().is_ok_and(|summary| {
                    let frames = group(summary.directory.blobs(id));
                    problems.is_empty() && self.open_frames(summary.kind, &summary.key, frames, bytes, plain).is_empty()
                });
                match index_problem {
                    Some(reason) if whole => {
                        let finding = self.context.findings.add(name, FindingKind::IndexWrong { reason });
                        self.lose(pack, &lost, finding);
                    }
                    index_problem => {
                        problems.extend(
                            index_problem.map(|reason| format!("the index describes it differently: {reason}")),
                        );
                        self.tell_pack(pack, problems, lost);
                    }
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, &'a mut Losses> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn indexed_blobs(&self, pack: &Pack) -> u64 {
        let counts = self.blob_counts.get(pack.run);
        counts.and_then(|counts| counts.get(pack.row_number as usize)).map_or(0, |count| u64::from(*count))
    }

    /// How the index's description differs from the pack's own.
    fn compare(&self, pack: &Pack, summary: &PackSummary) -> Option<String> {
        let run = self.inventory.index.runs().get(pack.run)?;
        let row = &pack.row;
        if row.kind != summary.kind || row.key != summary.key {
            return Some("its kind, its salt or its version is another".into());
        }
        let frames = summary.directory.frames.len();
        if row.frames as usize != frames {
            return Some(format!("{} frames instead of {frames}", row.frames));
        }
        for ((own, _), number) in summary.directory.locations(row.id).zip(row.first_frame..) {
            if run.table.frame(number).is_none_or(|(_, indexed)| indexed != own) {
                return Some(format!("frame {} is another", own.ordinal));
            }
        }
        let mut blobs: u64 = 0;
        for (blob, own) in summary.directory.blobs(row.id) {
            blobs += 1;
            if !run.table.find_all(row.kind, &blob).any(|(_, indexed)| indexed == own) {
                return Some(format!("{} blob {blob} is not where it says, or not in it", row.kind));
            }
        }
        let indexed = self.indexed_blobs(pack);
        (indexed != blobs).then(|| format!("{indexed} blobs instead of {blobs}"))
    }

    /// A pack's frames and blobs as the index has them. Looks through the whole run, so for damage only.
    fn frames_by_index(&self, pack: &Pack) -> Vec<Frame> {
        let Some(run) = self.inventory.index.runs().get(pack.run) else { return Vec::new() };
        let rows = pack.row.first_frame..pack.row.first_frame.saturating_add(pack.row.frames);
        let mut frames: BTreeMap<u32, Frame> =
            rows.filter_map(|number| Some((number, (run.table.frame(number)?.1, Vec::new())))).collect();
        let kind = pack.row.kind;
        for (prefix, row) in run.table.blobs(kind) {
            if let Some((frame, blobs)) = frames.get_mut(&row.frame) {
                let (offset_bytes, length_bytes) = (row.offset_bytes, row.length_bytes);
                blobs.push((Expected::Prefix(prefix), BlobLocation { frame: *frame, offset_bytes, length_bytes }));
            }
        }
        frames.into_values().collect()
    }

    /// Opens frames and holds their blobs against their ids; gives what is lost.
    fn open_frames(
        &self,
        kind: BlobKind,
        key: &PackKey,
        frames: impl Iterator<Item = Frame>,
        bytes: &[u8],
        plain: &mut Vec<u8>,
    ) -> Vec<Lost> {
        let keys = self.context.repository.keys();
        let mut lost = Vec::new();
        for (frame, blobs) in frames {
            let start = frame.offset_bytes as usize;
            let opened = match bytes.get(start..start.saturating_add(frame.stored_bytes as usize)) {
                Some(stored) => open_pack_frame(keys, kind, key, &frame, stored, plain).map_err(|error| reason(&error)),
                None => Err(format!("frame {} lies beyond its end", frame.ordinal)),
            };
            if let Err(reason) = opened {
                lost.push(Lost { reason, blobs: blobs.len() as u64, at: At::Frame(frame.ordinal) });
                continue;
            }
            for (id, location) in blobs {
                let start = location.offset_bytes as usize;
                let blob = plain.get(start..start.saturating_add(location.length_bytes as usize));
                if blob.is_none_or(|blob| !id.is(&keys.blob_id(kind, blob))) {
                    let reason = format!("{kind} blob {id} in frame {} is another blob", frame.ordinal);
                    lost.push(Lost { reason, blobs: 1, at: At::Blob(location) });
                }
            }
        }
        lost
    }

    /// Tells what is wrong with a pack, if anything is.
    fn tell_pack(&self, pack: &Pack, mut problems: Vec<String>, lost: Vec<Lost>) {
        if let Some(first) = lost.first() {
            problems.push(first.reason.clone());
        }
        if problems.is_empty() {
            return;
        }
        let what = FindingKind::PackDamaged {
            reason: problems.join("; "),
            blobs: self.indexed_blobs(pack),
            lost_blobs: lost.iter().map(|lost| lost.blobs).sum(),
        };
        let finding = self.context.findings.add(pack_name(pack.row.id), what);
        self.lose(pack, &lost, finding);
    }

    fn lose(&self, pack: &Pack, lost: &[Lost], finding: usize) {
        let mut losses = self.lock();
        for lost in lost {
            match &lost.at {
                At::Frame(ordinal) => losses.frame(pack.row.id, *ordinal, finding),
                At::Blob(location) => losses.location(location, finding),
            }
        }
    }

    /// Packs that were listed and then were gone.
    fn tell_gone(self) {
        for pack in self.gone.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let finding = self.context.findings.add(pack_name(pack), FindingKind::PackMissing);
            let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
            losses.pack(pack, finding);
        }
    }
}

/// A frame or blob that cannot be read.
struct Lost {
    reason: String,
    /// Blobs that are lost with it.
    blobs: u64,
    at: At,
}

enum At {
    Frame(u32),
    Blob(BlobLocation),
}

/// Gathers the blobs of each frame; they come frame by frame.
fn group(blobs: impl Iterator<Item = (BlobId, BlobLocation)>) -> impl Iterator<Item = Frame> {
    let mut blobs = blobs.map(|(id, location)| (Expected::Id(id), location)).peekable();
    std::iter::from_fn(move || {
        let first = blobs.next()?;
        let frame = first.1.frame;
        let mut group = vec![first];
        while let Some(next) = blobs.next_if(|(_, location)| location.frame == frame) {
            group.push(next);
        }
        Some((frame, group))
    })
}
