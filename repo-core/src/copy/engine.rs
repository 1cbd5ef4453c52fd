//! Copying one snapshot after the other, in one session of the destination.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    blob::BlobKind,
    copy::{
        CopyOptions,
        data::{DataCopier, Names},
        found::{Found, original_of},
        walk::{Basis, Event, Trees, Walk},
        write::TreeWriter,
    },
    error::{Error, Result},
    id::{BlobId, PackId, SnapshotId},
    pack::reader::PackKey,
    progress::{Cancel, Progress},
    repository::{
        Repository,
        reader::{BlobReader, CACHE_BYTES},
        session::{Added, Session, SessionOptions},
    },
    snapshot::{Snapshot, rescue::store_again},
    store::Place,
    tree::{
        node::{Piece, Totals},
        visit::{Visitor, visit},
    },
};

/// Most blobs whose names are kept for what comes later: some 300 MB. Beyond, they are found out again.
const NAMES_MAX: usize = 4 << 20;
/// Most directories that are kept for what comes later.
const TREES_MAX: usize = 1 << 20;

/// Copies snapshots.
pub(super) struct Engine<'a> {
    source: &'a Arc<Repository>,
    destination: &'a Arc<Repository>,
    options: &'a CopyOptions,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    from: Option<Origin>,
    into: Option<Target>,
    /// The destination's index has named what is not there.
    doubt: bool,
    added: Added,
}

/// The source.
struct Origin {
    reader: BlobReader,
    keys: HashMap<PackId, PackKey>,
}

/// The destination, and what is known of it.
struct Target {
    session: Session,
    reader: BlobReader,
    names: Names,
    trees: Trees,
    /// Copies of which the session needs everything, and has it; or of which something is missing.
    whole: HashMap<SnapshotId, bool>,
}

impl<'a> Engine<'a> {
    pub(super) const fn new(
        source: &'a Arc<Repository>,
        destination: &'a Arc<Repository>,
        options: &'a CopyOptions,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Self {
        let added = Added {
            data_blobs: 0,
            data_bytes: 0,
            data_packed_bytes: 0,
            tree_blobs: 0,
            tree_bytes: 0,
            tree_packed_bytes: 0,
        };
        Self { source, destination, options, progress, cancel, from: None, into: None, doubt: false, added }
    }

    /// Copies a snapshot and commits it. Returns the copy, unless this is a dry run, and its tree.
    pub(super) fn copy(
        &mut self,
        id: &SnapshotId,
        snapshot: &Snapshot,
        found: &Found<'_>,
    ) -> Result<(Option<SnapshotId>, BlobId)> {
        let copied = self.try_copy(id, snapshot, found);
        match copied {
            Err(error) if error.is_pruned_away() => {
                // What was counted on was pruned before it was claimed. It is in the source, and is read again.
                self.end_session();
                self.doubt = true;
                let again = self.try_copy(id, snapshot, found);
                again.inspect_err(|_| self.end_session())
            }
            // The session may take blobs for stored that a thread had not stored yet.
            Err(error) => {
                self.end_session();
                Err(error)
            }
            copied => copied,
        }
    }

    fn try_copy(
        &mut self,
        id: &SnapshotId,
        snapshot: &Snapshot,
        found: &Found<'_>,
    ) -> Result<(Option<SnapshotId>, BlobId)> {
        snapshot.check_known(id)?;
        self.open()?;
        let (Some(from), Some(into)) = (&self.from, &mut self.into) else { return Err(Error::Poisoned) };
        let threads = self
            .options
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get));
        let basis = found.basis(id, snapshot).filter(|(copy, basis)| into.is_whole(copy, basis, threads, self.cancel));
        let data = DataCopier {
            reader: &from.reader,
            session: &into.session,
            keys: &from.keys,
            threads,
            compress: self.options.compress,
            progress: self.progress,
            cancel: self.cancel,
        };
        let walks = Walks { from, window_blobs: self.options.window_blobs, cancel: self.cancel };
        let basis = basis.map(|(_, basis)| basis);
        let mut tree = walks.copy_tree(snapshot, basis, &data, &into.reader, &mut into.names, &mut into.trees);
        if basis.is_some() && matches!(tree, Err(Error::Poisoned)) && !into.session.has_failed() {
            // The earlier copy could be read by one of the two walks and not by the other. Without it they are the same.
            tree = walks.copy_tree(snapshot, None, &data, &into.reader, &mut into.names, &mut into.trees);
        }
        let (tree, totals) = tree.map_err(|error| match error {
            // The first failure of the session says more than that there was one.
            Error::Poisoned => into.session.take_failure().unwrap_or(Error::Poisoned),
            error => error,
        })?;
        self.cancel.check()?;
        if self.options.dry_run {
            into.session.flush()?;
            return Ok((None, tree));
        }
        let body = Snapshot {
            tree,
            totals,
            parent: snapshot.parent.and_then(|parent| found.copy_of(&parent)),
            original: Some(original_of(id, snapshot)),
            ..snapshot.clone()
        };
        let copy = into.commit(&body)?;
        Ok((Some(copy), tree))
    }

    /// Ends the work, and tells what was stored.
    pub(super) fn close(mut self) -> Added {
        self.end_session();
        self.added
    }

    /// Makes known what was stored. What cannot be made known is stored again by the next run.
    fn end_session(&mut self) {
        if let Some(Target { session, .. }) = self.into.take() {
            let _ = session.flush();
            let more = session.added();
            let all = &mut self.added;
            all.data_blobs += more.data_blobs;
            all.data_bytes += more.data_bytes;
            all.data_packed_bytes += more.data_packed_bytes;
            all.tree_blobs += more.tree_blobs;
            all.tree_bytes += more.tree_bytes;
            all.tree_packed_bytes += more.tree_packed_bytes;
            let _ = session.close();
        }
    }

    fn open(&mut self) -> Result<()> {
        if self.from.is_none() {
            // What a run that cannot be read names is missed when it is wanted, and told of then.
            let index = self.source.load_index(Some(&mut Vec::new()))?;
            let keys = index.all_packs().map(|pack| (pack.id, pack.key)).collect();
            self.from =
                Some(Origin { reader: BlobReader::new(Arc::clone(self.source), Arc::new(index), CACHE_BYTES), keys });
        }
        if self.into.is_none() {
            self.into = Some(Target::open(self.destination, self.options, self.doubt)?);
        }
        Ok(())
    }
}

