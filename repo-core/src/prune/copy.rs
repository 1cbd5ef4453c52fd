//! Moving what is needed out of packs that go.

use crate::{
    blob::{BlobKind, BlobLocation, FrameLocation},
    error::{Damage, Error, Result, StoreErrorKind},
    id::PackId,
    pack::{
        builder::PackedFrame,
        directory::PackBlob,
        reader::{PackSummary, open_pack_frame, read_directory, unseal_pack_frame},
    },
    parallel::{for_each, for_each_with},
    progress::{Cancel, Progress},
    prune::{
        live::Live,
        plan::{FrameFate, Victim},
    },
    repository::{Repository, frames::FrameWriter, session::Session},
    store::{ByteRange, ObjectName, Place},
};

/// What moving needs to know.
pub(super) struct Mover<'a> {
    pub(super) repository: &'a Repository,
    pub(super) session: &'a Session,
    pub(super) live: &'a Live,
    pub(super) threads: usize,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
}

impl Mover<'_> {
    /// Moves what is needed out of these packs, as their frames' fates say, and leaves it in the session, which does not count on them
    /// any more. Each thread holds a few frames.
    ///
    /// # Errors
    /// When a pack cannot be read, or the store fails; nothing is lost then.
    pub(super) fn move_packs(&self, victims: &[&Victim]) -> Result<()> {
        for_each_with(
            victims,
            self.threads,
            || Work::new(self.session),
            |work, victim| {
                self.cancel.check()?;
                self.move_pack(victim, work)?;
                self.progress.done(1, victim.size_bytes);
                Ok(())
            },
            Work::flush,
        )
    }

    fn move_pack(&self, victim: &Victim, work: &mut Work<'_>) -> Result<()> {
        let pack = victim.pack;
        let summary = match read_directory(self.repository.store(), self.repository.keys(), pack, victim.size_bytes) {
            // Somebody else has pruned it; whether anything is missed now, the check after the mark tells.
            Err(error) if is_gone(&error) => return Ok(()),
            summary => summary?,
        };
        let mut frames: Vec<_> = summary.directory.locations(pack).zip(&victim.frames).collect();
        // Frames that are moved as they are come first: what is in them need not be taken out of the others. The other way round it would be
        // there twice, and the next prune would do all of it again.
        frames.sort_by_key(|(_, fate)| **fate != FrameFate::Whole);
        let mut left = frames.as_slice();
        while let Some(((first, _), fate)) = left.first() {
            let (group, rest) = left.split_at(group_length(left));
            left = rest;
            if **fate == FrameFate::Drop {
                continue;
            }
            let length_bytes = group.iter().map(|((frame, _), _)| u64::from(frame.stored_bytes)).sum();
            let range = ByteRange::Exact { offset_bytes: first.offset_bytes.into(), length_bytes };
            let mut stored = std::mem::take(&mut work.stored);
            match self.repository.store().get(&ObjectName::new(Place::Data, pack), range, &mut stored) {
                Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(()),
                result => result?,
            }
            for ((frame, blobs), fate) in group {
                let start = (frame.offset_bytes - first.offset_bytes) as usize;
                let sealed = stored.get(start..start + frame.stored_bytes as usize).unwrap_or_default();
                self.move_frame(&summary, frame, blobs, **fate, sealed, work)?;
            }
            work.stored = stored;
        }
        Ok(())
    }

    fn move_frame(
        &self,
        summary: &PackSummary,
        frame: &FrameLocation,
        blobs: &[PackBlob],
        fate: FrameFate,
        sealed: &[u8],
        work: &mut Work<'_>,
    ) -> Result<()> {
        let (keys, kind) = (self.repository.keys(), summary.kind);
        // A copy elsewhere, or one that another thread has just moved, makes this one needless.
        let needed: Vec<bool> =
            blobs.iter().map(|blob| self.live.contains(kind, &blob.id) && self.session.claim(kind, &blob.id)).collect();
        if !needed.contains(&true) {
            return Ok(());
        }
        if fate == FrameFate::Whole {
            unseal_pack_frame(keys, kind, &summary.key, frame, sealed, &mut work.frame)?;
            let packed = &work.frame;
            return self.session.store_packed(
                kind,
                PackedFrame {
                    packed,
                    compression: frame.compression,
                    plain_bytes: frame.plain_bytes,
                    blobs: blobs.to_vec(),
                },
            );
        }
        let mut opened = std::mem::take(&mut work.frame);
        open_pack_frame(keys, kind, &summary.key, frame, sealed, &mut opened)?;
        let mut offset_bytes = 0;
        for (blob, is_needed) in blobs.iter().zip(needed) {
            let location = BlobLocation { frame: *frame, offset_bytes, length_bytes: blob.length_bytes };
            offset_bytes += blob.length_bytes;
            if is_needed {
                let plain = bytes_of(&location, &opened);
                if keys.blob_id(kind, plain) != blob.id {
                    let reason = format!("what it says to be {kind} blob {} is another blob", blob.id);
                    return Err(Damage::new(ObjectName::new(Place::Data, frame.pack), reason).into());
                }
                work.writer(kind).add(blob.id, plain)?;
            }
        }
        work.frame = opened;
        Ok(())
    }

    /// Reads packs that were just stored, whole, and holds them against their names, which are the hashes of what was sealed.
    ///
    /// # Errors
    /// When one is not what was stored: then nothing may be deleted that relies on it.
    pub(super) fn read_back(&self, packs: &[PackId]) -> Result<()> {
        for_each(packs, self.threads, |pack| {
            self.cancel.check()?;
            self.repository.read_back(&ObjectName::new(Place::Data, *pack))
        })
    }
}

