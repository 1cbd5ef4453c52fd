//! Repositories in buckets of S3 services.

use std::{fmt, sync::Arc};

use opendal::{OperationContext, Operator, services::S3};

use super::{BucketStore, Clients, Exclusive, http, invalid};
use crate::{
    error::Error,
    store::{flow::Flow, secret::Secret, tls::TlsOptions},
};

/// Who asks.
#[derive(Debug, Clone, Default)]
pub enum S3Credentials {
    /// Whoever the machine is: variables and files of the user, or what the cloud says of the machine.
    #[default]
    OfMachine,
    /// The user of this name in the files of the user.
    Profile(String),
    /// The holder of these keys.
    Keys {
        /// The public one.
        access_key_id: String,
        /// The secret one.
        secret_access_key: Secret,
        /// What goes with keys that are for a short time.
        session_token: Option<Secret>,
    },
    /// Nobody; for buckets that all may read.
    Nobody,
    /// Whoever the caller says, asked once at the beginning and once whenever the store calls those expired that it said before.
    Asked(CredentialSource),
}

/// What is asked for credentials.
#[derive(Clone)]
pub struct CredentialSource(Arc<Ask>);

type Ask = dyn Fn() -> Result<S3Credentials, Error> + Send + Sync;

impl CredentialSource {
    /// Asks `ask`, which does not answer [`S3Credentials::Asked`]. Called from any thread.
    pub fn new(ask: impl Fn() -> Result<S3Credentials, Error> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("CredentialSource")
    }
}

/// Where a repository is, and how to get at it.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// `https://HOST[:PORT]`; that of Amazon if there is none.
    pub endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// What precedes the names of objects.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Whether the bucket is part of the host's name.
    pub virtual_host: bool,
    /// Class of storage for packs.
    pub storage_class: Option<String>,
    /// Sum that the store checks what arrives against: `crc32c` or `md5`.
    pub checksum: Option<String>,
    /// Whether the store knows only the first version of listings.
    pub list_objects_v1: bool,
    /// Requests in flight at once; [`super::CONNECTIONS`] if 0.
    pub connections: usize,
    /// Who asks.
    pub credentials: S3Credentials,
    /// Certificates.
    pub tls: TlsOptions,
    /// Limits of transfer, and the end.
    pub flow: Flow,
}

impl BucketStore {
    /// The repository in a bucket of an S3 service, whether there is one or not; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] when what was given cannot be.
    pub fn s3(options: &S3Options) -> Result<Self, Error> {
        let opened = clients(options)?;
        let endpoint = options.endpoint.as_deref().unwrap_or("https://s3.amazonaws.com");
        let location = format!("s3:{endpoint}/{}/{}", options.bucket, options.prefix);
        let location = location.trim_end_matches('/').to_owned();
        let flow = options.flow.clone();
        let store = Self::new(opened, location, options.connections, Exclusive::ByCondition, flow);
        // Keys that were given stay what they are; the other sources may have new ones.
        if matches!(options.credentials, S3Credentials::Keys { .. } | S3Credentials::Nobody) {
            return Ok(store);
        }
        let options = options.clone();
        Ok(Self { renew: Some(Box::new(move || clients(&options))), ..store })
    }
}

/// What sends requests, with credentials as they are now.
fn clients(options: &S3Options) -> Result<Clients, Error> {
    let credentials = match &options.credentials {
        S3Credentials::Asked(CredentialSource(ask)) => &ask()?,
        credentials => credentials,
    };
    let is_encrypted = options.endpoint.as_deref().is_none_or(|endpoint| endpoint.starts_with("https"));
    let transport = http::transport(&options.tls, is_encrypted, &options.flow)?;
    let context = OperationContext::new().with_http_transport(transport);
    let operator = |class: Option<&str>| -> Result<Operator, Error> {
        let built = Operator::new(builder(options, credentials, class)).map_err(|error| invalid(&error))?;
        Ok(built.with_context(context.clone()))
    };
    let plain = operator(None)?;
    let packs = match options.storage_class.as_deref() {
        Some(class) => operator(Some(class))?,
        None => plain.clone(),
    };
    Ok(Clients { operator: plain, packs })
}

fn builder(options: &S3Options, credentials: &S3Credentials, storage_class: Option<&str>) -> S3 {
    let mut builder = S3::default().bucket(&options.bucket).root(&options.prefix).region(&options.region);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if options.virtual_host {
        builder = builder.enable_virtual_host_style();
    }
    if let Some(class) = storage_class {
        builder = builder.default_storage_class(class);
    }
    if let Some(checksum) = &options.checksum {
        builder = builder.checksum_algorithm(checksum);
    }
    if options.list_objects_v1 {
        builder = builder.disable_list_objects_v2();
    }
    match credentials {
        S3Credentials::OfMachine | S3Credentials::Asked(_) => builder,
        S3Credentials::Profile(name) => builder.profile(name).disable_ec2_metadata(),
        S3Credentials::Keys { access_key_id, secret_access_key, session_token } => {
            builder = builder.disable_config_load().disable_ec2_metadata();
            builder = builder.access_key_id(access_key_id).secret_access_key(secret_access_key.expose());
            match session_token {
                Some(token) => builder.session_token(token.expose()),
                None => builder,
            }
        }
        S3Credentials::Nobody => builder.disable_config_load().disable_ec2_metadata().skip_signature(),
    }
}
