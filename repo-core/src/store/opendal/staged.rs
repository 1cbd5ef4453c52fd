//! Repositories at services with files and folders, which show an object while it is written: it is written under a temporary name first,
//! its length compared, and then given its own. Folders of a repository are made by [`Store::create`] only, so that a backup to a machine
//! whose disk is not mounted fails and does not begin anew below the mount point.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{BucketStore, remote};
use crate::{
    error::{StoreError, StoreErrorKind},
    store::{
        ObjectInfo, ObjectName, Place, Store,
        backend::{Backend, Failure},
    },
};

/// A store that writes so.
pub(super) struct StagedStore {
    inner: BucketStore,
    /// Whether the service makes folders that are missing by itself, so that they have to be asked for.
    makes_folders: bool,
    /// What tells temporary names of this process from those of others.
    writer: u64,
    made: AtomicU64,
    /// Whether was looked for what killed writers left.
    is_tidied: AtomicBool,
}

/// Where objects are written.
const FOLDER: &str = "tmp/";

/// The folder of a place.
fn folder(place: Place) -> String {
    match place {
        Place::Config => String::new(),
        place => format!("{}/", place.name()),
    }
}

fn no_folder(kind: StoreErrorKind, place: Place) -> Failure {
    Failure::new(kind, format!("there is no folder \"{}\" there; is its disk mounted?", folder(place)))
}

impl StagedStore {
    pub(super) fn new(inner: BucketStore, makes_folders: bool) -> Self {
        let writer = RandomState::new().hash_one(());
        Self { inner, makes_folders, writer, made: AtomicU64::new(0), is_tidied: AtomicBool::new(false) }
    }

    /// A name that nobody else makes. It is not in a folder that is listed: servers by Go's `x/net/webdav` break off the listing of one in
    /// which a name goes meanwhile.
    fn temporary(&self) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        format!("{FOLDER}{}{:016x}-{number}", remote::TEMPORARY, self.writer)
    }

    /// Whether the folder of a place is there, so that "nothing" means what it says.
    fn is_here(&self, place: Place) -> Result<bool, Failure> {
        self.is_there(&folder(if place == Place::Config { Place::Keys } else { place }))
    }

    fn is_there(&self, folder: &str) -> Result<bool, Failure> {
        match self.inner.run(remote::deadline(0), async { self.inner.operator().stat(folder).await }) {
            Ok(_) => Ok(true),
            Err(failed) if failed.kind == StoreErrorKind::NotFound => Ok(false),
            Err(failed) => Err(failed),
        }
    }

    fn write(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Failure> {
        if self.inner.tell_once(name)?.is_some() {
            return Err(Failure::exists());
        }
        if self.makes_folders && !self.is_here(name.place())? {
            return Err(no_folder(StoreErrorKind::Permanent, name.place()));
        }
        let (inner, operator) = (&self.inner, &self.inner.operator());
        let (temporary, path, size_bytes) = (self.temporary(), name.to_string(), bytes.len() as u64);
        let bytes = inner.spare.copy(bytes);
        let done =
            inner.run(inner.sending(size_bytes), async { operator.write(&temporary, bytes).await }).and_then(|_| {
                self.tidy(&temporary);
                let found = inner.run(remote::deadline(0), async { operator.stat(&temporary).await })?.content_length();
                if found != size_bytes {
                    return Err(Failure::new(
                        StoreErrorKind::Retry,
                        format!("{found} bytes of {size_bytes} have arrived"),
                    ));
                }
                inner.run(remote::deadline(size_bytes), async { operator.rename(&temporary, &path).await })
            });
        let Err(failed) = done else { return Ok(()) };
        // What failed is told; if the file cannot be removed either, it lies there without harm.
        let _ = inner.run(remote::deadline(0), async { operator.delete(&temporary).await });
        let may_be_missing = matches!(failed.kind, StoreErrorKind::NotFound | StoreErrorKind::Permanent);
        if may_be_missing && !self.is_here(name.place())? {
            return Err(no_folder(StoreErrorKind::Permanent, name.place()));
        }
        if may_be_missing && !self.is_there(FOLDER)? {
            // Whoever copied the repository has left out what was empty.
            inner.run(remote::deadline(0), async { operator.create_dir(FOLDER).await })?;
            return Err(Failure::new(StoreErrorKind::Retry, "the folder for temporary files was missing"));
        }
        Err(if failed.kind == StoreErrorKind::NotFound { Failure::permanent(failed.source) } else { failed })
    }

    /// Removes what killed writers left, once in a process. The time of the file just written says what the server's clock says now.
    fn tidy(&self, fresh: &str) {
        if self.is_tidied.swap(true, Ordering::Relaxed) {
            return;
        }
        let operator = &self.inner.operator();
        let tidy = async {
            let entries = operator.list(FOLDER).await?;
            let written = |entry: &opendal::Entry| Some(entry.metadata().last_modified()?.into_inner().as_second());
            let Some(now) =
                entries.iter().find(|entry| entry.path().trim_start_matches('/') == fresh).and_then(written)
            else {
                return Ok(());
            };
            let is_left_behind = |entry: &&opendal::Entry| {
                entry.name().starts_with(remote::TEMPORARY)
                    && entry.metadata().is_file()
                    && written(entry).is_some_and(|then| remote::is_left_behind(then, now))
            };
            for entry in entries.iter().filter(is_left_behind) {
                operator.delete(entry.path()).await?;
            }
            Ok(())
        };
        let _ = self.inner.run(remote::deadline(0), tidy); // it costs some space, no more
    }

    fn make_folders(&self) -> Result<(), Failure> {
        for path in Place::HASHED.map(folder).into_iter().chain([FOLDER.to_owned()]) {
            self.inner.run(remote::deadline(0), async { self.inner.operator().create_dir(&path).await })?;
        }
        Ok(())
    }
}

impl Store for StagedStore {
    hand_on!(self.inner: get, stat, delete, abilities, location);

    fn create(&self) -> Result<(), StoreError> {
        self.make_folders().map_err(|failed| self.inner.error("create", &"the repository's folders", failed))
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(name, bytes).map_err(|failed| self.inner.error("write", name, failed))
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let mut is_empty = true;
        self.inner.list(place, &mut |info| {
            is_empty = false;
            visit(info);
        })?;
        // A folder that is missing is listed as one with nothing in it.
        let told = |failed| self.inner.error("list", &place.name(), failed);
        if is_empty && !self.is_here(place).map_err(told)? {
            return Err(told(no_folder(StoreErrorKind::NotFound, place)));
        }
        Ok(())
    }
}
