//! Trees, index runs and packs made with the right key by somebody who means harm, or by a wrong program: each is told, with its name,
//! and costs neither time nor memory.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests")]

mod check_fixture;

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use check_fixture::{Writer, check_all, check_with, entry, index, init, noise, reader, session, small};
use repo_core::{
    blob::{BlobKind, Compression, ReadBlobs, WriteBlobs},
    check::{CheckReport, Finding, FindingKind, ReadData},
    codec,
    compress::{Compressor, Level},
    error::Error,
    id::{BlobId, PackId},
    index::builder::IndexBuilder,
    pack::{
        builder::{FinishedPack, PackBuilder, PackedFrame},
        directory::{PackBlob, PackDirectory, PackFrame},
        reader::PackKey,
    },
    progress::{Cancel, Silent},
    repository::Repository,
    restore::{Everything, RestoreOptions, restore},
    runtime::SystemRuntime,
    sink::local::{LocalOptions, LocalSink},
    snapshot::Listing,
    stats::{Mode, stats},
    store::{ObjectName, Place, memory::MemoryStore},
    tree::{
        EntryPage, PiecePage, TreeBlob,
        name::Name,
        node::{Content, Entry, Node, NodeKind, Piece, Totals},
        walk::{Descend, Visit, walk},
    },
};

fn tree_errors(report: &CheckReport) -> Vec<&Finding> {
    let is_tree =
        |finding: &&Finding| matches!(finding.what, FindingKind::TreeDamaged { .. } | FindingKind::TotalsWrong { .. });
    report.findings.iter().filter(is_tree).collect()
}

/// Commits a snapshot with this root page and checks it. Whatever is wrong must be told of this page, or of one below, as `told` says.
fn told(make: impl FnOnce(&Writer) -> (BlobId, Totals), told: &str) {
    let store = MemoryStore::default();
    let repository = init(&store);
    let writer = Writer::new(&repository);
    let (tree, totals) = make(&writer);
    writer.commit_tree(tree, totals);
    let report = check_with(&repository, ReadData::None);
    let texts: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.contains(told) && text.contains("blob ")), "{told}: {texts:#?}");
    // Whoever walks it gets errors or an end.
    let reader = reader(&repository);
    let mut steps = 0;
    let _ = walk(&reader, &tree, &mut |_, _| {
        steps += 1;
        if steps > 100_000 { Err(Error::Cancelled) } else { Ok(Descend::Into) }
    });
}

fn page(writer: &Writer, page: &TreeBlob) -> BlobId {
    writer.write_blob(BlobKind::Tree, &codec::encode(page)).unwrap().0
}

fn data(writer: &Writer, bytes: &[u8]) -> BlobId {
    writer.write_blob(BlobKind::Data, bytes).unwrap().0
}

fn empty(name: &str) -> Entry {
    entry(name, NodeKind::File { size_bytes: 0, content: Content::Empty })
}

fn file(name: &str, size_bytes: u64, content: Content) -> Entry {
    entry(name, NodeKind::File { size_bytes, content })
}

fn one_file(writer: &Writer, size_bytes: u64, content: Content) -> (BlobId, Totals) {
    let tree = page(writer, &TreeBlob::Entries(vec![file("f", size_bytes, content)]));
    (tree, Totals { files: 1, directories: 0, bytes: size_bytes })
}

fn totals(files: u64, directories: u64, bytes: u64) -> Totals {
    Totals { files, directories, bytes }
}

#[test]
fn names_that_are_there_twice_or_out_of_order() {
    for names in [["a", "a"], ["b", "a"]] {
        told(
            |w| (page(w, &TreeBlob::Entries(names.map(empty).to_vec())), totals(2, 0, 0)),
            "out of order or there twice",
        );
    }
}

