//! What to forget: decided without touching anything, and refused where it was hardly meant.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::{Error, Result},
    forget::families::Families,
    id::SnapshotId,
    repository::uncommit::Seals,
    retention::{
        apply::{Candidate, Verdict, apply},
        calendar::Calendar,
        policy::Policy,
    },
    snapshot::{
        Listing, Protection, Snapshot,
        group::{GroupKey, Grouping},
        select::Filter,
    },
    time::Timestamp,
};

/// Forgetting by rules.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What to keep of each group.
    pub policy: Policy,
    /// What makes a group.
    pub grouping: Grouping,
    /// Snapshots that it is about; others are neither counted nor removed.
    pub filter: Filter,
    /// Allows that a group loses all its snapshots. Only with a filter, so that it cannot be everything there is.
    pub allow_remove_all: bool,
}

/// A snapshot that stays, and why.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its id.
    pub id: SnapshotId,
    /// What it is.
    pub snapshot: Snapshot,
    /// What the rules say of it.
    pub verdict: Verdict,
}

/// What happens to one group.
#[derive(Debug, Clone, Default)]
pub struct GroupPlan {
    /// What its snapshots have in common.
    pub key: GroupKey,
    /// Those that stay, newest first.
    pub keep: Vec<Kept>,
    /// Those that go, newest first.
    pub remove: Vec<(SnapshotId, Snapshot)>,
}

/// A snapshot that goes: its seals, and its body after them. Others that they name go, too, each by itself.
#[derive(Debug, Clone)]
pub(super) struct Removal {
    pub(super) body: SnapshotId,
    pub(super) seals: Seals,
}

/// What is to be forgotten. Making it changes nothing; [`super::forget`] carries it out.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    groups: Vec<GroupPlan>,
    removals: Vec<Removal>,
}

impl Plan {
    /// Applies a policy to each group of the committed snapshots. `now` is the time of day.
    ///
    /// Snapshots that cannot be read are no part of it: they are not removed, and since they are not counted either, others are kept
    /// in their place.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no rule in the policy (and removing all was not allowed), when a group would lose all its
    /// snapshots, when only snapshots dated in the future would be left of one, and when a snapshot cannot be forgotten without
    /// another that one seal commits together with it.
    pub fn by_policy(listing: &Listing, options: &Options, now: Timestamp, calendar: &Calendar) -> Result<Self> {
        let may_remove_all = options.allow_remove_all;
        if may_remove_all && options.filter.is_empty() {
            return Err(refused("removing all snapshots is only possible for those of a host, a tag or a path"));
        }
        if options.policy.is_empty() && !may_remove_all {
            return Err(refused("there is no rule about what to keep, so that every snapshot would be forgotten"));
        }
        let families = Families::of(listing);
        let mut judged = Vec::new();
        for (key, snapshots) in options.grouping.split(listing.select(&options.filter).rev()) {
            let candidate =
                |(id, snapshot)| Candidate::new(id, snapshot, calendar).stored(listing.stored.get(id).copied());
            let candidates: Vec<_> = snapshots.iter().map(|(id, snapshot)| candidate((id, snapshot))).collect();
            let verdicts = families.judge(&candidates, &options.policy, now, calendar);
            judged.push((key, snapshots, candidates, verdicts));
        }
        families.keep_together(
            judged.iter_mut().flat_map(|(_, snapshots, _, verdicts)| snapshots.iter().map(|(id, _)| id).zip(verdicts)),
        );
        let mut groups = Vec::new();
        for (key, snapshots, candidates, verdicts) in judged {
            let mut group = GroupPlan { key, ..GroupPlan::default() };
            for ((id, snapshot), verdict) in snapshots.into_iter().cloned().zip(verdicts) {
                if verdict.is_kept() {
                    group.keep.push(Kept { id, snapshot, verdict });
                } else {
                    group.remove.push((id, snapshot));
                }
            }
            if !may_remove_all {
                check_what_stays(&group, &candidates, &options.policy, now, calendar)?;
            }
            groups.push(group);
        }
        Self::new(listing, groups)
    }

