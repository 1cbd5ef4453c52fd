//! What stores that are reached by HTTP have in common: a client with our bounds, what answers mean, and how an object is read.
//!
//! No request is repeated here; [`super::retry`] does that.

use std::{path::PathBuf, time::Duration};

use ureq::{
    Body,
    http::{Response, request::Builder},
};

use self::end::Agents;
use super::{backend::Failure, flow::Flow, remote, tls::TlsOptions};
use crate::error::Error;

pub(super) mod answer;
pub(super) mod connect;
mod end;
pub(super) mod read;
mod throttled;

/// How a server is reached.
pub(super) struct ClientOptions {
    /// The socket of a server on this machine, in place of what URLs say.
    pub(super) socket: Option<PathBuf>,
    /// Certificates.
    pub(super) tls: TlsOptions,
    /// Whether the proxy is used that the variables of the process name.
    pub(super) system_proxy: bool,
    /// Requests in flight at once.
    pub(super) connections: usize,
    /// Limits of transfer, and the end.
    pub(super) flow: Flow,
}

/// What a request needs besides its head.
#[derive(Clone, Copy, Default)]
pub(super) struct Call<'a> {
    /// What is sent.
    pub(super) body: Option<&'a [u8]>,
    /// How many bytes are to come.
    pub(super) wanted_bytes: u64,
    /// Longest silence, if longer than usual.
    pub(super) silence: Duration,
}

/// Sends requests, each with a deadline by its size and a bound to every silence.
pub(super) struct Client {
    agents: Agents,
    connections: usize,
    flow: Flow,
}

impl Client {
    /// A client; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a certificate is not one.
    pub(super) fn new(options: ClientOptions) -> Result<Self, Error> {
        let (connections, flow) = (options.connections, options.flow.clone());
        let agents = Agents::new(connect::agent(&options)?, connect::agent(&options)?, flow.clone())?;
        Ok(Self { agents, connections, flow })
    }

    /// Sends one request. An answer of any status is an answer.
    pub(super) fn send(&self, request: Builder, call: Call<'_>) -> Result<Response<Body>, Failure> {
        let sent_bytes = call.body.map_or(0, |body| body.len() as u64);
        let silence = remote::answer_silence(sent_bytes).max(call.silence);
        let throttled = self
            .flow
            .throttle
            .as_ref()
            .map(|throttle| throttle.longest(sent_bytes, call.wanted_bytes, self.connections));
        let whole = remote::deadline(sent_bytes.saturating_add(call.wanted_bytes)).max(silence + remote::CONNECT);
        let whole = whole.saturating_add(throttled.unwrap_or_default());
        let agent = self.agents.now();
        macro_rules! run {
            ($body:expr) => {{
                let request = request.body($body).map_err(|error| Failure::permanent(error.to_string()))?;
                let configured = agent.configure_request(request);
                let configured = configured.timeout_global(Some(whole)).timeout_per_read(Some(silence));
                agent.run(configured.build())
            }};
        }
        let answered = if let Some(body) = call.body { run!(body) } else { run!(()) };
        answered.map_err(connect::failure)
    }

    /// What is told of a failure: what the end of the operation has cut fails like a lost connection.
    pub(super) fn told(&self, failed: Failure) -> Failure {
        self.flow.told(failed)
    }
}
