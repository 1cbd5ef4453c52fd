//! Reading one regular file with as few system calls as can be: for an ordinary small one `openat`, `pread`, `statx`,
//! `flistxattr` and `close`.
//!
//! The file is not looked at when it is opened. `pread` refuses pipes, sockets and terminals without taking anything from
//! them, a file that turns out longer than expected is looked at before more of it is read, and every file at the end: so
//! nothing but a regular file gets through, and nothing is read that somebody else is waiting for.

use std::{os::fd::AsFd, os::fd::OwnedFd, sync::Arc};

use rustix::{
    buffer::spare_capacity,
    fs::{SeekFrom, seek},
    io::{Errno, pread, retry_on_intr},
};

use super::{
    Shared,
    place::Place,
    stat::stat_open,
    xattr::{self, Of},
};
use crate::{
    source::{FileReader, FileType, Part, Severity, SourceError, Stat},
    time::Timestamp,
    tree::{name::Name, node::Xattr},
};

/// An open regular file.
pub(super) struct LocalFile {
    file: OwnedFd,
    shared: Arc<Shared>,
    place: Arc<Place>,
    name: Name,
    expected_bytes: u64,
    /// Whether what is open has been seen to be a regular file.
    is_regular: bool,
    position: u64,
    ended: bool,
    holes: Holes,
}

/// What is known of the holes ahead.
#[derive(Clone, Copy)]
enum Holes {
    /// There is no reason to look for any.
    None,
    /// There are none before this position.
    After(u64),
}

/// What is at a position.
enum Segment {
    /// Bytes, at most so many before the next hole.
    Data(u64),
    Hole(u64),
    End,
}

impl LocalFile {
    pub(super) fn new(file: OwnedFd, shared: Arc<Shared>, place: Arc<Place>, name: Name, expected: &Stat) -> Self {
        Self {
            file,
            shared,
            place,
            name,
            expected_bytes: expected.size_bytes,
            is_regular: false,
            position: 0,
            ended: false,
            holes: if expected.sparse { Holes::After(0) } else { Holes::None },
        }
    }

    fn error(&self, cause: impl Into<std::io::Error>) -> SourceError {
        let path = self.place.path_of(self.name.as_bytes());
        SourceError { during: "read", path, severity: Severity::Entry, cause: cause.into() }
    }

    fn look(&mut self) -> Result<Stat, SourceError> {
        let stat = stat_open(self.file.as_fd()).map_err(|error| self.error(error))?;
        if stat.file_type != FileType::File {
            return Err(self.replaced());
        }
        self.is_regular = true;
        Ok(stat)
    }

    fn replaced(&self) -> SourceError {
        self.error(std::io::Error::other("it was replaced by something that is no regular file"))
    }

    /// What comes next in a file with holes.
    fn segment(&mut self, no_hole_before: u64) -> Result<Segment, Errno> {
        if self.position < no_hole_before {
            return Ok(Segment::Data(no_hole_before - self.position));
        }
        // Somebody may be punching holes meanwhile; a few attempts, then it is read like any other file.
        for _ in 0..4 {
            let start = match seek(&self.file, SeekFrom::Data(self.position)) {
                Ok(start) => start,
                Err(Errno::NXIO) => {
                    let end = seek(&self.file, SeekFrom::End(0))?;
                    self.ended = true;
                    return Ok(if end > self.position { Segment::Hole(end - self.position) } else { Segment::End });
                }
                Err(Errno::INVAL | Errno::NOTSUP) => break,
                Err(error) => return Err(error),
            };
            match seek(&self.file, SeekFrom::Hole(start)) {
                Ok(end) if end > start && start >= self.position => {
                    self.holes = Holes::After(end);
                    let hole = start - self.position;
                    return Ok(if hole > 0 { Segment::Hole(hole) } else { Segment::Data(end - start) });
                }
                Ok(_) | Err(Errno::NXIO) => {}
                Err(error) => return Err(error),
            }
        }
        self.holes = Holes::None;
        Ok(Segment::Data(u64::MAX))
    }

    /// Reads once, up to `most_bytes`. Returns how many bytes were asked for and how many came.
    fn read_some(&self, most_bytes: usize, into: &mut Vec<u8>) -> Result<(usize, usize), Errno> {
        if into.capacity() == into.len() {
            into.reserve_exact(most_bytes);
        }
        let spare = into.capacity() - into.len();
        if spare <= most_bytes {
            let count = retry_on_intr(|| pread(&self.file, spare_capacity(into), self.position))?;
            return Ok((spare, count));
        }
        let length = into.len();
        into.resize(length + most_bytes, 0);
        let result = retry_on_intr(|| pread(&self.file, &mut into[length..], self.position));
        into.truncate(length + result.unwrap_or(0));
        Ok((most_bytes, result?))
    }
}

impl FileReader for LocalFile {
    fn read(&mut self, most_bytes: usize, into: &mut Vec<u8>) -> Result<Part, SourceError> {
        let mut most_bytes = most_bytes.max(1);
        if self.ended {
            return Ok(Part::End);
        }
        if let Holes::After(position) = self.holes {
            match self.segment(position).map_err(|error| self.read_error(error))? {
                Segment::Data(length) => most_bytes = most_bytes.min(usize::try_from(length).unwrap_or(usize::MAX)),
                Segment::Hole(length) => {
                    self.position += length;
                    return Ok(Part::Hole(length));
                }
                Segment::End => return Ok(Part::End),
            }
        }
        let (asked, count) = self.read_some(most_bytes, into).map_err(|error| self.read_error(error))?;
        if count == 0 {
            self.ended = true;
            return Ok(Part::End);
        }
        self.position += count as u64;
        // Less than asked for, and just as long as it was said to be: asking again would only bring nothing.
        self.ended = count < asked && self.position == self.expected_bytes;
        if self.position > self.expected_bytes && !self.is_regular {
            self.look()?;
        }
        Ok(Part::Data(count))
    }

    fn finish(&mut self) -> Result<(Stat, Vec<Xattr>), SourceError> {
        let mut stat = self.look()?;
        let path = || self.place.path_of(self.name.as_bytes());
        let found =
            xattr::read_all(Of::File(self.file.as_fd())).unwrap_or_else(|error| (Vec::new(), vec![error.into()]));
        if !found.1.is_empty() {
            // What is missing is looked for, and told of, again with the next backup.
            stat.changed = Timestamp::default();
        }
        Ok((stat, self.shared.xattrs(found, path)))
    }
}

impl LocalFile {
    fn read_error(&self, error: Errno) -> SourceError {
        match error {
            Errno::SPIPE | Errno::ISDIR => self.replaced(),
            error => self.error(error),
        }
    }
}
