//! Headers of a tar archive: POSIX.1-2001 (pax interchange format), with extended records for what a plain header cannot hold.

use std::fmt::Write as _;

use tar::{EntryType, Header};

use crate::{
    time::Timestamp,
    tree::node::{Device, Metadata, NodeKind, Xattr},
};

/// Everything in an archive comes in blocks of this length.
const BLOCK_BYTES: usize = 512;

/// Length of the end marker: two blocks of zeros.
pub(super) const END_BLOCKS: usize = 2 * BLOCK_BYTES;

/// Largest number in a header's octal field of eight bytes.
const OCTAL_7_MAX: u32 = 0o777_7777;

/// Largest size and time in a header's octal field of twelve bytes.
const OCTAL_11_MAX: u64 = 0o777_7777_7777;

/// Names of the owner.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) group: Option<&'a str>,
}

/// Zeros that fill a file's last block.
pub(super) fn padding(size_bytes: u64) -> usize {
    let rest = usize::try_from(size_bytes % BLOCK_BYTES as u64).unwrap_or(0);
    (BLOCK_BYTES - rest) % BLOCK_BYTES
}

/// The header blocks of an entry. With `first_name` it is a hard link to that.
pub(super) fn header(
    path: &[u8],
    kind: &NodeKind,
    metadata: &Metadata,
    names: Names<'_>,
    first_name: Option<&[u8]>,
) -> Vec<u8> {
    let mut records = Records::default();
    let mut header = Header::new_ustar();
    let is_directory = matches!(kind, NodeKind::Directory { .. });
    let path = if is_directory { [path, b"/"].concat() } else { path.to_vec() };
    let (entry_type, link, size_bytes) = match (kind, first_name) {
        (_, Some(first)) => (EntryType::Link, first, 0),
        (NodeKind::File { size_bytes, .. }, None) => (EntryType::Regular, &b""[..], *size_bytes),
        (NodeKind::Directory { .. }, None) => (EntryType::Directory, &b""[..], 0),
        (NodeKind::Symlink { target }, None) => (EntryType::Symlink, target.as_bytes(), 0),
        (NodeKind::BlockDevice { .. }, None) => (EntryType::Block, &b""[..], 0),
        (NodeKind::CharacterDevice { .. }, None) => (EntryType::Char, &b""[..], 0),
        (NodeKind::Fifo | NodeKind::Socket, None) => (EntryType::Fifo, &b""[..], 0),
    };
    header.set_entry_type(entry_type);
    header.set_mode(metadata.mode.bits());
    if let NodeKind::BlockDevice { device } | NodeKind::CharacterDevice { device } = kind {
        set_device(&mut header, *device, &mut records);
    }
    set_owner(&mut header, metadata, &mut records);
    set_size(&mut header, size_bytes, &mut records);
    set_time(&mut header, metadata, &mut records);
    if let Some(fields) = header.as_ustar_mut() {
        text_field(&mut fields.name, &path, "path", &mut records);
        text_field(&mut fields.linkname, link, "linkpath", &mut records);
        text_field(&mut fields.uname, names.user.unwrap_or_default().as_bytes(), "uname", &mut records);
        text_field(&mut fields.gname, names.group.unwrap_or_default().as_bytes(), "gname", &mut records);
    }
    if first_name.is_none() {
        for Xattr { name, value } in &metadata.xattrs {
            records.add(&[b"SCHILY.xattr.", escape_key(name.as_bytes()).as_slice()].concat(), value.as_bytes());
        }
    }
    header.set_cksum();
    let mut blocks = records.into_blocks();
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

/// Sets a field that is filled up with zeros; what does not fit, or is not plain text, gets a record besides.
fn text_field(field: &mut [u8], text: &[u8], key: &str, records: &mut Records) {
    for (byte, value) in field.iter_mut().zip(text) {
        *byte = *value;
    }
    // The last byte stays zero, for readers that rely on it.
    if text.len() >= field.len()
        && let Some(last) = field.last_mut()
    {
        *last = 0;
    }
    if text.len() >= field.len() || !text.is_ascii() {
        records.add(key.as_bytes(), text);
    }
}

fn set_owner(header: &mut Header, metadata: &Metadata, records: &mut Records) {
    header.set_uid(metadata.user.min(OCTAL_7_MAX).into());
    header.set_gid(metadata.group.min(OCTAL_7_MAX).into());
    for (key, number) in [("uid", metadata.user), ("gid", metadata.group)] {
        if number > OCTAL_7_MAX {
            records.add(key.as_bytes(), number.to_string().as_bytes());
        }
    }
}

fn set_size(header: &mut Header, size_bytes: u64, records: &mut Records) {
    header.set_size(size_bytes.min(OCTAL_11_MAX));
    if size_bytes > OCTAL_11_MAX {
        records.add(b"size", size_bytes.to_string().as_bytes());
    }
}

fn set_time(header: &mut Header, metadata: &Metadata, records: &mut Records) {
    let modified = metadata.modified;
    let seconds = u64::try_from(modified.seconds()).unwrap_or(0).min(OCTAL_11_MAX);
    header.set_mtime(seconds);
    if i64::try_from(seconds) != Ok(modified.seconds()) || modified.nanoseconds() != 0 {
        records.add(b"mtime", decimal(modified).as_bytes());
    }
    if let Some(accessed) = metadata.accessed {
        records.add(b"atime", decimal(accessed).as_bytes());
    }
}

fn set_device(header: &mut Header, device: Device, records: &mut Records) {
    let fits = |number: u32| number.min(OCTAL_7_MAX);
    if let Some(fields) = header.as_ustar_mut() {
        fields.set_device_major(fits(device.major));
        fields.set_device_minor(fits(device.minor));
    }
    for (key, number) in [("SCHILY.devmajor", device.major), ("SCHILY.devminor", device.minor)] {
        if number > OCTAL_7_MAX {
            records.add(key.as_bytes(), number.to_string().as_bytes());
        }
    }
}

/// A moment as a decimal number of seconds. Stored moments count nanoseconds forward from the second, also before 1970.
fn decimal(time: Timestamp) -> String {
    let (seconds, nanoseconds) = (i128::from(time.seconds()), i128::from(time.nanoseconds()));
    let all = seconds * 1_000_000_000 + nanoseconds;
    let (sign, all) = if all < 0 { ("-", -all) } else { ("", all) };
    let mut text = format!("{sign}{}", all / 1_000_000_000);
    let fraction = all % 1_000_000_000;
    if fraction != 0 {
        let _ = write!(text, ".{fraction:09}"); // writing to a string cannot fail
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

/// In a record's key an equals sign would end the key; GNU tar writes it, and the percent sign, as here.
fn escape_key(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len());
    for byte in key {
        match byte {
            b'=' => out.extend_from_slice(b"%3D"),
            b'%' => out.extend_from_slice(b"%25"),
            other => out.push(*other),
        }
    }
    out
}

/// Extended records that hold for the next entry.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    binary: bool,
}

impl Records {
    /// Adds a record: its length in decimal, itself included, a space, `key=value`, a newline.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        // Values are UTF-8 unless said otherwise; attributes are bytes to all who know them.
        let is_text = key.starts_with(b"SCHILY.") || std::str::from_utf8(value).is_ok();
        if !is_text && !self.binary {
            self.binary = true;
            self.add(b"hdrcharset", b"BINARY");
        }
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        for part in [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"] {
            self.bytes.extend_from_slice(part);
        }
    }

    /// The blocks of the extended header, none without records.
    fn into_blocks(self) -> Vec<u8> {
        if self.bytes.is_empty() {
            return Vec::new();
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(self.bytes.len() as u64);
        if let Some(fields) = header.as_ustar_mut() {
            for (byte, value) in fields.name.iter_mut().zip(b"./PaxHeaders/entry") {
                *byte = *value;
            }
        }
        header.set_cksum();
        let mut blocks = header.as_bytes().to_vec();
        blocks.extend_from_slice(&self.bytes);
        blocks.resize(blocks.len().next_multiple_of(BLOCK_BYTES), 0);
        blocks
    }
}
