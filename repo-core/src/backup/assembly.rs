//! Directories being put together: entries come in any order and are stored in theirs, bottom up.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    backup::{
        earlier::Before,
        engine::Engine,
        metadata::{metadata, to_be_read_again},
        partial::Unfinished,
    },
    error::Result,
    id::BlobId,
    progress::Outcome,
    source::Directory,
    tree::{
        directory::DirectoryWriter,
        name::Name,
        node::{Entry, Metadata, Node, NodeKind, Totals},
    },
};

/// A directory whose entries are being worked on.
pub(super) struct OpenDirectory {
    /// The directory above, and this one's place and name in it. The root has none.
    pub(super) above: Option<Above>,
    /// The directory in the source.
    pub(super) source: Arc<dyn Directory>,
    /// What it was in the parent snapshot.
    before: Option<Node>,
    state: Mutex<State>,
}

/// Where a directory belongs.
pub(super) struct Above {
    pub(super) directory: Arc<OpenDirectory>,
    pub(super) position: usize,
    pub(super) name: Name,
}

struct State {
    /// Positions before this one are stored.
    stored: usize,
    /// What has come for the positions from there on.
    waiting: VecDeque<Position>,
    /// How many positions there are, once the listing is done.
    positions: Option<usize>,
    writer: Option<DirectoryWriter>,
    /// Directories and large files at positions for which nothing has come yet.
    unfinished: BTreeMap<usize, Unfinished>,
}

/// What has come for a position.
#[expect(clippy::large_enum_variant, reason = "most positions become entries, and are gone at once")]
enum Position {
    Waiting,
    Entry(Entry),
    /// There is nothing to be stored there.
    Nothing,
}

impl State {
    fn put(&mut self, position: usize, entry: Option<Entry>) {
        self.unfinished.remove(&position);
        let place = position.saturating_sub(self.stored);
        if self.waiting.len() <= place {
            self.waiting.resize_with(place + 1, || Position::Waiting);
        }
        if let Some(waiting) = self.waiting.get_mut(place) {
            *waiting = entry.map_or(Position::Nothing, Position::Entry);
        }
    }
}

/// The root of the finished tree.
pub(super) struct FinishedRoot {
    pub(super) tree: BlobId,
    pub(super) totals: Totals,
    pub(super) metadata: Metadata,
}

