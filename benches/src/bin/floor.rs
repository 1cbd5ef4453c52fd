//! The speed limit: what a backup cannot do without (walk, read, cut, hash, compress, seal, verify, name, write), with
//! the bare libraries and nothing else. No tree, no index, no metadata, no resilience.
//!
//! Workers take files from one walk in batches, each has a frame and a pack of its own; one that finds no more files
//! packs the frames of those that still read. Every option that shapes the result has the value that coffer has.
#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    collections::{HashSet, VecDeque},
    fmt::Write as _,
    io::{Cursor, Read},
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, ensure};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest,
};
use clap::Parser;
use coffer_benches::{
    stopwatch::{Stage, Stopwatch, gigabytes_per_second},
    walk::{Found, Walk},
};
use repo_core::{
    chunker::{Chunker, ChunkerParameters},
    limits::{DATA_FRAME_BYTES, PACK_BYTES},
};

/// Files that a worker takes at once. Few, so that workers end together; many, so that a frame holds neighbours.
const BATCH_FILES: usize = 64;

/// What a worker reads of a file at once.
const READ_BYTES: usize = 2 << 20;

/// Stand-ins for what is derived from the master key.
const BLOB_KEY: [u8; 32] = *b"the speed limit's blob id key...";
const PACK_KEY: [u8; 32] = *b"the speed limit's one pack key..";

#[derive(Parser)]
#[command(about = "Measures how fast this machine could back up a directory")]
struct Options {
    /// What is read.
    directory: PathBuf,
    /// Where packs are written; should be empty.
    packs: PathBuf,
    /// Workers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// One worker, so that each stage's time is its own.
    #[arg(long)]
    stages: bool,
    /// zstd's level.
    #[arg(long, default_value_t = 3, allow_negative_numbers = true)]
    level: i32,
    /// Plain bytes of a frame.
    #[arg(long, default_value_t = DATA_FRAME_BYTES)]
    frame_bytes: usize,
    /// Average chunk; the minimum is a quarter of it, the maximum four times.
    #[arg(long, default_value_t = ChunkerParameters::default().average_bytes)]
    average_bytes: u32,
    /// Sync every pack to the disk.
    #[arg(long)]
    sync: bool,
}

/// What all workers see.
struct Shared<'a> {
    options: &'a Options,
    chunker: Chunker,
    walk: Mutex<Walk>,
    seen: Mutex<HashSet<blake3::Hash>>,
    handover: Mutex<Handover>,
    changed: Condvar,
}

/// Frames from workers that read for workers that have nothing to read.
struct Handover {
    reading: u16,
    waiting: usize,
    frames: VecDeque<Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    mutex.lock().map_err(|_| anyhow!("another worker failed"))
}

