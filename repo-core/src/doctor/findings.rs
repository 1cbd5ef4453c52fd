//! What follows from what was seen.

use std::collections::BTreeMap;

use super::{Answer, Finding, Probe, Question, finding};
use crate::{store::ObjectName, time::Timestamp};

/// Clients that race for one name.
pub(super) const RACERS: usize = 8;

/// Seconds by which clocks may differ without a word.
const CLOCK_SECONDS: u64 = 60;

pub(super) const ONLY_INIT: &str =
    "That matters only to two who make a repository in the same place at the same moment";

/// How an object looks that has to be there.
pub(super) struct Seen {
    pub(super) is_listed: bool,
    /// As it was stored.
    pub(super) is_read: bool,
    /// Or was not asked for.
    pub(super) is_known: bool,
    pub(super) modified: Option<Timestamp>,
}

/// Whether objects were there, whole, in every request.
pub(super) fn visibility(seen: &BTreeMap<ObjectName, Seen>) -> Finding {
    let count = |fails: fn(&Seen) -> bool| seen.values().filter(|seen| fails(seen)).count();
    let (unlisted, unread, unknown) =
        (count(|seen| !seen.is_listed), count(|seen| !seen.is_read), count(|seen| !seen.is_known));
    let all = seen.len();
    if unlisted + unread + unknown == 0 {
        let detail = format!("{all} objects were there as soon as they were stored");
        return finding(Question::Visibility, Answer::Kept, detail);
    }
    let detail = format!(
        "of {all} objects that it confirmed, {unlisted} were not listed, {unread} could not be read as they were stored, and of {unknown} \
         it did not know"
    );
    finding(Question::Visibility, Answer::Broken, detail)
}

/// Whether of clients that made the same object exactly one succeeded, and whether it was there then.
pub(super) fn races(winners: &[(&Probe, usize)], seen: &BTreeMap<ObjectName, Seen>) -> Finding {
    let is_lost =
        |(probe, wins): &(&Probe, usize)| *wins == 0 || !seen.get(&probe.name).is_some_and(|seen| seen.is_read);
    if winners.iter().any(is_lost) {
        let detail =
            format!("{RACERS} clients stored an object at the same time, and it was not there as they stored it");
        return finding(Question::Races, Answer::Broken, detail);
    }
    let rounds = winners.len();
    let rounds_won_twice = winners.iter().filter(|(_, wins)| *wins > 1).count();
    if rounds_won_twice == 0 {
        let detail = format!("in {rounds} races of {RACERS} clients for one name exactly one won");
        finding(Question::Races, Answer::Kept, detail)
    } else {
        let detail = format!(
            "in {rounds_won_twice} of {rounds} races of {RACERS} clients for one name more than one won. {ONLY_INIT}"
        );
        finding(Question::Races, Answer::Weak, detail)
    }
}

/// What the store's clock means for coffer.
pub(super) fn clock(ahead_seconds: Option<i64>) -> Finding {
    let Some(ahead) = ahead_seconds else {
        let detail = "it tells no times; what was left behind is dated by the clocks of who left it";
        return finding(Question::Clock, Answer::Weak, detail);
    };
    if ahead.unsigned_abs() <= CLOCK_SECONDS {
        return finding(Question::Clock, Answer::Kept, "its clock agrees with this machine's");
    }
    let (seconds, direction) = (ahead.unsigned_abs(), if ahead > 0 { "ahead of" } else { "behind" });
    let detail = format!(
        "its clock is {seconds} seconds {direction} this machine's. Nothing is lost by that, but dates of snapshots, and with them what \
         \"forget\" keeps, go by this machine's clock: set it right"
    );
    finding(Question::Clock, Answer::Weak, detail)
}
