//! Walking the trees of all snapshots, each page once, however many snapshots and directories share it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    blob::{BlobKind, ReadBlobs},
    check::{
        Context,
        book::{Book, Contradiction, Task},
        finding::{FindingKind, tree_blob_name},
        losses::Losses,
        objects::{Snapshots, concerns_one_object, reason},
        page::{Facts, Family, Need, Reference},
    },
    codec,
    error::{Error, Result},
    id::BlobId,
    index::set::IndexSet,
    parallel::for_each_found,
    repository::reader::BlobReader,
    tree::TreeBlob,
};

/// What the walk found that must be looked into further.
#[derive(Default)]
pub(super) struct Outcome {
    /// Distinct pages.
    pub(super) pages: u64,
    /// Pages that could not be read, and why.
    pub(super) unreadable: Vec<(BlobId, Error)>,
}

struct State<'a> {
    book: Book,
    losses: &'a mut Losses,
    unreadable: Vec<(BlobId, Error)>,
}

struct Walk<'a> {
    context: &'a Context<'a>,
    reader: &'a BlobReader,
    state: Mutex<State<'a>>,
}

/// Walks the trees of these snapshots.
pub(super) fn check_trees(
    context: &Context<'_>,
    reader: &BlobReader,
    snapshots: &Snapshots,
    losses: &mut Losses,
) -> Result<Outcome> {
    let mut book = Book::default();
    let mut found = Vec::new();
    // From the oldest on, so that the last one in, the newest, is walked first.
    for (_, snapshot) in snapshots.iter().rev() {
        let root = Reference {
            page: snapshot.tree,
            family: Family::Directory,
            totals: snapshot.totals,
            first: None,
            bound: None,
            is_directory: true,
        };
        book.refer(&root, None, &mut found);
    }
    let walk = Walk { context, reader, state: Mutex::new(State { book, losses, unreadable: Vec::new() }) };
    let first = {
        let mut state = walk.lock();
        walk.tell(&mut state, found);
        std::mem::take(&mut state.book.tasks)
    };
    for_each_found(first, context.threads, Vec::new, |scratch, task, tasks| walk.visit(&task, scratch, tasks))?;
    let state = walk.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Outcome { pages: state.book.len() as u64, unreadable: state.unreadable })
}

impl<'a> Walk<'a> {
    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        // A panic in a thread ends the check: the scope passes it on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn visit(&self, task: &Task, scratch: &mut Vec<u8>, tasks: &mut Vec<Task>) -> Result<()> {
        self.context.cancel.check()?;
        let facts = self.read(task, scratch);
        let lost = match &facts {
            Ok((_, facts)) => self.lost(&facts.needs),
            Err(_) => Vec::new(),
        };
        let mut state = self.lock();
        match facts {
            Err(error) if concerns_one_object(&error) => state.unreadable.push((task.page, error)),
            Err(error) => return Err(error),
            Ok((family, _)) if family != task.family => {
                let reason = match family {
                    Family::Directory => "it is a directory where a file's piece list must be",
                    Family::Pieces => "it is a file's piece list where a directory must be",
                };
                self.damaged(&mut state, task.page, reason.to_owned());
            }
            Ok((_, facts)) => {
                if let Some(problem) = facts.problems.first() {
                    let reason = match facts.problems.len() - 1 {
                        0 => problem.clone(),
                        more => format!("{problem}; and {more} more like it"),
                    };
                    self.damaged(&mut state, task.page, reason);
                }
                if let Some(reason) = facts.newer.clone() {
                    self.context.findings.add(tree_blob_name(&task.page), FindingKind::Newer { reason });
                }
                for (blob, what) in lost {
                    // The walk may come by a blob many times; one finding is enough.
                    if state.losses.cause(self.reader.index(), BlobKind::Data, &blob).is_none() {
                        let finding = self.context.findings.add(format_args!("data blob {blob}"), what);
                        state.losses.blob(BlobKind::Data, blob, finding);
                    }
                }
                let mut found = Vec::new();
                state.book.read(task, &facts, &mut found);
                self.tell(&mut state, found);
            }
        }
        tasks.append(&mut state.book.tasks);
        Ok(())
    }

    fn read(&self, task: &Task, scratch: &mut Vec<u8>) -> Result<(Family, Facts)> {
        self.reader.read_blob(BlobKind::Tree, &task.page, scratch)?;
        let page: TreeBlob =
            codec::decode(scratch).map_err(|error| crate::error::Damage::new(tree_blob_name(&task.page), error))?;
        Ok(Facts::of(&page))
    }

    /// Which of these blobs the index does not have, or not with this length.
    fn lost(&self, needs: &[Need]) -> Vec<(BlobId, FindingKind)> {
        let index = self.reader.index();
        needs.iter().filter_map(|need| Some((need.blob, what_is_wrong(index, need)?))).collect()
    }

    fn damaged(&self, state: &mut State<'_>, page: BlobId, reason: String) {
        let finding = self.context.findings.add(tree_blob_name(&page), FindingKind::TreeDamaged { reason });
        state.losses.blob(BlobKind::Tree, page, finding);
    }

    fn tell(&self, state: &mut State<'_>, found: Vec<Contradiction>) {
        for Contradiction { page, reason, hinders } in found {
            let reason = reason.to_owned();
            if hinders {
                self.damaged(state, page, reason);
            } else {
                self.context.findings.add(tree_blob_name(&page), FindingKind::TotalsWrong { reason });
            }
        }
    }
}

fn what_is_wrong(index: &IndexSet, need: &Need) -> Option<FindingKind> {
    let mut lengths = index.copies(BlobKind::Data, &need.blob).map(|copy| copy.location.length_bytes);
    let first = lengths.next();
    match first {
        None => Some(FindingKind::BlobMissing),
        Some(length) if u64::from(length) == need.length_bytes => None,
        Some(_) if lengths.any(|length| u64::from(length) == need.length_bytes) => None,
        Some(index_bytes) => Some(FindingKind::BlobLength { index_bytes, needed_bytes: need.length_bytes }),
    }
}

/// Says which pages could not be read, unless the loss of what holds them was told of already.
pub(super) fn tell_unreadable(
    context: &Context<'_>,
    index: &IndexSet,
    unreadable: Vec<(BlobId, Error)>,
    losses: &mut Losses,
) {
    for (page, error) in unreadable {
        if losses.cause(index, BlobKind::Tree, &page).is_some() {
            continue;
        }
        let what = match &error {
            Error::MissingBlob { .. } => FindingKind::BlobMissing,
            error if error.is_newer() => FindingKind::Newer { reason: error.chain() },
            Error::Damaged(damage) if damage.object == tree_blob_name(&page) => {
                FindingKind::TreeDamaged { reason: reason(&error) }
            }
            _ => FindingKind::TreeDamaged { reason: error.chain() },
        };
        let finding = context.findings.add(tree_blob_name(&page), what);
        losses.blob(BlobKind::Tree, page, finding);
    }
}
