//! The tables of one index run, as plain bytes.
//!
//! Sections in this order, without gaps; every number is little-endian:
//!
//! | section | row | bytes |
//! |---|---|---|
//! | data ids, then tree ids | the first bytes of a blob id, sorted | 20 |
//! | data locations, then tree locations | frame (4), offset in the frame (4), length (4) | 12 |
//! | frames | pack (4), offset in the pack (4), stored length (4), plain length with the highest bit set if raw (4) | 16 |
//! | packs | id (32), salt (32), size (4), first frame (4), frames (4), kind (1), zero (1), version (2) | 80 |

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    blob::{BlobKind, BlobLocation, Compression, FrameLocation},
    cache::map::Mapping,
    crypto::aead::TAG_BYTES,
    id::{BlobId, PackId},
    limits,
    pack::reader::PackKey,
};

/// Bytes of a blob id that a run keeps. Why not all: `docs/decisions/0007-index-rows-hold-20-bytes-of-an-id.md`.
pub const ID_ROW_BYTES: usize = 20;
/// Bytes of a blob's location.
pub const LOCATION_ROW_BYTES: usize = 12;
/// Bytes of a frame.
pub const FRAME_ROW_BYTES: usize = 16;
/// Bytes of a pack.
pub const PACK_ROW_BYTES: usize = 80;

/// Marks a frame that is stored raw, in its plain length.
const RAW_BIT: u32 = 1 << 31;

const _: () = assert!((limits::FRAME_BYTES_MAX as u64) < RAW_BIT as u64);

/// The first bytes of a blob id: enough to find a blob by, and not to name one. What is found by it is that blob only once its bytes,
/// or the directory of its pack, are held against the whole id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobPrefix(pub [u8; ID_ROW_BYTES]);

impl BlobPrefix {
    /// Whether the id begins with it.
    #[must_use]
    pub fn begins(&self, id: &BlobId) -> bool {
        id.0.starts_with(&self.0)
    }
}

impl From<&BlobId> for BlobPrefix {
    fn from(id: &BlobId) -> Self {
        let (prefix, _) = id.0.split_first_chunk().expect("an id is longer than its prefix");
        Self(*prefix)
    }
}

impl fmt::Display for BlobPrefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
        out.write_str("…")
    }
}

impl fmt::Debug for BlobPrefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "BlobPrefix({self})")
    }
}

/// Rows of each section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Data blobs.
    pub data: u32,
    /// Tree blobs.
    pub tree: u32,
    /// Frames.
    pub frames: u32,
    /// Packs.
    pub packs: u32,
}

impl Counts {
    /// Length of all sections.
    #[must_use]
    pub const fn table_bytes(&self) -> u64 {
        self.packs_start() + self.packs as u64 * PACK_ROW_BYTES as u64
    }

    /// Blobs of a kind.
    #[must_use]
    pub const fn blobs(&self, kind: BlobKind) -> u32 {
        match kind {
            BlobKind::Data => self.data,
            BlobKind::Tree => self.tree,
        }
    }

    /// Blobs of both kinds.
    const fn all_blobs(&self) -> u64 {
        self.data as u64 + self.tree as u64
    }

    /// Rows, among those of both kinds, before the first one of this kind.
    pub(super) const fn before(&self, kind: BlobKind) -> u64 {
        match kind {
            BlobKind::Data => 0,
            BlobKind::Tree => self.data as u64,
        }
    }

    /// Where the locations of a kind begin.
    pub(super) const fn locations_start(&self, kind: BlobKind) -> u64 {
        self.all_blobs() * ID_ROW_BYTES as u64 + self.before(kind) * LOCATION_ROW_BYTES as u64
    }

    /// Where the frames begin.
    pub(super) const fn frames_start(&self) -> u64 {
        self.all_blobs() * (ID_ROW_BYTES + LOCATION_ROW_BYTES) as u64
    }

    /// Where the packs begin.
    pub(super) const fn packs_start(&self) -> u64 {
        self.frames_start() + self.frames as u64 * FRAME_ROW_BYTES as u64
    }
}

