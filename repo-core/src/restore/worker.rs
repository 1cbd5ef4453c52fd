//! Carries out tasks: reads runs of frames, opens them, and writes the pieces that are in them.

use std::sync::Arc;

use super::{
    context::Context,
    file::{File, Method},
    queue::{Queue, Task},
    report::add,
    window::{Frame, Piece, Window, extent, is_plausible},
};
use crate::{
    blob::{BlobKind, FrameLocation},
    error::{Damage, Error, Result},
    sink::{Sink, SinkError},
};

/// Files that one thread keeps open while it writes a run of frames.
const OPEN_FILES: usize = 8;

/// One thread's buffers and open files.
pub(super) struct Worker<'a, S: Sink> {
    context: &'a Context<'a, S>,
    stored: Vec<u8>,
    plain: Vec<u8>,
    /// Files of more than one piece that were written last, the latest behind.
    open: Vec<(Arc<File<S>>, S::File)>,
}

impl<'a, S: Sink> Worker<'a, S> {
    pub(super) fn new(context: &'a Context<'a, S>) -> Self {
        Self { context, stored: Vec::new(), plain: Vec::new(), open: Vec::new() }
    }

    /// Works until there is nothing more to do. After a stop, files are still released, but nothing is written.
    pub(super) fn run(mut self, queue: &Queue<S>) {
        while let Some((window, task)) = queue.pop() {
            match task {
                Task::Frames(frames) => self.frames(&window, window.frames.get(frames).unwrap_or_default()),
                Task::Files(files) => {
                    for file in window.files.get(files).unwrap_or_default() {
                        file.finish(self.context, None);
                    }
                }
                Task::Hole(index) => self.hole(&window, index),
            }
            // An open file that is complete would stay busy for nothing.
            self.open.clear();
        }
    }

