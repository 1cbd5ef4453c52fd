//! Looking at directories: what is there, what is as it was, what must be read.

use std::sync::Arc;

use crate::{
    backup::{
        assembly::{Above, OpenDirectory},
        earlier::{Before, EntriesBefore},
        engine::{Engine, Task},
        file::FileJob,
        metadata::{metadata, to_be_read_again},
        queue::Stage,
    },
    error::Result,
    progress::{Outcome, Problem},
    source::{FileType, Stat},
    tree::{
        name::{Bytes, Name},
        node::{Entry, Node, NodeKind},
    },
};

/// Entries looked at before other tasks get their turn.
const ENTRIES_AT_ONCE: usize = 512;

/// Files that are read one after another by one thread: at most so many, and no more once they have so many bytes. About a frame,
/// so that what lies together in the tree lies together in a frame.
const FILES_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: u64 = 2 << 20;

/// A directory that is known and not yet open.
pub(super) struct NewDirectory {
    above: Above,
    /// What it was.
    before: Before,
}

/// A directory that is being looked through.
pub(super) struct Scan<'a> {
    directory: Arc<OpenDirectory>,
    names: std::vec::IntoIter<Name>,
    position: usize,
    before: EntriesBefore<'a>,
}

impl<'a> Engine<'a> {
    /// Opens a directory and begins to look through it.
    pub(super) fn open(&self, new: NewDirectory) -> Result<()> {
        let NewDirectory { above, before } = new;
        let entries = EntriesBefore::of(self.reader, &before);
        match above.directory.source.directory(&above.name) {
            Ok(source) => self.list(OpenDirectory::new(Some(above), source, before), entries),
            Err(error) => {
                self.source_error(error)?;
                above.directory.put(self, above.position, None)
            }
        }
    }

    /// Lists an open directory and begins to look through it.
    pub(super) fn list(&self, directory: Arc<OpenDirectory>, before: EntriesBefore<'a>) -> Result<()> {
        match directory.source.names() {
            Ok(names) => {
                let scan = Scan { directory, names: names.into_iter(), position: 0, before };
                self.queue.push(Stage::Scan, [Task::Scan(scan)]);
                Ok(())
            }
            Err(error) => {
                self.source_error(error)?;
                match &directory.above {
                    Some(above) => above.directory.put(self, above.position, None),
                    // Nothing of the root can be known; there is nothing to make a snapshot of.
                    None => Err(crate::error::Error::Source("the root of the source cannot be listed".into())),
                }
            }
        }
    }

    /// Looks at the next entries of a directory.
    pub(super) fn scan(&self, mut scan: Scan<'a>) -> Result<()> {
        let mut directories = Vec::new();
        let mut files = Batches::default();
        for _ in 0..ENTRIES_AT_ONCE {
            let Some(name) = scan.names.next() else {
                self.push(Stage::Read, files.finish());
                self.push(Stage::Scan, directories);
                return scan.directory.close(self, scan.position);
            };
            let position = scan.position;
            scan.position += 1;
            let before = scan.before.take(&name);
            let directory = &scan.directory;
            match directory.source.entry(&name) {
                Ok(None) => directory.put(self, position, None)?,
                Err(error) => {
                    self.source_error(error)?;
                    directory.put(self, position, None)?;
                }
                Ok(Some(stat)) => {
                    self.owner(&stat);
                    match stat.file_type {
                        FileType::Directory => {
                            let above = Above { directory: Arc::clone(directory), position, name };
                            directories.push(Task::Open(NewDirectory { above, before }));
                        }
                        FileType::File => {
                            self.found(&stat);
                            if let Some((node, outcome)) = self.unchanged_file(directory, &name, &stat, &before) {
                                self.keep(directory, position, name, node, outcome)?;
                            } else {
                                let outcome = if before.parent.is_some() { Outcome::Changed } else { Outcome::New };
                                files.add(FileJob { directory: Arc::clone(directory), position, name, stat, outcome });
                            }
                        }
                        _ => {
                            self.found(&stat);
                            self.special(directory, position, name, &stat, before.parent)?;
                        }
                    }
                }
            }
        }
        self.push(Stage::Read, files.finish());
        directories.push(Task::Scan(scan));
        self.push(Stage::Scan, directories);
        Ok(())
    }

