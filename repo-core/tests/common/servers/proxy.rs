//! A proxy for HTTP on this machine that does to requests and answers what bad networks and busy servers do.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The server never sees it, and this is the answer.
    Answer(u16),
    /// The same in the words of S3, with its code.
    Error(u16, &'static str),
    /// The same from a server that is busy, and asks to be left alone for so many seconds.
    Busy(u16, u64),
    /// What was answered to the same question the last time is answered again; each old answer once, then there is a new one.
    Stale,
    /// The connection is closed before the server sees it.
    Reset,
    /// The server gets the first half of it, and then the connection breaks.
    CutRequest,
    /// The server does it, and its answer is lost.
    LostAnswer,
    /// The server does it, and only half of the answer arrives.
    CutAnswer,
    /// The answer arrives with all of its headers and one byte of its body.
    CutBody,
    /// The answer comes late.
    Delay(Duration),
    /// The answer comes a few bytes at a time.
    Slow,
    /// The server never sees it, and the answer is an error of S3 with this code.
    Refuse(&'static str),
}

/// Every fault that a repeated request mends.
pub(crate) const FAULTS: [Fault; 12] = [
    Fault::Answer(500),
    Fault::CutAnswer,
    Fault::LostAnswer,
    Fault::Error(503, "SlowDown"),
    Fault::CutRequest,
    Fault::Reset,
    Fault::CutBody,
    Fault::Answer(429),
    Fault::Busy(429, 1),
    Fault::Busy(503, 1),
    Fault::Delay(Duration::from_millis(300)),
    Fault::Slow,
];

/// The proxy; it ends with this value.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

/// What all connections share.
#[derive(Default)]
struct State {
    server: u16,
    requests: AtomicUsize,
    struck: AtomicUsize,
    is_over: AtomicBool,
    /// The first line of each request.
    lines: Mutex<Vec<String>>,
    /// When requests came, and what happened to them.
    log: Mutex<Vec<(Instant, Fault)>>,
    /// Old answers, and whether they were just given again.
    answers: Mutex<HashMap<String, (Vec<u8>, bool)>>,
}

impl Proxy {
    /// Between its own port and that of a server. `plan` says what happens to the n-th request, counted from 0.
    pub(crate) fn start(server: u16, plan: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Self {
        Self::reading(server, move |number, _| plan(number))
    }

    /// The same with a plan that reads the head of the request.
    pub(crate) fn reading(server: u16, plan: impl Fn(usize, &str) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { server, ..State::default() });
        let proxy = Self { port, state: Arc::clone(&state) };
        let plan = Arc::new(plan);
        thread::spawn(move || {
            for client in listener.incoming() {
                if state.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                let number = state.requests.fetch_add(1, Ordering::SeqCst);
                let (plan, state) = (Arc::clone(&plan), Arc::clone(&state));
                let decide = {
                    let state = Arc::clone(&state);
                    move |head: &str| {
                        let fault = plan(number, head);
                        state.log.lock().unwrap().push((Instant::now(), fault));
                        // That of an old answer is counted when there is one.
                        if !matches!(fault, Fault::None | Fault::Stale) {
                            state.struck.fetch_add(1, Ordering::SeqCst);
                        }
                        fault
                    }
                };
                // A client that gives up is none of our business.
                thread::spawn(move || _ = pass(client, &state, decide));
            }
        });
        proxy
    }

    /// The first lines of the requests since this was asked last: method, path with query, protocol.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many requests there were, and how many of them had a fault.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.state.requests.load(Ordering::SeqCst), self.state.struck.load(Ordering::SeqCst))
    }

    /// Time from each request with this fault to the next one.
    pub(crate) fn pauses_after(&self, fault: Fault) -> Vec<Duration> {
        let log = self.state.log.lock().unwrap();
        log.windows(2).filter(|pair| pair[0].1 == fault).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // wakes it up
    }
}

