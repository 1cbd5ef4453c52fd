//! A window of the plan: so many files and pieces as fit a fixed amount of memory, and the frames they are in.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::{compare, context::Context, file::File, queue::Task, report::add};
use crate::{
    blob::{BlobKind, FrameLocation},
    error::{Damage, Error},
    id::{BlobId, PackId},
    limits,
    sink::Sink,
};

/// Most bytes of a pack that are read at once.
const READ_BYTES: u64 = 4 << 20;

/// Longest part of a pack that nobody wants and that is read all the same, to save a request.
const GAP_BYTES: u64 = 256 << 10;

/// Files that have no content to fetch, for one thread at a time.
const FILES_PER_TASK: usize = 64;

/// What a file takes in the plan besides its name and attributes, about.
const FILE_BYTES: usize = 320;

/// A part of a file that is one blob.
pub(super) struct Piece {
    pub(super) blob: BlobId,
    /// Which file of the window.
    pub(super) file: u32,
    /// Which frame of the window.
    frame: u32,
    /// Where in the file.
    pub(super) offset_bytes: u64,
    /// Where in the frame.
    pub(super) blob_offset_bytes: u32,
    pub(super) length_bytes: u32,
    /// The target has these bytes already.
    pub(super) is_there: bool,
}

/// A hole of a file that is there already.
pub(super) struct Hole {
    pub(super) file: u32,
    pub(super) offset_bytes: u64,
    pub(super) length_bytes: u64,
    /// The target has a hole there already.
    pub(super) is_there: bool,
}

/// A frame and the pieces that are in it.
pub(super) struct Frame {
    pub(super) location: FrameLocation,
    pub(super) pieces: Range<usize>,
}

/// A part of the plan, ready to be carried out.
pub(super) struct Window<S: Sink> {
    pub(super) files: Vec<Arc<File<S>>>,
    /// Sorted by frame and by place in it.
    pub(super) pieces: Vec<Piece>,
    pub(super) holes: Vec<Hole>,
    /// Sorted by pack, in the order the packs are needed first, and by place in it.
    pub(super) frames: Vec<Frame>,
    /// Files of which this window holds the last pieces.
    complete: Vec<u32>,
    /// In a dry run, frames of files of which not even the directory is there.
    foreseen: Vec<FrameLocation>,
    memory_bytes: usize,
}

impl<S: Sink> Default for Window<S> {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            pieces: Vec::new(),
            holes: Vec::new(),
            frames: Vec::new(),
            complete: Vec::new(),
            foreseen: Vec::new(),
            memory_bytes: 0,
        }
    }
}

impl<S: Sink> Window<S> {
    /// Adds a file; its pieces follow.
    pub(super) fn add_file(&mut self, file: Arc<File<S>>) {
        let xattrs: usize = file.attributes.xattrs.iter().map(|x| 64 + x.value.as_bytes().len()).sum();
        self.memory_bytes += FILE_BYTES + file.name.as_bytes().len() + xattrs;
        self.files.push(file);
    }

