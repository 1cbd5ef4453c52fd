//! Storing again what lies only in packs that do not count.

use std::sync::Arc;

use crate::{
    blob::{BlobLocation, ReadFrames},
    error::{Error, Result},
    prune::{
        cover::Uncovered,
        engine::{Engine, TREE_CACHE_BYTES},
    },
    repository::reader::BlobReader,
};

impl Engine<'_> {
    /// Stores again what lies only in packs that do not count.
    pub(super) fn rescue(&self) -> Result<()> {
        let before = BlobReader::new(Arc::clone(self.repository), Arc::clone(self.live.index()), TREE_CACHE_BYTES);
        let now = BlobReader::new(Arc::clone(self.repository), Arc::clone(&self.index), TREE_CACHE_BYTES);
        for blob in &self.missing {
            self.cancel.check()?;
            let tries = blob.copies.iter().flat_map(|copy| [(copy, &now), (copy, &before)]);
            for (copy, reader) in tries {
                match self.rescue_copy(reader, blob, copy) {
                    Ok(true) => break,
                    // Its pack has vanished since; where no copy can be read, the next look tells.
                    Err(error) if !error.is_damage() && !matches!(error, Error::Invalid(_)) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn rescue_copy(&self, reader: &BlobReader, blob: &Uncovered, copy: &BlobLocation) -> Result<bool> {
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        let frame = &copy.frame;
        reader.read_pack(&frame.pack, frame.offset_bytes.into(), frame.stored_bytes.into(), &mut stored)?;
        reader.open_frame(blob.kind, frame, &stored, &mut plain)?;
        let start = copy.offset_bytes as usize;
        let bytes = plain.get(start..start.saturating_add(copy.length_bytes as usize)).unwrap_or_default();
        let id = reader.blob_id(blob.kind, bytes);
        if !blob.prefix.begins(&id) {
            return Ok(false);
        }
        if self.session.claim(blob.kind, &id) {
            let mut writer = self.session.frame_writer(blob.kind);
            writer.add(id, bytes)?;
            writer.flush()?;
        }
        Ok(true)
    }
}
