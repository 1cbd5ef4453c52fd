//! Pages against plain vectors.

use std::{collections::HashMap, sync::Mutex};

use proptest::prelude::*;

use super::{
    content::{ContentWriter, Pieces},
    directory::{DirectoryEntries, DirectoryWriter, find},
    name::Name,
    node::{Content, Entry, Metadata, Mode, Node, NodeKind, Piece, Totals},
};
use crate::{
    blob::{BlobKind, BlobLocation, ReadBlobs, WriteBlobs},
    crypto::keys::{Keys, MasterKey},
    error::{Error, Result},
    id::{BlobId, RepositoryId},
    time::Timestamp,
};

/// Blobs in a map.
struct Map {
    keys: Keys,
    blobs: Mutex<HashMap<BlobId, Vec<u8>>>,
    reads: Mutex<usize>,
}

impl Map {
    fn new() -> Self {
        Self {
            keys: Keys::new(MasterKey::from_bytes([1; 32]), RepositoryId([2; 32])),
            blobs: Mutex::default(),
            reads: Mutex::default(),
        }
    }

    fn count(&self) -> usize {
        self.blobs.lock().unwrap().len()
    }
}

impl ReadBlobs for Map {
    fn read_blob(&self, kind: BlobKind, id: &BlobId, into: &mut Vec<u8>) -> Result<()> {
        *self.reads.lock().unwrap() += 1;
        let blobs = self.blobs.lock().unwrap();
        into.clone_from(blobs.get(id).ok_or(Error::MissingBlob { kind, id: *id })?);
        Ok(())
    }

    fn locate(&self, _: BlobKind, _: &BlobId) -> Result<Option<BlobLocation>> {
        Ok(None)
    }
}

impl WriteBlobs for Map {
    fn write_blob(&self, kind: BlobKind, plain: &[u8]) -> Result<(BlobId, bool)> {
        let id = self.keys.blob_id(kind, plain);
        Ok((id, self.blobs.lock().unwrap().insert(id, plain.to_vec()).is_none()))
    }
}

fn entry(name: &str, size_bytes: u64) -> Entry {
    let metadata = Metadata {
        mode: Mode::from_bits(0o644),
        user: 1000,
        group: 1000,
        modified: Timestamp::from_seconds(-5),
        changed: Timestamp::default(),
        accessed: None,
        inode: 7,
        hard_links: None,
        xattrs: Vec::new(),
        extensions: Vec::new(),
    };
    let kind = NodeKind::File { size_bytes, content: Content::Empty };
    Entry { name: Name::new(name.as_bytes()).unwrap(), node: Node { kind, metadata } }
}

fn write(map: &Map, entries: &[Entry]) -> (BlobId, Totals) {
    let mut writer = DirectoryWriter::default();
    for entry in entries {
        writer.push(entry, map).unwrap();
    }
    writer.finish(map).unwrap()
}

#[test]
fn directories_of_every_size_come_back() {
    for count in [0, 1, 2, 100, 5_000, 60_000] {
        let map = Map::new();
        let entries: Vec<_> = (0..count).map(|i| entry(&format!("name-{i:08}"), 1)).collect();
        let (tree, totals) = write(&map, &entries);
        assert_eq!(totals, Totals { files: count, directories: 0, bytes: count });
        let back: Vec<_> = DirectoryEntries::open(&map, &tree).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, entries);
        for probe in entries.iter().step_by(997) {
            assert_eq!(find(&map, &tree, &probe.name).unwrap().as_ref(), Some(&probe.node));
        }
        assert_eq!(find(&map, &tree, &Name::new(*b"absent").unwrap()).unwrap(), None);
        assert_eq!(find(&map, &tree, &Name::new(*b"zzz").unwrap()).unwrap(), None);
    }
}

#[test]
fn a_change_rewrites_few_pages() {
    let map = Map::new();
    let mut entries: Vec<_> = (0..50_000).map(|i| entry(&format!("name-{i:08}"), 1)).collect();
    write(&map, &entries);
    let before = map.count();
    assert!(before > 50, "the directory has many pages: {before}");
    entries.insert(25_000, entry("name-00024999-and-a-half", 3));
    write(&map, &entries);
    assert!(map.count() - before <= 4, "{} new pages", map.count() - before);
}

