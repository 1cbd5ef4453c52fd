//! `coffer cache`: what is kept of repositories on this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use repo_core::{
    cache::folder::{self, CacheFolder},
    time::Timestamp,
};
use serde_json::{Value, json};

use crate::{
    caches::{OLD_DAYS, remove_old},
    context::Context,
    report::{Ending, Failure, Result},
    size,
    table::{Align, Table},
    time,
};

/// List and remove what is kept of repositories on this machine
///
/// All of it can be had again from the repositories. Needs neither a repository nor a password.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Remove the caches that were not used for a while
    #[arg(long)]
    cleanup: bool,

    /// Days after which --cleanup takes a cache for forgotten
    #[arg(long, value_name = "DAYS", default_value_t = OLD_DAYS)]
    max_age: u64,

    /// Remove all caches
    #[arg(long, visible_alias = "prune", conflicts_with = "cleanup")]
    clear: bool,

    // As restic has it; sizes cost nothing to speak of.
    #[arg(long, hide = true)]
    no_size: bool,
}

impl CacheArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let base = context.caches.base().ok_or_else(|| {
            Failure::usage("without HOME there is no folder to have caches in").hint("name one with --cache-dir")
        })?;
        let failed = |during: &'static str| {
            let base = base.display();
            move |error: std::io::Error| Failure::io(during, base, &error)
        };
        let caches = if self.clear {
            let caches = folder::list(base).map_err(failed("list the caches in"))?;
            caches.iter().try_for_each(folder::remove).map_err(failed("remove caches in"))?;
            caches
        } else if self.cleanup {
            let age = Duration::from_secs(self.max_age.saturating_mul(24 * 3600));
            remove_old(base, age).map_err(failed("remove caches in"))?
        } else {
            folder::list(base).map_err(failed("list the caches in"))?
        };
        let output = &context.output;
        let removed = self.clear || self.cleanup;
        if output.json() {
            output.document(&caches.iter().map(|cache| object(cache, removed)).collect::<Vec<_>>())?;
            return Ok(Ending::Done);
        }
        let mut table = Table::new(&[
            ("Repository", Align::Left),
            ("Last used", Align::Left),
            ("Files", Align::Right),
            ("Size", Align::Right),
        ]);
        for cache in &caches {
            table.row(vec![
                cache.repository.short(),
                cache.used.and_then(timestamp).map(time::local).unwrap_or_default(),
                size::count(cache.files),
                size::bytes(cache.size_bytes),
            ]);
        }
        if !caches.is_empty() {
            table.write(output)?;
        }
        let sum = caches.iter().map(|cache| cache.size_bytes).sum();
        let caches = size::things(caches.len() as u64, "cache", "caches");
        let what = if removed { "removed" } else { "in" };
        let place = if removed { size::bytes(sum) } else { format!("{}, {}", base.display(), size::bytes(sum)) };
        output.line(&if removed { format!("{what} {caches}, {place}") } else { format!("{caches} {what} {place}") })?;
        Ok(Ending::Done)
    }
}

fn timestamp(used: SystemTime) -> Option<Timestamp> {
    let seconds = used.duration_since(UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(seconds).ok().map(Timestamp::from_seconds)
}

fn object(cache: &CacheFolder, removed: bool) -> Value {
    json!({
        "repository": cache.repository.to_string(),
        "path": cache.path.to_string_lossy(),
        "used": cache.used.and_then(timestamp).map(time::rfc3339),
        "files": cache.files,
        "size": cache.size_bytes,
        "removed": removed,
    })
}
