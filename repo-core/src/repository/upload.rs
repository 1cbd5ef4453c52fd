//! Uploading packs beside the work that makes them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use crate::{
    error::{Error, Result},
    pack::builder::PackBuilder,
    repository::{notes::Session, shared::Shared},
};

/// Bytes of packs that may be on their way, for each connection the store would like: more than one whole pack where it likes eight.
const CONNECTION_BYTES: usize = 6 << 20;

/// Most threads, whatever number of connections the store would like: among what may be on its way is one small pack for each large one.
const THREADS_MAX: usize = 8;

/// Threads that finish and store packs. A pack is handed over only when it is among the bytes that may be on their way, so that no more
/// memory is taken than by these and the packs being filled.
pub(super) struct Uploader {
    shared: Arc<Shared>,
    in_flight_bytes_max: usize,
    queue: Option<SyncSender<(u64, PackBuilder)>>,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    in_flight: Mutex<InFlight>,
    done: Condvar,
    /// Buffers to be used again: their memory is mapped already.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// Packs that were handed over, by the number they got then, and their bytes.
#[derive(Default)]
struct InFlight {
    next: u64,
    packs: BTreeMap<u64, usize>,
}

impl InFlight {
    /// Whether one more has to wait. One that is alone never does.
    fn is_full(&self, bytes: usize, bytes_max: usize) -> bool {
        !self.packs.is_empty() && self.packs.values().sum::<usize>() + bytes > bytes_max
    }
}

impl State {
    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one buffer at a time; while it is filled again, the next one comes back.
    fn keep(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.is_empty() {
            buffers.push(buffer);
        }
    }
}

impl Uploader {
    /// Begins with storing the session's note, beside whatever comes before the first pack.
    pub(super) fn start(shared: &Arc<Shared>, mut note: Option<Session>) -> Self {
        let (queue, receiver) = sync_channel(0);
        let receiver = Arc::new(Mutex::new(receiver));
        let state = Arc::new(State::default());
        let wanted = shared.repository.store().abilities().connections;
        let count = match wanted {
            0 => 0,
            _ if shared.dry_run => 0,
            _ => wanted.min(THREADS_MAX),
        };
        if count == 0 || note.is_none() {
            shared.put_note(note.take());
        }
        let threads = (0..count)
            .map(|_| {
                let (shared, state, receiver) = (Arc::clone(shared), Arc::clone(&state), Arc::clone(&receiver));
                let note = note.take();
                std::thread::spawn(move || {
                    if note.is_some() {
                        shared.put_note(note);
                    }
                    upload(&shared, &state, &receiver);
                })
            })
            .collect();
        let in_flight_bytes_max = count * CONNECTION_BYTES;
        Self { shared: Arc::clone(shared), in_flight_bytes_max, queue: Some(queue), state, threads }
    }

    /// Hands a full pack over; waits until there is room for it among those on their way, and a thread takes it. Where the store wants no threads, stores it here and now.
    pub(super) fn put(&self, pack: PackBuilder) -> Result<()> {
        if self.threads.is_empty() && !self.shared.dry_run {
            store(&self.shared, &self.state, pack);
            return Ok(());
        }
        let bytes = pack.stored_bytes();
        let is_full = |in_flight: &mut InFlight| in_flight.is_full(bytes, self.in_flight_bytes_max);
        let in_flight = self.state.done.wait_while(self.state.in_flight(), is_full);
        let mut in_flight = in_flight.unwrap_or_else(PoisonError::into_inner);
        let number = in_flight.next;
        in_flight.next += 1;
        in_flight.packs.insert(number, bytes);
        drop(in_flight);
        if self.queue.as_ref().is_some_and(|queue| queue.send((number, pack)).is_ok()) {
            return Ok(());
        }
        drop(Leaving(&self.state, number));
        Err(Error::Poisoned)
    }

    /// An empty buffer, with room if there is one to be used again.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.state.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Waits until every pack that was handed over before is stored, with the index run that was due then, or has failed.
    pub(super) fn wait(&self) {
        let in_flight = self.state.in_flight();
        let next = in_flight.next;
        let before =
            |in_flight: &mut InFlight| in_flight.packs.first_key_value().is_some_and(|(first, _)| *first < next);
        drop(self.state.done.wait_while(in_flight, before));
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic there was told of as a failure of the session.
            let _ = thread.join();
        }
    }
}

/// Life of a thread. After a failure packs are taken and dropped, so that nobody waits for ever.
fn upload(shared: &Shared, state: &State, receiver: &Mutex<Receiver<(u64, PackBuilder)>>) {
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, pack)) = next else { return };
        let leaving = Leaving(state, number);
        store(shared, state, pack);
        drop(leaving);
    }
}

/// Stores a pack; what fails is the session's failure.
fn store(shared: &Shared, state: &State, pack: PackBuilder) {
    if shared.has_failed() {
        return;
    }
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shared.put_pack(pack))) {
        Ok(Ok(buffer)) => state.keep(buffer),
        Ok(Err(error)) => drop(shared.fail(error)),
        Err(_) => drop(shared.fail(Error::Invalid("a thread that stores packs failed; this is a bug".into()))),
    }
}

/// Counts a pack as done when dropped, whatever happened to it.
struct Leaving<'a>(&'a State, u64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.in_flight().packs.remove(&self.1);
        self.0.done.notify_all();
    }
}