impl OpenDirectory {
    pub(super) fn new(above: Option<Above>, source: Arc<dyn Directory>, before: Before) -> Arc<Self> {
        let state = State {
            stored: 0,
            waiting: VecDeque::new(),
            positions: None,
            writer: Some(DirectoryWriter::default()),
            unfinished: BTreeMap::new(),
        };
        let directory = Arc::new(Self { above, source, before: before.parent, state: Mutex::new(state) });
        if let Some(above) = &directory.above {
            above.directory.begin(above.position, Unfinished::Directory(Arc::downgrade(&directory)));
        }
        directory
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is being worked on for a position, so that what of it is finished can be seen.
    pub(super) fn begin(&self, position: usize, unfinished: Unfinished) {
        self.lock().unfinished.insert(position, unfinished);
    }

    /// What is being worked on.
    pub(super) fn unfinished(&self) -> Vec<(usize, Unfinished)> {
        self.lock().unfinished.iter().map(|(position, unfinished)| (*position, unfinished.clone())).collect()
    }

    /// The directory as far as it has come, with `entries` where nothing has come yet. `None` once it is complete.
    pub(super) fn so_far(
        &self,
        engine: &Engine<'_>,
        entries: &BTreeMap<usize, Entry>,
    ) -> Result<Option<(BlobId, Totals)>> {
        let state = self.lock();
        let Some(mut writer) = state.writer.clone() else { return Ok(None) };
        let end = state.stored + state.waiting.len();
        for (position, waiting) in (state.stored..).zip(&state.waiting) {
            let entry = match waiting {
                Position::Entry(entry) => Some(entry),
                Position::Waiting => entries.get(&position),
                Position::Nothing => None,
            };
            entry.into_iter().try_for_each(|entry| writer.push(entry, engine.session))?;
        }
        drop(state);
        entries.range(end..).try_for_each(|(_, entry)| writer.push(entry, engine.session))?;
        Ok(Some(writer.finish(engine.session)?))
    }

    /// The directory's own metadata, for the time being.
    pub(super) fn metadata_so_far(&self, engine: &Engine<'_>) -> Metadata {
        let xattrs = self.source.own_xattrs().unwrap_or_default();
        to_be_read_again(metadata(&self.source.stat(), xattrs, engine.options.with_atime))
    }

    /// The entry for what [`Self::so_far`] has made of it. The root has none.
    pub(super) fn entry_so_far(&self, engine: &Engine<'_>, tree: BlobId, totals: Totals) -> Option<Entry> {
        let name = self.above.as_ref()?.name.clone();
        let kind = NodeKind::Directory { tree, totals };
        Some(Entry { name, node: Node { kind, metadata: self.metadata_so_far(engine) } })
    }

    /// Gives an entry its position, or says that there is none for it.
    pub(super) fn put(self: &Arc<Self>, engine: &Engine<'_>, position: usize, entry: Option<Entry>) -> Result<()> {
        self.advance(engine, |state| state.put(position, entry))
    }

    /// Says how many positions there are.
    pub(super) fn close(self: &Arc<Self>, engine: &Engine<'_>, positions: usize) -> Result<()> {
        self.advance(engine, |state| state.positions = Some(positions))
    }

    /// Changes the state and stores what became ready; goes on with the directory above where that finishes this one.
    fn advance(self: &Arc<Self>, engine: &Engine<'_>, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut finished = self.change(engine, change)?;
        let mut directory = Arc::clone(self);
        // A loop rather than a recursion: directories can be nested thousands deep.
        while let Some((tree, totals)) = finished {
            let entry = directory.finished(engine, tree, totals)?;
            let Some(above) = &directory.above else { return Ok(()) };
            let (next, position) = (Arc::clone(&above.directory), above.position);
            finished = next.change(engine, |state| state.put(position, entry))?;
            directory = next;
        }
        Ok(())
    }

    /// The tree and totals, if the directory is complete now.
    fn change(&self, engine: &Engine<'_>, change: impl FnOnce(&mut State)) -> Result<Option<(BlobId, Totals)>> {
        let mut state = self.lock();
        change(&mut state);
        while !matches!(state.waiting.front(), None | Some(Position::Waiting)) {
            state.stored += 1;
            if let (Some(Position::Entry(entry)), Some(writer)) = (state.waiting.pop_front(), &mut state.writer) {
                writer.push(&entry, engine.session)?;
            }
        }
        if state.positions != Some(state.stored) {
            return Ok(None);
        }
        match state.writer.take() {
            Some(writer) => Ok(Some(writer.finish(engine.session)?)),
            None => Ok(None),
        }
    }

    /// Makes the entry of a complete directory and counts it.
    fn finished(&self, engine: &Engine<'_>, tree: BlobId, totals: Totals) -> Result<Option<Entry>> {
        let xattrs = match self.source.own_xattrs() {
            Ok(xattrs) => xattrs,
            Err(error) => {
                engine.source_error(error)?;
                Vec::new()
            }
        };
        let stat = self.source.stat();
        engine.owner(&stat);
        let metadata = metadata(&stat, xattrs, engine.options.with_atime);
        let Some(above) = &self.above else {
            engine.set_root(FinishedRoot { tree, totals, metadata });
            return Ok(None);
        };
        let node = Node { kind: NodeKind::Directory { tree, totals }, metadata };
        let outcome = match &self.before {
            None => Outcome::New,
            Some(before) if *before == node => Outcome::Unchanged,
            Some(_) => Outcome::Changed,
        };
        engine.tally.directory(outcome);
        if engine.progress.wants_items() {
            let mut path = above.directory.source.path_of(&above.name);
            path.push(b'/');
            engine.progress.item(&path, outcome, 0);
        }
        Ok(Some(Entry { name: above.name.clone(), node }))
    }
}
