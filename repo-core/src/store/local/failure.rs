//! Sorts what the operating system reports into the kinds a store must tell apart.

use std::io;

use rustix::io::Errno;

use crate::{error::StoreErrorKind, store::backend::Failure};

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(kind_of(&error), error)
    }
}

fn kind_of(error: &io::Error) -> StoreErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => StoreErrorKind::NoSpace,
        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => StoreErrorKind::Denied,
        Some(Errno::NOENT) => StoreErrorKind::NotFound,
        Some(Errno::EXIST) => StoreErrorKind::Exists,
        // A network file system's server is busy, restarting or out of reach.
        Some(Errno::AGAIN | Errno::TIMEDOUT | Errno::STALE | Errno::HOSTDOWN | Errno::NETDOWN | Errno::NETUNREACH) => {
            StoreErrorKind::Retry
        }
        _ => StoreErrorKind::Permanent,
    }
}

/// Whether an error says that there is no such name.
pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Whether an error says that something is not permitted.
pub(super) fn is_denied(error: &io::Error) -> bool {
    kind_of(error) == StoreErrorKind::Denied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_can_be_done() {
        for (errno, kind) in [
            (Errno::NOSPC, StoreErrorKind::NoSpace),
            (Errno::DQUOT, StoreErrorKind::NoSpace),
            (Errno::ROFS, StoreErrorKind::Denied),
            (Errno::ACCESS, StoreErrorKind::Denied),
            (Errno::PERM, StoreErrorKind::Denied),
            (Errno::NOENT, StoreErrorKind::NotFound),
            (Errno::EXIST, StoreErrorKind::Exists),
            (Errno::IO, StoreErrorKind::Permanent),
            (Errno::FBIG, StoreErrorKind::Permanent),
            (Errno::MFILE, StoreErrorKind::Permanent),
            (Errno::STALE, StoreErrorKind::Retry),
            (Errno::TIMEDOUT, StoreErrorKind::Retry),
        ] {
            assert_eq!(Failure::from(io::Error::from(errno)).kind, kind, "{errno}");
        }
    }
}
