//! A tree in memory that is backed up and compared with what comes back, and that misbehaves on request.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use repo_core::{
    blob::{BlobKind, ReadBlobs},
    id::BlobId,
    source::{Directory, FileReader, FileType, OwnerNames, Part, Severity, Source, SourceError, Stat},
    time::Timestamp,
    tree::{
        content::Pieces,
        directory::DirectoryEntries,
        name::{Bytes, Name},
        node::{Device, Metadata, Mode, Node, NodeKind, Piece, Xattr},
    },
};

/// One file, directory or other thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    pub stat: Stat,
    pub xattrs: Vec<Xattr>,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File(Vec<Extent>),
    Directory(BTreeMap<Name, Thing>),
    Symlink(Vec<u8>),
    Fifo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    Data(Arc<[u8]>),
    Hole(u64),
}

/// Numbers inodes, and makes times that differ.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Thing {
    fn new(file_type: FileType, size_bytes: u64, kind: Kind) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let time = Timestamp::new(1_700_000_000 + number.cast_signed(), 123_456_789).unwrap();
        let stat = Stat {
            file_type,
            size_bytes,
            sparse: false,
            mode: Mode::from_bits(if file_type == FileType::Directory { 0o755 } else { 0o644 }),
            user: 1000,
            group: 100,
            modified: time,
            changed: time,
            accessed: time,
            inode: number,
            device: 7,
            links: 1,
            special: Device { major: 0, minor: 0 },
        };
        Self { stat, xattrs: Vec::new(), kind }
    }

    pub fn file(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let size_bytes = bytes.len() as u64;
        let extents = if bytes.is_empty() { Vec::new() } else { vec![Extent::Data(bytes)] };
        Self::new(FileType::File, size_bytes, Kind::File(extents))
    }

    pub fn sparse(extents: Vec<Extent>) -> Self {
        let size_bytes = extents.iter().map(Extent::length_bytes).sum();
        Self::new(FileType::File, size_bytes, Kind::File(extents))
    }

    pub fn symlink(target: &[u8]) -> Self {
        Self::new(FileType::Symlink, 0, Kind::Symlink(target.to_vec()))
    }

    pub fn fifo() -> Self {
        Self::new(FileType::Fifo, 0, Kind::Fifo)
    }

    pub fn directory(entries: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let entries = entries.into_iter().map(|(name, thing)| (Name::new(name.as_bytes()).unwrap(), thing)).collect();
        Self::new(FileType::Directory, 0, Kind::Directory(entries))
    }

    pub fn with_xattr(mut self, name: &[u8], value: &[u8]) -> Self {
        self.xattrs.push(Xattr { name: Bytes::new(name).unwrap(), value: Bytes::new(value).unwrap() });
        self
    }

    pub fn entries(&mut self) -> &mut BTreeMap<Name, Self> {
        match &mut self.kind {
            Kind::Directory(entries) => entries,
            _ => panic!("no directory"),
        }
    }

    /// Gives an entry a place, at a path of names.
    pub fn put(&mut self, path: &[u8], thing: Self) {
        let mut directory = self;
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        for part in above.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            directory = directory.entries().get_mut(&Name::new(part).unwrap()).unwrap();
        }
        directory.entries().insert(Name::new(name).unwrap(), thing);
    }

    /// Takes away the entry at a path of names, if it is there.
    pub fn take(&mut self, path: &[u8]) {
        let mut names: Vec<_> = path.split(|byte| *byte == b'/').map(|name| Name::new(name).unwrap()).collect();
        let last = names.pop().unwrap();
        let mut directory = Some(self);
        for name in &names {
            directory = directory.and_then(|above| above.entries().get_mut(name));
        }
        if let Some(directory) = directory {
            directory.entries().remove(&last);
        }
    }

    /// Changes the entry at a path.
    pub fn change(&mut self, path: &[u8], change: impl FnOnce(&mut Self)) {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let thing = parts.fold(self, |thing, part| thing.entries().get_mut(&Name::new(part).unwrap()).unwrap());
        change(thing);
    }

    pub fn at(&self, path: &[u8]) -> &Self {
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).fold(self, |thing, part| match &thing.kind {
            Kind::Directory(entries) => &entries[&Name::new(part).unwrap()],
            _ => panic!("no directory"),
        })
    }

    /// Everything below, by path.
    pub fn seen(&self) -> BTreeMap<Vec<u8>, Seen> {
        let mut seen = BTreeMap::new();
        self.see(b"", &mut seen);
        seen
    }

    fn see(&self, path: &[u8], seen: &mut BTreeMap<Vec<u8>, Seen>) {
        if let Kind::Directory(entries) = &self.kind {
            for (name, thing) in entries {
                let path = [path, b"/", name.as_bytes()].concat();
                let mut content = Vec::new();
                let mut holes = Vec::new();
                match &thing.kind {
                    Kind::File(extents) => {
                        for extent in extents {
                            match extent {
                                Extent::Data(bytes) => content.extend_from_slice(bytes),
                                Extent::Hole(length) => holes.push((content.len(), *length)),
                            }
                        }
                    }
                    Kind::Symlink(target) => content.clone_from(target),
                    Kind::Directory(_) | Kind::Fifo => {}
                }
                let metadata = Metadata {
                    mode: thing.stat.mode,
                    user: thing.stat.user,
                    group: thing.stat.group,
                    modified: thing.stat.modified,
                    changed: thing.stat.changed,
                    accessed: None,
                    inode: thing.stat.inode,
                    hard_links: None,
                    xattrs: thing.xattrs.clone(),
                    extensions: Vec::new(),
                };
                seen.insert(path.clone(), Seen { file_type: thing.stat.file_type, content, holes, metadata });
                thing.see(&path, seen);
            }
        }
    }
}

