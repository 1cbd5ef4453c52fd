//! What goes, and whether what stays is enough: the pruner's looks at packs and index.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    blob::BlobKind,
    error::{Result, StoreErrorKind},
    id::PackId,
    index::table::BlobPrefix,
    pack::reader::read_directory,
    protocol::pruner::{Answer, Root},
    prune::{
        PruneReport,
        cover::uncovered,
        engine::{Engine, Listed},
        live::Live,
        plan::plan,
        roots,
        usage::usage,
    },
    store::{ObjectName, Place},
    time::Timestamp,
};

impl Engine<'_> {
    pub(super) fn list_packs(&self) -> Result<HashMap<PackId, Listed>> {
        let mut listed = HashMap::new();
        self.repository.store().list(Place::Data, &mut |info| {
            let pack = Listed { size_bytes: info.size_bytes, modified: info.modified };
            listed.insert(info.name.id().into(), pack);
        })?;
        Ok(listed)
    }

    /// Packs in which copies count: listed in full length, named by the index, and in no mark.
    fn counted(&self, condemned: &BTreeSet<PackId>) -> HashSet<PackId> {
        let counts = |pack: &PackId, size_bytes: u32| {
            self.listed.get(pack).is_some_and(|listed| listed.size_bytes == u64::from(size_bytes))
                && !condemned.contains(pack)
        };
        self.index.all_packs().filter(|pack| counts(&pack.id, pack.size_bytes)).map(|pack| pack.id).collect()
    }

    /// P3: which packs go.
    pub(super) fn choose(&mut self, condemned: &BTreeSet<PackId>, report: &mut PruneReport) -> Result<Answer> {
        self.listed = self.list_packs()?;
        if let Some(root) = self.find_missing()? {
            return Ok(Answer::Missing(root));
        }
        let (packs, blobs) = usage(&self.live, &self.counted(condemned));
        let named: HashSet<_> = packs.iter().map(|pack| pack.id).collect();
        let oldest = self.oldest_at_work()?;
        // A backup at work has not claimed yet what it stores.
        let may_go = |listed: &Listed| oldest.is_none_or(|oldest| listed.modified.is_some_and(|time| time < oldest));
        let unindexed = self
            .listed
            .iter()
            .filter(|(pack, listed)| !named.contains(pack) && !condemned.contains(pack) && may_go(listed));
        let unindexed: Vec<_> = unindexed.map(|(pack, listed)| (*pack, BlobKind::Data, listed.size_bytes)).collect();
        let (mut there, absent): (Vec<_>, Vec<_>) = packs
            .into_iter()
            .filter(|pack| !condemned.contains(&pack.id))
            .partition(|pack| self.listed.contains_key(&pack.id));
        for pack in &mut there {
            if !self.listed.get(&pack.id).is_some_and(may_go) {
                pack.frames.iter_mut().for_each(|frame| frame.live_bytes = frame.plain_bytes);
            }
        }
        report.plan = plan(&there, &absent, &unindexed, &self.limits);
        report.blobs = blobs;
        report.bodies = self.bodies.len() as u64;
        self.victims.clone_from(&report.plan.victims);
        Ok(Answer::Victims(self.victims.iter().map(|victim| victim.pack).collect()))
    }

    /// When the oldest session began that is still at work, by the store's clock if that tells; none if nobody is.
    fn oldest_at_work(&self) -> Result<Option<Timestamp>> {
        let notes = self.repository.notes()?;
        let over = self.repository.left_behind(&notes, self.options.note.as_ref())?;
        let at_work = notes.sessions.iter().filter(|(id, _)| Some(*id) != self.session.note() && !over.contains(id));
        let mut oldest: Option<Timestamp> = None;
        for (id, session) in at_work {
            let info = self.repository.store().stat(&ObjectName::new(Place::Locks, *id))?;
            let began = info.and_then(|info| info.modified).unwrap_or(session.started);
            oldest = Some(oldest.map_or(began, |oldest| oldest.min(began)));
        }
        Ok(oldest)
    }

    /// P8.
    pub(super) fn check(&mut self, condemned: &BTreeSet<PackId>) -> Result<Answer> {
        if self.walked_apart {
            // A page that was not found then may be in the index by now, and nobody has seen yet what it names.
            self.walk_apart()?;
        }
        if let Some(root) = self.find_missing()? {
            return Ok(Answer::Missing(root));
        }
        let nowhere: HashSet<_> = self.missing.iter().map(|blob| (blob.kind, blob.prefix)).collect();
        self.missing = uncovered(&self.live, &self.index, &self.counted(condemned));
        self.missing.retain(|blob| !nowhere.contains(&(blob.kind, blob.prefix)));
        Ok(if self.missing.is_empty() { Answer::Covered } else { Answer::Rescuable })
    }

    /// Whether something needed lies in no pack that is listed and indexed, condemned or not; and who needs it.
    ///
    /// What only unfinished snapshots need, and is still nowhere at a second look, not even in a pack that no run names, is left in
    /// `missing` and not told of: it is not we who delete it. Whoever makes such a snapshot finds that out before it is sealed. If it
    /// died, nobody will ever miss it.
    fn find_missing(&mut self) -> Result<Option<Root>> {
        let everywhere = self.counted(&BTreeSet::new());
        self.missing = uncovered(&self.live, &self.index, &everywhere);
        if self.missing.is_empty() {
            self.looked_twice = false;
            return Ok(None);
        }
        if !uncovered(&self.sealed_live()?, &self.index, &everywhere).is_empty() {
            return Ok(Some(Root::Committed));
        }
        self.looked_twice = !self.looked_twice;
        Ok((self.looked_twice || self.is_unindexed()?).then_some(Root::Tentative))
    }

    /// Whether something in `missing` lies, or may lie, in a pack that is listed and that no index run names.
    ///
    /// An index that is listed while others merge runs may miss what is in both the old and the new one. Whose backup counts on it has
    /// perhaps looked for marks before ours was there; so what is nowhere is not told by the index, but by the packs themselves.
    fn is_unindexed(&self) -> Result<bool> {
        let wanted: HashSet<_> = self.missing.iter().map(|blob| (blob.kind, blob.prefix)).collect();
        let named: HashSet<_> = self.index.all_packs().map(|pack| pack.id).collect();
        let mut unnamed: Vec<_> = self.listed.iter().filter(|(pack, _)| !named.contains(pack)).collect();
        // In the same order each time, so that what a seed has found can be found again.
        unnamed.sort_unstable_by_key(|(pack, _)| **pack);
        for (pack, listed) in unnamed {
            self.cancel.check()?;
            let found = read_directory(self.repository.store(), self.repository.keys(), *pack, listed.size_bytes);
            match found {
                Ok(summary) => {
                    let mut blobs = summary.directory.blobs(*pack);
                    if blobs.any(|(blob, _)| wanted.contains(&(summary.kind, BlobPrefix::from(&blob)))) {
                        return Ok(true);
                    }
                }
                Err(error) if error.store_kind() == Some(StoreErrorKind::NotFound) => {}
                Err(error) if error.is_damage() => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// What sealed snapshots need.
    fn sealed_live(&self) -> Result<Live> {
        let sealed = roots::sealed(self.repository)?;
        let bodies = self.bodies.iter().filter(|(body, _)| sealed.contains(body));
        let live = Live::new(Arc::clone(&self.index));
        self.walk(&live, bodies.map(|(_, tree)| *tree)).map_err(roots::because)?;
        Ok(live)
    }
}
