//! Repositories in buckets of Backblaze B2, by its S3 interface: its own has no checksum that `OpenDAL` would send, two requests for each
//! upload, and wants a bucket's number. Where that interface is, B2 tells to whoever has the key.
//!
//! Every bucket of B2 keeps old versions: what is deleted is hidden, and paid for, until a rule of the bucket removes it ("keep only the
//! last version").

use std::{
    fmt,
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use ureq::{
    Agent,
    http::{Method, Request, StatusCode, header},
};

use super::{
    BucketStore, CONNECTIONS,
    s3::{S3Credentials, S3Options},
};
use crate::{
    error::{Error, StoreError},
    store::{
        Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store,
        remote::{self, Failure},
        rest,
        secret::Secret,
        tls::TlsOptions,
    },
};

/// Where B2 is asked who we are.
const AUTHORITY: &str = "https://api.backblazeb2.com";

/// Longest answer to that.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Where a repository is, and how to get at it.
#[derive(Debug, Clone)]
pub struct B2Options {
    /// Another place to ask where the buckets are; for services that copy B2.
    pub authority: Option<String>,
    /// The key's id.
    pub key_id: String,
    /// The key.
    pub key: Secret,
    /// The bucket.
    pub bucket: String,
    /// What precedes the names of objects.
    pub prefix: String,
    /// Requests in flight at once; [`CONNECTIONS`] if 0.
    pub connections: usize,
    /// Certificates.
    pub tls: TlsOptions,
    /// Whether the proxy is used that the variables of the process name.
    pub system_proxy: bool,
}

/// A repository in a bucket of B2.
pub struct B2Store {
    options: B2Options,
    agent: Agent,
    location: String,
    /// The store by the other interface, once it is known where that is.
    inner: Mutex<Option<Arc<BucketStore>>>,
}

impl B2Store {
    /// The repository in a bucket, whether there is one or not; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] when what was given cannot be.
    pub fn new(options: B2Options) -> Result<Self, Error> {
        let (tls, system_proxy) = (options.tls.clone(), options.system_proxy);
        let agent = rest::connect::agent(rest::RestOptions { tls, system_proxy, ..rest::RestOptions::default() }, 1)?;
        let location = format!("b2:{}:{}", options.bucket, options.prefix);
        let location = location.trim_end_matches(':').to_owned();
        Ok(Self { options, agent, location, inner: Mutex::new(None) })
    }

    fn inner(&self, operation: &'static str, object: impl fmt::Display) -> Result<Arc<BucketStore>, StoreError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = inner.as_ref() {
            return Ok(Arc::clone(inner));
        }
        let opened = self.open().map_err(|failed| {
            let (kind, source) = (failed.kind, failed.source);
            StoreError { kind, operation, object: object.to_string(), location: self.location.clone(), source }
        })?;
        Ok(Arc::clone(inner.insert(Arc::new(opened))))
    }

    fn open(&self) -> Result<BucketStore, Failure> {
        let endpoint = self.endpoint()?;
        let host = endpoint.split_once("://").map_or("", |(_, host)| host);
        let region = host.strip_prefix("s3.").and_then(|rest| rest.split('.').next()).unwrap_or("us-east-1");
        BucketStore::s3(&S3Options {
            region: region.to_owned(),
            endpoint: Some(endpoint),
            bucket: self.options.bucket.clone(),
            prefix: self.options.prefix.clone(),
            connections: self.options.connections,
            credentials: S3Credentials::Keys {
                access_key_id: self.options.key_id.clone(),
                secret_access_key: self.options.key.clone(),
                session_token: None,
            },
            checksum: Some("crc32c".to_owned()),
            tls: self.options.tls.clone(),
            ..S3Options::default()
        })
        .map_err(|error| Failure::permanent(error.to_string()))
    }

    /// Asks B2 where its S3 interface is.
    fn endpoint(&self) -> Result<String, Failure> {
        let authority = self.options.authority.as_deref().unwrap_or(AUTHORITY).trim_end_matches('/');
        let authorization = rest::connect::authorization(&self.options.key_id, &self.options.key);
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{authority}/b2api/v2/b2_authorize_account"))
            .header(header::AUTHORIZATION, authorization.expose())
            .body(())
            .map_err(|error| Failure::permanent(error.to_string()))?;
        let configured = self.agent.configure_request(request);
        let configured = configured.timeout_global(Some(remote::deadline(0))).timeout_per_read(Some(remote::SILENCE));
        let answer = self.agent.run(configured.build()).map_err(rest::connect::failure)?;
        if answer.status() != StatusCode::OK {
            return Err(rest::answer::refusal(answer));
        }
        let mut json = Vec::new();
        let read = answer.into_body().into_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut json);
        read.map_err(rest::connect::io_failure)?;
        let json: serde_json::Value =
            serde_json::from_slice(&json).map_err(|_| Failure::permanent("what answers is not Backblaze B2"))?;
        let endpoint = json.get("s3ApiUrl").and_then(serde_json::Value::as_str);
        let endpoint = endpoint.filter(|url| url.starts_with("https://") || url.starts_with("http://"));
        endpoint
            .map(str::to_owned)
            .ok_or_else(|| Failure::permanent("the account has no S3 interface, as very old ones"))
    }

    /// The same failure, of the place that was named.
    fn told(&self, error: StoreError) -> StoreError {
        StoreError { location: self.location.clone(), ..error }
    }
}

impl Store for B2Store {
    fn create(&self) -> Result<(), StoreError> {
        self.inner("prepare", "the bucket")?.create().map_err(|error| self.told(error))
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner("write", name)?.put(name, bytes).map_err(|error| self.told(error))
    }

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.inner("read", name)?.get(name, range, into).map_err(|error| self.told(error))
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.inner("list", place.name())?.list(place, visit).map_err(|error| self.told(error))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        self.inner("look at", name)?.stat(name).map_err(|error| self.told(error))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner("delete", name)?.delete(name).map_err(|error| self.told(error))
    }

    fn abilities(&self) -> Abilities {
        let connections = if self.options.connections == 0 { CONNECTIONS } else { self.options.connections };
        Abilities { exclusive_put: false, connections, visibility_delay_ms: 0 }
    }

    fn location(&self) -> String {
        self.location.clone()
    }
}