#[test]
fn pages_that_do_not_follow_each_other() {
    let split = |w: &Writer, first: &[&str], second: &[&str], said: &str| {
        let pages = [(first, first[0]), (second, said)].map(|(names, said)| {
            let entries = names.iter().map(|name| empty(name)).collect();
            EntryPage {
                first: Name::new(said.as_bytes()).unwrap(),
                page: page(w, &TreeBlob::Entries(entries)),
                totals: totals(names.len() as u64, 0, 0),
            }
        });
        (page(w, &TreeBlob::EntryPages(pages.to_vec())), totals((first.len() + second.len()) as u64, 0, 0))
    };
    told(|w| split(w, &["a", "x"], &["m", "n"], "m"), "go beyond the beginning of the next page");
    told(|w| split(w, &["a", "b"], &["m", "n"], "l"), "does not begin with the name");
    told(|w| split(w, &["m", "n"], &["a", "b"], "a"), "pages are out of order");
    // The same with a page between: the bound is passed on to the last page of the inner one.
    told(
        |w| {
            let (inner, inner_totals) = split(w, &["a", "b"], &["c", "z"], "c");
            let last = page(w, &TreeBlob::Entries(vec![empty("x")]));
            let name = |name: &str| Name::new(name.as_bytes()).unwrap();
            let pages = vec![
                EntryPage { first: name("a"), page: inner, totals: inner_totals },
                EntryPage { first: name("x"), page: last, totals: totals(1, 0, 0) },
            ];
            (page(w, &TreeBlob::EntryPages(pages)), totals(5, 0, 0))
        },
        "go beyond the beginning of the next page",
    );
}

#[test]
fn pages_of_the_wrong_sort() {
    told(|w| (page(w, &TreeBlob::Pieces(Vec::new())), totals(0, 0, 0)), "piece list where a directory must be");
    told(|w| (page(w, &TreeBlob::EntryPages(Vec::new())), totals(0, 0, 0)), "lists pages, but has none");
    told(
        |w| {
            let list = page(w, &TreeBlob::Entries(vec![empty("x")]));
            one_file(w, 5, Content::List(list))
        },
        "directory where a file's piece list must be",
    );
    told(
        |w| {
            let list = page(w, &TreeBlob::PiecePages(Vec::new()));
            one_file(w, 5, Content::List(list))
        },
        "lists pages, but has none",
    );
    // Not the encoding of anything, and one that claims more entries than there is memory.
    told(|w| (w.write_blob(BlobKind::Tree, b"nonsense").unwrap().0, totals(0, 0, 0)), "encoding");
    told(
        |w| {
            let mut bytes = vec![0, 253];
            bytes.extend_from_slice(&u64::MAX.to_le_bytes());
            (w.write_blob(BlobKind::Tree, &bytes).unwrap().0, totals(0, 0, 0))
        },
        "encoding",
    );
}

#[test]
fn sums_that_do_not_add_up() {
    told(|w| (page(w, &TreeBlob::Entries(vec![empty("a")])), totals(2, 0, 0)), "sums");
    told(
        |w| {
            let tree = page(w, &TreeBlob::Entries(vec![empty("a")]));
            let directory = entry("d", NodeKind::Directory { tree, totals: totals(7, 0, 0) });
            (page(w, &TreeBlob::Entries(vec![directory])), totals(7, 1, 0))
        },
        "sums",
    );
    // Two places say different things of one page: one of them at least is wrong.
    told(
        |w| {
            let tree = page(w, &TreeBlob::Entries(vec![empty("a")]));
            let directory = |name, files| entry(name, NodeKind::Directory { tree, totals: totals(files, 0, 0) });
            (page(w, &TreeBlob::Entries(vec![directory("d", 1), directory("e", 2)])), totals(3, 2, 0))
        },
        "sums",
    );
    told(|w| one_file(w, 4, Content::Pieces(vec![Piece::Hole { length_bytes: 3 }])), "its pieces 3");
    told(
        |w| {
            let pieces = vec![Piece::Hole { length_bytes: u64::MAX }, Piece::Hole { length_bytes: u64::MAX }];
            one_file(w, 4, Content::Pieces(pieces))
        },
        "its pieces",
    );
    told(
        |w| one_file(w, 3, Content::Pieces(vec![Piece::Hole { length_bytes: 3 }, Piece::Hole { length_bytes: 0 }])),
        "empty piece",
    );
    told(|w| one_file(w, u64::MAX, Content::Pieces(vec![Piece::Hole { length_bytes: u64::MAX }])), "longer than any");
    told(
        |w| {
            let list = page(w, &TreeBlob::Pieces(vec![Piece::Hole { length_bytes: 3 }]));
            one_file(w, 4, Content::List(list))
        },
        "sums",
    );
}

