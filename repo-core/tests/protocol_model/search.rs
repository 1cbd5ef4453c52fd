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

/// What was found first, if anything, as a list of steps.
fn search(config: Config) -> Option<String> {
    let search = Search::new(config);
    let (config, events) = (Arc::clone(&search.config), Arc::clone(&search.events));
    let begin = Instant::now();
    let checker =
        search.checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let seconds = begin.elapsed().as_secs_f64();
    let found = [WHOLE, KEPT, CLEAN].into_iter().find_map(|property| Some((property, checker.discovery(property)?)));
    let text = found.map(|(property, path)| {
        let mut text = format!("not true: {property}\n");
        let last = path.last_state().clone();
        for (_, action) in path.into_vec() {
            if let Some(action) = action {
                text += &format!("  {action:?}\n");
            }
        }
        if property == CLEAN {
            text += &format!("  {}\n", epilogue::cleans_up(&config, &last.world).err().unwrap_or_default());
        }
        text
    });
    let verdict = match (&config.mutation, &text) {
        (None, None) => "safe".to_owned(),
        (None, Some(_)) => "VIOLATED".to_owned(),
        (Some(mutation), None) => format!("{mutation:?}: not noticed"),
        (Some(mutation), Some(text)) => format!("{mutation:?}: noticed after {} steps", text.lines().count() - 1),
    };
    eprintln!(
        "{:<58} {verdict:<50} {:>10} states {:>4} deep {seconds:>7.1} s, events {:09b}",
        config.name,
        checker.unique_state_count(),
        checker.max_depth(),
        events.load(Ordering::Relaxed)
    );
    if text.is_none() {
        let missing = config.happens & !events.load(Ordering::Relaxed);
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