impl Extent {
    fn length_bytes(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::Hole(length) => *length,
        }
    }
}

/// What an entry is, to compare.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    pub file_type: FileType,
    /// Bytes of a file without its holes, or a link's target.
    pub content: Vec<u8>,
    /// Bytes before each hole, and its length.
    pub holes: Vec<(usize, u64)>,
    pub metadata: Metadata,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hash = blake3::hash(&self.content).to_hex();
        write!(
            out,
            "{:?} {} bytes {} {:?} {:?}",
            self.file_type,
            self.content.len(),
            &hash[..8],
            self.holes,
            self.metadata
        )
    }
}

/// Everything a snapshot holds, by path; every byte is read.
pub fn read_back(blobs: &dyn ReadBlobs, tree: &BlobId) -> repo_core::error::Result<BTreeMap<Vec<u8>, Seen>> {
    let mut seen = BTreeMap::new();
    let mut directories = vec![(Vec::new(), *tree)];
    while let Some((path, tree)) = directories.pop() {
        for entry in DirectoryEntries::open(blobs, &tree)? {
            let entry = entry?;
            let path = [&path[..], b"/", entry.name.as_bytes()].concat();
            if let NodeKind::Directory { tree, .. } = &entry.node.kind {
                directories.push((path.clone(), *tree));
            }
            seen.insert(path, see_node(blobs, entry.node)?);
        }
    }
    Ok(seen)
}

fn see_node(blobs: &dyn ReadBlobs, node: Node) -> repo_core::error::Result<Seen> {
    let (mut content, mut holes) = (Vec::new(), Vec::new());
    let file_type = match &node.kind {
        NodeKind::File { size_bytes, content: pieces } => {
            let mut bytes = Vec::new();
            for piece in Pieces::new(blobs, pieces, *size_bytes) {
                match piece? {
                    Piece::Data { blob, length_bytes } => {
                        blobs.read_blob(BlobKind::Data, &blob, &mut bytes)?;
                        assert_eq!(bytes.len(), length_bytes as usize);
                        content.extend_from_slice(&bytes);
                    }
                    Piece::Hole { length_bytes } => holes.push((content.len(), length_bytes)),
                }
            }
            FileType::File
        }
        NodeKind::Directory { .. } => FileType::Directory,
        NodeKind::Symlink { target } => {
            content.extend_from_slice(target.as_bytes());
            FileType::Symlink
        }
        NodeKind::Fifo => FileType::Fifo,
        other => panic!("the model has no {other:?}"),
    };
    Ok(Seen { file_type, content, holes, metadata: node.metadata })
}

/// What a call of the source does instead of what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mischief {
    Fails(Severity),
    /// A file has more bytes than its entry said.
    Grows,
    /// A file ends before the length its entry said.
    Shrinks,
    /// A file is another one now.
    Replaced,
    /// The file is written to while it is read, and is as long as before.
    Touched,
    /// The same, and what is read is neither what it was nor what it is then.
    Torn,
    Panics,
}

/// One call of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub what: &'static str,
    pub path: Vec<u8>,
}