#[test]
fn blobs_of_another_length_or_kind() {
    told(
        |w| {
            let blob = data(w, b"five!");
            one_file(w, 6, Content::Blob(blob))
        },
        "it has 5 bytes by the index and 6 by the file",
    );
    told(
        |w| {
            let blob = data(w, b"five!");
            one_file(w, 1 << 40, Content::Pieces(vec![Piece::Data { blob, length_bytes: 1 << 31 }]))
        },
        "bytes by the index",
    );
    // A tree page for a file's content: it is no data blob.
    told(
        |w| {
            let blob = page(w, &TreeBlob::Entries(Vec::new()));
            one_file(w, 2, Content::Blob(blob))
        },
        "it is in no index run",
    );
}

/// Sixty levels of directories, each with two names for the next: 2^60 files.
#[test]
fn a_bomb_of_shared_directories() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let writer = Writer::new(&repository);
    let blob = data(&writer, b"content");
    let (mut tree, mut sums) = one_file(&writer, 7, Content::Blob(blob));
    for _ in 0..60 {
        let directory = |name| entry(name, NodeKind::Directory { tree, totals: sums });
        let entries = [directory("a"), directory("b")];
        (tree, sums) = writer.directory(&entries);
    }
    writer.commit_tree(tree, sums);
    let started = Instant::now();
    let report = check_all(&repository);
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(report.tree_pages, 61);
    let reader = reader(&repository);
    let body = check_fixture::snapshot(tree, sums, 1);
    for mode in [Mode::RestoreSize, Mode::FilesByContents, Mode::BlobsPerFile, Mode::RawData] {
        let counted = stats(&reader, [&body, &body], mode, &Silent, &Cancel::default()).unwrap();
        match mode {
            Mode::RestoreSize => assert_eq!(counted.bytes, 2 * (7 << 60)),
            Mode::FilesByContents | Mode::BlobsPerFile => assert_eq!((counted.files, counted.bytes), (1, 7)),
            Mode::RawData => assert_eq!(counted.blobs, 62),
        }
    }
    // The one blob is lost: whom that hurts is told without counting to 2^60.
    let pack = index(&repository).find(BlobKind::Data, &blob).unwrap().location.frame.pack;
    store.remove(&ObjectName::new(Place::Data, pack));
    let report = check_all(&repository);
    assert_eq!(report.errors(), 1);
    let suffering = &report.findings[0].suffering;
    assert!(suffering.at_least && suffering.paths.len() == 100 && suffering.total > 1_000, "{}", suffering.total);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn directories_nested_too_deep() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let writer = Writer::new(&repository);
    let (mut tree, mut sums) = writer.directory(&[empty("f")]);
    for _ in 0..9_000 {
        (tree, sums) = writer.directory(&[entry("d", NodeKind::Directory { tree, totals: sums })]);
    }
    writer.commit_tree(tree, sums);
    let report = check_with(&repository, ReadData::None);
    let errors = tree_errors(&report);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().contains("nested too deep"));
    assert_eq!(errors[0].suffering.total, 1);
}

