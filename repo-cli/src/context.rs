//! What every command has at hand, and opening the repository.

use std::sync::Arc;

use repo_core::{
    cache::Scope,
    crypto::kdf::KdfCost,
    doctor::{Answer, Extent},
    error::Error,
    index::paged::Paging,
    progress::Cancel,
    repository::{
        InitOptions, Repository,
        config::Parameters,
        notes::Session,
        reader::{BlobReader, CACHE_BYTES},
    },
    runtime::{Runtime, SystemRuntime},
    store::{ObjectName, Store},
};

use crate::{
    caches::Caches,
    cli::Global,
    commands::doctor,
    embedded,
    environment::Environment,
    location::Address,
    metering::Meters,
    output::Output,
    password::PasswordSource,
    report::{Failure, Result},
    settings::Access,
    signals::Questions,
    stores,
};

/// What the world and the user's flags are to a command.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) environment: Environment,
    pub(crate) output: Arc<Output>,
    pub(crate) cancel: Cancel,
    pub(crate) questions: Questions,
    /// How often progress is shown in a second, if that was said.
    pub(crate) progress_fps: Option<f64>,
    /// Where repositories have their local caches.
    pub(crate) caches: Caches,
    /// What is asked of stores, and how much may be.
    pub(crate) meters: Meters,
}

/// What a password is asked for with.
const OF_THE_REPOSITORY: &str = "password of the repository";

/// A way to open a repository with a password, and a hint which key it is for.
type Open = fn(Arc<dyn Store>, Arc<dyn Runtime>, &[u8], Option<&str>) -> repo_core::error::Result<Repository>;

/// An opened repository, as it is handed to the engines.
pub(crate) type Opened = Arc<Repository>;

impl Context {
    /// Opens the repository that flags and variables name.
    pub(crate) fn open(&self) -> Result<Opened> {
        let access = Access::resolve(&self.global, &self.environment)?;
        if access.embedded && is_absent(&access) {
            let location = self.store(&access)?.location();
            return Err(Failure::from(Error::NoRepository { location }).hint(
                "no repository was named; the first \"coffer backup\" makes this one, or name another with --repo",
            ));
        }
        self.open_with(&access, OF_THE_REPOSITORY)
    }

    /// Opens the repository for a backup; if none is named and there is none yet, makes the one in the user's data folder.
    pub(crate) fn open_or_make(&self) -> Result<Opened> {
        let access = Access::resolve(&self.global, &self.environment)?;
        if access.embedded && is_absent(&access) {
            match self.make(&access, None) {
                // Another program made it at the same time.
                Err(failure) if matches!(failure.core(), Some(Error::RepositoryExists { .. })) => {}
                result => return result,
            }
        }
        self.open_by(&access, OF_THE_REPOSITORY, Repository::open_for_backup)
    }

    /// Opens a repository; the question is asked where there is nobody but the user who knows the password.
    pub(crate) fn open_with(&self, access: &Access, question: &str) -> Result<Opened> {
        self.open_by(access, question, Repository::open)
    }

    fn open_by(&self, access: &Access, question: &str, open: Open) -> Result<Opened> {
        let store = self.store(access)?;
        // Before a password is asked for or made known to anything; that there is none is for the store to say.
        if is_absent(access) {
            match Repository::open(Arc::clone(&store), Arc::new(SystemRuntime), b"", None) {
                Err(Error::WrongPassword { .. }) | Ok(_) => {} // it has just come into being
                Err(error) => return Err(error.into()),
            }
        } else if access.is_remote() && matches!(access.password, PasswordSource::Ask) && is_empty(&*store)? {
            return Err(Error::NoRepository { location: store.location() }.into());
        }
        let password = access.password.read(question, false)?;
        self.cancel.check()?;
        let opened = open(store, Arc::new(SystemRuntime), &password, access.key_hint.as_deref());
        let scope = if access.is_remote() { Scope::All } else { Scope::LargeTables };
        let attach = |mut repository: Repository| {
            self.caches.attach(&mut repository, scope);
            Arc::new(repository)
        };
        opened.map(attach).map_err(|error| match error {
            Error::WrongPassword { .. } => Failure::from(error).hint(format!(
                "the password came from {}; \"coffer key add\" adds further ones",
                access.password.origin()
            )),
            _ => error.into(),
        })
    }

    /// Makes the repository that flags and variables name; one that cuts files as another one does, if there is another one.
    pub(crate) fn init(&self, like: Option<&Repository>) -> Result<Opened> {
        self.make(&Access::resolve(&self.global, &self.environment)?, like)
    }

