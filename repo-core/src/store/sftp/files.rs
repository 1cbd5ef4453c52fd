//! Files of the server: opened, read, written, listed, each with as many requests under way as keep a distant server busy.

use std::collections::VecDeque;

use super::{
    session::{Pending, Session},
    wire::{Attributes, CHUNK_BYTES, Incoming, Malformed, Outgoing, flag, kind},
};
use crate::{
    error::StoreErrorKind,
    store::{backend::Failure, remote::excerpt},
};

/// Requests under way at once for one file: 2 MiB, enough for 100 MB/s over 20 ms.
const WINDOW: usize = 64;

/// The same where there is a limit: what is under way cannot be slowed down any more.
const WINDOW_SLOW: usize = 4;

/// Attributes that are sent: the mode.
const MODE_PRESENT: u32 = 4;

/// The answer to a question for more than there is.
const END: u32 = 1;

/// A file or folder that the server holds open.
pub(super) struct Handle<'a> {
    session: &'a Session,
    id: Vec<u8>,
    is_open: bool,
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        // Whether it could be closed matters to those who wrote; they have asked.
        if self.is_open {
            let _ = self.session.ask(Outgoing::new(kind::CLOSE).bytes(&self.id));
        }
    }
}

/// What a server answers in place of what it was asked for: a number, and words for people.
fn refusal(code: u32, packet: &mut Incoming) -> Failure {
    let (kind, words) = match code {
        END => (StoreErrorKind::Damage, "it ends here"),
        2 => (StoreErrorKind::NotFound, "there is no such file"),
        3 => (StoreErrorKind::Denied, "the server does not permit it"),
        6 | 7 => (StoreErrorKind::Retry, "the server has lost its connection"),
        8 => (StoreErrorKind::Permanent, "the server cannot do that"),
        _ => (StoreErrorKind::Permanent, "the server failed"),
    };
    let said = packet.bytes().map(|said| excerpt(&String::from_utf8_lossy(said))).unwrap_or_default();
    let tells_more = !["", "Failure", "No such file", "Permission denied", "End of file"].contains(&said.as_str());
    Failure::new(kind, if tells_more { format!("{words}: {said}") } else { words.to_owned() })
}

fn strange(_: Malformed) -> Failure {
    Failure::permanent("the server sent what is no answer")
}

/// The answer, if it is of the kind that was asked for.
fn expect(mut packet: Incoming, wanted: u8) -> Result<Incoming, Failure> {
    if packet.kind == wanted {
        return Ok(packet);
    }
    if packet.kind == kind::STATUS {
        let code = packet.u32().map_err(strange)?;
        return Err(refusal(code, &mut packet));
    }
    Err(strange(Malformed))
}

/// An answer that says that it is done, or why not.
fn done(mut packet: Incoming) -> Result<(), Failure> {
    if packet.kind != kind::STATUS {
        return Err(strange(Malformed));
    }
    match packet.u32().map_err(strange)? {
        0 => Ok(()),
        code => Err(refusal(code, &mut packet)),
    }
}

