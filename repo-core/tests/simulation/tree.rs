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

/// A tree: which variant of each file. 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree([u64; PATHS.len()]);

impl Tree {
    pub fn new(chance: &mut Chance) -> Self {
        Self([0; PATHS.len()].map(|_| chance.below(VARIANTS + 1)))
    }

    /// Like this one, with a file or two changed.
    pub fn changed(mut self, chance: &mut Chance) -> Self {
        for _ in 0..=chance.below(2) {
            self.0[chance.index(PATHS.len())] = chance.below(VARIANTS + 1);
        }
        self
    }

    pub fn thing(&self) -> Thing {
        let mut root = Thing::directory([]);
        root.put(b"d", Thing::directory([]));
        root.put(b"d/e", Thing::directory([]));
        for ((number, path), variant) in PATHS.iter().enumerate().zip(self.0) {
            if variant > 0 {
                let seed = number as u64 * 100 + variant;
                let length = 200 + usize::try_from(seed * 7919 % 2200).unwrap();
                root.put(path.as_bytes(), Thing::file(noise(seed, length)));
            }
        }
        date(&mut root, 1);
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
