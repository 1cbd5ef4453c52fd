//! Key slots in the store: opening, listing, adding, removing.

use crate::{
    crypto::{
        kdf::KdfCost,
        keys::{Keys, MasterKey, ObjectKind},
        slot::{self, SLOT_BYTES, Slot, SlotError, SlotInfo},
    },
    envelope::header::{HEADER_BYTES, Header},
    error::{Damage, Error, Result, StoreErrorKind},
    id::KeyId,
    limits,
    pack::builder::object_id,
    repository::Repository,
    runtime::Runtime,
    store::{ByteRange, ObjectName, Place, Store},
};

/// A key slot as `key list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// Its name.
    pub id: KeyId,
    /// Whether the repository was opened with it.
    pub current: bool,
    /// Who made it and when; nothing where that part of the slot is damaged.
    pub info: Option<SlotInfo>,
}

/// Wraps the master key for a password and stores the slot.
pub(super) fn put_slot(
    store: &dyn Store,
    keys: &Keys,
    info: SlotInfo,
    password: &[u8],
    cost: KdfCost,
    runtime: &dyn Runtime,
) -> Result<KeyId> {
    let bytes = slot::wrap(keys, &info, password, cost, runtime).map_err(|error| Error::Invalid(error.to_string()))?;
    let opened = slot::unwrap(&bytes, password).map_err(|error| Damage::new("a new key", error))?;
    if opened.master.expose() != keys.master().expose() {
        return Err(Damage::new("a new key", "it does not open to what it was; the memory may be faulty").into());
    }
    let id = KeyId::from(object_id(&bytes));
    store.put(&ObjectName::new(Place::Keys, id), &bytes)?;
    Ok(id)
}

/// Names of the slots in the store.
pub(super) fn list_slots(store: &dyn Store) -> Result<Vec<KeyId>> {
    let mut slots = Vec::new();
    store.list(Place::Keys, &mut |info| {
        // Slots have one size. Anything else costs no key derivation.
        if info.size_bytes == SLOT_BYTES as u64 {
            slots.push(KeyId::from(info.name.id()));
        }
    })?;
    slots.sort_unstable();
    slots.dedup();
    Ok(slots)
}

/// Tries these slots with a password, the one that `hint` names first, until one opens with keys that `fit` the config. An `init` that was
/// killed before it put the config leaves a slot of a repository that never was, perhaps with the same password. Where none fits, it is the
/// first that opened: then the config is what is wrong.
pub(super) fn open_slots(
    store: &dyn Store,
    mut slots: Vec<KeyId>,
    password: &[u8],
    hint: Option<&str>,
    fit: impl Fn(&Keys) -> bool,
) -> Result<(KeyId, Keys)> {
    if let Some(hint) = hint {
        slots.sort_by_key(|id| !id.to_string().starts_with(hint));
    }
    if slots.is_empty() {
        if let Some(newer) = newer_slot(store)? {
            return Err(newer);
        }
        return Err(Damage::new("keys", "the repository has no key; restore the folder keys/ from a copy").into());
    }
    let mut problem = None;
    let mut opened = None;
    for id in slots.into_iter().take(limits::KEY_SLOTS_MAX) {
        match open_slot(store, id, password) {
            Ok(slot) => {
                let keys = Keys::new(MasterKey::from_bytes(*slot.master.expose()), slot.repository);
                if fit(&keys) {
                    return Ok((id, keys));
                }
                opened.get_or_insert((id, keys));
            }
            Err(Error::WrongPassword { .. }) => {}
            Err(error) if error.is_damage() || error.is_newer() => problem = Some(error),
            Err(error) => return Err(error),
        }
    }
    if let Some(opened) = opened {
        return Ok(opened);
    }
    // A damaged slot may have been the one for this password; to say "wrong password" would send its owner the wrong way.
    // So may one of a later version.
    if problem.is_none() {
        problem = newer_slot(store)?;
    }
    Err(problem.unwrap_or_else(|| Error::WrongPassword { location: store.location() }))
}