/// What a run knows of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// Its name.
    pub id: PackId,
    /// What opens its frames. The version may be one that this program does not know.
    pub key: PackKey,
    /// Its stored size.
    pub size_bytes: u32,
    /// Row of its first frame; its frames follow each other.
    pub first_frame: u32,
    /// How many frames it has.
    pub frames: u32,
    /// What its blobs are.
    pub kind: BlobKind,
}

impl PackRow {
    /// The stored row.
    #[must_use]
    pub fn encode(&self) -> [u8; PACK_ROW_BYTES] {
        let kind = match self.kind {
            BlobKind::Data => 0,
            BlobKind::Tree => 1,
        };
        let [low, high] = self.key.version.to_le_bytes();
        let numbers = [self.size_bytes, self.first_frame, self.frames].map(u32::to_le_bytes);
        let parts: [&[u8]; 4] = [&self.id.0, &self.key.salt, numbers.as_flattened(), &[kind, 0, low, high]];
        let mut row = [0; PACK_ROW_BYTES];
        for (byte, value) in row.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *value;
        }
        row
    }

    /// Holds it against the limits.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_possible = u64::from(self.size_bytes) <= limits::PACK_BYTES_MAX;
        is_possible.then_some(()).ok_or("a pack is larger than any can be")
    }

    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let (id, row) = row.split_first_chunk()?;
        let (salt, row) = row.split_first_chunk()?;
        let mut numbers = Numbers(row);
        let (size_bytes, first_frame, frames) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let (kind, version) = match *numbers.0 {
            [0, 0, low, high] => (BlobKind::Data, u16::from_le_bytes([low, high])),
            [1, 0, low, high] => (BlobKind::Tree, u16::from_le_bytes([low, high])),
            _ => return None,
        };
        let key = PackKey { salt: *salt, version };
        (version > 0).then_some(Self { id: PackId(*id), key, size_bytes, first_frame, frames, kind })
    }
}

/// What a run knows of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRow {
    /// Row of its pack.
    pub pack: u32,
    /// Where it begins in the pack.
    pub offset_bytes: u32,
    /// Stored length.
    pub stored_bytes: u32,
    /// Plain length.
    pub plain_bytes: u32,
    /// How it was packed.
    pub compression: Compression,
}

impl FrameRow {
    /// The stored row.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_ROW_BYTES] {
        let raw = if self.compression == Compression::Raw { RAW_BIT } else { 0 };
        let numbers = [self.pack, self.offset_bytes, self.stored_bytes, self.plain_bytes | raw];
        let mut row = [0; FRAME_ROW_BYTES];
        row.copy_from_slice(numbers.map(u32::to_le_bytes).as_flattened());
        row
    }

    /// Holds it against the limits, and the pack it is in.
    pub(super) fn check(&self, pack: &PackRow) -> Result<(), &'static str> {
        let end = u64::from(self.offset_bytes) + u64::from(self.stored_bytes);
        if end > u64::from(pack.size_bytes) {
            return Err("a frame does not lie in its pack");
        }
        let stored = TAG_BYTES..=limits::FRAME_BYTES_MAX + TAG_BYTES;
        if !stored.contains(&(self.stored_bytes as usize)) {
            return Err("a frame's stored length is out of bounds");
        }
        let is_possible = self.plain_bytes as usize <= limits::FRAME_BYTES_MAX;
        is_possible.then_some(()).ok_or("a frame is longer than any can be")
    }

    /// Where it lies, being the row `number` of a run in which its pack is this one.
    pub(super) fn location(&self, number: u32, pack: &PackRow) -> Option<FrameLocation> {
        Some(FrameLocation {
            pack: pack.id,
            ordinal: number.checked_sub(pack.first_frame)?,
            offset_bytes: self.offset_bytes,
            stored_bytes: self.stored_bytes,
            plain_bytes: self.plain_bytes,
            compression: self.compression,
        })
    }

    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let mut numbers = Numbers(row);
        let (pack, offset_bytes, stored_bytes, plain) =
            (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?);
        let compression = if plain & RAW_BIT == 0 { Compression::Zstd } else { Compression::Raw };
        Some(Self { pack, offset_bytes, stored_bytes, plain_bytes: plain & !RAW_BIT, compression })
    }
}

