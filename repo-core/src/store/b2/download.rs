//! Reads objects, by their names.

use ureq::{
    Body,
    http::{Method, Request, Response, StatusCode, header},
};

use super::{
    B2Store,
    account::Right,
    answer::{Refusal, is_absent},
    listing::of_milliseconds,
    request::encoded,
};
use crate::store::{
    ObjectInfo, ObjectName,
    backend::Failure,
    http::{Call, answer::Answer, read::Source},
};

/// When a file was uploaded, in milliseconds.
const UPLOAD_TIME: &str = "X-Bz-Upload-Timestamp";

impl B2Store {
    fn fetch(
        &self,
        method: &Method,
        name: &ObjectName,
        range: Option<&str>,
        wanted_bytes: u64,
    ) -> Result<Response<Body>, Failure> {
        let path = encoded(&self.path(name));
        self.with_token(Right::Read, |session| {
            let mut request = Request::builder()
                .method(method.clone())
                .uri(format!("{}/file/{}/{path}", session.download_url, self.bucket))
                .header(header::AUTHORIZATION, session.token.expose());
            if let Some(range) = range {
                request = request.header(header::RANGE, range);
            }
            self.client.send(request, Call { wanted_bytes, ..Call::default() })
        })
    }

    /// Tells of one object.
    pub(super) fn ask_about(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, Failure> {
        let answer = self.fetch(&Method::HEAD, name, None, 0)?;
        match answer.status() {
            StatusCode::OK => {
                let answer = Answer(&answer);
                let size_bytes = answer.length_bytes().ok_or_else(|| {
                    Failure::permanent("the server does not tell how large it is, so it is hardly Backblaze B2")
                })?;
                let modified = answer.text(UPLOAD_TIME).and_then(|text| text.parse::<i64>().ok());
                Ok(Some(ObjectInfo { name: *name, size_bytes, modified: modified.map(of_milliseconds) }))
            }
            // That the bucket has gone looks the same; who asks for the config wants to know whether there is a repository.
            StatusCode::NOT_FOUND if *name == ObjectName::CONFIG => self.look_up(name),
            StatusCode::NOT_FOUND => Ok(None),
            // An answer to `HEAD` has no words; one to a byte of it has.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.why_not(name, answer),
            _ => Err(Refusal::of(answer).failure()),
        }
    }

    /// What it means that B2 does not tell of an object.
    fn why_not(&self, name: &ObjectName, refused: Response<Body>) -> Result<Option<ObjectInfo>, Failure> {
        match self.ask(name, Some("bytes=0-0"), 1) {
            Err(failure) if is_absent(&failure) => Ok(None),
            Err(failure) => Err(failure),
            Ok(_) => Err(Refusal::of(refused).failure()),
        }
    }
}

impl Source for B2Store {
    fn ask(&self, name: &ObjectName, range: Option<&str>, wanted_bytes: u64) -> Result<Response<Body>, Failure> {
        let answer = self.fetch(&Method::GET, name, range, wanted_bytes)?;
        if answer.status().is_success() && Answer(&answer).is_page() {
            return Err(Failure::permanent("a web page came back, so what answers is not Backblaze B2"));
        }
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(answer),
            _ => Err(Refusal::of(answer).failure()),
        }
    }
}