/// Passes one request on, and its answer back. Connections are for one request each.
fn pass(mut client: TcpStream, state: &State, decide: impl FnOnce(&str) -> Fault) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_mins(1)))?;
    let (head, mut body) = head(&mut client)?;
    let fault = decide(&head);
    if fault == Fault::Reset {
        return client.shutdown(Shutdown::Both);
    }
    let first = head.lines().next().unwrap_or_default().to_owned();
    state.lines.lock().unwrap_or_else(PoisonError::into_inner).push(first);
    let length = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    if header(&head, "expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    while body.len() < length {
        let mut part = vec![0; (length - body.len()).min(1 << 16)];
        let read = client.read(&mut part)?;
        if read == 0 {
            return Ok(());
        }
        body.extend_from_slice(&part[..read]);
    }
    if let Some(answer) = own_answer(fault) {
        return client.write_all(answer.as_bytes());
    }
    let question = question(&head);
    if fault == Fault::Stale
        && let Some((old, given_again)) = state.answers.lock().unwrap().get_mut(&question)
    {
        *given_again = !*given_again;
        if *given_again {
            state.struck.fetch_add(1, Ordering::SeqCst);
            client.write_all(old)?;
            return client.shutdown(Shutdown::Both);
        }
    }
    if let Fault::Refuse(code) = fault {
        let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>It is {code}.</Message></Error>");
        let (length, body) = (text.len(), if head.starts_with("HEAD ") { "" } else { &text });
        let status = if code == "ExpiredToken" { 400 } else { 403 };
        return write!(
            client,
            "HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
    let is_kept =
        |line: &&str| !["expect:", "connection:"].iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    let lines: Vec<&str> = head.lines().filter(is_kept).filter(|line| !line.is_empty()).collect();
    let mut request = format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).into_bytes();
    request.append(&mut body);
    let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, state.server))?;
    if fault == Fault::CutRequest {
        upstream.write_all(&request[..request.len() / 2])?;
        upstream.shutdown(Shutdown::Both)?;
        return client.shutdown(Shutdown::Both);
    }
    upstream.write_all(&request)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    if fault == Fault::Stale && (question.starts_with("GET ") || question.starts_with("HEAD ")) {
        state.answers.lock().unwrap().insert(question, (answer.clone(), false));
    }
    let body_at = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    match fault {
        Fault::LostAnswer => {}
        Fault::CutAnswer => client.write_all(&answer[..answer.len() / 2])?,
        Fault::CutBody => client.write_all(&answer[..answer.len().min(body_at + 1)])?,
        Fault::Slow => {
            for part in answer.chunks(answer.len().div_ceil(20).max(1)) {
                client.write_all(part)?;
                thread::sleep(Duration::from_millis(5));
            }
        }
        Fault::Delay(time) => {
            thread::sleep(time);
            client.write_all(&answer)?;
        }
        _ => client.write_all(&answer)?,
    }
    client.shutdown(Shutdown::Both)
}

/// An answer of which the server knows nothing.
fn own_answer(fault: Fault) -> Option<String> {
    let answer = |status: u16, headers: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status} Trouble\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    match fault {
        Fault::Answer(status) => Some(answer(status, "", "busy")),
        Fault::Busy(status, seconds) => Some(answer(status, &format!("Retry-After: {seconds}\r\n"), "busy")),
        Fault::Error(status, code) => {
            let body =
                format!("<Error><Code>{code}</Code><Message>Some words.</Message><Resource>/</Resource></Error>");
            Some(answer(status, "Content-Type: application/xml\r\n", &body))
        }
        _ => None,
    }
}

/// What a request asks for: method, target and range.
fn question(head: &str) -> String {
    let line = head.lines().next().unwrap_or_default();
    format!("{line} {}", header(head, "range").unwrap_or_default())
}

/// The head of a request, and what came with it of its body.
fn head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = client.read(&mut part)?;
        bytes.extend_from_slice(&part[..read]);
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.split_once(':').filter(|(found, _)| found.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value.trim())
}
