//! What a policy would hold: time is walked through with snapshots that are not made yet.

use std::collections::VecDeque;

use crate::{
    error::{Error, Result},
    id::SnapshotId,
    retention::{
        apply::{Candidate, Reason, apply},
        calendar::Calendar,
        policy::Policy,
        span::Span,
    },
    snapshot::Snapshot,
    time::Timestamp,
};

/// Most snapshots that are simulated.
pub const SNAPSHOTS_MAX: usize = 20_000;

/// How backups go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// From one to the next.
    pub every: Span,
    /// How long, from now.
    pub duration: Span,
}

/// A snapshot that is held at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its id, if it is there already.
    pub id: Option<SnapshotId>,
    /// When it was or would be made.
    pub time: Timestamp,
    /// Why it is held.
    pub reasons: Vec<Reason>,
}

/// How many snapshots are held after a backup and the forgetting that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub time: Timestamp,
    /// How many.
    pub count: usize,
}

/// What a policy would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    /// One step for each backup, in order; the first is now, before any is made.
    pub steps: Vec<Step>,
    /// What is held at the end, newest first.
    pub held: Vec<Held>,
}

impl Simulation {
    /// The most that are held at once.
    #[must_use]
    pub fn most(&self) -> usize {
        self.steps.iter().map(|step| step.count).max().unwrap_or(0)
    }
}

/// Goes on with the snapshots of one group (newest first; perhaps none) as if a backup were made in this rhythm, and the policy
/// applied after each. The rhythm goes on from the newest snapshot that is not in the future, so that it keeps the time of day;
/// backups that were missed are not made up for. New snapshots have the tags of the newest one.
///
/// Where the policy would leave nothing, nothing is removed: forgetting refuses that.
///
/// # Errors
/// [`Error::Invalid`] when the rhythm stands still, goes beyond the calendar, or makes more than [`SNAPSHOTS_MAX`] snapshots.
pub fn simulate(
    existing: &[&(SnapshotId, Snapshot)],
    policy: &Policy,
    rhythm: Rhythm,
    now: Timestamp,
    calendar: &Calendar,
) -> Result<Simulation> {
    let times = times(existing, rhythm, now, calendar)?;
    let tags = existing.first().map_or(&[][..], |(_, newest)| &newest.tags);
    let mut held: VecDeque<(Candidate<'_>, Vec<Reason>)> =
        existing.iter().map(|(id, snapshot)| (Candidate::new(id, snapshot, calendar), Vec::new())).collect();
    let mut steps = Vec::with_capacity(times.len() + 1);
    settle(&mut held, policy, now, calendar);
    steps.push(Step { time: now, count: held.len() });
    for time in times {
        let planned = Candidate::planned(time, tags, calendar);
        let at = held.partition_point(|(there, _)| there.time > time);
        held.insert(at, (planned, Vec::new()));
        settle(&mut held, policy, time, calendar);
        steps.push(Step { time, count: held.len() });
    }
    let held = held
        .into_iter()
        .map(|(candidate, reasons)| Held { id: candidate.id.copied(), time: candidate.time, reasons })
        .collect();
    Ok(Simulation { steps, held })
}

/// When backups are made.
fn times(
    existing: &[&(SnapshotId, Snapshot)],
    rhythm: Rhythm,
    now: Timestamp,
    calendar: &Calendar,
) -> Result<Vec<Timestamp>> {
    let beyond = || Error::Invalid("the simulation goes beyond the end of the calendar".into());
    if rhythm.every.is_zero() {
        return Err(Error::Invalid("a simulation needs some time between two backups".into()));
    }
    let end = calendar.after(now, rhythm.duration).ok_or_else(beyond)?;
    let newest = existing.iter().map(|(_, snapshot)| snapshot.time).find(|time| *time <= now);
    let start = newest.unwrap_or(now);
    let mut times = Vec::new();
    let mut number: u32 = skipped(start, rhythm.every, now);
    loop {
        number = number.checked_add(1).ok_or_else(beyond)?;
        // Always from the start, so that a rhythm of months does not slip from the 31st to the 28th for good.
        let time = rhythm.every.times(number).and_then(|span| calendar.after(start, span)).ok_or_else(beyond)?;
        if time > end {
            return Ok(times);
        }
        if time <= now {
            continue;
        }
        if times.len() == SNAPSHOTS_MAX {
            let reason =
                format!("a simulation makes at most {SNAPSHOTS_MAX} snapshots; let it be shorter, or make them rarer");
            return Err(Error::Invalid(reason));
        }
        times.push(time);
    }
}

/// So many times `every` have surely passed from `start` to `now`: years and months taken for longer than they are.
fn skipped(start: Timestamp, every: Span, now: Timestamp) -> u32 {
    let days = u64::from(every.years) * 367
        + u64::from(every.months) * 32
        + u64::from(every.weeks) * 7
        + u64::from(every.days);
    let longest_seconds = days * 86_400 + u64::from(every.hours) * 3600 + 86_400;
    let passed_seconds = now.seconds().saturating_sub(start.seconds()).max(0).unsigned_abs();
    u32::try_from(passed_seconds / longest_seconds).unwrap_or(u32::MAX)
}

/// Forgets what the policy does not keep.
fn settle(held: &mut VecDeque<(Candidate<'_>, Vec<Reason>)>, policy: &Policy, now: Timestamp, calendar: &Calendar) {
    let candidates: Vec<_> = held.iter().map(|(candidate, _)| candidate.clone()).collect();
    let verdicts = apply(&candidates, policy, now, calendar);
    let removes_all = !verdicts.iter().any(super::apply::Verdict::is_kept);
    for ((_, reasons), verdict) in held.iter_mut().zip(verdicts) {
        *reasons = verdict.reasons;
    }
    if !removes_all {
        held.retain(|(_, reasons)| !reasons.is_empty());
    }
}
