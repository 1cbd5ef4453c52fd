//! A proxy for HTTP on this machine that does to requests and answers what bad networks and busy servers do.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The server never sees it, and this is the answer.
    Answer(u16),
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

/// Every fault there is.
pub(crate) const FAULTS: [Fault; 10] = [
    Fault::Answer(500),
    Fault::CutAnswer,
    Fault::LostAnswer,
    Fault::Answer(503),
    Fault::CutRequest,
    Fault::Reset,
    Fault::CutBody,
    Fault::Answer(429),
    Fault::Delay(Duration::from_millis(300)),
    Fault::Slow,
];

/// The proxy; it ends with this value.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    requests: Arc<AtomicUsize>,
    struck: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    lines: Lines,
}

/// The first line of each request.
type Lines = Arc<Mutex<Vec<String>>>;

impl Proxy {
    /// Between its own port and that of a server. `plan` says what happens to the n-th request, counted from 0.
    pub(crate) fn start(server: u16, plan: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Self {
        Self::reading(server, move |number, _| plan(number))
    }

    /// The same with a plan that reads the head of the request.
    pub(crate) fn reading(server: u16, plan: impl Fn(usize, &str) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, struck, is_over) = (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(false)));
        let lines = Lines::default();
        let proxy = Self {
            port,
            requests: Arc::clone(&requests),
            struck: Arc::clone(&struck),
            is_over: Arc::clone(&is_over),
            lines: Arc::clone(&lines),
        };
        let plan = Arc::new(plan);
        thread::spawn(move || {
            for client in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                let number = requests.fetch_add(1, Ordering::SeqCst);
                let (plan, struck, lines) = (Arc::clone(&plan), Arc::clone(&struck), Arc::clone(&lines));
                let decide = move |head: &str| {
                    let fault = plan(number, head);
                    if fault != Fault::None {
                        struck.fetch_add(1, Ordering::SeqCst);
                    }
                    fault
                };
                // A client that gives up is none of our business.
                thread::spawn(move || _ = pass(client, server, decide, &lines));
            }
        });
        proxy
    }

    /// The first lines of the requests since this was asked last: method, path with query, protocol.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many requests there were, and how many of them had a fault.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.requests.load(Ordering::SeqCst), self.struck.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // wakes it up
    }
}

/// Passes one request on, and its answer back. Connections are for one request each.
fn pass(mut client: TcpStream, server: u16, decide: impl FnOnce(&str) -> Fault, lines: &Lines) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_mins(1)))?;
    let (head, mut body) = head(&mut client)?;
    let fault = decide(&head);
    if fault == Fault::Reset {
        return client.shutdown(Shutdown::Both);
    }
    let first = head.lines().next().unwrap_or_default().to_owned();
    lines.lock().unwrap_or_else(PoisonError::into_inner).push(first);
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
    if let Fault::Answer(status) = fault {
        return write!(client, "HTTP/1.1 {status} Trouble\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy");
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
    let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    if fault == Fault::CutRequest {
        upstream.write_all(&request[..request.len() / 2])?;
        upstream.shutdown(Shutdown::Both)?;
        return client.shutdown(Shutdown::Both);
    }
    upstream.write_all(&request)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
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
