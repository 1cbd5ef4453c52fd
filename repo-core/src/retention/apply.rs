//! Asking every rule about every snapshot.

use std::{collections::HashSet, fmt};

use crate::{
    id::SnapshotId,
    retention::{
        calendar::{Bucket, Calendar, Period},
        policy::{Count, PerPeriod, Policy},
        span::Span,
    },
    snapshot::{Protection, Snapshot},
    time::Timestamp,
};

/// How far the clocks of a store and of those who write to it may differ.
const CLOCK_DIFFERENCE_SECONDS_MAX: i64 = 86_400;

/// As much of a snapshot as rules look at, with the periods it lies in.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// Its id; one that is not made yet has none.
    pub id: Option<&'a SnapshotId>,
    /// When it was made.
    pub time: Timestamp,
    tags: &'a [String],
    protection: Protection,
    is_newer: bool,
    is_ahead: bool,
    buckets: PerPeriod<Bucket>,
}

impl<'a> Candidate<'a> {
    /// A snapshot that there is.
    #[must_use]
    pub fn new(id: &'a SnapshotId, snapshot: &'a Snapshot, calendar: &Calendar) -> Self {
        let planned = Self::planned(snapshot.time, &snapshot.tags, calendar);
        let is_newer = snapshot.check_known(id).is_err();
        Self { id: Some(id), protection: snapshot.protection, is_newer, ..planned }
    }

    /// Tells when it was stored, by the store's clock. One that is dated more than a day later than that was made by a clock that
    /// runs ahead, and is in the future whatever the clock here says: it may be the same one.
    #[must_use]
    pub fn stored(self, stored: Option<Timestamp>) -> Self {
        let is_ahead = stored
            .is_some_and(|stored| self.time.seconds() > stored.seconds().saturating_add(CLOCK_DIFFERENCE_SECONDS_MAX));
        Self { is_ahead, ..self }
    }

    /// Whether it is dated in the future, so that nobody knows how old it is.
    #[must_use]
    pub fn is_future(&self, now: Timestamp) -> bool {
        self.time > now || self.is_ahead
    }

    /// One that would be made at some time, with these tags.
    #[must_use]
    pub fn planned(time: Timestamp, tags: &'a [String], calendar: &Calendar) -> Self {
        let buckets = PerPeriod::from_fn(|period| calendar.bucket(period, time));
        Self { id: None, time, tags, protection: Protection::None, is_newer: false, is_ahead: false, buckets }
    }

    /// Whether it has all tags of a list; the list of one empty tag means to have none.
    fn has_tags(&self, list: &[String]) -> bool {
        match list {
            [only] if only.is_empty() => self.tags.is_empty(),
            list => list.iter().all(|tag| self.tags.contains(tag)),
        }
    }
}

/// Why a snapshot is kept. Its text is restic's where restic has the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is protected for ever.
    Protected,
    /// It is protected until a moment that has not come.
    ProtectedUntil(Timestamp),
    /// A newer program made it, and says that one has to know more of it than this program does.
    Newer,
    /// It has the tags of one list.
    Tags(Vec<String>),
    /// Its id begins with this.
    Id(String),
    /// It is dated in the future, so that a rule by age cannot tell how old it is.
    Future,
    /// It is young enough.
    Within(Span),
    /// It is one of the newest.
    Last,
    /// It is the newest of its period.
    Newest(Period),
    /// It is the oldest of the group, and the rule had counts left.
    Oldest(Period),
    /// It is the newest of its period, among those that are young enough.
    NewestWithin(Period, Span),
    /// It is the oldest of the group, and still young enough.
    OldestWithin(Period, Span),
    /// Another one is kept that was made from it by an edit, or that it was made from.
    Edited,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protected => out.write_str("protected"),
            Self::ProtectedUntil(_) => out.write_str("protected for now"),
            Self::Newer => out.write_str("made by a newer version"),
            Self::Tags(list) if list.iter().all(String::is_empty) => out.write_str("has no tags"),
            Self::Tags(list) => write!(out, "has tags [{}]", list.join(", ")),
            Self::Id(prefix) => write!(out, "id {prefix}"),
            Self::Future => out.write_str("dated in the future"),
            Self::Within(span) => write!(out, "within {span}"),
            Self::Last => out.write_str("last snapshot"),
            Self::Newest(period) => write!(out, "{} snapshot", period.adverb()),
            Self::Oldest(period) => write!(out, "oldest {} snapshot", period.adverb()),
            Self::NewestWithin(period, span) => write!(out, "{} within {span}", period.adverb()),
            Self::Edited => out.write_str("edited from or to one that is kept"),
            Self::OldestWithin(period, span) => write!(out, "oldest {} within {span}", period.adverb()),
        }
    }
}

/// What the rules say of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is kept. If for no reason, it goes.
    pub reasons: Vec<Reason>,
    /// What the rule by number may still keep after it.
    pub last_left: Count,
    /// What the rules by period may still keep after it.
    pub periods_left: PerPeriod<Count>,
}