/// Where a run says a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocationRow {
    /// Row of its frame.
    pub frame: u32,
    /// First byte in the frame's plain bytes.
    pub offset_bytes: u32,
    /// Length.
    pub length_bytes: u32,
}

impl LocationRow {
    /// The stored row.
    #[must_use]
    pub fn encode(&self) -> [u8; LOCATION_ROW_BYTES] {
        let mut row = [0; LOCATION_ROW_BYTES];
        row.copy_from_slice([self.frame, self.offset_bytes, self.length_bytes].map(u32::to_le_bytes).as_flattened());
        row
    }

    /// Holds it against the limits, and the frame it is in.
    pub(super) fn check(&self, frame: &FrameRow) -> Result<(), &'static str> {
        let end = u64::from(self.offset_bytes) + u64::from(self.length_bytes);
        let is_possible = end <= u64::from(frame.plain_bytes) && self.length_bytes as usize <= limits::BLOB_BYTES_MAX;
        is_possible.then_some(()).ok_or("a blob does not lie in its frame")
    }

    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let mut numbers = Numbers(row);
        Some(Self { frame: numbers.next()?, offset_bytes: numbers.next()?, length_bytes: numbers.next()? })
    }
}

/// Reads 32-bit numbers from the front.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }
}

/// What holds the bytes of tables.
pub trait TableBytes: AsRef<[u8]> {
    /// What was looked at need not stay in memory, if it can be had again.
    fn release(&self) {}
}

impl TableBytes for Vec<u8> {}
impl TableBytes for [u8] {}

impl TableBytes for Mapping {
    fn release(&self) {
        Self::release(self);
    }
}

impl<T: TableBytes + ?Sized> TableBytes for &T {
    fn release(&self) {
        (**self).release();
    }
}

/// The bytes of a run's tables: in memory, or in a file of the local cache.
pub enum RunBytes {
    /// In memory.
    Heap(Vec<u8>),
    /// In a mapped file.
    Mapped(Mapping),
}

impl AsRef<[u8]> for RunBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(mapping) => mapping.as_ref(),
        }
    }
}

impl TableBytes for RunBytes {
    fn release(&self) {
        match self {
            Self::Heap(_) => {}
            Self::Mapped(mapping) => mapping.release(),
        }
    }
}

/// The tables of a run that was read.
pub type RunTable = Table<RunBytes>;

/// Whoever walks through tables in order lets go of what is behind after so many rows: some 8 MiB.
pub const WALK_ROWS: u32 = 1 << 18;

/// The tables of one run. `B` holds the bytes: a vector, or a mapped file.
pub struct Table<B> {
    bytes: B,
    counts: Counts,
}

