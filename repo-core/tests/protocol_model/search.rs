//! Runs searches and tells what came of them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    config::{Config, Mutation},
    epilogue,
    model::{CLEAN, KEPT, Search, WHOLE},
};

const THREADS: usize = 2;

/// Searches all there is, or up to the first violation, and prints figures. What was found first, if anything, as a list of steps.
#[allow(clippy::print_stderr)]
fn search(config: Config) -> Option<String> {
    let search = Search::new(config);
    let (config, events) = (Arc::clone(&search.config), Arc::clone(&search.events));
    let begin = Instant::now();
    let checker = search.checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let seconds = begin.elapsed().as_secs_f64();
    let found = [WHOLE, KEPT, CLEAN].into_iter().find_map(|property| Some((property, checker.discovery(property)?)));
    let text = found.map(|(property, path)| {
        let world = path.last_state().world;
        let steps: String =
            path.into_vec().into_iter().filter_map(|(_, action)| Some(format!("  {:?}\n", action?))).collect();
        let unclean = if property == CLEAN { epilogue::cleans_up(&config, &world).err() } else { None };
        format!("not true: {property}\n{steps}{}", unclean.unwrap_or_default())
    });
    let events = events.load(Ordering::Relaxed);
    let never = events & config.never;
    let text = text.or_else(|| (never != 0).then(|| format!("what must never happen has happened: {never:b}")));
    let verdict = match (&config.mutation, &text) {
        (None, None) => "safe".to_owned(),
        (None, Some(_)) => "VIOLATED".to_owned(),
        (Some(mutation), None) => format!("safe in spite of {mutation:?}"),
        (Some(mutation), Some(text)) => format!("{mutation:?} noticed after {} steps", text.lines().skip(1).count()),
    };
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    eprintln!("{} | {verdict} | {states} states, {depth} deep, {seconds:.1} s", config.name);
    if text.is_none() {
        let missing = config.happens & !events;
        assert!(missing == 0, "{}: what the search is for has never happened: {missing:b}", config.name);
    }
    text
}

/// There is nothing wrong in any order.
pub(crate) fn safe(config: Config) {
    let name = config.name;
    if let Some(text) = search(config) {
        panic!("{name}: {text}");
    }
}

/// The search finds what is wrong with this.
pub(crate) fn caught(config: Config, mutation: Mutation) {
    let name = config.name;
    assert!(search(config.with(mutation)).is_some(), "{name}: {mutation:?} was not noticed");
}
