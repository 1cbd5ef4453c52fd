//! Copying data: frame by frame, in the order of the packs.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use crate::{
    blob::{BlobKind, BlobLocation, FrameLocation, ReadBlobs, ReadFrames},
    compress::decompress,
    error::{Damage, Error, Result},
    id::{BlobId, PackId},
    pack::{
        builder::PackedFrame,
        directory::PackBlob,
        reader::{PackKey, unseal_pack_frame},
    },
    parallel::for_each_with,
    progress::{Cancel, Progress},
    repository::{frames::FrameWriter, reader::BlobReader, session::Session},
    store::{ObjectName, Place},
};

/// Blobs of the source, and what they are called in the destination.
pub(super) type Names = HashMap<BlobId, BlobId>;

/// Most stored bytes that are fetched with one request.
const REQUEST_BYTES: u32 = 8 << 20;
/// Bytes between two frames that are fetched along rather than asked for with a request of their own.
const GAP_BYTES: u32 = 256 << 10;
/// Requests after which what was stored is made known, so that a run that is killed then has not worked in vain.
const REQUESTS_PER_RUN: usize = 512;

/// What copying data needs to know.
pub(super) struct DataCopier<'a> {
    pub(super) reader: &'a BlobReader,
    pub(super) session: &'a Session,
    pub(super) keys: &'a HashMap<PackId, PackKey>,
    pub(super) threads: usize,
    /// Compress anew, even where a whole frame could be taken over as it is.
    pub(super) compress: bool,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
}

/// A blob that is wanted, and where it is.
type Wanted = (BlobLocation, BlobId);

impl DataCopier<'_> {
    /// Stores these blobs of the source, and notes their names in the destination. Each thread holds what it fetched, and two frames.
    ///
    /// # Errors
    /// When one is damaged or missing in the source, or a store fails. The session must not commit anything then: blobs that it
    /// takes for stored may be lost.
    pub(super) fn copy(&self, wanted: &HashMap<BlobId, u32>, names: &mut Names) -> Result<()> {
        let mut blobs = Vec::with_capacity(wanted.len());
        for (id, length_bytes) in wanted {
            let missing = || Error::MissingBlob { kind: BlobKind::Data, id: *id };
            let location = self.reader.locate(BlobKind::Data, id)?.ok_or_else(missing)?;
            if location.length_bytes != *length_bytes {
                let reason = format!("it has {} bytes, and {length_bytes} as a piece of a file", location.length_bytes);
                return Err(Damage::new(format_args!("data blob {id}"), reason).into());
            }
            blobs.push((location, *id));
        }
        blobs.sort_unstable_by_key(|(location, _)| (location.frame, location.offset_bytes));
        let found_bytes = blobs.iter().map(|(location, _)| u64::from(location.length_bytes)).sum();
        self.progress.found(0, found_bytes);
        let requests = requests(&blobs);
        let found = Mutex::new(names);
        for some in requests.chunks(REQUESTS_PER_RUN) {
            for_each_with(
                some,
                self.threads,
                || Work::new(self.session),
                |work, range| {
                    self.cancel.check()?;
                    self.request(blobs.get(range.clone()).unwrap_or_default(), work)
                },
                |mut work| {
                    work.writer.flush()?;
                    found.lock().unwrap_or_else(PoisonError::into_inner).extend(work.names);
                    Ok(())
                },
            )?;
            if some.len() == REQUESTS_PER_RUN {
                self.session.put_interim_index()?;
            }
        }
        Ok(())
    }

    /// Fetches what lies side by side, and copies what is wanted of it.
    fn request(&self, blobs: &[Wanted], work: &mut Work<'_>) -> Result<()> {
        let (Some((first, _)), Some((last, _))) = (blobs.first(), blobs.last()) else { return Ok(()) };
        let start_bytes = first.frame.offset_bytes;
        let end_bytes = last.frame.offset_bytes.saturating_add(last.frame.stored_bytes);
        let mut fetched = std::mem::take(&mut work.fetched);
        let length_bytes = u64::from(end_bytes.saturating_sub(start_bytes));
        let read = self.reader.read_pack(&first.frame.pack, start_bytes.into(), length_bytes, &mut fetched);
        for some in blobs.chunk_by(|(a, _), (b, _)| a.frame == b.frame) {
            let Some((location, _)) = some.first() else { continue };
            let from = location.frame.offset_bytes.saturating_sub(start_bytes) as usize;
            let end = from.saturating_add(location.frame.stored_bytes as usize);
            let stored = fetched.get(from..end).unwrap_or_default();
            let opened = match &read {
                Ok(()) => self.open(&location.frame, stored, work).and_then(|()| self.frame(some, work)),
                Err(_) => Ok(false),
            };
            match opened {
                Ok(true) => {}
                Ok(false) => self.one_by_one(some, work)?,
                Err(error) if error.is_damage() || error.is_newer() => self.one_by_one(some, work)?,
                Err(error) => return Err(error),
            }
            self.progress.done(0, some.iter().map(|(location, _)| u64::from(location.length_bytes)).sum());
        }
        work.fetched = fetched;
        Ok(())
    }

    /// Opens a frame, and keeps it packed, too.
    fn open(&self, frame: &FrameLocation, stored: &[u8], work: &mut Work<'_>) -> Result<()> {
        let Some(key) = self.keys.get(&frame.pack) else {
            work.packed.clear();
            return self.reader.open_frame(BlobKind::Data, frame, stored, &mut work.plain);
        };
        let keys = self.reader.repository().keys();
        unseal_pack_frame(keys, BlobKind::Data, key, frame, stored, &mut work.packed)?;
        decompress(frame.compression, &work.packed, frame.plain_bytes as usize, &mut work.plain)
            .map_err(|reason| frame_damage(frame, reason).into())
    }

    /// Copies what is wanted of an opened frame. `false`, with nothing done, if it does not hold what it should.
    fn frame(&self, wanted: &[Wanted], work: &mut Work<'_>) -> Result<bool> {
        let from = self.reader.repository().keys();
        let into = self.session.repository().keys();
        let mut blobs = Vec::with_capacity(wanted.len());
        for (location, id) in wanted {
            let plain = bytes_of(location, &work.plain);
            if from.blob_id(BlobKind::Data, plain) != *id {
                return Ok(false);
            }
            let new = into.blob_id(BlobKind::Data, plain);
            blobs.push(PackBlob { id: new, length_bytes: location.length_bytes });
            work.names.push((*id, new));
        }
        let is_new: Vec<bool> = blobs.iter().map(|blob| self.session.claim(BlobKind::Data, &blob.id)).collect();
        if !self.compress && is_new.iter().all(|is_new| *is_new) && is_whole(wanted) && !work.packed.is_empty() {
            let Some((location, _)) = wanted.first() else { return Ok(true) };
            let (compression, plain_bytes) = (location.frame.compression, location.frame.plain_bytes);
            let frame = PackedFrame { packed: &work.packed, compression, plain_bytes, blobs };
            self.session.store_packed(BlobKind::Data, frame)?;
            return Ok(true);
        }
        for (((location, _), blob), is_new) in wanted.iter().zip(&blobs).zip(is_new) {
            if is_new {
                work.writer.add(blob.id, bytes_of(location, &work.plain))?;
            }
        }
        Ok(true)
    }

    /// Looks for each blob wherever there is a copy of it.
    fn one_by_one(&self, wanted: &[Wanted], work: &mut Work<'_>) -> Result<()> {
        for (_, id) in wanted {
            self.reader.read_blob(BlobKind::Data, id, &mut work.plain)?;
            let new = self.session.repository().keys().blob_id(BlobKind::Data, &work.plain);
            if self.session.claim(BlobKind::Data, &new) {
                work.writer.add(new, &work.plain)?;
            }
            work.names.push((*id, new));
        }
        Ok(())
    }
}