impl<B: TableBytes> Table<B> {
    /// Takes the bytes and checks everything that lookups rely on.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn new(bytes: B, counts: Counts) -> Result<Self, &'static str> {
        let table = Self::checked_before(bytes, counts)?;
        table.check()?;
        table.release();
        Ok(table)
    }

    /// Takes bytes that were checked when they were taken with [`Self::new`], and are known to be the same since.
    ///
    /// # Errors
    /// When they have another length.
    pub fn checked_before(bytes: B, counts: Counts) -> Result<Self, &'static str> {
        if bytes.as_ref().len() as u64 != counts.table_bytes() {
            return Err("its tables are not as long as its counts say");
        }
        Ok(Self { bytes, counts })
    }

    /// What holds the tables.
    pub const fn bytes(&self) -> &B {
        &self.bytes
    }

    /// What was looked at need not stay in memory, if it can be had again.
    pub fn release(&self) {
        self.bytes.release();
    }

    /// Called with every row of a walk in their order: lets go of what is behind now and then.
    pub fn walked(&self, row: u32) {
        if row % WALK_ROWS == WALK_ROWS - 1 {
            self.release();
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let mut next_frame = 0;
        for number in 0..self.counts.packs {
            let pack = self.pack(number).ok_or("a pack's row is not valid")?;
            pack.check()?;
            if pack.first_frame != next_frame {
                return Err("a pack's frames do not follow those of the pack before it");
            }
            next_frame = pack.first_frame.checked_add(pack.frames).ok_or("a pack's frames are out of bounds")?;
            for row in pack.first_frame..next_frame {
                let frame = self.frame_row(row).ok_or("a pack's frames are out of bounds")?;
                if frame.pack != number {
                    return Err("a frame does not lie in its pack");
                }
                frame.check(&pack)?;
            }
        }
        if next_frame != self.counts.frames {
            return Err("a frame belongs to no pack");
        }
        for kind in BlobKind::ALL {
            let mut before = None;
            for (row, position) in self.ids(kind).as_chunks::<ID_ROW_BYTES>().0.iter().zip(0..) {
                if before.is_some_and(|before| before > *row) {
                    return Err("its blob ids are not sorted");
                }
                before = Some(*row);
                self.walked(position);
            }
            for position in 0..self.counts.blobs(kind) {
                self.walked(position);
                let row = self.location_row(kind, position).ok_or("a location's row is not valid")?;
                let frame = self.frame_row(row.frame).ok_or("a blob lies in no frame")?;
                row.check(&frame)?;
                if self.pack(frame.pack).is_none_or(|pack| pack.kind != kind) {
                    return Err("a blob lies in a pack of the other kind");
                }
            }
        }
        Ok(())
    }

    /// Rows of each section.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn section(&self, start: u64, rows: u32, row_bytes: usize) -> &[u8] {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let end = start.saturating_add(rows as usize * row_bytes);
        self.bytes.as_ref().get(start..end).unwrap_or_default()
    }

    fn row(section: &[u8], number: u32, row_bytes: usize) -> Option<&[u8]> {
        let start = number as usize * row_bytes;
        section.get(start..start + row_bytes)
    }

    fn ids(&self, kind: BlobKind) -> &[u8] {
        self.section(self.counts.before(kind) * ID_ROW_BYTES as u64, self.counts.blobs(kind), ID_ROW_BYTES)
    }

    fn location_row(&self, kind: BlobKind, number: u32) -> Option<LocationRow> {
        let section = self.section(self.counts.locations_start(kind), self.counts.blobs(kind), LOCATION_ROW_BYTES);
        LocationRow::decode(Self::row(section, number, LOCATION_ROW_BYTES)?)
    }

    fn frame_row(&self, number: u32) -> Option<FrameRow> {
        let section = self.section(self.counts.frames_start(), self.counts.frames, FRAME_ROW_BYTES);
        FrameRow::decode(Self::row(section, number, FRAME_ROW_BYTES)?)
    }

    /// A pack by its row.
    #[must_use]
    pub fn pack(&self, number: u32) -> Option<PackRow> {
        let section = self.section(self.counts.packs_start(), self.counts.packs, PACK_ROW_BYTES);
        PackRow::decode(Self::row(section, number, PACK_ROW_BYTES)?)
    }

    /// A frame by its row.
    #[must_use]
    pub fn frame(&self, number: u32) -> Option<(FrameRow, FrameLocation)> {
        let row = self.frame_row(number)?;
        Some((row, row.location(number, &self.pack(row.pack)?)?))
    }

    /// What is known of a blob's id, and where it is, by its position among those of its kind.
    #[must_use]
    pub fn blob(&self, kind: BlobKind, position: u32) -> Option<(BlobPrefix, LocationRow)> {
        let prefix = Self::row(self.ids(kind), position, ID_ROW_BYTES)?;
        Some((BlobPrefix(*prefix.first_chunk()?), self.location_row(kind, position)?))
    }

    /// Every blob of a kind.
    pub fn blobs(&self, kind: BlobKind) -> impl Iterator<Item = (BlobPrefix, LocationRow)> {
        (0..self.counts.blobs(kind)).filter_map(move |position| {
            self.walked(position);
            self.blob(kind, position)
        })
    }

    /// Finds a blob, or another one whose id begins alike: where it lies, and the row of its pack.
    #[must_use]
    pub fn find(&self, kind: BlobKind, id: impl Into<BlobPrefix>) -> Option<(u32, BlobLocation)> {
        self.location(kind, find(self.ids(kind), id.into())?)
    }

    /// Every copy of a blob, and of others whose ids begin alike: where it lies, and the row of its pack.
    pub fn find_all<I: Into<BlobPrefix>>(
        &self,
        kind: BlobKind,
        id: I,
    ) -> impl Iterator<Item = (u32, BlobLocation)> + use<'_, I, B> {
        self.rows_of(kind, id).filter_map(move |position| self.location(kind, position))
    }

    /// Positions, among those of its kind, of every copy of a blob, and of others whose ids begin alike.
    pub fn rows_of<I: Into<BlobPrefix>>(&self, kind: BlobKind, id: I) -> impl Iterator<Item = u32> + use<'_, I, B> {
        let ids = self.ids(kind);
        let prefix = id.into();
        find(ids, prefix)
            .into_iter()
            .flat_map(|first| first..)
            .take_while(move |position| Self::row(ids, *position, ID_ROW_BYTES) == Some(&prefix.0))
    }

    fn location(&self, kind: BlobKind, position: u32) -> Option<(u32, BlobLocation)> {
        let row = self.location_row(kind, position)?;
        let (frame_row, frame) = self.frame(row.frame)?;
        let location = BlobLocation { frame, offset_bytes: row.offset_bytes, length_bytes: row.length_bytes };
        Some((frame_row.pack, location))
    }
}

