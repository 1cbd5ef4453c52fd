//! The blobs a session has met for the first time.

use hashbrown::HashTable;

use crate::{
    blob::BlobKind,
    id::BlobId,
    index::table::{BlobPrefix, RunTable},
    repository::filter::Filter,
};

/// Lookups in mapped tables after which their memory is given back.
const LOOKUPS_UNTIL_RELEASE: u32 = 1 << 12;

/// A set of ids, of each as much as the index keeps: they are in a vector, and a table has their positions. 26 to 31 bytes a blob. Those
/// that a run of this session names, whose tables are mapped from a file, take little more than a byte, for a filter that answers nearly
/// all questions for what is not there.
#[derive(Default)]
pub(super) struct NewBlobs {
    table: HashTable<u32>,
    ids: Vec<BlobPrefix>,
    runs: Vec<(Filter, RunTable)>,
    lookups: u32,
}

impl NewBlobs {
    /// Ids are hashes already.
    fn hash(id: &BlobPrefix) -> u64 {
        u64::from_le_bytes(*id.0.first_chunk().unwrap_or(&[0; 8]))
    }

    fn is_loose(&self, id: &BlobPrefix) -> bool {
        self.table.find(Self::hash(id), |position| self.ids.get(*position as usize) == Some(id)).is_some()
    }

    fn has(&mut self, kind: BlobKind, id: &BlobPrefix) -> bool {
        self.is_loose(id) || self.is_in_run(kind, id)
    }

    fn is_in_run(&mut self, kind: BlobKind, id: &BlobPrefix) -> bool {
        for (filter, run) in &self.runs {
            if !filter.may_have(id) {
                continue;
            }
            self.lookups += 1;
            if run.find(kind, *id).is_some() {
                return true;
            }
        }
        if self.lookups >= LOOKUPS_UNTIL_RELEASE {
            self.lookups = 0;
            self.runs.iter().for_each(|(_, run)| run.release());
        }
        false
    }

    /// Whether it is there.
    pub(super) fn contains(&mut self, kind: BlobKind, id: &BlobId) -> bool {
        self.has(kind, &id.into())
    }

    /// Adds an id; whether it was not there before.
    pub(super) fn insert(&mut self, kind: BlobKind, id: &BlobId) -> bool {
        let id = BlobPrefix::from(id);
        if self.has(kind, &id) {
            return false;
        }
        self.push(id);
        true
    }

    fn push(&mut self, id: BlobPrefix) {
        // Beyond four thousand million, a blob that comes again is stored again.
        let Ok(position) = u32::try_from(self.ids.len()) else { return };
        self.ids.push(id);
        let ids = &self.ids;
        self.table
            .insert_unique(Self::hash(&id), position, |position| ids.get(*position as usize).map_or(0, Self::hash));
    }

    /// From now on this run, mapped from a file, says what it names. What was forgotten meanwhile stays so.
    pub(super) fn leave_to(&mut self, run: RunTable) {
        let kinds = [BlobKind::Data, BlobKind::Tree];
        let named: usize = kinds.iter().map(|kind| run.counts().blobs(*kind) as usize).sum();
        let mut filter = Filter::for_ids(named);
        kinds.iter().flat_map(|kind| run.blobs(*kind)).for_each(|(id, _)| filter.add(&id));
        self.table = HashTable::new();
        for id in std::mem::take(&mut self.ids) {
            if !filter.may_have(&id) || kinds.iter().all(|kind| run.find(*kind, id).is_none()) {
                self.push(id);
            }
        }
        run.release();
        self.runs.push((filter, run));
    }

