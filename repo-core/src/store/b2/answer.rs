//! What B2's answers mean.

use std::{io::Read, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use ureq::{
    Body,
    http::{Response, StatusCode},
};

use crate::{
    error::StoreErrorKind,
    store::{
        backend::Failure,
        http::{
            answer::{Answer, REASON_BYTES, kind_of},
            connect,
        },
        remote::excerpt,
        retry::Busy,
    },
};

/// Most bytes of an answer: a page of a listing, whose entries have up to 7 KiB of remarks each if somebody else wrote them.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Codes in answers, and what can be done; others are sorted by their status.
const CODES: [(&str, StoreErrorKind); 18] = [
    ("expired_auth_token", StoreErrorKind::Refresh),
    ("bad_auth_token", StoreErrorKind::Denied),
    ("unauthorized", StoreErrorKind::Denied),
    ("unsupported", StoreErrorKind::Denied), // a key that is not for this interface
    ("access_denied", StoreErrorKind::Denied),
    ("email_not_verified", StoreErrorKind::Denied),
    ("no_payment_history", StoreErrorKind::Denied),
    ("cap_exceeded", StoreErrorKind::NoSpace),
    ("storage_cap_exceeded", StoreErrorKind::NoSpace),
    ("download_cap_exceeded", StoreErrorKind::Denied),
    ("transaction_cap_exceeded", StoreErrorKind::Denied),
    ("bad_bucket_id", StoreErrorKind::Permanent),
    ("invalid_bucket_id", StoreErrorKind::Permanent),
    ("file_not_present", StoreErrorKind::NotFound),
    ("no_such_file", StoreErrorKind::NotFound),
    ("not_found", StoreErrorKind::NotFound),
    ("auth_token_limit", StoreErrorKind::Retry), // an address for uploads that somebody uses
    ("request_timeout", StoreErrorKind::Retry),
];

/// An answer other than success.
pub(super) struct Refusal {
    status: StatusCode,
    told: Told,
    /// For how long B2 asks to be left alone.
    wait: Option<Duration>,
}

#[derive(Deserialize, Default)]
struct Told {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Refusal {
    /// Reads what the answer says.
    pub(super) fn of(mut answer: Response<Body>) -> Self {
        let wait = Answer(&answer).wait();
        let mut bytes = Vec::new();
        let read = answer.body_mut().as_reader().take(REASON_BYTES).read_to_end(&mut bytes);
        let told = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { status: answer.status(), told, wait }
    }

    /// B2's word for it; empty where it gave none, as in answers to `HEAD`.
    pub(super) fn code(&self) -> &str {
        &self.told.code
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether another token may help.
    pub(super) fn is_of_token(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED && matches!(self.code(), "" | "expired_auth_token" | "bad_auth_token")
    }

    fn is_of_bucket(&self) -> bool {
        let message = self.told.message.to_ascii_lowercase();
        matches!(self.code(), "bad_bucket_id" | "invalid_bucket_id")
            || self.status == StatusCode::NOT_FOUND && message.starts_with("bucket")
    }

    fn kind(&self) -> StoreErrorKind {
        if self.is_of_bucket() {
            return StoreErrorKind::Permanent;
        }
        // What arrived is not what was sent.
        if self.code() == "bad_request" && self.told.message.to_ascii_lowercase().contains("sha1") {
            return StoreErrorKind::Retry;
        }
        let known = CODES.iter().find(|(code, _)| *code == self.code()).map(|(_, kind)| *kind);
        known.unwrap_or_else(|| kind_of(self.status))
    }

    /// The failure that it tells of.
    pub(super) fn failure(self) -> Failure {
        let kind = self.kind();
        let (code, message) = (excerpt(&self.told.code), excerpt(&self.told.message));
        let said = match (code.as_str(), message.as_str()) {
            ("", "") => format!("B2 answered {}", self.status),
            (code, "") | ("", code) => format!("B2 answered {}: {code}", self.status.as_u16()),
            (code, message) => format!("B2 answered {} {code}: {message}", self.status.as_u16()),
        };
        let cap = [
            ("storage_cap_exceeded", "storage"),
            ("cap_exceeded", "storage"),
            ("download_cap_exceeded", "downloads"),
            ("transaction_cap_exceeded", "transactions"),
        ];
        if let Some((_, cap)) = cap.into_iter().find(|(code, _)| *code == self.told.code) {
            return Failure::new(kind, format!("the account's cap on {cap} is reached: {said}"));
        }
        if self.is_of_bucket() {
            return Failure::new(kind, format!("there is no bucket of that name any more: {said}"));
        }
        match self.wait.filter(|_| kind == StoreErrorKind::Retry) {
            Some(pause) => Failure::new(kind, Busy { reason: said, pause }),
            None => Failure::new(kind, said),
        }
    }
}

/// An answer of which only the success counts.
#[derive(Deserialize)]
pub(super) struct Done {}

/// Whether a failure says that there is none.
pub(super) fn is_absent(failure: &Failure) -> bool {
    failure.kind == StoreErrorKind::NotFound
}

/// What an answer says.
pub(super) fn json_of<T: DeserializeOwned>(answer: Response<Body>) -> Result<T, Failure> {
    let mut bytes = Vec::new();
    let body = answer.into_body().into_with_config().limit(ANSWER_BYTES_MAX).reader();
    body.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(connect::io_failure)?;
    serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => Failure::new(StoreErrorKind::Retry, "the answer ended before its end"),
        _ => Failure::permanent(format!("what answers is not Backblaze B2: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Failure {
        let answer = Response::builder().status(status).body(Body::builder().data(body.to_owned())).unwrap();
        Refusal::of(answer).failure()
    }

    #[test]
    fn codes_count_before_statuses() {
        for (status, code, message, kind) in [
            (401, "expired_auth_token", "", StoreErrorKind::Refresh),
            (401, "bad_auth_token", "", StoreErrorKind::Denied),
            (401, "unauthorized", "", StoreErrorKind::Denied),
            (403, "storage_cap_exceeded", "Usage cap exceeded.", StoreErrorKind::NoSpace),
            (403, "download_cap_exceeded", "Download cap exceeded.", StoreErrorKind::Denied),
            (403, "transaction_cap_exceeded", "Transaction cap exceeded.", StoreErrorKind::Denied),
            (403, "cap_exceeded", "", StoreErrorKind::NoSpace),
            (400, "bad_request", "Sha1 did not match data received", StoreErrorKind::Retry),
            (400, "bad_request", "bad fileName", StoreErrorKind::Permanent),
            (400, "bad_bucket_id", "invalid bucketId", StoreErrorKind::Permanent),
            (404, "not_found", "File with such name does not exist.", StoreErrorKind::NotFound),
            (404, "not_found", "Bucket does not exist: bucket", StoreErrorKind::Permanent),
            (400, "file_not_present", "file not present", StoreErrorKind::NotFound),
            (408, "request_timeout", "", StoreErrorKind::Retry),
            (429, "too_many_requests", "", StoreErrorKind::Retry),
            (500, "internal_error", "", StoreErrorKind::Retry),
            (503, "service_unavailable", "no tomes available", StoreErrorKind::Retry),
        ] {
            let failure = refused(status, &format!(r#"{{"status":{status},"code":"{code}","message":"{message}"}}"#));
            assert_eq!(failure.kind, kind, "{status} {code} {message}");
            let text = failure.source.to_string();
            assert!(text.contains(code) && text.contains(message), "{text}");
            assert_eq!(code.contains("cap_"), text.contains("the account's cap"), "{text}");
        }
    }

    #[test]
    fn answers_of_others() {
        assert_eq!(refused(503, "<html>").source.to_string(), "B2 answered 503 Service Unavailable");
        assert_eq!(refused(502, "").kind, StoreErrorKind::Retry);
        assert_eq!(refused(403, "").kind, StoreErrorKind::Denied);
        assert_eq!(refused(500, r#"{"message":"on\n fire"}"#).source.to_string(), "B2 answered 500: on fire");
    }

    #[test]
    fn how_long_to_wait_is_passed_on() {
        for (status, waits) in [(429, true), (503, true), (403, false)] {
            let answer = Response::builder().status(status).header("retry-after", "7").body(Body::builder().data("{}"));
            let failure = Refusal::of(answer.unwrap()).failure();
            let pause = failure.source.downcast_ref::<Busy>().map(|busy| busy.pause);
            assert_eq!(pause, waits.then_some(Duration::from_secs(7)), "{status}");
        }
    }

    #[test]
    fn only_tokens_are_renewed() {
        let is_of_token = |status: u16, body: &str| {
            let answer = Response::builder().status(status).body(Body::builder().data(body.to_owned())).unwrap();
            Refusal::of(answer).is_of_token()
        };
        assert!(is_of_token(401, r#"{"code":"expired_auth_token"}"#) && is_of_token(401, ""));
        assert!(!is_of_token(401, r#"{"code":"unauthorized"}"#) && !is_of_token(403, ""));
    }
}
