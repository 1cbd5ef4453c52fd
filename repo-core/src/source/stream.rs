//! A single file whose content comes from a stream: standard input, or what a command writes.

use std::{
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Directory, FileReader, FileType, OwnerNames, Part, Severity, Source, SourceError, Stat, owners, path};
use crate::{
    error::{Error, Result},
    time::Timestamp,
    tree::{
        name::{Name, escape},
        node::{Device, Mode, Xattr},
    },
};

/// Bytes read at a time at least, if so many are wanted.
const READ_BYTES: usize = 64 << 10;

/// Tells whether everything went well at the other end, once the stream has ended: a command's exit status.
pub type Finish = Box<dyn FnOnce() -> std::result::Result<(), String> + Send>;

/// Where a stream is stored, and whose it is.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Name or path of the file in the snapshot; directories on the way are made up.
    pub path: String,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Its time of change.
    pub time: Timestamp,
    /// What this is a backup of, if not `path`.
    pub named: Option<String>,
}

/// A source with one file. If the stream fails, or `finish` says that it is not complete, there is no snapshot.
pub struct StreamSource {
    shared: Arc<Shared>,
    finish: Mutex<Option<Finish>>,
    named: String,
}

struct Shared {
    components: Vec<Name>,
    stat: Stat,
    /// Taken when the file is opened: a stream can be read once.
    content: Mutex<Option<Box<dyn Read + Send>>>,
}

impl StreamSource {
    /// A source of one file with the content of a stream.
    ///
    /// # Errors
    /// When the path is none.
    pub fn new(options: StreamOptions, content: Box<dyn Read + Send>, finish: Finish) -> Result<Self> {
        let invalid = |reason: &str| {
            Error::Invalid(format!("a stream cannot be stored as \"{}\": {reason}", escape(options.path.as_bytes())))
        };
        let cleaned = path::clean(options.path.as_bytes());
        let components: Vec<Name> = path::components(&cleaned)
            .map(|name| Name::new(name).map_err(|error| invalid(&error.to_string())))
            .collect::<Result<_>>()?;
        if components.is_empty() || options.path.ends_with('/') {
            return Err(invalid("that is a directory"));
        }
        let stat = Stat {
            file_type: FileType::File,
            size_bytes: 0,
            sparse: false,
            mode: Mode::from_bits(0o644),
            user: options.user,
            group: options.group,
            modified: options.time,
            changed: options.time,
            accessed: options.time,
            inode: 0,
            device: 0,
            links: 1,
            special: Device { major: 0, minor: 0 },
        };
        Ok(Self {
            named: options.named.unwrap_or(options.path),
            shared: Arc::new(Shared { components, stat, content: Mutex::new(Some(content)) }),
            finish: Mutex::new(Some(finish)),
        })
    }
}

impl Shared {
    fn path(&self) -> Vec<u8> {
        self.components.iter().flat_map(|name| [b"/", name.as_bytes()].concat()).collect()
    }

    fn error(&self, during: &'static str, cause: std::io::Error) -> SourceError {
        SourceError { during, path: self.path(), severity: Severity::Fatal, cause }
    }
}

impl Source for StreamSource {
    fn root(&self) -> Result<Arc<dyn Directory>, SourceError> {
        Ok(Arc::new(StreamDirectory { shared: Arc::clone(&self.shared), depth: 0 }))
    }

    fn targets(&self) -> Vec<String> {
        vec![self.named.clone()]
    }

    fn paths(&self) -> Vec<String> {
        vec![escape(&self.shared.path()).into_owned()]
    }

    fn owner_names(&self, users: &[u32], groups: &[u32]) -> OwnerNames {
        owners::look_up(users, groups)
    }

    fn finish(&self) -> Result<(), SourceError> {
        let finish = self.finish.lock().unwrap_or_else(PoisonError::into_inner).take();
        match finish.map_or(Ok(()), |finish| finish()) {
            Ok(()) => Ok(()),
            Err(reason) => Err(self.shared.error("finish", std::io::Error::other(reason))),
        }
    }
}

