//! What errors of `OpenDAL` mean, by the codes that stores give and the causes below.

use std::{error::Error as StdError, io};

use opendal::{Error, ErrorKind};

use crate::{
    error::StoreErrorKind,
    store::{backend::Failure, remote::excerpt, tls},
};

/// Codes in answers, and what can be done; others are sorted by their HTTP status.
const CODES: [(&str, StoreErrorKind); 28] = [
    ("ExpiredToken", StoreErrorKind::Refresh),
    ("ExpiredTokenException", StoreErrorKind::Refresh),
    ("RequestExpired", StoreErrorKind::Refresh),
    ("TokenRefreshRequired", StoreErrorKind::Refresh),
    ("AccessDenied", StoreErrorKind::Denied),
    ("AllAccessDisabled", StoreErrorKind::Denied),
    ("AccountProblem", StoreErrorKind::Denied),
    ("InvalidAccessKeyId", StoreErrorKind::Denied),
    ("InvalidToken", StoreErrorKind::Denied),
    ("SignatureDoesNotMatch", StoreErrorKind::Denied),
    ("MethodNotAllowed", StoreErrorKind::Denied),
    ("ObjectLocked", StoreErrorKind::Denied),
    ("QuotaExceeded", StoreErrorKind::NoSpace),
    ("XMinioStorageFull", StoreErrorKind::NoSpace),
    ("XMinioAdminBucketQuotaExceeded", StoreErrorKind::NoSpace),
    ("InsufficientStorage", StoreErrorKind::NoSpace),
    ("EntityTooLarge", StoreErrorKind::NoSpace),
    ("RequestTimeTooSkewed", StoreErrorKind::Clock),
    ("AuthorizationHeaderMalformed", StoreErrorKind::Permanent),
    ("PermanentRedirect", StoreErrorKind::Permanent),
    ("NoSuchBucket", StoreErrorKind::Permanent),
    ("InvalidBucketName", StoreErrorKind::Permanent),
    ("BadDigest", StoreErrorKind::Retry), // what arrived is not what was sent
    ("XAmzContentChecksumMismatch", StoreErrorKind::Retry),
    ("IncompleteBody", StoreErrorKind::Retry),
    ("ConditionalRequestConflict", StoreErrorKind::Retry), // somebody else writes it just now
    ("SlowDown", StoreErrorKind::Retry),
    ("RequestTimeout", StoreErrorKind::Retry),
];

/// How `OpenDAL` begins to tell that a request could not be signed, before it was sent.
const SIGNING: &str = "signing http request";

/// What that means where no keys were given.
const NO_KEYS: &str = "no keys to sign requests with were found: neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set, nor has a profile \
                       or this machine any";

/// Sorts a failure, and says in words what the store said: no URL, no header, no signature.
pub(super) fn failure(error: &Error) -> Failure {
    if let Some(failed) = of_connection(error) {
        return failed;
    }
    if error.message().starts_with(SIGNING) {
        return Failure::new(StoreErrorKind::Denied, NO_KEYS);
    }
    let (code, message) = code_and_message(error.message());
    let by_code = code.and_then(|code| CODES.iter().find(|(known, _)| *known == code));
    let kind = by_code.map_or_else(|| kind_of(error), |(_, kind)| *kind);
    let mut text = match (code, message.is_empty()) {
        (Some(code), false) => format!("the store answered {code}: {message}"),
        (Some(code), true) => format!("the store answered {code}"),
        (None, false) => message,
        (None, true) => match (error.kind(), status(error)) {
            (ErrorKind::Unexpected, Some(status)) => format!("the store answered with status {status}"),
            (kind, _) => format!("the store answered: {}", words(kind)),
        },
    };
    match code {
        Some("RequestTimeTooSkewed") => text.push_str("; this machine's clock is wrong"),
        Some("AuthorizationHeaderMalformed" | "PermanentRedirect") => text.push_str("; it may be another region"),
        _ => {}
    }
    Failure::new(kind, text)
}

/// Whether a store refuses conditions altogether, and not this write.
pub(super) fn knows_no_conditions(failed: &Failure) -> bool {
    let text = failed.source.to_string();
    failed.kind == StoreErrorKind::Permanent && (text.contains("NotImplemented") || text.contains("not implemented"))
}

/// Whether a refusal is of the credentials themselves, and not of what they may do.
pub(super) fn names_the_credentials(failed: &Failure) -> bool {
    let text = failed.source.to_string();
    ["InvalidAccessKeyId", "InvalidToken", "UnrecognizedClientException"].iter().any(|code| text.contains(code))
}

