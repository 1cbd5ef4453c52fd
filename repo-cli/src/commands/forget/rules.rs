//! The rules as flags.

use clap::Args;
use repo_core::retention::{
    calendar::Period,
    policy::{Count, PerPeriod, Policy},
    span::Span,
};

use crate::report::{Failure, Result};

/// What to keep.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to keep (N may be \"unlimited\", DURATION is written like 1y5m2w7d2h)")]
#[expect(clippy::struct_field_names, reason = "they are the names of the flags")]
pub(crate) struct RuleArgs {
    /// The N newest snapshots
    #[arg(short = 'l', long, value_name = "N", allow_negative_numbers = true)]
    keep_last: Option<Count>,

    /// The newest of each of the last N minutes that have a snapshot
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_minutely: Option<Count>,

    /// The newest of each of the last N hours that have a snapshot
    #[arg(short = 'H', long, value_name = "N", allow_negative_numbers = true)]
    keep_hourly: Option<Count>,

    /// The newest of each of the last N days that have a snapshot
    #[arg(short = 'd', long, value_name = "N", allow_negative_numbers = true)]
    keep_daily: Option<Count>,

    /// The newest of each of the last N weeks that have a snapshot; weeks begin on Monday
    #[arg(short = 'w', long, value_name = "N", allow_negative_numbers = true)]
    keep_weekly: Option<Count>,

    /// The newest of each of the last N months that have a snapshot
    #[arg(short = 'm', long, value_name = "N", allow_negative_numbers = true)]
    keep_monthly: Option<Count>,

    /// The newest of each of the last N quarters of a year that have a snapshot
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_quarter_yearly: Option<Count>,

    /// The newest of each of the last N halves of a year that have a snapshot
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_half_yearly: Option<Count>,

    /// The newest of each of the last N years that have a snapshot
    #[arg(short = 'y', long, value_name = "N", allow_negative_numbers = true)]
    keep_yearly: Option<Count>,

    /// All that are younger than this, seen from the newest snapshot
    #[arg(long, value_name = "DURATION")]
    keep_within: Option<Span>,

    /// Of those younger than this, the newest of each minute
    #[arg(long, value_name = "DURATION")]
    keep_within_minutely: Option<Span>,

    /// Of those younger than this, the newest of each hour
    #[arg(long, value_name = "DURATION")]
    keep_within_hourly: Option<Span>,

    /// Of those younger than this, the newest of each day
    #[arg(long, value_name = "DURATION")]
    keep_within_daily: Option<Span>,

    /// Of those younger than this, the newest of each week
    #[arg(long, value_name = "DURATION")]
    keep_within_weekly: Option<Span>,

    /// Of those younger than this, the newest of each month
    #[arg(long, value_name = "DURATION")]
    keep_within_monthly: Option<Span>,

    /// Of those younger than this, the newest of each quarter of a year
    #[arg(long, value_name = "DURATION")]
    keep_within_quarter_yearly: Option<Span>,

    /// Of those younger than this, the newest of each half of a year
    #[arg(long, value_name = "DURATION")]
    keep_within_half_yearly: Option<Span>,

    /// Of those younger than this, the newest of each year
    #[arg(long, value_name = "DURATION")]
    keep_within_yearly: Option<Span>,

    /// Those with all of these tags, separated by commas (several times: any of the lists; '': those without tags)
    #[arg(long, value_name = "TAG,…", alias = "keep-tags")]
    keep_tag: Vec<String>,

    /// Those whose ids begin with this (may be given several times)
    #[arg(long, value_name = "ID")]
    keep_id: Vec<String>,
}

impl RuleArgs {
    pub(crate) fn policy(&self) -> Result<Policy> {
        let counts = |period| match period {
            Period::Minute => self.keep_minutely,
            Period::Hour => self.keep_hourly,
            Period::Day => self.keep_daily,
            Period::Week => self.keep_weekly,
            Period::Month => self.keep_monthly,
            Period::Quarter => self.keep_quarter_yearly,
            Period::HalfYear => self.keep_half_yearly,
            Period::Year => self.keep_yearly,
        };
        let spans = |period| match period {
            Period::Minute => self.keep_within_minutely,
            Period::Hour => self.keep_within_hourly,
            Period::Day => self.keep_within_daily,
            Period::Week => self.keep_within_weekly,
            Period::Month => self.keep_within_monthly,
            Period::Quarter => self.keep_within_quarter_yearly,
            Period::HalfYear => self.keep_within_half_yearly,
            Period::Year => self.keep_within_yearly,
        };
        Ok(Policy {
            last: self.keep_last.unwrap_or_default(),
            periods: PerPeriod::from_fn(|period| counts(period).unwrap_or_default()),
            within: self.keep_within.unwrap_or_default(),
            within_periods: PerPeriod::from_fn(|period| spans(period).unwrap_or_default()),
            tags: self.keep_tag.iter().map(|list| tag_list(list)).collect(),
            ids: self.keep_id.iter().map(|id| id_prefix(id)).collect::<Result<_>>()?,
        })
    }
}

/// Tags separated by commas; nothing at all stands for snapshots without tags.
fn tag_list(text: &str) -> Vec<String> {
    let list: Vec<String> = text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    if list.is_empty() { vec![String::new()] } else { list }
}

fn id_prefix(text: &str) -> Result<String> {
    let is_prefix = !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_prefix {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Failure::usage(format!("--keep-id: \"{text}\" is not the beginning of an id")))
    }
}
