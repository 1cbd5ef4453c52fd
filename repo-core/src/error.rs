//! The error every operation of this crate returns: what failed, on which object or path, and what to do next.

use std::fmt;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure a store reports; decides whether trying again can help and how the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Passing: time-out, reset, overload. The same request may succeed later.
    Retry,
    /// Credentials have expired; with new ones the same request may succeed.
    Refresh,
    /// There is no such object.
    NotFound,
    /// An object of that name is there already.
    Exists,
    /// No space, quota or inodes left.
    NoSpace,
    /// The store does not permit it: read-only, access denied, append-only.
    Denied,
    /// This machine's clock is wrong, so that the store does not believe what was signed with it.
    Clock,
    /// It was under way when the user ended the operation, and was cut.
    Cancelled,
    /// It would go beyond what the user allowed: too many requests, or too high costs.
    OverBudget,
    /// Anything else that trying again will not mend.
    Permanent,
    /// What came back cannot be what was asked for (short, long, not the object).
    Damage,
}

/// A failed request to a store.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object} in {location}")]
pub struct StoreError {
    /// Sorts the failure.
    pub kind: StoreErrorKind,
    /// The request as a verb: "read", "write", "list", "delete".
    pub operation: &'static str,
    /// The object's name in the store, or the place that was listed.
    pub object: String,
    /// The store, for people, without secrets.
    pub location: String,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Damage of one object: what it is, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object} is damaged: {reason}")]
pub struct Damage {
    /// The object, as place and name: `data/ab/abcd…`, `blob 12ab… (tree)`, `snapshots/…`.
    pub object: String,
    /// What is wrong.
    pub reason: String,
}

impl Damage {
    /// Damage of `object`.
    pub fn new(object: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self { object: object.to_string(), reason: reason.to_string() }
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),

    /// Stored bytes are not what they must be.
    #[error(transparent)]
    Damaged(#[from] Damage),

    /// A blob that is needed is in no index.
    #[error("{kind} blob {id} is in no index")]
    MissingBlob {
        /// Its kind.
        kind: crate::blob::BlobKind,
        /// Its id.
        id: crate::id::BlobId,
    },

    /// There is no repository here.
    #[error("there is no repository at {location}")]
    NoRepository {
        /// The store.
        location: String,
    },

    /// There is a repository here already.
    #[error("there is already a repository at {location}")]
    RepositoryExists {
        /// The store.
        location: String,
    },

    /// No key slot opens with this password.
    #[error("no key of the repository at {location} opens with this password")]
    WrongPassword {
        /// The store.
        location: String,
    },

    /// The repository was written by a newer version.
    #[error("{object} has format version {found}, this program reads up to version {known}")]
    NewerFormat {
        /// The object.
        object: String,
        /// Its version.
        found: u16,
        /// The newest this program knows.
        known: u16,
    },

    /// Something that a program must know to act on what carries it, and that this program does not know.
    #[error("{object} was made by a newer version of this program (it has extension {tag})")]
    NewerExtension {
        /// What carries it.
        object: String,
        /// The extension.
        tag: u32,
    },

    /// No snapshot fits what was asked for.
    #[error("no snapshot matches \"{query}\"")]
    NoSnapshot {
        /// What was asked for.
        query: String,
    },

    /// More than one object begins with the prefix.
    #[error("\"{prefix}\" is the beginning of more than one {what}: {candidates}")]
    Ambiguous {
        /// What kind of object.
        what: &'static str,
        /// What was asked for.
        prefix: String,
        /// Some of the candidates.
        candidates: String,
    },

    /// There is no such path in the snapshot.
    #[error("there is no \"{path}\" in snapshot {snapshot}")]
    NoSuchPath {
        /// The path, escaped for people.
        path: String,
        /// The snapshot's short id.
        snapshot: String,
    },

    /// A file, directory or device outside the repository failed.
    #[error("cannot {during} {path}")]
    Io {
        /// What was being done, as a verb.
        during: &'static str,
        /// The path, escaped for people.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },

    /// The source of a backup failed as a whole, so that no snapshot may be made of it.
    #[error("the source failed: {0}")]
    Source(String),

    /// Data condemned by a prune could not be saved in time; the snapshot was not committed.
    #[error("the repository is being pruned while this snapshot was made, and data it needs is gone; run again")]
    PrunedAway,

    /// What this session had stored, and not claimed yet, is gone. Only somebody who prunes at the same moment can have deleted it, or
    /// the store does not keep what it confirms.
    #[error(
        "{object} was stored a moment ago and is gone: it was pruned at the same time, or the store does not keep what it confirms"
    )]
    Vanished {
        /// One of the packs, as place and name.
        object: String,
    },

    /// What a snapshot needs lies in packs that are condemned, by a prune or as damaged, and cannot be stored again.
    #[error("part of what the snapshot needs is in packs that are out of use, and cannot be read any more")]
    Unreadable(#[source] Box<Self>),

    /// What was asked for cannot be: the text says why, and what would work.
    #[error("{0}")]
    Invalid(String),

    /// What was asked for would do harm that was hardly meant: the text says which.
    #[error("{0}")]
    Refused(String),

    /// The user asked to stop.
    #[error("interrupted")]
    Cancelled,

    /// An earlier failure in the same session; that one was reported.
    #[error("stopped after an earlier failure")]
    Poisoned,
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        // Which request it was that was cut, nobody asks who has ended it.
        if error.kind == StoreErrorKind::Cancelled { Self::Cancelled } else { Self::Store(error) }
    }
}

impl Error {
    /// The kind of store failure, if that is what it is.
    #[must_use]
    pub fn store_kind(&self) -> Option<StoreErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind),
            _ => None,
        }
    }

    /// Whether one object is at fault (missing or damaged), so that others may still be readable.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::MissingBlob { .. } | Self::Unreadable(_) => true,
            Self::Store(error) => matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Damage),
            _ => false,
        }
    }

    /// Whether something is of a version that this program does not know. It is sound, for all that anybody knows.
    #[must_use]
    pub const fn is_newer(&self) -> bool {
        matches!(self, Self::NewerFormat { .. } | Self::NewerExtension { .. })
    }

    /// Whether what a snapshot counts on, or was just made of, is gone before it was claimed. A new attempt stores it anew.
    #[must_use]
    pub const fn is_pruned_away(&self) -> bool {
        matches!(self, Self::PrunedAway | Self::Vanished { .. } | Self::Unreadable(_))
    }

    /// The message with its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
