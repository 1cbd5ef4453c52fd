//! From an address to a store: credentials, settings, and what is done when the store does not answer.

use std::{
    fs,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use repo_core::{
    progress::Cancel,
    store::{
        Store,
        local::LocalStore,
        retry::{RetryNotice, RetryPolicy, RetryStore, SystemPace},
        throttle::{Throttle, ThrottledStore},
        tls::TlsOptions,
    },
};
use zeroize::Zeroizing;

use crate::{
    cli::Global,
    environment::{Environment, Variable},
    location::Address,
    metering::Meters,
    output::{Output, locked},
    report::{Failure, Result, plain},
    settings,
};

#[cfg(feature = "b2")]
mod b2;
mod options;
#[cfg(feature = "rest")]
mod rest;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "sftp")]
mod sftp;

use options::Options;

/// Largest file of certificates or credentials.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// How long a store is tried that has not answered once.
const FIRST_CONTACT: Duration = Duration::from_secs(30);

/// Time between two words on a store that does not answer.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// What flags and variables say of the way to a store.
#[derive(Debug)]
pub(crate) struct StoreSettings {
    options: Options,
    cacert: Option<PathBuf>,
    tls_client_cert: Option<PathBuf>,
    insecure_tls: bool,
    upload_kib: Option<NonZeroU64>,
    download_kib: Option<NonZeroU64>,
    environment: Environment,
}

impl StoreSettings {
    pub(crate) fn resolve(global: &Global, environment: &Environment) -> Result<Self> {
        let file = |flag: &Option<PathBuf>, name| {
            flag.clone().or_else(|| environment.get(name).map(|variable| PathBuf::from(variable.value)))
        };
        Ok(Self {
            options: Options::parse(&global.options)?,
            cacert: file(&global.cacert, "CACERT"),
            tls_client_cert: file(&global.tls_client_cert, "TLS_CLIENT_CERT"),
            insecure_tls: global.insecure_tls || settings::switch(environment, "INSECURE_TLS")?,
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

    /// Certificates.
    #[allow(dead_code, reason = "which stores need it depends on the features")]
    fn tls(&self) -> Result<TlsOptions> {
        let authorities_pem = self.cacert.as_deref().map(|path| read("the certificates", path)).transpose()?;
        let client_pem = self.tls_client_cert.as_deref().map(|path| read("our certificate", path)).transpose()?;
        Ok(TlsOptions {
            authorities_pem: authorities_pem.map(|pem| pem.to_vec()),
            client_pem,
            insecure: self.insecure_tls,
        })
    }

    /// A variable that many programs know by this name; ours, `COFFER_…`, counts before it.
    #[allow(dead_code, reason = "which stores need it depends on the features")]
    fn variable(&self, name: &str) -> Option<Variable> {
        self.environment.exact(&format!("COFFER_{name}")).or_else(|| self.environment.exact(name))
    }

    /// The same as text.
    #[allow(dead_code, reason = "which stores need it depends on the features")]
    fn text(&self, name: &str) -> Result<Option<String>> {
        self.variable(name).map(|variable| variable.text().map(str::to_owned)).transpose()
    }
}

/// Reads a file that is not large.
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
    let throttle = settings.throttle(cancel);
    let store: Box<dyn Store> = match address {
        Address::Local(path) => {
            let store = slowed(LocalStore::new(path), throttle);
            return Ok(meters.watch(store, false, &settings.environment)?);
        }
        #[cfg(feature = "rest")]
        Address::Rest(address) => Box::new(rest::open(address, settings, throttle)?),
        #[cfg(not(feature = "rest"))]
        Address::Rest(_) => return Err(left_out("rest")),
        #[cfg(feature = "s3")]
        Address::S3(address) => slowed(s3::open(address, settings)?, throttle),
        #[cfg(not(feature = "s3"))]
        Address::S3(_) => return Err(left_out("s3")),
        #[cfg(feature = "b2")]
        Address::B2(address) => Box::new(b2::open(address, settings, throttle)?),
        #[cfg(not(feature = "b2"))]
        Address::B2(_) => return Err(left_out("b2")),
        #[cfg(feature = "sftp")]
        Address::Sftp(address) => slowed(sftp::open(address, settings)?, throttle),
        #[cfg(not(feature = "sftp"))]
        Address::Sftp(_) => return Err(left_out("sftp")),
    };
    let store = meters.watch(store, true, &settings.environment)?;
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
#[allow(dead_code, reason = "a build with all kinds needs it not")]
fn left_out(kind: &str) -> Failure {
    Failure::new(format!("this build of coffer has no {kind} repositories"))
}