    /// Reads a run of frames with one request; if that fails, each frame by itself, so that no more is lost than must be.
    fn frames(&mut self, window: &Window<S>, frames: &[Frame]) {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return };
        if self.context.stopped() {
            for frame in frames {
                self.lose(window, frame, "");
            }
            return;
        }
        self.context.progress.current(&window_path(window, first));
        let from = extent(&first.location).0;
        let mut stored = std::mem::take(&mut self.stored);
        let read = self.read(&first.location, from, extent(&last.location).1 - from, &mut stored);
        match read {
            Ok(()) => {
                for frame in frames {
                    let at = usize::try_from(extent(&frame.location).0 - from).unwrap_or(usize::MAX);
                    let bytes = stored.get(at..).and_then(|rest| rest.get(..frame.location.stored_bytes as usize));
                    self.frame(window, frame, bytes.unwrap_or_default());
                }
            }
            Err(error) if frames.len() == 1 => self.lose_to(window, first, error),
            Err(_) => {
                for frame in frames {
                    let (from, until) = extent(&frame.location);
                    match self.read(&frame.location, from, until - from, &mut stored) {
                        Ok(()) => self.frame(window, frame, &stored),
                        Err(error) => self.lose_to(window, frame, error),
                    }
                }
            }
        }
        self.stored = stored;
    }

    fn read(&self, frame: &FrameLocation, from: u64, length_bytes: u64, into: &mut Vec<u8>) -> Result<()> {
        if !is_plausible(frame) {
            let object = format!("data/{}", frame.pack);
            return Err(Damage::new(object, "the index has a frame in it that is larger than any can be").into());
        }
        self.context.cancel.check()?;
        self.context.blobs.read_pack(&frame.pack, from, length_bytes, into)?;
        add(&self.context.tally.bytes_fetched, length_bytes);
        add(&self.context.tally.requests, 1);
        if into.len() as u64 == length_bytes {
            Ok(())
        } else {
            Err(Damage::new(format_args!("data/{}", frame.pack), "it is shorter than the index says").into())
        }
    }

    fn frame(&mut self, window: &Window<S>, frame: &Frame, stored: &[u8]) {
        if self.context.stopped() {
            return self.lose(window, frame, "");
        }
        let mut plain = std::mem::take(&mut self.plain);
        match self.context.blobs.open_frame(BlobKind::Data, &frame.location, stored, &mut plain) {
            Ok(()) => self.write(window, frame, &plain),
            Err(error) => self.lose_to(window, frame, error),
        }
        self.plain = plain;
    }

    /// Writes every piece that is in a frame. Each blob is held against its id once, before anything of it is written.
    fn write(&mut self, window: &Window<S>, frame: &Frame, plain: &[u8]) {
        let mut done_bytes = 0;
        let mut verified: Option<(&Piece, Option<&[u8]>)> = None;
        for piece in window.pieces.get(frame.pieces.clone()).unwrap_or_default() {
            let bytes = match verified {
                Some((last, bytes)) if last.is_same_blob(piece) => bytes,
                _ => self.verify(piece, plain),
            };
            verified = Some((piece, bytes));
            if let Some(bytes) = bytes {
                done_bytes += u64::from(piece.length_bytes);
                self.piece(window, piece, bytes);
            } else {
                let object = format!("data blob {}", piece.blob);
                let reason = format!("something else is in its place in pack {}", frame.location.pack);
                self.lose_pieces(window, std::slice::from_ref(piece), &Damage::new(object, reason).to_string());
            }
        }
        self.context.progress.done(0, done_bytes);
    }

    /// Writes one piece, whose bytes are known to be the right ones.
    fn piece(&mut self, window: &Window<S>, piece: &Piece, bytes: &[u8]) {
        let Some(file) = window.files.get(piece.file as usize) else { return };
        if u64::from(piece.length_bytes) != file.size_bytes || file.method() == Method::InPlace {
            return self.write_piece(file, piece, bytes);
        }
        // The planner is done with a file before any task with its last piece is given out.
        let last = file.release();
        debug_assert!(last, "a file's only piece is its last");
        if self.context.stopped() {
            file.finish(self.context, None);
        } else {
            file.write_whole(self.context, bytes);
        }
    }

    /// The bytes of a blob, if they are the ones that were asked for.
    fn verify<'b>(&self, piece: &Piece, plain: &'b [u8]) -> Option<&'b [u8]> {
        let bytes = plain.get(piece.blob_offset_bytes as usize..)?.get(..piece.length_bytes as usize)?;
        (self.context.blobs.blob_id(BlobKind::Data, bytes) == piece.blob).then_some(bytes)
    }

    fn write_piece(&mut self, file: &Arc<File<S>>, piece: &Piece, bytes: &[u8]) {
        if !file.has_failed() && !self.context.stopped() {
            let context = self.context;
            let written = self.open(file).and_then(|open| context.sink.write_at(open, piece.offset_bytes, bytes));
            match written {
                Ok(()) => add(&self.context.tally.bytes_written, bytes.len() as u64),
                Err(error) => file.fail_in_sink(self.context, error),
            }
        }
        self.release(file);
    }

    fn hole(&mut self, window: &Window<S>, index: usize) {
        let Some(hole) = window.holes.get(index) else { return };
        let Some(file) = window.files.get(hole.file as usize) else { return };
        if !file.has_failed() && !self.context.stopped() {
            let context = self.context;
            let made =
                self.open(file).and_then(|open| context.sink.make_hole(open, hole.offset_bytes, hole.length_bytes));
            if let Err(error) = made {
                file.fail_in_sink(self.context, error);
            }
        }
        self.context.progress.done(0, hole.length_bytes);
        self.release(file);
    }

    /// The file, open for writing.
    fn open(&mut self, file: &Arc<File<S>>) -> Result<&S::File, SinkError> {
        let open = if let Some(position) = self.open.iter().position(|(open, _)| Arc::ptr_eq(open, file)) {
            self.open.remove(position)
        } else {
            if self.open.len() >= OPEN_FILES {
                self.open.remove(0);
            }
            (Arc::clone(file), file.open(self.context)?)
        };
        self.open.push(open);
        Ok(&self.open.last().expect("it was put there just now").1)
    }

    /// One piece of the file is done with; whoever does the last one finishes it.
    fn release(&mut self, file: &Arc<File<S>>) {
        if file.release() {
            let position = self.open.iter().position(|(open, _)| Arc::ptr_eq(open, file));
            let open = position.map(|position| self.open.remove(position).1);
            file.finish(self.context, open);
        }
    }

    /// A frame cannot be had.
    fn lose_to(&mut self, window: &Window<S>, frame: &Frame, error: Error) {
        match self.context.give_up_on(error) {
            Ok(()) => self.lose(window, frame, ""),
            Err(error) => self.lose(window, frame, &error.chain()),
        }
    }

    fn lose(&mut self, window: &Window<S>, frame: &Frame, reason: &str) {
        self.lose_pieces(window, window.pieces.get(frame.pieces.clone()).unwrap_or_default(), reason);
    }

    /// Pieces cannot be had from where they were looked for. The repository may have other copies of their blobs; those
    /// that come from nowhere fail their files.
    fn lose_pieces(&mut self, window: &Window<S>, pieces: &[Piece], reason: &str) {
        let mut copy = Vec::new();
        let mut found: Option<(&Piece, bool)> = None;
        for piece in pieces {
            let is_there = match found {
                Some((last, is_there)) if last.is_same_blob(piece) => is_there,
                _ => self.find_copy(piece, &mut copy),
            };
            found = Some((piece, is_there));
            if is_there {
                self.piece(window, piece, &copy);
            } else if let Some(file) = window.files.get(piece.file as usize) {
                if !self.context.stopped() {
                    file.fail(reason);
                }
                self.release(file);
            }
        }
        self.context.progress.done(0, pieces.iter().map(|piece| u64::from(piece.length_bytes)).sum());
    }

    /// Whether a blob could be read some other way.
    fn find_copy(&self, piece: &Piece, into: &mut Vec<u8>) -> bool {
        if self.context.stopped() {
            return false;
        }
        match self.context.blobs.read_blob(BlobKind::Data, &piece.blob, into) {
            Ok(()) => {
                into.len() == piece.length_bytes as usize
                    && self.context.blobs.blob_id(BlobKind::Data, into) == piece.blob
            }
            Err(error) => {
                // What went wrong with the first copy is told; only what concerns everything is news.
                let _ = self.context.give_up_on(error);
                false
            }
        }
    }
}

impl Piece {
    /// Whether it is the same blob in the same place, so that the bytes need no second look.
    fn is_same_blob(&self, other: &Self) -> bool {
        self.blob == other.blob
            && self.blob_offset_bytes == other.blob_offset_bytes
            && self.length_bytes == other.length_bytes
    }
}

/// The path of the first file that a frame holds a piece of.
fn window_path<S: Sink>(window: &Window<S>, frame: &Frame) -> Vec<u8> {
    let piece = window.pieces.get(frame.pieces.start);
    piece.and_then(|piece| window.files.get(piece.file as usize)).map(|file| file.path()).unwrap_or_default()
}
