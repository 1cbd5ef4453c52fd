//! Rules about what to keep.

use std::{
    fmt,
    ops::{Index, IndexMut},
    str::FromStr,
};

use crate::retention::{calendar::Period, span::Span};

/// How many a rule keeps. None at all: the rule is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// So many, the newest.
    Newest(u32),
    /// All there are.
    All,
}

impl Default for Count {
    fn default() -> Self {
        Self::Newest(0)
    }
}

impl Count {
    /// Whether it keeps nothing any more.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        matches!(self, Self::Newest(0))
    }

    /// One less.
    #[must_use]
    pub(super) const fn less_one(self) -> Self {
        match self {
            Self::Newest(count) => Self::Newest(count.saturating_sub(1)),
            Self::All => Self::All,
        }
    }
}

/// Why a text is not a count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither a number nor \"unlimited\"")]
pub struct ParseCountError(String);

impl FromStr for Count {
    type Err = ParseCountError;

    /// A number, or `unlimited`, or restic's older `-1` for the same.
    fn from_str(text: &str) -> Result<Self, ParseCountError> {
        match text {
            "unlimited" | "-1" => Ok(Self::All),
            _ => text.parse().map(Self::Newest).map_err(|_| ParseCountError(text.to_owned())),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(count) => write!(out, "{count}"),
            Self::All => out.write_str("all"),
        }
    }
}

/// A value for each kind of period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerPeriod<T>([T; Period::COUNT]);

impl<T> PerPeriod<T> {
    /// From what it is for each.
    pub fn from_fn(value: impl Fn(Period) -> T) -> Self {
        Self(Period::ALL.map(value))
    }
}

impl<T: Copy> PerPeriod<T> {
    /// Each with its value, the shortest first.
    pub fn iter(&self) -> impl Iterator<Item = (Period, T)> + '_ {
        Period::ALL.into_iter().zip(self.0.iter().copied())
    }
}

impl<T> Index<Period> for PerPeriod<T> {
    type Output = T;

    fn index(&self, period: Period) -> &T {
        &self.0[period as usize]
    }
}

impl<T> IndexMut<Period> for PerPeriod<T> {
    fn index_mut(&mut self, period: Period) -> &mut T {
        &mut self.0[period as usize]
    }
}

/// What to keep. A snapshot that no rule asks for goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The newest ones.
    pub last: Count,
    /// The newest one of each of so many periods.
    pub periods: PerPeriod<Count>,
    /// Those younger than this, seen from the newest one.
    pub within: Span,
    /// The newest one of each period, among those younger than this.
    pub within_periods: PerPeriod<Span>,
    /// Those with all tags of one of these lists; a list that is one empty tag means those without any.
    pub tags: Vec<Vec<String>>,
    /// Those whose ids begin with one of these, in lower-case hexadecimal digits.
    pub ids: Vec<String>,
}

impl Policy {
    /// Whether there is no rule in it. Such a policy would remove everything, and nobody means that.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_zero()
            && self.periods.iter().all(|(_, count)| count.is_zero())
            && !self.has_ages()
            && self.tags.is_empty()
            && self.ids.is_empty()
    }

    /// Whether some rule goes by age.
    #[must_use]
    pub fn has_ages(&self) -> bool {
        !self.within.is_zero() || self.within_periods.iter().any(|(_, span)| !span.is_zero())
    }
}

impl fmt::Display for Policy {
    /// `keep 3 last, 7 daily; daily within 2m; all within 7d; with tags [a, b]`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = Vec::new();
        if !self.last.is_zero() {
            counts.push(format!("{} last", self.last));
        }
        counts.extend(
            self.periods
                .iter()
                .filter(|(_, count)| !count.is_zero())
                .map(|(period, count)| format!("{count} {}", period.adverb())),
        );
        let mut rules = Vec::new();
        if !counts.is_empty() {
            rules.push(counts.join(", "));
        }
        rules.extend(
            self.within_periods
                .iter()
                .filter(|(_, span)| !span.is_zero())
                .map(|(period, span)| format!("{} within {span}", period.adverb())),
        );
        if !self.within.is_zero() {
            rules.push(format!("all within {}", self.within));
        }
        rules.extend(self.tags.iter().map(|list| match list.as_slice() {
            [only] if only.is_empty() => "all without tags".to_owned(),
            list => format!("all with tags [{}]", list.join(", ")),
        }));
        if !self.ids.is_empty() {
            rules.push(format!("ids {}", self.ids.join(", ")));
        }
        match rules.as_slice() {
            [] => out.write_str("keep nothing"),
            rules => write!(out, "keep {}", rules.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let mut policy = Policy::default();
        assert!(policy.is_empty());
        assert_eq!(policy.to_string(), "keep nothing");
        policy.last = Count::Newest(3);
        policy.periods[Period::Week] = Count::All;
        policy.within_periods[Period::Day] = "2m".parse().unwrap();
        policy.within = "7d".parse().unwrap();
        policy.tags = vec![vec!["a".into(), "b".into()], vec![String::new()]];
        policy.ids = vec!["12ab".into()];
        let text =
            "keep 3 last, all weekly; daily within 2m; all within 7d; all with tags [a, b]; all without tags; ids 12ab";
        assert_eq!(policy.to_string(), text);
    }

    #[test]
    fn what_switches_rules_off() {
        for text in ["0", "00"] {
            assert!(text.parse::<Count>().unwrap().is_zero());
        }
        let mut policy = Policy { within: "0d".parse().unwrap(), ..Policy::default() };
        policy.periods[Period::Year] = "0".parse().unwrap();
        assert!(policy.is_empty());
        for text in ["", "-2", "x", "1.5", "99999999999"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
        assert_eq!("unlimited".parse(), Ok(Count::All));
        assert_eq!("-1".parse(), Ok(Count::All));
    }
}
