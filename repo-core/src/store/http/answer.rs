//! What a server's answer means.

use std::{io::Read, time::Duration};

use ureq::{
    Body,
    http::{Response, StatusCode, header, header::AsHeaderName},
};

use crate::{
    error::StoreErrorKind,
    store::{
        remote::{Failure, excerpt, http_date, retry_after},
        retry::Busy,
    },
    time::Timestamp,
};

/// Most bytes that are read of an answer that tells of a failure.
const REASON_BYTES: u64 = 4096;

/// The headers of an answer.
pub(in crate::store) struct Answer<'a>(pub(in crate::store) &'a Response<Body>);

impl Answer<'_> {
    /// A header's text.
    pub(in crate::store) fn text(&self, name: impl AsHeaderName) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok().map(str::trim)
    }

    /// How many bytes the body has, or would have.
    pub(in crate::store) fn length_bytes(&self) -> Option<u64> {
        self.text(header::CONTENT_LENGTH)?.parse().ok()
    }

    /// First and last byte of a part, and the size of the whole, which may be untold.
    pub(in crate::store) fn content_range(&self) -> Option<(u64, u64, Option<u64>)> {
        let (part, whole) = self.text(header::CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = part.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?, whole.parse().ok()))
    }

    /// When the object was stored.
    pub(in crate::store) fn modified(&self) -> Option<Timestamp> {
        http_date(self.text(header::LAST_MODIFIED)?)
    }

    /// For how long the server asks to be left alone.
    pub(in crate::store) fn wait(&self) -> Option<Duration> {
        retry_after(self.text(header::RETRY_AFTER)?, self.text(header::DATE))
    }

    /// Whether it is a page for people: from a proxy that wants somebody to log in, or a server of another kind.
    pub(in crate::store) fn is_page(&self) -> bool {
        self.text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"))
    }
}

/// The failure that an answer other than success tells of.
pub(in crate::store) fn refusal(answer: Response<Body>) -> Failure {
    let status = answer.status();
    let kind = kind_of(status);
    let wait = Answer(&answer).wait().filter(|_| kind == StoreErrorKind::Retry);
    let redirect = status.is_redirection().then(|| Answer(&answer).text(header::LOCATION).map(str::to_owned)).flatten();
    let mut text = format!("the server answered {status}");
    if let Some(target) = redirect {
        text = format!("{text}, to {}: name the repository by its own address", excerpt(&target));
    } else if let Some(reason) = reason(answer) {
        text = format!("{text}: {reason}");
    }
    match status {
        StatusCode::UNAUTHORIZED => text.push_str("; it wants another user name or password"),
        StatusCode::PAYLOAD_TOO_LARGE => text.push_str("; the quota is used up, or it takes no objects of this size"),
        _ => {}
    }
    match wait {
        Some(pause) => Failure::new(kind, Busy { reason: text, pause }),
        None => Failure::new(kind, text),
    }
}

/// What stands in the answer beside its status, if that tells more.
fn reason(mut answer: Response<Body>) -> Option<String> {
    if Answer(&answer).is_page() {
        return None;
    }
    let status = answer.status();
    let mut bytes = Vec::new();
    answer.body_mut().as_reader().take(REASON_BYTES).read_to_end(&mut bytes).ok()?;
    let text = excerpt(&String::from_utf8_lossy(&bytes));
    (!text.is_empty() && Some(text.as_str()) != status.canonical_reason()).then_some(text)
}

/// What can be done after such an answer.
pub(in crate::store) fn kind_of(status: StatusCode) -> StoreErrorKind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StoreErrorKind::Denied,
        StatusCode::NOT_FOUND | StatusCode::GONE => StoreErrorKind::NotFound,
        StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE => StoreErrorKind::NoSpace,
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => StoreErrorKind::Retry,
        // What proxies of large sites answer when the server behind them is gone.
        _ if (520..=524).contains(&status.as_u16()) => StoreErrorKind::Retry,
        _ => StoreErrorKind::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Body> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(Body::builder().data(body.to_owned())).unwrap()
    }

    #[test]
    fn statuses_are_sorted_by_what_can_be_done() {
        for (status, kind) in [
            (301, StoreErrorKind::Permanent),
            (400, StoreErrorKind::Permanent),
            (401, StoreErrorKind::Denied),
            (403, StoreErrorKind::Denied),
            (404, StoreErrorKind::NotFound),
            (405, StoreErrorKind::Permanent),
            (413, StoreErrorKind::NoSpace),
            (416, StoreErrorKind::Permanent),
            (429, StoreErrorKind::Retry),
            (500, StoreErrorKind::Retry),
            (501, StoreErrorKind::Permanent),
            (503, StoreErrorKind::Retry),
            (507, StoreErrorKind::NoSpace),
            (522, StoreErrorKind::Retry),
        ] {
            assert_eq!(refusal(answer(status, &[], "")).kind, kind, "{status}");
        }
    }

    #[test]
    fn a_busy_server_says_how_long_to_wait() {
        let pause = |status, wait| {
            let failed = refusal(answer(status, &[("retry-after", wait)], "busy"));
            failed.source.downcast_ref::<Busy>().map(|busy| busy.pause)
        };
        assert_eq!(pause(503, "3"), Some(Duration::from_secs(3)));
        assert_eq!(pause(429, "0"), Some(Duration::ZERO));
        assert_eq!(pause(503, "soon"), None);
        assert_eq!(pause(404, "3"), None, "it is not busy");
    }

    #[test]
    fn what_the_server_says_is_passed_on() {
        let told = |answer| refusal(answer).source.to_string();
        assert_eq!(
            told(answer(500, &[], "disk\n on fire")),
            "the server answered 500 Internal Server Error: disk on fire"
        );
        assert_eq!(told(answer(500, &[], "Internal Server Error\n")), "the server answered 500 Internal Server Error");
        assert_eq!(
            told(answer(503, &[("content-type", "text/html; charset=utf-8")], "<html>")),
            "the server answered 503 Service Unavailable"
        );
        assert!(told(answer(302, &[("location", "https://login/")], "")).contains("https://login/"));
    }

    #[test]
    fn headers() {
        let answer = answer(
            206,
            &[
                ("content-range", "bytes 10-19/200"),
                ("content-length", "10"),
                ("last-modified", "Sat, 21 Nov 2026 13:00:01 GMT"),
            ],
            "",
        );
        let answer = Answer(&answer);
        assert_eq!(answer.content_range(), Some((10, 19, Some(200))));
        assert_eq!(answer.length_bytes(), Some(10));
        assert_eq!(answer.modified(), Some(Timestamp::from_seconds(1_795_266_001)));
    }
}