/// A source with the entries of a directory.
pub struct ModelSource {
    shared: Arc<Shared>,
    root: Arc<Thing>,
    read_once: bool,
}

struct Shared {
    calls: Mutex<Vec<Call>>,
    mischief: Option<(usize, Mischief)>,
    named: Vec<String>,
    read_bytes: AtomicU64,
    hook: Mutex<Option<Hook>>,
}

/// What happens before a call.
type Hook = Box<dyn FnMut(&Call) + Send>;

impl ModelSource {
    pub fn new(root: &Thing) -> Self {
        Self::with(root, None)
    }

    /// A source whose call of this number goes wrong.
    pub fn bad(root: &Thing, call: usize, mischief: Mischief) -> Self {
        Self::with(root, Some((call, mischief)))
    }

    /// A source before each call of which something happens.
    pub fn hooked(root: &Thing, hook: impl FnMut(&Call) + Send + 'static) -> Self {
        let source = Self::with(root, None);
        *source.shared.hook.lock().unwrap() = Some(Box::new(hook));
        source
    }

    fn with(root: &Thing, mischief: Option<(usize, Mischief)>) -> Self {
        let shared = Shared {
            calls: Mutex::default(),
            mischief,
            named: vec!["/model".into()],
            read_bytes: AtomicU64::new(0),
            hook: Mutex::default(),
        };
        Self { shared: Arc::new(shared), root: Arc::new(root.clone()), read_once: false }
    }

