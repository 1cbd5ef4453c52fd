//! Directories of packs: what is accepted lies within the pack, without gaps and without overlaps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repo_core::{envelope::header::HEADER_BYTES, id::PackId, limits, pack::directory::PackDirectory};

fuzz_target!(|input: &[u8]| {
    let [a, b, c, d, encoded @ ..] = input else { return };
    let end_bytes = u64::from(u32::from_le_bytes([*a, *b, *c, *d])).min(limits::PACK_BYTES_MAX);
    let Ok(directory) = PackDirectory::decode(encoded, end_bytes, &"a pack") else { return };

    let mut expected = HEADER_BYTES as u64;
    for (frame, _) in directory.locations(PackId([1; 32])) {
        assert_eq!(u64::from(frame.offset_bytes), expected);
        expected += u64::from(frame.stored_bytes);
        assert!(frame.plain_bytes as usize <= limits::FRAME_BYTES_MAX);
    }
    assert!(expected <= end_bytes);
    for (_, blob) in directory.blobs(PackId([1; 32])) {
        let end = u64::from(blob.offset_bytes) + u64::from(blob.length_bytes);
        assert!(end <= u64::from(blob.frame.plain_bytes));
    }
});
