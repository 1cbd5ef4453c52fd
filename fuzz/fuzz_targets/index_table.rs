//! Tables of an index run: once they are accepted, every lookup stays within them, and finds what is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repo_core::{
    blob::BlobKind,
    index::table::{BlobPrefix, Counts, Table},
    limits,
};

fuzz_target!(|input: &[u8]| {
    let [data, tree, frames, packs, bytes @ ..] = input else { return };
    let number = |byte: &u8| u32::from(*byte % 9);
    let counts = Counts { data: number(data), tree: number(tree), frames: number(frames), packs: number(packs) };
    // Exactly as long as it must be, so that the fuzzer need not find out.
    let mut bytes = bytes.to_vec();
    bytes.resize(usize::try_from(counts.table_bytes()).expect("small counts"), 0);
    let Ok(table) = Table::new(bytes, counts) else { return };

    for kind in BlobKind::ALL {
        for position in 0..counts.blobs(kind) {
            let (prefix, row) = table.blob(kind, position).expect("every row can be read");
            let (_, location) = table.find(kind, prefix).expect("every blob that is there is found");
            assert!(
                u64::from(location.offset_bytes) + u64::from(location.length_bytes)
                    <= u64::from(location.frame.plain_bytes)
            );
            assert!(location.frame.plain_bytes as usize <= limits::FRAME_BYTES_MAX);
            assert!(table.frame(row.frame).is_some());
        }
        assert!(table.blob(kind, counts.blobs(kind)).is_none());
        for absent in [[0; 20], [0x7f; 20], [0xff; 20]] {
            if let Some((_, location)) = table.find(kind, BlobPrefix(absent)) {
                assert!(location.length_bytes as usize <= limits::BLOB_BYTES_MAX);
            }
        }
    }
});
