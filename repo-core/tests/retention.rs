//! Retention held against a slow model in another style: periods are texts, rules are sets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp as Moment, Zoned, civil, tz::TimeZone};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::FileFailurePersistence};
use repo_core::{
    retention::{
        apply::{Candidate, apply},
        calendar::{Calendar, Period},
        policy::{Count, PerPeriod, Policy},
        span::Span,
    },
    time::Timestamp,
};

/// Clocks that are set by an hour, by half an hour, at midnight (so that a day comes back), and never.
const ZONES: [&str; 6] = [
    "UTC0",
    "EST5EDT,M3.2.0,M11.1.0",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "LHST-10:30LHDT-11,M10.1.0,M4.1.0",
    "NST3:30NDT,M3.2.0/0:01,M11.1.0/0:01",
    "NPT-5:45",
];

fn zone(text: &str) -> TimeZone {
    TimeZone::posix(text).unwrap()
}

fn zoned(time: Timestamp, zone: &TimeZone) -> Zoned {
    let nanoseconds = i128::from(time.seconds()) * 1_000_000_000 + i128::from(time.nanoseconds());
    Moment::from_nanosecond(nanoseconds).unwrap().to_zoned(zone.clone())
}

/// The moment cut off at its period, as a text.
fn truncated(period: Period, time: Timestamp, zone: &TimeZone) -> String {
    let at = zoned(time, zone);
    let third = |months: i8| format!("{} part {}", at.year(), (at.month() + months - 1) / months);
    match period {
        Period::Minute => at.strftime("%Y-%m-%d %H:%M %:::z").to_string(),
        Period::Hour => at.strftime("%Y-%m-%d %H %:::z").to_string(),
        Period::Day => at.strftime("%Y-%m-%d").to_string(),
        Period::Week => at.strftime("%G week %V").to_string(),
        Period::Month => at.strftime("%Y-%m").to_string(),
        Period::Quarter => third(3),
        Period::HalfYear => third(6),
        Period::Year => at.strftime("%Y").to_string(),
    }
}

fn days_of(year: i16, month: i8) -> i8 {
    (28..=31).rev().find(|day| civil::Date::new(year, month, *day).is_ok()).unwrap()
}

/// The span before a moment, reckoned month by month and day by day.
fn before(time: Timestamp, span: Span, zone: &TimeZone) -> Timestamp {
    let at = zoned(time, zone);
    let (mut year, mut month) = (at.year() - i16::try_from(span.years).unwrap(), at.month());
    for _ in 0..span.months {
        (year, month) = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
    }
    let mut date = civil::date(year, month, at.day().min(days_of(year, month)));
    for _ in 0..span.weeks * 7 + span.days {
        date = date.yesterday().unwrap();
    }
    let moved = if date == at.date() { at } else { date.to_datetime(at.time()).to_zoned(zone.clone()).unwrap() };
    let seconds = moved.timestamp().as_nanosecond().div_euclid(1_000_000_000) - i128::from(span.hours) * 3600;
    Timestamp::new(i64::try_from(seconds).unwrap(), time.nanoseconds()).unwrap()
}

/// A snapshot of the tests.
#[derive(Debug, Clone)]
struct Shot {
    time: Timestamp,
    tags: Vec<String>,
}

