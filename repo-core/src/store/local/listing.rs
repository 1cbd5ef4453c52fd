//! Lists the objects below a folder, passing over every name that is not an object's.

use std::{ffi::CStr, io};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::{
    failure::is_missing,
    files::{Folder, patiently},
};
use crate::{
    id::ObjectId,
    store::{ObjectInfo, ObjectName, Place},
    time::Timestamp,
};

/// Lists a place whose objects lie in the folder itself.
pub(super) fn flat(folder: &Folder, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> io::Result<()> {
    objects(folder, |id| (place != Place::Config).then(|| ObjectName::new(place, id)), visit)
}

/// Lists the packs below `data`, in the folders named by their first byte.
///
/// The folders are opened through the handle of `data`: were they reached by path, and the disk unmounted halfway, the
/// rest would look empty.
pub(super) fn packs(data: &Folder, visit: &mut dyn FnMut(ObjectInfo)) -> io::Result<()> {
    for entry in patiently(|| Dir::read_from(data))? {
        let entry = entry?;
        let Some(first) = folder_byte(entry.file_name()) else { continue };
        let Some(folder) = open_folder(data, entry.file_name())? else { continue };
        objects(&folder, |id| (id.0[0] == first).then(|| ObjectName::new(Place::Data, id)), visit)?;
    }
    Ok(())
}

fn objects(
    folder: &impl AsFd,
    name_of: impl Fn(ObjectId) -> Option<ObjectName>,
    visit: &mut dyn FnMut(ObjectInfo),
) -> io::Result<()> {
    for entry in patiently(|| Dir::read_from(folder))? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().ok().and_then(|text| text.parse().ok()) else { continue };
        let Some(name) = name_of(id) else { continue };
        match patiently(|| fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) => {
                if let Some(info) = info(name, &stat) {
                    visit(info);
                }
            }
            // Deleted since its name was read.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is told of an object, unless something other than a regular file bears its name.
pub(super) fn info(name: ObjectName, stat: &Stat) -> Option<ObjectInfo> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    Some(ObjectInfo { name, size_bytes: u64::try_from(stat.st_size).ok()?, modified: modified(stat) })
}

/// When the file was last written, by its file system's clock.
#[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "the fields' types differ between architectures")]
pub(super) fn modified(stat: &Stat) -> Option<Timestamp> {
    Timestamp::new(stat.st_mtime as i64, u32::try_from(stat.st_mtime_nsec).ok()?).ok()
}

/// `ab` is 0xab; anything but two lower-case digits is no folder of packs.
pub(super) fn folder_byte(name: &CStr) -> Option<u8> {
    match name.to_bytes() {
        digits @ [b'0'..=b'9' | b'a'..=b'f', b'0'..=b'9' | b'a'..=b'f'] => {
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        }
        _ => None,
    }
}

/// Opens a folder of packs; nothing if it is a file, or was removed since its name was read.
fn open_folder(parent: &Folder, name: &CStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match patiently(|| fs::openat(parent, name, flags, Mode::empty())) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTDIR) => Ok(None),
        // A link whose target is not there (another disk, not mounted) must not look like no packs.
        Err(error) if is_missing(&error) => match patiently(|| fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)) {
            Err(error) if is_missing(&error) => Ok(None),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}
