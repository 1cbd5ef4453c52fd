//! What a server's answer means.

use std::time::Duration;

use ureq::{
    Body,
    http::{Response, StatusCode, header, header::AsHeaderName},
};

use crate::{error::StoreErrorKind, store::remote::retry_after};

/// Most bytes that are read of an answer that tells of a failure.
pub(in crate::store) const REASON_BYTES: u64 = 4096;

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

    /// For how long the server asks to be left alone.
    pub(in crate::store) fn wait(&self) -> Option<Duration> {
        retry_after(self.text(header::RETRY_AFTER)?, self.text(header::DATE))
    }

    /// Whether it is a page for people: from a proxy that wants somebody to log in, or a server of another kind.
    pub(in crate::store) fn is_page(&self) -> bool {
        self.text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"))
    }
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

    #[test]
    fn headers() {
        let answer = Response::builder()
            .header("content-range", "bytes 10-19/200")
            .header("content-length", "10")
            .header("retry-after", "3")
            .header("content-type", "text/html; charset=utf-8")
            .body(Body::builder().data(""))
            .unwrap();
        let answer = Answer(&answer);
        assert_eq!(answer.content_range(), Some((10, 19, Some(200))));
        assert_eq!(answer.length_bytes(), Some(10));
        assert_eq!(answer.wait(), Some(Duration::from_secs(3)));
        assert!(answer.is_page());
    }
}