    fn found(&self, stat: &Stat) {
        if !self.options.count_ahead {
            self.progress.found(1, stat.size_bytes);
        }
    }

    /// Takes a node of an earlier snapshot as it is.
    fn keep(
        &self,
        directory: &Arc<OpenDirectory>,
        position: usize,
        name: Name,
        node: Node,
        outcome: Outcome,
    ) -> Result<()> {
        let bytes = match node.kind {
            NodeKind::File { size_bytes, .. } => size_bytes,
            _ => 0,
        };
        self.done(directory, &name, outcome, 0, bytes);
        directory.put(self, position, Some(Entry { name, node }))
    }

    /// Counts an entry that is no directory and tells of it. `read_bytes` of its `bytes` have been told of already.
    pub(super) fn done(&self, directory: &OpenDirectory, name: &Name, outcome: Outcome, read_bytes: u64, bytes: u64) {
        self.tally.file(outcome);
        self.progress.done(1, bytes.saturating_sub(read_bytes));
        if self.progress.wants_items() {
            self.progress.item(&directory.source.path_of(name), outcome, bytes);
        }
    }

    /// Links, devices, pipes, sockets.
    fn special(
        &self,
        directory: &Arc<OpenDirectory>,
        position: usize,
        name: Name,
        stat: &Stat,
        before: Option<Node>,
    ) -> Result<()> {
        if let Some(node) = before.as_ref().filter(|node| self.same_special(stat, node)) {
            return self.keep(directory, position, name, node.clone(), Outcome::Unchanged);
        }
        let outcome = if before.is_some() { Outcome::Changed } else { Outcome::New };
        let kind = match stat.file_type {
            FileType::Symlink => match directory.source.link_target(&name) {
                Ok(target) => match Bytes::new(target) {
                    Some(target) => NodeKind::Symlink { target },
                    None => return self.refuse(directory, position, &name, "the link's target is too long"),
                },
                Err(error) => {
                    self.source_error(error)?;
                    return directory.put(self, position, None);
                }
            },
            FileType::BlockDevice => NodeKind::BlockDevice { device: stat.special },
            FileType::CharacterDevice => NodeKind::CharacterDevice { device: stat.special },
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
            FileType::File | FileType::Directory => {
                return self.refuse(directory, position, &name, "it is handled elsewhere; this is a bug");
            }
        };
        let metadata = match directory.source.xattrs(&name) {
            Ok(xattrs) => metadata(stat, xattrs, self.options.with_atime),
            Err(error) => {
                self.source_error(error)?;
                to_be_read_again(metadata(stat, Vec::new(), self.options.with_atime))
            }
        };
        let node = Node { kind, metadata };
        self.done(directory, &name, outcome, 0, 0);
        directory.put(self, position, Some(Entry { name, node }))
    }

    /// Leaves an entry out and tells why.
    fn refuse(&self, directory: &Arc<OpenDirectory>, position: usize, name: &Name, reason: &str) -> Result<()> {
        let path = directory.source.path_of(name);
        self.tally.problem(Problem { path, during: "save", message: reason.into() }, self.progress);
        directory.put(self, position, None)
    }
}

/// Files to be read, put together into tasks.
#[derive(Default)]
struct Batches {
    finished: Vec<Vec<FileJob>>,
    open: Vec<FileJob>,
    open_bytes: u64,
}

impl Batches {
    fn add(&mut self, file: FileJob) {
        self.open_bytes = self.open_bytes.saturating_add(file.stat.size_bytes);
        self.open.push(file);
        if self.open.len() >= FILES_AT_ONCE || self.open_bytes >= BYTES_AT_ONCE {
            self.close();
        }
    }

    fn close(&mut self) {
        self.open_bytes = 0;
        if !self.open.is_empty() {
            self.finished.push(std::mem::take(&mut self.open));
        }
    }

    fn finish<'a>(mut self) -> Vec<Task<'a>> {
        self.close();
        self.finished.into_iter().map(Task::Files).collect()
    }
}
