//! Bytes and holes of an open file.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{self, FallocateFlags, SeekFrom},
    io::{self, Errno},
};

/// Zeros to write where the file system has no holes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Reads until `into` is full or the file ends; how many bytes were read.
pub(super) fn read_at(fd: &OwnedFd, mut offset_bytes: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..)
        && !rest.is_empty()
    {
        match io::pread(fd, rest, offset_bytes) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                offset_bytes += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes all of `bytes`.
pub(super) fn write_at(fd: &OwnedFd, mut offset_bytes: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match io::pwrite(fd, bytes, offset_bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset_bytes += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The first byte at or behind `offset_bytes` that takes space, if there is one before `end_bytes`.
fn next_data(fd: &OwnedFd, offset_bytes: u64, end_bytes: u64) -> Result<Option<u64>, Errno> {
    match fs::seek(fd, SeekFrom::Data(offset_bytes)) {
        Ok(data) => Ok((data < end_bytes).then_some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether nothing in the range takes space.
pub(super) fn is_hole(fd: &OwnedFd, offset_bytes: u64, length_bytes: u64) -> Result<bool, Errno> {
    Ok(next_data(fd, offset_bytes, offset_bytes.saturating_add(length_bytes))?.is_none())
}

/// Makes a hole of the range. A file system without holes gets zeros, but only where it has data now, so that the work is
/// bounded by what is there rather than by what a snapshot claims.
pub(super) fn make_hole(fd: &OwnedFd, offset_bytes: u64, length_bytes: u64) -> Result<(), Errno> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fs::fallocate(fd, flags, offset_bytes, length_bytes) {
        Err(Errno::NOTSUP | Errno::NOSYS) => {}
        done => return done,
    }
    let end_bytes = offset_bytes.saturating_add(length_bytes).min(fs::fstat(fd)?.st_size.try_into().unwrap_or(0));
    let mut at = offset_bytes;
    while let Some(data) = next_data(fd, at, end_bytes)? {
        let until = fs::seek(fd, SeekFrom::Hole(data))?.min(end_bytes);
        at = data;
        while at < until {
            let part = usize::try_from(until - at).unwrap_or(usize::MAX).min(ZEROS.len());
            write_at(fd, at, ZEROS.get(..part).unwrap_or(&ZEROS))?;
            at += part as u64;
        }
    }
    Ok(())
}
