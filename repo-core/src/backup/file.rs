//! Reading files: cutting, hashing, and storing what is new.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    backup::{
        assembly::OpenDirectory,
        engine::{Engine, Task},
        large::{LargeFile, Segment},
        metadata::{metadata, to_be_read_again},
    },
    blob::BlobKind,
    error::Result,
    limits,
    progress::{Outcome, Problem},
    repository::frames::FrameWriter,
    source::{FileReader, Part, SourceError, Stat},
    tree::{
        content::ContentWriter,
        name::Name,
        node::{Content, Entry, Node, NodeKind, Piece, Xattr},
    },
};

/// Bytes that are read of a file before it counts as large, and several threads share the work.
const READ_BYTES: usize = 2 << 20;

/// A file to be read.
pub(super) struct FileJob {
    pub(super) directory: Arc<OpenDirectory>,
    pub(super) position: usize,
    pub(super) name: Name,
    /// What it was when the directory was looked through.
    pub(super) stat: Stat,
    /// New, or changed.
    pub(super) outcome: Outcome,
}

impl FileJob {
    /// Puts the finished file into its directory.
    pub(super) fn complete(
        self,
        engine: &Engine<'_>,
        content: (Content, u64),
        stat: &Stat,
        xattrs: Vec<Xattr>,
        told_bytes: u64,
    ) -> Result<()> {
        let (content, size_bytes) = content;
        let mut metadata = metadata(stat, xattrs, engine.options.with_atime);
        if self.warn_if_changed(engine, stat, size_bytes) {
            metadata = to_be_read_again(metadata);
        }
        let node = Node { kind: NodeKind::File { size_bytes, content }, metadata };
        engine.owner(stat);
        engine.done(&self.directory, &self.name, self.outcome, told_bytes, size_bytes);
        self.directory.put(engine, self.position, Some(Entry { name: self.name, node }))
    }

    /// The entry of a file of which only this much has been read. The next backup reads it again.
    pub(super) fn so_far(&self, engine: &Engine<'_>, content: ContentWriter) -> Result<Option<Entry>> {
        let (content, size_bytes) = content.finish(engine.session)?;
        let metadata = to_be_read_again(metadata(&self.stat, Vec::new(), engine.options.with_atime));
        let node = Node { kind: NodeKind::File { size_bytes, content }, metadata };
        Ok((size_bytes > 0).then(|| Entry { name: self.name.clone(), node }))
    }

    /// Leaves the file out and tells why.
    pub(super) fn fail(self, engine: &Engine<'_>, error: SourceError) -> Result<()> {
        engine.source_error(error)?;
        self.directory.put(engine, self.position, None)
    }

    /// What was stored is what was read, but it may be a mixture of two states that never were. Tells whether.
    fn warn_if_changed(&self, engine: &Engine<'_>, after: &Stat, read_bytes: u64) -> bool {
        let before = &self.stat;
        let is_stream = before.inode == 0 && before.size_bytes == 0;
        let differs = after.modified != before.modified || after.size_bytes != before.size_bytes;
        let changed = !is_stream && (differs || after.size_bytes != read_bytes);
        if changed {
            let path = self.directory.source.path_of(&self.name);
            let message = "it changed while it was read; what was read is stored".into();
            engine.tally.problem(Problem { path, during: "read a steady state of", message }, engine.progress);
        }
        changed
    }
}

/// What a thread keeps for reading files.
pub(super) struct FileWorker<'e, 'a> {
    engine: &'e Engine<'a>,
    /// Where its new blobs are gathered.
    frames: &'e Mutex<FrameWriter<'a>>,
    buffer: Vec<u8>,
}

impl<'e, 'a> FileWorker<'e, 'a> {
    pub(super) fn new(engine: &'e Engine<'a>, frames: &'e Mutex<FrameWriter<'a>>) -> Self {
        Self { engine, frames, buffer: Vec::new() }
    }

    fn frames(&self) -> MutexGuard<'e, FrameWriter<'a>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores what is left in the thread's frame.
    pub(super) fn finish(self) -> Result<()> {
        self.frames().flush()
    }