impl Session {
    fn opened(&self, packet: Outgoing) -> Result<Handle<'_>, Failure> {
        let mut answer = expect(self.call(packet)?, kind::HANDLE)?;
        Ok(Handle { session: self, id: answer.bytes().map_err(strange)?.to_vec(), is_open: true })
    }

    /// Opens a file to read.
    pub(super) fn open(&self, path: &str) -> Result<Handle<'_>, Failure> {
        self.opened(Outgoing::new(kind::OPEN).bytes(path.as_bytes()).u32(flag::READ).u32(0))
    }

    /// Makes a file that must not be there yet.
    pub(super) fn make(&self, path: &str) -> Result<Handle<'_>, Failure> {
        let flags = flag::WRITE | flag::CREATE | flag::EXCLUSIVE;
        self.opened(Outgoing::new(kind::OPEN).bytes(path.as_bytes()).u32(flags).u32(MODE_PRESENT).u32(0o600))
    }

    /// Makes a folder.
    pub(super) fn make_folder(&self, path: &str) -> Result<(), Failure> {
        done(self.call(Outgoing::new(kind::MKDIR).bytes(path.as_bytes()).u32(MODE_PRESENT).u32(0o700))?)
    }

    /// Removes a file.
    pub(super) fn remove(&self, path: &str) -> Result<(), Failure> {
        done(self.call(Outgoing::new(kind::REMOVE).bytes(path.as_bytes()))?)
    }

    /// Gives a file another name; most servers replace none by it.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        done(self.call(Outgoing::new(kind::RENAME).bytes(from.as_bytes()).bytes(to.as_bytes()))?)
    }

    /// Tells of a file, or `None` when there is none.
    pub(super) fn look(&self, path: &str) -> Result<Option<Attributes>, Failure> {
        match expect(self.call(Outgoing::new(kind::LSTAT).bytes(path.as_bytes()))?, kind::ATTRS) {
            Ok(mut answer) => answer.attributes().map(Some).map_err(strange),
            Err(failed) if failed.kind == StoreErrorKind::NotFound => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Bytes that may still be written below a folder, if the server tells.
    pub(super) fn free_bytes(&self, path: &str) -> Option<u64> {
        if !self.knows("statvfs@openssh.com") {
            return None;
        }
        let packet = Outgoing::new(kind::EXTENDED).bytes(b"statvfs@openssh.com").bytes(path.as_bytes());
        let mut answer = expect(self.call(packet).ok()?, kind::EXTENDED_REPLY).ok()?;
        let numbers: Result<Vec<u64>, Malformed> = (0..5).map(|_| answer.u64()).collect();
        match numbers.ok()?[..] {
            [_, fragment_bytes, _, _, available] => Some(fragment_bytes.saturating_mul(available)),
            _ => None,
        }
    }

    /// Calls `visit` for each name in a folder.
    pub(super) fn list(&self, path: &str, mut visit: impl FnMut(&[u8], Attributes)) -> Result<(), Failure> {
        let folder = self.opened(Outgoing::new(kind::OPENDIR).bytes(path.as_bytes()))?;
        loop {
            let answer = self.call(Outgoing::new(kind::READDIR).bytes(&folder.id))?;
            let mut answer = match expect(answer, kind::NAME) {
                Ok(answer) => answer,
                // So the end of a folder is told.
                Err(failed) if failed.kind == StoreErrorKind::Damage => return Ok(()),
                Err(failed) => return Err(failed),
            };
            for _ in 0..answer.u32().map_err(strange)? {
                let name = answer.bytes().map_err(strange)?.to_vec();
                answer.bytes().map_err(strange)?; // the same for people
                visit(&name, answer.attributes().map_err(strange)?);
            }
        }
    }
}

impl Handle<'_> {
    /// How long the file is.
    pub(super) fn size_bytes(&self) -> Result<u64, Failure> {
        let answer = self.session.call(Outgoing::new(kind::FSTAT).bytes(&self.id))?;
        let attributes = expect(answer, kind::ATTRS)?.attributes().map_err(strange)?;
        if !attributes.is_file() {
            return Err(Failure::damage("it is not a regular file".into()));
        }
        attributes.size_bytes.ok_or_else(|| Failure::permanent("the server does not tell how large it is"))
    }

    /// Appends so many bytes to `into`.
    pub(super) fn read(&self, offset_bytes: u64, length_bytes: u64, into: &mut Vec<u8>) -> Result<(), Failure> {
        let end = offset_bytes.saturating_add(length_bytes);
        let _transfer = self.session.transfer();
        let throttle = self.session.flow().throttle.as_deref();
        let window = if throttle.is_some_and(|throttle| throttle.has_limits().1) { WINDOW_SLOW } else { WINDOW };
        let mut asked = offset_bytes;
        let mut under_way: VecDeque<(u64, u32, Pending)> = VecDeque::new();
        loop {
            while asked < end && under_way.len() < window {
                let length = u32::try_from((end - asked).min(CHUNK_BYTES as u64)).unwrap_or(0);
                under_way.push_back((asked, length, self.ask(asked, length)?));
                asked += u64::from(length);
            }
            let Some((position, length, pending)) = under_way.pop_front() else { return Ok(()) };
            let mut answer = expect(self.session.wait(pending)?, kind::DATA)?;
            let bytes = answer.bytes().map_err(strange)?;
            let read = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if read == 0 || read > length {
                return Err(strange(Malformed));
            }
            into.extend_from_slice(bytes);
            if let Some(throttle) = throttle {
                throttle.fetch(u64::from(read));
            }
            if read < length {
                // A server may send less than it was asked for: the rest comes before what follows.
                let (position, length) = (position + u64::from(read), length - read);
                under_way.push_front((position, length, self.ask(position, length)?));
            }
        }
    }

    fn ask(&self, offset_bytes: u64, length: u32) -> Result<Pending, Failure> {
        self.session.ask(Outgoing::new(kind::READ).bytes(&self.id).u64(offset_bytes).u32(length))
    }

    /// Writes the whole file, and makes it durable if the server can do that.
    pub(super) fn write(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let session = self.session;
        let _transfer = session.transfer();
        let mut under_way = VecDeque::new();
        for (number, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
            if under_way.len() >= WINDOW {
                under_way.pop_front().map_or(Ok(()), |pending| done(self.session.wait(pending)?))?;
            }
            if let Some(throttle) = &session.flow().throttle {
                throttle.send(chunk.len() as u64);
            }
            let offset = (number * CHUNK_BYTES) as u64;
            under_way.push_back(self.session.ask(Outgoing::new(kind::WRITE).bytes(&self.id).u64(offset).bytes(chunk))?);
        }
        for pending in under_way {
            done(self.session.wait(pending)?)?;
        }
        if self.session.knows("fsync@openssh.com") {
            let packet = Outgoing::new(kind::EXTENDED).bytes(b"fsync@openssh.com").bytes(&self.id);
            done(self.session.call(packet)?)?;
        }
        let size_bytes = self.size_bytes()?;
        if size_bytes != bytes.len() as u64 {
            return Err(Failure::new(
                StoreErrorKind::Retry,
                format!("{size_bytes} bytes of {} have arrived", bytes.len()),
            ));
        }
        self.is_open = false;
        done(self.session.call(Outgoing::new(kind::CLOSE).bytes(&self.id))?)
    }
}
