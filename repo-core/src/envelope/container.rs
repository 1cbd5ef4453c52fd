//! Containers: packs and index runs. Header, sealed frames, sealed padding, sealed directory, footer.
//!
//! The footer has a fixed size and repeats the header, so that one request for the end of the object gives all that is needed to
//! read the directory.

use sha2::{Digest, Sha256};

use crate::{
    blob::Compression,
    compress::{Compressor, Level, decompress},
    crypto::{
        aead::{Nonce, TAG_BYTES},
        keys::{Keys, ObjectKind},
    },
    envelope::{
        header::{HEADER_BYTES, Header, ObjectCipher, sealed_bytes},
        object::{compression_byte, compression_from_byte},
        padding::padme,
    },
    error::{Damage, Error, Result},
    id::ObjectId,
    limits,
    runtime::Runtime,
};

/// Sealed part of the footer: where the directory begins, its stored length, its plain length, its compression (8 bytes each).
const FOOTER_PLAIN_BYTES: usize = 32;

/// Length of the footer: its sealed part and the header again.
pub const FOOTER_BYTES: usize = FOOTER_PLAIN_BYTES + TAG_BYTES + HEADER_BYTES;

/// Smallest container.
pub const CONTAINER_BYTES_MIN: usize = HEADER_BYTES + TAG_BYTES + TAG_BYTES + FOOTER_BYTES;

/// Builds one container in memory.
pub struct ContainerWriter {
    header: Header,
    cipher: ObjectCipher,
    bytes: Vec<u8>,
    frames: u32,
    /// Of the first `hashed_bytes`: each frame is hashed while the processor has it at hand, and a full container is named at once.
    hash: Sha256,
    hashed_bytes: usize,
    scratch: Vec<u8>,
}

