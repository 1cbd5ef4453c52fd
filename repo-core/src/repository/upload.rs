//! Uploading packs beside the work that makes them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use crate::{
    error::{Error, Result},
    pack::builder::PackBuilder,
    repository::shared::Shared,
};

/// Most bytes of packs that are being uploaded, whatever number of connections the store would like: each thread holds a whole pack.
const IN_FLIGHT_BYTES: usize = 32 << 20;

/// Threads that finish and store packs. A pack is handed over only when a thread is free to take it, so that no more packs
/// are in memory than there are threads and packs being filled.
pub(super) struct Uploader {
    shared: Arc<Shared>,
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

/// Packs that were handed over, by the number they got then.
#[derive(Default)]
struct InFlight {
    next: u64,
    numbers: BTreeSet<u64>,
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
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        let (queue, receiver) = sync_channel(0);
        let receiver = Arc::new(Mutex::new(receiver));
        let state = Arc::new(State::default());
        let wanted = shared.repository.store().abilities().connections;
        let count = match wanted {
            0 => 0,
            _ if shared.dry_run => 0,
            _ => wanted.min(IN_FLIGHT_BYTES / shared.pack_bytes()).max(1),
        };
        let threads = (0..count)
            .map(|_| {
                let (shared, state, receiver) = (Arc::clone(shared), Arc::clone(&state), Arc::clone(&receiver));
                std::thread::spawn(move || upload(&shared, &state, &receiver))
            })
            .collect();
        Self { shared: Arc::clone(shared), queue: Some(queue), state, threads }
    }

    /// Hands a full pack over; waits until a thread takes it. Where the store wants no threads, stores it here and now.
    pub(super) fn put(&self, pack: PackBuilder) -> Result<()> {
        if self.threads.is_empty() && !self.shared.dry_run {
            store(&self.shared, &self.state, pack);
            return Ok(());
        }
        let mut in_flight = self.state.in_flight();
        let number = in_flight.next;
        in_flight.next += 1;
        in_flight.numbers.insert(number);
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
        let before = |in_flight: &mut InFlight| in_flight.numbers.first().is_some_and(|first| *first < next);
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
        self.0.in_flight().numbers.remove(&self.1);
        self.0.done.notify_all();
    }
}
