//! Index runs as stored objects: the tables cut into pages of equal plain length, each a sealed frame.

use serde::{Deserialize, Serialize};

use crate::{
    blob::Compression,
    codec,
    compress::{Compressor, Level},
    crypto::{
        aead::TAG_BYTES,
        keys::{Keys, ObjectKind},
    },
    envelope::{
        container::{ContainerWriter, FOOTER_BYTES, Footer, open_frame},
        header::{HEADER_BYTES, Header, ObjectCipher},
    },
    error::{Damage, Error, Result},
    id::IndexId,
    index::table::{Counts, Table},
    limits,
    pack::builder::object_id,
    runtime::Runtime,
    store::{ByteRange, ObjectName, Place, Store},
};

/// Plain length of every page but the last.
pub const INDEX_PAGE_BYTES: usize = 64 << 10;

/// A run ready to be put.
pub struct StoredRun {
    /// SHA-256 of its bytes.
    pub id: IndexId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A run's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDirectory {
    /// Rows of its tables.
    pub counts: Counts,
    /// Its pages, in order.
    pub pages: Vec<RunPage>,
}

/// One page of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPage {
    /// Stored length, with its tag.
    pub stored_bytes: u32,
    /// How it was packed.
    pub compression: Compression,
    /// The first eight bytes of the page, big-endian. Pages that begin in the ids, whose rows never straddle pages, are found by it.
    pub first: u64,
}

/// Cuts the tables into pages and seals them.
pub(super) struct RunWriter {
    container: ContainerWriter,
    directory: RunDirectory,
    page: Vec<u8>,
    packed: Vec<u8>,
    compressor: Compressor,
}

impl RunWriter {
    pub(super) fn new(keys: &Keys, counts: Counts, runtime: &dyn Runtime) -> Self {
        Self {
            container: ContainerWriter::new(keys, ObjectKind::Index, runtime, Vec::new()),
            directory: RunDirectory { counts, pages: Vec::new() },
            page: Vec::with_capacity(INDEX_PAGE_BYTES),
            packed: Vec::new(),
            compressor: Compressor::new(Level::FASTEST),
        }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(INDEX_PAGE_BYTES - self.page.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() == INDEX_PAGE_BYTES {
                self.close_page()?;
            }
        }
        Ok(())
    }

    fn close_page(&mut self) -> Result<()> {
        self.packed.clear();
        let compression = self.compressor.compress(&self.page, &mut self.packed);
        self.container.add_frame(&self.packed)?;
        self.directory.pages.push(RunPage {
            stored_bytes: u32::try_from(self.packed.len() + TAG_BYTES).unwrap_or(u32::MAX),
            compression,
            first: first_of(&self.page),
        });
        self.page.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<StoredRun> {
        if !self.page.is_empty() {
            self.close_page()?;
        }
        let bytes = self.container.finish(&codec::encode(&self.directory))?;
        Ok(StoredRun { id: object_id(&bytes).into(), bytes })
    }
}

/// The first eight bytes of a page, zeros standing in for what it has not.
fn first_of(page: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (byte, value) in first.iter_mut().zip(page) {
        *byte = *value;
    }
    u64::from_be_bytes(first)
}

/// Reads a whole run into memory.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn read_run(store: &dyn Store, keys: &Keys, id: IndexId) -> Result<Table<Vec<u8>>> {
    let name = ObjectName::new(Place::Index, id);
    let mut bytes = Vec::new();
    store.get(&name, ByteRange::WholeUpTo { limit_bytes: limits::INDEX_BYTES_MAX }, &mut bytes)?;
    decode_run(keys, &bytes, &name)
}

/// Decodes a run that is in memory as a whole.
///
/// # Errors
/// When it is damaged.
pub fn decode_run(keys: &Keys, bytes: &[u8], name: &ObjectName) -> Result<Table<Vec<u8>>> {
    let damage = |reason: &dyn std::fmt::Display| Error::from(Damage::new(name, reason));
    let footer = Footer::open(keys, ObjectKind::Index, bytes, bytes.len() as u64, name)?;
    let directory_end = bytes.len() - FOOTER_BYTES;
    if Header::parse(bytes, ObjectKind::Index, name)? != footer.header {
        return Err(damage(&"header and footer do not agree"));
    }
    let directory_start = usize::try_from(footer.directory_offset_bytes).unwrap_or(usize::MAX);
    let stored = bytes.get(directory_start..directory_end).unwrap_or_default();
    let directory: RunDirectory =
        codec::decode(&footer.open_directory(keys, stored, name)?).map_err(|error| damage(&error))?;

    let table_bytes = directory.counts.table_bytes();
    if table_bytes > limits::INDEX_BYTES_MAX
        || directory.pages.len() as u64 != table_bytes.div_ceil(INDEX_PAGE_BYTES as u64)
    {
        return Err(damage(&"its tables are too large, or not as many pages as it has"));
    }
    let cipher = ObjectCipher::new(keys, &footer.header);
    let mut table = Vec::new();
    let (mut page, mut scratch) = (Vec::new(), Vec::new());
    let mut offset = HEADER_BYTES;
    for (record, ordinal) in directory.pages.iter().zip(0..) {
        let end = offset.saturating_add(record.stored_bytes as usize);
        let stored = bytes.get(offset..end.min(directory_start)).unwrap_or_default();
        let left = usize::try_from(table_bytes).unwrap_or(usize::MAX).saturating_sub(table.len());
        let plain_bytes = left.min(INDEX_PAGE_BYTES);
        open_frame(&cipher, ordinal, record.compression, stored, plain_bytes, &mut scratch, &mut page)
            .map_err(|reason| damage(&format_args!("page {ordinal}: {reason}")))?;
        if first_of(&page) != record.first {
            return Err(damage(&format_args!("page {ordinal}: it begins otherwise than the directory says")));
        }
        table.extend_from_slice(&page);
        offset = end;
    }
    Table::new(table, directory.counts).map_err(|reason| damage(&reason))
}