/// First position of an id among sorted ids. Ids are hashes, hence spread evenly: a guess is off by about the square root of the rows it
/// was made over, and what stands there makes a better one. Three looks come within a few rows of a million; a galloping search does
/// the rest, and finds its way however ids are spread.
fn find(ids: &[u8], id: BlobPrefix) -> Option<u32> {
    let (rows, _) = ids.as_chunks::<ID_ROW_BYTES>();
    let last = rows.len().checked_sub(1)?;
    let key = beginning(&id.0);
    let scale = |distance: i128| (distance * rows.len() as i128) >> 64;
    let mut guess = usize::try_from(scale(key.into())).unwrap_or(0).min(last);
    for _ in 0..GUESSES_MAX {
        let off = scale(i128::from(key) - i128::from(beginning(rows.get(guess)?)));
        if off.unsigned_abs() <= 2 {
            break;
        }
        guess = usize::try_from(guess as i128 + off).unwrap_or(0).min(last);
    }
    let mut step = 4;
    let (mut low, mut high) = (guess, guess);
    // Widen until rows[low] < id <= rows[high], or the end is reached on that side.
    while low > 0 && rows.get(low)? >= &id.0 {
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = 4;
    while high < rows.len() && rows.get(high)? < &id.0 {
        high = (high + step).min(rows.len());
        step *= 2;
    }
    let range = rows.get(low..(high + 1).min(rows.len()))?;
    let position = low + range.partition_point(|row| row < &id.0);
    (rows.get(position)? == &id.0).then(|| u32::try_from(position).ok()).flatten()
}

/// Looks before a search by galloping.
const GUESSES_MAX: usize = 3;

/// The first bytes, as a number.
pub(super) fn beginning(id: &[u8; ID_ROW_BYTES]) -> u64 {
    id.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACK: PackRow = PackRow {
        id: PackId([4; 32]),
        key: PackKey { salt: [5; 32], version: 1 },
        size_bytes: 1 << 20,
        first_frame: 0,
        frames: 1,
        kind: BlobKind::Data,
    };
    const FRAME: FrameRow =
        FrameRow { pack: 0, offset_bytes: 48, stored_bytes: 500, plain_bytes: 1300, compression: Compression::Zstd };

    fn table(pack: &PackRow, frame: &FrameRow) -> Result<Table<Vec<u8>>, &'static str> {
        let counts = Counts { data: 0, tree: 0, frames: 1, packs: 1 };
        Table::new([frame.encode().as_slice(), &pack.encode()].concat(), counts)
    }

    #[test]
    fn bounds_of_packs_and_frames() {
        assert!(table(&PACK, &FRAME).is_ok());
        let largest = u32::try_from(limits::PACK_BYTES_MAX).unwrap();
        let pack = |size_bytes| PackRow { size_bytes, ..PACK };
        assert!(table(&pack(largest), &FRAME).is_ok());
        assert!(table(&pack(largest + 1), &FRAME).is_err());
        let most = u32::try_from(limits::FRAME_BYTES_MAX + TAG_BYTES).unwrap();
        for (stored_bytes, accepted) in [(0, false), (15, false), (16, true), (most, true), (most + 1, false)] {
            assert_eq!(table(&pack(largest), &FrameRow { stored_bytes, ..FRAME }).is_ok(), accepted, "{stored_bytes}");
        }
    }

    /// A later version's pack does not make a run unreadable; what no version can be does.
    #[test]
    fn the_version_of_a_pack_is_carried() {
        let later = PackRow { key: PackKey { version: 0x0203, ..PACK.key }, kind: BlobKind::Tree, ..PACK };
        assert_eq!(later.encode()[76..], [1, 0, 3, 2]);
        assert_eq!(table(&later, &FRAME).unwrap().pack(0), Some(later));
        for wrong in [[2, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]] {
            let mut row = PACK.encode();
            row[76..].copy_from_slice(&wrong);
            assert_eq!(PackRow::decode(&row), None);
        }
    }

    /// Ids that differ only behind what a run keeps of them are the same to it: it gives all of them, and nothing else.
    #[test]
    fn ids_that_begin_alike_are_all_given() {
        let id = |number: u8, last: u8| {
            let mut id = [number; 32];
            id[ID_ROW_BYTES..].fill(last);
            BlobId(id)
        };
        assert_ne!(id(5, 1), id(5, 2));
        assert!(BlobPrefix::from(&id(5, 1)).begins(&id(5, 2)) && !BlobPrefix::from(&id(5, 1)).begins(&id(6, 1)));
        let ids = [id(4, 9), id(5, 1), id(5, 2), id(5, 2), id(6, 0)];
        let mut bytes: Vec<u8> = ids.iter().flat_map(|id| BlobPrefix::from(id).0).collect();
        for offset_bytes in [40, 30, 10, 20, 0] {
            bytes.extend(LocationRow { frame: 0, offset_bytes, length_bytes: 10 }.encode());
        }
        bytes.extend(FRAME.encode());
        bytes.extend(PACK.encode());
        let table = Table::new(bytes, Counts { data: 5, tree: 0, frames: 1, packs: 1 }).unwrap();
        let offsets = |id: BlobId| -> Vec<u32> {
            table.find_all(BlobKind::Data, &id).map(|(_, location)| location.offset_bytes).collect()
        };
        for last in [0, 1, 2, 255] {
            assert_eq!(offsets(id(5, last)), [30, 10, 20]);
            assert_eq!(table.find(BlobKind::Data, &id(5, last)).unwrap().1.offset_bytes, 30);
        }
        assert_eq!((offsets(id(4, 0)), offsets(id(6, 0))), (vec![40], vec![0]));
        assert!(offsets(id(3, 0)).is_empty() && offsets(id(7, 0)).is_empty());
        assert!(table.find_all(BlobKind::Tree, &id(5, 1)).next().is_none());
    }

    #[test]
    fn tables_of_another_length_are_refused() {
        let bytes = [FRAME.encode().as_slice(), &PACK.encode()].concat();
        let counts = Counts { data: 0, tree: 0, frames: 1, packs: 1 };
        for length in 0..bytes.len() {
            assert!(Table::new(&bytes[..length], counts).is_err(), "{length}");
        }
        assert!(Table::new(&[bytes.as_slice(), &[0]].concat(), counts).is_err());
        assert!(Table::new(&bytes, counts).is_ok());
    }

    proptest! {
        #[test]
        fn finds_what_a_plain_search_finds(
            mut ids in prop::collection::vec(prop_oneof![any::<[u8; 20]>(), any::<u8>().prop_map(|b| [b; 20])], 0..300),
            other in any::<[u8; 20]>(),
        ) {
            ids.sort_unstable();
            let bytes: Vec<u8> = ids.iter().flatten().copied().collect();
            for id in ids.iter().chain([&other, &[0; 20], &[255; 20]]) {
                let found = find(&bytes, BlobPrefix(*id)).map(|position| position as usize);
                prop_assert_eq!(found, ids.iter().position(|other| other == id));
            }
        }
    }
}