#[test]
fn who_asks_for_some_names_reads_no_other_pages() {
    let map = Map::new();
    let entries: Vec<_> = (0..60_000).map(|i| entry(&format!("name-{i:08}"), 1)).collect();
    let (tree, _) = write(&map, &entries);
    let all = map.count();
    assert!(all > 50, "the directory has many pages: {all}");
    let some = |numbers: &[usize], more: &[&str]| {
        let names = numbers.iter().map(|number| entries[*number].name.clone());
        let names = names.chain(more.iter().map(|name| Name::new(name.as_bytes()).unwrap())).collect();
        *map.reads.lock().unwrap() = 0;
        let back = DirectoryEntries::open_some(&map, &tree, Some(names)).unwrap();
        (back.map(|entry| entry.unwrap().name).collect::<Vec<_>>(), *map.reads.lock().unwrap())
    };
    for number in (0..60_000).step_by(997).chain([59_999]) {
        let (back, reads) = some(&[number], &[]);
        assert_eq!(back, [entries[number].name.clone()]);
        assert!(reads <= 3, "{reads} pages for one name");
    }
    let (back, reads) = some(&[40_000, 40_001, 7, 59_999], &["aaa", "name-00000007-and-a-half", "zzz"]);
    assert_eq!(back, [7, 40_000, 40_001, 59_999].map(|number: usize| entries[number].name.clone()));
    assert!(reads <= 6, "{reads} pages");
    assert!(some(&[], &[]).1 <= 2);
    let every: Vec<_> = (0..60_000).collect();
    assert_eq!(some(&every, &[]), (entries.iter().map(|entry| entry.name.clone()).collect(), all));
}

#[test]
fn lost_page_loses_only_its_entries() {
    let map = Map::new();
    let entries: Vec<_> = (0..20_000).map(|i| entry(&format!("name-{i:08}"), 1)).collect();
    let (tree, _) = write(&map, &entries);
    let ids: Vec<_> = map.blobs.lock().unwrap().keys().copied().filter(|id| *id != tree).collect();
    for id in ids {
        let lost = map.blobs.lock().unwrap().remove(&id).unwrap();
        let back: Vec<_> = DirectoryEntries::open(&map, &tree).unwrap().collect();
        assert_eq!(back.iter().filter(|item| item.is_err()).count(), 1);
        assert!(back.len() > 10_000);
        map.blobs.lock().unwrap().insert(id, lost);
    }
}

#[test]
fn unsorted_and_double_entries_are_refused() {
    let map = Map::new();
    for names in [["b", "a"], ["a", "a"]] {
        let blob = super::TreeBlob::Entries(names.iter().map(|name| entry(name, 0)).collect());
        let (tree, _) = map.write_blob(BlobKind::Tree, &crate::codec::encode(&blob)).unwrap();
        let back: Vec<_> = DirectoryEntries::open(&map, &tree).unwrap().collect();
        assert!(back[0].is_ok() && back[1].is_err());
        let mut writer = DirectoryWriter::default();
        writer.push(&entry(names[0], 0), &map).unwrap();
        assert!(writer.push(&entry(names[1], 0), &map).is_err());
    }
}

proptest! {
    #[test]
    fn pieces_come_back(lengths in prop::collection::vec((any::<bool>(), 1u32..1_000_000), 0..3_000)) {
        let map = Map::new();
        let mut writer = ContentWriter::default();
        let mut expected: Vec<Piece> = Vec::new();
        for (i, (hole, length)) in lengths.iter().enumerate() {
            let piece = if *hole {
                Piece::Hole { length_bytes: u64::from(*length) }
            } else {
                Piece::Data { blob: map.keys.blob_id(BlobKind::Data, &i.to_le_bytes()), length_bytes: *length }
            };
            match (piece, expected.last_mut()) {
                (Piece::Hole { length_bytes: more }, Some(Piece::Hole { length_bytes })) => *length_bytes += more,
                _ => expected.push(piece),
            }
            writer.push(piece, &map).unwrap();
        }
        let (content, size) = writer.finish(&map).unwrap();
        prop_assert_eq!(size, expected.iter().map(Piece::length_bytes).sum::<u64>());
        let back: Vec<_> = Pieces::new(&map, &content, size).map(Result::unwrap).collect();
        prop_assert_eq!(back, expected);
        if size > 0 {
            prop_assert!(Pieces::new(&map, &content, size - 1).any(|piece| piece.is_err()) || matches!(content, Content::Blob(_)));
            prop_assert!(Pieces::new(&map, &content, size + 1).any(|piece| piece.is_err()) || matches!(content, Content::Blob(_)));
        }
    }
}