/// Most stored bytes of frames that are read at once.
const GROUP_BYTES: u32 = 4 << 20;

/// How many frames, from the first one on, are read at once: those that are moved and lie side by side, or one that is not.
fn group_length(frames: &[((FrameLocation, &[PackBlob]), &FrameFate)]) -> usize {
    let mut bytes = 0_u32;
    let mut end_bytes = frames.first().map(|((frame, _), _)| frame.offset_bytes);
    let fits = frames.iter().take_while(|((frame, _), fate)| {
        bytes = bytes.saturating_add(frame.stored_bytes);
        let is_next = end_bytes == Some(frame.offset_bytes);
        end_bytes = frame.offset_bytes.checked_add(frame.stored_bytes);
        is_next && **fate != FrameFate::Drop && bytes <= GROUP_BYTES
    });
    fits.count().max(1)
}

fn is_gone(error: &Error) -> bool {
    error.store_kind() == Some(StoreErrorKind::NotFound)
}

/// One thread's buffers.
struct Work<'a> {
    stored: Vec<u8>,
    frame: Vec<u8>,
    /// For data and for trees.
    writers: [FrameWriter<'a>; 2],
}

impl<'a> Work<'a> {
    fn new(session: &'a Session) -> Self {
        let writers = [session.frame_writer(BlobKind::Data), session.frame_writer(BlobKind::Tree)];
        Self { stored: Vec::new(), frame: Vec::new(), writers }
    }

    fn writer(&mut self, kind: BlobKind) -> &mut FrameWriter<'a> {
        let [data, tree] = &mut self.writers;
        match kind {
            BlobKind::Data => data,
            BlobKind::Tree => tree,
        }
    }

    fn flush(mut self) -> Result<()> {
        self.writers.iter_mut().try_for_each(FrameWriter::flush)
    }
}

fn bytes_of<'a>(location: &BlobLocation, frame: &'a [u8]) -> &'a [u8] {
    let start = location.offset_bytes as usize;
    frame.get(start..start + location.length_bytes as usize).unwrap_or_default()
}
