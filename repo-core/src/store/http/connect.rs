//! Connections to a server, and what it means when they fail.

use std::{
    fmt,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use ureq::{
    Agent, Error as HttpError, Proxy, Timeout,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{
            Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
            ShutdownHandle, TcpConnector, Transport, TransportAdapter,
        },
    },
};

use super::{ClientOptions, throttled::ThrottledConnector};
use crate::{
    error::{Error, StoreErrorKind},
    store::{
        backend::Failure,
        remote,
        secret::Secret,
        tls::{self, TlsOptions, client_config},
    },
};

/// Bytes that are handed to or taken from the system at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A connection that was idle for longer may be closed at the other end: some proxies do that after 5 seconds.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// The header that proves who we are.
pub(in crate::store) fn authorization(user: &str, password: &Secret) -> Secret {
    let pair = Secret::from(format!("{user}:{}", password.expose()));
    Secret::from(format!("Basic {}", STANDARD.encode(pair.expose())))
}

/// What sends requests.
pub(super) fn agent(options: &ClientOptions) -> Result<Agent, Error> {
    let connections = options.connections;
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION")))
        .proxy(if options.system_proxy && options.socket.is_none() { Proxy::try_from_env() } else { None })
        .timeout_resolve(Some(remote::CONNECT))
        .timeout_connect(Some(remote::CONNECT))
        .timeout_per_write(Some(remote::SILENCE))
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .max_idle_age(IDLE_MAX)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .build();
    let throttled = ThrottledConnector(options.flow.throttle.clone());
    if let Some(path) = options.socket.clone() {
        return Ok(Agent::with_parts(config, SocketConnector { path }.chain(throttled), NoResolver));
    }
    // The system's certificates are read with the first connection, and only if one is to be encrypted; a mistake in what was given is
    // told at once.
    let ready = OnceLock::new();
    if options.tls.has_files() {
        let _ = ready.set(Ok(client_config(&options.tls)?));
    }
    let chain = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
    let chain = chain.chain(TlsConnector(ready, options.tls.clone())).chain(throttled);
    Ok(Agent::with_parts(config, chain, DefaultResolver::default()))
}

/// Encrypts the connections to servers whose URL begins with `https`.
struct TlsConnector(OnceLock<Result<Arc<ClientConfig>, String>>, TlsOptions);

impl fmt::Debug for TlsConnector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TlsConnector")
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, below: Option<In>) -> Result<Option<Self::Out>, HttpError> {
        let Some(below) = below else { return Ok(None) };
        if !details.needs_tls() || below.is_tls() {
            return Ok(Some(Either::A(below)));
        }
        let config = self.0.get_or_init(|| client_config(&self.1).map_err(|error| error.to_string()));
        let config = config.as_ref().map_err(|reason| HttpError::Other(reason.as_str().into()))?;
        let host = details.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| HttpError::Other("the host has no name that a certificate could have".into()))?;
        let mut conn =
            ClientConnection::new(Arc::clone(config), name).map_err(|error| HttpError::Other(error.into()))?;
        let mut sock = TransportAdapter::new(below.boxed(), Arc::clone(&details.current_time));
        sock.set_timeout(details.timeout);
        conn.complete_io(&mut sock)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned { conn, sock } })))
    }
}

/// An encrypted connection.
struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), HttpError> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, HttpError> {
        self.stream.get_mut().set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// What it means that a request was not answered.
pub(in crate::store) fn failure(error: HttpError) -> Failure {
    let retry = |text: &str| Failure::new(StoreErrorKind::Retry, text);
    match error {
        HttpError::Io(error) => io_failure(error),
        HttpError::Timeout(Timeout::Resolve | Timeout::Connect) => retry("the server could not be reached in time"),
        HttpError::Timeout(Timeout::Global) => retry("it took too long"),
        HttpError::Timeout(_) => retry("the server was silent for too long"),
        HttpError::HostNotFound => retry("there is no host of that name"),
        HttpError::ConnectionFailed => retry("the server could not be reached"),
        HttpError::BodyStalled => retry("the connection ended before all of it had come"),
        HttpError::Protocol(error) => Failure::permanent(format!("what answers does not speak HTTP ({error})")),
        error => Failure::permanent(error.to_string()),
    }
}

/// What it means that a connection failed.
pub(in crate::store) fn io_failure(error: io::Error) -> Failure {
    use io::ErrorKind as Kind;
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls::failure(error);
    }
    // A failed request comes through the reader of its body as an error of input and output.
    let error = match error.downcast::<HttpError>() {
        Ok(error) => return failure(error),
        Err(error) => error,
    };
    let kind = match error.kind() {
        Kind::PermissionDenied => StoreErrorKind::Denied,
        Kind::NotFound | Kind::InvalidInput | Kind::InvalidData | Kind::Unsupported | Kind::OutOfMemory => {
            StoreErrorKind::Permanent
        }
        // Refused, reset, broken, out of reach; and names that cannot be looked up, which have no kind.
        _ => StoreErrorKind::Retry,
    };
    match error.kind() {
        Kind::UnexpectedEof => Failure::new(kind, "the server closed the connection"),
        _ => Failure::new(kind, error),
    }
}

/// Connects to a socket of this machine, whatever the URL says.
#[derive(Debug)]
struct SocketConnector {
    path: PathBuf,
}

impl Connector for SocketConnector {
    type Out = SocketTransport;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<SocketTransport>, HttpError> {
        let stream = Arc::new(Line(UnixStream::connect(&self.path)?));
        let handle: Weak<dyn ShutdownHandle> = Arc::<Line>::downgrade(&stream);
        (details.register_shutdown)(handle)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(SocketTransport { stream, buffers }))
    }
}

/// A socket that can be closed below those who wait for it.
#[derive(Debug)]
struct Line(UnixStream);

impl ShutdownHandle for Line {
    fn shutdown(&self) {
        let _ = self.0.shutdown(Shutdown::Both); // it may be closed already
    }
}

/// A connection to a socket of this machine.
#[derive(Debug)]
struct SocketTransport {
    stream: Arc<Line>,
    buffers: LazyBuffers,
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), HttpError> {
        let timeout = timeout.for_write();
        self.stream.0.set_write_timeout(timeout.not_zero().map(|time| *time))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        (&self.stream.0).write_all(output).map_err(|error| timed(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, HttpError> {
        let timeout = timeout.for_read();
        self.stream.0.set_read_timeout(timeout.not_zero().map(|time| *time))?;
        let read = loop {
            match (&self.stream.0).read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| timed(error, timeout))?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // Nothing is due: bytes, or an end, mean that the other end has done with it.
        let probe = || {
            self.stream.0.set_nonblocking(true)?;
            let read = (&self.stream.0).read(&mut [0]);
            self.stream.0.set_nonblocking(false)?;
            read
        };
        matches!(probe(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

fn timed(error: io::Error, timeout: NextTimeout) -> HttpError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HttpError::Timeout(timeout.reason),
        _ => error.into(),
    }
}

/// Looks up nothing: there is only the socket.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, HttpError> {
        Ok(self.empty())
    }
}
