//! Stand-alone objects by name: reading, writing, listing.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    crypto::keys::ObjectKind,
    envelope::object,
    error::{Damage, Error, Result, StoreErrorKind},
    id::{ObjectId, SnapshotId},
    limits,
    pack::builder::object_id,
    parallel::for_each,
    repository::Repository,
    store::{ByteRange, ObjectInfo, ObjectName, Place, Store},
};

impl Repository {
    /// Seals a value and stores it under its name in `place`.
    ///
    /// # Errors
    /// When it cannot be sealed or stored.
    pub fn save<T: Serialize>(&self, place: Place, kind: ObjectKind, value: &T) -> Result<ObjectId> {
        Ok(self.save_bytes(place, kind, value)?.0)
    }

    /// As [`Self::save`]; gives the stored bytes too.
    pub(super) fn save_bytes<T: Serialize>(
        &self,
        place: Place,
        kind: ObjectKind,
        value: &T,
    ) -> Result<(ObjectId, Vec<u8>)> {
        let bytes = object::seal(self.keys(), kind, value, self.runtime())?;
        let id = object_id(&bytes);
        put_hashed(self.store(), &ObjectName::new(place, id), &bytes)?;
        if let Some(cache) = self.cache().filter(|_| place == Place::Snapshots) {
            cache.keep_snapshot(&id, &bytes);
        }
        Ok((id, bytes))
    }

    /// Stores bytes under a name that is their hash.
    ///
    /// # Errors
    /// When they cannot be stored.
    pub fn put_object(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        put_hashed(self.store(), name, bytes)
    }

    /// Deletes objects, several at once. That one is gone already is as good.
    ///
    /// # Errors
    /// When the store fails; others of them may be deleted by then.
    pub fn delete_objects(&self, names: &[ObjectName]) -> Result<()> {
        for_each(names, self.store().abilities().connections, |name| self.delete_object(name))
    }

    /// Deletes an object. That it is gone already is as good.
    ///
    /// # Errors
    /// When the store fails.
    pub fn delete_object(&self, name: &ObjectName) -> Result<()> {
        match self.store().delete(name) {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            result => Ok(result?),
        }
    }

    /// Reads an object whole that was just stored, and holds it against its name, which is the hash of what was sent. One that is not
    /// what it should be is deleted again, as far as that goes. That it is gone says nothing: others prune, and merge index runs.
    ///
    /// # Errors
    /// When it is not what was stored, or cannot be read: then nothing may be deleted that relies on it.
    pub(crate) fn read_back(&self, name: &ObjectName) -> Result<()> {
        let mut bytes = Vec::new();
        let limit_bytes = limits::PACK_BYTES_MAX.max(limits::INDEX_BYTES_MAX);
        match self.store().get(name, ByteRange::WholeUpTo { limit_bytes }, &mut bytes) {
            Ok(()) if object_id(&bytes) == name.id() => return Ok(()),
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(()) => {}
        }
        let _ = self.delete_object(name);
        let reason = "it is not what was stored a moment ago; nothing was deleted. Test the disk, or the store";
        Err(Damage::new(*name, reason).into())
    }

    /// Makes sure that an object that was stored is there in full length: a last look before something relies on it, for
    /// stores that lose what they have confirmed.
    ///
    /// # Errors
    /// When it is not, or the store cannot tell.
    pub(crate) fn check_stored(&self, name: &ObjectName, size_bytes: u64) -> Result<()> {
        self.find_stored(name, size_bytes)?.then_some(()).ok_or_else(|| lost(name, size_bytes, 0))
    }

    /// Whether an object that was stored is still there; in full length, if so.
    ///
    /// # Errors
    /// When it is there in another length, or the store cannot tell.
    pub(crate) fn find_stored(&self, name: &ObjectName, size_bytes: u64) -> Result<bool> {
        let found = match self.store().stat(name)? {
            // Something in between may have given the old answer again, from before it was stored. Asked anew, it is there or is not.
            None => self.store().stat(name)?,
            found => found,
        };
        match found {
            Some(info) if info.size_bytes != size_bytes => Err(lost(name, size_bytes, info.size_bytes)),
            found => Ok(found.is_some()),
        }
    }

