//! Processor time by stage.

use std::{fmt, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// What a backup does with a byte, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Listing and sorting directories.
    Walk,
    /// Opening, asking the size of, reading and closing files.
    Read,
    /// Finding chunk borders.
    Cut,
    /// Keyed BLAKE3 of each blob, looking it up, and copying new ones into a frame.
    Hash,
    /// zstd.
    Compress,
    /// AES-256-GCM.
    Seal,
    /// Opening, decompressing and comparing what was sealed.
    Verify,
    /// SHA-256 of packs, their names.
    Name,
    /// Writing packs.
    Write,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Walk,
        Self::Read,
        Self::Cut,
        Self::Hash,
        Self::Compress,
        Self::Seal,
        Self::Verify,
        Self::Name,
        Self::Write,
    ];
}

/// Processor time and bytes of each stage in one thread.
#[derive(Debug)]
pub struct Stopwatch {
    last: Duration,
    stages: [(Duration, u64); Stage::ALL.len()],
}

/// Processor time of this thread so far.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Stopwatch {
    /// Starts, for the thread that calls.
    #[must_use]
    pub fn start() -> Self {
        Self { last: now(), stages: Default::default() }
    }

    /// Says that what happened since the last call was this stage, and how many bytes went through it.
    pub fn lap(&mut self, stage: Stage, bytes: usize) {
        let now = now();
        let (time, sum) = &mut self.stages[stage as usize];
        *time += now.saturating_sub(self.last);
        *sum += bytes as u64;
        self.last = now;
    }

    /// Adds another thread's times.
    pub fn add(&mut self, other: &Self) {
        for ((time, bytes), (more_time, more_bytes)) in self.stages.iter_mut().zip(&other.stages) {
            *time += *more_time;
            *bytes += more_bytes;
        }
    }

    /// Time of all stages.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.stages.iter().map(|(time, _)| time).sum()
    }
}

impl fmt::Display for Stopwatch {
    /// A table.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:<10} {:>8} {:>10} {:>9}", "stage", "CPU s", "MiB", "GB/s")?;
        for (stage, (time, bytes)) in Stage::ALL.into_iter().zip(self.stages) {
            let name = format!("{stage:?}").to_lowercase();
            write!(out, "{name:<10} {:>8.3} {:>10}", time.as_secs_f64(), bytes >> 20)?;
            match bytes {
                0 => writeln!(out)?,
                _ => writeln!(out, " {:>9.2}", gigabytes_per_second(bytes, time))?,
            }
        }
        write!(out, "{:<10} {:>8.3}", "all", self.total().as_secs_f64())
    }
}

/// 10^9 bytes a second.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn gigabytes_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}
