//! Packets of the SSH File Transfer Protocol, version 3 (draft-ietf-secsh-filexfer-02), and of the extensions of OpenSSH.

use std::io::{self, Read};

/// Longest packet that is taken. Servers send no more than 256 KiB of data at once.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// Bytes of a file in one packet: what every server takes.
pub(super) const CHUNK_BYTES: usize = 32 << 10;

/// Kinds of packets.
pub(super) mod kind {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const VERSION: u8 = 2;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const WRITE: u8 = 6;
    pub(in super::super) const LSTAT: u8 = 7;
    pub(in super::super) const FSTAT: u8 = 8;
    pub(in super::super) const OPENDIR: u8 = 11;
    pub(in super::super) const READDIR: u8 = 12;
    pub(in super::super) const REMOVE: u8 = 13;
    pub(in super::super) const MKDIR: u8 = 14;
    pub(in super::super) const RENAME: u8 = 18;
    pub(in super::super) const STATUS: u8 = 101;
    pub(in super::super) const HANDLE: u8 = 102;
    pub(in super::super) const DATA: u8 = 103;
    pub(in super::super) const NAME: u8 = 104;
    pub(in super::super) const ATTRS: u8 = 105;
    pub(in super::super) const EXTENDED: u8 = 200;
    pub(in super::super) const EXTENDED_REPLY: u8 = 201;
}

/// How a file is opened.
pub(super) mod flag {
    pub(in super::super) const READ: u32 = 1;
    pub(in super::super) const WRITE: u32 = 2;
    pub(in super::super) const CREATE: u32 = 8;
    pub(in super::super) const EXCLUSIVE: u32 = 32;
}

/// A packet to be sent.
pub(super) struct Outgoing(Vec<u8>);

impl Outgoing {
    /// Begins a packet; its length is written at the end.
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(super) fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut packet = self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        packet.0.extend_from_slice(bytes);
        packet
    }

    /// The whole packet, with the number of its request right after its kind.
    pub(super) fn finish(mut self, id: Option<u32>) -> Vec<u8> {
        if let Some(id) = id {
            let position = 5;
            self.0.splice(position..position, id.to_be_bytes());
        }
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// A packet that came; what was read of it is gone.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) kind: u8,
    body: Vec<u8>,
    position: usize,
}

/// A packet that ends before it should, or has what none has.
#[derive(Debug)]
pub(super) struct Malformed;

impl Incoming {
    /// Reads a packet.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let [a, b, c, d, kind] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(1..=PACKET_BYTES_MAX).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what answers does not speak SFTP"));
        }
        let mut body = vec![0; length - 1];
        from.read_exact(&mut body)?;
        Ok(Self { kind, body, position: 0 })
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Malformed> {
        let end = self.position.checked_add(length).ok_or(Malformed)?;
        let part = self.body.get(self.position..end).ok_or(Malformed)?;
        self.position = end;
        Ok(part)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| Malformed)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take(8)?.try_into().map(u64::from_be_bytes).map_err(|_| Malformed)
    }

    pub(super) fn bytes(&mut self) -> Result<&[u8], Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position == self.body.len()
    }

    pub(super) fn attributes(&mut self) -> Result<Attributes, Malformed> {
        let flags = self.u32()?;
        let size_bytes = if flags & 1 != 0 { Some(self.u64()?) } else { None };
        if flags & 2 != 0 {
            self.take(8)?; // user and group
        }
        let mode = if flags & 4 != 0 { Some(self.u32()?) } else { None };
        let mut modified = None;
        if flags & 8 != 0 {
            self.take(4)?; // when it was read
            modified = Some(self.u32()?);
        }
        if flags & 0x8000_0000 != 0 {
            for _ in 0..self.u32()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Ok(Attributes { size_bytes, mode, modified })
    }
}

/// What a server tells of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size_bytes: Option<u64>,
    mode: Option<u32>,
    /// Seconds since 1970.
    pub(super) modified: Option<u32>,
}

impl Attributes {
    /// Whether it is a regular file; a server that does not tell has nothing else to offer.
    pub(super) fn is_file(&self) -> bool {
        self.mode.is_none_or(|mode| mode & 0o170_000 == 0o100_000)
    }

    /// Whether the server says that it is a regular file.
    pub(super) fn is_surely_file(&self) -> bool {
        self.mode.is_some() && self.is_file()
    }

    pub(super) fn is_folder(&self) -> bool {
        self.mode.is_some_and(|mode| mode & 0o170_000 == 0o040_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Vec<u8> {
        Outgoing::new(kind::NAME)
            .u32(0x8000_000f)
            .u64(7)
            .u32(1)
            .u32(2)
            .u32(0o100_644)
            .u32(3)
            .u32(4)
            .u32(1)
            .bytes(b"a")
            .bytes(b"b")
            .finish(None)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = packet();
        let mut packet = Incoming::read(&mut &bytes[..]).unwrap();
        assert_eq!(packet.kind, kind::NAME);
        let found = packet.attributes().unwrap();
        assert_eq!(found, Attributes { size_bytes: Some(7), mode: Some(0o100_644), modified: Some(4) });
        assert!(found.is_file() && !found.is_folder() && packet.is_at_end());
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = packet();
        for end in 0..bytes.len() {
            assert!(Incoming::read(&mut &bytes[..end]).is_err(), "{end}");
        }
        for length in 1..bytes.len() - 4 {
            let mut cut = bytes[..length + 4].to_vec();
            cut[..4].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
            assert!(Incoming::read(&mut &cut[..]).unwrap().attributes().is_err(), "{length}");
        }
        for length in [0, u32::MAX, 2 << 20] {
            assert!(Incoming::read(&mut &[&length.to_be_bytes()[..], &[0; 100]].concat()[..]).is_err());
        }
    }
}
