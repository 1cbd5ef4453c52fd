//! Listings of `WebDAV` are taken only if they came to their end.
//!
//! Servers by Go's `x/net/webdav` (rclone among them) begin the answer before they know what is in it. When a name goes while they look, they
//! close the document as if that were all, and write the words of an error behind it. Who reads the document alone has a part of the
//! listing, and takes the rest for gone.

use futures_util::stream;
use http::{Request, Response, StatusCode};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter, Result};

/// How the document ends.
const END: &[u8] = b"multistatus>";

/// A transport that fails what was broken off.
pub(super) struct WholeListings(pub(super) HttpTransporter);

impl HttpTransport for WholeListings {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let answer = self.0.fetch(request).await?;
        if answer.status() != StatusCode::MULTI_STATUS {
            return Ok(answer);
        }
        let (parts, body) = answer.into_parts();
        let bytes = read(body).await?;
        if !bytes.trim_ascii_end().ends_with(END) {
            return Err(Error::new(ErrorKind::Unexpected, "the server broke off its answer").set_temporary());
        }
        let length_bytes = bytes.len() as u64;
        let whole = stream::iter([Ok(Buffer::from(bytes))]);
        Ok(Response::from_parts(parts, HttpBody::new(whole, Some(length_bytes))))
    }
}

/// All of a body.
async fn read(mut body: HttpBody) -> Result<Vec<u8>> {
    use opendal::raw::oio::ReadStream as _;
    let mut bytes = Vec::new();
    loop {
        let part = body.read().await?;
        if part.is_empty() {
            return Ok(bytes);
        }
        part.for_each(|part| bytes.extend_from_slice(&part));
    }
}
