//! Compression of frames and objects: zstd (RFC 8878), or nothing when nothing is gained.
//!
//! What is written is exactly one zstd frame with its content size and without checksum and dictionary; whatever is
//! sealed is authenticated already. Each thread has a [`Compressor`] and a [`Decompressor`] of its own and keeps them,
//! since making one costs as much as compressing a small frame.
//!
//! Data that does not compress needs no guessing beforehand: up to level 12 zstd itself passes over it at 3 to 12 GB/s
//! (measured on random bytes in frames of 1 MiB; 12 GB/s at level 3) and begins to search anew in every block of
//! 128 KiB, where a few samples would miss a text file between two films. The levels from 13 on are slow on it (0.04
//! to 0.5 GB/s), so they let level 1 look first.

mod level;

use std::{cell::RefCell, io::Cursor};

use zstd::{bulk, zstd_safe, zstd_safe::CParameter};

pub use level::{Level, LevelError};

use crate::blob::Compression;

/// Compressed data is kept if it is at least this much smaller: 1/32, about 3 %. Less is not worth the decompression.
const LEAST_SAVING: usize = 32;

/// The default level looks for matches in two tables that take 768 KiB for a frame, as much as the second-level cache of many cores
/// holds. Half of it costs 0.6 % of size on source code and saves 6 % of the time, more where cores share a cache.
const SMALL_TABLES_LEVEL: i32 = 3;
const SMALL_TABLES: [CParameter; 2] = [CParameter::HashLog(16), CParameter::ChainLog(15)];

/// From this level on level 1 is asked first.
const SLOW_LEVEL: i32 = 13;

/// If level 1 saves less than 1/256, about 0.4 %, slow levels save less than 3 % as well: 1.5 % on archives compressed
/// by others.
const LEAST_HINT: usize = 256;

/// Compresses with one level; for one thread, to be kept.
pub struct Compressor {
    /// Tells slow levels what does not compress.
    scout: Option<bulk::Compressor<'static>>,
    /// Nothing for level `off`.
    zstd: Option<bulk::Compressor<'static>>,
}

impl Compressor {
    /// A compressor for this level.
    #[must_use]
    pub fn new(level: Level) -> Self {
        let zstd = |level| {
            let mut zstd = bulk::Compressor::new(level).expect("zstd knows every level that Level can be");
            if level == SMALL_TABLES_LEVEL {
                for table in SMALL_TABLES {
                    zstd.set_parameter(table).expect("zstd takes these sizes");
                }
            }
            zstd
        };
        let slow = level.zstd_level().is_some_and(|level| level >= SLOW_LEVEL);
        Self { scout: slow.then(|| zstd(1)), zstd: level.zstd_level().map(zstd) }
    }

    /// Appends `plain` to `into`, compressed if that makes it smaller by 3 % at least, and says which.
    pub fn compress(&mut self, plain: &[u8], into: &mut Vec<u8>) -> Compression {
        let start = into.len();
        let limit = plain.len() - plain.len() / LEAST_SAVING;
        let worth_it = self.scout.as_mut().is_none_or(|scout| {
            let hint = plain.len() - plain.len() / LEAST_HINT;
            let compresses = append_zstd(scout, plain, hint, into);
            into.truncate(start);
            compresses
        });
        if let Some(zstd) = self.zstd.as_mut().filter(|_| worth_it && limit < plain.len())
            && append_zstd(zstd, plain, limit, into)
        {
            return Compression::Zstd;
        }
        into.truncate(start);
        into.extend_from_slice(plain);
        Compression::Raw
    }
}

/// Appends the compressed form if it has at most `limit` bytes; otherwise `into` may hold a part of it.
///
/// zstd gives up when the room is too small. It cannot fail for another reason but lack of memory, and then the data
/// is stored as it is, which is right as well.
fn append_zstd(zstd: &mut bulk::Compressor<'_>, plain: &[u8], limit: usize, into: &mut Vec<u8>) -> bool {
    let start = into.len();
    into.reserve(limit);
    let mut room = Cursor::new(into);
    room.set_position(start as u64);
    zstd.compress_to_buffer(plain, &mut room).is_ok_and(|written| written <= limit)
}

/// Why packed bytes do not become plain ones again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The packed bytes do not have, or do not say they have, the length that was promised.
    #[error("it would become {found} bytes instead of {expected}")]
    Size {
        /// What the caller knows from an authenticated place.
        expected: usize,
        /// What there is.
        found: u64,
    },
    /// They are not one zstd frame with its content size.
    #[error("it is not one whole zstd frame")]
    NotOneFrame,
    /// The frame's inside is damaged.
    #[error("zstd cannot decompress it: {0}")]
    Corrupt(String),
}

/// Decompresses; for one thread, to be kept.
pub struct Decompressor {
    zstd: bulk::Decompressor<'static>,
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Decompressor {
    /// A decompressor.
    #[must_use]
    pub fn new() -> Self {
        Self { zstd: bulk::Decompressor::new().expect("without a dictionary there is nothing to fail") }
    }

    /// Replaces `into` by the plain bytes of `packed`: exactly `plain_bytes`, which the caller has from an
    /// authenticated place and has held against its limit. No more than that is ever allocated.
    ///
    /// # Errors
    /// When `packed` is anything but one zstd frame, or raw bytes, of this very size; `into` is empty then.
    pub fn decompress(
        &mut self,
        compression: Compression,
        packed: &[u8],
        plain_bytes: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        into.clear();
        let size = |found| DecompressError::Size { expected: plain_bytes, found };
        match compression {
            Compression::Raw if packed.len() == plain_bytes => into.extend_from_slice(packed),
            Compression::Raw => return Err(size(packed.len() as u64)),
            Compression::Zstd => {
                let frame_bytes = zstd_safe::find_frame_compressed_size(packed);
                let claimed = zstd_safe::get_frame_content_size(packed).ok().flatten();
                let (Ok(frame_bytes), Some(claimed)) = (frame_bytes, claimed) else {
                    return Err(DecompressError::NotOneFrame);
                };
                if frame_bytes != packed.len() {
                    return Err(DecompressError::NotOneFrame);
                }
                if claimed != plain_bytes as u64 {
                    return Err(size(claimed));
                }
                into.reserve_exact(plain_bytes);
                let outcome = self.zstd.decompress_to_buffer(packed, into);
                if !matches!(outcome, Ok(written) if written == plain_bytes) {
                    into.clear();
                    return Err(match outcome {
                        Ok(written) => size(written as u64),
                        Err(error) => DecompressError::Corrupt(error.to_string()),
                    });
                }
            }
        }
        Ok(())
    }
}

/// As [`Decompressor::decompress`], with a decompressor that the calling thread keeps.
///
/// # Errors
/// As there.
pub fn decompress(
    compression: Compression,
    packed: &[u8],
    plain_bytes: usize,
    into: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Decompressor> = RefCell::default();
    }
    DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.decompress(compression, packed, plain_bytes, into))
}

#[cfg(test)]
mod tests;
