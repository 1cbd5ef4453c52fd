//! Requests that need a token, which is renewed once where it has expired.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{
    Body,
    http::{Method, Request, Response, StatusCode, header},
};

use super::{
    B2Store,
    account::{Right, Session, VERSION},
    answer::{Refusal, json_of},
};
use crate::store::{backend::Failure, http::Call};

impl B2Store {
    /// Calls a function of B2's, and reads its answer.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        right: Right,
        function: &str,
        parameters: impl Fn(&Session) -> Value,
    ) -> Result<T, Failure> {
        let answer = self.with_token(right, |session| {
            let body = parameters(session).to_string();
            let request = Request::builder()
                .method(Method::POST)
                .uri(format!("{}/{VERSION}/{function}", session.api_url))
                .header(header::AUTHORIZATION, session.token.expose())
                .header(header::CONTENT_TYPE, "application/json");
            self.client.send(request, Call { body: Some(body.as_bytes()), ..Call::default() })
        })?;
        match answer.status() {
            StatusCode::OK => json_of(answer),
            _ => Err(Refusal::of(answer).failure()),
        }
    }

    /// Sends a request, and sends it again with another token if the first is no longer good. What becomes of that one is the answer.
    pub(super) fn with_token(
        &self,
        right: Right,
        send: impl Fn(&Session) -> Result<Response<Body>, Failure>,
    ) -> Result<Response<Body>, Failure> {
        let session = self.account.session(&self.client)?;
        session.permits(right)?;
        let answer = send(&session)?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let refused = Refusal::of(answer);
        if !refused.is_of_token() {
            return Err(refused.failure());
        }
        let session: Arc<Session> = self.account.renew(&self.client, &session)?;
        session.permits(right)?;
        send(&session)
    }
}

/// A name as it is written in URLs and headers.
pub(super) fn encoded(name: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}"); // a text takes everything
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_urls() {
        assert_eq!(encoded("a/b-c_d.e~f"), "a/b-c_d.e~f");
        assert_eq!(encoded("für #1?%+"), "f%C3%BCr%20%231%3F%25%2B");
    }
}