/// Counts of one worker.
#[derive(Default)]
struct Counts {
    files: u64,
    bytes: u64,
    blobs: u64,
    new_blobs: u64,
    new_bytes: u64,
    packs: u64,
    packed_bytes: u64,
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    watch: Stopwatch,
    counts: Counts,
    buffer: Vec<u8>,
    frame: Vec<u8>,
    pack: Pack,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared<'a>) -> Result<Self> {
        Ok(Self {
            shared,
            watch: Stopwatch::start(),
            counts: Counts::default(),
            buffer: Vec::with_capacity(READ_BYTES),
            frame: Vec::new(),
            pack: Pack::new(shared.options)?,
        })
    }

    fn run(mut self) -> Result<(Stopwatch, Counts)> {
        let read = self.read_all();
        let mut handover = lock(&self.shared.handover)?;
        handover.reading -= 1;
        self.shared.changed.notify_all();
        drop(handover);
        read?;
        while let Some(frame) = self.wait_for_frame()? {
            self.pack.add(&frame, &mut self.watch, &mut self.counts)?;
        }
        self.pack.write(&mut self.watch, &mut self.counts)?;
        Ok((self.watch, self.counts))
    }

    fn read_all(&mut self) -> Result<()> {
        let mut batch = Vec::with_capacity(BATCH_FILES);
        loop {
            let mut walk = lock(&self.shared.walk)?;
            while batch.len() < BATCH_FILES
                && let Some(found) = walk.next_file()?
            {
                batch.push(found);
            }
            drop(walk);
            self.watch.lap(Stage::Walk, 0);
            if batch.is_empty() {
                break;
            }
            for found in batch.drain(..) {
                self.read_file(&found)?;
            }
        }
        let frame = std::mem::take(&mut self.frame);
        self.pack.add(&frame, &mut self.watch, &mut self.counts)
    }

    fn read_file(&mut self, found: &Found) -> Result<()> {
        let mut file = std::fs::File::from(found.open()?);
        let length = usize::try_from(file.metadata()?.len())?;
        self.counts.files += 1;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        loop {
            // One byte more than is left, so that a file that fits is read to its end at once.
            let wanted = READ_BYTES.min(length + 1).saturating_sub(buffer.len()).max(1);
            let wanted_bytes = u64::try_from(wanted)?;
            let got = file.by_ref().take(wanted_bytes).read_to_end(&mut buffer)?;
            self.watch.lap(Stage::Read, got);
            self.counts.bytes += got as u64;
            let end_of_file = got < wanted;

            let mut from = 0;
            while let Some(rest) = buffer.get(from..).filter(|rest| !rest.is_empty()) {
                let chunk = match self.shared.chunker.certain_cut(rest) {
                    Some(length) => &rest[..length],
                    None if end_of_file => rest,
                    None => break,
                };
                self.watch.lap(Stage::Cut, chunk.len());
                from += chunk.len();
                Self::blob(self.shared, &mut self.counts, &mut self.frame, chunk)?;
                self.watch.lap(Stage::Hash, chunk.len());
                if self.frame.len() >= self.shared.options.frame_bytes {
                    self.close_frame()?;
                }
            }
            if end_of_file {
                break;
            }
            buffer.drain(..from);
        }
        drop(file);
        self.watch.lap(Stage::Read, 0);
        self.buffer = buffer;
        Ok(())
    }

    fn blob(shared: &Shared<'_>, counts: &mut Counts, frame: &mut Vec<u8>, chunk: &[u8]) -> Result<()> {
        counts.blobs += 1;
        if lock(&shared.seen)?.insert(blake3::keyed_hash(&BLOB_KEY, chunk)) {
            counts.new_blobs += 1;
            counts.new_bytes += chunk.len() as u64;
            frame.extend_from_slice(chunk);
        }
        Ok(())
    }

    /// Gives the frame to a worker that waits, or packs it.
    fn close_frame(&mut self) -> Result<()> {
        let mut handover = lock(&self.shared.handover)?;
        if handover.waiting > handover.frames.len() {
            handover.frames.push_back(std::mem::take(&mut self.frame));
            self.shared.changed.notify_one();
        } else {
            drop(handover);
            self.pack.add(&self.frame, &mut self.watch, &mut self.counts)?;
            self.frame.clear();
        }
        Ok(())
    }

    fn wait_for_frame(&self) -> Result<Option<Vec<u8>>> {
        let mut handover = lock(&self.shared.handover)?;
        loop {
            if let Some(frame) = handover.frames.pop_front() {
                return Ok(Some(frame));
            }
            if handover.reading == 0 {
                return Ok(None);
            }
            handover.waiting += 1;
            handover = self.shared.changed.wait(handover).map_err(|_| anyhow!("another worker failed"))?;
            handover.waiting -= 1;
        }
    }
}

/// A pack that is being filled, and what fills it.
struct Pack {
    directory: PathBuf,
    sync: bool,
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    key: LessSafeKey,
    ordinal: u32,
    bytes: Vec<u8>,
    opened: Vec<u8>,
    plain: Vec<u8>,
}