/// For each snapshot, newest first, the reasons to keep it.
fn model(shots: &[Shot], policy: &Policy, now: Timestamp, zone: &TimeZone) -> Vec<BTreeSet<String>> {
    let mut reasons = vec![BTreeSet::new(); shots.len()];
    let all: Vec<usize> = (0..shots.len()).collect();
    let oldest = shots.len().wrapping_sub(1);
    let anchor = shots.iter().filter(|shot| shot.time <= now).map(|shot| shot.time).max();
    let young = |span: Span| -> Vec<usize> {
        let is_young = |at: &usize| anchor.is_none_or(|anchor| shots[*at].time > before(anchor, span, zone));
        if span.is_zero() { Vec::new() } else { all.iter().copied().filter(is_young).collect() }
    };
    // The newest of each period among some, the newest period first.
    let firsts = |among: &[usize], period: Period| -> Vec<usize> {
        let mut periods: BTreeMap<String, usize> = BTreeMap::new();
        for at in among.iter().rev() {
            periods.insert(truncated(period, shots[*at].time, zone), *at);
        }
        let mut firsts: Vec<usize> = periods.into_values().collect();
        firsts.sort_unstable();
        firsts
    };
    let as_number = |count: Count| match count {
        Count::Newest(count) => count as usize,
        Count::All => usize::MAX,
    };

    for at in all.iter().take(as_number(policy.last)) {
        reasons[*at].insert("last snapshot".to_owned());
    }
    for (period, count) in policy.periods.iter().map(|(period, count)| (period, as_number(count))) {
        let firsts = firsts(&all, period);
        for at in firsts.iter().take(count) {
            reasons[*at].insert(format!("{} snapshot", period.adverb()));
        }
        if !shots.is_empty() && firsts.len() < count && !firsts.contains(&oldest) {
            reasons[oldest].insert(format!("oldest {} snapshot", period.adverb()));
        }
    }
    for at in young(policy.within) {
        reasons[at].insert(format!("within {}", policy.within));
    }
    for (period, span) in policy.within_periods.iter() {
        let young = young(span);
        let firsts = firsts(&young, period);
        for at in &firsts {
            reasons[*at].insert(format!("{} within {span}", period.adverb()));
        }
        if young.contains(&oldest) && !firsts.contains(&oldest) {
            reasons[oldest].insert(format!("oldest {} within {span}", period.adverb()));
        }
    }
    let by_age = !policy.within.is_zero() || policy.within_periods.iter().any(|(_, span)| !span.is_zero());
    for (shot, reasons) in shots.iter().zip(&mut reasons) {
        let has = |tag: &String| shot.tags.contains(tag);
        if by_age && shot.time > now {
            reasons.insert("dated in the future".to_owned());
        }
        for list in &policy.tags {
            if list.concat().is_empty() {
                if shot.tags.is_empty() {
                    reasons.insert("has no tags".to_owned());
                }
            } else if list.iter().all(has) {
                reasons.insert(format!("has tags [{}]", list.join(", ")));
            }
        }
    }
    reasons
}

fn real(shots: &[Shot], policy: &Policy, now: Timestamp, zone: &TimeZone) -> Vec<BTreeSet<String>> {
    let calendar = Calendar::new(zone.clone());
    let candidates: Vec<_> = shots.iter().map(|shot| Candidate::planned(shot.time, &shot.tags, &calendar)).collect();
    let verdicts = apply(&candidates, policy, now, &calendar);
    assert_eq!(verdicts.len(), shots.len());
    verdicts
        .iter()
        .map(|verdict| {
            let texts: BTreeSet<String> = verdict.reasons.iter().map(ToString::to_string).collect();
            assert_eq!(texts.len(), verdict.reasons.len(), "no reason twice: {:?}", verdict.reasons);
            texts
        })
        .collect()
}

/// Moments at all scales: gaps of seconds up to months, and often near where clocks are set.
fn times() -> impl Strategy<Value = Vec<Timestamp>> {
    let start = prop_oneof![
        3 => 946_684_800..2_208_988_800_i64, // 2000 to 2040
        1 => select(vec![
            1_699_163_940_i64, 1_710_054_000, 1_698_541_200, 1_712_412_000, // clocks are set
            1_735_600_000, 1_704_060_000, 1_609_470_000, 1_483_228_800,     // turns of a year
            1_709_164_800, 951_782_400, 86_400, 0, -1, -86_400 * 400,       // leap days, and the beginning
        ]),
    ];
    let gap = prop_oneof![
        Just(0_i64),
        0..120_i64,
        0..5_000_i64,
        0..200_000_i64,
        0..2_000_000_i64,
        0..20_000_000_i64,
        select(vec![60, 1800, 3600, 86_400, 7 * 86_400])
    ];
    (start, vec((gap, 0..3_u32), 0..40)).prop_map(|(start, gaps)| {
        let mut at = start;
        gaps.into_iter()
            .map(|(gap, nanoseconds)| {
                at += gap;
                Timestamp::new(at, nanoseconds * 400_000_000).unwrap()
            })
            .collect::<BTreeSet<_>>()
            .into_iter()
            .rev()
            .collect()
    })
}

fn shots() -> impl Strategy<Value = Vec<Shot>> {
    times().prop_flat_map(|times| {
        let tags = vec(prop::sample::subsequence(vec!["a", "b", "c"], 0..=3), times.len());
        tags.prop_map(move |tags| {
            let own = |tags: Vec<&str>| tags.into_iter().map(str::to_owned).collect();
            times.iter().zip(tags).map(|(time, tags)| Shot { time: *time, tags: own(tags) }).collect()
        })
    })
}

fn count() -> impl Strategy<Value = Count> {
    prop_oneof![4 => Just(Count::Newest(0)), 3 => (1..8_u32).prop_map(Count::Newest), 1 => Just(Count::All)]
}

