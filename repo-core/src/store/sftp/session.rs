//! One conversation with a server: requests of many threads over one pipe, each answered in its own time.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Pipe,
    wire::{Incoming, Malformed, Outgoing, kind},
};
use crate::{
    error::StoreErrorKind,
    store::{
        backend::Failure,
        flow::{self, Flow},
        remote::{self, excerpt},
    },
};

/// Version of the protocol.
const VERSION: u32 = 3;

/// Longest wait for the first answer: somebody may have to type a password.
const GREETING: Duration = Duration::from_mins(5);

/// A conversation. It is over when anything about it fails.
pub(super) struct Session {
    writer: Mutex<Box<dyn Write + Send>>,
    shared: Arc<Shared>,
    next_id: AtomicU32,
    extensions: Vec<Vec<u8>>,
    flow: Flow,
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// Files that are being read or written just now.
    transfers: AtomicUsize,
    /// What carries the conversation, and can tell why it ended.
    carrier: Mutex<Box<dyn super::Carrier>>,
}

#[derive(Default)]
struct Waiting {
    requests: HashMap<u32, SyncSender<Incoming>>,
    /// Why it is over.
    over: Option<String>,
}

/// A file that is being read or written, for as long as this value lives.
pub(super) struct Transfer<'a>(&'a AtomicUsize);

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An answer that is to come.
pub(super) struct Pending {
    answer: Receiver<Incoming>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Greets the server.
    pub(super) fn begin(pipe: Pipe, flow: Flow) -> Result<Self, Failure> {
        let Pipe { mut reader, mut writer, carrier } = pipe;
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            transfers: AtomicUsize::new(0),
            carrier: Mutex::new(carrier),
        });
        let greeting = Outgoing::new(kind::INIT).u32(VERSION).finish(None);
        let greeted = writer.write_all(&greeting).and_then(|()| writer.flush());
        let (sender, receiver) = sync_channel(1);
        let background = Arc::clone(&shared);
        thread::Builder::new()
            .name("sftp".into())
            .spawn(move || {
                let first = Incoming::read(&mut reader);
                let goes_on = first.is_ok();
                let _ = sender.send(first);
                if goes_on {
                    background.listen(&mut reader);
                }
            })
            .map_err(|error| Failure::permanent(format!("cannot start a thread: {error}")))?;
        let watch = flow.begin();
        let begin = Instant::now();
        let first = loop {
            match receiver.recv_timeout(flow::LOOK) {
                Err(RecvTimeoutError::Timeout) if watch.is_over() => {
                    shared.end("the operation was ended");
                    return Err(flow::cut());
                }
                Err(RecvTimeoutError::Timeout) if begin.elapsed() < GREETING => {}
                first => break first,
            }
        };
        let first = match (greeted, first) {
            (_, Ok(Ok(first))) => Ok(first),
            // What it said tells more than that it listens no longer.
            (Err(_), Ok(Err(said))) if said.kind() == io::ErrorKind::InvalidData => Err(said),
            (Err(error), _) | (_, Ok(Err(error))) => Err(error),
            (Ok(()), Err(_)) => Err(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time")),
        };
        let mut first = first.map_err(|error| shared.ended(&error))?;
        let extensions = greeted_with(&mut first).map_err(|Malformed| {
            Failure::permanent("what answers does not speak SFTP of version 3; does the login there print anything?")
        })?;
        shared.watch(&flow)?;
        Ok(Self { writer: Mutex::new(writer), shared, next_id: AtomicU32::new(0), extensions, flow })
    }

    /// Limits, and the end.
    pub(super) const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// A file is being read or written from now on.
    pub(super) fn transfer(&self) -> Transfer<'_> {
        self.shared.transfers.fetch_add(1, Ordering::SeqCst);
        Transfer(&self.shared.transfers)
    }

    /// Whether the server knows an extension.
    pub(super) fn knows(&self, extension: &str) -> bool {
        self.extensions.iter().any(|known| known == extension.as_bytes())
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        locked(&self.shared.waiting).over.is_some()
    }

    /// Sends a request.
    pub(super) fn ask(&self, packet: Outgoing) -> Result<Pending, Failure> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = sync_channel(1);
        {
            let mut waiting = locked(&self.shared.waiting);
            if let Some(reason) = &waiting.over {
                return Err(Failure::new(StoreErrorKind::Retry, reason.clone()));
            }
            waiting.requests.insert(id, sender);
        }
        let packet = packet.finish(Some(id));
        let mut writer = locked(&self.writer);
        if let Err(error) = writer.write_all(&packet).and_then(|()| writer.flush()) {
            let failed = self.shared.ended(&error);
            self.shared.end(&failed.source.to_string());
            return Err(failed);
        }
        Ok(Pending { answer })
    }

    /// Waits for an answer. A server that gives none any more is given up, with all that is asked of it.
    pub(super) fn wait(&self, pending: Pending) -> Result<Incoming, Failure> {
        match pending.answer.recv_timeout(remote::SILENCE) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                self.shared.end("the server was silent for too long");
                Err(Failure::new(StoreErrorKind::Retry, "the server was silent for too long"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let reason = locked(&self.shared.waiting).over.clone();
                Err(Failure::new(StoreErrorKind::Retry, reason.unwrap_or_else(|| "the connection ended".into())))
            }
        }
    }

    /// Asks and waits.
    pub(super) fn call(&self, packet: Outgoing) -> Result<Incoming, Failure> {
        self.wait(self.ask(packet)?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.end("the connection was closed");
    }
}

