//! What a seed decides beforehand: the store's manners, how often what goes wrong, and who does what. Each seed has few kinds of
//! fault and much of them, rather than a little of everything: rare ways are found sooner so.

use crate::chance::Chance;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Backup,
    Prune,
    Forget,
    Tag,
    Rewrite,
    Copy,
    Read,
    Check,
}

/// How often things happen: of a thousand operations.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    pub fails: u64,
    pub answer_lost: u64,
    pub cut: u64,
    pub crash: u64,
    pub slow: u64,
    pub sleep: u64,
    pub jump: u64,
}

/// What a seed decides beforehand.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub seed: u64,
    /// The delay the store declares, and never exceeds.
    pub delay_ms: u64,
    /// Objects of a listing that come at once.
    pub page_entries: usize,
    /// Of a thousand turns, how many stay with whoever is at work.
    pub stays: u64,
    pub rates: Rates,
    /// Of a thousand deletes, after how many everything is looked at.
    pub looks: u64,
    pub actors: Vec<ActorPlan>,
}

/// What one machine does, one process after the other.
#[derive(Debug, Clone)]
pub struct ActorPlan {
    pub host: &'static str,
    /// Whether its requests are tried again.
    pub retries: bool,
    pub commands: Vec<Command>,
}

/// Commands in all, at most.
const COMMANDS_MAX: u64 = 16;

impl Plan {
    pub fn new(seed: u64) -> Self {
        let chance = &mut Chance::new(seed, 1);
        let mut often = |some: &[u64]| if chance.per_mille(400) { chance.pick(some) } else { 0 };
        let rates = Rates {
            fails: often(&[3, 20, 60]),
            answer_lost: often(&[3, 20, 60]),
            cut: often(&[10, 60]),
            crash: often(&[2, 8, 20]),
            slow: often(&[10, 100, 300]),
            sleep: often(&[2, 10]),
            jump: often(&[2, 10]),
        };
        let mut plan = Self {
            seed,
            delay_ms: chance.pick(&[0, 0, 0, 200, 5_000, 75_000]),
            page_entries: chance.pick(&[1, 2, 5, 1000]),
            stays: chance.pick(&[0, 500, 900, 980]),
            rates,
            looks: 100,
            actors: Vec::new(),
        };
        let actors = 2 + chance.below(4);
        let commands = 4 + chance.below(COMMANDS_MAX - 3);
        for _ in 0..actors {
            let host = chance.pick(&["alpha", "alpha", "beta"]);
            let retries = chance.per_mille(600);
            plan.actors.push(ActorPlan { host, retries, commands: Vec::new() });
        }
        for number in 0..commands {
            let some = [
                (Command::Backup, 38),
                (Command::Prune, 30),
                (Command::Forget, 14),
                (Command::Tag, 10),
                (Command::Rewrite, 9),
                (Command::Copy, 6),
                (Command::Read, 12),
                (Command::Check, 4),
            ];
            let mut at = chance.below(some.iter().map(|(_, weight)| weight).sum());
            let command = some.iter().find(|(_, weight)| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            let actor = if number < actors { number } else { chance.below(actors) };
            plan.actors[usize::try_from(actor).unwrap()].commands.push(command.unwrap().0);
        }
        plan
    }

    /// Nothing goes wrong, and one machine works.
    pub fn calm(seed: u64, delay_ms: u64) -> Self {
        let actor = ActorPlan { host: "alpha", retries: false, commands: Vec::new() };
        Self { seed, delay_ms, page_entries: 1000, stays: 1000, rates: Rates::default(), looks: 0, actors: vec![actor] }
    }
}