impl Verdict {
    /// Whether it is kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Applies a policy to one group. `candidates` must be the whole group, newest first; one verdict for each is returned, in the same
/// order. `now` only tells what lies in the future and whose protection has ended.
#[must_use]
pub fn apply(candidates: &[Candidate<'_>], policy: &Policy, now: Timestamp, calendar: &Calendar) -> Vec<Verdict> {
    debug_assert!(candidates.is_sorted_by(|newer, older| newer.time >= older.time), "newest first");
    let mut rules = Rules::new(candidates, policy, now, calendar);
    let oldest = candidates.len().saturating_sub(1);
    candidates.iter().enumerate().map(|(at, candidate)| rules.verdict(candidate, at == oldest)).collect()
}

/// The rules at work, from the newest snapshot to the oldest.
struct Rules<'p> {
    policy: &'p Policy,
    now: Timestamp,
    last_left: Count,
    periods_left: PerPeriod<Count>,
    /// Periods of which a rule has kept one.
    seen: Vec<HashSet<Bucket>>,
    seen_within: Vec<HashSet<Bucket>>,
    within: Window,
    within_periods: PerPeriod<Window>,
}

/// Back to when a rule by age reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// There is no such rule.
    Closed,
    /// To just after this moment.
    After(Timestamp),
    /// To the beginning of time.
    Open,
}

impl Window {
    fn holds(self, time: Timestamp) -> bool {
        match self {
            Self::Closed => false,
            Self::After(limit) => time > limit,
            Self::Open => true,
        }
    }
}

impl<'p> Rules<'p> {
    fn new(candidates: &[Candidate<'_>], policy: &'p Policy, now: Timestamp, calendar: &Calendar) -> Self {
        let anchor = candidates.iter().find(|candidate| !candidate.is_future(now)).map(|candidate| candidate.time);
        let window = |span: Span| match anchor {
            _ if span.is_zero() => Window::Closed,
            // All are in the future: whatever is before now is old, and nothing is.
            None => Window::Open,
            Some(anchor) => calendar.before(anchor, span).map_or(Window::Open, Window::After),
        };
        Self {
            policy,
            now,
            last_left: policy.last,
            periods_left: policy.periods,
            seen: vec![HashSet::new(); Period::COUNT],
            seen_within: vec![HashSet::new(); Period::COUNT],
            within: window(policy.within),
            within_periods: PerPeriod::from_fn(|period| window(policy.within_periods[period])),
        }
    }

    fn verdict(&mut self, candidate: &Candidate<'_>, is_oldest: bool) -> Verdict {
        let mut reasons = self.marks(candidate);
        if candidate.is_future(self.now) && self.policy.has_ages() {
            reasons.push(Reason::Future);
        }
        if self.within.holds(candidate.time) {
            reasons.push(Reason::Within(self.policy.within));
        }
        if !self.last_left.is_zero() {
            self.last_left = self.last_left.less_one();
            reasons.push(Reason::Last);
        }
        for period in Period::ALL {
            if self.periods_left[period].is_zero() {
                continue;
            }
            let is_newest = self.seen[period as usize].insert(candidate.buckets[period]);
            if is_newest || is_oldest {
                self.periods_left[period] = self.periods_left[period].less_one();
                reasons.push(if is_newest { Reason::Newest(period) } else { Reason::Oldest(period) });
            }
        }
        for period in Period::ALL {
            if !self.within_periods[period].holds(candidate.time) {
                continue;
            }
            let span = self.policy.within_periods[period];
            if self.seen_within[period as usize].insert(candidate.buckets[period]) {
                reasons.push(Reason::NewestWithin(period, span));
            } else if is_oldest {
                reasons.push(Reason::OldestWithin(period, span));
            }
        }
        Verdict { reasons, last_left: self.last_left, periods_left: self.periods_left }
    }

    /// What is kept for what it bears, and not for when it was made.
    fn marks(&self, candidate: &Candidate<'_>) -> Vec<Reason> {
        let mut reasons = Vec::new();
        match candidate.protection {
            Protection::Forever => reasons.push(Reason::Protected),
            Protection::Until(until) if self.now < until => reasons.push(Reason::ProtectedUntil(until)),
            Protection::Until(_) | Protection::None => {}
        }
        if candidate.is_newer {
            reasons.push(Reason::Newer);
        }
        let tagged = self.policy.tags.iter().filter(|list| candidate.has_tags(list));
        reasons.extend(tagged.map(|list| Reason::Tags(list.clone())));
        if let Some(id) = candidate.id.filter(|_| !self.policy.ids.is_empty()) {
            let id = id.to_string();
            let named = self.policy.ids.iter().filter(|prefix| id.starts_with(prefix.as_str()));
            reasons.extend(named.map(|prefix| Reason::Id(prefix.clone())));
        }
        reasons
    }
}
