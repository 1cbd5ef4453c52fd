//! A moment in time as it is stored.

use serde::{Deserialize, Serialize};

/// A moment: seconds since 1970-01-01 00:00 UTC (negative before it), and nanoseconds after that second.
///
/// `nanoseconds` is below 1,000,000,000; decoding refuses anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "(i64, u32)", into = "(i64, u32)")]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

/// Why a pair of numbers is not a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} nanoseconds are a second or more")]
pub struct BadNanoseconds(u32);

impl Timestamp {
    /// A moment from its parts.
    ///
    /// # Errors
    /// When `nanoseconds` is a second or more.
    pub const fn new(seconds: i64, nanoseconds: u32) -> Result<Self, BadNanoseconds> {
        if nanoseconds < 1_000_000_000 { Ok(Self { seconds, nanoseconds }) } else { Err(BadNanoseconds(nanoseconds)) }
    }

    /// A moment at a full second.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`Self::seconds`].
    #[must_use]
    pub const fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }
}

impl TryFrom<(i64, u32)> for Timestamp {
    type Error = BadNanoseconds;

    fn try_from((seconds, nanoseconds): (i64, u32)) -> Result<Self, BadNanoseconds> {
        Self::new(seconds, nanoseconds)
    }
}

impl From<Timestamp> for (i64, u32) {
    fn from(time: Timestamp) -> Self {
        (time.seconds, time.nanoseconds)
    }
}
