//! Who we are, what the key permits, and where the bucket is.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::json;
use ureq::http::{Method, Request, StatusCode, header};

use super::answer::{Refusal, json_of};
use crate::{
    error::{Error, StoreErrorKind},
    store::{
        backend::Failure,
        http::{Call, Client, connect},
        remote::excerpt,
        secret::Secret,
    },
};

/// Where B2 is asked who we are.
const AUTHORITY: &str = "https://api.backblazeb2.com";

/// The interface's version: the first that knows keys for several buckets.
pub(super) const VERSION: &str = "b2api/v4";

/// What a key can be allowed to do, as far as a repository needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    List,
    Read,
    Write,
    Delete,
}

impl Right {
    pub(super) const ALL: [Self; 4] = [Self::List, Self::Read, Self::Write, Self::Delete];

    /// What B2 calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::List => "listFiles",
            Self::Read => "readFiles",
            Self::Write => "writeFiles",
            Self::Delete => "deleteFiles",
        }
    }
}

/// A token, and where it is good for what.
pub(super) struct Session {
    pub(super) token: Secret,
    pub(super) api_url: String,
    pub(super) download_url: String,
    pub(super) bucket_id: String,
    rights: Vec<String>,
}

impl Session {
    /// Fails when the key does not permit that.
    pub(super) fn permits(&self, right: Right) -> Result<(), Failure> {
        if self.rights.iter().any(|found| found == right.name()) {
            return Ok(());
        }
        Err(lacks(right.name()))
    }
}

fn lacks(right: &str) -> Failure {
    Failure::new(StoreErrorKind::Denied, format!("the application key lacks the right \"{right}\""))
}

/// The holder of a key. All threads share one session; when its token has expired, one of them gets the next while the others wait.
pub(super) struct Account {
    authority: String,
    authorization: Secret,
    bucket: String,
    root: String,
    current: Mutex<Option<Arc<Session>>>,
}

impl Account {
    pub(super) fn new(
        authority: Option<String>,
        key_id: &str,
        key: &Secret,
        bucket: String,
        root: String,
    ) -> Result<Self, Error> {
        let authority = authority.unwrap_or_else(|| AUTHORITY.to_owned()).trim_end_matches('/').to_owned();
        if !(authority.starts_with("https://") || authority.starts_with("http://")) {
            return Err(Error::Invalid(format!("\"{authority}\" is not the URL of a service like B2")));
        }
        let authorization = connect::authorization(key_id, key);
        Ok(Self { authority, authorization, bucket, root, current: Mutex::new(None) })
    }

