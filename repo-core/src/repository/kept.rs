//! Frames of tree packs in the local cache, and which to fetch beside one that is missing.
//!
//! Whoever wants one file reads a few frames here and there; whoever walks through a tree reads one after the other. So a frame is fetched
//! with what lies beside it and is not worth a request, and of those that lie beside what was fetched last, more are fetched each time.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    blob::FrameLocation,
    cache::Cache,
    id::PackId,
    index::lookup::{Located, Lookup},
};

/// Most stored bytes that are fetched with one request.
const FETCH_BYTES_MAX: u64 = 8 << 20;

/// So many bytes are fetched in any case, if there are frames to fill them: half of what a request costs far away. The directories from the root
/// down lie beside each other.
const TOGETHER_BYTES: u64 = 256 << 10;

/// Frames on each side that are thought of for that.
const TOGETHER_FRAMES: u32 = 16;

/// Frames that are thought of for one who walks.
const WALK_FRAMES: u32 = 1024;

/// A pack of at most so many bytes is fetched whole: a request for a part of it would take as long.
const WHOLE_PACK_BYTES: u32 = 1 << 20;

/// Frames of tree packs that are kept on this machine.
pub(super) struct KeptFrames {
    cache: Arc<Cache>,
    last: Mutex<Option<Fetched>>,
}

/// What was fetched last: frames of one pack, one behind the other.
#[derive(Clone, Copy)]
struct Fetched {
    pack: PackId,
    first: u32,
    end: u32,
    /// Most bytes to be fetched where one lies beside what was fetched before it. That may be by chance the first time, so that it begins small;
    /// who walks jumps now and then, too, and goes on with what it was.
    next_bytes: u64,
}

/// Which frames are wanted for one that is missing.
struct Wanted {
    frames: Range<u32>,
    /// Most stored bytes of them.
    bytes: u64,
    /// The same for the next one that lies beside what was fetched before it.
    next_bytes: u64,
}

impl KeptFrames {
    pub(super) fn new(cache: Arc<Cache>) -> Self {
        Self { cache, last: Mutex::default() }
    }

    /// A frame as stored, if it is here. It is not known yet whether it is what it should be.
    pub(super) fn get(&self, frame: &FrameLocation) -> Option<Vec<u8>> {
        self.cache.frame(&frame.pack, frame.ordinal, frame.stored_bytes)
    }

    pub(super) fn keep(&self, frame: &FrameLocation, stored: &[u8]) {
        self.cache.keep_frame(&frame.pack, frame.ordinal, stored);
    }

    /// Drops what did not open.
    pub(super) fn discard(&self, frame: &FrameLocation) {
        self.cache.drop_frame(&frame.pack, frame.ordinal);
    }

    /// Which frames of its pack are wanted for one that is missing: all of a small pack; those that somebody who walks will want next.
    fn wanted(&self, found: &Located, last: Option<Fetched>) -> Wanted {
        let frame = &found.location.frame;
        let behind = frame.ordinal.saturating_add(1);
        let next_bytes = last.map_or(TOGETHER_BYTES, |last| last.next_bytes);
        let alone = Wanted { frames: frame.ordinal..behind, bytes: FETCH_BYTES_MAX, next_bytes };
        if found.pack.size_bytes <= WHOLE_PACK_BYTES {
            return Wanted { frames: 0..u32::MAX, ..alone };
        }
        let frames = match last.filter(|last| last.pack == frame.pack && !self.cache.is_read_only()) {
            Some(last) if frame.ordinal == last.end => frame.ordinal..frame.ordinal.saturating_add(WALK_FRAMES),
            Some(last) if behind == last.first => behind.saturating_sub(WALK_FRAMES)..behind,
            _ => return alone,
        };
        Wanted { frames, bytes: next_bytes, next_bytes: (4 * next_bytes).min(FETCH_BYTES_MAX) }
    }

    /// The frames to be fetched for one that is missing, in their order, and the one among them. They lie close together.
    pub(super) fn to_fetch(&self, index: &Lookup, found: &Located) -> Vec<FrameLocation> {
        let frame = &found.location.frame;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.wanted(found, *last);
        // Where nothing can be kept, nothing is fetched beside it.
        let together = if self.cache.is_read_only() { 0 } else { TOGETHER_FRAMES };
        let around = frame.ordinal.saturating_sub(together)..frame.ordinal.saturating_add(together + 1);
        let range = wanted.frames.start.min(around.start)..wanted.frames.end.max(around.end);
        let mut frames = index.frames(found, range);
        let here = frames.iter().position(|other| other.ordinal == frame.ordinal);
        let Some(here) = here.filter(|position| frames.get(*position) == Some(frame)) else { return vec![*frame] };
        // Away from the one that is wanted on both sides, as far as they are missing, lie close together, and are not too much.
        let mut sum = u64::from(frame.stored_bytes);
        let mut is_taken = |before: &FrameLocation, behind: &FrameLocation, other: &FrameLocation| {
            let more = sum + u64::from(other.stored_bytes);
            let limit_bytes = if wanted.frames.contains(&other.ordinal) { wanted.bytes } else { TOGETHER_BYTES };
            let is_taken = more <= limit_bytes
                && before.offset_bytes.checked_add(before.stored_bytes) == Some(behind.offset_bytes)
                && !self.cache.has_frame(&other.pack, other.ordinal);
            if is_taken {
                sum = more;
            }
            is_taken
        };
        // First those before it: a directory is stored behind what is in it.
        let (mut from, mut to) = (here, here);
        while from > 0
            && let Some([before, behind]) = frames.get(from - 1..=from)
            && is_taken(before, behind, before)
        {
            from -= 1;
        }
        while let Some([before, behind]) = frames.get(to..to + 2)
            && is_taken(before, behind, behind)
        {
            to += 1;
        }
        frames.truncate(to + 1);
        frames.drain(..from);
        if let (Some(first), Some(end)) = (frames.first(), frames.last()) {
            let (first, end) = (first.ordinal, end.ordinal + 1);
            *last = Some(Fetched { pack: frame.pack, first, end, next_bytes: wanted.next_bytes });
        }
        frames
    }
}
