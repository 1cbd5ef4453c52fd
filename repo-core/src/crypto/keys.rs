//! The master key and what is derived from it (`docs/format.md` section 3).

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    blob::BlobKind,
    id::{BlobId, RepositoryId},
    runtime::Runtime,
};

/// The key everything else is derived from. Lives in key slots, wrapped by passwords.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// A new one.
    pub fn generate(runtime: &dyn Runtime) -> Self {
        Self(runtime.random_32())
    }

    /// From the bytes of an opened slot.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be wrapped.
    pub(crate) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a stored object is; part of the derivation of its key, so that no object can take another's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// The repository's parameters.
    Config = 1,
    /// A wrapped master key. Not sealed by the master key; listed so that its header differs from the others'.
    KeySlot = 2,
    /// A pack of data blobs.
    DataPack = 3,
    /// A pack of tree blobs.
    TreePack = 4,
    /// An index run.
    Index = 5,
    /// A snapshot body.
    Snapshot = 6,
    /// A seal: the commit of one or several snapshot bodies.
    Seal = 7,
    /// Who works here.
    Session = 8,
    /// Packs condemned by a prune.
    Mark = 9,
    /// A tentative snapshot that is being removed.
    ExpireNote = 10,
    /// What was found out about the store.
    StoreReport = 11,
}

impl ObjectKind {
    /// The kind of pack for a kind of blob.
    #[must_use]
    pub const fn pack(kind: BlobKind) -> Self {
        match kind {
            BlobKind::Data => Self::DataPack,
            BlobKind::Tree => Self::TreePack,
        }
    }

    /// From the byte in a header.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Config,
            2 => Self::KeySlot,
            3 => Self::DataPack,
            4 => Self::TreePack,
            5 => Self::Index,
            6 => Self::Snapshot,
            7 => Self::Seal,
            8 => Self::Session,
            9 => Self::Mark,
            10 => Self::ExpireNote,
            11 => Self::StoreReport,
            _ => return None,
        })
    }
}

/// The key of one stored object.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ObjectKey([u8; 32]);

impl ObjectKey {
    pub(super) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key that was derived elsewhere: the wrapping key of a slot.
    pub(super) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[cfg(test)]
    pub(super) const fn for_test(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// All keys of an opened repository.
pub struct Keys {
    master: MasterKey,
    repository: RepositoryId,
    object: Zeroizing<[u8; 32]>,
    data_id: Zeroizing<[u8; 32]>,
    tree_id: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// Derives the subkeys.
    #[must_use]
    pub fn new(master: MasterKey, repository: RepositoryId) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, master.expose()));
        Self {
            object: derive("coffer 2026-11-21 v1 object key"),
            data_id: derive("coffer 2026-11-21 v1 data blob id"),
            tree_id: derive("coffer 2026-11-21 v1 tree blob id"),
            repository,
            master,
        }
    }

    /// The repository they belong to.
    #[must_use]
    pub const fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The master key, to be wrapped in another slot.
    pub(crate) const fn master(&self) -> &MasterKey {
        &self.master
    }

    /// The key of the object with this salt: keyed BLAKE3 of salt, repository id and kind under the object key.
    #[must_use]
    pub fn object_key(&self, kind: ObjectKind, salt: &[u8; 32]) -> ObjectKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.object);
        hasher.update(salt).update(&self.repository.0).update(&[kind as u8]);
        ObjectKey(*hasher.finalize().as_bytes())
    }

    /// The id of a blob: keyed BLAKE3 of its bytes, with a key for each kind.
    #[must_use]
    pub fn blob_id(&self, kind: BlobKind, plain: &[u8]) -> BlobId {
        let key = match kind {
            BlobKind::Data => &self.data_id,
            BlobKind::Tree => &self.tree_id,
        };
        BlobId(*blake3::keyed_hash(key, plain).as_bytes())
    }

    /// What the local cache's files are hashed with. Nothing that is stored depends on it.
    #[must_use]
    pub fn cache_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key("coffer 2026-11-21 v1 local cache", self.master.expose()))
    }

    /// 256 numbers for the chunker, from BLAKE3's extendable output, little-endian.
    #[must_use]
    pub fn gear_table(&self) -> Box<[u64; 256]> {
        let mut hasher = blake3::Hasher::new_derive_key("coffer 2026-11-21 v1 gear table");
        hasher.update(self.master.expose());
        let mut output = hasher.finalize_xof();
        let mut table = Box::new([0; 256]);
        for entry in table.iter_mut() {
            let mut bytes = [0; 8];
            output.fill(&mut bytes);
            *entry = u64::from_le_bytes(bytes);
        }
        table
    }
}
