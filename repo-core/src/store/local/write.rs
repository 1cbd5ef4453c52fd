//! Changes the repository's folder: makes places, writes and removes objects, each durable before it is reported done.

use std::{collections::BTreeSet, io, path::Path};

use rustix::{
    fs::{self, AtFlags, Dir},
    io::Errno,
};

use super::{
    LocalStore,
    failure::{is_denied, is_missing},
    files::{Folder, NewFile, patiently},
    listing, locked, temporary,
};
use crate::{
    error::StoreErrorKind,
    store::{ObjectName, Place, backend::Failure},
};

impl LocalStore {
    /// Makes the root and its places, and everything on the way to them, durable.
    pub(super) fn make_folders(&self) -> io::Result<()> {
        let missing_levels = self.make_path(&self.root)?;
        let places = Place::HASHED.map(|place| self.place_path(place));
        for place in &places {
            self.make_unless_there(place)?;
        }
        for place in &places {
            self.files.sync_folder(&Folder::open(place)?)?;
        }
        // Folders that were there already may stem from an attempt that was killed before it made them durable. But
        // those further up may be closed to us or read-only; then it was not us who made them.
        for (level, folder) in self.root.ancestors().enumerate() {
            match Folder::open(folder).and_then(|folder| self.files.sync_folder(&folder)) {
                Err(error) if level > missing_levels && is_denied(&error) => break,
                done => done?,
            }
        }
        Ok(())
    }

    /// Makes a folder and those above it; tells how many of them were missing.
    fn make_path(&self, path: &Path) -> io::Result<usize> {
        match (self.files.make_folder(path), path.parent()) {
            (Ok(()), _) => Ok(1),
            (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists => Ok(0),
            (Err(error), Some(parent)) if is_missing(&error) => {
                let missing_levels = self.make_path(parent)?;
                self.make_unless_there(path)?;
                Ok(missing_levels + 1)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn make_unless_there(&self, path: &Path) -> io::Result<()> {
        match self.files.make_folder(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    /// Writes a whole object.
    pub(super) fn write_object(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Failure> {
        let folder = self.folder_to_write(name)?;
        let file_name = file_name(name);
        match patiently(|| fs::statat(&folder, &file_name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(_) => return Err(self.exists(&folder)),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let (temporary, file) = self.create_temporary(&folder).map_err(vanished)?;
        let renamed = self.fill(&file, bytes).and_then(|()| self.publish(&folder, &temporary, &file_name));
        drop(file);
        if let Err(failure) = renamed {
            // What failed is told; if the file cannot be removed either, it is swept up some day.
            let _ = self.files.remove(&folder, &temporary);
            return Err(match failure.kind {
                StoreErrorKind::Exists => self.exists(&folder),
                _ => failure,
            });
        }
        self.files.sync_folder(&folder).map_err(|error| {
            // It may be seen, but not survive; and asked again the system may say that all is well.
            let _ = self.files.remove(&folder, &file_name);
            error.into()
        })
    }

    /// That the object is there already, which the caller may rely on like on a write of its own: whoever wrote it may
    /// not have come to make its name durable.
    fn exists(&self, folder: &Folder) -> Failure {
        match self.files.sync_folder(folder) {
            Ok(()) => io::Error::from(Errno::EXIST).into(),
            Err(error) => error.into(),
        }
    }

    fn create_temporary(&self, folder: &Folder) -> io::Result<(String, NewFile)> {
        loop {
            let name = self.temporary_names.next();
            match self.files.create(folder, &name) {
                Ok(file) => {
                    if locked(&self.swept_folders).insert(folder.path().to_owned()) {
                        temporary::sweep(&*self.files, folder, &file);
                    }
                    return Ok((name, file));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn fill(&self, file: &NewFile, bytes: &[u8]) -> Result<(), Failure> {
        self.files.write(file, bytes)?;
        let written_bytes = patiently(|| fs::fstat(file))?.st_size;
        if u64::try_from(written_bytes) != Ok(bytes.len() as u64) {
            let reason = format!("{} bytes were written, and the file has {written_bytes}", bytes.len());
            return Err(Failure::permanent(reason));
        }
        Ok(self.files.sync_file(file)?)
    }

    /// Gives the finished file its name, unless the name is taken.
    fn publish(&self, folder: &Folder, temporary: &str, file_name: &str) -> Result<(), Failure> {
        match self.files.rename(folder, temporary, file_name) {
            Ok(()) => Ok(()),
            // Some file systems (NFS, several under FUSE) cannot rename without replacing, but know hard links.
            Err(error)
                if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) =>
            {
                self.files.link(folder, temporary, file_name)?;
                let _ = self.files.remove(folder, temporary);
                Ok(())
            }
            Err(error) => Err(vanished(error)),
        }
    }

    /// The folder an object goes to. Folders of packs are made as they are needed, all others by `create` only.
    fn folder_to_write(&self, name: &ObjectName) -> Result<Folder, Failure> {
        let place = name.place();
        let path = self.place_path(place);
        if place != Place::Data {
            return Folder::open(&path).map_err(|error| self.place_lost(place, error));
        }
        let first = name.id().0[0];
        let path = path.join(format!("{first:02x}"));
        for _ in 0..2 {
            self.make_pack_folder(first, &path).map_err(|error| self.place_lost(place, error))?;
            match Folder::open(&path) {
                // Removed by hand since we knew it, for it was empty.
                Err(error) if is_missing(&error) => {
                    locked(&self.durable_folders).remove(&first);
                }
                opened => return Ok(opened?),
            }
        }
        Err(self.gone(place))
    }

    /// Makes a folder of packs, unless it is there, and makes sure that it survives a power cut.
    fn make_pack_folder(&self, first: u8, path: &Path) -> io::Result<()> {
        let mut durable = locked(&self.durable_folders);
        if durable.contains(&first) {
            return Ok(());
        }
        let data = Folder::open(&self.place_path(Place::Data))?;
        self.make_unless_there(path)?;
        // Another process may have made folders a moment ago; those that are there now are durable after the sync.
        let mut present = BTreeSet::from([first]);
        for entry in patiently(|| Dir::read_from(&data))? {
            present.extend(listing::folder_byte(entry?.file_name()));
        }
        self.files.sync_folder(&data)?;
        durable.append(&mut present);
        Ok(())
    }

    fn place_lost(&self, place: Place, error: io::Error) -> Failure {
        if is_missing(&error) { self.gone(place) } else { error.into() }
    }

    /// Removes an object, if it is there.
    pub(super) fn remove_object(&self, name: &ObjectName) -> Result<(), Failure> {
        let path = self.object_path(name);
        let Some(parent) = path.parent() else { return Ok(()) };
        let folder = match Folder::open(parent) {
            Ok(folder) => folder,
            Err(error) if is_missing(&error) => return self.is_only_the_object(name.place()),
            Err(error) => return Err(error.into()),
        };
        match self.files.remove(&folder, &file_name(name)) {
            // Removed before, by an attempt that may not have come to make it durable.
            Err(error) if is_missing(&error) => {}
            done => done?,
        }
        Ok(self.files.sync_folder(&folder)?)
    }
}

/// What was there a moment ago is not: an empty folder of packs was removed by hand, or a temporary file was swept up
/// since this process slept for days. The next attempt makes it anew.
fn vanished(error: io::Error) -> Failure {
    if is_missing(&error) { Failure::new(StoreErrorKind::Retry, error) } else { error.into() }
}

/// An object's name in its folder.
fn file_name(name: &ObjectName) -> String {
    match name.place() {
        Place::Config => Place::Config.name().to_owned(),
        _ => name.id().to_string(),
    }
}
