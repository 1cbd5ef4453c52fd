//! Stand-alone objects by name: reading, writing, listing.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    crypto::keys::ObjectKind,
    envelope::object,
    error::{Result, StoreErrorKind},
    id::ObjectId,
    limits,
    pack::builder::object_id,
    repository::Repository,
    store::{ByteRange, ObjectInfo, ObjectName, Place, Store},
};

impl Repository {
    /// Seals a value and stores it under its name in `place`.
    ///
    /// # Errors
    /// When it cannot be sealed or stored.
    pub fn save<T: Serialize>(&self, place: Place, kind: ObjectKind, value: &T) -> Result<ObjectId> {
        let bytes = object::seal(self.keys(), kind, value, self.runtime())?;
        let id = object_id(&bytes);
        put_hashed(self.store(), &ObjectName::new(place, id), &bytes)?;
        Ok(id)
    }

    /// Stores bytes under a name that is their hash.
    ///
    /// # Errors
    /// When they cannot be stored.
    pub fn put_object(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        put_hashed(self.store(), name, bytes)
    }

    /// Reads the object of this name.
    ///
    /// # Errors
    /// When it is not there, damaged, or of another kind.
    pub fn load<T: Serialize + DeserializeOwned>(&self, name: &ObjectName, kind: ObjectKind) -> Result<T> {
        object::open(self.keys(), kind, &self.load_bytes(name)?, name)
    }

    /// Reads the stored bytes of a stand-alone object.
    ///
    /// # Errors
    /// When it is not there or larger than any can be.
    pub fn load_bytes(&self, name: &ObjectName) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let range = ByteRange::WholeUpTo { limit_bytes: limits::OBJECT_STORED_BYTES_MAX };
        self.store().get(name, range, &mut bytes)?;
        Ok(bytes)
    }

    /// Lists a place, each object once, by name.
    ///
    /// # Errors
    /// When the listing is not complete.
    pub fn list(&self, place: Place) -> Result<Vec<ObjectInfo>> {
        let mut objects = Vec::new();
        self.store().list(place, &mut |info| objects.push(info))?;
        objects.sort_unstable_by_key(|info| info.name);
        objects.dedup_by_key(|info| info.name);
        Ok(objects)
    }
}

/// Stores an object that is named by its hash. One of that name that is there already has the same bytes, if it has the
/// same size; anything else was left behind by something that does not write whole objects.
pub(crate) fn put_hashed(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    match store.put(name, bytes) {
        Err(error) if error.kind == StoreErrorKind::Exists => match store.stat(name)? {
            Some(info) if info.size_bytes == bytes.len() as u64 => Ok(()),
            _ => Err(error.into()),
        },
        result => Ok(result?),
    }
}
