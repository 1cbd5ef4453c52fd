//! A repository: the one place where store, keys, packs and index meet.

use std::sync::{Arc, Mutex};

use crate::{
    cache::Cache,
    crypto::{
        kdf::KdfCost,
        keys::{Keys, MasterKey, ObjectKind},
        slot::SlotInfo,
    },
    envelope::object,
    error::{Error, Result, StoreErrorKind},
    id::{KeyId, RepositoryId},
    index::{
        lookup::Lookup,
        paged::{Origin, Paging},
        set::IndexSet,
    },
    limits,
    parallel::both,
    runtime::Runtime,
    store::{ByteRange, ObjectInfo, ObjectName, Store},
};

mod added;
pub mod checkpoint;
pub mod commit;
pub mod config;
mod directories;
mod filter;
pub(crate) mod first_look;
pub mod frames;
mod kept;
pub mod keys;
mod new_blobs;
pub mod notes;
pub mod objects;
pub mod reader;
mod runs;
pub mod seal;
pub mod session;
mod shared;
pub mod store_report;
mod stored;
pub mod uncommit;
mod upload;

use config::{Config, GearTable, Parameters};
use first_look::FirstLook;

/// An opened repository: its store, keys and parameters.
pub struct Repository {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: Keys,
    pub(crate) config: Config,
    pub(crate) runtime: Arc<dyn Runtime>,
    cache: Option<Arc<Cache>>,
    key: KeyId,
    courtesies: notes::Courtesies,
    first_look: Mutex<FirstLook>,
}

/// What [`Repository::init`] needs to know.
pub struct InitOptions<'a> {
    /// The first password.
    pub password: &'a [u8],
    /// Who makes it, for `key list`.
    pub host: String,
    /// Who makes it, for `key list`.
    pub user: String,
    /// Costs of turning the password into a key.
    pub kdf_cost: KdfCost,
    /// What all writers go by.
    pub parameters: Parameters,
}

impl Repository {
    /// Makes a new repository and opens it.
    ///
    /// # Errors
    /// [`Error::RepositoryExists`] when there is one already, also when somebody else is just making it.
    pub fn init(store: Arc<dyn Store>, runtime: Arc<dyn Runtime>, options: &InitOptions<'_>) -> Result<Self> {
        Self::make(store, runtime, options, None)
    }

