//! How much of each pack is live, frame by frame.

use std::collections::HashSet;

use crate::{
    blob::BlobKind,
    id::PackId,
    index::{set::IndexSet, table::BlobPrefix},
    prune::live::Live,
};

/// A pack of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackUse {
    /// Its name.
    pub id: PackId,
    /// What its blobs are.
    pub kind: BlobKind,
    /// Its stored size, by the index.
    pub size_bytes: u64,
    /// Its frames, in order.
    pub frames: Vec<FrameUse>,
}

/// A frame of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameUse {
    /// Stored length.
    pub stored_bytes: u32,
    /// Plain length.
    pub plain_bytes: u32,
    /// Plain bytes that are needed here.
    pub live_bytes: u32,
}

impl FrameUse {
    /// Stored bytes that nobody needs: as much of them as of the plain ones.
    #[must_use]
    pub fn dead_stored_bytes(&self) -> u64 {
        let dead_bytes = u64::from(self.plain_bytes.saturating_sub(self.live_bytes));
        u64::from(self.stored_bytes) * dead_bytes / u64::from(self.plain_bytes.max(1))
    }
}

/// Blobs by what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobCounts {
    /// Needed.
    pub used: u64,
    /// Needed by nothing.
    pub unused: u64,
    /// Further copies of needed ones.
    pub duplicate: u64,
}

/// A copy of a blob: which pack, and which frame of it.
#[derive(Clone, Copy)]
struct Copy {
    pack: usize,
    frame: usize,
    length_bytes: u32,
}

/// Looks through the index. A blob that lies in several packs that `count` is needed in one of them: the one of which most is needed
/// anyway.
pub(super) fn usage(live: &Live, counted: &HashSet<PackId>) -> (Vec<PackUse>, BlobCounts) {
    let index = live.index();
    let (mut packs, rows) = packs_of(index);
    let mut counts = BlobCounts::default();
    let is_counted: Vec<bool> = packs.iter().map(|pack| counted.contains(&pack.id)).collect();
    let mut several = Vec::new();
    for kind in BlobKind::ALL {
        let mut blobs = Blobs::new(index, &rows, kind);
        let mut copies = Vec::new();
        while let Some(is_live) = blobs.next(live, &mut copies) {
            if !is_live {
                counts.unused += copies.len() as u64;
                continue;
            }
            counts.used += 1;
            counts.duplicate += copies.len().saturating_sub(1) as u64;
            copies.retain(|copy| is_counted.get(copy.pack) == Some(&true));
            match copies.as_slice() {
                // In no pack that counts: whoever chooses has looked for those before.
                [] => {}
                [only] => add(&mut packs, only),
                copies => several.push(copies.to_vec()),
            }
        }
    }
    let shares: Vec<_> = packs.iter().map(|pack| pack.frames.iter().map(|f| u64::from(f.live_bytes)).sum()).collect();
    for copies in several {
        let best = copies.iter().max_by_key(|copy| (shares.get(copy.pack).copied().unwrap_or(0_u64), copy.pack));
        if let Some(copy) = best {
            add(&mut packs, copy);
        }
    }
    (packs, counts)
}

fn add(packs: &mut [PackUse], copy: &Copy) {
    if let Some(frame) = packs.get_mut(copy.pack).and_then(|pack| pack.frames.get_mut(copy.frame)) {
        frame.live_bytes = frame.live_bytes.saturating_add(copy.length_bytes);
    }
}

/// For each run the numbers of its packs; none where an earlier run names the pack, too.
type PackNumbers = Vec<Vec<Option<usize>>>;

/// Every pack once.
fn packs_of(index: &IndexSet) -> (Vec<PackUse>, PackNumbers) {
    let mut packs: Vec<PackUse> = Vec::new();
    let mut known: HashSet<PackId> = HashSet::new();
    let mut numbers = PackNumbers::new();
    for run in index.runs() {
        let mut of_run = Vec::new();
        for row in (0..run.table.counts().packs).filter_map(|row| run.table.pack(row)) {
            if !known.insert(row.id) {
                of_run.push(None);
                continue;
            }
            let frames = (row.first_frame..row.first_frame.saturating_add(row.frames))
                .filter_map(|frame| run.table.frame(frame))
                .map(|(_, frame)| FrameUse {
                    stored_bytes: frame.stored_bytes,
                    plain_bytes: frame.plain_bytes,
                    live_bytes: 0,
                })
                .collect();
            of_run.push(Some(packs.len()));
            packs.push(PackUse { id: row.id, kind: row.kind, size_bytes: row.size_bytes.into(), frames });
        }
        numbers.push(of_run);
    }
    (packs, numbers)
}

/// All blobs of a kind in the order of their ids, with all copies of each: the runs merged.
struct Blobs<'a> {
    index: &'a IndexSet,
    numbers: &'a PackNumbers,
    kind: BlobKind,
    /// The next row of each run, with its prefix.
    next: Vec<(u32, Option<BlobPrefix>)>,
}

impl<'a> Blobs<'a> {
    fn new(index: &'a IndexSet, numbers: &'a PackNumbers, kind: BlobKind) -> Self {
        let next = index.runs().iter().map(|run| (0, run.table.blob(kind, 0).map(|(prefix, _)| prefix))).collect();
        Self { index, numbers, kind, next }
    }

    /// The copies of the next blob, and whether it is live.
    fn next(&mut self, live: &Live, copies: &mut Vec<Copy>) -> Option<bool> {
        loop {
            let prefix = self.next.iter().filter_map(|(_, prefix)| *prefix).min()?;
            copies.clear();
            let mut is_live = false;
            for (number, (run, numbers)) in self.index.runs().iter().zip(self.numbers).enumerate() {
                let Some((row, next)) = self.next.get_mut(number) else { continue };
                while *next == Some(prefix) {
                    is_live |= live.has(number, self.kind, *row);
                    let location = run.table.blob(self.kind, *row).map(|(_, location)| location);
                    let frame = location.and_then(|location| run.table.frame(location.frame));
                    if let (Some(location), Some((frame, place))) = (location, frame)
                        && let Some(Some(pack)) = numbers.get(frame.pack as usize)
                    {
                        let frame = place.ordinal as usize;
                        copies.push(Copy { pack: *pack, frame, length_bytes: location.length_bytes });
                    }
                    run.table.walked(*row);
                    *row += 1;
                    *next = run.table.blob(self.kind, *row).map(|(prefix, _)| prefix);
                }
            }
            if !copies.is_empty() {
                return Some(is_live);
            }
        }
    }
}
