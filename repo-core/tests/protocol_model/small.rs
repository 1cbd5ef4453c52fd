//! Searches that take seconds.

use crate::{
    config::{Config, Task::*},
    process::event::*,
    search::safe,
};

/// Needs one blob of the first pack, and a new one.
pub(crate) const NEW: u16 = 0b101;

#[test]
fn a_writer_and_a_pruner() {
    safe(Config {
        cleans_up: true,
        happens: COMMITTED | WRITER_RESCUED | CLAIMED_TWICE | PRUNED | PRUNER_RESCUED | EXPIRED | FORGOTTEN,
        ..Config::new("writer, pruner, forgetter, expirer", &[&[Backup(NEW)], &[Prune], &[Forget(1)], &[Expire]])
    });
}