/// What is fetched together: frames of one pack that lie side by side.
fn requests(blobs: &[Wanted]) -> Vec<Range<usize>> {
    let mut requests: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for (number, pair) in blobs.windows(2).enumerate() {
        let [(a, _), (b, _)] = pair else { continue };
        let first = blobs.get(start).map_or(a, |(first, _)| first);
        let end_bytes =
            |location: &BlobLocation| location.frame.offset_bytes.saturating_add(location.frame.stored_bytes);
        let follows = a.frame.pack == b.frame.pack
            && (a.frame.offset_bytes..=end_bytes(a).saturating_add(GAP_BYTES)).contains(&b.frame.offset_bytes)
            && end_bytes(b) <= first.frame.offset_bytes.saturating_add(REQUEST_BYTES);
        if a.frame != b.frame && !follows {
            requests.push(start..number + 1);
            start = number + 1;
        }
    }
    if start < blobs.len() {
        requests.push(start..blobs.len());
    }
    requests
}

/// Whether these blobs are all that the frame holds.
fn is_whole(wanted: &[Wanted]) -> bool {
    let mut end_bytes = 0;
    for (location, _) in wanted {
        if location.offset_bytes != end_bytes {
            return false;
        }
        end_bytes = end_bytes.saturating_add(location.length_bytes);
    }
    wanted.first().is_some_and(|(location, _)| location.frame.plain_bytes == end_bytes)
}

/// One thread's buffers.
struct Work<'a> {
    fetched: Vec<u8>,
    packed: Vec<u8>,
    plain: Vec<u8>,
    writer: FrameWriter<'a>,
    names: Vec<(BlobId, BlobId)>,
}

impl<'a> Work<'a> {
    fn new(session: &'a Session) -> Self {
        Self {
            fetched: Vec::new(),
            packed: Vec::new(),
            plain: Vec::new(),
            writer: session.frame_writer(BlobKind::Data),
            names: Vec::new(),
        }
    }
}

fn bytes_of<'a>(location: &BlobLocation, frame: &'a [u8]) -> &'a [u8] {
    let start = location.offset_bytes as usize;
    frame.get(start..start.saturating_add(location.length_bytes as usize)).unwrap_or_default()
}

fn frame_damage(frame: &FrameLocation, reason: impl std::fmt::Display) -> Damage {
    let name = ObjectName::new(Place::Data, frame.pack);
    Damage::new(name, format_args!("frame {} at byte {}: {reason}", frame.ordinal, frame.offset_bytes))
}
