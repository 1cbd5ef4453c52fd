//! Large files: one thread at a time reads and cuts, all hash and store, and the pieces come together in order.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    backup::{
        engine::{Engine, Task},
        file::FileJob,
        partial::Unfinished,
        queue::Stage,
    },
    error::Result,
    source::{FileReader, Part, SourceError, Stat},
    tree::{
        content::ContentWriter,
        node::{Entry, Piece, Xattr},
    },
};

/// Bytes of a part that is hashed and stored by one thread: some frames, so that neighbours share one.
const SEGMENT_BYTES: usize = 2 << 20;

/// A large file that is being read.
pub(super) struct LargeFile {
    reader: Box<dyn FileReader>,
    /// What was read and not yet cut.
    buffer: Vec<u8>,
    segments: u64,
    shared: Arc<Pieces>,
}

/// A part of a large file, cut into chunks.
pub(super) struct Segment {
    pub(super) file: Arc<Pieces>,
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    /// Where the chunks end.
    pub(super) ends: Vec<usize>,
}

/// The pieces of a large file, coming together.
pub(super) struct Pieces {
    state: Mutex<State>,
}

struct State {
    /// The file and its content so far; gone once it is complete or has failed.
    open: Option<(FileJob, ContentWriter)>,
    next: u64,
    waiting: BTreeMap<u64, Vec<Piece>>,
    /// Number of segments, and what the file was in the end.
    end: Option<(u64, Stat, Vec<Xattr>)>,
    bytes: u64,
}

impl LargeFile {
    pub(super) fn new(job: FileJob, reader: Box<dyn FileReader>, content: ContentWriter, beginning: Vec<u8>) -> Self {
        let (directory, position) = (Arc::clone(&job.directory), job.position);
        let state = State { open: Some((job, content)), next: 0, waiting: BTreeMap::new(), end: None, bytes: 0 };
        let shared = Arc::new(Pieces { state: Mutex::new(state) });
        directory.begin(position, Unfinished::File(Arc::downgrade(&shared)));
        Self { reader, buffer: beginning, segments: 0, shared }
    }

    fn take_number(&mut self) -> u64 {
        self.segments += 1;
        self.segments - 1
    }
}

/// Why the reading paused.
enum Pause {
    Full,
    Hole(u64),
    End,
}

impl<'a> Engine<'a> {
    /// Reads on until there is enough for a segment, a hole, or the end.
    pub(super) fn read_large(&self, mut file: Box<LargeFile>) -> Result<()> {
        let full_bytes = SEGMENT_BYTES + self.chunker.max_bytes();
        let pause = loop {
            if file.buffer.len() >= full_bytes {
                break Pause::Full;
            }
            // A reader fills exactly the spare room, if there is any.
            if file.buffer.capacity() < full_bytes {
                let more_bytes = full_bytes - file.buffer.len();
                file.buffer.reserve_exact(more_bytes);
            }
            let room = file.buffer.capacity() - file.buffer.len();
            match file.reader.read(room.max(1), &mut file.buffer) {
                Ok(Part::Data(_)) => {}
                Ok(Part::Hole(length_bytes)) => break Pause::Hole(length_bytes),
                Ok(Part::End) => break Pause::End,
                Err(error) => return self.cannot_read(&file, error),
            }
        };
        let mut tasks = Vec::new();
        tasks.extend(self.cut(&mut file, matches!(pause, Pause::Full)));
        match pause {
            Pause::Full => {}
            Pause::Hole(length_bytes) => {
                let number = file.take_number();
                file.shared.put(self, number, vec![Piece::Hole { length_bytes }])?;
            }
            Pause::End => {
                let end = match file.reader.finish() {
                    Ok((stat, xattrs)) => (file.segments, stat, xattrs),
                    Err(error) => return self.cannot_read(&file, error),
                };
                self.push(Stage::Store, tasks);
                return file.shared.close(self, end);
            }
        }
        // Reading goes on beside the storing; whoever is free stores first, so that few segments are in memory.
        self.push(Stage::Store, tasks);
        self.queue.push_next(Task::Large(file));
        Ok(())
    }

    /// Leaves a file out that cannot be read on. One whose reading the user has ended is kept, as far as it was read, for a checkpoint.
    fn cannot_read(&self, file: &LargeFile, error: SourceError) -> Result<()> {
        if let Err(cancelled) = self.cancel.check() {
            self.cut_short.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&file.shared));
            return Err(cancelled);
        }
        file.shared.fail(self, error)
    }

    /// Cuts what was read. If `more` follows, the last chunk is not known yet and stays in the buffer.
    fn cut(&self, file: &mut LargeFile, more: bool) -> Option<Task<'a>> {
        let mut ends = Vec::new();
        let mut end = 0;
        loop {
            let rest = file.buffer.get(end..).unwrap_or_default();
            let length = if more { self.chunker.certain_cut(rest) } else { Some(self.chunker.next_cut(rest)) };
            match length {
                None | Some(0) => break,
                Some(length) => {
                    end += length;
                    ends.push(end);
                }
            }
        }
        if ends.is_empty() {
            return None;
        }
        let mut next = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        next.clear();
        next.extend_from_slice(file.buffer.get(end..).unwrap_or_default());
        let mut bytes = std::mem::replace(&mut file.buffer, next);
        bytes.truncate(end);
        let number = file.take_number();
        Some(Task::Segment(Segment { file: Arc::clone(&file.shared), number, bytes, ends }))
    }
}

impl Pieces {
    /// Takes the pieces of one segment; completes the file where they were the last.
    pub(super) fn put(&self, engine: &Engine<'_>, number: u64, pieces: Vec<Piece>) -> Result<()> {
        self.change(engine, |state| {
            state.waiting.insert(number, pieces);
        })
    }

    /// Says how many segments there are and what the file is.
    fn close(&self, engine: &Engine<'_>, end: (u64, Stat, Vec<Xattr>)) -> Result<()> {
        self.change(engine, |state| state.end = Some(end))
    }

    /// The file as far as its pieces have come together without a gap; nothing if that is nowhere.
    pub(super) fn so_far(&self, engine: &Engine<'_>) -> Result<Option<Entry>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.open {
            Some((job, content)) => job.so_far(engine, content.clone()),
            None => Ok(None),
        }
    }

    /// Leaves the file out.
    fn fail(&self, engine: &Engine<'_>, error: SourceError) -> Result<()> {
        let open = self.state.lock().unwrap_or_else(PoisonError::into_inner).open.take();
        match open {
            Some((job, _)) => job.fail(engine, error),
            None => Ok(()),
        }
    }

    fn change(&self, engine: &Engine<'_>, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        change(state);
        let Some((_, content)) = &mut state.open else { return Ok(()) };
        while let Some(pieces) = state.waiting.remove(&state.next) {
            state.next += 1;
            for piece in pieces {
                if matches!(piece, Piece::Data { .. }) {
                    state.bytes += piece.length_bytes();
                }
                content.push(piece, engine.session)?;
            }
        }
        if state.end.as_ref().is_none_or(|(segments, _, _)| *segments != state.next) {
            return Ok(());
        }
        let (Some((job, content)), Some((_, stat, xattrs))) = (state.open.take(), state.end.take()) else {
            return Ok(());
        };
        let told_bytes = state.bytes;
        drop(guard);
        job.complete(engine, content.finish(engine.session)?, &stat, xattrs, told_bytes)
    }
}
