//! Extended attributes, POSIX ACLs among them, as the kernel hands them out.

use std::{
    ffi::{CStr, CString},
    io,
    mem::MaybeUninit,
    os::fd::BorrowedFd,
};

use rustix::{
    buffer::spare_capacity,
    fs::{fgetxattr, flistxattr, getxattr, lgetxattr, listxattr, llistxattr},
    io::Errno,
};

use crate::{limits, tree::name::Bytes, tree::node::Xattr};

/// Longest list of names, as Linux has it (`XATTR_LIST_MAX`).
const LIST_BYTES_MAX: usize = 64 << 10;

/// What the attributes are of.
#[derive(Clone, Copy)]
pub(super) enum Of<'a> {
    /// An open file or directory.
    File(BorrowedFd<'a>),
    /// What a path names, without following a link at its end.
    Entry(&'a CStr),
    /// What a path leads to.
    Followed(&'a CStr),
}

/// Attributes, sorted by name, and what is wrong with those that are not among them.
pub(super) type Found = (Vec<Xattr>, Vec<io::Error>);

/// Reads all attributes. A file system without any has none.
///
/// One that cannot be read, or is beyond what can be stored, is left out and told of: metadata never costs content.
///
/// # Errors
/// When the kernel does not say which there are.
pub(super) fn read_all(of: Of<'_>) -> Result<Found, Errno> {
    let list = match grown(LIST_BYTES_MAX, |buffer| of.list(buffer), |buffer| of.list_into(buffer)) {
        Ok(list) => list,
        Err(Errno::NOTSUP) => return Ok(Found::default()),
        Err(error) => return Err(error),
    };
    let mut found = Found::default();
    let mut total_bytes = 0;
    for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        match read_one(of, name) {
            Ok(Some(xattr)) => {
                total_bytes += name.len() + xattr.value.as_bytes().len();
                if total_bytes <= limits::XATTRS_BYTES_MAX {
                    found.0.push(xattr);
                } else {
                    found.1.push(problem(name, "together they are too large to be stored"));
                    break;
                }
            }
            Ok(None) => {}
            Err(error) => found.1.push(problem(name, error)),
        }
    }
    found.0.sort_unstable();
    found.0.dedup_by(|one, other| one.name == other.name);
    Ok(found)
}

fn problem(name: &[u8], cause: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("attribute {}: {cause}", crate::tree::name::escape(name)))
}

/// One attribute, or nothing if it is gone by now.
fn read_one(of: Of<'_>, name: &[u8]) -> io::Result<Option<Xattr>> {
    let too_large = || io::Error::other("it is too large to be stored");
    // Names from the kernel end at their NUL, so there is none in them.
    let Ok(key) = CString::new(name) else { return Ok(None) };
    let value = grown(limits::XATTR_VALUE_BYTES_MAX, |buffer| of.get(&key, buffer), |buffer| of.get_into(&key, buffer));
    let value = match value {
        Ok(value) => value,
        Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
        Err(Errno::RANGE | Errno::TOOBIG) => return Err(too_large()),
        Err(error) => return Err(error.into()),
    };
    let name = Bytes::new(name).ok_or_else(too_large)?;
    Ok(Some(Xattr { name, value: Bytes::new(value).ok_or_else(too_large)? }))
}

/// Calls `small` with some room on the stack, which nearly always does, and `large` with all the room there may be.
fn grown(
    most_bytes: usize,
    small: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<Vec<u8>, Errno>,
    large: impl FnOnce(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    match small(&mut [MaybeUninit::uninit(); 1024]) {
        Err(Errno::RANGE) => {
            let mut all = Vec::with_capacity(most_bytes);
            large(&mut all)?;
            Ok(all)
        }
        other => other,
    }
}

impl Of<'_> {
    fn list(self, buffer: &mut [MaybeUninit<u8>]) -> Result<Vec<u8>, Errno> {
        let (found, _) = match self {
            Self::File(file) => flistxattr(file, buffer)?,
            Self::Entry(path) => llistxattr(path, buffer)?,
            Self::Followed(path) => listxattr(path, buffer)?,
        };
        Ok(found.to_vec())
    }

    fn list_into(self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        match self {
            Self::File(file) => flistxattr(file, spare_capacity(buffer)),
            Self::Entry(path) => llistxattr(path, spare_capacity(buffer)),
            Self::Followed(path) => listxattr(path, spare_capacity(buffer)),
        }
    }

    fn get(self, key: &CStr, buffer: &mut [MaybeUninit<u8>]) -> Result<Vec<u8>, Errno> {
        let (found, _) = match self {
            Self::File(file) => fgetxattr(file, key, buffer)?,
            Self::Entry(path) => lgetxattr(path, key, buffer)?,
            Self::Followed(path) => getxattr(path, key, buffer)?,
        };
        Ok(found.to_vec())
    }

    fn get_into(self, key: &CStr, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        match self {
            Self::File(file) => fgetxattr(file, key, spare_capacity(buffer)),
            Self::Entry(path) => lgetxattr(path, key, spare_capacity(buffer)),
            Self::Followed(path) => getxattr(path, key, spare_capacity(buffer)),
        }
    }
}
