//! A repository on a restic REST server, by version 2 of its protocol: `restic-rest-server`, `rclone serve restic`, and others.
//!
//! What such servers do is not always what a [`Store`] owes, so that an object is asked for before it is written: some replace what is
//! there. The servers make an object durable and visible as a whole; with `--append-only` they delete nothing outside `locks/`.
//!
//! No request is repeated here; [`super::retry`] does that.

use std::path::PathBuf;

use ureq::{
    Body,
    http::{Method, Request, Response, StatusCode, header},
};

use self::answer::refusal;
use super::{
    Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store,
    backend::{Backend, Failure},
    flow::Flow,
    http::{Call, Client, ClientOptions, answer::Answer, connect, read::Source},
    remote,
    secret::Secret,
    tls::TlsOptions,
};
use crate::error::{Error, StoreErrorKind};

mod answer;
mod listing;

/// What tells version 2 of the protocol from version 1, and from a request of another protocol at the same port.
const MEDIA_TYPE: &str = "application/vnd.x.restic.rest.v2";

/// Requests in flight at once, unless it is said otherwise.
pub const CONNECTIONS: usize = 5;

/// From so many bytes on a server is asked before they are sent whether it would take them: its refusal would be lost behind a
/// connection that breaks.
const ASK_FIRST_BYTES: usize = 256 << 10;

/// Where a repository is, and how to get at it.
#[derive(Debug, Clone, Default)]
pub struct RestOptions {
    /// Its URL: `http://` or `https://`, no user, no query, a slash at the end.
    pub url: String,
    /// The socket of a server on this machine; the URL's host then only fills the header.
    pub socket: Option<PathBuf>,
    /// User and password.
    pub user: Option<(String, Secret)>,
    /// Requests in flight at once; [`CONNECTIONS`] if 0.
    pub connections: usize,
    /// Certificates.
    pub tls: TlsOptions,
    /// Whether the proxy is used that the variables of the process name (`HTTPS_PROXY` and its like).
    pub system_proxy: bool,
    /// Limits of transfer, and the end.
    pub flow: Flow,
}

/// A repository on a restic REST server.
pub struct RestStore {
    client: Client,
    url: String,
    authorization: Option<Secret>,
    connections: usize,
    location: String,
}

impl RestStore {
    /// The repository at a URL, whether there is one or not; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a certificate or the URL is not one.
    pub fn new(options: RestOptions) -> Result<Self, Error> {
        let url = options.url.clone();
        if !url.ends_with('/') || !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(Error::Invalid(format!("\"{url}\" is not the URL of a repository")));
        }
        let location = match &options.socket {
            Some(socket) => {
                let path = url.splitn(4, '/').nth(3).unwrap_or_default();
                format!("rest:http+unix://{}:/{path}", socket.display())
            }
            None => format!("rest:{url}"),
        };
        let connections = if options.connections == 0 { CONNECTIONS } else { options.connections };
        let authorization = options.user.as_ref().map(|(user, password)| connect::authorization(user, password));
        let RestOptions { socket, tls, system_proxy, flow, .. } = options;
        let client = Client::new(ClientOptions { socket, tls, system_proxy, connections, flow })?;
        Ok(Self { client, url, authorization, connections, location })
    }

    /// An object's URL. Packs are not spread over folders here; the server does that.
    fn object_url(&self, name: &ObjectName) -> String {
        match name.place() {
            Place::Config => format!("{}config", self.url),
            place => format!("{}{}/{}", self.url, place.name(), name.id()),
        }
    }

    fn request(
        &self,
        method: Method,
        url: &str,
        range: Option<&str>,
        call: Call<'_>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder().method(method).uri(url).header(header::ACCEPT, MEDIA_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.expose());
        }
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        }
        if call.body.is_some_and(|body| body.len() >= ASK_FIRST_BYTES) {
            request = request.header(header::EXPECT, "100-continue");
        }
        self.client.send(request, call)
    }
}

