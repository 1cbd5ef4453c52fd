//! Reads a range of a file into a buffer.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    buffer::spare_capacity,
    fs::{self, CWD, FileType, Mode, OFlags},
};

use super::files::patiently;
use crate::store::{
    ByteRange,
    backend::{Failure, located},
};

/// Replaces `into` by the bytes asked for. On failure it is empty.
pub(super) fn read(path: &Path, range: ByteRange, into: &mut Vec<u8>) -> Result<(), Failure> {
    // Not blocking: a FIFO of that name must not hold us up. It makes no difference to a regular file.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = patiently(|| fs::openat(CWD, path, flags, Mode::empty()))?;
    let stat = patiently(|| fs::fstat(&file))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Failure::damage("it is not a regular file".into()));
    }
    let (offset_bytes, length_bytes) = located(range, u64::try_from(stat.st_size).unwrap_or(0))?;
    let length = usize::try_from(length_bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let done = fill(&file, offset_bytes, length, into);
    if done.is_err() {
        into.clear();
    }
    done
}

/// Makes `into` the `length` bytes from `offset_bytes` on, which the file had a moment ago.
///
/// Memory is not cleared before it is read into: bytes that `into` holds already are read over, and what it grows by
/// is read as spare capacity. Only a large empty buffer, into which the system might read more than was asked for, is.
fn fill(file: &OwnedFd, offset_bytes: u64, length: usize, into: &mut Vec<u8>) -> Result<(), Failure> {
    into.truncate(length);
    into.try_reserve_exact(length - into.len()).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    if into.capacity() - length > length / 8 + 4096 {
        into.resize(length, 0);
    }
    let mut reached = 0;
    while reached < length {
        let position = offset_bytes + reached as u64;
        let read = match into.get_mut(reached..) {
            Some(rest) if !rest.is_empty() => patiently(|| rustix::io::pread(file, &mut *rest, position))?,
            _ => patiently(|| rustix::io::pread(file, spare_capacity(into), position))?,
        };
        if read == 0 {
            return Err(Failure::damage(format!("it ended {} bytes early while it was read", length - reached)));
        }
        reached += read;
    }
    into.truncate(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::error::StoreErrorKind;

    /// Somebody cuts the file between the question for its size and the reading.
    #[test]
    fn a_file_that_shrinks_is_damage() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 1000]).unwrap();
        let file = OwnedFd::from(file);
        for into in [Vec::new(), vec![1; 5], vec![1; 5000], Vec::with_capacity(100_000)] {
            for (offset_bytes, length) in [(0, 1001), (999, 2), (1000, 1), (5000, 1)] {
                let failure = fill(&file, offset_bytes, length, &mut into.clone()).err().unwrap();
                assert_eq!(failure.kind, StoreErrorKind::Damage);
            }
            let mut into = into;
            assert!(fill(&file, 1, 999, &mut into).is_ok() && into == [7; 999]);
        }
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let failure = fill(&file, 0, usize::MAX / 2, &mut Vec::new()).err().unwrap();
        assert_eq!(failure.kind, StoreErrorKind::Permanent);
    }
}