/// Tells of a slot of a later version, which may have another size. Only its first bytes are read.
fn newer_slot(store: &dyn Store) -> Result<Option<Error>> {
    let mut others = Vec::new();
    store.list(Place::Keys, &mut |info| {
        if info.size_bytes != SLOT_BYTES as u64 && info.size_bytes >= HEADER_BYTES as u64 {
            others.push(info.name);
        }
    })?;
    others.sort_unstable();
    for name in others.into_iter().take(limits::KEY_SLOTS_MAX) {
        let mut bytes = Vec::new();
        let range = ByteRange::Exact { offset_bytes: 0, length_bytes: HEADER_BYTES as u64 };
        if store.get(&name, range, &mut bytes).is_ok()
            && let Err(error) = Header::parse(&bytes, ObjectKind::KeySlot, &name)
            && error.is_newer()
        {
            return Ok(Some(error));
        }
    }
    Ok(None)
}

fn open_slot(store: &dyn Store, id: KeyId, password: &[u8]) -> Result<Slot> {
    let name = ObjectName::new(Place::Keys, id);
    slot::unwrap(&read_slot(store, &name)?, password).map_err(|error| match error {
        SlotError::WrongPassword => Error::WrongPassword { location: store.location() },
        error => slot_error(&error, &name),
    })
}

/// What is wrong with the slot `name`.
pub(crate) fn slot_error(error: &SlotError, name: &ObjectName) -> Error {
    match *error {
        SlotError::Newer(found) => Error::NewerFormat { object: name.to_string(), found, known: slot::FORMAT_VERSION },
        _ => Damage::new(name, error).into(),
    }
}

fn read_slot(store: &dyn Store, name: &ObjectName) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    store.get(name, ByteRange::WholeUpTo { limit_bytes: SLOT_BYTES as u64 }, &mut bytes)?;
    Ok(bytes)
}

impl Repository {
    /// All key slots.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn list_keys(&self) -> Result<Vec<KeyEntry>> {
        let mut entries = Vec::new();
        for id in list_slots(self.store())? {
            let bytes = read_slot(self.store(), &ObjectName::new(Place::Keys, id))?;
            entries.push(KeyEntry { id, current: id == self.key(), info: slot::info(&bytes, self.keys()).ok() });
        }
        Ok(entries)
    }

    /// Adds a password.
    ///
    /// # Errors
    /// When the slot cannot be made or stored.
    pub fn add_key(&self, password: &[u8], host: String, user: String, cost: KdfCost) -> Result<KeyId> {
        self.check_writable()?;
        let info = SlotInfo { created: self.runtime().now(), host, user };
        put_slot(self.store(), self.keys(), info, password, cost, self.runtime())
    }

    /// Removes a password's slot. The one the repository was opened with is not removed, so that one always stays.
    ///
    /// # Errors
    /// When there is no such slot, or it is the one in use.
    pub fn remove_key(&self, id: KeyId) -> Result<()> {
        self.check_writable()?;
        if id == self.key() {
            return Err(Error::Invalid(
                "this is the key in use; open the repository with another password to remove it".into(),
            ));
        }
        if !list_slots(self.store())?.contains(&id) {
            return Err(Error::Invalid(format!("there is no key {id}")));
        }
        Ok(self.store().delete(&ObjectName::new(Place::Keys, id))?)
    }

    /// Changes the password in use: adds a slot for the new one, then removes the old. Whatever happens between, one of them
    /// opens the repository. Tells the new slot.
    ///
    /// # Errors
    /// When the new slot cannot be stored (the old one is still there), or the old one cannot be removed (both are there).
    pub fn change_password(&self, password: &[u8], host: String, user: String, cost: KdfCost) -> Result<KeyId> {
        let id = self.add_key(password, host, user, cost)?;
        match self.store().delete(&ObjectName::new(Place::Keys, self.key())) {
            Err(error) if error.kind != StoreErrorKind::NotFound => Err(error.into()),
            _ => Ok(id),
        }
    }

    /// Finds a key slot by the beginning of its name.
    ///
    /// # Errors
    /// When none or several begin so.
    pub fn find_key(&self, prefix: &str) -> Result<KeyId> {
        let slots = list_slots(self.store())?;
        let mut matches = slots.iter().filter(|id| id.to_string().starts_with(prefix));
        match (matches.next(), matches.next()) {
            (Some(id), None) if !prefix.is_empty() => Ok(*id),
            (Some(first), Some(second)) => Err(Error::Ambiguous {
                what: "key",
                prefix: prefix.into(),
                candidates: format!("{}, {}", first.short(), second.short()),
            }),
            _ => Err(Error::Invalid(format!("there is no key {prefix}"))),
        }
    }
}
