//! Searches that take minutes. The command that runs them is in `main.rs`.

use crate::{
    config::{
        Config,
        Task::{AdoptNotes, Backup, Edit, Expire, Forget, ForgetOld, Prune},
    },
    mutations::hiding,
    search::safe,
    small::{NEW, OLD, SAME},
    world::Kind,
};

const EDITS: &[crate::config::Task] = &[Edit, ForgetOld, Edit, ForgetOld];

#[test]
#[ignore = "takes minutes"]
fn pruner_twice() {
    let scripts: &[&[_]] = &[&[Backup(NEW)], &[Prune, Prune], &[Forget(1)], &[Expire]];
    safe(Config::new("writer, pruner twice, forgetter, expirer", scripts));
}

#[test]
#[ignore = "takes minutes"]
fn two_writers() {
    safe(Config::new("2 writers, pruner, forgetter", &[&[Backup(NEW)], &[Backup(NEW)], &[Prune], &[Forget(1)]]));
}

#[test]
#[ignore = "takes minutes"]
fn two_writers_that_merge() {
    let config = Config::new("2 writers that merge runs, pruner", &[&[Backup(NEW)], &[Backup(NEW)], &[Prune]]);
    safe(Config { merges: true, packs: &[0b001, 0b010], runs: &[0b01, 0b10], ..config });
}

#[test]
#[ignore = "takes minutes"]
fn two_pruners() {
    let config = Config::new("writer, 2 pruners that adopt", &[&[Backup(NEW)], &[Prune], &[Prune]]);
    safe(Config { adopts: true, ..config });
}

#[test]
#[ignore = "takes minutes"]
fn two_pruners_and_forgetter() {
    let config = Config::new("writer, 2 pruners, forgetter", &[&[Backup(NEW)], &[Prune], &[Prune], &[Forget(1)]]);
    safe(config);
}

#[test]
#[ignore = "takes minutes"]
fn edits_and_writer() {
    let config = Config::new("2 edits, writer, pruner; bodies in pages", &[EDITS, &[Backup(NEW)], &[Prune]]);
    safe(Config { torn: &[Kind::Bodies], ..config });
}

#[test]
#[ignore = "takes minutes"]
fn edits_and_two_pruners() {
    let config = Config::new("2 edits, 2 pruners; bodies in pages", &[EDITS, &[Prune], &[Prune]]);
    safe(Config { torn: &[Kind::Bodies], ..config });
}

#[test]
#[ignore = "takes minutes"]
fn everything_late() {
    let scripts: &[&[_]] = &[&[Backup(NEW)], &[Prune], &[Forget(1)], &[Expire]];
    safe(Config { delayed: true, ..Config::new("writer, pruner, forgetter, expirer; L", scripts) });
}

#[test]
#[ignore = "takes minutes"]
fn everything_in_pages() {
    let config = Config::new("writer, pruner; everything in pages", &[&[Backup(NEW)], &[Prune]]);
    let torn = &[Kind::Packs, Kind::Runs, Kind::Bodies, Kind::Seals, Kind::Marks, Kind::Notes];
    safe(Config { torn, ..config });
    let config =
        Config::new("writer, pruner, forgetter; everything in pages, L", &[&[Backup(NEW)], &[Prune], &[Forget(1)]]);
    safe(Config { torn, delayed: true, ..config });
}

#[test]
#[ignore = "takes minutes"]
fn edits_late() {
    safe(Config { delayed: true, ..Config::new("2 edits, pruner; L", &[EDITS, &[Prune]]) });
}

#[test]
#[ignore = "takes minutes"]
fn two_pruners_late() {
    let config = Config::new("writer, 2 pruners that adopt; L", &[&[Backup(OLD)], &[Prune], &[Prune]]);
    safe(Config { adopts: true, delayed: true, ..config });
}

#[test]
#[ignore = "takes minutes"]
fn lost_answers() {
    let config = Config::new("writer, 2 pruners that adopt; lost answers", &[&[Backup(NEW)], &[Prune], &[Prune]]);
    safe(Config { adopts: true, lost: &[Kind::Packs], ..config });
    let scripts: &[&[_]] = &[&[Backup(NEW)], &[Prune], &[Forget(1)], &[Expire]];
    let config = Config::new("writer, pruner, forgetter, expirer; lost answers", scripts);
    safe(Config { lost: &[Kind::Packs, Kind::Bodies, Kind::Seals], ..config });
}

#[test]
#[ignore = "takes minutes"]
fn two_pruners_of_several_victims() {
    let config = Config::new("2 pruners of several victims, forgetter", &[&[Prune], &[Prune], &[Forget(1)]]);
    let packs = Config { bodies: &[SAME, OLD], packs: &[0b001, 0b010], runs: &[0b01, 0b11], ..config };
    safe(Config { adopts: true, victims: 2, ..packs });
}

#[test]
#[ignore = "takes minutes"]
fn expiry() {
    let scripts: &[&[_]] = &[&[Backup(OLD)], &[Backup(OLD)], &[Expire], &[AdoptNotes]];
    safe(Config { delayed: true, ..Config::new("2 writers, 2 expirers; L", scripts) });
}

#[test]
#[ignore = "takes minutes"]
fn merges_that_hide() {
    safe(hiding());
}
