//! Snapshots that were made from each other by edits: rules count them once, and never keep one of them for the sake of another.
//!
//! An edit puts a new snapshot and then removes the one it was made from. A listing may show both, and nobody can tell such a moment from
//! two that both are to stay: neither which of them is about to go, since both may tell the same original. If a rule kept one and
//! removed the other, the edit could remove just the one that was kept. If both counted, a third snapshot could be removed for
//! their number, although only one of them will be left. So those that have the same first original, a *family*, stay or go together, and
//! others are judged as if there was just one of each family.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::SnapshotId,
    retention::{
        apply::{Candidate, Reason, Verdict, apply},
        calendar::Calendar,
        policy::Policy,
    },
    snapshot::Listing,
    time::Timestamp,
};

/// The families of a listing that have more than one member.
pub(super) struct Families {
    /// The first original of each member.
    roots: BTreeMap<SnapshotId, SnapshotId>,
}

impl Families {
    pub(super) fn of(listing: &Listing) -> Self {
        let root = |(id, snapshot): &(SnapshotId, crate::snapshot::Snapshot)| snapshot.original.unwrap_or(*id);
        let mut members: BTreeMap<SnapshotId, Vec<SnapshotId>> = BTreeMap::new();
        for listed in &listing.snapshots {
            members.entry(root(listed)).or_default().push(listed.0);
        }
        members.retain(|_, members| members.len() > 1);
        let roots = members.into_iter().flat_map(|(root, members)| members.into_iter().map(move |id| (id, root)));
        Self { roots: roots.collect() }
    }

    /// Applies a policy to one group, newest first. What any of these says is to be kept is kept: the policy on the group with only
    /// the newest of each family, that with only the oldest, and that on the whole group, where rules look at one snapshot alone.
    pub(super) fn judge(
        &self,
        candidates: &[Candidate<'_>],
        policy: &Policy,
        now: Timestamp,
        calendar: &Calendar,
    ) -> Vec<Verdict> {
        let mut verdicts = apply(candidates, policy, now, calendar);
        let count = candidates.len();
        for chosen in [self.first_of_each(candidates, 0..count), self.first_of_each(candidates, (0..count).rev())] {
            if chosen.len() == count {
                break;
            }
            let alone: Vec<_> = chosen.iter().filter_map(|at| candidates.get(*at)).cloned().collect();
            for (at, verdict) in chosen.into_iter().zip(apply(&alone, policy, now, calendar)) {
                if let Some(before) = verdicts.get_mut(at).filter(|before| !before.is_kept()) {
                    *before = verdict;
                }
            }
        }
        verdicts
    }

    /// Keeps all of each family of which one is kept, in whatever group.
    pub(super) fn keep_together<'a>(&self, judged: impl Iterator<Item = (&'a SnapshotId, &'a mut Verdict)>) {
        let members: Vec<_> = judged.filter_map(|(id, verdict)| Some((*self.roots.get(id)?, verdict))).collect();
        let kept: BTreeSet<_> =
            members.iter().filter(|(_, verdict)| verdict.is_kept()).map(|(root, _)| *root).collect();
        for (root, verdict) in members {
            if !verdict.is_kept() && kept.contains(&root) {
                verdict.reasons.push(Reason::Edited);
            }
        }
    }

    /// Numbers of the candidates that are of no family, and of the first of each family in the order of `numbers`; newest first.
    fn first_of_each(&self, candidates: &[Candidate<'_>], numbers: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let root = |at: &usize| candidates.get(*at).and_then(|candidate| self.roots.get(candidate.id?));
        let mut chosen: Vec<_> = numbers.filter(|at| root(at).is_none_or(|root| seen.insert(*root))).collect();
        chosen.sort_unstable();
        chosen
    }
}
