//! What comes after all faults: everybody is dead, and somebody cleans up.

use crate::{
    config::{Config, Task},
    process::{Actor, Job, Process, Steps},
    world::{Bits, KINDS, Kind, World},
};

/// Steps that are more than enough.
const STEPS_MAX: usize = 500;

/// Expires, finishes what was begun, prunes, and backs up something new; whoever does it is alone.
pub(crate) fn cleans_up(config: &Config, world: &World) -> Result<(), String> {
    let mut world = world.compacted();
    let backups = world.committed().count_ones();
    let config = Config { mutation: None, ..config.clone() };
    for task in [Task::AdoptNotes, Task::Expire, Task::Prune, Task::Prune] {
        world = run(&config, task, &world)?.0.compacted();
        if !world.is_whole() || world.committed().count_ones() != backups {
            return Err(format!("{task:?} has lost a backup"));
        }
    }
    let packs = world.here(Kind::Packs);
    let live = world.about(Kind::Bodies, world.here(Kind::Bodies));
    let stored: u32 = (0..Bits::BITS)
        .filter(|pack| packs & 1 << pack != 0)
        .map(|pack| world.about(Kind::Packs, 1 << pack).count_ones())
        .sum();
    if world.here(Kind::Marks) != 0 {
        return Err("a mark is left".to_owned());
    }
    if world.about(Kind::Notes, world.here(Kind::Notes)) & !world.committed() != 0 {
        return Err("an expire note is left".to_owned());
    }
    if world.here(Kind::Bodies) != world.committed() {
        return Err("a tentative body is left".to_owned());
    }
    if world.indexed() != packs || world.about(Kind::Packs, packs) != live || stored != live.count_ones() {
        return Err("packs, or entries without a pack, are left".to_owned());
    }
    let (world, reported) = run(&config, Task::Backup(0b1000_0001), &world)?;
    if reported == 0 || reported & !world.committed() != 0 || !world.is_whole() {
        return Err("a backup failed".to_owned());
    }
    Ok(())
}

/// One process alone.
fn run(config: &Config, task: Task, world: &World) -> Result<(World, Bits), String> {
    let script = [task];
    let actor = Actor { config, script: &script, slots: [Bits::MAX; KINDS], tidies: true };
    let (mut world, mut process, mut reported) = (*world, Process::new(&script), 0);
    for _ in 0..STEPS_MAX {
        let Some(next) = Steps::of(actor, &world, &process).into_iter().next() else {
            return if matches!(process.job, Job::Idle) && usize::from(process.task) == script.len() {
                Ok((world, reported))
            } else {
                Err(format!("{task:?} has stopped"))
            };
        };
        world = next.world;
        process = next.process;
        reported |= next.reported;
    }
    Err(format!("{task:?} does not end"))
}
