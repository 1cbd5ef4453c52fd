//! The client for HTTP that requests to buckets go through.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use opendal::{Buffer, Error as OpendalError, ErrorKind, HttpBody, HttpTransport, HttpTransporter};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqwest::Client;
use tokio::time::{Sleep, sleep};

use super::heard::Listening;
use crate::{
    error::Error,
    store::{
        flow::Flow,
        remote,
        throttle::Throttle,
        tls::{self, TlsOptions},
    },
};

/// An idle connection is kept for so long; most stores close theirs a little later.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// Bytes that are sent at once where there is a limit.
const PIECE_BYTES: usize = 32 << 10;

/// A client with our bounds, certificates and limits.
pub(super) fn transport(options: &TlsOptions, is_encrypted: bool, flow: &Flow) -> Result<HttpTransporter, Error> {
    // A server without encryption needs no authorities, which a small system may lack.
    let unused = TlsOptions { insecure: true, ..TlsOptions::default() };
    let tls = tls::client_config(if is_encrypted { options } else { &unused })?;
    let client = Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(remote::CONNECT)
        // What the other end does not take any more is noticed by the system: an upload has no other sign of life.
        .tcp_user_timeout(remote::SILENCE)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_idle_timeout(IDLE_MAX)
        .build()
        .map_err(|error| Error::Invalid(format!("no client for HTTP can be made: {error}")))?;
    Ok(match flow.throttle.as_ref().filter(|throttle| throttle.has_limits().0) {
        Some(throttle) => HttpTransporter::new(Listening(SlowTransport { client, throttle: Arc::clone(throttle) })),
        None => HttpTransporter::new(Listening(ReqwestTransport::new(client))),
    })
}

/// Sends bodies piece by piece, as fast as the limit allows: still one request, with its whole length told beforehand. What comes is
/// slowed down by whoever takes it.
struct SlowTransport {
    client: Client,
    throttle: Arc<Throttle>,
}

impl HttpTransport for SlowTransport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let failed = |error: reqwest::Error, what| {
            let is_temporary = error.is_request() || error.is_body() || error.is_decode();
            OpendalError::new(ErrorKind::Unexpected, what).with_temporary(is_temporary).set_source(error.without_url())
        };
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let mut sent = self.client.request(parts.method, parts.uri.to_string()).headers(parts.headers);
        if !body.is_empty() {
            let throttle = Arc::clone(&self.throttle);
            sent = sent.body(reqwest::Body::wrap(SlowBody { left: body.to_bytes(), piece: None, throttle }));
        }
        let mut answer = sent.send().await.map_err(|error| failed(error, "send http request"))?;
        let told = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let is_encoded = told(header::CONTENT_ENCODING).is_some();
        let length_bytes = told(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let mut response = Response::builder().status(answer.status()).extension(parts.uri);
        if let Some(headers) = response.headers_mut() {
            std::mem::swap(headers, answer.headers_mut());
        }
        let stream = answer.bytes_stream().map_ok(Buffer::from);
        let stream = stream.map_err(move |error| failed(error, "read data from http response"));
        let body = HttpBody::new(stream, length_bytes.filter(|_| !is_head && !is_encoded));
        response.body(body).map_err(|error| OpendalError::new(ErrorKind::Unexpected, "no answer").set_source(error))
    }
}

/// A body that comes in pieces, each in its time.
struct SlowBody {
    left: Bytes,
    /// The next piece, and when it may go.
    piece: Option<(Bytes, Pin<Box<Sleep>>)>,
    throttle: Arc<Throttle>,
}

impl Body for SlowBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.piece.is_none() && !this.left.is_empty() {
            let piece = this.left.split_to(PIECE_BYTES.min(this.left.len()));
            let pause = this.throttle.send_pause(piece.len() as u64);
            this.piece = Some((piece, Box::pin(sleep(pause))));
        }
        let Some((_, pause)) = &mut this.piece else { return Poll::Ready(None) };
        ready!(pause.as_mut().poll(context));
        Poll::Ready(this.piece.take().map(|(piece, _)| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.piece.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.left.len() + self.piece.as_ref().map_or(0, |(piece, _)| piece.len())) as u64)
    }
}