    fn last_file(&self) -> u32 {
        u32::try_from(self.files.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Adds a piece of the file added last.
    pub(super) fn add_piece(&mut self, blob: BlobId, offset_bytes: u64, length_bytes: u32) {
        self.memory_bytes += size_of::<Piece>();
        let file = self.last_file();
        let piece = Piece { blob, file, frame: 0, offset_bytes, blob_offset_bytes: 0, length_bytes, is_there: false };
        self.pieces.push(piece);
    }

    /// Notes for a dry run that a frame would be read.
    pub(super) fn foresee(&mut self, frame: FrameLocation) {
        if self.foreseen.last() != Some(&frame) {
            self.memory_bytes += size_of::<FrameLocation>();
            self.foreseen.push(frame);
        }
    }

    /// Tells of a dry run what would be read.
    fn foresee_reads(&self, context: &Context<'_, S>) {
        let of_pieces = self.frames.iter().map(|frame| frame.location);
        let mut frames: Vec<_> =
            of_pieces.chain(self.foreseen.iter().copied()).map(|location| Frame { location, pieces: 0..0 }).collect();
        frames.sort_unstable_by_key(|frame| (frame.location.pack, frame.location.offset_bytes));
        frames.dedup_by_key(|frame| frame.location);
        for run in reads(&frames) {
            let run = frames.get(run).unwrap_or_default();
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                add(&context.tally.bytes_fetched, extent(&last.location).1 - extent(&first.location).0);
                add(&context.tally.requests, 1);
            }
        }
    }

    /// Adds a hole of the file added last, which is in the target already.
    pub(super) fn add_hole(&mut self, offset_bytes: u64, length_bytes: u64) {
        self.memory_bytes += size_of::<Hole>();
        let file = self.last_file();
        self.holes.push(Hole { file, offset_bytes, length_bytes, is_there: false });
    }

    /// The file added last has no pieces but those added.
    pub(super) fn end_file(&mut self) {
        let file = self.last_file();
        self.complete.push(file);
    }

    /// What the plan takes so far, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Finds out what is there already and where the rest is, and makes the tasks that bring it here.
    pub(super) fn prepare(mut self, context: &Context<'_, S>) -> (Arc<Self>, Vec<Task>) {
        compare::compare(context, &mut self);
        let files = &self.files;
        let file_of = |index: u32| files.get(index as usize);
        self.pieces.retain(|piece| !piece.is_there);
        self.holes.retain(|hole| !hole.is_there);
        self.frames = locate(context, files, &mut self.pieces);
        let mut tasks = Vec::new();
        if context.options.dry_run {
            let bytes = self.pieces.iter().map(|piece| u64::from(piece.length_bytes)).sum();
            add(&context.tally.bytes_written, bytes);
            context.progress.done(0, bytes);
            self.foresee_reads(context);
        } else {
            for piece in &self.pieces {
                file_of(piece.file).inspect(|file| file.hold());
            }
            for (index, hole) in self.holes.iter().enumerate() {
                file_of(hole.file).inspect(|file| file.hold());
                tasks.push(Task::Hole(index));
            }
            tasks.extend(reads(&self.frames).into_iter().map(Task::Frames));
        }
        let mut without_pieces = Vec::new();
        for index in std::mem::take(&mut self.complete) {
            if let Some(file) = self.files.get(index as usize)
                && file.release()
            {
                without_pieces.push(Arc::clone(file));
            }
        }
        if context.options.dry_run {
            for file in without_pieces.drain(..) {
                file.foretell(context);
            }
        }
        // Tasks name these by position, behind the files that pieces name.
        let first = self.files.len();
        self.files.append(&mut without_pieces);
        let end = self.files.len();
        tasks.extend((first..end).step_by(FILES_PER_TASK).map(|at| Task::Files(at..end.min(at + FILES_PER_TASK))));
        (Arc::new(self), tasks)
    }
}

/// Finds every piece, and returns the frames they are in; pieces are left sorted by frame. Pieces of files that cannot be
/// had completely are left out.
fn locate<S: Sink>(context: &Context<'_, S>, files: &[Arc<File<S>>], pieces: &mut Vec<Piece>) -> Vec<Frame> {
    let mut packs: HashMap<PackId, usize> = HashMap::new();
    let mut known: HashMap<(usize, u32), u32> = HashMap::new();
    let mut frames: Vec<(usize, FrameLocation)> = Vec::new();
    let mut last: Option<(FrameLocation, u32)> = None;
    for piece in pieces.iter_mut() {
        let Some(file) = files.get(piece.file as usize) else { continue };
        let missing = || Error::MissingBlob { kind: BlobKind::Data, id: piece.blob };
        let location =
            match context.blobs.locate(BlobKind::Data, &piece.blob).and_then(|found| found.ok_or_else(missing)) {
                Ok(location) => location,
                Err(error) => {
                    file.fail(error.chain());
                    if context.give_up_on(error).is_ok() {
                        break;
                    }
                    continue;
                }
            };
        if location.length_bytes != piece.length_bytes && !has_other_copy(context, piece) {
            file.fail(disagreement(piece, location.length_bytes).to_string());
            continue;
        }
        piece.blob_offset_bytes = location.offset_bytes;
        piece.frame = match last {
            Some((frame, index)) if frame == location.frame => index,
            _ => {
                let packs_known = packs.len();
                let pack = *packs.entry(location.frame.pack).or_insert(packs_known);
                *known.entry((pack, location.frame.ordinal)).or_insert_with(|| {
                    frames.push((pack, location.frame));
                    u32::try_from(frames.len() - 1).unwrap_or(u32::MAX)
                })
            }
        };
        last = Some((location.frame, piece.frame));
    }
    pieces.retain(|piece| files.get(piece.file as usize).is_some_and(|file| !file.has_failed()));

    let mut order: Vec<u32> = (0..u32::try_from(frames.len()).unwrap_or(u32::MAX)).collect();
    order.sort_unstable_by_key(|index| frames.get(*index as usize).map(|(pack, frame)| (*pack, frame.offset_bytes)));
    let mut place = vec![0_u32; frames.len()];
    for (position, index) in (0_u32..).zip(&order) {
        if let Some(place) = place.get_mut(*index as usize) {
            *place = position;
        }
    }
    for piece in pieces.iter_mut() {
        piece.frame = place.get(piece.frame as usize).copied().unwrap_or(0);
    }
    pieces.sort_unstable_by_key(|piece| (piece.frame, piece.blob_offset_bytes, piece.file, piece.offset_bytes));
    let mut at = 0;
    let mut found = Vec::with_capacity(frames.len());
    for (position, index) in (0_u32..).zip(&order) {
        let end = at + pieces.get(at..).unwrap_or_default().partition_point(|piece| piece.frame == position);
        if let Some((_, location)) = frames.get(*index as usize)
            && end > at
        {
            found.push(Frame { location: *location, pieces: at..end });
        }
        at = end;
    }
    found
}

/// Whether the blob can be had from elsewhere when what the index gives first has another length: that may be another blob, whose id
/// begins alike. The worker will find something else in its place, and read it as here.
fn has_other_copy<S: Sink>(context: &Context<'_, S>, piece: &Piece) -> bool {
    let mut bytes = Vec::new();
    context.blobs.read_blob(BlobKind::Data, &piece.blob, &mut bytes).is_ok()
        && bytes.len() == piece.length_bytes as usize
}

fn disagreement(piece: &Piece, length_bytes: u32) -> Damage {
    let reason = format!("a file takes it to have {} bytes, the index {length_bytes}", piece.length_bytes);
    Damage::new(format_args!("data blob {}", piece.blob), reason)
}

/// Cuts frames into runs that are read with one request each.
fn reads(frames: &[Frame]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut begin_bytes = 0;
    let mut last: Option<&FrameLocation> = None;
    for (index, frame) in frames.iter().enumerate() {
        let location = &frame.location;
        let (from, until) = extent(location);
        let joins = last.is_some_and(|last| {
            last.pack == location.pack
                && from.saturating_sub(extent(last).1) <= GAP_BYTES
                && from >= extent(last).1
                && until - begin_bytes <= READ_BYTES
        });
        match runs.last_mut() {
            Some(run) if joins => run.end = index + 1,
            _ => {
                begin_bytes = from;
                runs.push(index..index + 1);
            }
        }
        last = Some(location);
    }
    runs
}

/// First byte of a frame in its pack, and the first behind it.
pub(super) fn extent(frame: &FrameLocation) -> (u64, u64) {
    let from = u64::from(frame.offset_bytes);
    (from, from + u64::from(frame.stored_bytes))
}

/// Whether a frame can be as large as the index says.
pub(super) fn is_plausible(frame: &FrameLocation) -> bool {
    frame.stored_bytes as usize <= limits::FRAME_BYTES_MAX && frame.plain_bytes as usize <= limits::FRAME_BYTES_MAX
}