fn span() -> impl Strategy<Value = Span> {
    let some = (0..3_u32, 0..14_u32, 0..4_u32, 0..40_u32, 0..50_u32, 0..32_u8).prop_map(|(y, m, w, d, h, mask)| Span {
        years: if mask & 1 == 0 { 0 } else { y },
        months: if mask & 2 == 0 { 0 } else { m },
        weeks: if mask & 4 == 0 { 0 } else { w },
        days: if mask & 8 == 0 { 0 } else { d },
        hours: if mask & 16 == 0 { 0 } else { h },
    });
    prop_oneof![3 => Just(Span::default()), 2 => some]
}

fn policy() -> impl Strategy<Value = Policy> {
    let lists = vec![vec![""], vec!["a"], vec!["a", "b"], vec!["c", "x"]];
    (count(), vec(count(), 8), span(), vec(span(), 8), prop::sample::subsequence(lists, 0..=2)).prop_map(
        |(last, counts, within, spans, tags)| Policy {
            last,
            periods: PerPeriod::from_fn(|period| counts[period as usize]),
            within,
            within_periods: PerPeriod::from_fn(|period| spans[period as usize]),
            tags: tags.into_iter().map(|list| list.into_iter().map(str::to_owned).collect()).collect(),
            ids: Vec::new(),
        },
    )
}

