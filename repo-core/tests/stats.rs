//! Stats against plain counting over trees that are walked in full.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests")]

mod check_fixture;

use std::collections::{BTreeMap, BTreeSet};

use check_fixture::{Writer, init, noise, reader};
use proptest::prelude::*;
use repo_core::{
    blob::{BlobKind, ReadBlobs},
    codec,
    id::BlobId,
    progress::{Cancel, Silent},
    repository::reader::BlobReader,
    snapshot::Snapshot,
    stats::{Mode, Stats, stats},
    store::memory::MemoryStore,
    tree::{
        content::Pieces,
        node::{Entry, HardLinks, NodeKind, Piece},
        walk::{Descend, Visit, walk},
    },
};

/// Walks every snapshot in full, as restic does, and counts by the definition of each mode.
#[derive(Default)]
struct Plain {
    restore: Stats,
    contents: Stats,
    per_file: Stats,
    data_blobs: BTreeSet<BlobId>,
}

fn count(reader: &BlobReader, snapshots: &[Snapshot]) -> Plain {
    let mut plain = Plain::default();
    let mut seen = BTreeSet::new();
    let mut blobs_of: BTreeMap<Vec<u8>, BTreeSet<BlobId>> = BTreeMap::new();
    for snapshot in snapshots {
        for stats in [&mut plain.restore, &mut plain.contents, &mut plain.per_file] {
            stats.snapshots += 1;
        }
        let mut links = BTreeSet::new();
        walk(reader, &snapshot.tree, &mut |path, visit| {
            let Visit::Entry(entry) = visit else { return Ok(Descend::Into) };
            plain.restore.files += 1;
            let NodeKind::File { size_bytes, content } = &entry.node.kind else { return Ok(Descend::Into) };
            let metadata = &entry.node.metadata;
            if metadata.hard_links.is_none_or(|link| links.insert((link.device, metadata.inode))) {
                plain.restore.bytes += size_bytes;
            }
            let is_new = seen.insert(codec::encode(content));
            if is_new {
                plain.contents.files += 1;
                plain.contents.bytes += size_bytes;
            }
            for piece in Pieces::new(reader, content, *size_bytes) {
                let Piece::Data { blob, length_bytes } = piece.unwrap() else { continue };
                plain.data_blobs.insert(blob);
                if is_new {
                    plain.per_file.files += u64::from(!blobs_of.contains_key(path));
                    if blobs_of.entry(path.to_vec()).or_default().insert(blob) {
                        plain.per_file.blobs += 1;
                        plain.per_file.bytes += u64::from(length_bytes);
                    }
                }
            }
            Ok(Descend::Into)
        })
        .unwrap();
    }
    plain
}

/// What a file is made of: which contents, how many pieces, whether it is one of several names.
type Choice = (u8, u8, bool);

/// A tree from choices: each directory takes the next few, and some come again under another name.
fn build(writer: &Writer, choices: &[Choice]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (position, chunk) in choices.chunks(3).enumerate() {
        let mut inner = Vec::new();
        for (number, (content, pieces, linked)) in chunk.iter().enumerate() {
            let bytes = noise(&format!("{content}"), 20 * usize::from(*pieces));
            let mut file = writer.file(&format!("f{number}"), &bytes, 20, u64::from(*content % 3) * 1000);
            if *linked {
                file.node.metadata.hard_links = Some(HardLinks { device: 1, count: 9 });
                // One file has one content.
                file.node.metadata.inode = u64::from(*content) * 256 + u64::from(*pieces);
            }
            inner.push(file);
        }
        let directory = writer.directory_entry(&format!("d{position:03}"), &inner);
        if position % 2 == 0 {
            let mut again = directory.clone();
            again.name = repo_core::tree::name::Name::new(format!("d{position:03}x").into_bytes()).unwrap();
            entries.extend([directory, again]);
        } else {
            entries.push(directory);
        }
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 40 } else { 200 }))]

    #[test]
    fn every_mode_counts_what_a_full_walk_counts(
        trees in prop::collection::vec(prop::collection::vec((0u8..6, 0u8..24, any::<bool>()), 0..12), 1..4),
    ) {
        let store = MemoryStore::default();
        let repository = init(&store);
        let mut snapshots = Vec::new();
        let mut tree_blobs = BTreeSet::new();
        for choices in &trees {
            let writer = Writer::new(&repository);
            let (tree, totals) = writer.directory(&build(&writer, choices));
            tree_blobs.extend(writer.written.lock().unwrap().keys().filter(|(tree, _)| *tree).map(|(_, id)| *id));
            writer.commit_tree(tree, totals);
            snapshots.push(check_fixture::snapshot(tree, totals, 1));
        }
        // One of them twice.
        snapshots.push(snapshots[0].clone());
        let reader = reader(&repository);
        let plain = count(&reader, &snapshots);
        let counted = |mode| stats(&reader, &snapshots, mode, &Silent, &Cancel::default()).unwrap();
        prop_assert_eq!(counted(Mode::RestoreSize), plain.restore);
        prop_assert_eq!(counted(Mode::FilesByContents), plain.contents);
        prop_assert_eq!(counted(Mode::BlobsPerFile), plain.per_file);

        let raw = counted(Mode::RawData);
        let blobs: Vec<_> = plain.data_blobs.iter().map(|id| (BlobKind::Data, *id))
            .chain(tree_blobs.iter().map(|id| (BlobKind::Tree, *id)))
            .collect();
        prop_assert_eq!(raw.blobs, blobs.len() as u64);
        let mut stored = BTreeMap::new();
        let mut plain_bytes = 0;
        for (kind, id) in blobs {
            let location = reader.locate(kind, &id).unwrap().unwrap();
            plain_bytes += u64::from(location.length_bytes);
            stored.insert(location.frame, u64::from(location.frame.stored_bytes));
        }
        prop_assert_eq!(raw.uncompressed_bytes, plain_bytes);
        // All blobs of these frames are used, so that the shares add up to the whole, but for rounding.
        let stored: u64 = stored.values().sum();
        prop_assert!(raw.bytes <= stored && raw.bytes + 1 >= stored, "{} {}", raw.bytes, stored);
    }
}
