//! Reading a pack's directory and frames.

use std::cell::RefCell;

use crate::{
    blob::{BlobKind, FrameLocation},
    crypto::{
        keys::{Keys, ObjectKind},
        slot::FORMAT_VERSION,
    },
    envelope::{
        container::{CONTAINER_BYTES_MIN, FOOTER_BYTES, Footer, open_frame, unseal_frame},
        header::{Header, ObjectCipher},
    },
    error::{Damage, Error, Result},
    id::PackId,
    limits,
    pack::directory::PackDirectory,
    store::{ByteRange, ObjectName, Place, Store},
};

/// How much of a pack's end is read at first; holds footer and directory of most packs.
const FIRST_SUFFIX_BYTES: u64 = 64 << 10;

/// What of a pack's header a reader needs to open its frames. The index knows it of every pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackKey {
    /// Its salt.
    pub salt: [u8; 32],
    /// The version of the format it was written in; not zero.
    pub version: u16,
}

impl From<&Header> for PackKey {
    fn from(header: &Header) -> Self {
        Self { salt: header.salt, version: header.version }
    }
}

/// A pack's directory with what is needed to open its frames.
pub struct PackSummary {
    /// What opens its frames.
    pub key: PackKey,
    /// What its blobs are.
    pub kind: BlobKind,
    /// What it holds.
    pub directory: PackDirectory,
}

/// Reads the directory of a pack of `size_bytes` from its end, in one request or two.
///
/// # Errors
/// When the pack cannot be read or is damaged.
pub fn read_directory(store: &dyn Store, keys: &Keys, pack: PackId, size_bytes: u64) -> Result<PackSummary> {
    let name = ObjectName::new(Place::Data, pack);
    if size_bytes < CONTAINER_BYTES_MIN as u64 || size_bytes > limits::PACK_BYTES_MAX {
        return Err(Damage::new(name, format_args!("no pack has {size_bytes} bytes")).into());
    }
    let mut suffix = Vec::new();
    store.get(&name, ByteRange::Suffix { length_bytes: FIRST_SUFFIX_BYTES.min(size_bytes) }, &mut suffix)?;
    let (footer, kind) = open_footer(keys, &suffix, size_bytes, &name)?;
    let wanted = footer.directory_stored_bytes + FOOTER_BYTES as u64;
    if wanted > suffix.len() as u64 {
        store.get(&name, ByteRange::Suffix { length_bytes: wanted }, &mut suffix)?;
    }
    summary(keys, &footer, kind, &suffix, &name)
}

/// Reads the directory of a pack that is in memory as a whole.
///
/// # Errors
/// When it is damaged.
pub fn directory_of(keys: &Keys, pack: PackId, bytes: &[u8]) -> Result<PackSummary> {
    let name = ObjectName::new(Place::Data, pack);
    let (footer, kind) = open_footer(keys, bytes, bytes.len() as u64, &name)?;
    // Readers of frames trust the copy of the header in the footer; whoever reads the whole pack checks the first one too.
    if Header::parse(bytes, ObjectKind::pack(kind), &name)? != footer.header {
        return Err(Damage::new(name, "header and footer do not agree").into());
    }
    summary(keys, &footer, kind, bytes, &name)
}

/// Opens the footer of a pack of either kind.
fn open_footer(keys: &Keys, suffix: &[u8], size_bytes: u64, name: &ObjectName) -> Result<(Footer, BlobKind)> {
    // The kind stands in clear in the header; that it is the true one shows when the footer opens.
    let header = suffix.len().checked_sub(crate::envelope::header::HEADER_BYTES).and_then(|at| suffix.get(at..));
    let is_tree = header.and_then(|header| header.get(10)) == Some(&(ObjectKind::TreePack as u8));
    let kind = if is_tree { BlobKind::Tree } else { BlobKind::Data };
    Ok((Footer::open(keys, ObjectKind::pack(kind), suffix, size_bytes, name)?, kind))
}

fn summary(keys: &Keys, footer: &Footer, kind: BlobKind, suffix: &[u8], name: &ObjectName) -> Result<PackSummary> {
    let stored = usize::try_from(footer.directory_stored_bytes)
        .ok()
        .and_then(|length| suffix.len().checked_sub(length + FOOTER_BYTES))
        .and_then(|at| suffix.get(at..suffix.len() - FOOTER_BYTES))
        .ok_or_else(|| Error::from(Damage::new(name, "its directory is longer than itself")))?;
    let directory = footer.open_directory(keys, stored, name)?;
    let directory = PackDirectory::decode(&directory, footer.directory_offset_bytes, name)?;
    Ok(PackSummary { key: (&footer.header).into(), kind, directory })
}

/// Opens a frame of a pack with this key into `into`.
///
/// # Errors
/// [`Error::NewerFormat`] when the pack was written in a version this program does not know. When the frame is damaged; `into` then holds nothing of use.
pub fn open_pack_frame(
    keys: &Keys,
    kind: BlobKind,
    key: &PackKey,
    frame: &FrameLocation,
    stored: &[u8],
    into: &mut Vec<u8>,
) -> Result<()> {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let cipher = frame_cipher(keys, kind, key, frame)?;
    let plain_bytes = usize::try_from(frame.plain_bytes).unwrap_or(usize::MAX);
    SCRATCH
        .with_borrow_mut(|scratch| {
            open_frame(&cipher, frame.ordinal, frame.compression, stored, plain_bytes, scratch, into)
        })
        .map_err(|reason| frame_damage(frame, &reason))
}

/// Opens a frame of a pack with this key into `into`, and leaves it packed.
///
/// # Errors
/// As [`open_pack_frame`].
pub fn unseal_pack_frame(
    keys: &Keys,
    kind: BlobKind,
    key: &PackKey,
    frame: &FrameLocation,
    stored: &[u8],
    into: &mut Vec<u8>,
) -> Result<()> {
    let cipher = frame_cipher(keys, kind, key, frame)?;
    unseal_frame(&cipher, frame.ordinal, stored, into).map_err(|reason| frame_damage(frame, &reason))
}

fn frame_cipher(keys: &Keys, kind: BlobKind, key: &PackKey, frame: &FrameLocation) -> Result<ObjectCipher> {
    if key.version > FORMAT_VERSION {
        let object = ObjectName::new(Place::Data, frame.pack).to_string();
        return Err(Error::NewerFormat { object, found: key.version, known: FORMAT_VERSION });
    }
    Ok(ObjectCipher::new(keys, &Header { kind: ObjectKind::pack(kind), version: key.version, salt: key.salt }))
}

fn frame_damage(frame: &FrameLocation, reason: &str) -> Error {
    let name = ObjectName::new(Place::Data, frame.pack);
    Damage::new(name, format_args!("frame {} at byte {}: {reason}", frame.ordinal, frame.offset_bytes)).into()
}