    /// How many are not left to runs.
    #[cfg(test)]
    pub(super) fn loose(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeSet, HashMap},
        sync::{Arc, PoisonError},
    };

    use super::*;
    use crate::{
        cache::{Cache, Scope},
        compress::Level,
        crypto::kdf::KdfCost,
        repository::{
            InitOptions, Repository,
            config::Parameters,
            session::{Session, SessionOptions},
            shared::lock,
        },
        runtime::SystemRuntime,
        store::memory::MemoryStore,
    };

    const BLOBS: u32 = 300;

    fn repository(cache: Option<&std::path::Path>) -> Arc<Repository> {
        let options = InitOptions {
            password: b"secret",
            host: "host".into(),
            user: "user".into(),
            kdf_cost: KdfCost::TEST,
            parameters: Parameters { pack_bytes: 20_000, data_frame_bytes: 4000, ..Parameters::default() },
        };
        let mut repository = Repository::init(Arc::new(MemoryStore::new()), Arc::new(SystemRuntime), &options).unwrap();
        if let Some(base) = cache {
            let cache = Cache::new(base, repository.keys(), Arc::new(SystemRuntime), Scope::LargeTables, 1 << 30);
            repository.attach_cache(Arc::new(cache));
        }
        Arc::new(repository)
    }

    /// A session whose interim runs stay, as they do where objects take a while to be seen.
    fn session(repository: &Arc<Repository>) -> Session {
        let options = SessionOptions { level: Level::OFF, dry_run: false, note: None };
        let session = Session::open(Arc::clone(repository), Arc::default(), options).unwrap();
        lock(&session.shared.stored).runs_stay = true;
        session
    }

    fn blob(session: &Session, number: u32) -> (BlobId, Vec<u8>) {
        let plain = blake3::hash(&number.to_le_bytes()).as_bytes().repeat(10);
        (session.repository().keys().blob_id(BlobKind::Data, &plain), plain)
    }

    /// Stores those of the blobs that are new; how many they were.
    fn store(session: &Session, numbers: std::ops::Range<u32>) -> u32 {
        let mut writer = session.frame_writer(BlobKind::Data);
        let mut new = 0;
        for number in numbers {
            let (id, plain) = blob(session, number);
            if session.claim(BlobKind::Data, &id) {
                writer.add(id, &plain).unwrap();
                new += 1;
            }
        }
        writer.flush().unwrap();
        new
    }

    fn loose(session: &Session) -> usize {
        lock(&session.shared.new_blobs).loose()
    }

    /// Each blob is stored once, whether a run has taken it over or not, and memory is kept for those only that no run names.
    #[test]
    fn what_a_lasting_run_names_is_known_without_memory() {
        let folder = tempfile::tempdir().unwrap();
        for (cache, kept) in [(Some(folder.path()), 0), (None, BLOBS as usize)] {
            let repository = repository(cache);
            let session = session(&repository);
            for round in 0..4 {
                let numbers = round * BLOBS..(round + 1) * BLOBS;
                assert_eq!(store(&session, numbers.clone()), BLOBS);
                session.flush().unwrap();
                session.put_interim_index().unwrap();
                assert_eq!(loose(&session), kept * (round as usize + 1));
                assert_eq!(store(&session, 0..numbers.end), 0, "all of them are known");
                assert!(numbers.into_iter().all(|number| session.need(BlobKind::Data, &blob(&session, number).0)));
            }
            assert_eq!(session.stored_runs().len(), 4);
        }
    }

    /// What was stored into packs that are condemned counts as new, before and after a run names them.
    #[test]
    fn what_is_condemned_is_new_again_whatever_runs_say() {
        let folder = tempfile::tempdir().unwrap();
        for run_first in [true, false] {
            let repository = repository(Some(folder.path()));
            let session = session(&repository);
            assert_eq!(store(&session, 0..BLOBS), BLOBS);
            session.flush().unwrap();
            let packs: BTreeSet<_> = session.stored_packs();
            if run_first {
                session.put_interim_index().unwrap();
            }
            session.distrust(&packs);
            if !run_first {
                session.put_interim_index().unwrap();
            }
            assert_eq!(store(&session, 0..BLOBS), BLOBS, "run first: {run_first}");
            session.flush().unwrap();
            session.put_interim_index().unwrap();
            assert_eq!(store(&session, 0..BLOBS), 0);
            let distrusted = session.shared.distrusted.read().unwrap_or_else(PoisonError::into_inner).clone();
            let trusted: HashMap<_, _> =
                session.pack_sizes().into_iter().filter(|(id, _)| !distrusted.contains(id)).collect();
            assert_eq!(trusted.len(), packs.len(), "they were stored once more, and no more");
        }
    }
}