    /// Like a stream, which cannot be read again.
    pub fn read_once(self) -> Self {
        Self { read_once: true, ..self }
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Bytes that were read.
    pub fn read_bytes(&self) -> u64 {
        self.shared.read_bytes.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Counts a call; what it is to do wrong.
    fn call(&self, what: &'static str, path: &[u8]) -> Result<Option<Mischief>, SourceError> {
        // One call may be held up by it while others go on.
        if let Ok(mut hook) = self.hook.try_lock()
            && let Some(hook) = &mut *hook
        {
            hook(&Call { what, path: path.to_vec() });
        }
        let mut calls = self.calls.lock().unwrap();
        let number = calls.len();
        calls.push(Call { what, path: path.to_vec() });
        drop(calls);
        match self.mischief {
            Some((call, Mischief::Fails(severity))) if call == number => {
                let cause = io::Error::other("the test made it fail");
                Err(SourceError { during: what, path: path.to_vec(), severity, cause })
            }
            Some((call, Mischief::Panics)) if call == number => panic!("the test made the source panic"),
            Some((call, mischief)) if call == number => Ok(Some(mischief)),
            _ => Ok(None),
        }
    }
}

impl Source for ModelSource {
    fn can_be_read_again(&self) -> bool {
        !self.read_once
    }

    fn root(&self) -> Result<Arc<dyn Directory>, SourceError> {
        self.shared.call("root", b"")?;
        Ok(Arc::new(ModelDirectory {
            shared: Arc::clone(&self.shared),
            thing: Arc::clone(&self.root),
            path: Vec::new(),
        }))
    }

    fn targets(&self) -> Vec<String> {
        self.shared.named.clone()
    }

    fn paths(&self) -> Vec<String> {
        self.shared.named.clone()
    }

    fn owner_names(&self, users: &[u32], groups: &[u32]) -> OwnerNames {
        let names = |numbers: &[u32]| numbers.iter().map(|number| (*number, format!("n{number}"))).collect();
        OwnerNames { users: names(users), groups: names(groups) }
    }

    fn finish(&self) -> Result<(), SourceError> {
        self.shared.call("finish the source", b"").map(|_| ())
    }
}

struct ModelDirectory {
    shared: Arc<Shared>,
    thing: Arc<Thing>,
    path: Vec<u8>,
}

impl ModelDirectory {
    fn entries(&self) -> &BTreeMap<Name, Thing> {
        match &self.thing.kind {
            Kind::Directory(entries) => entries,
            _ => panic!("no directory"),
        }
    }

    fn get(&self, name: &Name) -> Result<&Thing, SourceError> {
        let missing = || SourceError {
            during: "find",
            path: self.path_of(name),
            severity: Severity::Vanished,
            cause: io::ErrorKind::NotFound.into(),
        };
        self.entries().get(name).ok_or_else(missing)
    }
}

impl Directory for ModelDirectory {
    fn stat(&self) -> Stat {
        self.thing.stat
    }

    fn own_xattrs(&self) -> Result<Vec<Xattr>, SourceError> {
        self.shared.call("own xattrs", &self.path)?;
        Ok(self.thing.xattrs.clone())
    }

    fn names(&self) -> Result<Vec<Name>, SourceError> {
        self.shared.call("names", &self.path)?;
        Ok(self.entries().keys().cloned().collect())
    }

    fn entry(&self, name: &Name) -> Result<Option<Stat>, SourceError> {
        self.shared.call("entry", &self.path_of(name))?;
        Ok(Some(self.get(name)?.stat))
    }

    fn directory(&self, name: &Name) -> Result<Arc<dyn Directory>, SourceError> {
        let path = self.path_of(name);
        self.shared.call("directory", &path)?;
        let thing = Arc::new(self.get(name)?.clone());
        Ok(Arc::new(Self { shared: Arc::clone(&self.shared), thing, path }))
    }

    fn file(&self, name: &Name, _expected: &Stat) -> Result<Box<dyn FileReader>, SourceError> {
        let path = self.path_of(name);
        let mischief = self.shared.call("file", &path)?;
        let thing = self.get(name)?.clone();
        let Kind::File(extents) = &thing.kind else { panic!("no file") };
        let extents = extents.clone();
        Ok(Box::new(ModelReader { shared: Arc::clone(&self.shared), thing, path, extents, offset: 0, mischief }))
    }

    fn link_target(&self, name: &Name) -> Result<Vec<u8>, SourceError> {
        self.shared.call("link target", &self.path_of(name))?;
        match &self.get(name)?.kind {
            Kind::Symlink(target) => Ok(target.clone()),
            _ => panic!("no link"),
        }
    }

    fn xattrs(&self, name: &Name) -> Result<Vec<Xattr>, SourceError> {
        self.shared.call("xattrs", &self.path_of(name))?;
        Ok(self.get(name)?.xattrs.clone())
    }

    fn path_of(&self, name: &Name) -> Vec<u8> {
        [&self.path[..], b"/", name.as_bytes()].concat()
    }
}

struct ModelReader {
    shared: Arc<Shared>,
    thing: Thing,
    path: Vec<u8>,
    extents: Vec<Extent>,
    /// In the first extent.
    offset: usize,
    mischief: Option<Mischief>,
}

/// What a file that grows has at its end.
pub const GROWTH: &[u8] = b"and this was written while it was read";

impl FileReader for ModelReader {
    fn read(&mut self, most_bytes: usize, into: &mut Vec<u8>) -> Result<Part, SourceError> {
        if let Some(mischief) = self.shared.call("read", &self.path)? {
            self.mischief = Some(mischief);
            if mischief == Mischief::Shrinks {
                self.extents.clear();
            }
        }
        let part = match self.extents.first() {
            None if self.mischief == Some(Mischief::Grows) => {
                self.mischief = Some(Mischief::Touched);
                self.thing.stat.size_bytes += GROWTH.len() as u64;
                into.extend_from_slice(GROWTH);
                return Ok(Part::Data(GROWTH.len()));
            }
            None => return Ok(Part::End),
            Some(Extent::Hole(length)) => {
                let part = Part::Hole(*length);
                self.extents.remove(0);
                return Ok(part);
            }
            Some(Extent::Data(bytes)) => bytes.clone(),
        };
        let rest = &part[self.offset..];
        let length = rest.len().min(most_bytes);
        into.extend_from_slice(&rest[..length]);
        self.shared.read_bytes.fetch_add(length as u64, Ordering::SeqCst);
        if self.mischief == Some(Mischief::Torn) {
            let last = into.len() - 1;
            into[last] ^= 1;
        }
        self.offset += length;
        if self.offset == part.len() {
            self.extents.remove(0);
            self.offset = 0;
        }
        Ok(Part::Data(length))
    }

    fn finish(&mut self) -> Result<(Stat, Vec<Xattr>), SourceError> {
        if let Some(mischief) = self.shared.call("finish", &self.path)? {
            self.mischief = Some(mischief);
        }
        let mut stat = self.thing.stat;
        match self.mischief {
            Some(Mischief::Replaced) => {
                stat.inode += 1_000_000;
                stat.modified = Timestamp::from_seconds(stat.modified.seconds() + 1);
                stat.changed = stat.modified;
            }
            Some(_) => {
                stat.modified = Timestamp::from_seconds(stat.modified.seconds() + 1);
                stat.changed = stat.modified;
            }
            None => {}
        }
        Ok((stat, self.thing.xattrs.clone()))
    }
}
