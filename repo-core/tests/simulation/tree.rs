//! What is backed up: small trees out of few files of few variants each, so that what one snapshot does not need any more another
//! one needs again.

use repo_core::time::Timestamp;

use crate::{
    chance::Chance,
    common::{
        model::{Kind, Thing},
        sample::noise,
    },
};

const PATHS: [&str; 9] = ["a", "b", "c", "d/a", "d/b", "d/c", "d/e/a", "d/e/b", "f"];
const VARIANTS: u64 = 3;
/// What may be left out when a snapshot is rewritten: a file, or a directory and all that is in it.
const LEFT_OUT: [&str; 6] = ["a", "c", "d/a", "d/e", "d/e/b", "d"];

/// A tree: which variant of each file, 0 is none; and what was left out of it later on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    variants: [u64; PATHS.len()],
    left_out: [bool; LEFT_OUT.len()],
}

impl Tree {
    pub fn new(chance: &mut Chance) -> Self {
        Self { variants: [0; PATHS.len()].map(|_| chance.below(VARIANTS + 1)), left_out: [false; LEFT_OUT.len()] }
    }

    /// A source like this one, with a file or two changed; what was left out of a snapshot is still there.
    pub fn changed(mut self, chance: &mut Chance) -> Self {
        for _ in 0..=chance.below(2) {
            self.variants[chance.index(PATHS.len())] = chance.below(VARIANTS + 1);
        }
        self.left_out = [false; LEFT_OUT.len()];
        self
    }

    /// The same without one of its files or directories, and the path of that.
    pub fn without(mut self, chance: &mut Chance) -> (Self, &'static str) {
        let at = chance.index(LEFT_OUT.len());
        self.left_out[at] = true;
        (self, LEFT_OUT[at])
    }

    pub fn thing(&self) -> Thing {
        let mut root = Thing::directory([]);
        root.put(b"d", Thing::directory([]));
        root.put(b"d/e", Thing::directory([]));
        for ((number, path), variant) in PATHS.iter().enumerate().zip(self.variants) {
            if variant > 0 {
                let seed = number as u64 * 100 + variant;
                let length = 200 + usize::try_from(seed * 7919 % 2200).unwrap();
                root.put(path.as_bytes(), Thing::file(noise(seed, length)));
            }
        }
        date(&mut root, 1);
        for path in LEFT_OUT.iter().zip(self.left_out).filter_map(|(path, left_out)| left_out.then_some(path)) {
            root.take(path.as_bytes());
        }
        root
    }
}

/// Inodes and times that depend on the tree alone.
fn date(thing: &mut Thing, number: u64) {
    let mut content = thing.stat.size_bytes;
    if let Kind::Directory(entries) = &mut thing.kind {
        for (place, entry) in entries.values_mut().enumerate() {
            date(entry, number * 16 + place as u64 + 1);
            content = content.wrapping_mul(31).wrapping_add(entry.stat.modified.seconds().cast_unsigned());
        }
    }
    let time = Timestamp::from_seconds(1_600_000_000 + i64::try_from(content % 100_000_000).unwrap());
    thing.stat.inode = number;
    (thing.stat.modified, thing.stat.changed, thing.stat.accessed) = (time, time, time);
}
