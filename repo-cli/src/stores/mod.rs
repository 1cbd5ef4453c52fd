//! From an address to a store: credentials, settings, and what is done when the store does not answer.

#[cfg(feature = "tls")]
use std::{fs, path::Path};
use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

#[cfg(any(feature = "tls", feature = "sftp"))]
use repo_core::store::flow::Flow;
use repo_core::{
    progress::Cancel,
    store::{
        Store,
        local::LocalStore,
        retry::{RetryNotice, RetryPolicy, RetryStore, SystemPace},
        throttle::{Throttle, ThrottledStore},
    },
};
#[cfg(feature = "tls")]
use zeroize::Zeroizing;

#[cfg(any(feature = "b2", feature = "s3", feature = "services"))]
use crate::environment::Variable;
use crate::{
    cli::Global,
    environment::Environment,
    location::Address,
    metering::Meters,
    output::{Output, locked},
    report::{Failure, Result, plain},
};

#[cfg(feature = "b2")]
mod b2;
#[cfg(feature = "tls")]
mod certificates;
#[cfg(feature = "services")]
mod opendal;
mod options;
#[cfg(feature = "rest")]
mod rest;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "sftp")]
mod sftp;

use options::Options;

/// Largest file of certificates or credentials.
#[cfg(feature = "tls")]
const FILE_BYTES_MAX: u64 = 4 << 20;

/// How long a store is tried that has not answered once.
const FIRST_CONTACT: Duration = Duration::from_secs(30);

/// Time between two words on a store that does not answer.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// What flags and variables say of the way to a store.
#[derive(Debug)]
pub(crate) struct StoreSettings {
    options: Options,
    #[cfg(feature = "tls")]
    certificates: certificates::Certificates,
    upload_kib: Option<NonZeroU64>,
    download_kib: Option<NonZeroU64>,
    environment: Environment,
}

impl StoreSettings {
    pub(crate) fn resolve(global: &Global, environment: &Environment) -> Result<Self> {
        Ok(Self {
            options: Options::parse(&global.options, global.connections)?,
            #[cfg(feature = "tls")]
            certificates: certificates::Certificates::resolve(global, environment)?,
            upload_kib: global.limit_upload.and_then(NonZeroU64::new),
            download_kib: global.limit_download.and_then(NonZeroU64::new),
            environment: environment.clone(),
        })
    }

    /// The limits of transfer, if there are any; 0 is none.
    fn throttle(&self, cancel: &Cancel) -> Option<Arc<Throttle>> {
        let bytes = |kib: Option<NonZeroU64>| kib.map(|kib| kib.saturating_mul(NonZeroU64::MIN.saturating_add(1023)));
        let [upload, download] = [self.upload_kib, self.download_kib].map(bytes);
        let pace = Arc::new(SystemPace::new(cancel.clone()));
        (upload.is_some() || download.is_some()).then(|| Arc::new(Throttle::new(upload, download, pace)))
    }

    /// The same, and the end.
    #[cfg(any(feature = "tls", feature = "sftp"))]
    fn flow(&self, cancel: &Cancel) -> Flow {
        Flow { throttle: self.throttle(cancel), cancel: cancel.clone() }
    }

    /// A variable that many programs know by this name; ours, `COFFER_…`, counts before it.
    #[cfg(any(feature = "b2", feature = "s3", feature = "services"))]
    fn variable(&self, name: &str) -> Option<Variable> {
        self.environment.exact(&format!("COFFER_{name}")).or_else(|| self.environment.exact(name))
    }

    /// The same as text.
    #[cfg(any(feature = "b2", feature = "s3", feature = "services"))]
    fn text(&self, name: &str) -> Result<Option<String>> {
        self.variable(name).map(|variable| variable.text().map(str::to_owned)).transpose()
    }
}

