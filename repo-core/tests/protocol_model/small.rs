//! Searches that take seconds.

use crate::{
    config::{Config, Task::*},
    process::event::*,
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
    for (name, needs, happens) in [
        ("1 writer, 1 pruner, forgetter, expirer", OLD, happens),
        ("1 writer of a new blob, 1 pruner, forgetter, expirer", NEW, happens),
    ] {
        safe(Config {
            cleans_up: true,
            happens,
            ..Config::new(name, &[&[Backup(needs)], &[Prune], &[Forget(1)], &[Expire]])
        });
    }
}

#[test]
fn pruner_runs_twice() {
    safe(Config::new("1 writer, 1 pruner twice, forgetter, expirer", &[&[Backup(NEW)], &[Prune, Prune], &[Forget(1)], &[Expire]]));
}

#[test]
fn two_writers() {
    safe(Config::new("2 writers of new blobs, 1 pruner, forgetter", &[&[Backup(NEW)], &[Backup(NEW)], &[Prune], &[Forget(1)]]));
}

#[test]
fn two_pruners() {
    safe(Config { rescues: 2, adopts: true, cleans_up: true, happens: ADOPTED, ..Config::new("2 pruners", &[&[Prune], &[Prune]]) });
}

#[test]
fn writer_and_two_pruners() {
    safe(Config { adopts: true, ..Config::new("1 writer, 2 pruners", &[&[Backup(NEW)], &[Prune], &[Prune]]) });
}

#[test]
fn edits() {
    let edits: &[_] = &[Edit, ForgetOld, Edit, ForgetOld];
    safe(Config { torn: &[Kind::Bodies], ..Config::new("two edits, 1 pruner, bodies in pages", &[edits, &[Prune]]) });
    safe(Config { torn: &[Kind::Bodies], ..Config::new("two edits, 1 writer, 1 pruner, bodies in pages", &[edits, &[Backup(NEW)], &[Prune]]) });
}

#[test]
fn delay() {
    safe(Config { delayed: true, ..Config::new("1 writer, 1 pruner, L", &[&[Backup(NEW)], &[Prune]]) });
    safe(Config { delayed: true, ..Config::new("1 writer, 1 pruner, forgetter, L", &[&[Backup(NEW)], &[Prune], &[Forget(1)]]) });
    safe(Config { delayed: true, ..Config::new("2 pruners, L", &[&[Prune], &[Prune]]) });
    safe(Config { delayed: true, ..Config::new("1 writer, 2 expirers, L", &[&[Backup(OLD)], &[Expire], &[AdoptNotes]]) });
}

#[test]
fn merges() {
    safe(Config { merges: true, packs: &[0b001, 0b010], runs: &[0b01, 0b10], ..Config::new("2 writers that merge, 1 pruner", &[&[Backup(NEW)], &[Backup(NEW)], &[Prune]]) });
}

#[test]
fn victims() {
    safe(Config { victims: 3, packs: &[0b001, 0b010], runs: &[0b11], ..Config::new("1 writer, 1 pruner, several victims, forgetter", &[&[Backup(NEW)], &[Prune], &[Forget(1)]]) });
}

#[test]
fn seals() {
    safe(Config { one_seal: true, bodies: &[SAME, SAME], ..Config::new("2 forgetters of one seal, expirer, pruner", &[&[Forget(1)], &[Expire], &[Prune]]) });
    safe(Config { one_seal: true, torn: &[Kind::Seals], bodies: &[SAME, SAME, SAME], ..Config::new("2 forgetters of one seal, expirer", &[&[Forget(1)], &[Forget(2)], &[Expire], &[AdoptNotes]]) });
}

#[test]
fn lost() {
    safe(Config { patient: true, lost: &[Kind::Packs, Kind::Bodies], ..Config::new("lost answers, 1 writer, 1 pruner, forgetter, expirer", &[&[Backup(NEW)], &[Prune], &[Forget(1)], &[Expire]]) });
    safe(Config { patient: true, lost: &[Kind::Packs], adopts: true, ..Config::new("lost answers, 1 writer, 2 pruners", &[&[Backup(NEW)], &[Prune], &[Prune]]) });
    }
#[test]
fn lost2() {
    safe(Config { patient: true, lost: &[Kind::Bodies], adopts: true, ..Config::new("lost answers, 1 writer, 2 expirers", &[&[Backup(OLD)], &[Expire], &[AdoptNotes]]) });
}
