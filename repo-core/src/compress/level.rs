//! How hard to compress.

use std::{fmt, str::FromStr};

/// A zstd level, or none at all. Where the names lie was measured on a kernel tree in frames of 1 MiB, one thread:
///
/// | level | name | ms per MiB | times smaller |
/// |---|---|---|---|
/// | 1 | `fastest` | 1.5 | 5.6 |
/// | 3 | `auto` | 1.9 | 6.1 |
/// | 7 | `better` | 6.3 | 7.0 |
/// | 19 | `max` | 213 | 7.8 |
///
/// Level 4 gains nothing over 3; from 7 to 15 the time grows sixfold for 4 %; 22 differs from 19 only in data that
/// is larger than a frame. Levels below 1 save less than a quarter of level 1's time and lose 15 % or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Level(Option<i32>);

/// Why something is not a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a compression level: off, fastest, auto, better, max, or a number from {low} to {high}",
    low = Level::LOWEST,
    high = Level::HIGHEST
)]
pub struct LevelError(String);

impl Level {
    /// Store everything as it is.
    pub const OFF: Self = Self(None);
    /// For fast stores and slow machines.
    pub const FASTEST: Self = Self(Some(1));
    /// What is right nearly always, and the default.
    pub const AUTO: Self = Self(Some(3));
    /// For slow lines or costly stores.
    pub const BETTER: Self = Self(Some(7));
    /// For what is written once and kept for years: a hundred times the work of `auto`.
    pub const MAX: Self = Self(Some(19));

    const LOWEST: i32 = -7;
    const HIGHEST: i32 = 22;

    const NAMES: [(&'static str, Self); 5] = [
        ("off", Self::OFF),
        ("fastest", Self::FASTEST),
        ("auto", Self::AUTO),
        ("better", Self::BETTER),
        ("max", Self::MAX),
    ];

    /// A level by zstd's number, -7 to 22; 0 is zstd's word for its default and becomes [`Self::AUTO`].
    ///
    /// # Errors
    /// When it is out of these bounds.
    pub fn zstd(level: i32) -> Result<Self, LevelError> {
        match level {
            0 => Ok(Self::AUTO),
            Self::LOWEST..=Self::HIGHEST => Ok(Self(Some(level))),
            _ => Err(LevelError(level.to_string())),
        }
    }

    /// zstd's number; nothing for [`Self::OFF`].
    #[must_use]
    pub const fn zstd_level(self) -> Option<i32> {
        self.0
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::AUTO
    }
}

impl fmt::Display for Level {
    /// The name if it has one, otherwise the number; [`str::parse`] reads either.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (Self::NAMES.iter().find(|(_, level)| level == self), self.0) {
            (Some((name, _)), _) => out.write_str(name),
            (None, Some(number)) => write!(out, "{number}"),
            (None, None) => Ok(()),
        }
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        match Self::NAMES.iter().find(|(name, _)| *name == text) {
            Some((_, level)) => Ok(*level),
            None => text.parse().ok().and_then(|level| Self::zstd(level).ok()).ok_or_else(|| LevelError(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for level in (-7..=22).map(|level| Level::zstd(level).unwrap()).chain([Level::OFF]) {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        for (text, level) in [("max", Level::MAX), ("3", Level::AUTO), ("0", Level::AUTO), ("-7", Level(Some(-7)))] {
            assert_eq!(text.parse(), Ok(level), "{text}");
        }
        assert_eq!(Level::default().to_string(), "auto");
        for bad in ["", "-8", "23", "Max", "zstd", "3 ", "4294967299"] {
            assert_eq!(bad.parse::<Level>(), Err(LevelError(bad.into())), "{bad}");
        }
    }
}
