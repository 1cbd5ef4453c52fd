//! A repository in a folder of this machine, or of anything that is mounted.
//!
//! An object is written under a temporary name in its own folder, made durable, renamed without replacing, and the
//! folder made durable: it appears whole or not at all, also after a power cut. Only [`LocalStore::create`] makes the
//! repository's folders, so that a backup to a disk that is not mounted fails and does not begin anew below the mount
//! point.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf, absolute},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::{self, AtFlags, CWD};

use self::{
    failure::is_missing,
    files::{Files, Folder, System, patiently},
    temporary::TemporaryNames,
};
use super::{
    Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store,
    backend::{Backend, Failure},
};
use crate::{error::StoreErrorKind, tree::name::escape};

mod failure;
pub(crate) mod files;
mod listing;
mod read;
mod temporary;
mod write;

/// Writers that keep a disk busy: while one waits for its flush, others compute and write.
const CONNECTIONS: usize = 4;

/// A repository in a local folder.
pub struct LocalStore {
    root: PathBuf,
    files: Arc<dyn Files>,
    temporary_names: TemporaryNames,
    /// First bytes whose folders below `data` are known to survive a power cut.
    durable_folders: Mutex<BTreeSet<u8>>,
    /// Folders in which this store has looked for what crashed writers left.
    swept_folders: Mutex<BTreeSet<PathBuf>>,
    connections: usize,
}

impl LocalStore {
    /// The repository at `path`, whether there is one or not; the disk is not touched.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::with_files(path.as_ref(), Arc::new(System))
    }

    /// With something between the store and the disk.
    pub(crate) fn with_files(path: &Path, files: Arc<dyn Files>) -> Self {
        Self {
            root: absolute(path).unwrap_or_else(|_| path.to_owned()),
            files,
            temporary_names: TemporaryNames::new(),
            durable_folders: Mutex::default(),
            swept_folders: Mutex::default(),
            connections: CONNECTIONS,
        }
    }

    /// The same with another number of requests at once, unless it is 0.
    #[must_use]
    pub fn with_connections(self, connections: usize) -> Self {
        Self { connections: if connections == 0 { CONNECTIONS } else { connections }, ..self }
    }

    fn place_path(&self, place: Place) -> PathBuf {
        match place {
            Place::Config => self.root.clone(),
            place => self.root.join(place.name()),
        }
    }

    fn object_path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.to_string())
    }

    /// Whether the repository is here, so that "no such file" means what it says. A place may be missing where there
    /// is a config: some programs that copy folders leave out empty ones.
    fn is_here(&self, place: Place) -> io::Result<bool> {
        let there = |path: PathBuf| match patiently(|| fs::statat(CWD, &path, AtFlags::empty())) {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        };
        Ok(there(self.place_path(place))? || there(self.object_path(&ObjectName::CONFIG))?)
    }

    /// After "no such file": succeeds when the object is what is missing, and not the whole repository. Whether there
    /// is a config may be asked of any folder.
    fn is_only_the_object(&self, place: Place) -> Result<(), Failure> {
        if place == Place::Config || self.is_here(place)? { Ok(()) } else { Err(self.gone(place)) }
    }

    fn gone(&self, place: Place) -> Failure {
        let path = self.place_path(place);
        let path = escape(path.as_os_str().as_encoded_bytes());
        Failure::permanent(format!("there is no folder {path}; is its disk mounted?"))
    }
}

impl Backend for LocalStore {
    fn make(&self) -> Result<(), Failure> {
        Ok(self.make_folders()?)
    }

    fn write(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Failure> {
        self.write_object(name, bytes)
    }

    fn read(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), Failure> {
        let done = read::read(&self.object_path(name), range, into);
        if let Err(Failure { kind: StoreErrorKind::NotFound, .. }) = done {
            self.is_only_the_object(name.place())?;
        }
        done
    }

    fn list_place(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), Failure> {
        if place == Place::Config {
            if let Some(info) = self.tell(&ObjectName::CONFIG)? {
                visit(info);
            } else if !self.is_here(place)? {
                return Err(Failure { kind: StoreErrorKind::NotFound, ..self.gone(place) });
            }
            return Ok(());
        }
        let folder = match Folder::open(&self.place_path(place)) {
            Ok(folder) => folder,
            Err(error) if is_missing(&error) => {
                return if self.is_here(place)? {
                    Ok(())
                } else {
                    Err(Failure { kind: StoreErrorKind::NotFound, ..self.gone(place) })
                };
            }
            Err(error) => return Err(error.into()),
        };
        match place {
            Place::Data => listing::packs(&folder, visit)?,
            place => listing::flat(&folder, place, visit)?,
        }
        Ok(())
    }

    fn tell(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, Failure> {
        let path = self.object_path(name);
        match patiently(|| fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) => Ok(listing::info(*name, &stat)),
            Err(error) if is_missing(&error) => self.is_only_the_object(name.place()).map(|()| None),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, name: &ObjectName) -> Result<(), Failure> {
        self.remove_object(name)
    }

    fn abilities(&self) -> Abilities {
        Abilities { exclusive_put: true, connections: self.connections, visibility_delay_ms: 0 }
    }

    fn location(&self) -> String {
        escape(self.root.as_os_str().as_encoded_bytes()).into_owned()
    }
}

impl Store for LocalStore {
    hand_on!(self as &dyn Backend);
}

/// Locks what stays whole whatever a thread that holds it does.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