impl Target {
    fn open(repository: &Arc<Repository>, options: &CopyOptions, doubt: bool) -> Result<Self> {
        let mut distrusted = repository.notes()?.condemned();
        let index = repository.load_index(Some(&mut Vec::new()))?;
        if doubt {
            let mut missing: BTreeMap<PackId, u64> =
                index.all_packs().map(|pack| (pack.id, pack.size_bytes.into())).collect();
            for info in repository.list(Place::Data)? {
                let pack = info.name.id().into();
                if missing.get(&pack) == Some(&info.size_bytes) {
                    missing.remove(&pack);
                }
            }
            distrusted.extend(missing.into_keys());
        }
        let note = options.note.clone();
        let session_options = SessionOptions { level: options.level, dry_run: options.dry_run, note };
        let session = Session::open(Arc::clone(repository), Arc::new(index), session_options)?;
        session.distrust(&distrusted);
        let reader = BlobReader::new(Arc::clone(repository), Arc::clone(session.index()), CACHE_BYTES);
        Ok(Self { session, reader, names: Names::new(), trees: Trees::new(), whole: HashMap::new() })
    }

    /// Whether everything of an earlier copy is there; it counts as needed then.
    fn is_whole(&mut self, copy: &SnapshotId, basis: &Basis, threads: usize, cancel: &Cancel) -> bool {
        if let Some(whole) = self.whole.get(copy) {
            return *whole;
        }
        let claim = Claim { session: &self.session, seen: Mutex::default(), lost: AtomicBool::new(false) };
        let visited = visit(&self.reader, [basis.copy], threads, &claim, cancel);
        let whole = visited.is_ok() && !claim.lost.load(Ordering::Relaxed);
        self.whole.insert(*copy, whole);
        whole
    }

    fn commit(&mut self, body: &Snapshot) -> Result<SnapshotId> {
        let mut rescued = false;
        let copy = self.session.commit_one(body, None, &mut |session, _: &BTreeSet<_>| {
            rescued = true;
            store_again(session, &body.tree)
        })?;
        if rescued {
            // What else was found may have been in what was condemned.
            self.whole.clear();
        }
        if rescued || self.names.len() > NAMES_MAX {
            self.names.clear();
        }
        if rescued || self.trees.len() > TREES_MAX {
            self.trees.clear();
        }
        self.whole.insert(copy, true);
        Ok(copy)
    }
}

/// Says that a session needs everything it is told of.
struct Claim<'a> {
    session: &'a Session,
    seen: Mutex<HashSet<BlobId>>,
    lost: AtomicBool,
}

impl Visitor for Claim<'_> {
    fn page(&self, page: &BlobId) -> bool {
        if !self.session.need(BlobKind::Tree, page) {
            self.lost.store(true, Ordering::Relaxed);
        }
        let is_first = self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(*page);
        is_first && !self.lost.load(Ordering::Relaxed)
    }

    fn data(&self, blob: &BlobId) {
        if !self.session.need(BlobKind::Data, blob) {
            self.lost.store(true, Ordering::Relaxed);
        }
    }
}

/// The two walks of a snapshot.
struct Walks<'a> {
    from: &'a Origin,
    window_blobs: usize,
    cancel: &'a Cancel,
}

impl Walks<'_> {
    /// Copies everything a snapshot refers to. Returns its tree in the destination.
    ///
    /// # Errors
    /// [`Error::Poisoned`] also when the two walks were not the same.
    fn copy_tree(
        &self,
        snapshot: &Snapshot,
        basis: Option<Basis>,
        data: &DataCopier<'_>,
        destination: &BlobReader,
        names: &mut Names,
        trees: &mut Trees,
    ) -> Result<(BlobId, Totals)> {
        if let Some(known) = trees.get(&snapshot.tree) {
            return Ok(*known);
        }
        if let Some(basis) = basis.filter(|basis| basis.source == snapshot.tree) {
            return Ok((basis.copy, snapshot.totals));
        }
        let walk = || Walk::new(&self.from.reader, destination, trees, snapshot.tree, basis);
        let (mut ahead, mut behind) = (walk(), walk());
        let mut writer = TreeWriter::new(data.session);
        let mut ended = false;
        while !ended {
            if names.len() > NAMES_MAX {
                names.clear();
            }
            let mut wanted = HashMap::new();
            let mut events: u64 = 0;
            while wanted.len() < self.window_blobs.max(1) {
                self.cancel.check()?;
                let Some(event) = ahead.next()? else {
                    ended = true;
                    break;
                };
                events += 1;
                if let Event::Piece(Piece::Data { blob, length_bytes }, None) = event
                    && !names.contains_key(&blob)
                {
                    wanted.insert(blob, length_bytes);
                }
            }
            data.copy(&wanted, names)?;
            for _ in 0..events {
                writer.take(behind.next()?.ok_or(Error::Poisoned)?, names)?;
            }
        }
        let (root, written) = writer.finish()?;
        trees.extend(written);
        Ok(root)
    }
}
