//! The client for HTTP that requests to buckets go through.

use std::time::Duration;

use opendal_http_transport_reqwest::ReqwestTransport;

use super::heard::Listening;
use crate::{
    error::Error,
    store::{
        remote,
        tls::{self, TlsOptions},
    },
};

/// An idle connection is kept for so long; most stores close theirs a little later.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// A client with our bounds and certificates.
pub(super) fn transport(options: &TlsOptions, is_encrypted: bool) -> Result<Listening, Error> {
    // A server without encryption needs no authorities, which a small system may lack.
    let unused = TlsOptions { insecure: true, ..TlsOptions::default() };
    let tls = tls::client_config(if is_encrypted { options } else { &unused })?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(remote::CONNECT)
        // What the other end does not take any more is noticed by the system: an upload has no other sign of life.
        .tcp_user_timeout(remote::SILENCE)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_idle_timeout(IDLE_MAX)
        .build()
        .map_err(|error| Error::Invalid(format!("no client for HTTP can be made: {error}")))?;
    Ok(Listening(ReqwestTransport::new(client)))
}
