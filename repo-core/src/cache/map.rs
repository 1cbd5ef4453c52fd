//! Files mapped into memory: the only place of the whole project with `unsafe` in it.
#![allow(unsafe_code, reason = "the system's mapping of files has no other form")]

use std::{fs::File, io};

use memmap2::{Mmap, MmapOptions, UncheckedAdvice};

/// A part of a file, as bytes in memory that need no heap.
///
/// The file is one that this program wrote under another name and renamed, and that nobody writes to again: to remove it leaves
/// mappings of it as they are. Somebody else who shortens it in place while it is mapped ends the process by a signal; one who writes into
/// it changes what is read. Both take the rights of the user, who could do worse with them (`docs/threat-model.md`).
pub struct Mapping(Mmap);

impl Mapping {
    /// Maps `length_bytes` of a file, from `offset_bytes` on.
    ///
    /// # Errors
    /// When the file has not so many, or the system refuses.
    pub fn new(file: &File, offset_bytes: u64, length_bytes: usize) -> io::Result<Self> {
        let end = offset_bytes.checked_add(length_bytes as u64);
        if end.is_none_or(|end| file.metadata().map_or(true, |metadata| metadata.len() < end)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: that nobody changes the file is what the type's description says; the length was looked at.
        let map = unsafe { MmapOptions::new().offset(offset_bytes).len(length_bytes).map(file)? };
        Ok(Self(map))
    }

    /// Lets the system take back the memory of what was looked at. It comes back from the file when it is looked at again.
    pub fn release(&self) {
        // SAFETY: the mapping is of a file and read only, so what is dropped is read again, the same.
        let _ = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) }; // then it stays
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
