//! Uploads, each to an address of its own.

use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::json;
use sha1::{Digest, Sha1};
use ureq::http::{Method, Request, StatusCode, header};

use super::{
    B2Store,
    account::Right,
    answer::{Refusal, json_of},
    request::encoded,
};
use crate::{
    error::StoreErrorKind,
    store::{backend::Failure, http::Call, secret::Secret},
};

/// Where to upload, and the token for that.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadUrl {
    upload_url: String,
    authorization_token: String,
}

/// An address for uploads, which one upload at a time may use.
struct Address {
    url: String,
    token: Secret,
}

/// Addresses that nobody uses now. There are never more of them than there were uploads at once.
#[derive(Default)]
pub(super) struct UploadUrls(Mutex<Vec<Address>>);

impl UploadUrls {
    fn take(&self) -> Option<Address> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, address: Address) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(address);
    }

    fn forget_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What B2 has stored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Uploaded {
    content_length: u64,
    content_sha1: Option<String>,
}

impl B2Store {
    /// Stores a file. Its address is kept for the next one only if all went well, since any trouble there means that B2 wants us to go to
    /// another; the next attempt asks for one.
    pub(super) fn upload(&self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let address = match self.uploads.take() {
            Some(address) => address,
            None => self.upload_address()?,
        };
        let sha1 = hex(&Sha1::digest(bytes));
        let request = Request::builder()
            .method(Method::POST)
            .uri(&address.url)
            .header(header::AUTHORIZATION, address.token.expose())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header("X-Bz-File-Name", encoded(path))
            .header("X-Bz-Content-Sha1", &sha1);
        let answer = self.client.send(request, Call { body: Some(bytes), ..Call::default() })?;
        if answer.status() != StatusCode::OK {
            return Err(self.of_address(Refusal::of(answer)));
        }
        let Uploaded { content_length, content_sha1 } = json_of(answer)?;
        let is_same_sum = content_sha1.is_none_or(|stored| stored.trim_start_matches("unverified:") == sha1);
        if content_length != bytes.len() as u64 || !is_same_sum {
            return Err(Failure::damage("B2 has stored something else than it was sent".to_owned()));
        }
        self.uploads.give_back(address);
        Ok(())
    }

    fn upload_address(&self) -> Result<Address, Failure> {
        let found: UploadUrl =
            self.call(Right::Write, "b2_get_upload_url", |session| json!({ "bucketId": session.bucket_id }))?;
        self.account.check_url(&found.upload_url)?;
        Ok(Address { url: found.upload_url, token: found.authorization_token.into() })
    }

    /// What it means that an address did not take a file.
    fn of_address(&self, refused: Refusal) -> Failure {
        let is_of_token = refused.is_of_token();
        let may_do_elsewhere = is_of_token || refused.status().is_server_error();
        if is_of_token {
            // Those that were got with the same token will be as old.
            self.uploads.forget_all();
        }
        let failure = refused.failure();
        // Another address can be tried at once, however long this one asks to be left alone.
        if may_do_elsewhere { Failure::new(StoreErrorKind::Retry, failure.source.to_string()) } else { failure }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a text takes everything
        text
    })
}
