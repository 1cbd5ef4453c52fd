//! What it means that a server refuses.

use std::io::Read;

use ureq::{
    Body,
    http::{Response, StatusCode, header},
};

use crate::{
    error::StoreErrorKind,
    store::{
        backend::Failure,
        http::answer::{Answer, REASON_BYTES, kind_of},
        remote::excerpt,
        retry::Busy,
    },
};

/// The failure that an answer other than success tells of.
pub(super) fn refusal(answer: Response<Body>) -> Failure {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
