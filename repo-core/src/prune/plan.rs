//! Deciding what goes: a pure function of what is needed where.

use crate::{
    blob::BlobKind,
    id::PackId,
    prune::usage::{FrameUse, PackUse},
};

/// How much that nobody needs may stay, so that less has to be moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// Stored bytes.
    Bytes(u64),
    /// A share of what the repository has afterwards, in percent, below 100.
    Percent(f64),
    /// Whatever lies beside something that is needed.
    Unlimited,
}

impl Default for MaxUnused {
    /// Two in a hundred: what is left beyond it costs little to move, since frames that stay whole are not compressed again.
    fn default() -> Self {
        Self::Percent(2.0)
    }
}

/// What bounds a plan.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// How much that nobody needs may stay.
    pub max_unused: MaxUnused,
    /// Most bytes of packs that are read and stored again; as many as it takes if there is none.
    pub max_repack_bytes: Option<u64>,
    /// Size that packs are filled up to.
    pub pack_bytes: u64,
}

/// Why a pack goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing in it is needed.
    Unused,
    /// No index run names it, and nobody is at work who may have stored it.
    Unindexed,
    /// A part of it is needed, which is moved.
    PartlyUsed,
    /// The index names it, and it is not there.
    Absent,
    /// It is small, and one of many; what is in it is moved together.
    Small,
}

/// What becomes of a frame of a pack that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFate {
    /// Nothing in it is needed.
    Drop,
    /// It is moved as it is, with the little in it that nobody needs.
    Whole,
    /// What is needed of it is taken out and packed anew.
    Part,
}

/// A pack that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// Its name.
    pub pack: PackId,
    /// What its blobs are.
    pub kind: BlobKind,
    /// Its size.
    pub size_bytes: u64,
    /// Why it goes.
    pub reason: Reason,
    /// What becomes of its frames; empty where nothing is moved.
    pub frames: Vec<FrameFate>,
}

impl Victim {
    /// Whether something of it is moved.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        self.frames.iter().any(|fate| *fate != FrameFate::Drop)
    }
}

/// What goes, and what that gains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Packs that go, those of which nothing is moved first.
    pub victims: Vec<Victim>,
    /// Totals.
    pub totals: Totals,
}

/// Sums over a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Packs there are, and their stored bytes.
    pub packs: u64,
    /// Stored bytes of all packs.
    pub bytes: u64,
    /// Stored bytes that nobody needs, before.
    pub unused_bytes: u64,
    /// Packs that go without anything being moved.
    pub delete_packs: u64,
    /// Their bytes.
    pub delete_bytes: u64,
    /// Packs that go after a part of them was moved.
    pub repack_packs: u64,
    /// Their bytes.
    pub repack_bytes: u64,
    /// Stored bytes that are moved as they are.
    pub move_bytes: u64,
    /// Plain bytes that are packed anew.
    pub rewrite_plain_bytes: u64,
    /// Stored bytes that nobody needs and that stay, about.
    pub remaining_unused_bytes: u64,
}

impl Totals {
    /// Stored bytes that become free, about.
    #[must_use]
    pub const fn freed_bytes(&self) -> u64 {
        self.unused_bytes.saturating_sub(self.remaining_unused_bytes)
    }
}

/// So many small packs of a kind are left alone: merging them gains nothing.
const SMALL_PACKS: usize = 8;

/// A pack is small below this part of a full one.
const SMALL_PART: u64 = 4;

struct Candidate<'a> {
    pack: &'a PackUse,
    dead_bytes: u64,
    reason: Option<Reason>,
}

