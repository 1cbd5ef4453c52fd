//! What answers say in their headers that `OpenDAL` does not hand on: how long to wait, and what time it is.

use std::{cell::Cell, future::Future, time::Duration};

use http::{HeaderMap, Request, Response, header};
use jiff::{civil::DateTime, tz::TimeZone};
use opendal::{Buffer, HttpBody, HttpTransport, Result};

use crate::{
    error::StoreErrorKind,
    store::{
        backend::Failure,
        remote::{http_date, retry_after},
        retry::Busy,
    },
    time::Timestamp,
};

/// Where requests are signed, when.
const SIGNED_AT: &str = "x-amz-date";

tokio::task_local! {
    /// What the last failed answer to the request at work said.
    static HEARD: Cell<Heard>;
}

/// What an answer said beside its status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// How long to wait.
    wait: Option<Duration>,
    /// By how much the time in the request is ahead of the store's, in seconds.
    ahead_seconds: Option<i64>,
}

/// A transport that hears what failed answers say.
pub(super) struct Listening<T>(pub(super) T);

impl<T: HttpTransport> HttpTransport for Listening<T> {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let signed_seconds = text(request.headers(), SIGNED_AT).and_then(signed_at);
        let answer = self.0.fetch(request).await?;
        if !answer.status().is_success() {
            let heard = heard_in(answer.headers(), signed_seconds);
            // Outside of a request of ours nobody asks for it.
            let _ = HEARD.try_with(|cell| cell.set(heard));
        }
        Ok(answer)
    }
}

fn heard_in(headers: &HeaderMap, signed_seconds: Option<i64>) -> Heard {
    let date = text(headers, header::DATE.as_str());
    let store_seconds = date.and_then(http_date).map(Timestamp::seconds);
    Heard {
        wait: text(headers, header::RETRY_AFTER.as_str()).and_then(|text| retry_after(text, date)),
        ahead_seconds: signed_seconds.zip(store_seconds).map(|(signed, store)| signed.saturating_sub(store)),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Seconds since 1970 of the time in a signed request.
fn signed_at(text: &str) -> Option<i64> {
    let time = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(TimeZone::UTC.to_timestamp(time).ok()?.as_second())
}

/// Runs a request, and adds to its failure what the answer said.
pub(super) async fn listening<T>(
    request: impl Future<Output = std::result::Result<T, Failure>>,
) -> std::result::Result<T, Failure> {
    let request = async { request.await.map_err(|failed| HEARD.with(Cell::get).adds_to(failed)) };
    HEARD.scope(Cell::default(), request).await
}

impl Heard {
    fn adds_to(self, failed: Failure) -> Failure {
        match (failed.kind, self.wait, self.ahead_seconds) {
            (StoreErrorKind::Retry, Some(pause), _) => {
                Failure::new(failed.kind, Busy { reason: failed.source.to_string(), pause })
            }
            (StoreErrorKind::Clock, _, Some(ahead)) => {
                let (length, side) =
                    (Duration::from_secs(ahead.unsigned_abs()), if ahead < 0 { "behind" } else { "ahead of" });
                let text = format!("{}, and is {} {side} the store's", failed.source, length_in_words(length));
                Failure::new(failed.kind, text)
            }
            _ => failed,
        }
    }
}

fn length_in_words(length: Duration) -> String {
    match length.as_secs().div_ceil(60) {
        minutes @ 0..120 => format!("{minutes} minutes"),
        minutes @ 120..2880 => format!("{} hours", minutes / 60),
        minutes => format!("{} days", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(some: &[(&'static str, &'static str)]) -> HeaderMap {
        some.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_is_heard() {
        let date = ("date", "Sat, 21 Nov 2026 13:00:01 GMT");
        assert_eq!(signed_at("20261121T140001Z"), Some(1_795_266_001 + 3600));
        assert_eq!(signed_at("now"), None);
        let heard = heard_in(&headers(&[date, ("retry-after", "7")]), signed_at("20261121T140001Z"));
        assert_eq!(heard, Heard { wait: Some(Duration::from_secs(7)), ahead_seconds: Some(3600) });
        let heard = heard_in(&headers(&[date]), signed_at("20261121T114501Z"));
        assert_eq!(heard, Heard { wait: None, ahead_seconds: Some(-4500) });
        assert_eq!(heard_in(&headers(&[("date", "soon")]), Some(1)), Heard::default());
    }

    #[test]
    fn it_is_added_to_what_it_concerns() {
        let heard = Heard { wait: Some(Duration::from_secs(7)), ahead_seconds: Some(-4500) };
        let told = |kind| heard.adds_to(Failure::new(kind, "words"));
        let busy = told(StoreErrorKind::Retry).source;
        assert_eq!(busy.downcast_ref::<Busy>().unwrap().pause, Duration::from_secs(7));
        assert_eq!(told(StoreErrorKind::Clock).source.to_string(), "words, and is 75 minutes behind the store's");
        assert_eq!(told(StoreErrorKind::Denied).source.to_string(), "words");
    }

    #[test]
    fn lengths() {
        for (seconds, words) in [(1, "1 minutes"), (3600, "60 minutes"), (7200, "2 hours"), (200_000, "2 days")] {
            assert_eq!(length_in_words(Duration::from_secs(seconds)), words);
        }
    }
}
