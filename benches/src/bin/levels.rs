//! What each zstd level costs and gains on the frames of a directory, in walk order: the ground for the levels that
//! have names.
#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    io::Read,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Parser;
use coffer_benches::{stopwatch::gigabytes_per_second, walk::Walk};
use repo_core::limits::DATA_FRAME_BYTES;

#[derive(Parser)]
#[command(about = "Measures zstd's levels on the frames of a directory")]
struct Options {
    /// What is read.
    directory: PathBuf,
    /// The levels.
    #[arg(
        long,
        value_delimiter = ',',
        allow_hyphen_values = true,
        default_values_t = [-7, -3, -1, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 19]
    )]
    levels: Vec<i32>,
    /// Plain bytes of a frame.
    #[arg(long, default_value_t = DATA_FRAME_BYTES)]
    frame_bytes: usize,
    /// Take one frame of so many.
    #[arg(long, default_value_t = 20)]
    every: usize,
}

/// One frame of every so many.
fn sample(options: &Options) -> Result<Vec<Vec<u8>>> {
    let mut walk = Walk::new(&options.directory)?;
    let (mut frames, mut frame, mut count) = (Vec::new(), Vec::with_capacity(options.frame_bytes), 0);
    while let Some(found) = walk.next_file()? {
        let mut file = std::fs::File::from(found.open()?);
        loop {
            let room = options.frame_bytes - frame.len();
            let got = file.by_ref().take(u64::try_from(room)?).read_to_end(&mut frame)?;
            if frame.len() == options.frame_bytes {
                if count % options.every == 0 {
                    frames.push(frame.clone());
                }
                frame.clear();
                count += 1;
            } else if got < room {
                break;
            }
        }
    }
    Ok(frames)
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.frame_bytes > 0 && options.every > 0, "a frame has bytes, and the sample frames");
    let frames = sample(&options)?;
    let plain_bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
    println!("{} frames of {} bytes", frames.len(), options.frame_bytes);
    println!("{:>5} {:>10} {:>9} {:>8} {:>12}", "level", "ms per MiB", "MB/s", "smaller", "decomp. MB/s");
    for level in &options.levels {
        let mut compressor = zstd::bulk::Compressor::new(*level)?;
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(options.frame_bytes));
        let mut plain = Vec::with_capacity(options.frame_bytes);
        let (mut packed_bytes, mut there, mut back) = (0_u64, Duration::ZERO, Duration::ZERO);
        for frame in &frames {
            let start = Instant::now();
            compressor.compress_to_buffer(frame, &mut packed)?;
            there += start.elapsed();
            let start = Instant::now();
            decompressor.decompress_to_buffer(&packed, &mut plain)?;
            back += start.elapsed();
            ensure!(plain == *frame, "decompressed to something else");
            packed_bytes += packed.len() as u64;
        }
        let there_speed = gigabytes_per_second(plain_bytes, there);
        println!(
            "{level:>5} {:>10.3} {:>9.1} {:>8.3} {:>12.0}",
            1048.576 / 1000.0 / there_speed,
            there_speed * 1000.0,
            ratio(plain_bytes, packed_bytes),
            gigabytes_per_second(plain_bytes, back) * 1000.0
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn ratio(plain: u64, packed: u64) -> f64 {
    plain as f64 / packed.max(1) as f64
}
