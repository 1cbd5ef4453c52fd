//! Dumps: what comes out is what went in, and a failure in the middle never looks like an end.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests")]

mod check_fixture;

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use check_fixture::{Writer, entry, init, noise, reader};
use repo_core::{
    blob::{BlobKind, BlobLocation, ReadBlobs},
    dump::{DumpReport, Format, TreeDump, dump_file, dump_tree},
    error::{Error, Result},
    id::BlobId,
    progress::{Cancel, Problem, Progress, Silent},
    repository::reader::BlobReader,
    store::memory::MemoryStore,
    time::Timestamp,
    tree::{
        name::{Bytes, Name},
        node::{Content, Device, Entry, HardLinks, NodeKind, Piece, Xattr},
    },
};

fn named(mut entry: Entry, change: impl FnOnce(&mut Entry)) -> Entry {
    change(&mut entry);
    entry
}

/// One of everything. `b-link` is another name of `b`.
fn everything(writer: &Writer) -> Vec<Entry> {
    let linked = |entry: &mut Entry| {
        entry.node.metadata.hard_links = Some(HardLinks { device: 1, count: 2 });
        entry.node.metadata.inode = 42;
    };
    let deep = {
        let name = "n".repeat(200);
        let file = writer.file("file", &noise("deep", 700), 300, 0);
        let inner = writer.directory_entry(&name, &[file]);
        writer.directory_entry(&name, &[inner])
    };
    let mut entries = vec![
        named(writer.file("a", b"plain", 100, 0), |a| {
            a.node.metadata.xattrs = vec![
                Xattr { name: Bytes::new(*b"user.a=b").unwrap(), value: Bytes::new(*b"1\0\t2\xff").unwrap() },
                Xattr { name: Bytes::new(*b"user.empty").unwrap(), value: Bytes::new(*b"").unwrap() },
            ];
            a.node.metadata.accessed = Some(Timestamp::new(-3, 250_000_000).unwrap());
        }),
        named(writer.file("b", &noise("b", 40_000), 1_000, 100_000), linked),
        named(writer.file("b-link", &noise("b", 40_000), 1_000, 100_000), linked),
        // The same numbers for another file.
        named(writer.file("b-other", b"another", 100, 0), linked),
        entry("block", NodeKind::BlockDevice { device: Device { major: 8, minor: 1 } }),
        entry("char", NodeKind::CharacterDevice { device: Device { major: u32::MAX, minor: 0xfffff } }),
        deep,
        writer.directory_entry("empty", &[]),
        entry("fifo", NodeKind::Fifo),
        entry("link", NodeKind::Symlink { target: Bytes::new("t".repeat(300).into_bytes()).unwrap() }),
        named(entry("old", NodeKind::File { size_bytes: 0, content: Content::Empty }), |old| {
            old.node.metadata.modified = Timestamp::new(-2, 500_000_000).unwrap();
            old.node.metadata.user = u32::MAX;
            old.node.metadata.group = 0o10_000_000;
        }),
        entry("socket", NodeKind::Socket),
        named(writer.file("z", b"bytes", 100, 0), |z| z.name = Name::new(*b"z\xff\xfe").unwrap()),
    ];
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

#[derive(Default)]
struct Problems(Mutex<Vec<Problem>>);

impl Progress for Problems {
    fn problem(&self, problem: &Problem) {
        self.0.lock().unwrap().push(problem.clone());
    }
}

struct Dumped {
    reader: BlobReader,
    tree: BlobId,
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Dumped {
    fn new(entries: impl FnOnce(&Writer) -> Vec<Entry>) -> Self {
        let store = MemoryStore::default();
        let repository = init(&store);
        let writer = Writer::new(&repository);
        let (tree, totals) = writer.directory(&entries(&writer));
        writer.commit_tree(tree, totals);
        let users = BTreeMap::from([(1000, "someone".to_owned())]);
        let groups = BTreeMap::from([(100, "g".repeat(40))]);
        Self { reader: reader(&repository), tree, users, groups }
    }

    fn dump(&self, reader: &dyn ReadBlobs, out: &mut dyn Write, progress: &dyn Progress) -> Result<DumpReport> {
        let dump = TreeDump { tree: self.tree, prefix: b"top", root: None, users: &self.users, groups: &self.groups };
        dump_tree(reader, &dump, Format::Tar, out, progress, &Cancel::default())
    }
}

/// An entry as it is in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Found {
    kind: u8,
    size: u64,
    link: Vec<u8>,
    content: Vec<u8>,
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn parse(archive: &[u8]) -> BTreeMap<Vec<u8>, Found> {
    let mut archive = tar::Archive::new(archive);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut pax = BTreeMap::new();
        if let Some(extensions) = entry.pax_extensions().unwrap() {
            for extension in extensions {
                let extension = extension.unwrap();
                pax.insert(extension.key_bytes().to_vec(), extension.value_bytes().to_vec());
            }
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let before = found.insert(
            entry.path_bytes().to_vec(),
            Found {
                kind: entry.header().entry_type().as_byte(),
                size: entry.size(),
                link: entry.link_name_bytes().unwrap_or_default().to_vec(),
                content,
                pax,
            },
        );
        assert!(before.is_none());
    }
    found
}

#[test]
fn an_archive_holds_everything() {
    let dumped = Dumped::new(everything);
    let mut archive = Vec::new();
    let problems = Problems::default();
    let report = dumped.dump(&dumped.reader, &mut archive, &problems).unwrap();
    assert_eq!(report.bytes, archive.len() as u64);
    assert_eq!(archive.len() % 512, 0);
    assert_eq!(archive[archive.len() - 1024..], [0; 1024]);
    assert_eq!(report.left_out, 1);
    let problems = problems.0.into_inner().unwrap();
    assert_eq!(problems.iter().map(|problem| problem.path.as_slice()).collect::<Vec<_>>(), [b"top/socket"]);

    let found = parse(&archive);
    assert_eq!(found.len() as u64, report.entries);
    assert!(!found.contains_key(&b"top/socket"[..]));
    let get = |path: &str| found.get(path.as_bytes()).unwrap_or_else(|| panic!("{path} in {:?}", found.keys()));
    let pax = |path: &str, key: &[u8]| get(path).pax.get(key).map(|value| String::from_utf8_lossy(value).into_owned());

    assert_eq!(get("top/a").content, b"plain");
    assert_eq!(get("top/a").pax[&b"SCHILY.xattr.user.a%3Db"[..]], b"1\0\t2\xff");
    assert_eq!(get("top/a").pax[&b"SCHILY.xattr.user.empty"[..]], b"");
    assert_eq!(pax("top/a", b"mtime").unwrap(), "1700000000.123456789");
    assert_eq!(pax("top/a", b"atime").unwrap(), "-2.75");
    assert_eq!(pax("top/a", b"gname").unwrap(), "g".repeat(40));
    let b = [noise("b", 40_000), vec![0; 100_000]].concat();
    assert!(get("top/b").content == b);
    assert_eq!((get("top/b-link").kind, get("top/b-link").link.as_slice()), (b'1', &b"top/b"[..]));
    assert_eq!((get("top/b-other").kind, get("top/b-other").content.as_slice()), (b'0', &b"another"[..]));
    assert_eq!(get("top/block").kind, b'4');
    assert_eq!(get("top/char").kind, b'3');
    assert_eq!(pax("top/char", b"SCHILY.devmajor").unwrap(), u32::MAX.to_string());
    assert_eq!(get("top/empty/").kind, b'5');
    assert_eq!(get("top/fifo").kind, b'6');
    assert_eq!((get("top/link").kind, get("top/link").link.len()), (b'2', 300));
    let long = "n".repeat(200);
    assert_eq!(get(&format!("top/{long}/{long}/file")).content, noise("deep", 700));
    assert_eq!(pax("top/old", b"mtime").unwrap(), "-1.5");
    assert_eq!(pax("top/old", b"uid").unwrap(), u32::MAX.to_string());
    assert_eq!(pax("top/old", b"gid").unwrap(), 0o10_000_000.to_string());
    assert_eq!(found[&b"top/z\xff\xfe"[..]].content, b"bytes");
    assert_eq!(found[&b"top/z\xff\xfe"[..]].pax[&b"hdrcharset"[..]], b"BINARY");
}

/// What GNU tar makes of it, where there is one.
#[test]
fn gnu_tar_reads_it() {
    let Ok(version) = std::process::Command::new("tar").arg("--version").output() else { return };
    if !version.stdout.starts_with(b"tar (GNU tar)") {
        return;
    }
    let dumped = Dumped::new(|writer| {
        let mut entries = everything(writer);
        // A value that a reader of lines stumbles over.
        let value = Bytes::new(*b"1\n9 x=y\n").unwrap();
        entries[0].node.metadata.xattrs = vec![Xattr { name: Bytes::new(*b"user.lines").unwrap(), value }];
        // Making devices needs root.
        entries.retain(|entry| {
            !matches!(entry.node.kind, NodeKind::BlockDevice { .. } | NodeKind::CharacterDevice { .. })
        });
        entries
    });
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive.tar");
    dumped.dump(&dumped.reader, &mut std::fs::File::create(&archive).unwrap(), &Silent).unwrap();
    let output = std::process::Command::new("tar")
        .args(["--no-same-owner", "-xf"])
        .arg(&archive)
        .arg("-C")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let top = folder.path().join("top");
    assert_eq!(std::fs::read(top.join("b-link")).unwrap(), [noise("b", 40_000), vec![0; 100_000]].concat());
    let long = "n".repeat(200);
    assert_eq!(std::fs::read(top.join(&long).join(&long).join("file")).unwrap(), noise("deep", 700));
    let modified = std::fs::metadata(top.join("a")).unwrap().modified().unwrap();
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!((since.as_secs(), since.subsec_nanos()), (1_700_000_000, 123_456_789));
    assert_eq!(std::fs::metadata(top.join("b")).unwrap().nlink(), 2);
    assert_eq!(std::fs::metadata(top.join("old")).unwrap().mtime(), -2);
}

/// Gives the first blobs and fails from then on.
struct Failing<'a> {
    reader: &'a BlobReader,
    left: AtomicUsize,
}

impl ReadBlobs for Failing<'_> {
    fn read_blob(&self, kind: BlobKind, id: &BlobId, into: &mut Vec<u8>) -> Result<()> {
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            return Err(Error::MissingBlob { kind, id: *id });
        }
        self.reader.read_blob(kind, id, into)
    }

    fn locate(&self, kind: BlobKind, id: &BlobId) -> Result<Option<BlobLocation>> {
        self.reader.locate(kind, id)
    }
}

