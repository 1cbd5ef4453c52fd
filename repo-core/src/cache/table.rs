//! Plain tables of index runs in files that are mapped.
//!
//! | at | length | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 16 | what the tables are: four numbers of whoever keeps them |
//! | 24 | 8 | their length |
//! | 32 | 32 | BLAKE3's keyed hash of name of the run ‖ bytes 0 to 31 ‖ tables |
//! | 64 | | the tables |
//!
//! The key is made from the repository's master key. The whole file is held against the hash when it is opened, by reading it: that
//! takes 50 ms for ten million blobs, no memory, and from then on nothing that looks something up can meet damage.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use super::{Cache, NewFile, Part, Scope, map::Mapping};
use crate::{
    id::{IndexId, ObjectId},
    limits,
};

/// Changes with the layout, and with that of the tables.
const MAGIC: [u8; 8] = *b"coffer\x01t";

const HASHED_BYTES: usize = 32;

const HEADER_BYTES: usize = HASHED_BYTES + 32;

/// Bytes that are read at once to be hashed: they stay in the second-level cache.
const READ_BYTES: usize = 512 << 10;

/// Runs from this stored size on are large.
pub const LARGE_RUN_BYTES: u64 = 4 << 20;

/// Rows of each section, as whoever keeps the tables counts them.
pub type Shape = [u32; 4];

impl Cache {
    /// Whether tables of a run of this stored size are kept.
    #[must_use]
    pub fn keeps_table(&self, stored_bytes: u64) -> bool {
        match self.scope {
            Scope::All => true,
            Scope::LargeTables => stored_bytes >= LARGE_RUN_BYTES,
        }
    }

    /// The tables of a run, if they are here and what they were. Others are dropped.
    #[must_use]
    pub fn table(&self, id: IndexId) -> Option<(Shape, Mapping)> {
        let name = id.to_string();
        let file = self.open_file(Part::Tables, &name)?;
        let table = self.verified(&file, id).ok().flatten();
        if table.is_none() {
            self.remove(Part::Tables, &name);
        }
        table
    }

    fn verified(&self, mut file: &File, id: IndexId) -> io::Result<Option<(Shape, Mapping)>> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        let (front, expected) = header.split_at(HASHED_BYTES);
        let Some((shape, length_bytes)) = parse(front) else { return Ok(None) };
        // The limit before the sum, which could be too large for a number.
        if length_bytes > limits::INDEX_BYTES_MAX || file.metadata()?.len() != HEADER_BYTES as u64 + length_bytes {
            return Ok(None);
        }
        let mut hasher = self.hasher(id);
        hasher.update(front);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = match file.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                break;
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
        if hasher.finalize() != *expected {
            return Ok(None);
        }
        let mapping = Mapping::new(file, HEADER_BYTES as u64, to_usize(length_bytes)?)?;
        Ok(Some((shape, mapping)))
    }

    /// Hashes something of a run.
    pub(super) fn hasher(&self, id: IndexId) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&id.0);
        hasher
    }

    /// Begins to keep the tables of a run; `None` where nothing can be written.
    #[must_use]
    pub fn begin_table(&self, id: IndexId, shape: Shape, length_bytes: u64) -> Option<NewTable<'_>> {
        let mut file = self.begin(Part::Tables, &id.to_string(), HEADER_BYTES as u64 + length_bytes)?;
        file.write(&[0; HEADER_BYTES]);
        let mut header = [0; HASHED_BYTES];
        let numbers = shape.map(u32::to_le_bytes);
        let parts: [&[u8]; 3] = [&MAGIC, numbers.as_flattened(), &length_bytes.to_le_bytes()];
        header.iter_mut().zip(parts.into_iter().flatten()).for_each(|(byte, value)| *byte = *value);
        let mut hasher = self.hasher(id);
        hasher.update(&header);
        Some(NewTable { file, hasher, header, length_bytes })
    }

    /// Drops the tables of runs that are not listed any more.
    pub fn retain_tables(&self, listed: &std::collections::BTreeSet<ObjectId>) {
        self.retain(Part::Tables, listed);
    }
}

/// Tables that are being written to the cache. Dropped, they leave nothing behind.
pub struct NewTable<'a> {
    file: NewFile<'a>,
    hasher: blake3::Hasher,
    header: [u8; HASHED_BYTES],
    length_bytes: u64,
}

impl<'a> NewTable<'a> {
    /// Adds bytes. Where they cannot be written, that shows at the end.
    pub fn write(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.file.write(bytes);
    }

    /// Ends the file, which is not in the cache yet; `None` if it could not be written.
    #[must_use]
    pub fn finish(mut self) -> Option<Written<'a>> {
        if self.file.failed || self.file.size_bytes != HEADER_BYTES as u64 + self.length_bytes {
            return None;
        }
        let hash = self.hasher.finalize();
        let write = |file: &mut File| -> io::Result<Mapping> {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&self.header)?;
            file.write_all(hash.as_bytes())?;
            Mapping::new(file, HEADER_BYTES as u64, to_usize(self.length_bytes)?)
        };
        match write(&mut self.file.file) {
            Ok(mapping) => Some(Written { file: self.file, mapping }),
            Err(error) => {
                self.file.cache.failed(&error);
                None
            }
        }
    }
}

/// Tables that are written, and not in the cache yet.
pub struct Written<'a> {
    file: NewFile<'a>,
    mapping: Mapping,
}

impl Written<'_> {
    /// The tables.
    #[must_use]
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Puts them into the cache. The mapping is good whether or not that worked.
    #[must_use]
    pub fn publish(self) -> Mapping {
        self.file.publish();
        self.mapping
    }

    /// For this process only: the file goes, the mapping stays.
    #[must_use]
    pub fn unnamed(self) -> Mapping {
        self.mapping
    }
}

fn parse(hashed: &[u8]) -> Option<(Shape, u64)> {
    let (magic, rest) = hashed.split_first_chunk()?;
    let (numbers, length) = rest.split_first_chunk::<16>()?;
    let mut shape = [0; 4];
    for (number, bytes) in shape.iter_mut().zip(numbers.as_chunks().0) {
        *number = u32::from_le_bytes(*bytes);
    }
    (*magic == MAGIC).then_some((shape, u64::from_le_bytes(*length.first_chunk()?)))
}

fn to_usize(length_bytes: u64) -> io::Result<usize> {
    usize::try_from(length_bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}
