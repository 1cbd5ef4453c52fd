//! What of a file that is in the target already needs no fetching.

use std::{
    mem,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::{
    context::Context,
    file::{File, Method},
    report::add,
    window::{Hole, Piece, Window},
};
use crate::{
    blob::BlobKind,
    limits,
    sink::{Sink, SinkError},
};

/// Files up to this size are replaced as a whole when anything in them differs, so that there is always either the old
/// or the new one. Larger ones are changed in place: that saves space and most of the writing.
pub(super) const WHOLE_BYTES_MAX: u64 = 16 << 20;

/// Pieces of a large file that are compared by one thread at a time.
const PIECES_PER_UNIT: usize = 256;

/// Consecutive pieces and holes of one file.
struct Unit<'a, S: Sink> {
    file: &'a Arc<File<S>>,
    pieces: &'a mut [Piece],
    holes: &'a mut [Hole],
}

/// Compares every file of the window that is there already, and decides how it will be changed.
pub(super) fn compare<S: Sink>(context: &Context<'_, S>, window: &mut Window<S>) {
    let Window { files, pieces, holes, .. } = window;
    if files.iter().all(|file| file.existing.is_none()) {
        return;
    }
    let units = Mutex::new(units(files, pieces, holes));
    thread::scope(|scope| {
        for _ in 0..context.options.thread_count() {
            scope.spawn(|| {
                let mut buffer = Vec::new();
                while !context.stopped() {
                    let unit = units.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(unit) = unit else { break };
                    compare_unit(context, unit, &mut buffer);
                }
            });
        }
    });
    decide(context, files, pieces, holes);
}

/// Cuts what is to be compared into units.
fn units<'a, S: Sink>(
    files: &'a [Arc<File<S>>],
    mut pieces: &'a mut [Piece],
    mut holes: &'a mut [Hole],
) -> Vec<Unit<'a, S>> {
    let mut units = Vec::new();
    for (index, file) in (0_u32..).zip(files) {
        let count = pieces.partition_point(|piece| piece.file <= index);
        let (mut own, rest) = mem::take(&mut pieces).split_at_mut(count);
        pieces = rest;
        let count = holes.partition_point(|hole| hole.file <= index);
        let (mut own_holes, rest) = mem::take(&mut holes).split_at_mut(count);
        holes = rest;
        if !wants_comparison(file) {
            continue;
        }
        while !own.is_empty() || !own_holes.is_empty() {
            let (first, rest) = own.split_at_mut(own.len().min(PIECES_PER_UNIT));
            own = rest;
            units.push(Unit { file, pieces: first, holes: mem::take(&mut own_holes) });
        }
    }
    units
}

/// Whether equal parts can save any work.
fn wants_comparison<S: Sink>(file: &File<S>) -> bool {
    file.existing.as_ref().is_some_and(|existing| {
        file.method() == Method::InPlace
            && (existing.size_bytes == file.size_bytes || file.size_bytes > WHOLE_BYTES_MAX)
    })
}

fn compare_unit<S: Sink>(context: &Context<'_, S>, unit: Unit<'_, S>, buffer: &mut Vec<u8>) {
    // A file that cannot be read is one that differs; if it cannot be replaced either, that will be told.
    let _ = mark_equal(context, unit, buffer);
}

fn mark_equal<S: Sink>(context: &Context<'_, S>, unit: Unit<'_, S>, buffer: &mut Vec<u8>) -> Result<(), SinkError> {
    let Some(existing) = &unit.file.existing else { return Ok(()) };
    let sink = context.sink;
    let file = sink.open(&unit.file.directory.handle, &unit.file.name, existing.identity, false)?;
    for piece in unit.pieces {
        if context.stopped() {
            break;
        }
        let length = (piece.length_bytes as usize).min(limits::BLOB_BYTES_MAX);
        buffer.resize(length, 0);
        piece.is_there = sink.read_at(&file, piece.offset_bytes, buffer)? == length
            && context.blobs.blob_id(BlobKind::Data, buffer) == piece.blob;
    }
    for hole in unit.holes {
        hole.is_there = hole.offset_bytes.saturating_add(hole.length_bytes) <= existing.size_bytes
            && sink.is_hole(&file, hole.offset_bytes, hole.length_bytes)?;
    }
    Ok(())
}

/// Chooses the method for every file that was compared, and counts what is there.
fn decide<S: Sink>(context: &Context<'_, S>, files: &[Arc<File<S>>], pieces: &mut [Piece], holes: &mut [Hole]) {
    let (mut pieces_at, mut holes_at) = (0, 0);
    for (index, file) in (0_u32..).zip(files) {
        let own = own_range(pieces, pieces_at, |piece| piece.file <= index);
        let own_holes = own_range(holes, holes_at, |hole| hole.file <= index);
        (pieces_at, holes_at) = (own.end, own_holes.end);
        if file.existing.is_none() || file.method() != Method::InPlace {
            continue;
        }
        let own = pieces.get_mut(own).unwrap_or_default();
        let own_holes = holes.get_mut(own_holes).unwrap_or_default();
        let equal = own.iter().all(|piece| piece.is_there) && own_holes.iter().all(|hole| hole.is_there);
        if !equal {
            file.set_differs();
        }
        let there: u64 = own.iter().filter(|piece| piece.is_there).map(|piece| u64::from(piece.length_bytes)).sum();
        let there = there + own_holes.iter().filter(|hole| hole.is_there).map(|hole| hole.length_bytes).sum::<u64>();
        if is_replaced(context, file) {
            file.set_method(Method::Staged { replace: true });
            for piece in own.iter_mut() {
                piece.is_there = false;
            }
            // A new file is all hole before anything is written to it.
            for hole in own_holes.iter_mut() {
                hole.is_there = true;
            }
            context.progress.done(0, own_holes.iter().map(|hole| hole.length_bytes).sum());
        } else {
            add(&context.tally.bytes_unchanged, there);
            context.progress.done(0, there);
        }
    }
}

fn own_range<T>(all: &[T], from: usize, is_own: impl Fn(&T) -> bool) -> Range<usize> {
    from..from + all.get(from..).unwrap_or_default().partition_point(is_own)
}

/// Whether a file that was to be changed in place is replaced after all: a small one that differs, and one with several
/// names, which is never changed, since the others may lie outside the target. How a large one is written was decided
/// before anything of it was compared, since its pieces may come in several windows.
fn is_replaced<S: Sink>(context: &Context<'_, S>, file: &File<S>) -> bool {
    let Some(existing) = &file.existing else { return false };
    if file.size_bytes > WHOLE_BYTES_MAX {
        return false;
    }
    let (sink, directory) = (context.sink, &file.directory.handle);
    file.differs()
        || existing.links > 1
            && !sink
                .open(directory, &file.name, existing.identity, false)
                .and_then(|open| sink.has_attributes(&open, &file.attributes))
                .unwrap_or(false)
}
