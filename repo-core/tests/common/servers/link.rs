//! A network of one line on this machine: as fast as it is told to be, and it notes what goes over it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Bytes that go over it at once.
const PIECE_BYTES: usize = 8 << 10;

/// The line; it ends with this value.
pub(crate) struct Link {
    pub(crate) port: u16,
    passed: Passed,
    is_over: Arc<AtomicBool>,
}

/// When how many bytes went to the server, and came from there.
type Passed = Arc<Mutex<[Vec<(Instant, usize)>; 2]>>;

impl Link {
    /// Between its own port and that of a server, with so many bytes a second for each connection and direction.
    pub(crate) fn start(server: u16, bytes_per_second: Option<usize>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (passed, is_over) = (Passed::default(), Arc::new(AtomicBool::new(false)));
        let link = Self { port, passed: Arc::clone(&passed), is_over: Arc::clone(&is_over) };
        thread::spawn(move || {
            for client in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { continue };
                let ways = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))].into_iter().enumerate();
                for (direction, way) in ways {
                    let (Ok(from), Ok(to)) = way else { continue };
                    let passed = Arc::clone(&passed);
                    thread::spawn(move || {
                        carry(from, to, bytes_per_second, &|length| {
                            passed.lock().unwrap()[direction].push((Instant::now(), length));
                        });
                    });
                }
            }
        });
        link
    }

    /// Bytes that went to the server.
    pub(crate) fn sent_bytes(&self) -> usize {
        self.passed.lock().unwrap()[0].iter().map(|(_, length)| length).sum()
    }

    /// Bytes that came from the server.
    pub(crate) fn came_bytes(&self) -> usize {
        self.passed.lock().unwrap()[1].iter().map(|(_, length)| length).sum()
    }

    /// The most bytes that went to the server, and came from there, within any such time.
    pub(crate) fn most_within(&self, time: Duration) -> [usize; 2] {
        let passed = self.passed.lock().unwrap();
        [0, 1].map(|direction| {
            let passed = &passed[direction];
            let within = |begin: &Instant| {
                let later = passed.iter().filter(|(when, _)| when >= begin && *when - *begin <= time);
                later.map(|(_, length)| length).sum()
            };
            passed.iter().map(|(begin, _)| within(begin)).max().unwrap_or(0)
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // wakes it up
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, bytes_per_second: Option<usize>, note: &dyn Fn(usize)) {
    let mut part = [0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut part) {
        note(length);
        if to.write_all(&part[..length]).is_err() {
            break;
        }
        if let Some(rate) = bytes_per_second {
            thread::sleep(Duration::from_secs(1) * u32::try_from(length).unwrap() / u32::try_from(rate).unwrap());
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