impl ContainerWriter {
    /// Begins a container in `buffer`, which is emptied and keeps its room.
    pub fn new(keys: &Keys, kind: ObjectKind, runtime: &dyn Runtime, mut buffer: Vec<u8>) -> Self {
        let header = Header::new(kind, runtime.random_32());
        buffer.clear();
        buffer.extend_from_slice(&header.bytes());
        Self {
            cipher: ObjectCipher::new(keys, &header),
            header,
            bytes: buffer,
            frames: 0,
            hash: Sha256::new(),
            hashed_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Stored bytes so far, without directory and footer.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Frames so far.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.frames
    }

    /// Seals `packed` as the next frame; returns where it begins. The nonce is the frame's position, handed out here and
    /// nowhere else.
    ///
    /// # Errors
    /// When what was sealed does not open again, or the container is full.
    pub fn add_frame(&mut self, packed: &[u8]) -> Result<usize> {
        if self.frames as usize >= limits::FRAMES_MAX {
            return Err(Error::Invalid("a container holds no more frames".into()));
        }
        let offset = self.bytes.len();
        self.cipher.seal(Nonce::frame(self.frames), packed, &mut self.bytes, &mut self.scratch)?;
        self.frames += 1;
        self.hash_new();
        Ok(offset)
    }

    fn hash_new(&mut self) {
        self.hash.update(self.bytes.get(self.hashed_bytes..).unwrap_or_default());
        self.hashed_bytes = self.bytes.len();
    }

    /// Adds padding, directory and footer; the size becomes a Padmé size. Gives the name, which is the SHA-256 of the bytes, and the bytes.
    ///
    /// # Errors
    /// When what was sealed does not open again.
    pub fn finish(mut self, directory: &[u8]) -> Result<(ObjectId, Vec<u8>)> {
        let mut packed = Vec::new();
        let compression = Compressor::new(Level::AUTO).compress(directory, &mut packed);
        let directory_stored_bytes = sealed_bytes(packed.len());
        let unpadded_bytes = self.bytes.len() + sealed_bytes(0) + directory_stored_bytes + FOOTER_BYTES;
        let padding_bytes = usize::try_from(padme(unpadded_bytes as u64)).unwrap_or(unpadded_bytes) - unpadded_bytes;

        let mut seal = |nonce, plain: &[u8]| self.cipher.seal(nonce, plain, &mut self.bytes, &mut self.scratch);
        seal(Nonce::PADDING, &vec![0; padding_bytes])?;
        seal(Nonce::DIRECTORY, &packed)?;
        let directory_offset = unpadded_bytes + padding_bytes - FOOTER_BYTES - directory_stored_bytes;
        let mut footer = Vec::with_capacity(FOOTER_PLAIN_BYTES);
        for number in [directory_offset, directory_stored_bytes, directory.len(), compression_byte(compression).into()]
        {
            footer.extend_from_slice(&(number as u64).to_le_bytes());
        }
        seal(Nonce::TRAILER, &footer)?;
        self.bytes.extend_from_slice(&self.header.bytes());
        self.hash_new();
        Ok((ObjectId(self.hash.finalize().into()), self.bytes))
    }
}

/// The opened footer of a container.
pub struct Footer {
    /// The container's header.
    pub header: Header,
    /// Where the directory begins; frames and padding end there.
    pub directory_offset_bytes: u64,
    /// Stored length of the directory.
    pub directory_stored_bytes: u64,
    directory_plain_bytes: usize,
    compression: Compression,
}

impl Footer {
    /// Opens the footer from the last bytes of a container of `size_bytes`.
    ///
    /// # Errors
    /// When it is damaged, or its numbers do not add up.
    pub fn open(
        keys: &Keys,
        kind: ObjectKind,
        suffix: &[u8],
        size_bytes: u64,
        name: &dyn std::fmt::Display,
    ) -> Result<Self> {
        let damage = |reason: &str| Error::from(Damage::new(name, reason));
        let at = suffix.len().checked_sub(FOOTER_BYTES).ok_or_else(|| damage("it is too short"))?;
        let (sealed, header) = suffix.get(at..).unwrap_or_default().split_at(FOOTER_BYTES - HEADER_BYTES);
        let header = Header::parse(header, kind, name)?;
        let mut plain = Vec::new();
        ObjectCipher::new(keys, &header)
            .open(Nonce::TRAILER, sealed, &mut plain)
            .map_err(|_| damage("its footer does not authenticate"))?;
        let mut numbers =
            plain.chunks_exact(8).map(|bytes| bytes.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes)));
        let mut number = || numbers.next().unwrap_or(u64::MAX);
        let (directory_offset_bytes, directory_stored_bytes, plain_bytes) = (number(), number(), number());
        let compression = u8::try_from(number()).ok().and_then(compression_from_byte);
        let ends = directory_offset_bytes.checked_add(directory_stored_bytes);
        if ends != size_bytes.checked_sub(FOOTER_BYTES as u64) || directory_offset_bytes < HEADER_BYTES as u64 {
            return Err(damage("its footer does not fit its size"));
        }
        if plain_bytes > limits::DIRECTORY_BYTES_MAX as u64
            || directory_stored_bytes > sealed_bytes(limits::DIRECTORY_BYTES_MAX) as u64
        {
            return Err(damage("its directory is larger than any can be"));
        }
        Ok(Self {
            header,
            directory_offset_bytes,
            directory_stored_bytes,
            directory_plain_bytes: usize::try_from(plain_bytes).unwrap_or(usize::MAX),
            compression: compression.ok_or_else(|| damage("its footer names an unknown compression"))?,
        })
    }

    /// Opens the directory from its stored bytes.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn open_directory(&self, keys: &Keys, stored: &[u8], name: &dyn std::fmt::Display) -> Result<Vec<u8>> {
        let mut packed = Vec::new();
        ObjectCipher::new(keys, &self.header)
            .open(Nonce::DIRECTORY, stored, &mut packed)
            .map_err(|_| Damage::new(name, "its directory does not authenticate"))?;
        let mut directory = Vec::new();
        decompress(self.compression, &packed, self.directory_plain_bytes, &mut directory)
            .map_err(|error| Damage::new(name, format_args!("its directory: {error}")))?;
        Ok(directory)
    }
}

/// Opens one frame of a container without decompressing it.
///
/// # Errors
/// When it does not authenticate.
pub fn unseal_frame(cipher: &ObjectCipher, ordinal: u32, stored: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    if ordinal as usize >= limits::FRAMES_MAX {
        return Err("its position is out of bounds".into());
    }
    cipher.open(Nonce::frame(ordinal), stored, into).map_err(|error| error.to_string())
}

/// Opens one frame of a container.
///
/// # Errors
/// When it does not authenticate or does not decompress to `plain_bytes`, which the caller has held against
/// [`limits::FRAME_BYTES_MAX`].
pub fn open_frame(
    cipher: &ObjectCipher,
    ordinal: u32,
    compression: Compression,
    stored: &[u8],
    plain_bytes: usize,
    scratch: &mut Vec<u8>,
    into: &mut Vec<u8>,
) -> Result<(), String> {
    if ordinal as usize >= limits::FRAMES_MAX || plain_bytes > limits::FRAME_BYTES_MAX {
        return Err("its position or length is out of bounds".into());
    }
    match compression {
        Compression::Raw => {
            cipher.open(Nonce::frame(ordinal), stored, into).map_err(|error| error.to_string())?;
            if into.len() != plain_bytes {
                into.clear();
                return Err("its length is not what the directory says".into());
            }
            Ok(())
        }
        Compression::Zstd => {
            cipher.open(Nonce::frame(ordinal), stored, scratch).map_err(|error| error.to_string())?;
            decompress(Compression::Zstd, scratch, plain_bytes, into).map_err(|error| error.to_string())
        }
    }
}