#[test]
fn whatever_fails_there_is_an_error_and_a_prefix() {
    let dumped = Dumped::new(everything);
    let mut whole = Vec::new();
    dumped.dump(&dumped.reader, &mut whole, &Silent).unwrap();
    let mut failures = 0;
    loop {
        let failing = Failing { reader: &dumped.reader, left: AtomicUsize::new(failures) };
        let mut out = Vec::new();
        let result = dumped.dump(&failing, &mut out, &Silent);
        assert!(whole.starts_with(&out), "after {failures} blobs");
        if result.is_ok() {
            assert_eq!(out, whole);
            break;
        }
        assert!(out.len() < whole.len() - 1024, "an end marker after {failures} blobs");
        failures += 1;
    }
    assert!(failures > 50, "{failures}");
}

/// Takes so many bytes.
struct Narrow(usize);

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_fails_is_told() {
    let dumped = Dumped::new(everything);
    let mut whole = Vec::new();
    dumped.dump(&dumped.reader, &mut whole, &Silent).unwrap();
    for room in (0..whole.len()).step_by(4_999) {
        let result = dumped.dump(&dumped.reader, &mut Narrow(room), &Silent);
        let Err(Error::Io { source, .. }) = result else { panic!("{result:?}") };
        assert_eq!(source.kind(), io::ErrorKind::BrokenPipe);
    }
}