    /// The session, which begins with the first request.
    pub(super) fn session(&self, client: &Client) -> Result<Arc<Session>, Failure> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some(session) => Ok(Arc::clone(session)),
            None => Ok(Arc::clone(current.insert(Arc::new(self.authorize(client, None)?)))),
        }
    }

    /// The session after one whose token was refused; somebody else may have got it already.
    pub(super) fn renew(&self, client: &Client, refused: &Arc<Session>) -> Result<Arc<Session>, Failure> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some(session) if !Arc::ptr_eq(session, refused) => Ok(Arc::clone(session)),
            _ => {
                *current = None;
                let session = self.authorize(client, Some(&refused.bucket_id))?;
                Ok(Arc::clone(current.insert(Arc::new(session))))
            }
        }
    }

    /// Gets a token. The bucket's id stays the same for ever, so that it is looked up once.
    fn authorize(&self, client: &Client, bucket_id: Option<&str>) -> Result<Session, Failure> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{}/{VERSION}/b2_authorize_account", self.authority))
            .header(header::AUTHORIZATION, self.authorization.expose());
        let answer = client.send(request, Call::default())?;
        if answer.status() != StatusCode::OK {
            return Err(of_key(Refusal::of(answer)));
        }
        let Authorized { account_id, authorization_token, api_info: Suites { storage_api: storage } } =
            json_of(answer)?;
        for url in [&storage.api_url, &storage.download_url] {
            self.check_url(url)?;
        }
        let allowed = storage.allowed;
        if let Some(prefix) = allowed.name_prefix.filter(|prefix| !self.root.starts_with(prefix.as_str())) {
            let prefix = excerpt(&prefix);
            let text = format!("the application key is only for names that begin with \"{prefix}\"");
            return Err(Failure::new(StoreErrorKind::Denied, text));
        }
        let mut session = Session {
            token: authorization_token.into(),
            api_url: storage.api_url,
            download_url: storage.download_url,
            bucket_id: String::new(),
            rights: allowed.capabilities,
        };
        session.bucket_id = match (bucket_id, allowed.buckets.filter(|buckets| !buckets.is_empty())) {
            (Some(id), _) => id.to_owned(),
            (None, Some(buckets)) => self.among(&buckets)?,
            (None, None) => self.look_up(client, &session, &account_id)?,
        };
        Ok(session)
    }

    /// Refuses an address that would give the token away to anybody on the way, where ours does not.
    pub(super) fn check_url(&self, url: &str) -> Result<(), Failure> {
        let scheme = self.authority.split_once("://").map_or("", |(scheme, _)| scheme);
        if url.split_once("://").is_some_and(|(found, _)| found == "https" || found == scheme) {
            return Ok(());
        }
        Err(Failure::permanent("what answers is not Backblaze B2: the addresses that it gives are not encrypted"))
    }

    /// Our bucket's id, of those that a key is for.
    fn among(&self, buckets: &[AllowedBucket]) -> Result<String, Failure> {
        if let Some(found) = buckets.iter().find(|bucket| bucket.name.as_deref() == Some(&self.bucket)) {
            return Ok(found.id.clone());
        }
        let names: Vec<_> = buckets.iter().filter_map(|bucket| bucket.name.as_deref()).map(excerpt).collect();
        if names.is_empty() {
            return Err(Failure::permanent("there is no bucket any more that the application key is for"));
        }
        let text = format!("the application key is only for the bucket {}", names.join(", "));
        Err(Failure::new(StoreErrorKind::Denied, text))
    }

    /// Asks for our bucket's id.
    fn look_up(&self, client: &Client, session: &Session, account_id: &str) -> Result<String, Failure> {
        let body = json!({ "accountId": account_id, "bucketName": self.bucket }).to_string();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/{VERSION}/b2_list_buckets", session.api_url))
            .header(header::AUTHORIZATION, session.token.expose())
            .header(header::CONTENT_TYPE, "application/json");
        let answer = client.send(request, Call { body: Some(body.as_bytes()), ..Call::default() })?;
        if answer.status() != StatusCode::OK {
            let refused = Refusal::of(answer);
            return Err(if refused.code() == "unauthorized" { lacks("listBuckets") } else { refused.failure() });
        }
        let found = json_of::<Buckets>(answer)?.buckets.into_iter().find(|bucket| bucket.name == self.bucket);
        found
            .map(|bucket| bucket.id)
            .ok_or_else(|| Failure::permanent(format!("there is no bucket \"{}\" in this account", self.bucket)))
    }
}

/// What it means that B2 gives no token.
fn of_key(refused: Refusal) -> Failure {
    if refused.code() == "unauthorized" || refused.code() == "bad_auth_token" {
        let failure = refused.failure();
        return Failure::new(
            StoreErrorKind::Denied,
            format!("{}; the application key or its id is wrong, or it was deleted", failure.source),
        );
    }
    refused.failure()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorized {
    account_id: String,
    authorization_token: String,
    api_info: Suites,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Suites {
    storage_api: Storage,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    api_url: String,
    download_url: String,
    allowed: Allowed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Allowed {
    buckets: Option<Vec<AllowedBucket>>,
    capabilities: Vec<String>,
    name_prefix: Option<String>,
}

#[derive(Deserialize)]
struct AllowedBucket {
    id: String,
    /// Missing where the bucket was deleted.
    name: Option<String>,
}

#[derive(Deserialize)]
struct Buckets {
    buckets: Vec<Bucket>,
}

#[derive(Deserialize)]
struct Bucket {
    #[serde(rename = "bucketId")]
    id: String,
    #[serde(rename = "bucketName")]
    name: String,
}