impl Pack {
    fn new(options: &Options) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &PACK_KEY).map_err(|_| anyhow!("AES-256 takes 32 bytes"))?;
        Ok(Self {
            directory: options.packs.clone(),
            sync: options.sync,
            compressor: zstd::bulk::Compressor::new(options.level)?,
            decompressor: zstd::bulk::Decompressor::new()?,
            key: LessSafeKey::new(key),
            ordinal: 0,
            bytes: Vec::with_capacity(PACK_BYTES + (4 << 20)),
            opened: Vec::new(),
            plain: Vec::new(),
        })
    }

    fn nonce(&self) -> Nonce {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.ordinal.to_le_bytes());
        Nonce::assume_unique_for_key(bytes)
    }

    fn add(&mut self, frame: &[u8], watch: &mut Stopwatch, counts: &mut Counts) -> Result<()> {
        if frame.is_empty() {
            return Ok(());
        }
        let start = self.bytes.len();
        self.bytes.reserve(zstd::zstd_safe::compress_bound(frame.len()) + AES_256_GCM.tag_len());
        let mut room = Cursor::new(&mut self.bytes);
        room.set_position(start as u64);
        let packed_bytes = self.compressor.compress_to_buffer(frame, &mut room)?;
        let raw = packed_bytes >= frame.len();
        if raw {
            self.bytes.truncate(start);
            self.bytes.extend_from_slice(frame);
        }
        watch.lap(Stage::Compress, frame.len());

        let nonce = self.nonce();
        let packed = &mut self.bytes[start..];
        let tag =
            self.key.seal_in_place_separate_tag(nonce, Aad::empty(), packed).map_err(|_| anyhow!("cannot seal"))?;
        watch.lap(Stage::Seal, packed.len());

        let packed = &self.bytes[start..];
        self.opened.resize(packed.len(), 0);
        self.key
            .open_separate_gather(self.nonce(), Aad::empty(), packed, tag.as_ref(), &mut self.opened)
            .map_err(|_| anyhow!("does not open"))?;
        if raw {
            ensure!(self.opened == frame, "opened to something else");
        } else {
            self.plain.clear();
            self.plain.reserve_exact(frame.len());
            self.decompressor.decompress_to_buffer(&self.opened, &mut self.plain)?;
            ensure!(self.plain == frame, "decompressed to something else");
        }
        self.bytes.extend_from_slice(tag.as_ref());
        self.ordinal += 1;
        watch.lap(Stage::Verify, frame.len());

        if self.bytes.len() >= PACK_BYTES {
            self.write(watch, counts)?;
        }
        Ok(())
    }

    fn write(&mut self, watch: &mut Stopwatch, counts: &mut Counts) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let mut name = String::new();
        for byte in digest::digest(&digest::SHA256, &self.bytes).as_ref() {
            write!(name, "{byte:02x}")?;
        }
        watch.lap(Stage::Name, self.bytes.len());
        let path = self.directory.join(name);
        write_file(&path, &self.bytes, self.sync).with_context(|| format!("cannot write {}", path.display()))?;
        watch.lap(Stage::Write, self.bytes.len());
        counts.packs += 1;
        counts.packed_bytes += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

fn write_file(path: &Path, bytes: &[u8], sync: bool) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    std::io::Write::write_all(&mut file, bytes)?;
    if sync { file.sync_data() } else { Ok(()) }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let threads = if options.stages { 1 } else { options.threads };
    std::fs::create_dir_all(&options.packs)?;
    let parameters = ChunkerParameters {
        min_bytes: options.average_bytes / 4,
        average_bytes: options.average_bytes,
        max_bytes: options.average_bytes.saturating_mul(4),
        ..ChunkerParameters::default()
    };
    ensure!(parameters.max_bytes as usize <= READ_BYTES, "chunks above {READ_BYTES} bytes are not read at once");
    let start = Instant::now();
    let shared = Shared {
        options: &options,
        chunker: Chunker::new(parameters, &gear_table())?,
        walk: Mutex::new(Walk::new(&options.directory)?),
        seen: Mutex::new(HashSet::new()),
        handover: Mutex::new(Handover { reading: threads, waiting: 0, frames: VecDeque::new() }),
        changed: Condvar::new(),
    };
    let results: Vec<Result<(Stopwatch, Counts)>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| Worker::new(&shared)?.run())).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked")))).collect()
    });
    let wall = start.elapsed();

    let mut watch = Stopwatch::start();
    let mut sum = Counts::default();
    for result in results {
        let (worker, counts) = result?;
        watch.add(&worker);
        sum.files += counts.files;
        sum.bytes += counts.bytes;
        sum.blobs += counts.blobs;
        sum.new_blobs += counts.new_blobs;
        sum.new_bytes += counts.new_bytes;
        sum.packs += counts.packs;
        sum.packed_bytes += counts.packed_bytes;
    }
    println!("{watch}");
    println!(
        "files {}  bytes {}  blobs {} ({} new, {} bytes)  packs {} ({} bytes, 1:{:.3})",
        sum.files,
        sum.bytes,
        sum.blobs,
        sum.new_blobs,
        sum.new_bytes,
        sum.packs,
        sum.packed_bytes,
        ratio(sum.bytes, sum.packed_bytes)
    );
    println!(
        "threads {threads}  level {}  wall {:.3} s  ({:.2} GB/s)  CPU {:.3} s",
        options.level,
        wall.as_secs_f64(),
        gigabytes_per_second(sum.bytes, wall),
        watch.total().as_secs_f64()
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn ratio(plain: u64, packed: u64) -> f64 {
    plain as f64 / packed.max(1) as f64
}

/// Any table will do, as long as it is always the same.
fn gear_table() -> [u64; 256] {
    let mut output = blake3::Hasher::new_derive_key("coffer benches gear table").finalize_xof();
    std::array::from_fn(|_| {
        let mut bytes = [0; 8];
        output.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    })
}