/// Eight levels of pages, each of which names many pages of the next: a reader must not follow them all.
#[test]
fn a_bomb_of_shared_pages() {
    const WIDTH: usize = 12;
    let store = MemoryStore::default();
    let repository = init(&store);
    let writer = Writer::new(&repository);
    let name = |position: usize| Name::new(format!("{position:04}").into_bytes()).unwrap();
    let mut level: Vec<BlobId> =
        (0..WIDTH).map(|position| page(&writer, &TreeBlob::Entries(vec![empty(&format!("{position:04}"))]))).collect();
    let mut files = 1;
    for _ in 0..8 {
        // The n-th page begins with the n-th name and goes on with all that are behind it.
        level = (0..WIDTH)
            .map(|from| {
                let pages =
                    (from..WIDTH).map(|at| EntryPage { first: name(at), page: level[at], totals: totals(files, 0, 0) });
                page(&writer, &TreeBlob::EntryPages(pages.collect()))
            })
            .collect();
        files *= WIDTH as u64;
    }
    writer.commit_tree(level[0], totals(files, 0, 0));
    let started = Instant::now();
    let report = check_with(&repository, ReadData::None);
    assert!(
        tree_errors(&report).iter().any(|finding| finding.to_string().contains("go beyond")),
        "{:#?}",
        report.findings
    );
    assert!(report.tree_pages <= 9 * WIDTH as u64);
    let reader = reader(&repository);
    let mut steps = 0;
    walk(&reader, &level[0], &mut |_, visit| {
        steps += 1;
        if let Visit::Unreadable(error) = &visit {
            assert!(error.is_damage());
        }
        Ok(Descend::Into)
    })
    .unwrap();
    assert!(steps < 20_000, "{steps}");
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

/// A piece list of eight levels that stands for more bytes than any file has.
#[test]
fn a_bomb_of_shared_pieces() {
    told(
        |w| {
            let blob = data(w, &[7; 1000]);
            let mut length_bytes = 1000 * 100;
            let mut list = page(w, &TreeBlob::Pieces(vec![Piece::Data { blob, length_bytes: 1000 }; 100]));
            for _ in 0..8 {
                list = page(w, &TreeBlob::PiecePages(vec![PiecePage { length_bytes, page: list }; 100]));
                length_bytes = length_bytes.saturating_mul(100);
            }
            one_file(w, length_bytes, Content::List(list))
        },
        "longer than any can be",
    );
}

/// Puts a pack with these frames, as they are said to be, and gives it.
fn put_pack(repository: &Arc<Repository>, frames: Vec<PackedFrame<'_>>) -> FinishedPack {
    let mut builder = PackBuilder::new(repository.keys(), BlobKind::Data, &SystemRuntime, Vec::new());
    for frame in frames {
        builder.add(frame).unwrap();
    }
    let pack = builder.finish().unwrap();
    repository.store().put(&ObjectName::new(Place::Data, pack.id), &pack.bytes).unwrap();
    pack
}

fn put_index(repository: &Arc<Repository>, pack: PackId, key: PackKey, size: usize, directory: &PackDirectory) {
    let mut builder = IndexBuilder::default();
    builder.add_pack(pack, key, u32::try_from(size).unwrap(), BlobKind::Data, directory);
    let run = builder.finish(repository.keys(), &SystemRuntime).unwrap();
    repository.store().put(&ObjectName::new(Place::Index, run.id), &run.bytes).unwrap();
}

fn commit_file(repository: &Arc<Repository>, blob: BlobId, length_bytes: usize) {
    let tree = TreeBlob::Entries(vec![file("f", length_bytes as u64, Content::Blob(blob))]);
    let session = session(repository);
    let (tree, _) = session.write_blob(BlobKind::Tree, &codec::encode(&tree)).unwrap();
    let body = check_fixture::snapshot(tree, totals(1, 0, length_bytes as u64), 1);
    session.commit(&body, &mut check_fixture::no_rescue).unwrap();
}

/// A frame that says to be short and would become very long, and the other way round.
#[test]
fn decompression_bombs() {
    let bomb = vec![0; 16 << 20];
    for (plain_bytes, blob_bytes) in [(1000, 1000), (16 << 20, 8 << 20), (5, 5)] {
        let store = MemoryStore::default();
        let repository = init(&store);
        let mut packed = Vec::new();
        let plain = if plain_bytes == 16 << 20 { &bomb[..100_000] } else { &bomb };
        assert_eq!(Compressor::new(Level::AUTO).compress(plain, &mut packed), Compression::Zstd);
        let id = repository.keys().blob_id(BlobKind::Data, &bomb[..blob_bytes]);
        let blobs = vec![PackBlob { id, length_bytes: blob_bytes as u32 }; plain_bytes / blob_bytes];
        let frame =
            PackedFrame { packed: &packed, compression: Compression::Zstd, plain_bytes: plain_bytes as u32, blobs };
        let pack = put_pack(&repository, vec![frame]);
        put_index(&repository, pack.id, pack.key, pack.bytes.len(), &pack.directory);
        commit_file(&repository, id, blob_bytes);
        let report = check_all(&repository);
        assert_eq!(report.broken_packs().count(), 1, "{:#?}", report.findings);
        assert_eq!(report.findings[0].suffering.total, 1);
        let failed = reader(&repository).read_blob(BlobKind::Data, &id, &mut Vec::new());
        assert!(failed.unwrap_err().is_damage());
    }
}

/// Makes a lie of a directory.
type Change = fn(&mut PackDirectory);

/// An index that lies about a sound pack: other blobs, overlapping ones, other frames, another salt, another size.
#[test]
fn an_index_that_lies() {
    let contents = [noise("one", 500), noise("two", 300)];
    let changes: [(&str, Change); 6] = [
        ("swapped", |directory| {
            let [a, b] = directory.frames[0].blobs[..] else { panic!("two blobs") };
            directory.frames[0].blobs = vec![PackBlob { id: b.id, ..a }, PackBlob { id: a.id, ..b }];
        }),
        ("one missing", |directory| {
            directory.frames[0].blobs.truncate(1);
        }),
        ("one too many", |directory| {
            directory.frames[0].blobs[1].length_bytes -= 1;
            directory.frames[0].blobs.push(PackBlob { id: BlobId([5; 32]), length_bytes: 1 });
        }),
        ("an empty one besides", |directory| {
            directory.frames[0].blobs.push(PackBlob { id: BlobId([5; 32]), length_bytes: 0 });
        }),
        ("shifted", |directory| {
            directory.frames[0].blobs[0].length_bytes += 10;
            directory.frames[0].blobs[1].length_bytes -= 10;
        }),
        ("another frame", |directory| {
            directory.frames[0].compression = Compression::Zstd;
        }),
    ];
    for (what, change) in changes {
        let store = MemoryStore::default();
        let repository = init(&store);
        let blobs: Vec<_> = contents
            .iter()
            .map(|bytes| PackBlob {
                id: repository.keys().blob_id(BlobKind::Data, bytes),
                length_bytes: bytes.len() as u32,
            })
            .collect();
        let plain = contents.concat();
        let frame =
            PackedFrame { packed: &plain, compression: Compression::Raw, plain_bytes: 800, blobs: blobs.clone() };
        let pack = put_pack(&repository, vec![frame]);
        let mut lie = pack.directory.clone();
        change(&mut lie);
        put_index(&repository, pack.id, pack.key, pack.bytes.len(), &lie);
        let report = check_all(&repository);
        assert_eq!(report.errors(), 1, "{what}: {:#?}", report.findings);
        let wrong = &report.findings[0];
        assert!(matches!(wrong.what, FindingKind::IndexWrong { .. }), "{what}: {wrong}");
        assert_eq!(wrong.object, ObjectName::new(Place::Data, pack.id).to_string());
        assert!(report.suggests_repair_index());
        let reader = reader(&repository);
        for (blob, expected) in blobs.iter().zip(&contents) {
            let mut bytes = Vec::new();
            if reader.read_blob(BlobKind::Data, &blob.id, &mut bytes).is_ok() {
                assert_eq!(&bytes, expected, "{what}");
            }
        }
        // A second run that tells the truth contradicts the first.
        put_index(&repository, pack.id, pack.key, pack.bytes.len(), &pack.directory);
        let report = check_with(&repository, ReadData::None);
        let contradicts =
            |finding: &Finding| matches!(&finding.what, FindingKind::IndexContradiction { runs } if runs.len() == 2);
        assert!(report.findings.iter().any(contradicts), "{what}: {:#?}", report.findings);
        // And blobs can be read by it.
        let reader = check_fixture::reader(&repository);
        if what != "another frame" {
            for (blob, expected) in blobs.iter().zip(&contents) {
                let mut bytes = Vec::new();
                reader.read_blob(BlobKind::Data, &blob.id, &mut bytes).unwrap();
                assert_eq!(&bytes, expected, "{what}");
            }
        }
    }
}

/// The index holds the beginnings of ids only. Two blobs may begin alike; readers go on until they have the right one, `check` holds
/// every blob against the whole id that its pack gives.
#[test]
fn two_blobs_whose_ids_begin_alike() {
    let wanted = noise("wanted", 500);
    // What lies under the other id: of another length, of the same, and even the same bytes.
    for other in [noise("other", 300), noise("other", 500), wanted.clone()] {
        for other_first in [true, false] {
            let store = MemoryStore::default();
            let repository = init(&store);
            let id = repository.keys().blob_id(BlobKind::Data, &wanted);
            let twin = BlobId(std::array::from_fn(|at| if at < 20 { id.0[at] } else { !id.0[at] }));
            let mut builder = IndexBuilder::default();
            let mut order = [(twin, &other), (id, &wanted)];
            if !other_first {
                order.reverse();
            }
            let mut packs = Vec::new();
            for (id, plain) in order {
                let length_bytes = plain.len() as u32;
                let blobs = vec![PackBlob { id, length_bytes }];
                let frame =
                    PackedFrame { packed: plain, compression: Compression::Raw, plain_bytes: length_bytes, blobs };
                let pack = put_pack(&repository, vec![frame]);
                builder.add_pack(pack.id, pack.key, pack.bytes.len() as u32, BlobKind::Data, &pack.directory);
                packs.push(pack.id);
            }
            let run = builder.finish(repository.keys(), &SystemRuntime).unwrap();
            repository.store().put(&ObjectName::new(Place::Index, run.id), &run.bytes).unwrap();
            commit_file(&repository, id, wanted.len());

            let reader = reader(&repository);
            let first = reader.locate(BlobKind::Data, &id).unwrap().unwrap().frame.pack;
            assert_eq!(first, packs[0], "the order of the packs decides");
            let mut bytes = Vec::new();
            reader.read_blob(BlobKind::Data, &id, &mut bytes).unwrap();
            assert_eq!(bytes, wanted);
            let error = reader.read_blob(BlobKind::Data, &twin, &mut bytes).unwrap_err();
            assert!(error.is_damage(), "neither of the two is it: {error}");

            let target = tempfile::tempdir().unwrap();
            let sink = LocalSink::new(target.path().join("t"), &LocalOptions::default()).unwrap();
            let tree = Listing::read(&repository).unwrap().snapshots[0].1.tree;
            let options = RestoreOptions { verify: true, ..RestoreOptions::default() };
            let report = restore(&reader, &tree, &sink, &Everything, &options, &Silent, &Cancel::default()).unwrap();
            assert!(report.problems.is_empty(), "{:?}", report.problems);
            assert_eq!(std::fs::read(target.path().join("t/f")).unwrap(), wanted);

            let report = check_all(&repository);
            assert_eq!(report.errors(), 1, "{:#?}", report.findings);
            let finding = &report.findings[0];
            assert!(matches!(finding.what, FindingKind::PackDamaged { lost_blobs: 1, .. }), "{finding}");
            let lying = packs[usize::from(!other_first)];
            assert_eq!(finding.object, ObjectName::new(Place::Data, lying).to_string());
            assert_eq!(finding.suffering.total, 0, "the file has a sound copy");
        }
    }
}

/// A pack whose own directory lies: the bytes in it are not those of the ids it gives.
#[test]
fn a_pack_that_lies() {
    let store = MemoryStore::default();
    let repository = init(&store);
    let plain = noise("lie", 600);
    let id = BlobId([3; 32]);
    let blobs = vec![PackBlob { id, length_bytes: 600 }];
    let frame = PackedFrame { packed: &plain, compression: Compression::Raw, plain_bytes: 600, blobs };
    let pack = put_pack(&repository, vec![frame]);
    put_index(&repository, pack.id, pack.key, pack.bytes.len(), &pack.directory);
    commit_file(&repository, id, 600);
    let report = check_all(&repository);
    assert_eq!(report.errors(), 1, "{:#?}", report.findings);
    let FindingKind::PackDamaged { blobs: 1, lost_blobs: 1, .. } = &report.findings[0].what else {
        panic!("{:#?}", report.findings)
    };
    assert_eq!(report.findings[0].suffering.paths[0].path, b"f");
    assert!(reader(&repository).read_blob(BlobKind::Data, &id, &mut Vec::new()).unwrap_err().is_damage());
}

/// Directories of packs with numbers that do not add up.
#[test]
fn directories_with_absurd_numbers() {
    let sound = PackFrame {
        stored_bytes: 616,
        plain_bytes: 600,
        compression: Compression::Raw,
        blobs: vec![PackBlob { id: BlobId([3; 32]), length_bytes: 600 }],
    };
    let absurd: [fn(&mut PackFrame); 5] = [
        |frame| frame.stored_bytes = u32::MAX,
        |frame| frame.stored_bytes = 3,
        |frame| frame.plain_bytes = u32::MAX,
        |frame| frame.blobs[0].length_bytes = 601,
        |frame| frame.blobs = vec![PackBlob { id: BlobId([3; 32]), length_bytes: u32::MAX }; 3],
    ];
    for change in absurd {
        let mut frame = sound.clone();
        change(&mut frame);
        let bytes = codec::encode(&PackDirectory { frames: vec![frame] });
        assert!(PackDirectory::decode(&bytes, 1 << 20, &"a pack").is_err());
    }
    let bytes = codec::encode(&PackDirectory { frames: vec![sound] });
    assert!(PackDirectory::decode(&bytes, 1 << 20, &"a pack").is_ok());
}

/// A damaged pack that has a sound copy elsewhere hurts nobody; one whose directory alone is damaged loses nothing.
#[test]
fn what_can_still_be_read_is_not_lost() {
    let small = small();
    // Everything a second time, in other packs.
    let again = session(&small.repository);
    let packs: Vec<_> = small.repository.list(Place::Data).unwrap();
    for ((tree, id), bytes) in &small.blobs {
        let kind = if *tree { BlobKind::Tree } else { BlobKind::Data };
        let mut writer = again.frame_writer(kind);
        writer.add(*id, bytes).unwrap();
        writer.flush().unwrap();
    }
    again.commit(&"no snapshot".to_string(), &mut check_fixture::no_rescue).unwrap();
    let before = check_all(&small.repository);
    let is_body = |finding: &&Finding| matches!(finding.what, FindingKind::SnapshotDamaged { .. });
    let strange = before.findings.iter().filter(is_body).count() as u64;
    assert_eq!(before.errors(), strange, "{:#?}", before.findings);
    for info in packs {
        let whole = small.store.bytes_of(&info.name).unwrap();
        let mut bytes = whole.to_vec();
        bytes[60] ^= 1;
        small.store.replace(&info.name, bytes);
        let report = check_all(&small.repository);
        assert_eq!(report.broken_packs().collect::<Vec<_>>(), [info.name.to_string()]);
        assert!(report.findings.iter().all(|finding| finding.suffering.total == 0), "{:#?}", report.findings);
        small.store.replace(&info.name, whole);
    }
}

#[test]
fn a_damaged_directory_loses_no_data() {
    let small = small();
    for info in small.repository.list(Place::Data).unwrap() {
        let whole = small.store.bytes_of(&info.name).unwrap();
        let mut bytes = whole.to_vec();
        // In the sealed part of the footer.
        let at = bytes.len() - 60;
        bytes[at] ^= 1;
        small.store.replace(&info.name, bytes);
        let report = check_all(&small.repository);
        let FindingKind::PackDamaged { lost_blobs: 0, blobs, .. } = report.findings[0].what else {
            panic!("{:#?}", report.findings)
        };
        assert!(blobs > 0 && report.findings[0].suffering.total == 0);
        assert!(report.findings[0].to_string().contains("can still be read"));
        small.store.replace(&info.name, whole);
    }
}

/// For every pack that is lost, exactly the paths that cannot be read are told.
#[test]
fn whom_it_hurts_is_exact() {
    let small = small();
    for info in small.repository.list(Place::Data).unwrap() {
        let whole = small.store.bytes_of(&info.name).unwrap();
        small.store.remove(&info.name);
        let reader = reader(&small.repository);
        let mut expected = BTreeSet::new();
        for id in &small.snapshots {
            let body = repo_core::snapshot::load(&small.repository, id).unwrap();
            walk(&reader, &body.tree, &mut |path, visit| {
                match visit {
                    Visit::Entry(Entry { node: node @ Node { kind: NodeKind::File { .. }, .. }, .. }) => {
                        let mut out = Vec::new();
                        if repo_core::dump::dump_file(&reader, node, &mut out, &Cancel::default()).is_err() {
                            expected.insert((*id, path.to_vec()));
                        }
                    }
                    Visit::Unreadable(_) => drop(expected.insert((*id, path.to_vec()))),
                    _ => {}
                }
                Ok(Descend::Into)
            })
            .unwrap();
        }
        for read_data in [ReadData::None, ReadData::All] {
            let report = check_with(&small.repository, read_data);
            let told: BTreeSet<_> = report
                .findings
                .iter()
                .flat_map(|finding| finding.suffering.paths.iter().map(|path| (path.snapshot, path.path.clone())))
                .collect();
            assert_eq!(told, expected, "{info:?}");
        }
        small.store.replace(&info.name, whole);
    }
}

/// All of this file once more in a process that cannot have more memory than so.
#[test]
#[cfg(target_os = "linux")]
fn again_within_192_mib() {
    let name = "again_within_192_mib";
    let this = std::env::current_exe().unwrap();
    let script = "ulimit -d 196608 && exec \"$0\" --test-threads 1 --skip \"$1\"";
    let output = std::process::Command::new("sh").args(["-c", script]).arg(this).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