    /// Forgets particular snapshots, in one group without a key.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when one is not committed; [`Error::NewerExtension`] when a newer program says that one has to know more
    /// of it, and `even_protected` is not set; [`Error::Refused`] when one is protected and `even_protected` is not set, or
    /// is committed by one seal together with another that is to stay.
    pub fn by_ids(listing: &Listing, ids: &BTreeSet<SnapshotId>, even_protected: bool, now: Timestamp) -> Result<Self> {
        let mut group = GroupPlan::default();
        for id in ids {
            let found = listing.snapshots.iter().find(|(listed, _)| listed == id);
            let (_, snapshot) = found.ok_or_else(|| Error::NoSnapshot { query: id.to_string() })?;
            let is_protected = match snapshot.protection {
                Protection::None => false,
                Protection::Forever => true,
                Protection::Until(until) => now < until,
            };
            if !even_protected {
                snapshot.check_known(id)?;
            }
            if is_protected && !even_protected {
                return Err(refused(format!("snapshot {} is protected", id.short())));
            }
            group.remove.push((*id, snapshot.clone()));
        }
        group.remove.sort_by_key(|(id, snapshot)| std::cmp::Reverse((snapshot.time, *id)));
        Self::new(listing, vec![group])
    }

    fn new(listing: &Listing, groups: Vec<GroupPlan>) -> Result<Self> {
        let doomed: BTreeSet<SnapshotId> = groups.iter().flat_map(|group| &group.remove).map(|(id, _)| *id).collect();
        let mut seals: BTreeMap<SnapshotId, Seals> = BTreeMap::new();
        for (seal, bodies) in &listing.seals {
            let is_shared = bodies.iter().any(|body| doomed.contains(body));
            if let Some(other) = bodies.iter().find(|body| !doomed.contains(body)).filter(|_| is_shared) {
                let body = bodies.iter().find(|body| doomed.contains(body)).copied().unwrap_or(*other);
                return Err(refused(format!(
                    "snapshot {} was made together with {}, and cannot be forgotten without it",
                    body.short(),
                    other.short()
                )));
            }
            for body in bodies {
                seals.entry(*body).or_default().insert(*seal, [*body].into());
            }
        }
        let removals = doomed_in_order(&groups)
            .map(|body| Removal { body, seals: seals.remove(&body).unwrap_or_default() })
            .collect();
        Ok(Self { groups, removals })
    }

    /// The groups, each with what stays and what goes.
    #[must_use]
    pub fn groups(&self) -> &[GroupPlan] {
        &self.groups
    }

    /// The snapshots that go.
    pub fn removed(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.removals.iter().map(|removal| removal.body)
    }

    /// How many snapshots go.
    #[must_use]
    pub fn removed_count(&self) -> usize {
        self.removals.len()
    }

    /// How many of the snapshots it is about stay.
    #[must_use]
    pub fn kept_count(&self) -> usize {
        self.groups.iter().map(|group| group.keep.len()).sum()
    }

    pub(super) fn removals(&self) -> &[Removal] {
        &self.removals
    }
}

/// Group by group, the oldest of each first: what is interrupted has removed what the next run would.
fn doomed_in_order(groups: &[GroupPlan]) -> impl Iterator<Item = SnapshotId> + '_ {
    groups.iter().flat_map(|group| group.remove.iter().rev()).map(|(id, _)| *id)
}

/// Refuses what was hardly meant: that a group loses all, or all that is not in the future.
fn check_what_stays(
    group: &GroupPlan,
    candidates: &[Candidate<'_>],
    policy: &Policy,
    now: Timestamp,
    calendar: &Calendar,
) -> Result<()> {
    if group.keep.is_empty() {
        let why = "the rules would remove every snapshot of a group";
        return Err(refused(format!("{why}{}", in_brackets(&group.key))));
    }
    if future_takes_all(group, candidates, policy, now, calendar) {
        return Err(refused(format!(
            "only snapshots dated in the future would be left of a group{}, as {}; \
             correct the clock, or forget them by their ids first",
            in_brackets(&group.key),
            group.keep.first().map_or(String::new(), |kept| kept.id.short()),
        )));
    }
    Ok(())
}

/// Whether nothing that is not in the future is left, and the future is to blame: without it, something would be.
fn future_takes_all(
    group: &GroupPlan,
    candidates: &[Candidate<'_>],
    policy: &Policy,
    now: Timestamp,
    calendar: &Calendar,
) -> bool {
    let is_kept = |candidate: &Candidate<'_>| group.keep.iter().any(|kept| Some(&kept.id) == candidate.id);
    let present: Vec<_> = candidates.iter().filter(|candidate| !candidate.is_future(now)).cloned().collect();
    if present.iter().any(is_kept) {
        return false;
    }
    apply(&present, policy, now, calendar).iter().any(Verdict::is_kept)
}

fn in_brackets(key: &GroupKey) -> String {
    let key = key.to_string();
    if key.is_empty() { key } else { format!(" ({key})") }
}

fn refused(reason: impl Into<String>) -> Error {
    Error::Refused(reason.into())
}
