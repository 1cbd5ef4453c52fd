//! Where objects are kept: the trait every kind of store fulfils, and the names of objects.
//!
//! A repository uses restic's six places and nothing else, so that any restic REST server can host it.

use std::fmt;

use crate::{
    error::StoreError,
    id::{ID_BYTES, ObjectId},
    time::Timestamp,
};

#[macro_use]
mod hand_on;

#[cfg(feature = "b2")]
pub mod b2;
mod backend;
pub mod budget;
pub mod count;
#[cfg(any(feature = "tls", feature = "sftp"))]
pub mod flow;
#[cfg(feature = "http")]
mod http;
pub mod local;
pub mod memory;
#[cfg(feature = "bucket")]
pub mod opendal;
#[cfg(any(feature = "tls", feature = "sftp"))]
mod remote;
#[cfg(feature = "rest")]
pub mod rest;
pub mod retry;
pub mod secret;
#[cfg(feature = "sftp")]
pub mod sftp;
pub mod tls;

#[cfg(any(test, feature = "test-support"))]
pub mod testing;
pub mod throttle;

/// The places of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The single object `config`.
    Config,
    /// Key slots.
    Keys,
    /// Packs, spread over 256 folders by the first byte of their name.
    Data,
    /// Index runs.
    Index,
    /// Snapshot bodies and seals.
    Snapshots,
    /// Transient objects: sessions, marks, expire notes. The only place an append-only client may delete from.
    Locks,
}

impl Place {
    /// All places that hold objects named by their hash.
    pub const HASHED: [Self; 5] = [Self::Keys, Self::Data, Self::Index, Self::Snapshots, Self::Locks];

    /// The folder's name, or the object's for [`Place::Config`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Keys => "keys",
            Self::Data => "data",
            Self::Index => "index",
            Self::Snapshots => "snapshots",
            Self::Locks => "locks",
        }
    }
}

/// Names one object: the config, or a place and the SHA-256 of the object's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    place: Place,
    id: ObjectId,
}

impl ObjectName {
    /// The one object without a hash for a name.
    pub const CONFIG: Self = Self { place: Place::Config, id: ObjectId([0; ID_BYTES]) };

    /// An object named by its hash. `place` is not [`Place::Config`].
    pub fn new(place: Place, id: impl Into<ObjectId>) -> Self {
        debug_assert!(place != Place::Config, "the config has no id");
        Self { place, id: id.into() }
    }

    /// The object of a place at a path below the repository's root, as [`fmt::Display`] writes it, or `None` for paths of any other form.
    #[must_use]
    pub fn at_path(place: Place, path: &str) -> Option<Self> {
        let id = path.rsplit('/').next()?.parse::<ObjectId>().ok()?;
        let name = Self::new(place, id);
        (name.to_string() == path).then_some(name)
    }

    /// The place.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// The id; for the config it means nothing.
    #[must_use]
    pub const fn id(&self) -> ObjectId {
        self.id
    }
}

impl fmt::Display for ObjectName {
    /// The path below the repository's root: `data/ab/abcd…`, `index/…`, `config`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Config => out.write_str("config"),
            Place::Data => write!(out, "data/{:02x}/{}", self.id.0[0], self.id),
            place => write!(out, "{}/{}", place.name(), self.id),
        }
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Which bytes of an object to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// All, but not more than so many: a longer object is an error of kind damage.
    WholeUpTo {
        /// The limit.
        limit_bytes: u64,
    },
    /// Exactly these; fewer is an error of kind damage.
    Exact {
        /// First byte.
        offset_bytes: u64,
        /// How many.
        length_bytes: u64,
    },
    /// The last so many, or the whole object if it is shorter.
    Suffix {
        /// How many.
        length_bytes: u64,
    },
}

/// What a listing tells of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its stored size.
    pub size_bytes: u64,
    /// When it was stored, by the store's clock, if the store tells.
    pub modified: Option<Timestamp>,
}

/// What a store can do beyond the trait's obligations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// `put` refuses to replace an existing object even when two clients race.
    pub exclusive_put: bool,
    /// Good number of requests in flight at once. 0 asks for no threads at all beside those the caller asks for: a simulation
    /// needs to know who does what next.
    pub connections: usize,
    /// Longest time, in milliseconds, after which a finished `put` or `delete` shows in listings everywhere.
    pub visibility_delay_ms: u64,
}

/// A store of whole, immutable objects.
///
/// Obligations of every implementation, checked by the contract suite in `store::testing` (feature `test-support`):
///
/// * When `put` returns without an error the object is durable (it survives a power cut) and visible to `get` and `list`
///   of every client, at the latest after [`Abilities::visibility_delay_ms`]. Before that it is not visible under its
///   name, and it is never visible in part.
/// * After an error from `put` the object is either there whole or not there at all.
/// * `list` tells of every object that was there from its beginning to its end, or fails. Names of any other form
///   are passed over, not reported and not failed on. No order is promised, and an object may be told of twice.
/// * `get` gives exactly the bytes asked for, or fails; short and long answers are failures of kind damage.
/// * `delete` of an object that is not there succeeds.
/// * Errors are sorted by [`crate::error::StoreErrorKind`] truthfully; no method retries by itself.
pub trait Store: Send + Sync {
    /// Prepares an empty place for a new repository (folders, buckets); does nothing where nothing is needed.
    ///
    /// # Errors
    /// When the place cannot be prepared.
    fn create(&self) -> Result<(), StoreError>;

    /// Stores a whole object.
    ///
    /// # Errors
    /// Of kind [`Exists`](crate::error::StoreErrorKind::Exists) when an object of that name is there already (it stays
    /// as it is); any other kind as it comes.
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError>;

    /// Replaces `into` by the bytes asked for. `into` grows only by what really arrives or is known to exist.
    ///
    /// # Errors
    /// Of kind [`NotFound`](crate::error::StoreErrorKind::NotFound) when there is no such object.
    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError>;

    /// Calls `visit` for each object of a place.
    ///
    /// # Errors
    /// When the listing could not be completed; what was told so far is then not to be relied on.
    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError>;

    /// Tells of one object, or `None` when it is not there.
    ///
    /// # Errors
    /// When the store could not tell.
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError>;

    /// Removes an object.
    ///
    /// # Errors
    /// When it may still be there.
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// Where it is, for messages; without secrets.
    fn location(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_objects() {
        let id = "ab".repeat(32);
        for (path, is_object) in [
            (format!("data/ab/{id}"), true),
            (format!("data/aa/{id}"), false),
            (format!("data/{id}"), false),
            (format!("data/ab/x/{id}"), false),
            ("data/ab/".to_owned(), false),
            (format!("/data/ab/{id}"), false),
            (format!("data/ab/{}", id.to_uppercase()), false),
        ] {
            assert_eq!(ObjectName::at_path(Place::Data, &path).is_some(), is_object, "{path}");
        }
        assert!(ObjectName::at_path(Place::Keys, &format!("keys/{id}")).is_some());
        assert!(ObjectName::at_path(Place::Keys, &format!("index/{id}")).is_none());
    }
}
