//! Which snapshots to keep: restic's rules, and what rustic has besides, as one pure function.
//!
//! A group of snapshots (see [`crate::snapshot::group`]) is looked at newest first. Every rule is asked about every snapshot; one that
//! says yes keeps it. A snapshot that one rule keeps still uses up the counts of the others, and so does one that is protected or
//! has a tag to keep: the rules count periods in which there is a backup, and do not care why else it stays.
//!
//! * *By count*: `last` keeps the n newest; `daily` and its like keep the newest of each of the last n periods that have a snapshot.
//!   Periods without one do not count.
//! * *The oldest*: where a rule by period has counts left at the oldest snapshot of the group, it keeps that one, too.
//! * *By age*: `within` keeps what is younger than a span before the newest snapshot of the group that is not in the future, so that
//!   nothing is lost of a machine that has made no backup for long. `within` by periods keeps the newest of each period in that time.
//!   As soon as there is a rule by age, snapshots dated in the future are kept: nobody knows how old they are. Those count as such,
//!   too, that are dated more than a day after the store, by its own clock, got them: the clock here may be the one that was wrong.
//! * *By mark*: tags (all of one list; no tag at all for the empty one), the beginning of an id, and the snapshot's own protection.
//!
//! Calendar periods are those of one time zone that the caller names, not of the zone each snapshot was made in: with several zones
//! in one group, days would overlap.

pub mod apply;
pub mod calendar;
pub mod policy;
pub mod simulate;
pub mod span;
