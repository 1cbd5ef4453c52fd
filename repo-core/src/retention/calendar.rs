//! Hours, days, weeks and years of one time zone.

use jiff::{Timestamp as Moment, tz::TimeZone};

use crate::{retention::span::Span, time::Timestamp};

/// A stretch of the calendar, from one border to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Period {
    /// A minute of the clock.
    Minute,
    /// An hour of the clock.
    Hour,
    /// A day.
    Day,
    /// A week of ISO 8601: from Monday, belonging to the year its Thursday is in.
    Week,
    /// A month.
    Month,
    /// Three months, from January, April, July or October.
    Quarter,
    /// Six months, from January or July.
    HalfYear,
    /// A year.
    Year,
}

impl Period {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// All of them, the shortest first.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Quarter, Self::HalfYear, Self::Year];

    /// What the rule that keeps one for each is called: `daily`.
    #[must_use]
    pub const fn adverb(self) -> &'static str {
        match self {
            Self::Minute => "minutely",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Quarter => "quarter-yearly",
            Self::HalfYear => "half-yearly",
            Self::Year => "yearly",
        }
    }
}

/// One particular period: this day, that week. Two moments lie in the same one if, and only if, these are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// The digits of the date, as far as they matter.
    number: i64,
    /// For minutes and hours: seconds east of UTC. Where a clock is set back, an hour comes twice, and those are two hours.
    offset_seconds: i32,
}

/// The calendar of one time zone.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: TimeZone,
}

impl Calendar {
    /// The calendar of `zone`.
    #[must_use]
    pub const fn new(zone: TimeZone) -> Self {
        Self { zone }
    }

    /// The calendar of UTC.
    #[must_use]
    pub const fn utc() -> Self {
        Self::new(TimeZone::UTC)
    }

    /// The period that `time` lies in. Beyond the years ±9999 there is but one.
    #[must_use]
    pub fn bucket(&self, period: Period, time: Timestamp) -> Bucket {
        let moment = moment(time);
        let offset = self.zone.to_offset(moment);
        let clock = offset.to_datetime(moment);
        let date = clock.date();
        let (year, month) = (i64::from(date.year()), i64::from(date.month()));
        let day = (year * 100 + month) * 100 + i64::from(date.day());
        let hour = day * 100 + i64::from(clock.hour());
        let (number, has_clock) = match period {
            Period::Minute => (hour * 100 + i64::from(clock.minute()), true),
            Period::Hour => (hour, true),
            Period::Day => (day, false),
            Period::Week => {
                let week = date.iso_week_date();
                (i64::from(week.year()) * 100 + i64::from(week.week()), false)
            }
            Period::Month => (year * 100 + month, false),
            Period::Quarter => (year * 10 + (month - 1) / 3, false),
            Period::HalfYear => (year * 10 + (month - 1) / 6, false),
            Period::Year => (year, false),
        };
        Bucket { number, offset_seconds: if has_clock { offset.seconds() } else { 0 } }
    }

    /// The moment `span` before `time`; `None` where the calendar ends.
    ///
    /// Years and months go back by the calendar, at the same time of day. Where a month has no such day its last one is taken: a
    /// month before 31 March is 28 or 29 February. Then weeks and days go back, and hours at last, as they pass.
    #[must_use]
    pub fn before(&self, time: Timestamp, span: Span) -> Option<Timestamp> {
        self.shifted(time, span, -1)
    }

    /// The moment `span` after `time`, by the same rules; `None` where the calendar ends.
    #[must_use]
    pub fn after(&self, time: Timestamp, span: Span) -> Option<Timestamp> {
        self.shifted(time, span, 1)
    }

    fn shifted(&self, time: Timestamp, span: Span, sign: i64) -> Option<Timestamp> {
        let dates = jiff::Span::new()
            .try_years(sign * i64::from(span.years))
            .and_then(|dates| dates.try_months(sign * i64::from(span.months)))
            .and_then(|dates| dates.try_weeks(sign * i64::from(span.weeks)))
            .and_then(|dates| dates.try_days(sign * i64::from(span.days)))
            .ok()?;
        let hours = jiff::SignedDuration::from_hours(sign * i64::from(span.hours));
        let day = moment(time).to_zoned(self.zone.clone()).checked_add(dates).ok()?;
        timestamp(day.timestamp().checked_add(hours).ok()?)
    }
}

/// The calendar's idea of a moment, which ends somewhere.
fn moment(time: Timestamp) -> Moment {
    let end = if time.seconds() < 0 { Moment::MIN } else { Moment::MAX };
    i32::try_from(time.nanoseconds())
        .ok()
        .and_then(|nanoseconds| Moment::new(time.seconds(), nanoseconds).ok())
        .unwrap_or(end)
}

fn timestamp(moment: Moment) -> Option<Timestamp> {
    // Before 1970 both parts are negative there; here nanoseconds count forward.
    let nanoseconds = moment.as_nanosecond();
    let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?;
    Timestamp::new(seconds, u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?).ok()
}
