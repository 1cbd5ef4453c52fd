//! A store farther away than it is: passes HTTP/1.1 on to a server and lets each answer begin later, as a long line would. Counts requests.
//!
//! Nothing in a request is changed, so that signatures over its host hold: the server is asked under the name of this proxy.
//! `GET /.counts` is answered by the proxy itself, with what it has counted since the last time, as JSON.
#![expect(clippy::print_stdout, reason = "a program that says where it listens")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;

/// Bytes that are passed on at once.
const PIECE_BYTES: usize = 128 << 10;

/// A longer head of a request is none.
const HEAD_BYTES_MAX: u64 = 64 << 10;

#[derive(Parser)]
#[command(about = "Passes HTTP on to a server, lets every answer begin later, and counts requests")]
struct Options {
    /// The server, as HOST:PORT.
    server: String,
    /// The port to listen at; any free one if 0.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// By which the first byte of each answer is later.
    #[arg(long, default_value_t = 20)]
    delay_ms: u64,
}

/// What all connections share.
struct Line {
    server: String,
    delay: Duration,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// By method; a GET that lists is a LIST.
    requests: BTreeMap<String, u64>,
    sent_bytes: u64,
    received_bytes: u64,
}

/// Requests of one connection whose answers have not begun.
type Unanswered = Arc<AtomicU64>;

fn main() -> Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).context("cannot listen")?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    let delay = Duration::from_millis(options.delay_ms);
    let line = Arc::new(Line { server: options.server, delay, counts: Mutex::default() });
    for client in listener.incoming() {
        let (client, line) = (client?, Arc::clone(&line));
        // One that breaks is the business of those at its ends.
        thread::spawn(move || _ = line.connect(client));
    }
    Ok(())
}

impl Line {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a connection on until one end closes it.
    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let unanswered = Unanswered::default();
        let (back, back_from, back_to) = (Arc::clone(self), server.try_clone()?, client.try_clone()?);
        let waiting = Arc::clone(&unanswered);
        let answers = thread::spawn(move || {
            let result = back.pass_answers(&back_from, &back_to, &waiting);
            let _ = back_to.shutdown(Shutdown::Both);
            result
        });
        let result = self.pass_requests(client, &server, &unanswered);
        let _ = server.shutdown(Shutdown::Write);
        let _ = answers.join();
        result
    }

    fn pass_requests(&self, client: TcpStream, mut server: &TcpStream, unanswered: &Unanswered) -> io::Result<()> {
        let mut client = BufReader::with_capacity(PIECE_BYTES, client);
        while let Some(head) = Head::read(&mut client)? {
            if head.target == "/.counts" {
                let body = std::mem::take(&mut *self.counts()).json();
                let length = body.len();
                return write!(
                    client.get_mut(),
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            }
            {
                let counts = &mut *self.counts();
                *counts.requests.entry(head.kind()).or_default() += 1;
                counts.sent_bytes += head.text.len() as u64;
            }
            unanswered.fetch_add(1, Ordering::SeqCst);
            server.write_all(head.text.as_bytes())?;
            let sent = match head.body {
                Body::Length(bytes) => io::copy(&mut client.by_ref().take(bytes), &mut server)?,
                Body::Chunks => pass_chunks(&mut client, server)?,
            };
            self.counts().sent_bytes += sent;
        }
        Ok(())
    }

    /// What comes first after a request is the beginning of its answer.
    fn pass_answers(&self, mut server: &TcpStream, mut client: &TcpStream, unanswered: &Unanswered) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = server.read(&mut piece)?;
            if length == 0 {
                return Ok(());
            }
            if unanswered.load(Ordering::SeqCst) > 0 {
                thread::sleep(self.delay);
                // That a body may be sent is told over the same line, and is no answer yet.
                if !piece[..length].starts_with(b"HTTP/1.1 100") {
                    unanswered.fetch_sub(1, Ordering::SeqCst);
                }
            }
            self.counts().received_bytes += length as u64;
            client.write_all(&piece[..length])?;
        }
    }
}

/// How the end of a request's body is known.
enum Body {
    Length(u64),
    Chunks,
}

/// The head of a request.
struct Head {
    text: String,
    method: String,
    target: String,
    body: Body,
}

