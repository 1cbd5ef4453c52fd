//! Checkpoints: claims of a session that goes on.
//!
//! A checkpoint is a snapshot body that nobody seals. From the moment it is there, a prune takes what it names for needed, and the next
//! session of the same kind finds in it what this one has finished (`docs/protocol.md`, "Resuming").

use serde::Serialize;

use crate::{
    crypto::keys::ObjectKind,
    error::Result,
    id::SnapshotId,
    repository::session::Session,
    store::{ObjectName, Place},
};

impl Session {
    /// Makes durable what was stored so far, and claims it by putting `body`, while other threads go on storing. What `body` refers to
    /// must have been handed to the session, and flushed by the owners of the frame writers it went through.
    ///
    /// `None` if `goes_on` says between two steps that nobody wants it any more, or if something it refers to was pruned before it was
    /// there: then it is taken back, since a prune that cannot read all of a body deletes nothing. The session notices at its commit
    /// what was pruned.
    ///
    /// # Errors
    /// When the store fails. What can no longer be committed then, the session says itself.
    pub fn checkpoint<T: Serialize>(&self, body: &T, goes_on: &dyn Fn() -> bool) -> Result<Option<SnapshotId>> {
        self.flush()?;
        self.put_interim_index()?;
        if !goes_on() {
            return Ok(None);
        }
        let needed = self.needed_packs();
        let repository = self.repository();
        let body: SnapshotId = repository.save(Place::Snapshots, ObjectKind::Snapshot, body)?.into();
        self.wait_until_visible();
        // As in the commit: marks before packs, both after the claim.
        let condemned = repository.notes()?.condemned();
        let (present, _) = self.list_needed(&needed)?;
        if needed.iter().all(|pack| present.contains(pack) && !condemned.contains(pack)) {
            return Ok(Some(body));
        }
        self.remove_checkpoint(&body);
        Ok(None)
    }

    /// Deletes a checkpoint of this session that another body has superseded; whether the store allowed it. One that stays expires.
    pub fn remove_checkpoint(&self, body: &SnapshotId) -> bool {
        self.repository().store().delete(&ObjectName::new(Place::Snapshots, *body)).is_ok()
    }
}