impl Shared {
    /// Ends it some time after a cancel: soon when a file is being moved, which may take long, and else when the last notes must be
    /// written. Whoever writes to the pipe cannot look after that: it takes nothing more where the network is slow.
    fn watch(self: &Arc<Self>, flow: &Flow) -> Result<(), Failure> {
        let (shared, under_way, notes) = (Arc::downgrade(self), flow.begin_before(), flow.begin_after());
        let watch = move || {
            while let Some(shared) = shared.upgrade().filter(|shared| locked(&shared.waiting).over.is_none()) {
                let is_moving = shared.transfers.load(Ordering::SeqCst) > 0;
                if notes.is_over() || is_moving && under_way.is_over() {
                    shared.end("the operation was ended");
                }
                drop(shared);
                thread::sleep(flow::LOOK);
            }
        };
        thread::Builder::new()
            .name("sftp-end".into())
            .spawn(watch)
            .map(|_| ())
            .map_err(|error| Failure::permanent(format!("cannot start a thread: {error}")))
    }

    /// Hands out answers until there are no more.
    fn listen(&self, reader: &mut dyn Read) {
        let reason = loop {
            let mut packet = match Incoming::read(&mut &mut *reader) {
                Ok(packet) => packet,
                Err(error) => break self.ended(&error).source.to_string(),
            };
            let Ok(id) = packet.u32() else { break "the server sent a packet without a number".to_owned() };
            if let Some(sender) = locked(&self.waiting).requests.remove(&id) {
                let _ = sender.send(packet); // nobody may wait any more
            }
        };
        self.end(&reason);
    }

    /// Ends it: whoever waits is told.
    fn end(&self, reason: &str) {
        {
            let mut waiting = locked(&self.waiting);
            waiting.over.get_or_insert_with(|| reason.to_owned());
            waiting.requests.clear();
        }
        locked(&self.carrier).end();
    }

    /// Why it ended, as far as whoever carries it knows.
    fn ended(&self, error: &io::Error) -> Failure {
        let said = excerpt(&locked(&self.carrier).last_words());
        if said.is_empty() {
            let kind = match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                    StoreErrorKind::Permanent
                }
                _ => StoreErrorKind::Retry,
            };
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Failure::new(kind, "the connection ended"),
                _ => Failure::new(kind, error.to_string()),
            };
        }
        Failure::new(kind_of(&said), said)
    }
}

/// What can be done about what `ssh` says when it gives up.
fn kind_of(said: &str) -> StoreErrorKind {
    const DENIED: [&str; 3] = ["Permission denied", "Too many authentication failures", "No supported authentication"];
    const WRONG: [&str; 6] = [
        "Host key verification failed",
        "HOST IDENTIFICATION HAS CHANGED",
        "subsystem request failed",
        "Bad configuration option",
        "command not found",
        "no matching host key type",
    ];
    if DENIED.iter().any(|words| said.contains(words)) {
        StoreErrorKind::Denied
    } else if WRONG.iter().any(|words| said.contains(words)) {
        StoreErrorKind::Permanent
    } else {
        StoreErrorKind::Retry
    }
}

/// The extensions the server names.
fn greeted_with(packet: &mut Incoming) -> Result<Vec<Vec<u8>>, Malformed> {
    if packet.kind != kind::VERSION || packet.u32()? < VERSION {
        return Err(Malformed);
    }
    let mut extensions = Vec::new();
    while !packet.is_at_end() {
        extensions.push(packet.bytes()?.to_vec());
        packet.bytes()?; // its version
    }
    Ok(extensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_sorted() {
        for (said, kind) in [
            ("me@host: Permission denied (publickey).", StoreErrorKind::Denied),
            ("Host key verification failed.", StoreErrorKind::Permanent),
            ("ssh: Could not resolve hostname x: Name or service not known", StoreErrorKind::Retry),
            ("ssh: connect to host x port 22: Connection refused", StoreErrorKind::Retry),
        ] {
            assert_eq!(kind_of(said), kind, "{said}");
        }
    }
}
