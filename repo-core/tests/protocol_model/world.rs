//! The store of the model: six kinds of objects, each with the bits of what it is about.

use std::collections::BTreeSet;

use repo_core::id::{NoteId, PackId, SealId, SnapshotId};

/// How many objects of one kind there can be in one run, those that are gone included: a name never comes twice.
pub(crate) const SLOTS: usize = 16;

/// A set of slots, or of blobs.
pub(crate) type Bits = u16;

pub(crate) const fn bit(slot: u8) -> Bits {
    1 << slot
}

/// The numbers in a set.
pub(crate) fn each(bits: Bits) -> impl Iterator<Item = u8> {
    (0..16).filter(move |slot| bits & bit(*slot) != 0)
}

/// Every subset, the empty one included.
pub(crate) fn subsets(of: Bits) -> impl Iterator<Item = Bits> {
    (0..=of).filter(move |bits| bits & !of == 0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// About blobs.
    Packs,
    /// Index runs, about packs.
    Runs,
    /// About blobs.
    Bodies,
    /// About bodies.
    Seals,
    /// About packs.
    Marks,
    /// Expire notes, about one body.
    Notes,
}

pub(crate) const KINDS: usize = 6;

/// Objects of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Objects {
    about: [Bits; SLOTS],
    /// Was put, and may be gone.
    ever: Bits,
    here: Bits,
    /// Put so lately that a listing may still miss them.
    fresh: Bits,
    /// Deleted so lately that a listing may still show them.
    fading: Bits,
    /// Put without an answer, so that they will be put again.
    unsure: Bits,
}

/// A listing that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Scan {
    certain: Bits,
    possible: Bits,
    ever: Bits,
}

/// What somebody waits for: that everything put or deleted up to now is visible as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Unsettled([(Bits, Bits); KINDS]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct World {
    objects: [Objects; KINDS],
    /// Whether visibility takes its time.
    delayed: bool,
}

impl World {
    pub(crate) fn new(delayed: bool) -> Self {
        Self { objects: Default::default(), delayed }
    }

    fn of(&self, kind: Kind) -> &Objects {
        &self.objects[kind as usize]
    }

    fn of_mut(&mut self, kind: Kind) -> &mut Objects {
        &mut self.objects[kind as usize]
    }

    /// Puts a new object into one of these slots, which are one process's own: so a name depends on who puts what, and not on who
    /// is faster. `None` when the model is too small for one more.
    pub(crate) fn put(&mut self, kind: Kind, about: Bits, slots: Bits) -> Option<u8> {
        let all = self.of_mut(kind);
        let slot = each(slots & !all.ever).next()?;
        all.about[slot as usize] = about;
        all.ever |= bit(slot);
        self.put_again(kind, slot);
        Some(slot)
    }

    /// Puts the same bytes under the same name.
    pub(crate) fn put_again(&mut self, kind: Kind, slot: u8) {
        let delayed = self.delayed;
        let all = self.of_mut(kind);
        if delayed && all.here & bit(slot) == 0 {
            all.fresh |= bit(slot);
        }
        all.here |= bit(slot);
        all.fading &= !bit(slot);
        all.unsure &= !bit(slot);
    }

    /// The answer of a put was lost.
    pub(crate) fn lose(&mut self, kind: Kind, slot: u8) {
        self.of_mut(kind).unsure |= bit(slot);
    }

    pub(crate) fn unsure(&self, kind: Kind) -> Bits {
        self.of(kind).unsure
    }

    pub(crate) fn delete(&mut self, kind: Kind, slot: u8) {
        let delayed = self.delayed;
        let all = self.of_mut(kind);
        if delayed && all.here & bit(slot) != 0 {
            all.fading |= bit(slot);
        }
        all.here &= !bit(slot);
        all.fresh &= !bit(slot);
    }

    /// What is really there.
    pub(crate) fn here(&self, kind: Kind) -> Bits {
        self.of(kind).here
    }

    /// All that these objects are about together, be they still there or not: they never change.
    pub(crate) fn about(&self, kind: Kind, slots: Bits) -> Bits {
        each(slots).fold(0, |all, slot| all | self.of(kind).about[slot as usize])
    }

    /// Those of `slots` that are about any of `what`.
    pub(crate) fn concerned(&self, kind: Kind, slots: Bits, what: Bits) -> Bits {
        each(slots).filter(|slot| self.about(kind, bit(*slot)) & what != 0).fold(0, |all, slot| all | bit(slot))
    }

    /// The beginning of a listing that takes its time.
    pub(crate) fn begin(&self, kind: Kind) -> Scan {
        let all = self.of(kind);
        Scan { certain: all.here & !all.fresh, possible: all.here | all.fading, ever: all.ever }
    }