fn config(cases: u32) -> ProptestConfig {
    let persistence = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn rules_do_what_the_model_says(shots in shots(), policy in policy(), zone_name in select(&ZONES[..]), now_at in 0..50_usize) {
        let zone = zone(zone_name);
        // Now is mostly after all of them, and sometimes among them.
        let now = shots.get(now_at).map_or(Timestamp::from_seconds(4_000_000_000), |shot| shot.time);
        prop_assert_eq!(real(&shots, &policy, now, &zone), model(&shots, &policy, now, &zone));
    }

    /// A snapshot that cannot be read is not counted. That must never make another one go.
    #[test]
    fn one_less_makes_no_other_go(shots in shots(), policy in policy(), zone_name in select(&ZONES[..]), missing in 0..40_usize) {
        let zone = zone(zone_name);
        let now = Timestamp::from_seconds(4_000_000_000);
        if shots.is_empty() {
            return Ok(());
        }
        let missing = missing % shots.len();
        let mut all = real(&shots, &policy, now, &zone);
        all.remove(missing);
        let mut fewer = shots.clone();
        fewer.remove(missing);
        for (before, after) in all.iter().zip(real(&fewer, &policy, now, &zone)) {
            prop_assert!(before.is_empty() || !after.is_empty(), "{:?}", before);
        }
    }

    #[test]
    fn two_are_in_one_period_if_they_are_the_same_when_cut_off(times in times(), zone_name in select(&ZONES[..])) {
        let zone = zone(zone_name);
        let calendar = Calendar::new(zone.clone());
        for period in Period::ALL {
            for one in &times {
                for other in &times {
                    let same = truncated(period, *one, &zone) == truncated(period, *other, &zone);
                    let buckets = (calendar.bucket(period, *one), calendar.bucket(period, *other));
                    prop_assert_eq!(buckets.0 == buckets.1, same, "{:?} {:?} {:?}", period, one, other);
                }
            }
        }
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_seconds(text.parse::<Moment>().unwrap().as_second())
}

#[test]
fn borders_of_periods() {
    let calendar = Calendar::utc();
    let same = |period, one, other| calendar.bucket(period, at(one)) == calendar.bucket(period, at(other));
    // An hour apart at the same minute: two minutes.
    assert!(!same(Period::Minute, "2024-05-01T10:00:00Z", "2024-05-01T11:00:00Z"));
    assert!(same(Period::Minute, "2024-05-01T10:00:00Z", "2024-05-01T10:00:59Z"));
    // One ISO week over the turn of a year; and the same number in two years.
    assert!(same(Period::Week, "2024-12-30T00:00:00Z", "2025-01-01T12:00:00Z"));
    assert!(same(Period::Week, "2021-01-03T23:59:59Z", "2020-12-28T00:00:00Z"));
    assert!(!same(Period::Week, "2024-12-29T23:59:59Z", "2024-12-30T00:00:00Z"));
    assert!(!same(Period::Week, "2024-01-01T00:00:00Z", "2024-12-30T00:00:00Z"));
    assert!(!same(Period::Year, "2024-12-31T23:59:59Z", "2025-01-01T00:00:00Z"));
    assert!(same(Period::Quarter, "2024-04-01T00:00:00Z", "2024-06-30T23:59:59Z"));
    assert!(!same(Period::Quarter, "2024-03-31T00:00:00Z", "2024-04-01T00:00:00Z"));
    assert!(!same(Period::HalfYear, "2024-06-30T23:59:59Z", "2024-07-01T00:00:00Z"));
    assert!(!same(Period::HalfYear, "2023-08-01T00:00:00Z", "2024-08-01T00:00:00Z"));
}

#[test]
fn the_hour_that_comes_twice_is_two_hours_of_one_day() {
    let calendar = Calendar::new(zone("CET-1CEST,M3.5.0,M10.5.0/3"));
    let (summer, winter) = (at("2024-10-27T00:30:00Z"), at("2024-10-27T01:30:00Z"));
    assert_ne!(calendar.bucket(Period::Hour, summer), calendar.bucket(Period::Hour, winter));
    assert_eq!(calendar.bucket(Period::Day, summer), calendar.bucket(Period::Day, winter));
}

#[test]
fn back_by_the_calendar() {
    let calendar = Calendar::utc();
    let back = |from, span: &str| calendar.before(at(from), span.parse().unwrap()).unwrap();
    for (from, span, to) in [
        ("2023-03-31T12:00:00Z", "1m", "2023-02-28T12:00:00Z"),
        ("2024-03-31T12:00:00Z", "1m", "2024-02-29T12:00:00Z"),
        ("2024-02-29T12:00:00Z", "1y", "2023-02-28T12:00:00Z"),
        ("2024-03-31T12:00:00Z", "1m1d", "2024-02-28T12:00:00Z"),
        ("2024-01-15T01:00:00Z", "1y2m3w4d5h", "2022-10-20T20:00:00Z"),
    ] {
        assert_eq!(back(from, span), at(to), "{from} - {span}");
    }
    // The same time of day before a clock was set; hours are hours as they pass.
    let berlin = Calendar::new(zone("CET-1CEST,M3.5.0,M10.5.0/3"));
    let noon = at("2024-03-31T10:00:00Z");
    assert_eq!(berlin.before(noon, "1d".parse().unwrap()), Some(at("2024-03-30T11:00:00Z")));
    assert_eq!(berlin.before(noon, "24h".parse().unwrap()), Some(at("2024-03-30T10:00:00Z")));
    assert_eq!(berlin.after(at("2024-03-30T11:00:00Z"), "1d".parse().unwrap()), Some(noon));
}

#[test]
fn moments_beyond_the_calendar() {
    let calendar = Calendar::new(zone(ZONES[1]));
    let times = [i64::MAX, 300_000_000_000, 0, -400_000_000_000, i64::MIN].map(Timestamp::from_seconds);
    for time in times {
        for period in Period::ALL {
            let _ = calendar.bucket(period, time);
        }
    }
    assert_eq!(calendar.before(times[3], "9999y".parse().unwrap()), None);
    assert_eq!(calendar.after(times[0], "1h".parse().unwrap()), None);
    // What lies before the beginning of the calendar is still within a span that reaches beyond it.
    let shots: Vec<_> = times.iter().map(|time| Shot { time: *time, tags: Vec::new() }).collect();
    let policy = Policy { within: "9999y".parse().unwrap(), ..Policy::default() };
    assert!(real(&shots, &policy, times[3], &zone(ZONES[1])).iter().all(|reasons| !reasons.is_empty()));
}

/// By hand, after restic's description of its own rules.
#[test]
fn a_policy_by_hand() {
    let days =
        ["11-20T12", "11-20T06", "11-19T12", "11-16T12", "11-15T12", "10-31T12", "10-30T12", "09-01T12", "08-31T12"];
    let shots: Vec<_> =
        days.iter().map(|day| Shot { time: at(&format!("2024-{day}:00:00Z")), tags: Vec::new() }).collect();
    let mut policy = Policy { last: Count::Newest(1), ..Policy::default() };
    policy.periods[Period::Day] = Count::Newest(3);
    policy.periods[Period::Month] = Count::Newest(5);
    let kept = real(&shots, &policy, at("2024-11-21T00:00:00Z"), &zone("UTC0"));
    let texts: Vec<String> =
        kept.iter().map(|reasons| reasons.iter().cloned().collect::<Vec<_>>().join(", ")).collect();
    assert_eq!(
        texts,
        [
            "daily snapshot, last snapshot, monthly snapshot",
            "",
            "daily snapshot",
            "daily snapshot",
            "",
            "monthly snapshot",
            "",
            "monthly snapshot",
            "monthly snapshot",
        ]
    );
    // Used-up counts are not there for the oldest one; counts that are left are.
    policy.periods[Period::Month] = Count::Newest(1);
    policy.periods[Period::Year] = Count::Newest(2);
    let kept = real(&shots, &policy, at("2024-11-21T00:00:00Z"), &zone("UTC0"));
    assert_eq!(kept[8], BTreeSet::from(["oldest yearly snapshot".to_owned()]));
}