/// Decides. `packs` are those that the index names, and that are there; `absent` are those it names that are not there; `unindexed` are
/// others that may go, with their sizes.
#[must_use]
pub fn plan(packs: &[PackUse], absent: &[PackUse], unindexed: &[(PackId, BlobKind, u64)], limits: &Limits) -> Plan {
    let mut candidates: Vec<_> = packs.iter().map(candidate).collect();
    let mut totals = Totals {
        packs: (packs.len() + unindexed.len()) as u64,
        bytes: packs.iter().map(|pack| pack.size_bytes).sum::<u64>()
            + unindexed.iter().map(|(_, _, size)| size).sum::<u64>(),
        ..Totals::default()
    };
    totals.unused_bytes = candidates.iter().map(|candidate| candidate.dead_bytes).sum::<u64>()
        + unindexed.iter().map(|(_, _, size)| size).sum::<u64>();
    let used_bytes = totals.bytes - totals.unused_bytes;
    let allowed_bytes = allowed(limits.max_unused, used_bytes);
    choose_packs(&mut candidates, allowed_bytes, limits);
    let threshold = choose_frames(&candidates, allowed_bytes);

    let mut plan = Plan { victims: Vec::new(), totals };
    for &(pack, kind, size_bytes) in unindexed {
        plan.take(Victim { pack, kind, size_bytes, reason: Reason::Unindexed, frames: Vec::new() });
    }
    for PackUse { id, kind, .. } in absent {
        let victim = Victim { pack: *id, kind: *kind, size_bytes: 0, reason: Reason::Absent, frames: Vec::new() };
        plan.victims.push(victim);
    }
    for candidate in &candidates {
        let Some(reason) = candidate.reason else {
            plan.totals.remaining_unused_bytes += candidate.dead_bytes;
            continue;
        };
        let frames: Vec<_> = match reason {
            Reason::Unused | Reason::Unindexed | Reason::Absent => Vec::new(),
            _ => candidate.pack.frames.iter().map(|frame| fate(frame, threshold)).collect(),
        };
        for (frame, fate) in candidate.pack.frames.iter().zip(&frames) {
            match fate {
                FrameFate::Whole => {
                    plan.totals.move_bytes += u64::from(frame.stored_bytes);
                    plan.totals.remaining_unused_bytes += frame.dead_stored_bytes();
                }
                FrameFate::Part => plan.totals.rewrite_plain_bytes += u64::from(frame.plain_bytes),
                FrameFate::Drop => {}
            }
        }
        let PackUse { id, kind, size_bytes, .. } = *candidate.pack;
        plan.take(Victim { pack: id, kind, size_bytes, reason, frames });
    }
    plan.victims.sort_by_key(|victim| (victim.is_moved(), victim.kind == BlobKind::Data, victim.pack));
    plan
}

impl Plan {
    fn take(&mut self, victim: Victim) {
        let (packs, bytes) = if victim.is_moved() {
            (&mut self.totals.repack_packs, &mut self.totals.repack_bytes)
        } else {
            (&mut self.totals.delete_packs, &mut self.totals.delete_bytes)
        };
        *packs += 1;
        *bytes += victim.size_bytes;
        self.victims.push(victim);
    }
}

fn candidate(pack: &PackUse) -> Candidate<'_> {
    let live: u64 = pack.frames.iter().map(|frame| u64::from(frame.live_bytes)).sum();
    let is_unused = live == 0 && pack.frames.iter().any(|frame| frame.plain_bytes > 0) || pack.frames.is_empty();
    let dead_bytes = if is_unused {
        pack.size_bytes
    } else {
        pack.frames.iter().map(FrameUse::dead_stored_bytes).sum::<u64>().min(pack.size_bytes)
    };
    Candidate { pack, dead_bytes, reason: is_unused.then_some(Reason::Unused) }
}

/// Stored bytes that may stay though nobody needs them.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a size, which need not be exact"
)]
fn allowed(max_unused: MaxUnused, used_bytes: u64) -> u64 {
    match max_unused {
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::Unlimited => u64::MAX,
        MaxUnused::Percent(percent) => {
            let share = percent.clamp(0.0, 99.0) / 100.0;
            (used_bytes as f64 * share / (1.0 - share)) as u64
        }
    }
}

