//! What keeps objects somewhere in its own way: a store but for how its failures are told.

use std::{error::Error, fmt};

use super::{Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store};
use crate::error::{StoreError, StoreErrorKind};

/// A failure on its way to a [`StoreError`]: what can be done, and why it is one.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: StoreErrorKind,
    pub(super) source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    pub(super) fn new(kind: StoreErrorKind, reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: reason.into() }
    }

    pub(super) fn damage(reason: String) -> Self {
        Self::new(StoreErrorKind::Damage, reason)
    }

    pub(super) fn permanent(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(StoreErrorKind::Permanent, reason)
    }

    /// Of kind "not found".
    #[cfg(feature = "tls")]
    pub(super) fn absent() -> Self {
        Self::new(StoreErrorKind::NotFound, "there is no such object")
    }

    /// Of kind "exists".
    #[cfg(any(feature = "tls", feature = "sftp"))]
    pub(super) fn exists() -> Self {
        Self::new(StoreErrorKind::Exists, "there is an object of that name already")
    }
}

/// The methods of a [`Store`], with its obligations, but for a failure's operation, object and location: these are the same for all.
/// A type with such methods is made a store by `impl Store for … { hand_on!(self as &dyn Backend); }`.
pub(super) trait Backend: Send + Sync {
    /// See [`Store::create`].
    fn make(&self) -> Result<(), Failure>;

    /// What [`Self::make`] does, for messages: the operation and its object.
    fn making(&self) -> (&'static str, &'static str) {
        ("create", "the repository's folders")
    }

    /// See [`Store::put`].
    fn write(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Failure>;

    /// See [`Store::get`]. On failure anything may be in `into`.
    fn read(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), Failure>;

    /// See [`Store::list`].
    fn list_place(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), Failure>;

    /// See [`Store::stat`].
    fn tell(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, Failure>;

    /// See [`Store::delete`].
    fn remove(&self, name: &ObjectName) -> Result<(), Failure>;

    /// See [`Store::abilities`].
    fn abilities(&self) -> Abilities;

    /// See [`Store::location`].
    fn location(&self) -> String;

    /// What is told of a failure, where that is something else.
    fn told(&self, failure: Failure) -> Failure {
        failure
    }

    /// A failure with all that is told of it.
    fn error(&self, operation: &'static str, object: &dyn fmt::Display, failure: Failure) -> StoreError {
        let Failure { kind, source } = self.told(failure);
        StoreError { kind, operation, object: object.to_string(), location: self.location(), source }
    }
}

impl Store for dyn Backend {
    fn create(&self) -> Result<(), StoreError> {
        let (operation, object) = self.making();
        self.make().map_err(|failure| self.error(operation, &object, failure))
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(name, bytes).map_err(|failure| self.error("write", name, failure))
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.read(name, range, into).map_err(|failure| {
            into.clear();
            self.error("read", name, failure)
        })
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.list_place(place, visit).map_err(|failure| self.error("list", &place.name(), failure))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        self.tell(name).map_err(|failure| self.error("look at", name, failure))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.remove(name).map_err(|failure| self.error("delete", name, failure))
    }

    fn abilities(&self) -> Abilities {
        Backend::abilities(self)
    }

    fn location(&self) -> String {
        Backend::location(self)
    }
}

/// Where a range lies in an object of that size: offset and length, both inside it.
pub(super) fn located(range: ByteRange, size_bytes: u64) -> Result<(u64, u64), Failure> {
    match range {
        ByteRange::WholeUpTo { limit_bytes } if size_bytes > limit_bytes => {
            Err(Failure::damage(format!("it has {size_bytes} bytes; no more than {limit_bytes} are possible")))
        }
        ByteRange::WholeUpTo { .. } => Ok((0, size_bytes)),
        ByteRange::Exact { offset_bytes, length_bytes } => match offset_bytes.checked_add(length_bytes) {
            Some(end) if end <= size_bytes => Ok((offset_bytes, length_bytes)),
            _ => Err(Failure::damage(format!(
                "it has {size_bytes} bytes; {length_bytes} from byte {offset_bytes} on are wanted"
            ))),
        },
        ByteRange::Suffix { length_bytes } => {
            let length_bytes = length_bytes.min(size_bytes);
            Ok((size_bytes - length_bytes, length_bytes))
        }
    }
}