impl Head {
    /// The next one of a connection, if there is one.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut from = from.take(HEAD_BYTES_MAX);
        let (mut text, mut body) = (String::new(), Body::Length(0));
        loop {
            let begin = text.len();
            if from.read_line(&mut text)? == 0 {
                return if text.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let line = text[begin..].trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => body = Body::Length(value.trim().parse().map_err(io::Error::other)?),
                    "transfer-encoding" if value.trim().eq_ignore_ascii_case("chunked") => body = Body::Chunks,
                    _ => {}
                }
            }
        }
        let mut words = text.split_whitespace();
        let (method, target) =
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        Ok(Some(Self { text, method, target, body }))
    }

    fn kind(&self) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let lists = path.ends_with('/') || query.contains("list-type=") || query.contains("prefix=");
        if self.method == "GET" && lists { "LIST".into() } else { self.method.clone() }
    }
}

/// Passes a body in chunks on, and tells its length.
fn pass_chunks(from: &mut impl BufRead, mut to: &TcpStream) -> io::Result<u64> {
    let mut sent = 0;
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        to.write_all(line.as_bytes())?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        // What ends a chunk, and what ends all of them, are as long.
        let length = size + 2;
        sent += line.len() as u64 + io::copy(&mut from.by_ref().take(length), &mut to)?;
        if size == 0 {
            return Ok(sent);
        }
    }
}

impl Counts {
    fn json(&self) -> String {
        let mut text = "{\"requests\":{".to_owned();
        for (number, (kind, count)) in self.requests.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let _ = write!(text, "{comma}\"{}\":{count}", kind.replace(['"', '\\'], "?"));
        }
        let _ = write!(text, "}},\"sent_bytes\":{},\"received_bytes\":{}}}", self.sent_bytes, self.received_bytes);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        Head::read(&mut text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn heads() {
        let put = head("PUT /bucket/a/b HTTP/1.1\r\nHost: here\r\nContent-LENGTH: 12\r\n\r\nrest");
        assert!(put.text.ends_with("12\r\n\r\n") && put.kind() == "PUT" && matches!(put.body, Body::Length(12)));
        assert!(matches!(head("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").body, Body::Chunks));
        assert_eq!(head("GET /bucket?list-type=2&prefix=a HTTP/1.1\r\n\r\n").kind(), "LIST");
        assert_eq!(head("GET /repo/data/ HTTP/1.1\r\n\r\n").kind(), "LIST");
        assert_eq!(head("GET /bucket/a?x=1 HTTP/1.1\r\n\r\n").kind(), "GET");
        assert!(Head::read(&mut "".as_bytes()).unwrap().is_none());
        assert!(Head::read(&mut "GET / HTTP".as_bytes()).is_err());
    }

    #[test]
    fn counts_are_told() {
        let requests = [("GET".to_owned(), 2), ("PUT".to_owned(), 1)].into();
        let counts = Counts { requests, sent_bytes: 3, received_bytes: 4 };
        assert_eq!(counts.json(), r#"{"requests":{"GET":2,"PUT":1},"sent_bytes":3,"received_bytes":4}"#);
    }

    /// Two requests over one connection: each answer comes whole, and late.
    #[test]
    fn every_answer_is_late() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        thread::spawn(move || {
            let mut client = BufReader::new(server.accept().unwrap().0);
            while let Some(head) = Head::read(&mut client).unwrap() {
                let Body::Length(length) = head.body else { panic!("it has a length") };
                io::copy(&mut client.by_ref().take(length), &mut io::sink()).unwrap();
                client.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes").unwrap();
            }
        });
        let delay = Duration::from_millis(60);
        let line = Arc::new(Line { server: format!("127.0.0.1:{port}"), delay, counts: Mutex::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        let passing = Arc::clone(&line);
        thread::spawn(move || _ = passing.connect(accepted));
        for body in ["12345", ""] {
            let begin = std::time::Instant::now();
            write!(client, "PUT /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            let mut answer = [0; 41];
            client.read_exact(&mut answer).unwrap();
            assert!(answer.ends_with(b"yes") && begin.elapsed() >= delay);
        }
        assert_eq!(line.counts().requests["PUT"], 2);
        assert_eq!(line.counts().received_bytes, 82);
    }
}