    /// What a listing may show that ends now. With `read`, what is gone when it ends is left out.
    pub(crate) fn end(&self, kind: Kind, scan: Scan, read: bool) -> impl Iterator<Item = Bits> + use<> {
        let all = self.of(kind);
        let certain = scan.certain & all.here;
        let mut possible = (scan.possible | (all.ever & !scan.ever)) & !certain;
        if read {
            possible &= all.here | all.fading;
        }
        subsets(possible).map(move |more| certain | more)
    }

    pub(crate) fn unsettled(&self) -> Option<Unsettled> {
        let unsettled = self.objects.map(|all| (all.fresh, all.fading));
        unsettled.iter().any(|pair| *pair != (0, 0)).then_some(Unsettled(unsettled))
    }

    pub(crate) fn settle(&mut self, unsettled: &Unsettled) {
        for (all, (fresh, fading)) in self.objects.iter_mut().zip(unsettled.0) {
            all.fresh &= !fresh;
            all.fading &= !fading;
        }
    }

    /// What a look for one object may find.
    pub(crate) fn find(&self, kind: Kind, slot: u8) -> &'static [bool] {
        let all = self.of(kind);
        match (all.here & bit(slot) != 0, (all.fresh | all.fading) & bit(slot) != 0) {
            (_, true) => &[true, false],
            (true, false) => &[true],
            (false, false) => &[false],
        }
    }

    /// Packs that an index run names.
    pub(crate) fn indexed(&self) -> Bits {
        self.about(Kind::Runs, self.here(Kind::Runs))
    }

    /// Bodies that are there and named by a seal.
    pub(crate) fn committed(&self) -> Bits {
        self.about(Kind::Seals, self.here(Kind::Seals)) & self.here(Kind::Bodies)
    }

    /// Whether all backups have all their blobs in packs that every listing shows, by index runs that every listing shows.
    pub(crate) fn is_whole(&self) -> bool {
        let visible = |kind| self.here(kind) & !self.of(kind).fresh;
        let usable = visible(Kind::Packs) & self.about(Kind::Runs, visible(Kind::Runs));
        self.about(Kind::Bodies, self.committed()) & !self.about(Kind::Packs, usable) == 0
    }

    /// How many objects of each kind there are, or were.
    pub(crate) fn counts(&self) -> [u32; KINDS] {
        self.objects.map(|all| all.ever.count_ones())
    }

    /// The same world, everything visible, with room for more: without the slots of what is gone and named by nothing.
    pub(crate) fn compacted(&self) -> Self {
        let named = |by: [Kind; 2]| by.iter().fold(0, |all, kind| all | self.about(*kind, self.here(*kind)));
        let packs = self.here(Kind::Packs) | named([Kind::Runs, Kind::Marks]);
        let bodies = self.here(Kind::Bodies) | named([Kind::Seals, Kind::Notes]);
        let renumber = |about: Bits, keep: Bits| {
            each(keep).enumerate().filter(|(_, old)| about & bit(*old) != 0).fold(0, |all, (new, _)| all | 1 << new)
        };
        let mut world = Self::new(false);
        for (kind, keep, names) in [
            (Kind::Packs, packs, None),
            (Kind::Runs, self.here(Kind::Runs), Some(packs)),
            (Kind::Bodies, bodies, None),
            (Kind::Seals, self.here(Kind::Seals), Some(bodies)),
            (Kind::Marks, self.here(Kind::Marks), Some(packs)),
            (Kind::Notes, self.here(Kind::Notes), Some(bodies)),
        ] {
            for slot in each(keep) {
                let about = self.about(kind, bit(slot));
                let about = names.map_or(about, |names| renumber(about, names));
                let new = world.put(kind, about, Bits::MAX).expect("not more than there were");
                if self.here(kind) & bit(slot) == 0 {
                    world.delete(kind, new);
                }
            }
        }
        world
    }
}

/// Turns slots into ids and back.
pub(crate) trait Slot: Ord + Copy {
    fn of(slot: u8) -> Self;
    fn slot(&self) -> u8;

    fn set(bits: Bits) -> BTreeSet<Self> {
        each(bits).map(Self::of).collect()
    }

    fn bits(set: &BTreeSet<Self>) -> Bits {
        set.iter().fold(0, |all, id| all | bit(id.slot()))
    }
}

macro_rules! slots {
    ($($id:ident),+) => {$(
        impl Slot for $id {
            fn of(slot: u8) -> Self {
                Self([slot; 32])
            }
            fn slot(&self) -> u8 {
                self.0[0]
            }
        }
    )+};
}

slots!(PackId, SnapshotId, SealId, NoteId);
