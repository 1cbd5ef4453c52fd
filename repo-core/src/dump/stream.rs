//! An output that blobs are poured into in order, while the next ones are read ahead by other threads.
//!
//! What is to be written is gathered in batches of about a frame; each batch is put together by a thread of its own, and the batches are
//! written in order. So memory is bounded by a few frames, and each frame is opened by one thread only.

use std::{
    collections::VecDeque,
    io::Write,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
};

use crate::{
    blob::{BlobKind, FrameLocation, ReadBlobs},
    error::{Damage, Error, Result},
    id::BlobId,
    progress::Cancel,
};

/// Bytes after which a batch is full: more than a frame and the headers between its files, so that none is cut in two.
const BATCH_BYTES: u64 = 4 << 20;

/// Batches that are read ahead.
const AHEAD: usize = 5;

/// Threads that read.
const READERS: usize = 4;

/// Zeros are written in parts of this size.
const ZEROS: &[u8] = &[0; 64 << 10];

/// A part of a batch.
enum Part {
    Bytes(Vec<u8>),
    Blob { id: BlobId, length_bytes: u32 },
}

/// A batch that is being put together, and where the result goes.
struct Job {
    parts: Vec<Part>,
    result: SyncSender<Result<Vec<u8>>>,
}

/// What is still to be written, in order.
enum Pending {
    Batch(Receiver<Result<Vec<u8>>>),
    Zeros(u64),
}

/// The output.
pub(super) struct Stream<'a> {
    reader: &'a dyn ReadBlobs,
    out: &'a mut dyn Write,
    cancel: &'a Cancel,
    jobs: Sender<Job>,
    parts: Vec<Part>,
    parts_bytes: u64,
    frame: Option<FrameLocation>,
    pending: VecDeque<Pending>,
    written_bytes: u64,
}

/// Gives `write` a stream into `out`, and writes everything that was poured into it. Tells how many bytes were written.
///
/// # Errors
/// The first one, in the order of the output: what was written before it is right.
pub(super) fn with_stream(
    reader: &dyn ReadBlobs,
    out: &mut dyn Write,
    cancel: &Cancel,
    write: impl FnOnce(&mut Stream<'_>) -> Result<()>,
) -> Result<u64> {
    let (jobs, queue) = mpsc::channel();
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| read_ahead(reader, &queue));
        }
        let mut stream = Stream {
            reader,
            out,
            cancel,
            jobs,
            parts: Vec::new(),
            parts_bytes: 0,
            frame: None,
            pending: VecDeque::new(),
            written_bytes: 0,
        };
        write(&mut stream)?;
        stream.finish()
        // Here the stream is dropped, and with it the queue's other end; the threads see that and end.
    })
}

impl Stream<'_> {
    /// Pours these bytes.
    pub(super) fn bytes(&mut self, bytes: Vec<u8>) -> Result<()> {
        let length = bytes.len() as u64;
        self.part(Part::Bytes(bytes), length)
    }

    /// Pours a data blob, which must have this length.
    pub(super) fn blob(&mut self, id: BlobId, length_bytes: u32) -> Result<()> {
        let frame = self.reader.locate(BlobKind::Data, &id)?.map(|location| location.frame);
        // A frame belongs to one batch as a whole where that can be, so that it is opened once.
        if self.frame.is_some() && frame != self.frame {
            self.close()?;
        }
        self.frame = frame;
        self.part(Part::Blob { id, length_bytes }, length_bytes.into())
    }

    /// Pours zeros.
    pub(super) fn zeros(&mut self, length_bytes: u64) -> Result<()> {
        if length_bytes <= ZEROS.len() as u64 {
            return self.bytes(vec![0; usize::try_from(length_bytes).unwrap_or(0)]);
        }
        self.close()?;
        self.pend(Pending::Zeros(length_bytes))
    }

    fn part(&mut self, part: Part, length_bytes: u64) -> Result<()> {
        self.parts.push(part);
        self.parts_bytes += length_bytes;
        if self.parts_bytes >= BATCH_BYTES { self.close() } else { Ok(()) }
    }

    /// Hands the batch over to be put together.
    fn close(&mut self) -> Result<()> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let (result, receiver) = mpsc::sync_channel(1);
        let job = Job { parts: std::mem::take(&mut self.parts), result };
        self.parts_bytes = 0;
        self.frame = None;
        self.jobs.send(job).map_err(|_| Error::Poisoned)?;
        self.pend(Pending::Batch(receiver))
    }

    fn pend(&mut self, pending: Pending) -> Result<()> {
        self.pending.push_back(pending);
        while self.pending.len() > AHEAD {
            self.write_next()?;
        }
        Ok(())
    }

    /// Writes the oldest of what is pending.
    fn write_next(&mut self) -> Result<()> {
        self.cancel.check()?;
        match self.pending.pop_front() {
            None => Ok(()),
            Some(Pending::Batch(receiver)) => {
                // A reader that ends without a result has panicked; the scope passes that on.
                let bytes = receiver.recv().map_err(|_| Error::Poisoned)??;
                self.write(&bytes)
            }
            Some(Pending::Zeros(mut left)) => {
                while left > 0 {
                    self.cancel.check()?;
                    let now = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
                    self.write(ZEROS.get(..now).unwrap_or_default())?;
                    left -= now as u64;
                }
                Ok(())
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(output_error)?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        self.close()?;
        while !self.pending.is_empty() {
            self.write_next()?;
        }
        self.cancel.check()?;
        self.out.flush().map_err(output_error)?;
        Ok(self.written_bytes)
    }
}

/// The output failed.
fn output_error(source: std::io::Error) -> Error {
    Error::Io { during: "write", path: "the output".into(), source }
}

/// Life of a reading thread.
fn read_ahead(reader: &dyn ReadBlobs, queue: &Mutex<Receiver<Job>>) {
    let mut blob = Vec::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // Nobody waits for the result after a failure.
        let _ = job.result.send(put_together(reader, job.parts, &mut blob));
    }
}

fn put_together(reader: &dyn ReadBlobs, parts: Vec<Part>, blob: &mut Vec<u8>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(bytes) => out.extend_from_slice(&bytes),
            Part::Blob { id, length_bytes } => {
                reader.read_blob(BlobKind::Data, &id, blob)?;
                if blob.len() as u64 != u64::from(length_bytes) {
                    let reason = format!("it has {} bytes, the file says {length_bytes}", blob.len());
                    return Err(Damage::new(format_args!("data blob {id}"), reason).into());
                }
                out.extend_from_slice(blob);
            }
        }
    }
    Ok(out)
}