/// Keeps the beginning and counts the rest.
#[derive(Default)]
struct Counting {
    beginning: Vec<u8>,
    bytes: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = 4096_usize.saturating_sub(self.beginning.len()).min(bytes.len());
        self.beginning.extend_from_slice(&bytes[..room]);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn large_files_have_their_size() {
    let size: u64 = (8 << 30) + 5;
    let dumped = Dumped::new(|writer| vec![writer.file("large", b"begin", 10, size - 5)]);
    let mut out = Counting::default();
    let report = dumped.dump(&dumped.reader, &mut out, &Silent).unwrap();
    assert_eq!(report.bytes, out.bytes);
    assert_eq!(out.bytes, 1024 + 512 + size.next_multiple_of(512) + 1024);
    let mut archive = tar::Archive::new(out.beginning.as_slice());
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.size(), size);
}

#[test]
fn files_alone() {
    let dumped = Dumped::new(everything);
    let store = MemoryStore::default();
    let repository = init(&store);
    let writer = Writer::new(&repository);
    let (blob, _) = repo_core::blob::WriteBlobs::write_blob(&writer, BlobKind::Data, b"12345").unwrap();
    let file = writer.file("x", &noise("x", 300_000), 700, 1 << 20);
    let wrong = entry("wrong", NodeKind::File { size_bytes: 6, content: Content::Blob(blob) });
    let short = Content::Pieces(vec![Piece::Data { blob, length_bytes: 5 }, Piece::Hole { length_bytes: 3 }]);
    let short = entry("short", NodeKind::File { size_bytes: 9, content: short });
    writer.commit(std::slice::from_ref(&file), 1);
    let reader = reader(&repository);
    let mut out = Vec::new();
    dump_file(&reader, &file.node, &mut out, &Cancel::default()).unwrap();
    assert!(out == [noise("x", 300_000), vec![0; 1 << 20]].concat());
    for bad in [&wrong, &short] {
        assert!(dump_file(&reader, &bad.node, &mut Vec::new(), &Cancel::default()).is_err(), "{bad:?}");
    }
    let fifo = entry("fifo", NodeKind::Fifo);
    assert!(dump_file(&dumped.reader, &fifo.node, &mut Vec::new(), &Cancel::default()).is_err());
    let cancelled = Cancel::default();
    cancelled.cancel();
    assert!(matches!(dump_file(&reader, &file.node, &mut Vec::new(), &cancelled), Err(Error::Cancelled)));
}