/// The root, or a made-up directory on the way to the file.
struct StreamDirectory {
    shared: Arc<Shared>,
    depth: usize,
}

impl StreamDirectory {
    fn name(&self) -> &Name {
        &self.shared.components[self.depth]
    }

    fn is_last(&self) -> bool {
        self.depth + 1 == self.shared.components.len()
    }

    fn directory_stat(&self) -> Stat {
        Stat { file_type: FileType::Directory, mode: Mode::from_bits(0o755), ..self.shared.stat }
    }

    /// Fails unless `name` is the one entry, and the file or not as it should be.
    fn check(&self, name: &Name, is_file: bool) -> Result<(), SourceError> {
        if name == self.name() && is_file == self.is_last() {
            return Ok(());
        }
        let cause = std::io::ErrorKind::NotFound.into();
        Err(SourceError { during: "open", path: self.path_of(name), severity: Severity::Entry, cause })
    }
}

impl Directory for StreamDirectory {
    fn stat(&self) -> Stat {
        self.directory_stat()
    }

    fn own_xattrs(&self) -> Result<Vec<Xattr>, SourceError> {
        Ok(Vec::new())
    }

    fn names(&self) -> Result<Vec<Name>, SourceError> {
        Ok(vec![self.name().clone()])
    }

    fn entry(&self, name: &Name) -> Result<Option<Stat>, SourceError> {
        self.check(name, self.is_last())?;
        Ok(Some(if self.is_last() { self.shared.stat } else { self.directory_stat() }))
    }

    fn directory(&self, name: &Name) -> Result<Arc<dyn Directory>, SourceError> {
        self.check(name, false)?;
        Ok(Arc::new(Self { shared: Arc::clone(&self.shared), depth: self.depth + 1 }))
    }

    fn file(&self, name: &Name, _expected: &Stat) -> Result<Box<dyn FileReader>, SourceError> {
        self.check(name, true)?;
        let content = self.shared.content.lock().unwrap_or_else(PoisonError::into_inner).take();
        let content = content
            .ok_or_else(|| self.shared.error("read", std::io::Error::other("a stream can be read only once")))?;
        Ok(Box::new(StreamReader { shared: Arc::clone(&self.shared), content, length_bytes: 0, ended: false }))
    }

    fn link_target(&self, name: &Name) -> Result<Vec<u8>, SourceError> {
        Err(SourceError {
            during: "read",
            path: self.path_of(name),
            severity: Severity::Entry,
            cause: std::io::ErrorKind::InvalidInput.into(),
        })
    }

    fn xattrs(&self, _name: &Name) -> Result<Vec<Xattr>, SourceError> {
        Ok(Vec::new())
    }

    fn path_of(&self, name: &Name) -> Vec<u8> {
        let mut path = Vec::new();
        for name in self.shared.components[..self.depth].iter().chain([name]) {
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
        }
        path
    }
}

struct StreamReader {
    shared: Arc<Shared>,
    content: Box<dyn Read + Send>,
    length_bytes: u64,
    ended: bool,
}

