//! Local caches: where they are, and what they may take.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use repo_core::{
    cache::{CACHE_BYTES_MAX, Cache, Scope, folder},
    repository::Repository,
    runtime::SystemRuntime,
};

use crate::{
    cli::Global,
    context::now,
    environment::Environment,
    output::{Output, locked},
    report::{Failure, Result},
    size,
};

/// Days without use after which a cache counts as forgotten.
pub(crate) const OLD_DAYS: u64 = 30;

/// Where caches are and what they may take, and those that are in use.
#[derive(Default)]
pub(crate) struct Caches {
    base: Option<PathBuf>,
    /// The user has said where.
    named: bool,
    /// None is to be used.
    off: bool,
    limit_bytes: u64,
    clean_up: bool,
    used: Mutex<Vec<Arc<Cache>>>,
}

impl Caches {
    /// `--cache-dir`, `COFFER_CACHE_DIR`, or `coffer` in the user's cache folder; nowhere, if nobody says where that is.
    pub(crate) fn resolve(global: &Global, environment: &Environment) -> Result<Self> {
        let absolute = |name: &str| {
            environment.exact(name).map(|variable| PathBuf::from(variable.value)).filter(|path| path.is_absolute())
        };
        let named = match &global.cache_dir {
            Some(path) if path.as_os_str().is_empty() => return Err(Failure::usage("--cache-dir is empty")),
            Some(path) => Some(path.clone()),
            None => environment.get("CACHE_DIR").map(|variable| PathBuf::from(variable.value)),
        };
        let limit = match (&global.cache_size, environment.get("CACHE_SIZE")) {
            (Some(text), _) => {
                Some(size::parse(text).map_err(|error| Failure::usage(format!("--cache-size: {error}")))?)
            }
            (None, Some(variable)) => {
                let wrong = |error| Failure::usage(format!("{} is not valid: {error}", variable.name));
                Some(size::parse(variable.text()?).map_err(wrong)?)
            }
            (None, None) => None,
        };
        Ok(Self {
            named: named.is_some(),
            base: named
                .or_else(|| absolute("XDG_CACHE_HOME").map(|folder| folder.join("coffer")))
                .or_else(|| absolute("HOME").map(|folder| folder.join(".cache/coffer"))),
            off: global.no_cache,
            limit_bytes: limit.unwrap_or(CACHE_BYTES_MAX),
            clean_up: global.cleanup_cache,
            used: Mutex::default(),
        })
    }

    /// The folder that has them.
    pub(crate) fn base(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    /// Gives a repository its cache.
    pub(crate) fn attach(&self, repository: &mut Repository, scope: Scope) {
        let Some(base) = self.base.as_ref().filter(|_| !self.off && self.limit_bytes > 0) else { return };
        let cache = Arc::new(Cache::new(base, repository.keys(), Arc::new(SystemRuntime), scope, self.limit_bytes));
        repository.attach_cache(Arc::clone(&cache));
        locked(&self.used).push(cache);
    }

    /// At the end of a command: says what went wrong with caches, and removes old ones if that was asked for.
    pub(crate) fn finish(&self, output: &Output) {
        for problem in locked(&self.used).iter().filter_map(|cache| cache.take_problem()) {
            let text = format!("worked without the local cache: {}", crate::report::plain(&problem.reason));
            // Many a service has no folder to have a cache in, and never asked for one.
            if problem.is_first && !self.named { output.detail(&text) } else { output.warning(&text) }
        }
        if self.clean_up
            && !self.off
            && let Some(base) = &self.base
            && let Err(error) = remove_old(base, Duration::from_hours(24 * OLD_DAYS))
        {
            output.warning(&format!("cannot remove old caches: {}", crate::report::plain(error)));
        }
    }
}

/// Removes the caches that were not used for so long; tells which.
pub(crate) fn remove_old(base: &Path, age: Duration) -> std::io::Result<Vec<folder::CacheFolder>> {
    let now = u64::try_from(now().seconds()).unwrap_or_default();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
    let mut caches = folder::list(base)?;
    caches.retain(|cache| cache.used.is_none_or(|used| now.duration_since(used).is_ok_and(|unused| unused > age)));
    for cache in &caches {
        folder::remove(cache)?;
    }
    Ok(caches)
}
