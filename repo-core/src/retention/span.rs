//! A length of time by the calendar: `1y5m7d2h`.

use std::{fmt, str::FromStr};

/// Years, months, weeks, days and hours. How long a month is depends on when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Weeks.
    pub weeks: u32,
    /// Days.
    pub days: u32,
    /// Hours of 3600 seconds.
    pub hours: u32,
}

/// Largest number of any unit: what can be reckoned with, with room to spare.
const NUMBER_MAX: u32 = 9999 * 12;

/// Why a text is not a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a length of time; write years, months, weeks, days and hours like 1y5m2w7d2h")]
pub struct ParseSpanError(String);

impl Span {
    /// Whether it is no time at all. As a rule, that is none.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// So many times as long; `None` where that is too much to reckon with.
    #[must_use]
    pub fn times(&self, factor: u32) -> Option<Self> {
        let product = |number: u32| number.checked_mul(factor);
        Some(Self {
            years: product(self.years)?,
            months: product(self.months)?,
            weeks: product(self.weeks)?,
            days: product(self.days)?,
            hours: product(self.hours)?,
        })
    }
}

impl FromStr for Span {
    type Err = ParseSpanError;

    /// Numbers with a unit each, every unit once at most, in any order.
    fn from_str(text: &str) -> Result<Self, ParseSpanError> {
        let wrong = || ParseSpanError(text.to_owned());
        let mut span = Self::default();
        let mut units_seen = String::new();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(at);
            let number: u32 = number.parse().ok().filter(|number| *number <= NUMBER_MAX).ok_or_else(wrong)?;
            let unit = tail.chars().next().ok_or_else(wrong)?;
            let field = match unit {
                'y' => &mut span.years,
                'm' => &mut span.months,
                'w' => &mut span.weeks,
                'd' => &mut span.days,
                'h' => &mut span.hours,
                _ => return Err(wrong()),
            };
            if units_seen.contains(unit) {
                return Err(wrong());
            }
            units_seen.push(unit);
            *field = number;
            rest = tail.get(1..).unwrap_or_default();
        }
        Ok(span)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return out.write_str("0h");
        }
        let units = [(self.years, 'y'), (self.months, 'm'), (self.weeks, 'w'), (self.days, 'd'), (self.hours, 'h')];
        units.iter().filter(|(number, _)| *number > 0).try_for_each(|(number, unit)| write!(out, "{number}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, shown) in [
            ("1y5m7d2h", "1y5m7d2h"),
            ("7d", "7d"),
            ("2h1y", "1y2h"),
            ("3w", "3w"),
            (" 10d ", "10d"),
            ("0d", "0h"),
            ("007d", "7d"),
        ] {
            assert_eq!(text.parse::<Span>().map(|span| span.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for text in
            ["", " ", "7", "d", "-1d", "1d1d", "1x", "1.5d", "7d ", "1d 2h", "99999999999d", "200000y", "1é", "7D"]
        {
            assert_eq!(text.parse::<Span>().is_ok(), text == "7d ", "{text}");
        }
    }
}
