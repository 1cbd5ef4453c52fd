//! Moments for people and for programs.

use jiff::{Timestamp as Moment, Zoned, civil, tz::Offset, tz::TimeZone};
use repo_core::{retention::calendar::Calendar, time::Timestamp};

/// A stored moment, if it is one a calendar can show.
fn moment(time: Timestamp) -> Option<Moment> {
    Moment::new(time.seconds(), i32::try_from(time.nanoseconds()).ok()?).ok()
}

/// The calendar of the local zone.
pub(crate) fn calendar() -> Calendar {
    Calendar::new(TimeZone::system())
}

/// In the local zone, to the second.
pub(crate) fn local(time: Timestamp) -> String {
    show(time, TimeZone::system(), "%Y-%m-%d %H:%M:%S")
}

/// RFC 3339 in the local zone, with as many digits of the second as it has.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    show(time, TimeZone::system(), "%Y-%m-%dT%H:%M:%S%.f%:z")
}

/// RFC 3339 at so many seconds east of UTC.
pub(crate) fn rfc3339_at(time: Timestamp, utc_offset_seconds: i32) -> String {
    let offset = Offset::from_seconds(utc_offset_seconds).unwrap_or(Offset::UTC);
    show(time, TimeZone::fixed(offset), "%Y-%m-%dT%H:%M:%S%.f%:z")
}

fn show(time: Timestamp, zone: TimeZone, format: &str) -> String {
    match moment(time) {
        Some(moment) => moment.to_zoned(zone).strftime(format).to_string(),
        None => format!("{} seconds from 1970", time.seconds()),
    }
}

/// Seconds east of UTC, here and at this moment.
pub(crate) fn utc_offset_seconds(time: Timestamp) -> i32 {
    moment(time).map_or(0, |moment| TimeZone::system().to_offset(moment).seconds())
}

/// Reads a moment: `2026-01-31`, `2026-01-31 23:59` or with seconds (in the local zone), RFC 3339, or `now`.
///
/// # Errors
/// A sentence.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("\"{text}\" is not a time; write it like \"2026-01-31 23:59:59\" or 2026-01-31T23:59:59Z");
    let text = text.trim();
    let moment = if text == "now" {
        Moment::now()
    } else if let Ok(moment) = text.parse::<Moment>() {
        moment
    } else {
        let civil: civil::DateTime = text.parse().map_err(|_| wrong())?;
        let zoned: Zoned = civil.to_zoned(TimeZone::system()).map_err(|_| wrong())?;
        zoned.timestamp()
    };
    // jiff keeps the sign of both parts alike; stored moments count nanoseconds forward.
    let (seconds, nanoseconds) = (moment.as_second(), moment.subsec_nanosecond());
    let (seconds, nanoseconds) =
        if nanoseconds < 0 { (seconds - 1, nanoseconds + 1_000_000_000) } else { (seconds, nanoseconds) };
    Timestamp::new(seconds, u32::try_from(nanoseconds).unwrap_or(0)).map_err(|_| wrong())
}

/// How long something took, for people: `0.34 s`, `12 s`, `3 min 07 s`, `2 h 05 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 9.995 { format!("{seconds:.2} s") } else { rounded(seconds) }
}

/// The same in whole seconds.
pub(crate) fn rounded(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "negative and huge are cut off")]
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_moment() {
        let moment = Timestamp::new(1_700_000_000, 120_000_000).unwrap();
        assert_eq!(rfc3339_at(moment, 3600), "2023-11-14T23:13:20.12+01:00");
        assert_eq!(rfc3339_at(Timestamp::from_seconds(0), 0), "1970-01-01T00:00:00+00:00");
        assert_eq!(parse("2023-11-14T23:13:20.12+01:00"), Ok(moment));
        assert_eq!(parse("1969-12-31T23:59:59.25Z"), Ok(Timestamp::new(-1, 250_000_000).unwrap()));
        assert_eq!(rfc3339_at(Timestamp::from_seconds(i64::MAX), 0), "9223372036854775807 seconds from 1970");
        for text in ["2023-11-14", "2023-11-14 12:00", "2023-11-14 12:00:01", "now"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in ["", "yesterday", "2023-13-01", "1700000000"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (seconds, text) in
            [(0.341, "0.34 s"), (12.2, "12 s"), (59.9, "1 min 00 s"), (187.0, "3 min 07 s"), (7500.0, "2 h 05 min")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
