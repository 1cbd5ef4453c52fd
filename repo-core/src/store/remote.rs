//! What stores on other machines have in common: how long a request may take, and how what they say is told.

#![cfg_attr(
    not(all(feature = "http", feature = "services", feature = "sftp")),
    allow(dead_code, reason = "each kind of store needs a part of it")
)]

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use crate::time::Timestamp;

/// Time to reach the store: to look up its name, connect, and agree on keys.
pub(super) const CONNECT: Duration = Duration::from_secs(20);

/// Longest silence: with nothing arriving, or nothing being taken, for so long, a connection is given up.
pub(super) const SILENCE: Duration = Duration::from_mins(2);

/// Longest silence before a listing begins: some servers gather it as a whole from a store of their own.
pub(super) const LISTING_SILENCE: Duration = Duration::from_mins(10);

/// Slowest transfer that is waited for, in bytes a second. A full pack then takes half an hour.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 << 10;

/// Largest transfer for which time is allowed.
const LARGEST_BYTES: u64 = 4 << 30;

/// Longest excerpt of an answer in a message, in characters.
const EXCERPT_CHARS: usize = 200;

/// How the name begins of a file that is being written; no object's does.
pub(super) const TEMPORARY: &str = ".tmp-";

/// Age, by the server's own clock, at which such a file is held to be left behind by a writer that was killed. One that slept longer finds its
/// file gone and writes the object again.
const LEFT_BEHIND_SECONDS: i64 = 3 * 24 * 60 * 60;

/// Whether a file that is being written, last at one time, is left behind at another; both in seconds by the server's clock.
pub(super) const fn is_left_behind(written: i64, now: i64) -> bool {
    now.saturating_sub(written) > LEFT_BEHIND_SECONDS
}

/// How long a whole request may take that moves so many bytes.
pub(super) fn deadline(size_bytes: u64) -> Duration {
    Duration::from_mins(5) + Duration::from_secs(size_bytes.min(LARGEST_BYTES) / SLOWEST_BYTES_PER_SECOND)
}

/// How long the answer to so many bytes that were sent may take: some servers pass them on before they answer.
pub(super) fn answer_silence(sent_bytes: u64) -> Duration {
    SILENCE + Duration::from_secs(sent_bytes.min(LARGEST_BYTES) / (8 * SLOWEST_BYTES_PER_SECOND))
}

/// Longest time that a store can ask to be left alone for.
const WAIT_MAX_SECONDS: u64 = 24 * 3600;

/// A time as HTTP writes it.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    Some(Timestamp::from_seconds(DateTimeParser::new().parse_timestamp(text).ok()?.as_second()))
}

/// For how long a store asks to be left alone: in seconds, or until a time, which its own `date` makes a length.
pub(super) fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    let seconds = text.parse().ok().or_else(|| {
        let length = http_date(text)?.seconds().checked_sub(http_date(date?)?.seconds())?;
        u64::try_from(length).ok()
    })?;
    Some(Duration::from_secs(seconds.min(WAIT_MAX_SECONDS)))
}

/// What a store said, for a message: one line, not long, with nothing in it that a terminal would act on.
pub(super) fn excerpt(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|part| !part.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_grows_with_size_and_has_an_end() {
        assert_eq!(deadline(0), Duration::from_mins(5));
        assert!(deadline(32 << 20) > Duration::from_mins(30) && deadline(32 << 20) < Duration::from_mins(45));
        assert_eq!(deadline(u64::MAX), deadline(LARGEST_BYTES));
        assert!(answer_silence(32 << 20) < deadline(32 << 20));
    }

    #[test]
    fn how_long_to_wait() {
        let now = Some("Sat, 21 Nov 2026 13:00:01 GMT");
        let wait = |text, date| retry_after(text, date).map(|wait| wait.as_secs());
        assert_eq!(wait("120", None), Some(120));
        assert_eq!(wait("99999999999", None), Some(WAIT_MAX_SECONDS));
        assert_eq!(wait("Sat, 21 Nov 2026 13:01:01 GMT", now), Some(60));
        assert_eq!(wait("Sat, 21 Nov 2026 12:01:01 GMT", now), None, "it is over");
        for text in ["", "-1", "soon", "1.5", "Sat, 21 Nov 2026 13:01:01 GMT"] {
            assert_eq!(wait(text, None), None, "{text}");
        }
    }

    #[test]
    fn excerpts_are_one_harmless_line() {
        assert_eq!(excerpt(" a\r\n\tb \x1b[31mc "), "a b [31mc");
        assert_eq!(excerpt(&"ä".repeat(500)).chars().count(), EXCERPT_CHARS + 1);
    }
}
