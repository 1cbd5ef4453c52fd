//! Compressing: what was packed unpacks; whatever else is unpacked gives exactly the size asked for, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repo_core::{
    blob::Compression,
    compress::{Compressor, Decompressor, Level},
};

fuzz_target!(|input: &[u8]| {
    let [high, low, packed @ ..] = input else { return };
    let plain_bytes = usize::from(u16::from_be_bytes([*high, *low]));
    let mut decompressor = Decompressor::new();
    for compression in [Compression::Raw, Compression::Zstd] {
        let mut out = b"left over".to_vec();
        match decompressor.decompress(compression, packed, plain_bytes, &mut out) {
            Ok(()) => assert_eq!(out.len(), plain_bytes),
            Err(_) => assert!(out.is_empty()),
        }
    }

    let mut into = b"before".to_vec();
    let compression = Compressor::new(Level::FASTEST).compress(packed, &mut into);
    let stored = into.strip_prefix(b"before").expect("what was there stays");
    assert!(stored.len() <= packed.len());
    let mut out = Vec::new();
    decompressor.decompress(compression, stored, packed.len(), &mut out).expect("what was packed unpacks");
    assert_eq!(out, packed);
    if packed.len() > 1 {
        assert!(decompressor.decompress(compression, stored, packed.len() - 1, &mut out).is_err());
    }
});
