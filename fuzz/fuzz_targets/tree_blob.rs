//! Stored directory and piece pages: what decodes has exactly one encoding, and it is the one that was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repo_core::{
    codec,
    tree::{TreeBlob, node::Totals},
};

fuzz_target!(|input: &[u8]| {
    let Ok(blob) = codec::decode::<TreeBlob>(input) else { return };
    assert_eq!(codec::encode(&blob), input);
    if let TreeBlob::Entries(entries) = &blob {
        let mut totals = Totals::default();
        for entry in entries {
            assert!(entry.node.metadata.mode.bits() <= 0o7777);
            assert!(entry.node.metadata.modified.nanoseconds() < 1_000_000_000);
            totals.add(Totals::of(&entry.node));
        }
    }
});