fn kind_of(error: &Error) -> StoreErrorKind {
    match (error.kind(), status(error)) {
        (ErrorKind::Unexpected, Some(401)) => return StoreErrorKind::Denied,
        (ErrorKind::Unexpected, Some(413 | 507)) => return StoreErrorKind::NoSpace,
        _ => {}
    }
    match error.kind() {
        ErrorKind::NotFound => StoreErrorKind::NotFound,
        ErrorKind::PermissionDenied => StoreErrorKind::Denied,
        ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists => StoreErrorKind::Exists,
        ErrorKind::RangeNotSatisfied => StoreErrorKind::Damage,
        ErrorKind::RateLimited | ErrorKind::Conflict => StoreErrorKind::Retry,
        _ if error.is_temporary() => StoreErrorKind::Retry,
        _ => StoreErrorKind::Permanent,
    }
}

/// The status of the answer, which is in the context of an error and nowhere else.
fn status(error: &Error) -> Option<u16> {
    let text = format!("{error:?}");
    let rest = &text[text.find("Parts { status: ")? + "Parts { status: ".len()..];
    rest.get(..3)?.parse().ok()
}

const fn words(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "there is no such object",
        ErrorKind::PermissionDenied => "it does not permit that",
        ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists => "there is an object of that name already",
        ErrorKind::RangeNotSatisfied => "it has not so many bytes",
        ErrorKind::RateLimited => "there are too many requests",
        _ => "something went wrong",
    }
}

/// A connection that failed, told by what lies below.
fn of_connection(error: &Error) -> Option<Failure> {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    let mut root = None;
    let mut from_network = false;
    while let Some(one) = cause {
        // An error of input and output is no source of what it wraps; it may wrap several layers of its own.
        let mut wrapped: Option<&(dyn StdError + 'static)> = Some(one);
        while let Some(inner) = wrapped {
            if let Some(error) = inner.downcast_ref::<rustls::Error>() {
                return Some(tls::failure(error));
            }
            let below = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            wrapped = below.map(|below| below as &(dyn StdError + 'static));
        }
        from_network |= one.is::<reqwest::Error>();
        root = Some(one);
        cause = one.source();
    }
    let root = root.filter(|_| from_network)?;
    Some(Failure::new(StoreErrorKind::Retry, format!("the connection failed: {}", excerpt(&root.to_string()))))
}

/// Takes `… { code: "CODE", message: "MESSAGE", … }` apart, which is how `OpenDAL` hands on what stores answer.
fn code_and_message(text: &str) -> (Option<&str>, String) {
    let field = |name: &str| {
        let rest = &text[text.find(&format!("{name}: \""))? + name.len() + 3..];
        rest.find("\", ").or_else(|| rest.find("\" }")).map(|end| &rest[..end])
    };
    match field("code") {
        Some(code) if !code.is_empty() => (Some(code), excerpt(field("message").unwrap_or_default())),
        _ if text.contains("code: \"\"") || text.contains('<') => (None, String::new()),
        _ => (None, excerpt(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(error: Error) -> (StoreErrorKind, String) {
        let failed = failure(&error);
        (failed.kind, failed.source.to_string())
    }

    #[test]
    fn codes_count_before_statuses() {
        let answer = |kind, code: &str| {
            let text = format!(
                "S3Error {{ code: \"{code}\", message: \"Some words.\", resource: \"/b/k\", request_id: \"7\" }}"
            );
            sorted(Error::new(kind, text))
        };
        let told = (StoreErrorKind::Refresh, "the store answered ExpiredToken: Some words.".to_owned());
        assert_eq!(answer(ErrorKind::Unexpected, "ExpiredToken"), told);
        assert_eq!(answer(ErrorKind::NotFound, "NoSuchBucket").0, StoreErrorKind::Permanent);
        assert_eq!(answer(ErrorKind::NotFound, "NoSuchKey").0, StoreErrorKind::NotFound);
        assert_eq!(answer(ErrorKind::PermissionDenied, "SignatureDoesNotMatch").0, StoreErrorKind::Denied);
        assert_eq!(answer(ErrorKind::PermissionDenied, "RequestTimeTooSkewed").0, StoreErrorKind::Clock);
        assert_eq!(answer(ErrorKind::ConditionNotMatch, "PreconditionFailed").0, StoreErrorKind::Exists);
        assert_eq!(answer(ErrorKind::Unexpected, "Anything").0, StoreErrorKind::Permanent);
    }

    #[test]
    fn what_has_no_code() {
        assert_eq!(sorted(Error::new(ErrorKind::Unexpected, "").set_temporary()).0, StoreErrorKind::Retry);
        assert_eq!(
            sorted(Error::new(ErrorKind::PermissionDenied, "")).1,
            "the store answered: it does not permit that"
        );
        assert!(!sorted(Error::new(ErrorKind::Unexpected, "<html>login</html>")).1.contains('<'));
    }
}