/// Reads a file that is not large.
#[cfg(feature = "tls")]
fn read(what: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |error: &std::io::Error| Failure::io(&format!("read {what} from"), path.display(), error);
    if fs::metadata(path).map_err(|error| failed(&error))?.len() > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{} is too large to hold {what}", path.display())));
    }
    fs::read(path).map(Zeroizing::new).map_err(|error| failed(&error))
}

/// The store at an address; nothing is asked of it. What fails for a passing reason is tried again, unless it is a folder.
pub(crate) fn open(
    address: &Address,
    settings: &StoreSettings,
    meters: &Meters,
    output: &Arc<Output>,
    cancel: &Cancel,
) -> Result<Arc<dyn Store>> {
    let is_remote = !matches!(address, Address::Local(_));
    let store = meters.watch(unwatched(address, settings, cancel)?, is_remote, &settings.environment)?;
    if !is_remote {
        return Ok(store);
    }
    let policy = RetryPolicy { first_contact: FIRST_CONTACT, ..RetryPolicy::default() };
    let (output, last) = (Arc::clone(output), Mutex::new(None::<Instant>));
    let notify = move |notice: &RetryNotice<'_>| {
        let mut last = locked(&last);
        if last.is_none_or(|last| last.elapsed() >= NOTICE_INTERVAL) {
            *last = Some(Instant::now());
            output.warning(&trouble(notice));
        }
    };
    Ok(Arc::new(RetryStore::new(store, policy, cancel.clone(), notify)))
}

/// The store itself.
fn unwatched(address: &Address, settings: &StoreSettings, cancel: &Cancel) -> Result<Box<dyn Store>> {
    Ok(match address {
        Address::Local(path) => slowed(
            LocalStore::new(path).with_connections(settings.options.all_connections()),
            settings.throttle(cancel),
        ),
        #[cfg(feature = "rest")]
        Address::Rest(address) => Box::new(rest::open(address, settings, cancel)?),
        #[cfg(not(feature = "rest"))]
        Address::Rest(_) => return Err(left_out("rest")),
        #[cfg(feature = "s3")]
        Address::S3(address) => Box::new(s3::open(address, settings, cancel)?),
        #[cfg(not(feature = "s3"))]
        Address::S3(_) => return Err(left_out("s3")),
        #[cfg(feature = "b2")]
        Address::B2(address) => Box::new(b2::open(address, settings, cancel)?),
        #[cfg(not(feature = "b2"))]
        Address::B2(_) => return Err(left_out("b2")),
        #[cfg(feature = "sftp")]
        Address::Sftp(address) => Box::new(sftp::open(address, settings, cancel)?),
        #[cfg(not(feature = "sftp"))]
        Address::Sftp(_) => return Err(left_out("sftp")),
        #[cfg(feature = "services")]
        Address::Opendal(address) => opendal::open(address, settings, cancel)?,
        #[cfg(not(feature = "services"))]
        Address::Opendal(_) => return Err(left_out("opendal")),
    })
}

/// A store that keeps to a rate, object by object.
fn slowed(store: impl Store + 'static, throttle: Option<Arc<Throttle>>) -> Box<dyn Store> {
    match throttle {
        Some(throttle) => Box::new(ThrottledStore::new(store, throttle)),
        None => Box::new(store),
    }
}

/// What is said of a store that does not answer.
fn trouble(notice: &RetryNotice<'_>) -> String {
    let left = notice.budget.saturating_sub(notice.elapsed).as_secs().max(1);
    let left = if left < 120 { format!("{left} s") } else { format!("{} min", left.div_ceil(60)) };
    plain(format!(
        "{}: {}; tried for {} s, and again for up to {left}",
        notice.error,
        notice.error.source,
        notice.elapsed.as_secs(),
    ))
}

/// A kind of store that this build has not.
#[cfg(not(all(feature = "b2", feature = "rest", feature = "s3", feature = "services", feature = "sftp")))]
fn left_out(kind: &str) -> Failure {
    Failure::new(format!("this build of coffer has no {kind} repositories"))
}
