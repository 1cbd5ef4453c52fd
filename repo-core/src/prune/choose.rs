//! What goes, and whether what stays is enough: the pruner's looks at packs and index.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    blob::BlobKind,
    error::Result,
    id::PackId,
    protocol::pruner::{Answer, Root},
    prune::{PruneReport, cover::uncovered, engine::Engine, live::Live, plan::plan, roots, usage::usage},
    store::{ObjectName, Place},
    time::Timestamp,
};

impl Engine<'_> {
    pub(super) fn list_packs(&self) -> Result<HashMap<PackId, u64>> {
        let mut listed = HashMap::new();
        self.repository.store().list(Place::Data, &mut |info| {
            listed.insert(info.name.id().into(), info.size_bytes);
        })?;
        Ok(listed)
    }

    /// Packs in which copies count: listed in full length, named by the index, and in no mark.
    fn counted(&self, condemned: &BTreeSet<PackId>) -> HashSet<PackId> {
        let counts = |pack: &PackId, size_bytes: u32| {
            self.listed.get(pack) == Some(&size_bytes.into()) && !condemned.contains(pack)
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
        let unindexed = self.unindexed(&named, condemned)?;
        let (there, absent): (Vec<_>, Vec<_>) = packs
            .into_iter()
            .filter(|pack| !condemned.contains(&pack.id))
            .partition(|pack| self.listed.contains_key(&pack.id));
        report.plan = plan(&there, &absent, &unindexed, &self.limits);
        report.blobs = blobs;
        report.bodies = self.bodies.len() as u64;
        self.victims.clone_from(&report.plan.victims);
        Ok(Answer::Victims(self.victims.iter().map(|victim| victim.pack).collect()))
    }

    /// Packs that no run names and that may go: all, if nobody is at work, else those that were there before anybody began.
    fn unindexed(&self, named: &HashSet<PackId>, condemned: &BTreeSet<PackId>) -> Result<Vec<(PackId, BlobKind, u64)>> {
        let notes = self.repository.notes()?;
        let over = self.repository.left_behind(&notes, self.options.note.as_ref())?;
        let at_work = notes.sessions.iter().filter(|(id, _)| Some(*id) != self.session.note() && !over.contains(id));
        let mut oldest: Option<Timestamp> = None;
        for (id, session) in at_work {
            let info = self.repository.store().stat(&ObjectName::new(Place::Locks, *id))?;
            let began = info.and_then(|info| info.modified).unwrap_or(session.started);
            oldest = Some(oldest.map_or(began, |oldest| oldest.min(began)));
        }
        let mut unindexed = Vec::new();
        for info in self.repository.list(Place::Data)? {
            let pack = PackId::from(info.name.id());
            let is_older = oldest.is_none_or(|oldest| info.modified.is_some_and(|modified| modified < oldest));
            if !named.contains(&pack) && !condemned.contains(&pack) && is_older {
                unindexed.push((pack, BlobKind::Data, info.size_bytes));
            }
        }
        Ok(unindexed)
    }

    /// P8.
    pub(super) fn check(&mut self, condemned: &BTreeSet<PackId>) -> Result<Answer> {
        if let Some(root) = self.find_missing()? {
            return Ok(Answer::Missing(root));
        }
        self.missing = uncovered(&self.live, &self.index, &self.counted(condemned));
        Ok(if self.missing.is_empty() { Answer::Covered } else { Answer::Rescuable })
    }

    /// Whether something needed lies in no pack that is listed and indexed, condemned or not; and who needs it.
    fn find_missing(&mut self) -> Result<Option<Root>> {
        self.missing = uncovered(&self.live, &self.index, &self.counted(&BTreeSet::new()));
        if self.missing.is_empty() {
            return Ok(None);
        }
        let sealed = roots::sealed(self.repository)?;
        let live = std::mem::replace(&mut self.live, Live::new(Arc::clone(&self.index)));
        let roots: Vec<_> =
            self.bodies.iter().filter(|(body, _)| sealed.contains(body)).map(|(_, root)| *root).collect();
        let walked = self.walk(&roots);
        let committed = std::mem::replace(&mut self.live, live);
        walked.map_err(roots::because)?;
        let is_committed = !uncovered(&committed, &self.index, &self.counted(&BTreeSet::new())).is_empty();
        Ok(Some(if is_committed { Root::Committed } else { Root::Tentative }))
    }
}
