//! What is in the target already: which names there are, and whether they are kept.

use super::Overwrite;
use crate::{
    sink::{Attributes, Existing, ExistingKind},
    tree::name::Name,
};

/// Names that are in a directory of the target, and which of them the snapshot has, too.
///
/// A name counts as there only when it is listed byte by byte: on a file system that takes `A` and `a` for the same, the
/// second of them is not listed, cannot be made, and so shows up as a problem rather than overwriting the first.
pub(super) struct Listing {
    /// Sorted.
    names: Vec<Name>,
    seen: Vec<bool>,
    /// Entries of a snapshot come sorted, so a look-up begins where the last one ended.
    at: usize,
}

impl Listing {
    pub(super) fn new(names: Vec<Name>) -> Self {
        let seen = vec![false; names.len()];
        Self { names, seen, at: 0 }
    }

    /// The snapshot has this name; whether it is in the target. Names must be asked for in order.
    pub(super) fn see(&mut self, name: &Name) -> bool {
        while self.names.get(self.at).is_some_and(|there| there < name) {
            self.at += 1;
        }
        let there = self.names.get(self.at) == Some(name);
        if there && let Some(seen) = self.seen.get_mut(self.at) {
            *seen = true;
        }
        there
    }

    /// Whether a name is in the target.
    pub(super) fn has(&self, name: &Name) -> bool {
        self.names.binary_search(name).is_ok()
    }

    /// The names that the snapshot does not have.
    pub(super) fn unseen(self) -> impl Iterator<Item = Name> {
        self.names.into_iter().zip(self.seen).filter_map(|(name, seen)| (!seen).then_some(name))
    }
}

/// Whether something that is there stays as it is. `size_bytes` is the length of the file that would take its place, if
/// it is a regular file.
pub(super) fn is_kept(
    overwrite: Overwrite,
    existing: &Existing,
    kind: ExistingKind,
    size_bytes: u64,
    attributes: &Attributes,
) -> bool {
    match overwrite {
        Overwrite::Always => false,
        Overwrite::IfChanged => {
            existing.kind == kind
                && existing.modified == attributes.modified
                && (kind != ExistingKind::File || existing.size_bytes == size_bytes)
        }
        Overwrite::IfNewer => existing.modified >= attributes.modified,
        Overwrite::Never => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_tells_what_the_snapshot_lacks() {
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        let mut listing = Listing::new(["a", "c", "d", "x"].map(name).to_vec());
        assert!(!listing.see(&name("0")));
        assert!(!listing.see(&name("b")));
        assert!(listing.see(&name("c")));
        assert!(!listing.see(&name("e")));
        assert!(listing.has(&name("a")) && !listing.has(&name("b")));
        assert_eq!(listing.unseen().collect::<Vec<_>>(), ["a", "d", "x"].map(name));
    }
}