/// Chooses packs until what is dead in the others may stay: those with the largest dead part first, since they gain most for what has to
/// be moved. Of what may stay one half is left to frames.
fn choose_packs(candidates: &mut [Candidate<'_>], allowed_bytes: u64, limits: &Limits) {
    let mut remaining: u64 = candidates.iter().filter(|c| c.reason.is_none()).map(|c| c.dead_bytes).sum();
    let mut repack_bytes = 0_u64;
    let fits = |repack_bytes: u64, more: u64| limits.max_repack_bytes.is_none_or(|most| repack_bytes + more <= most);
    let mut order: Vec<_> = candidates.iter_mut().filter(|candidate| candidate.reason.is_none()).collect();
    // Trees first: they are small, and every restore and check reads them.
    order.sort_by(|a, b| {
        let share = |c: &Candidate<'_>| c.dead_bytes.saturating_mul(1 << 20) / c.pack.size_bytes.max(1);
        (b.pack.kind == BlobKind::Tree, share(b), b.pack.id).cmp(&(a.pack.kind == BlobKind::Tree, share(a), a.pack.id))
    });
    if remaining > allowed_bytes {
        for candidate in &mut order {
            if remaining <= allowed_bytes / 2 || candidate.dead_bytes == 0 {
                continue;
            }
            if fits(repack_bytes, candidate.pack.size_bytes) {
                candidate.reason = Some(Reason::PartlyUsed);
                repack_bytes += candidate.pack.size_bytes;
                remaining -= candidate.dead_bytes;
            }
        }
    }
    for kind in BlobKind::ALL {
        let is_small = |candidate: &&mut Candidate<'_>| {
            candidate.reason.is_none()
                && candidate.pack.kind == kind
                && candidate.pack.size_bytes < limits.pack_bytes / SMALL_PART
        };
        let mut small: Vec<_> = order.iter_mut().map(|candidate| &mut **candidate).filter(is_small).collect();
        if small.len() <= SMALL_PACKS {
            continue;
        }
        for candidate in &mut small {
            if fits(repack_bytes, candidate.pack.size_bytes) {
                candidate.reason = Some(Reason::Small);
                repack_bytes += candidate.pack.size_bytes;
            }
        }
    }
}

/// The dead part, in millionths, from which on a frame is packed anew: those with the largest first, until what stays may stay.
fn choose_frames(candidates: &[Candidate<'_>], allowed_bytes: u64) -> u64 {
    let mut remaining = 0;
    let mut frames = Vec::new();
    for candidate in candidates {
        match candidate.reason {
            None => remaining += candidate.dead_bytes,
            Some(Reason::PartlyUsed | Reason::Small) => {
                for frame in candidate.pack.frames.iter().filter(|frame| frame.live_bytes > 0) {
                    remaining += frame.dead_stored_bytes();
                    frames.push((dead_millionths(frame), frame.dead_stored_bytes()));
                }
            }
            Some(_) => {}
        }
    }
    frames.sort_unstable_by(|a, b| b.cmp(a));
    let mut threshold = u64::MAX;
    for (share, dead_bytes) in frames {
        // All frames of the same share go the same way, so that the threshold alone tells.
        if share == 0 || (remaining <= allowed_bytes && share < threshold) {
            break;
        }
        threshold = share;
        remaining = remaining.saturating_sub(dead_bytes);
    }
    threshold
}

fn dead_millionths(frame: &FrameUse) -> u64 {
    let dead_bytes = u64::from(frame.plain_bytes.saturating_sub(frame.live_bytes));
    dead_bytes * 1_000_000 / u64::from(frame.plain_bytes.max(1))
}

fn fate(frame: &FrameUse, threshold: u64) -> FrameFate {
    match frame.live_bytes {
        0 if frame.plain_bytes > 0 => FrameFate::Drop,
        _ if dead_millionths(frame) >= threshold => FrameFate::Part,
        _ => FrameFate::Whole,
    }
}
