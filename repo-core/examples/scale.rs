//! Backups that are too large for a test: how much time and memory they take.
//!
//! ```text
//! scale files <directories> <files in each> [<bytes of each>]   small files that exist nowhere, into memory-less storage
//! scale stream <gibibytes>                                      one long stream of bytes that do not repeat
//! scale repository <path> <directories> <files in each>         a repository to try commands on: one snapshot of all these files, one
//!                                                               of half of the directories; its password is x
//! ```
//!
//! Run it under `/usr/bin/time -v`; it also tells the peak memory itself. What is stored is hashed by the store and thrown away, but
//! for the index, trees and small objects, which a second, unchanged backup needs; it follows on the first one of files.

use std::{
    collections::BTreeMap,
    io::Read,
    sync::{Arc, Mutex},
    time::Instant,
};

use repo_core::{
    backup::{BackupOptions, Parent, backup},
    cache::{Cache, Scope},
    crypto::kdf::KdfCost,
    error::StoreError,
    hand_on,
    progress::{Cancel, Silent},
    repository::{InitOptions, Repository, config::Parameters},
    runtime::SystemRuntime,
    source::{
        Directory, FileReader, FileType, OwnerNames, Part, Source, SourceError, Stat,
        stream::{StreamOptions, StreamSource},
    },
    store::{ObjectInfo, ObjectName, Place, Store, local::LocalStore},
    time::Timestamp,
    tree::{
        name::Name,
        node::{Device, Mode, Xattr},
    },
};

/// Keeps everything but packs of data on disk, and of those only the sizes.
struct Forgetful {
    disk: LocalStore,
    packs: Mutex<BTreeMap<ObjectName, u64>>,
}

/// Where a pack tells of what its blobs are.
const KIND_BYTE: usize = 10;

impl Store for Forgetful {
    hand_on!(self.disk: create, get, stat, delete, abilities, location);

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
        if name.place() == Place::Data && bytes.len() > KIND_BYTE && bytes[KIND_BYTE] == data_kind() {
            self.packs.lock().expect("no panic").insert(*name, bytes.len() as u64);
            return Ok(());
        }
        self.disk.put(name, bytes)
    }
    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        if place == Place::Data {
            for (name, size_bytes) in self.packs.lock().expect("no panic").iter() {
                visit(ObjectInfo { name: *name, size_bytes: *size_bytes, modified: None });
            }
        }
        self.disk.list(place, visit)
    }
}

/// The number of a pack of data.
const fn data_kind() -> u8 {
    repo_core::crypto::keys::ObjectKind::pack(repo_core::blob::BlobKind::Data) as u8
}

const TIME: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn stat(file_type: FileType, inode: u64, size_bytes: u64) -> Stat {
    Stat {
        file_type,
        size_bytes,
        sparse: false,
        mode: Mode::from_bits(0o644),
        user: 0,
        group: 0,
        modified: TIME,
        changed: TIME,
        accessed: TIME,
        inode,
        device: 1,
        links: 1,
        special: Device { major: 0, minor: 0 },
    }
}

/// Directories of files that are made up as they are read.
#[derive(Clone, Copy)]
struct MadeUp {
    directories: u64,
    files: u64,
    bytes: u64,
}

struct MadeUpDirectory {
    all: MadeUp,
    /// Its number, or none for the root.
    number: Option<u64>,
}

struct MadeUpFile {
    stat: Stat,
    left: bool,
}

fn number(name: &Name) -> u64 {
    std::str::from_utf8(name.as_bytes()).ok().and_then(|name| name[4..].parse().ok()).expect("we made it")
}

fn names(what: &str, count: u64) -> Vec<Name> {
    (0..count).map(|number| Name::new(format!("{what}{number:09}").into_bytes()).expect("short")).collect()
}