    /// Reads a file. One that turns out large is handed on.
    pub(super) fn file(&mut self, job: FileJob) -> Result<()> {
        self.engine.cancel.check()?;
        self.engine.tick();
        let mut reader = match job.directory.source.file(&job.name, &job.stat) {
            Ok(reader) => reader,
            Err(error) => return job.fail(self.engine, error),
        };
        let mut content = ContentWriter::default();
        self.buffer.clear();
        self.buffer.reserve_exact(READ_BYTES);
        loop {
            let room = self.buffer.capacity() - self.buffer.len();
            if room == 0 {
                self.hand_on(job, reader, content);
                return Ok(());
            }
            match reader.read(room, &mut self.buffer) {
                Ok(Part::Data(_)) => {}
                Ok(Part::Hole(length_bytes)) => {
                    self.store_extent(&mut content)?;
                    content.push(Piece::Hole { length_bytes }, self.engine.session)?;
                }
                Ok(Part::End) => break,
                Err(error) => return job.fail(self.engine, error),
            }
        }
        self.store_extent(&mut content)?;
        match reader.finish() {
            Ok((stat, xattrs)) => job.complete(self.engine, content.finish(self.engine.session)?, &stat, xattrs, 0),
            Err(error) => job.fail(self.engine, error),
        }
    }

    /// Cuts and stores all bytes that were read up to a hole or the end.
    fn store_extent(&mut self, content: &mut ContentWriter) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.engine.tally.read(buffer.len() as u64);
        // Cutting a small file would cost an entry more than it could save.
        let result = if buffer.len() <= 2 * self.engine.chunker.parameters().min_bytes as usize {
            self.store_chunk(&buffer, content)
        } else {
            self.engine.chunker.chunks(&buffer).try_for_each(|chunk| self.store_chunk(chunk, content))
        };
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    fn store_chunk(&mut self, chunk: &[u8], content: &mut ContentWriter) -> Result<()> {
        match self.store_blob(chunk)? {
            Some(piece) => content.push(piece, self.engine.session),
            None => Ok(()),
        }
    }

    /// Stores a chunk unless it is known; nothing for an empty one.
    fn store_blob(&mut self, chunk: &[u8]) -> Result<Option<Piece>> {
        if chunk.is_empty() {
            return Ok(None);
        }
        let blob = self.engine.session.repository().keys().blob_id(BlobKind::Data, chunk);
        // Locked before it is claimed: whoever has seen it claimed, and then empties all threads' frames, has it.
        let mut frames = self.frames();
        if self.engine.session.claim(BlobKind::Data, &blob) {
            frames.add(blob, chunk)?;
        }
        drop(frames);
        debug_assert!(chunk.len() <= limits::BLOB_BYTES_MAX, "the chunker's parameters are bounded");
        Ok(Some(Piece::Data { blob, length_bytes: u32::try_from(chunk.len()).unwrap_or(u32::MAX) }))
    }

    /// Makes a large file of one whose beginning is in the buffer.
    fn hand_on(&mut self, job: FileJob, reader: Box<dyn FileReader>, content: ContentWriter) {
        // Large files alone are told of: by the time one of the others could be shown, it is done.
        self.engine.progress.current(&job.directory.source.path_of(&job.name));
        let beginning = std::mem::take(&mut self.buffer);
        let large = LargeFile::new(job, reader, content, beginning);
        self.engine.queue.push_next(Task::Large(Box::new(large)));
    }

    /// Hashes and stores a part of a large file.
    pub(super) fn segment(&mut self, segment: Segment) -> Result<()> {
        self.engine.cancel.check()?;
        let mut pieces = Vec::with_capacity(segment.ends.len());
        let mut start = 0;
        for end in &segment.ends {
            pieces.extend(self.store_blob(segment.bytes.get(start..*end).unwrap_or_default())?);
            start = *end;
        }
        self.engine.progress.done(0, start as u64);
        self.engine.tally.read(start as u64);
        segment.file.put(self.engine, segment.number, pieces)?;
        self.engine.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(segment.bytes);
        Ok(())
    }
}