impl FileReader for StreamReader {
    fn read(&mut self, most_bytes: usize, into: &mut Vec<u8>) -> Result<Part, SourceError> {
        if self.ended {
            return Ok(Part::End);
        }
        let length = into.len();
        into.resize(length + most_bytes.clamp(1, READ_BYTES), 0);
        let result = loop {
            match self.content.read(&mut into[length..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = *result.as_ref().unwrap_or(&0);
        into.truncate(length + count);
        result.map_err(|error| self.shared.error("read", error))?;
        self.length_bytes += count as u64;
        self.ended = count == 0;
        Ok(if self.ended { Part::End } else { Part::Data(count) })
    }

    fn finish(&mut self) -> Result<(Stat, Vec<Xattr>), SourceError> {
        Ok((Stat { size_bytes: self.length_bytes, ..self.shared.stat }, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(path: &str) -> StreamOptions {
        StreamOptions { path: path.into(), user: 7, group: 8, time: Timestamp::from_seconds(9), named: None }
    }

    /// Hands out one to three bytes at a time, is interrupted now and then, and may fail at the end.
    struct Halting {
        content: Vec<u8>,
        at: usize,
        calls: usize,
        fails: bool,
    }

    impl Read for Halting {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(5) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            if self.at == self.content.len() && self.fails {
                return Err(std::io::Error::other("pipe burst"));
            }
            let count = (self.calls % 3 + 1).min(self.content.len() - self.at).min(into.len());
            into[..count].copy_from_slice(&self.content[self.at..self.at + count]);
            self.at += count;
            Ok(count)
        }
    }

    fn read_all(source: &StreamSource, most_bytes: usize) -> Result<(Vec<u8>, Stat), SourceError> {
        let mut directory = source.root()?;
        let mut out = b"before".to_vec();
        loop {
            let name = directory.names()?.remove(0);
            let stat = directory.entry(&name)?.unwrap();
            if stat.file_type == FileType::Directory {
                directory = directory.directory(&name)?;
                continue;
            }
            let mut file = directory.file(&name, &stat)?;
            assert!(directory.file(&name, &stat).is_err(), "a second reader would find nothing left");
            loop {
                let length = out.len();
                match file.read(most_bytes, &mut out)? {
                    Part::Data(count) => assert!(count > 0 && count <= most_bytes && out.len() == length + count),
                    Part::End => break,
                    Part::Hole(_) => panic!("a stream has no holes"),
                }
            }
            assert_eq!(file.read(most_bytes, &mut out)?, Part::End);
            assert_eq!(directory.path_of(&name), source.shared.path());
            return Ok((out.split_off(6), file.finish()?.0));
        }
    }

    #[test]
    fn content_and_metadata() {
        let content: Vec<u8> = (0..200).collect();
        for most_bytes in [1, 2, 100, 1 << 20] {
            let stream = Halting { content: content.clone(), at: 0, calls: 0, fails: false };
            let source = StreamSource::new(options("/db/./dump.sql"), Box::new(stream), Box::new(|| Ok(()))).unwrap();
            let (read, stat) = read_all(&source, most_bytes).unwrap();
            assert_eq!(read, content);
            assert_eq!((stat.size_bytes, stat.user, stat.group, stat.mode.bits()), (200, 7, 8, 0o644));
            assert_eq!(source.paths(), ["/db/dump.sql"]);
            source.finish().unwrap();
        }
    }

    #[test]
    fn failures_are_fatal() {
        let stream = Halting { content: vec![1; 10], at: 0, calls: 0, fails: true };
        let source = StreamSource::new(options("x"), Box::new(stream), Box::new(|| Ok(()))).unwrap();
        let error = read_all(&source, 100).unwrap_err();
        assert_eq!(error.severity, Severity::Fatal);
        assert_eq!(error.to_string(), "cannot read /x: pipe burst");

        let ended = Box::new(|| Err("pg_dump ended with status 1".to_owned()));
        let source = StreamSource::new(options("x"), Box::new(std::io::empty()), ended).unwrap();
        assert_eq!(read_all(&source, 100).unwrap().0, b"");
        let error = source.finish().unwrap_err();
        assert_eq!(error.severity, Severity::Fatal);
        assert_eq!(error.to_string(), "cannot finish /x: pg_dump ended with status 1");
    }

    #[test]
    fn paths_that_are_none() {
        for path in ["", "/", ".", "..", "a/../..", "a/", "a\0"] {
            assert!(
                StreamSource::new(options(path), Box::new(std::io::empty()), Box::new(|| Ok(()))).is_err(),
                "{path}"
            );
        }
    }
}
