//! Searches that take seconds.

use crate::{
    config::{
        Config,
        Task::{AdoptNotes, Backup, Edit, Expire, Forget, ForgetOld, Lean, Prune},
    },
    process::event::{
        ADOPTED, CLAIMED_TWICE, COMMITTED, DISTURBED, EXPIRED, FORGOTTEN, LEANED, MISSED, PASSED_OVER, PRUNED,
        PRUNER_GAVE_UP, PRUNER_RESCUED, WRITER_RESCUED,
    },
    search::safe,
    world::{Bits, Kind},
};

/// Needs one blob of the first pack.
pub(crate) const OLD: Bits = 0b001;
/// Needs one blob of the first pack, and a new one.
pub(crate) const NEW: Bits = 0b101;
/// Needs both blobs of the first pack.
pub(crate) const SAME: Bits = 0b011;

#[test]
fn writer_pruner_forgetter_expirer() {
    let happens = COMMITTED | WRITER_RESCUED | CLAIMED_TWICE | PRUNED | PRUNER_RESCUED | EXPIRED | FORGOTTEN;
    for (name, needs) in
        [("writer, pruner, forgetter, expirer", OLD), ("writer of a new blob, pruner, forgetter, expirer", NEW)]
    {
        safe(Config {
            cleans_up: true,
            happens,
            ..Config::new(name, &[&[Backup(needs)], &[Prune], &[Forget(1)], &[Expire]])
        });
    }
}

#[test]
fn pruners() {
    let happens = PRUNED | PRUNER_RESCUED | ADOPTED;
    let two = Config { rescues: 2, adopts: true, ..Config::new("2 pruners that adopt", &[&[Prune], &[Prune, Prune]]) };
    safe(Config { cleans_up: true, happens, ..two });
    let victims = Config {
        victims: 3,
        packs: &[0b001, 0b010],
        runs: &[0b11],
        cleans_up: true,
        ..Config::new("writer, pruner of several victims, forgetter", &[&[Backup(NEW)], &[Prune], &[Forget(1)]])
    };
    safe(Config { happens: COMMITTED | PRUNED | WRITER_RESCUED | PRUNER_RESCUED, ..victims });
}

#[test]
fn edits() {
    let edits: &[_] = &[Edit, ForgetOld, Edit, ForgetOld];
    let config = Config::new("2 edits, pruner; bodies in pages", &[edits, &[Prune]]);
    let happens = COMMITTED | FORGOTTEN | WRITER_RESCUED | PRUNED | PRUNER_RESCUED;
    safe(Config { torn: &[Kind::Bodies], cleans_up: true, happens, ..config });
    let leaning: &[_] = &[Lean, ForgetOld, Lean, ForgetOld];
    let config = Config::new("2 edits that lean, pruner; bodies in pages", &[leaning, &[Prune]]);
    safe(Config { torn: &[Kind::Bodies], cleans_up: true, happens: happens | LEANED, ..config });
    let config = Config::new("edit that leans, forgetter, pruner", &[&[Lean], &[Forget(1)], &[Prune]]);
    safe(Config { cleans_up: true, happens: COMMITTED | LEANED | FORGOTTEN | PRUNED, ..config });
}

#[test]
fn merges() {
    let config = Config::new("writer that merges runs, pruner; L", &[&[Backup(NEW)], &[Prune]]);
    let runs = Config { packs: &[0b001, 0b010], runs: &[0b01, 0b10], ..config };
    let happens = COMMITTED | WRITER_RESCUED | PRUNED | PRUNER_RESCUED;
    safe(Config { merges: true, delayed: true, cleans_up: true, happens, ..runs });
}

/// A writer with an old index claims what is gone, and dies; prunes go on without it.
#[test]
fn broken_claims() {
    let config = Config::new("writer of nothing new, pruner twice", &[&[Backup(OLD)], &[Prune, Prune]]);
    let happens = COMMITTED | PRUNED | MISSED | PASSED_OVER;
    safe(Config { bodies: &[], packs: &[0b001, 0b010], runs: &[0b11], cleans_up: true, happens, ..config });
}

#[test]
fn visibility_delay() {
    let late = |name, scripts: &[&[_]]| Config { delayed: true, cleans_up: true, ..Config::new(name, scripts) };
    let happens = COMMITTED | WRITER_RESCUED | PRUNED | PRUNER_RESCUED;
    safe(Config { happens, ..late("writer, pruner, forgetter; L", &[&[Backup(NEW)], &[Prune], &[Forget(1)]]) });
    let patient = late("writer of nothing new, pruner, forgetter; L", &[&[Backup(OLD)], &[Prune], &[Forget(1)]]);
    safe(Config { happens: COMMITTED | PRUNED | PRUNER_RESCUED, never: PRUNER_GAVE_UP, ..patient });
    safe(Config { happens: PRUNED | PRUNER_RESCUED, ..late("2 pruners; L", &[&[Prune], &[Prune]]) });
    let happens = COMMITTED | CLAIMED_TWICE | EXPIRED;
    safe(Config { happens, ..late("writer, 2 expirers; L", &[&[Backup(OLD)], &[Expire], &[AdoptNotes]]) });
}

#[test]
fn expiry() {
    let config = Config::new("2 writers, 2 expirers", &[&[Backup(OLD)], &[Backup(OLD)], &[Expire], &[AdoptNotes]]);
    safe(Config { cleans_up: true, happens: COMMITTED | CLAIMED_TWICE | EXPIRED, ..config });
}

#[test]
fn seals_for_several() {
    let shared = |name, scripts: &[&[_]]| Config { one_seal: true, ..Config::new(name, scripts) };
    let config = shared("forgetter of one of two, writer, pruner", &[&[Forget(1)], &[Backup(NEW)], &[Prune]]);
    safe(Config { bodies: &[SAME, SAME], cleans_up: true, happens: FORGOTTEN | COMMITTED | PRUNED, ..config });
    let config = shared(
        "2 forgetters of a seal for three, 2 expirers; seals in pages",
        &[&[Forget(1)], &[Forget(2)], &[Expire], &[AdoptNotes]],
    );
    let happens = FORGOTTEN | DISTURBED;
    safe(Config { bodies: &[SAME, SAME, SAME], torn: &[Kind::Seals], cleans_up: true, happens, ..config });
}

#[test]
fn lost_answers() {
    let happens = COMMITTED | CLAIMED_TWICE | EXPIRED;
    let config = Config::new("writer, 2 expirers; lost answers", &[&[Backup(OLD)], &[Expire], &[AdoptNotes]]);
    safe(Config { lost: &[Kind::Bodies, Kind::Seals, Kind::Notes], cleans_up: true, happens, ..config });
    let config = Config::new("writer, pruner, forgetter; lost answers", &[&[Backup(NEW)], &[Prune], &[Forget(1)]]);
    let happens = COMMITTED | WRITER_RESCUED | PRUNED | PRUNER_RESCUED;
    let lost = &[Kind::Packs, Kind::Runs, Kind::Bodies, Kind::Seals, Kind::Marks];
    safe(Config { lost, happens, ..config });
}
