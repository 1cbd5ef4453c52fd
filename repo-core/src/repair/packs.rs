//! Taking damaged packs out of use.
//!
//! They are condemned, as by a prune that ends right after it. From then on no backup takes what lies in them for stored: it reads the
//! files again that need it, and stores it anew. Readers go on using what can still be read of them. The next prune moves that, and
//! deletes them when all that snapshots need lies elsewhere; until then it deletes nothing.

use std::collections::BTreeSet;

use crate::{
    crypto::keys::ObjectKind,
    error::{Error, Result},
    id::PackId,
    index::set::IndexSet,
    repository::{Repository, notes::Mark},
    store::{ObjectName, Place},
};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PacksReport {
    /// Packs that were taken out of use.
    pub condemned: BTreeSet<PackId>,
    /// Packs that were out of use before.
    pub before: BTreeSet<PackId>,
}

/// Takes packs out of use for good, unless this is a dry run. It cannot be taken back; with a pack that was sound nothing is lost, but
/// what lies in it is stored again.
///
/// # Errors
/// When one of them is neither in the store nor in the index, or the store fails.
pub fn packs(repository: &Repository, packs: &BTreeSet<PackId>, dry_run: bool) -> Result<PacksReport> {
    repository.check_writable()?;
    let condemned = repository.notes()?.condemned();
    let index = IndexSet::load(repository.store(), repository.keys(), Some(&mut Vec::new()))?;
    let named: BTreeSet<_> = index.all_packs().map(|pack| pack.id).collect();
    for pack in packs {
        let name = ObjectName::new(Place::Data, *pack);
        if !named.contains(pack) && repository.store().stat(&name)?.is_none() {
            return Err(Error::Invalid(format!("there is no pack {pack}; nothing was changed")));
        }
    }
    let (before, new): (BTreeSet<_>, BTreeSet<_>) = packs.iter().partition(|pack| condemned.contains(pack));
    if !new.is_empty() && !dry_run {
        let mark = Mark { packs: new.iter().copied().collect(), created: repository.runtime().now() };
        repository.save(Place::Locks, ObjectKind::Mark, &mark)?;
        repository.runtime().sleep_ms(repository.store().abilities().visibility_delay_ms);
    }
    Ok(PacksReport { condemned: new, before })
}