impl Source for MadeUp {
    fn root(&self) -> Result<Arc<dyn Directory>, SourceError> {
        Ok(Arc::new(MadeUpDirectory { all: *self, number: (self.directories == 1).then_some(0) }))
    }
    fn targets(&self) -> Vec<String> {
        vec!["/made/up".into()]
    }
    fn paths(&self) -> Vec<String> {
        vec!["/made/up".into()]
    }
    fn owner_names(&self, _users: &[u32], _groups: &[u32]) -> OwnerNames {
        OwnerNames::default()
    }
    fn finish(&self) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Directory for MadeUpDirectory {
    fn stat(&self) -> Stat {
        stat(FileType::Directory, 1 << 40 | self.number.unwrap_or(1 << 30), 0)
    }
    fn own_xattrs(&self) -> Result<Vec<Xattr>, SourceError> {
        Ok(Vec::new())
    }
    fn names(&self) -> Result<Vec<Name>, SourceError> {
        Ok(if self.number.is_some() { names("file", self.all.files) } else { names("dir-", self.all.directories) })
    }
    fn entry(&self, name: &Name) -> Result<Option<Stat>, SourceError> {
        Ok(Some(match self.number {
            Some(directory) => stat(FileType::File, directory * self.all.files + number(name) + 1, self.all.bytes),
            None => stat(FileType::Directory, 1 << 40 | number(name), 0),
        }))
    }
    fn directory(&self, name: &Name) -> Result<Arc<dyn Directory>, SourceError> {
        Ok(Arc::new(Self { all: self.all, number: Some(number(name)) }))
    }
    fn file(&self, _name: &Name, expected: &Stat) -> Result<Box<dyn FileReader>, SourceError> {
        Ok(Box::new(MadeUpFile { stat: *expected, left: true }))
    }
    fn link_target(&self, _name: &Name) -> Result<Vec<u8>, SourceError> {
        Ok(Vec::new())
    }
    fn xattrs(&self, _name: &Name) -> Result<Vec<Xattr>, SourceError> {
        Ok(Vec::new())
    }
    fn path_of(&self, name: &Name) -> Vec<u8> {
        name.as_bytes().to_vec()
    }
}

impl FileReader for MadeUpFile {
    fn read(&mut self, _most_bytes: usize, into: &mut Vec<u8>) -> Result<Part, SourceError> {
        if !std::mem::take(&mut self.left) || self.stat.size_bytes == 0 {
            return Ok(Part::End);
        }
        let length = usize::try_from(self.stat.size_bytes).expect("small files");
        let start = into.len();
        into.resize(start + length, b'x');
        let unique = self.stat.inode.to_le_bytes();
        let unique = &unique[..length.min(8)];
        into[start..start + unique.len()].copy_from_slice(unique);
        Ok(Part::Data(length))
    }
    fn finish(&mut self) -> Result<(Stat, Vec<Xattr>), SourceError> {
        Ok((self.stat, Vec::new()))
    }
}

/// Bytes that do not repeat, fast.
struct Noise {
    left: u64,
    state: u64,
}

impl Read for Noise {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for part in into[..length].chunks_mut(8) {
            // SplitMix64 (Steele, Lea, Flood 2014).
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.state;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            part.copy_from_slice(&(word ^ word >> 31).to_le_bytes()[..part.len()]);
        }
        self.left -= length as u64;
        Ok(length)
    }
}

fn options(parent: Parent) -> BackupOptions {
    BackupOptions { label: Some("scale".into()), parent, ..BackupOptions::new("host", "user", "scale") }
}

/// Peak memory of this process in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for people")]
fn run(repository: &Arc<Repository>, source: &dyn Source, what: &str) {
    let start = Instant::now();
    let report = backup(repository, source, &options(Parent::Newest), &Silent, &Cancel::default()).expect("no faults");
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(report.problem_count, 0, "{:?}", report.problems);
    println!(
        "{what}: {seconds:.1} s, {} files ({:.1} us each), {} MiB ({:.0} MiB/s), {} data and {} tree blobs, peak {} MiB",
        report.totals.files,
        seconds * 1e6 / (report.totals.files as f64),
        report.totals.bytes >> 20,
        (report.totals.bytes >> 20) as f64 / seconds,
        report.added.data_blobs,
        report.added.tree_blobs,
        peak_mib(),
    );
}

fn main() {
    let (switches, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let number = |position: usize| arguments.get(position).and_then(|argument| argument.parse::<u64>().ok());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store: Arc<dyn Store> = match (arguments.first().map(String::as_str), arguments.get(1)) {
        (Some("repository"), Some(path)) => Arc::new(LocalStore::new(path)),
        _ => Arc::new(Forgetful { disk: LocalStore::new(folder.path().join("repository")), packs: Mutex::default() }),
    };
    let init = InitOptions {
        password: b"x",
        host: "host".into(),
        user: "user".into(),
        kdf_cost: KdfCost::TEST,
        parameters: Parameters::default(),
    };
    let mut repository = Repository::init(store, Arc::new(SystemRuntime), &init).expect("it is new");
    if switches.is_empty() {
        let base = folder.path().join("cache");
        let cache = Cache::new(&base, repository.keys(), Arc::new(SystemRuntime), Scope::LargeTables, 4 << 30);
        repository.attach_cache(Arc::new(cache));
    }
    let repository = Arc::new(repository);
    match arguments.first().map(String::as_str) {
        Some("files") => {
            let source = MadeUp {
                directories: number(1).unwrap_or(1000),
                files: number(2).unwrap_or(1000),
                bytes: number(3).unwrap_or(100),
            };
            run(&repository, &source, "first");
            run(&repository, &source, "unchanged");
        }
        Some("repository") => {
            let all = MadeUp { directories: number(2).unwrap_or(1000), files: number(3).unwrap_or(1000), bytes: 40 };
            run(&repository, &all, "all");
            run(&repository, &MadeUp { directories: all.directories / 2, ..all }, "half");
        }
        Some("stream") => {
            let left = number(1).unwrap_or(20) << 30;
            let stream = StreamOptions { path: "stream".into(), user: 0, group: 0, time: TIME, named: None };
            let content = Box::new(Noise { left, state: 1 });
            let source = StreamSource::new(stream, content, Box::new(|| Ok(()))).expect("a good name");
            run(&repository, &source, "stream");
        }
        _ => panic!(
            "scale files <directories> <files in each> [<bytes>] | stream <gibibytes> | repository <path> <directories> <files in each>"
        ),
    }
}
