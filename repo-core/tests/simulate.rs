//! The simulator, against doing by hand what it says it does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use repo_core::{
    error::Error,
    id::{BlobId, SnapshotId},
    retention::{
        apply::{Candidate, apply},
        calendar::{Calendar, Period},
        policy::{Count, Policy},
        simulate::{Rhythm, SNAPSHOTS_MAX, simulate},
    },
    snapshot::{Protection, Snapshot, Summary},
    time::Timestamp,
    tree::node::Totals,
};

const DAY_SECONDS: i64 = 86_400;

fn snapshot(day: i64, protection: Protection) -> (SnapshotId, Snapshot) {
    let time = Timestamp::from_seconds(day * DAY_SECONDS + 7200);
    let snapshot = Snapshot {
        time,
        utc_offset_seconds: 0,
        host: "host".into(),
        user: "user".into(),
        user_number: 0,
        group_number: 0,
        source: vec!["/home".into()],
        label: None,
        paths: vec!["/home".into()],
        tags: vec!["t".into()],
        excludes: Vec::new(),
        tree: BlobId([0; 32]),
        totals: Totals::default(),
        root: None,
        parent: None,
        original: None,
        program: "test".into(),
        users: BTreeMap::new(),
        groups: BTreeMap::new(),
        protection,
        summary: Summary::default(),
        extensions: Vec::new(),
    };
    let mut id = [0; 32];
    id[..8].copy_from_slice(&day.to_be_bytes());
    (SnapshotId(id), snapshot)
}

fn rhythm(every: &str, duration: &str) -> Rhythm {
    Rhythm { every: every.parse().unwrap(), duration: duration.parse().unwrap() }
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.periods[Period::Day] = Count::Newest(7);
    policy.periods[Period::Week] = Count::Newest(5);
    policy.periods[Period::Month] = Count::Newest(12);
    policy
}

#[test]
fn it_does_day_by_day_what_forgetting_does() {
    let calendar = Calendar::utc();
    let (today, policy) = (20_000, policy());
    // Every third day so far, one of them protected, the last one some days ago.
    let mut there: Vec<_> = (0..40).map(|n| snapshot(today - 5 - n * 3, Protection::None)).collect();
    there[20].1.protection = Protection::Forever;
    there[10].1.protection = Protection::Until(Timestamp::from_seconds((today + 100) * DAY_SECONDS));
    let refs: Vec<_> = there.iter().collect();
    let now = Timestamp::from_seconds(today * DAY_SECONDS + 50_000);
    let simulation = simulate(&refs, &policy, rhythm("1d", "400d"), now, &calendar).unwrap();

    let mut held = there.clone();
    let mut counts = Vec::new();
    for day in today..=today + 400 {
        let mut time = Timestamp::from_seconds(day * DAY_SECONDS + 7200);
        if day == today {
            time = now;
        } else {
            held.insert(0, snapshot(day, Protection::None));
        }
        let candidates: Vec<_> = held.iter().map(|(id, snapshot)| Candidate::new(id, snapshot, &calendar)).collect();
        let mut verdicts = apply(&candidates, &policy, time, &calendar).into_iter();
        held.retain(|_| verdicts.next().unwrap().is_kept());
        counts.push((time, held.len()));
    }
    let steps: Vec<_> = simulation.steps.iter().map(|step| (step.time, step.count)).collect();
    assert_eq!(steps, counts);
    let times: Vec<_> = simulation.held.iter().map(|held| held.time).collect();
    assert_eq!(times, held.iter().map(|(_, snapshot)| snapshot.time).collect::<Vec<_>>());
    let ids: Vec<_> = simulation.held.iter().filter_map(|held| held.id).collect();
    assert_eq!(ids, [there[20].0], "only the one that is protected for ever is left of those there were");
    assert!(simulation.most() >= simulation.held.len());
    assert!(simulation.held.iter().all(|held| !held.reasons.is_empty()));
}

#[test]
fn without_any_snapshot_and_with_rare_ones() {
    let calendar = Calendar::utc();
    let now = Timestamp::from_seconds(20_000 * DAY_SECONDS);
    let mut policy = Policy::default();
    policy.periods[Period::Year] = Count::All;
    let simulation = simulate(&[], &policy, rhythm("1m", "5y"), now, &calendar).unwrap();
    assert_eq!(simulation.steps.len(), 61);
    // The last of each year, and the oldest of all.
    assert_eq!(simulation.held.len(), 7);
    // One that was made long ago goes on at its time of day, from now.
    let old = snapshot(1_000, Protection::None);
    let simulation = simulate(&[&old], &policy, rhythm("1w", "4w"), now, &calendar).unwrap();
    assert_eq!(simulation.steps.len(), 5);
    assert!(simulation.steps[1..].iter().all(|step| step.time > now && step.time.seconds() % DAY_SECONDS == 7200));
}

#[test]
fn a_policy_that_would_leave_nothing_removes_nothing() {
    let policy = Policy { tags: vec![vec!["other".into()]], ..Policy::default() };
    let old = snapshot(19_999, Protection::None);
    let now = Timestamp::from_seconds(20_000 * DAY_SECONDS);
    let simulation = simulate(&[&old], &policy, rhythm("1d", "3d"), now, &Calendar::utc()).unwrap();
    assert_eq!(simulation.steps.iter().map(|step| step.count).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn what_makes_no_sense() {
    let now = Timestamp::from_seconds(20_000 * DAY_SECONDS);
    for rhythm in [rhythm("0d", "1y"), rhythm("1h", "90y"), rhythm("1d", "9999y")] {
        let result = simulate(&[], &policy(), rhythm, now, &Calendar::utc());
        assert!(matches!(result, Err(Error::Invalid(_))), "{rhythm:?}");
    }
    let most = simulate(&[], &policy(), rhythm("1h", "833d"), now, &Calendar::utc()).unwrap();
    assert!(most.steps.len() > SNAPSHOTS_MAX - 24);
}