    /// Makes a new repository that cuts files as another one does, so that copies and backups of the same files share what they
    /// store. The chunker's parameters are those of the other one, whatever `options` say.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub fn init_like(
        like: &Self,
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        options: &InitOptions<'_>,
    ) -> Result<Self> {
        Self::make(store, runtime, options, Some(like))
    }

    fn make(
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        options: &InitOptions<'_>,
        like: Option<&Self>,
    ) -> Result<Self> {
        options.parameters.validate().map_err(Error::Invalid)?;
        let exists = || Error::RepositoryExists { location: store.location() };
        match store.stat(&ObjectName::CONFIG) {
            Ok(Some(_)) => return Err(exists()),
            Ok(None) => {}
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        store.create()?;
        let keys = Keys::new(MasterKey::generate(&*runtime), RepositoryId(runtime.random_32()));
        let now = runtime.now();
        let info = SlotInfo { created: now, host: options.host.clone(), user: options.user.clone() };
        let key = keys::put_slot(&*store, &keys, info, options.password, options.kdf_cost, &*runtime)?;
        let mut config = Config::new(keys.repository(), now, options.parameters);
        if let Some(like) = like {
            config.parameters.chunker = like.config.parameters.chunker;
            config.set_gear_table(&like.gear_table());
        }
        let bytes = object::seal(&keys, ObjectKind::Config, &config, &*runtime)?;
        // The config makes it a repository; it comes last. Whoever loses the race takes his key away again. After any other failure the config
        // may be there all the same, and would be lost without its key; a key that nothing uses harms nobody.
        match store.put(&ObjectName::CONFIG, &bytes) {
            Err(error) if error.kind == StoreErrorKind::Exists => {
                let _ = store.delete(&ObjectName::new(crate::store::Place::Keys, key));
                return Err(exists());
            }
            result => result?,
        }
        Ok(Self::with(store, runtime, keys, key, config, FirstLook::default()))
    }

    /// Opens a repository with a password.
    ///
    /// `hint` names a key slot that is tried first.
    ///
    /// # Errors
    /// [`Error::NoRepository`] only when the store says for sure that there is none; [`Error::WrongPassword`] when no slot opens.
    pub fn open(store: Arc<dyn Store>, runtime: Arc<dyn Runtime>, password: &[u8], hint: Option<&str>) -> Result<Self> {
        Self::open_and(store, runtime, password, hint, |_| FirstLook::default())
    }

    /// As [`Self::open`], for who is about to make a backup. What that begins with is asked for beforehand, where the store is far away
    /// and has connections for it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_for_backup(
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        password: &[u8],
        hint: Option<&str>,
    ) -> Result<Self> {
        match store.abilities().connections {
            0 | 1 => Self::open(store, runtime, password, hint),
            _ => Self::open_and(store, runtime, password, hint, FirstLook::take),
        }
    }

    /// Opens it, and looks at what is in the store as soon as that is known to be a repository.
    fn open_and(
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        password: &[u8],
        hint: Option<&str>,
        look: impl FnOnce(&dyn Store) -> FirstLook + Send,
    ) -> Result<Self> {
        let connections = store.abilities().connections;
        let mut bytes = Vec::new();
        let range = ByteRange::WholeUpTo { limit_bytes: limits::OBJECT_STORED_BYTES_MAX };
        let read_config = || store.get(&ObjectName::CONFIG, range, &mut bytes);
        let (read, slots) = both(connections, read_config, || keys::list_slots(&*store));
        read.map_err(|error| match error.kind {
            StoreErrorKind::NotFound => Error::NoRepository { location: store.location() },
            _ => error.into(),
        })?;
        // A config of a newer version or of another program is told of before any password is asked to prove itself.
        crate::envelope::header::Header::parse(&bytes, ObjectKind::Config, &"config")?;
        let config_by = |keys: &Keys| object::open::<Config>(keys, ObjectKind::Config, &bytes, &"config");
        // What cannot be read for another reason was sealed with these keys.
        let fit = |keys: &Keys| config_by(keys).map_or_else(|error| error.is_newer(), |_| true);
        let slots = slots?;
        let (opened, first_look) =
            both(connections, || keys::open_slots(&*store, slots, password, hint, fit), || look(&*store));
        let (key, keys) = opened?;
        let config = config_by(&keys)?;
        config.check(keys.repository())?;
        Ok(Self::with(store, runtime, keys, key, config, first_look))
    }

    fn with(
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        keys: Keys,
        key: KeyId,
        config: Config,
        first_look: FirstLook,
    ) -> Self {
        let (courtesies, first_look) = (notes::Courtesies::default(), Mutex::new(first_look));
        Self { store, keys, config, runtime, cache: None, key, courtesies, first_look }
    }

    /// Asks whether this program may write to it. Everything that changes a repository asks first.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming a feature that writers must know and this program does not.
    pub fn check_writable(&self) -> Result<()> {
        self.config.check_writable()
    }

    /// Its random name.
    #[must_use]
    pub const fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// The key slot it was opened with.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// Its parameters.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its store.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// From now on keeps what is read often in a local cache, and reads it from there. Only what cannot change is kept, and whoever
    /// wants to know what the store has (a check, a prune that reads back what it stored) asks the store.
    pub fn attach_cache(&mut self, cache: Arc<Cache>) {
        self.cache = Some(cache);
    }

    /// Its local cache, if it has one.
    #[must_use]
    pub const fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref()
    }

    /// Reads the index as it is now, as far as it is not in the local cache.
    ///
    /// # Errors
    /// As [`IndexSet::load`].
    pub fn load_index(&self, damaged: Option<&mut Vec<Error>>) -> Result<IndexSet> {
        self.load_listed_index(None, damaged)
    }

    /// [`Self::load_index`] for who may have listed the runs a moment ago.
    pub(crate) fn load_listed_index(
        &self,
        listed: Option<Vec<ObjectInfo>>,
        damaged: Option<&mut Vec<Error>>,
    ) -> Result<IndexSet> {
        IndexSet::with_cache(self.cache.clone()).load_listed(listed, self.store(), self.keys(), damaged)
    }

    /// Reads as much of the index as those need who look up a few blobs: large runs that are not in the local cache are read page by page.
    ///
    /// # Errors
    /// As [`Lookup::load`].
    pub fn load_lookup(&self, paging: Paging, damaged: Option<&mut Vec<Error>>) -> Result<Lookup> {
        Lookup::load(&self.origin(), self.cache.clone(), paging, damaged)
    }

    /// Where index runs are read from.
    pub(crate) fn origin(&self) -> Origin<'_> {
        Origin { store: self.store(), keys: self.keys(), cache: self.cache.as_deref() }
    }

    /// Its keys.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What files are cut with: its own table, or the one of the repository that it was made like.
    #[must_use]
    pub fn gear_table(&self) -> GearTable {
        self.config.foreign_gear_table().unwrap_or_else(|| self.keys.gear_table())
    }

    /// The world it lives in.
    #[must_use]
    pub fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }
}
