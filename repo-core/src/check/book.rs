//! The walk's book: which pages are known, what was said of each, and what is still to be read. About 60 bytes a page.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
};

use hashbrown::HashTable;

use crate::{
    check::page::{Facts, Family, Reference},
    id::BlobId,
    limits,
    tree::{name::Name, node::Totals},
};

/// A page to be read.
#[derive(Clone, Copy)]
pub(super) struct Task {
    /// Position in the book.
    position: u32,
    /// The page.
    pub(super) page: BlobId,
    pub(super) family: Family,
    /// Directories above it.
    depth: u32,
    /// Pages above it that belong to the same directory or list.
    level: u8,
}

/// What is known of a page. Fingerprints are 64 bits: what they guard against is a wrong program, not an attacker, who can hurt
/// nobody by a wrong sum.
struct Record {
    page: BlobId,
    /// What it is and its sums: as first said, and from when it is read on as they are.
    sums: u64,
    /// Its first name; 0 while nothing is known of it.
    first: u64,
    was_read: bool,
}

/// Where a page of a directory ends.
enum End {
    /// It was not read yet.
    Unknown,
    /// With this name.
    Name(Option<Name>),
    /// Where this page ends.
    Page(u32),
}

/// The order of the pages of large directories.
struct Order {
    /// All its entries must come before this name.
    bound: Option<Name>,
    end: End,
}

/// What is wrong with a page by what others say of it.
pub(super) struct Contradiction {
    pub(super) page: BlobId,
    pub(super) reason: &'static str,
    /// Readers stumble over it; otherwise only sums are wrong.
    pub(super) hinders: bool,
}

/// The book.
#[derive(Default)]
pub(super) struct Book {
    records: Vec<Record>,
    table: HashTable<u32>,
    /// Only for pages that are named with a bound.
    order: HashMap<u32, Order>,
    pub(super) tasks: Vec<Task>,
}

fn fingerprint(value: impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().max(1)
}

fn sums(family: Family, totals: Totals) -> u64 {
    fingerprint((family, totals.files, totals.directories, totals.bytes))
}

/// Ids are hashes already.
fn hash(id: &BlobId) -> u64 {
    u64::from_le_bytes(*id.0.first_chunk().unwrap_or(&[0; 8]))
}

const SUMS_DIFFER: &str = "its sums or its kind are not what is said of it elsewhere";
const FIRST_DIFFERS: &str = "it does not begin with the name that is said of it elsewhere";
const ORDER_WRONG: &str = "its names go beyond the beginning of the next page";

impl Book {
    /// Pages known.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes what is said of a page; it becomes a task if it is new.
    pub(super) fn refer(&mut self, reference: &Reference, by: Option<&Task>, found: &mut Vec<Contradiction>) {
        let (depth, level) = match by {
            None => (0, 0),
            Some(by) if reference.is_directory => (by.depth + 1, 0),
            Some(by) if reference.family != by.family => (by.depth, 0),
            Some(by) => (by.depth, by.level + 1),
        };
        let contradiction = |reason, hinders| Contradiction { page: reference.page, reason, hinders };
        let said_sums = sums(reference.family, reference.totals);
        let said_first = reference.first.as_ref().map_or(0, fingerprint);
        let known = self.position(&reference.page);
        let position = known.unwrap_or_else(|| self.insert(reference.page, said_sums));
        let Some(record) = self.records.get_mut(position as usize) else { return };
        let mut again = false;
        if record.sums != said_sums {
            found.push(contradiction(SUMS_DIFFER, false));
        }
        if said_first != 0 {
            if record.first == 0 {
                record.first = said_first;
            } else if record.first != said_first {
                found.push(contradiction(FIRST_DIFFERS, true));
            }
            // Where it ends was not noted when it was read as something that has no bound.
            again = record.was_read && !self.order.contains_key(&position);
        }
        if let Some(bound) = &reference.bound {
            self.bound(position, bound, found);
        } else if said_first != 0 {
            self.order.entry(position).or_insert(Order { bound: None, end: End::Unknown });
        }
        if known.is_none() || again {
            if depth as usize >= limits::TREE_DEPTH_MAX {
                found.push(contradiction("directories are nested too deep", true));
            } else if level > limits::PAGE_LEVELS_MAX {
                found.push(contradiction("there are too many levels of pages", true));
            } else {
                self.tasks.push(Task { position, page: reference.page, family: reference.family, depth, level });
            }
        }
    }

    /// Takes what a page was found to be.
    pub(super) fn read(&mut self, task: &Task, facts: &Facts, found: &mut Vec<Contradiction>) {
        let contradiction = |reason, hinders| Contradiction { page: task.page, reason, hinders };
        let Some(record) = self.records.get_mut(task.position as usize) else { return };
        let actual_first = facts.first.as_ref().map_or(0, fingerprint);
        if !record.was_read {
            let actual_sums = sums(task.family, facts.totals);
            if record.sums != actual_sums {
                found.push(contradiction(SUMS_DIFFER, task.family == Family::Pieces));
                record.sums = actual_sums;
            }
        }
        if record.first != 0 && record.first != actual_first {
            found.push(contradiction(FIRST_DIFFERS, true));
        }
        record.first = actual_first;
        record.was_read = true;
        for reference in &facts.references {
            self.refer(reference, Some(task), found);
        }
        if self.order.contains_key(&task.position) {
            let end = match facts.references.last() {
                Some(last) if facts.lists_pages => self.position(&last.page).map_or(End::Unknown, End::Page),
                _ => End::Name(facts.last.clone()),
            };
            self.end(task.position, end, found);
        }
    }

    fn position(&self, page: &BlobId) -> Option<u32> {
        let is_it = |position: &u32| self.records.get(*position as usize).is_some_and(|record| record.page == *page);
        self.table.find(hash(page), is_it).copied()
    }

    fn insert(&mut self, page: BlobId, sums: u64) -> u32 {
        // Four thousand million pages take more memory than any machine has.
        let position = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        self.records.push(Record { page, sums, first: 0, was_read: false });
        let records = &self.records;
        self.table.insert_unique(hash(&page), position, |position| {
            records.get(*position as usize).map_or(0, |record| hash(&record.page))
        });
        position
    }

    /// All entries of a page must come before `bound`; passed on to the page it ends with.
    fn bound(&mut self, mut position: u32, bound: &Name, found: &mut Vec<Contradiction>) {
        loop {
            let order = self.order.entry(position).or_insert(Order { bound: None, end: End::Unknown });
            if order.bound.as_ref().is_some_and(|known| known <= bound) {
                return;
            }
            order.bound = Some(bound.clone());
            match &order.end {
                End::Page(last) => position = *last,
                End::Name(Some(last)) if last >= bound => {
                    if let Some(record) = self.records.get(position as usize) {
                        found.push(Contradiction { page: record.page, reason: ORDER_WRONG, hinders: true });
                    }
                    return;
                }
                End::Name(_) | End::Unknown => return,
            }
        }
    }

    /// Notes where a page ends, and holds it against its bound.
    fn end(&mut self, position: u32, end: End, found: &mut Vec<Contradiction>) {
        let Some(order) = self.order.get_mut(&position) else { return };
        order.end = end;
        // Set anew, so that the bound is compared and passed on.
        if let Some(bound) = order.bound.take() {
            self.bound(position, &bound, found);
        }
    }
}