    /// Reads the object of this name.
    ///
    /// # Errors
    /// When it is not there, damaged, or of another kind.
    pub fn load<T: Serialize + DeserializeOwned>(&self, name: &ObjectName, kind: ObjectKind) -> Result<T> {
        object::open(self.keys(), kind, &self.load_bytes(name)?, name)
    }

    /// Reads a snapshot body or a seal, from the local cache if it is there. That it is there says nothing of the store.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_snapshot<T: Serialize + DeserializeOwned>(
        &self,
        id: impl Into<ObjectId>,
        kind: ObjectKind,
    ) -> Result<T> {
        let id = id.into();
        let name = ObjectName::new(Place::Snapshots, id);
        let Some(cache) = self.cache() else { return self.load(&name, kind) };
        if let Some(bytes) = cache.snapshot(&id) {
            return object::open(self.keys(), kind, &bytes, &name);
        }
        let bytes = self.load_bytes(&name)?;
        let value = object::open(self.keys(), kind, &bytes, &name)?;
        cache.keep_snapshot(&id, &bytes);
        Ok(value)
    }

    /// Opens the copy of a snapshot body that came with its seal, and keeps it in the local cache.
    pub(crate) fn open_copy<T: Serialize + DeserializeOwned>(&self, body: &SnapshotId, bytes: &[u8]) -> Result<T> {
        let id = ObjectId::from(*body);
        let value = object::open(self.keys(), ObjectKind::Snapshot, bytes, &ObjectName::new(Place::Snapshots, id))?;
        if let Some(cache) = self.cache().filter(|cache| cache.snapshot(&id).is_none()) {
            cache.keep_snapshot(&id, bytes);
        }
        Ok(value)
    }

    /// Reads the stored bytes of a stand-alone object.
    ///
    /// # Errors
    /// When it is not there or larger than any can be.
    pub fn load_bytes(&self, name: &ObjectName) -> Result<Vec<u8>> {
        load_bytes(self.store(), name)
    }

    /// Lists a place, each object once, by name.
    ///
    /// # Errors
    /// When the listing is not complete.
    pub fn list(&self, place: Place) -> Result<Vec<ObjectInfo>> {
        list(self.store(), place)
    }
}

/// Reads the stored bytes of a stand-alone object.
pub(super) fn load_bytes(store: &dyn Store, name: &ObjectName) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let range = ByteRange::WholeUpTo { limit_bytes: limits::OBJECT_STORED_BYTES_MAX };
    store.get(name, range, &mut bytes)?;
    Ok(bytes)
}

/// Lists a place, each object once, by name.
pub(super) fn list(store: &dyn Store, place: Place) -> Result<Vec<ObjectInfo>> {
    let mut objects = Vec::new();
    store.list(place, &mut |info| objects.push(info))?;
    objects.sort_unstable_by_key(|info| info.name);
    objects.dedup_by_key(|info| info.name);
    Ok(objects)
}

fn lost(name: &ObjectName, size_bytes: u64, found_bytes: u64) -> Error {
    let reason = format!(
        "the store confirmed that it has {size_bytes} bytes, and now has {found_bytes} of them; nothing can rely on this store"
    );
    Damage::new(name, reason).into()
}

/// Stores an object that is named by its hash. One of that name that is there already has the same bytes, if it has the
/// same size. Anything else is what an attempt of ours left behind in a store that does not write whole objects: nobody
/// else makes an object of this name, since it depends on random bytes. It is replaced.
pub(crate) fn put_hashed(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    match store.put(name, bytes) {
        Err(error) if error.kind == StoreErrorKind::Exists => match store.stat(name)? {
            Some(info) if info.size_bytes == bytes.len() as u64 => Ok(()),
            _ => {
                store.delete(name)?;
                Ok(store.put(name, bytes)?)
            }
        },
        result => Ok(result?),
    }
}