    fn make(&self, access: &Access, like: Option<&Repository>) -> Result<Opened> {
        let store = self.store(access)?;
        let is_there = match &access.address {
            Address::Local(path) => path.join("config").exists(),
            // Nobody is asked for the password of what will not be made. Who is not asked learns of it a moment later.
            _ => matches!(access.password, PasswordSource::Ask) && !is_empty(&*store)?,
        };
        let location = store.location();
        if is_there {
            return Err(Failure::from(Error::RepositoryExists { location }).state("nothing was changed"));
        }
        let mut made_password = None;
        if let PasswordSource::Generated(file) = &access.password
            && embedded::make_password(file, &SystemRuntime)?
        {
            made_password = Some(file);
        }
        let password = access.password.read("password for the new repository", true)?;
        self.cancel.check()?;
        let options = InitOptions {
            password: &password,
            host: machine(),
            user: user_name(),
            kdf_cost: KdfCost::RECOMMENDED,
            parameters: Parameters::default(),
        };
        let runtime = Arc::new(SystemRuntime);
        let made = match like {
            Some(like) => Repository::init_like(like, store, runtime, &options),
            None => Repository::init(store, runtime, &options),
        };
        let repository = made.map_err(|error| {
            let is_there = matches!(error, Error::RepositoryExists { .. });
            Failure::from(error).state(if is_there { "nothing was changed" } else { "no repository was made" })
        })?;
        if access.embedded {
            self.output.note(&format!("made a repository in {location}"));
        }
        if let Some(file) = made_password {
            self.output.warning(&format!(
                "its password was made, too, and is in {}. Keep a copy of that file somewhere else: \
                 without it nothing in the repository can ever be read",
                file.display()
            ));
        }
        self.try_store(&repository)?;
        Ok(Arc::new(repository))
    }

    /// The store in which the repository is or is to be; nothing is asked of it.
    fn store(&self, access: &Access) -> Result<Arc<dyn Store>> {
        stores::open(&access.address, &access.settings, &self.meters, &self.output, &self.cancel)
    }

    /// A short look at whether the store of a new repository keeps what coffer relies on.
    fn try_store(&self, repository: &Repository) -> Result<()> {
        let made = "the repository was made, and nothing is in it";
        let report = doctor::ask(self, repository, Extent::Short).map_err(|failure| failure.state(made))?;
        repository.keep_first_store_report(&report).map_err(|error| Failure::from(error).state(made))?;
        for finding in report.findings.iter().filter(|finding| finding.answer == Answer::Weak) {
            self.output.warning(&format!("the store: {}", finding.detail));
        }
        match report.worst() {
            Answer::Kept | Answer::Weak => Ok(()),
            Answer::Broken => Err(doctor::unfit(&report).state(made)),
        }
    }

    /// A reader of all blobs of a repository, as far as the index can be read.
    pub(crate) fn reader(&self, repository: &Opened) -> Result<BlobReader> {
        let mut unread = Vec::new();
        let index = repository.load_lookup(Paging::default(), Some(&mut unread))?;
        for error in &unread {
            let way_out = if error.is_newer() {
                "use the version of coffer that wrote it, or a newer one"
            } else {
                "\"coffer repair index\" makes it anew"
            };
            let so = "what only this part of the index names cannot be found";
            self.output.warning(&format!("{}; {so}; {way_out}", error.chain()));
        }
        self.cancel.check()?;
        Ok(BlobReader::with_lookup(Arc::clone(repository), index, CACHE_BYTES))
    }

    /// Threads that read packs: as many as the store's connections where each waits for an answer from far away, else 0, for as many as
    /// there are processors.
    pub(crate) fn reading_threads(&self, repository: &Opened) -> Result<usize> {
        let is_remote = Access::resolve(&self.global, &self.environment)?.is_remote();
        let connections = repository.store().abilities().connections.min(READING_THREADS_MAX);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(if is_remote && connections > processors { connections } else { 0 })
    }

    /// The name of the machine backups are of, if a flag or a variable says so.
    pub(crate) fn named_host(&self, flag: Option<&str>) -> Result<Option<String>> {
        match (flag, self.environment.get("HOST")) {
            (Some(host), _) => Ok(Some(host.to_owned())),
            (None, Some(variable)) => variable.text().map(|host| Some(host.to_owned())),
            (None, None) => Ok(None),
        }
    }
}

/// Each takes some 6 MiB.
const READING_THREADS_MAX: usize = 8;

/// Whether there is surely nothing in the folder where the repository is to be; of other places that is not known yet.
fn is_absent(access: &Access) -> bool {
    match &access.address {
        Address::Local(path) => matches!(path.join("config").try_exists(), Ok(false)),
        _ => false,
    }
}

/// Whether there is surely no repository in a store.
fn is_empty(store: &dyn Store) -> Result<bool> {
    let config = store.stat(&ObjectName::CONFIG).map_err(Error::from)?;
    Ok(config.is_none())
}

/// The name of this machine.
pub(crate) fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name of the user who runs this, or the number.
pub(crate) fn user_name() -> String {
    let number = rustix::process::getuid().as_raw();
    uzers::get_user_by_uid(number).map_or_else(|| number.to_string(), |user| user.name().to_string_lossy().into_owned())
}

/// Who works here, for others to see in the repository.
pub(crate) fn session_note(operation: &str) -> Session {
    Session {
        operation: operation.into(),
        host: machine(),
        user: user_name(),
        process: std::process::id(),
        started: now(),
    }
}

/// The time of day.
pub(crate) fn now() -> repo_core::time::Timestamp {
    SystemRuntime.now()
}