impl Source for RestStore {
    fn ask(&self, name: &ObjectName, range: Option<&str>, wanted_bytes: u64) -> Result<Response<Body>, Failure> {
        let call = Call { wanted_bytes, ..Call::default() };
        let answer = self.request(Method::GET, &self.object_url(name), range, call)?;
        if answer.status().is_success() && Answer(&answer).is_page() {
            return Err(Failure::permanent("a web page came back, so what answers is no restic REST server"));
        }
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(answer),
            _ => Err(refusal(answer)),
        }
    }
}

impl Backend for RestStore {
    fn make(&self) -> Result<(), Failure> {
        let url = format!("{}?create=true", self.url);
        let answer = self.request(Method::POST, &url, None, Call { body: Some(&[]), ..Call::default() })?;
        if answer.status().is_success() { Ok(()) } else { Err(refusal(answer)) }
    }

    fn making(&self) -> (&'static str, &'static str) {
        ("create", "the repository")
    }

    fn write(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Failure> {
        // What is there under a hash but has another length is left over from an upload that broke: it may be written over.
        let is_whole = |info: ObjectInfo| name.place() == Place::Config || info.size_bytes == bytes.len() as u64;
        if self.tell(name)?.is_some_and(is_whole) {
            return Err(Failure::exists());
        }
        let url = self.object_url(name);
        let answer = self.request(Method::POST, &url, None, Call { body: Some(bytes), ..Call::default() })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // So servers say, too, that there is one already: somebody else has been faster.
            StatusCode::FORBIDDEN | StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                let refused = refusal(answer);
                Err(match self.tell(name)? {
                    Some(info) if is_whole(info) => Failure::exists(),
                    Some(_) => Failure::new(StoreErrorKind::Retry, "a broken upload is in the way"),
                    None => refused,
                })
            }
            StatusCode::NOT_FOUND => Err(Failure::permanent("the server has no such repository (404 Not Found)")),
            _ => Err(refusal(answer)),
        }
    }

    fn read(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), Failure> {
        self.read_range(name, range, into)
    }

    fn list_place(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), Failure> {
        if place == Place::Config {
            self.tell(&ObjectName::CONFIG)?.into_iter().for_each(visit);
            return Ok(());
        }
        let url = format!("{}{}/", self.url, place.name());
        let wanted_bytes = listing::LISTING_BYTES_MAX;
        let call = Call { silence: remote::LISTING_SILENCE, wanted_bytes, ..Call::default() };
        let answer = self.request(Method::GET, &url, None, call)?;
        match answer.status() {
            StatusCode::OK => listing::read(answer, place, visit),
            // Some servers do not know a place before there is something in it.
            StatusCode::NOT_FOUND if self.tell(&ObjectName::CONFIG)?.is_some() => Ok(()),
            _ => Err(refusal(answer)),
        }
    }

    fn tell(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, Failure> {
        let answer = self.request(Method::HEAD, &self.object_url(name), None, Call::default())?;
        match answer.status() {
            StatusCode::OK => {
                let size_bytes = Answer(&answer).length_bytes().ok_or_else(|| {
                    Failure::permanent("the server does not tell how large it is, so it is hardly a restic REST server")
                })?;
                let modified = Answer(&answer).text(header::LAST_MODIFIED).and_then(remote::http_date);
                Ok(Some(ObjectInfo { name: *name, size_bytes, modified }))
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            _ => Err(refusal(answer)),
        }
    }

    fn remove(&self, name: &ObjectName) -> Result<(), Failure> {
        let answer = self.request(Method::DELETE, &self.object_url(name), None, Call::default())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
            status @ (StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED) if name.place() != Place::Locks => {
                let reason = format!("the server answered {status}: it is append-only or this user may not delete");
                Err(Failure::new(StoreErrorKind::Denied, reason))
            }
            _ => Err(refusal(answer)),
        }
    }

    fn abilities(&self) -> Abilities {
        // Servers look whether there is one, and then write.
        Abilities { exclusive_put: false, connections: self.connections, visibility_delay_ms: 0 }
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn told(&self, failure: Failure) -> Failure {
        self.client.told(failure)
    }
}

impl Store for RestStore {
    hand_on!(self as &dyn Backend);
}
