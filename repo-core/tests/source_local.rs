//! The source of local files against real file systems: everything a directory can hold, targets of every form, rules,
//! and files that change while somebody looks at them.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which stop where something fails")]

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, File, Permissions},
    io::{Seek, SeekFrom, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use proptest::prelude::*;
use repo_core::{
    source::{
        Directory, FileReader, FileType, Part, Severity, Source, SourceError, Stat, files_from,
        local::{LocalOptions, LocalSource, Target},
    },
    tree::name::Name,
};
use rustix::fs::{CWD, Mode, XattrFlags, makedev, mknodat, setxattr};
use tempfile::TempDir;

/// What a walk finds, by path in the tree.
#[derive(Default)]
struct Seen {
    entries: BTreeMap<Vec<u8>, Stat>,
    errors: Vec<SourceError>,
}

impl Seen {
    fn paths(&self) -> Vec<String> {
        self.entries.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    fn get(&self, path: &str) -> &Stat {
        &self.entries[path.as_bytes()]
    }
}

/// Walks everything, one directory open at a time and its children after it.
fn walk(source: &LocalSource) -> Seen {
    let mut seen = Seen::default();
    let root = source.root().unwrap();
    let mut waiting: Vec<(Vec<u8>, Arc<dyn Directory>)> = vec![(Vec::new(), root)];
    while let Some((path, directory)) = waiting.pop() {
        let names = match directory.names() {
            Ok(names) => names,
            Err(error) => {
                seen.errors.push(error);
                continue;
            }
        };
        assert!(names.is_sorted_by(|one, other| one < other), "{names:?}");
        for name in names {
            let path =
                if path.is_empty() { name.as_bytes().to_vec() } else { [&path, &b"/"[..], name.as_bytes()].concat() };
            match directory.entry(&name) {
                Ok(Some(stat)) => {
                    if stat.file_type == FileType::Directory {
                        match directory.directory(&name) {
                            Ok(child) => waiting.push((path.clone(), child)),
                            Err(error) => seen.errors.push(error),
                        }
                    }
                    seen.entries.insert(path, stat);
                }
                Ok(None) => {}
                Err(error) => seen.errors.push(error),
            }
        }
    }
    seen.errors.extend(source.problems());
    seen
}

fn named(targets: &[&str]) -> Vec<Target> {
    targets.iter().map(Target::named).collect()
}

/// A source of targets relative to `at`, which may be changed by `adjust`.
fn source(at: &Path, targets: &[&str], adjust: impl FnOnce(&mut LocalOptions)) -> LocalSource {
    let mut options = LocalOptions::new(at);
    adjust(&mut options);
    LocalSource::new(&named(targets), options).unwrap()
}

fn here(at: &Path) -> LocalSource {
    source(at, &["."], |_| {})
}

/// Makes files (with their path as content), and directories for what ends with a slash.
fn tree(paths: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in paths {
        let full = dir.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, path).unwrap();
        }
    }
    dir
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn open(directory: &dyn Directory, text: &str) -> (Stat, Box<dyn FileReader>) {
    let stat = directory.entry(&name(text)).unwrap().unwrap();
    let file = directory.file(&name(text), &stat).unwrap();
    (stat, file)
}

/// Positions and lengths.
type Holes = Vec<(u64, u64)>;

/// Reads a file to its end; holes become zeros, and are told of as well.
fn read_all(file: &mut dyn FileReader, most_bytes: usize) -> Result<(Vec<u8>, Holes), SourceError> {
    let (mut content, mut holes) = (Vec::new(), Vec::new());
    let mut buffer = Vec::with_capacity(most_bytes.min(100_000));
    loop {
        if buffer.len() > 50_000 {
            buffer.clear();
        }
        let length = buffer.len();
        match file.read(most_bytes, &mut buffer)? {
            Part::Data(count) => {
                assert!(count > 0 && count <= most_bytes);
                assert_eq!(buffer.len(), length + count);
                content.extend_from_slice(&buffer[length..]);
            }
            Part::Hole(count) => {
                assert!(count > 0);
                assert_eq!(buffer.len(), length);
                let at = content.len() as u64;
                assert!(holes.last().is_none_or(|&(from, count)| from + count < at), "holes are not merged");
                holes.push((at, count));
                content.resize(content.len() + usize::try_from(count).unwrap(), 0);
            }
            Part::End => {
                assert_eq!(buffer.len(), length);
                assert_eq!(file.read(most_bytes, &mut buffer)?, Part::End);
                return Ok((content, holes));
            }
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs something as a user who may not do everything. Only this thread becomes that user.
fn as_nobody(run: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if is_root() {
                let nobody = rustix::process::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            run();
        });
    });
}

#[test]
fn every_kind_of_entry() {
    let dir = tree(&["file", "dir/inner"]);
    let at = |name: &str| dir.path().join(name);
    fs::set_permissions(at("file"), Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(at("file"), at("other name")).unwrap();
    symlink("no/where", at("link")).unwrap();
    mknodat(CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH - std::time::Duration::new(1, 750_000_000));
    File::open(at("dir/inner")).unwrap().set_times(times).unwrap();
    let odd = OsString::from_vec(b"\xff\xfe\n".to_vec());
    fs::write(dir.path().join(&odd), "odd").unwrap();
    fs::write(at(&"x".repeat(255)), "long").unwrap();

    let source = here(dir.path());
    let seen = walk(&source);
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert_eq!(seen.entries.len(), 9);

    let file = seen.get("file");
    let real = fs::symlink_metadata(at("file")).unwrap();
    assert_eq!((file.file_type, file.size_bytes, file.mode.bits(), file.links), (FileType::File, 4, 0o4751, 2));
    assert_eq!((file.inode, file.device, file.user, file.group), (real.ino(), real.dev(), real.uid(), real.gid()));
    assert_eq!((file.modified.seconds(), i64::from(file.modified.nanoseconds())), (real.mtime(), real.mtime_nsec()));
    assert_eq!((file.changed.seconds(), i64::from(file.changed.nanoseconds())), (real.ctime(), real.ctime_nsec()));
    assert_eq!(seen.get("other name").inode, file.inode);
    let inner = seen.get("dir/inner");
    assert_eq!((inner.modified.seconds(), inner.modified.nanoseconds()), (-2, 250_000_000));
    assert_eq!(seen.get("link").file_type, FileType::Symlink);
    assert_eq!(seen.get("fifo").file_type, FileType::Fifo);
    assert_eq!(seen.get("fifo").size_bytes, 0);
    assert_eq!(seen.get("socket").file_type, FileType::Socket);
    assert_eq!(seen.get("dir").file_type, FileType::Directory);

    let root = source.root().unwrap();
    assert_eq!(root.stat().inode, fs::metadata(dir.path()).unwrap().ino());
    assert_eq!(root.link_target(&name("link")).unwrap(), b"no/where");
    assert_eq!(root.path_of(&name("link")), at("link").as_os_str().as_bytes());
    let (_, mut odd) = (0, root.file(&Name::new(odd.as_bytes()).unwrap(), file).unwrap());
    assert_eq!(read_all(&mut *odd, 100).unwrap().0, b"odd");
    let (_, mut reader) = open(&*root, "file");
    assert_eq!(read_all(&mut *reader, 100).unwrap().0, b"file");
    assert_eq!(reader.finish().unwrap(), (*file, vec![]));

    // Listing a second time is as good as the first.
    assert_eq!(root.names().unwrap(), root.names().unwrap());
    assert_eq!(root.names().unwrap().len(), 8);
}

#[test]
fn devices() {
    if !is_root() {
        println!("skipped: only the super-user makes devices");
        return;
    }
    let dir = tree(&["file"]);
    let at = |name: &str| dir.path().join(name);
    mknodat(CWD, at("null"), rustix::fs::FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 3)).unwrap();
    mknodat(CWD, at("disk"), rustix::fs::FileType::BlockDevice, Mode::from_raw_mode(0o600), makedev(7, 4000)).unwrap();
    let source = here(dir.path());
    let seen = walk(&source);
    let null = seen.get("null");
    assert_eq!((null.file_type, null.special.major, null.special.minor), (FileType::CharacterDevice, 1, 3));
    let disk = seen.get("disk");
    assert_eq!((disk.file_type, disk.special.major, disk.special.minor), (FileType::BlockDevice, 7, 4000));

    // Taken for a file by somebody who looked too early: an endless one must not be read to its end.
    mknodat(CWD, at("zero"), rustix::fs::FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 5)).unwrap();
    let root = source.root().unwrap();
    for device in ["null", "zero"] {
        let mut reader = root.file(&name(device), seen.get("file")).unwrap();
        let error = read_all(&mut *reader, 1000).and_then(|_| reader.finish()).unwrap_err();
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}

#[test]
fn extended_attributes() {
    let dir = tree(&["file", "dir/x", "plain"]);
    let at = |name: &str| dir.path().join(name);
    let set = |path: &Path, key: &str, value: &[u8]| setxattr(path, key, value, XattrFlags::empty());
    if set(&at("file"), "user.z", b"last").is_err() {
        println!("skipped: no extended attributes here");
        return;
    }
    let large = vec![7; 3000];
    set(&at("file"), "user.empty", b"").unwrap();
    set(&at("file"), "user.a", &large).unwrap();
    set(&at("dir"), "user.dir", b"\0\xff").unwrap();
    set(dir.path(), "user.root", b"r").unwrap();
    symlink("file", at("link")).unwrap();
    mknodat(CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();

    let source = here(dir.path());
    let root = source.root().unwrap();
    let text = |xattrs: Vec<repo_core::tree::node::Xattr>| -> Vec<(String, Vec<u8>)> {
        let text = |xattr: repo_core::tree::node::Xattr| {
            (String::from_utf8(xattr.name.as_bytes().to_vec()).unwrap(), xattr.value.as_bytes().to_vec())
        };
        xattrs.into_iter().map(text).filter(|(name, _)| name != "security.selinux").collect()
    };
    let of_file = |name: &str| text(open(&*root, name).1.finish().unwrap().1);
    let want = [("user.a".to_owned(), large), ("user.empty".into(), vec![]), ("user.z".into(), b"last".to_vec())];
    assert_eq!(of_file("file"), want);
    assert_eq!(of_file("plain"), []);
    assert_eq!(text(root.own_xattrs().unwrap()), [("user.root".to_owned(), b"r".to_vec())]);
    let inner = root.directory(&name("dir")).unwrap();
    assert_eq!(text(inner.own_xattrs().unwrap()), [("user.dir".to_owned(), vec![0, 0xff])]);
    assert_eq!(text(root.xattrs(&name("dir")).unwrap()).len(), 1);
    assert_eq!(text(root.xattrs(&name("link")).unwrap()), [], "those of the link, not of the file it leads to");
    assert_eq!(text(root.xattrs(&name("fifo")).unwrap()), []);
    if is_root() {
        rustix::fs::lsetxattr(at("link"), "trusted.t", b"t", XattrFlags::empty()).unwrap();
        assert_eq!(text(root.xattrs(&name("link")).unwrap()), [("trusted.t".to_owned(), b"t".to_vec())]);
    }

    // A directory that is only passed on the way has them, too.
    let below = self::source(dir.path(), &["dir/x"], |_| {});
    let passed = below.root().unwrap().directory(&name("dir")).unwrap();
    assert_eq!(text(passed.own_xattrs().unwrap()).len(), 1);

    // So many names that the first buffer does not take them.
    let many = "n".repeat(200);
    let mut count = 0;
    while count < 8 && set(&at("plain"), &format!("user.{many}{count}"), b"v").is_ok() {
        count += 1;
    }
    assert_eq!(of_file("plain").len(), count);
    assert!(source.problems().is_empty());
}

/// Every arrangement of data and holes in seven blocks, read in pieces of several sizes, on every file system at hand.
#[test]
fn holes() {
    const BLOCK: usize = 64 << 10;
    let places = [Some(tempfile::tempdir().unwrap()), TempDir::new_in("/dev/shm").ok()];
    for dir in places.iter().flatten() {
        let source = here(dir.path());
        for layout in 0_u32..128 {
            let path = dir.path().join("sparse");
            let mut file = File::create(&path).unwrap();
            file.set_len(7 * BLOCK as u64).unwrap();
            let mut want = vec![0; 7 * BLOCK];
            for block in (0..7).filter(|block| layout & (1 << block) != 0) {
                let data = vec![u8::try_from(block).unwrap() + 1; BLOCK];
                want[block * BLOCK..(block + 1) * BLOCK].copy_from_slice(&data);
                file.seek(SeekFrom::Start((block * BLOCK) as u64)).unwrap();
                file.write_all(&data).unwrap();
            }
            drop(file);
            let root = source.root().unwrap();
            for most_bytes in [1000 * 1000, 4096 * 3, 50_000] {
                let (stat, mut reader) = open(&*root, "sparse");
                assert_eq!(stat.sparse, layout != 127, "{layout:07b}");
                let (content, holes) = read_all(&mut *reader, most_bytes).unwrap();
                assert!(content == want, "{layout:07b}");
                let hole_bytes: u64 = holes.iter().map(|(_, count)| count).sum();
                assert_eq!(hole_bytes, u64::from(7 - layout.count_ones()) * BLOCK as u64, "{layout:07b} {holes:?}");
                assert_eq!(reader.finish().unwrap().0, stat);
            }
        }
    }
}

#[test]
fn a_file_of_any_length_at_any_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let source = here(dir.path());
    let root = source.root().unwrap();
    for length in [0, 1, 2, 99, 100, 101, 199, 200, 201, 1000] {
        let content: Vec<u8> = (0..length).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
        fs::write(dir.path().join("f"), &content).unwrap();
        for most_bytes in [1, 7, 100, 1 << 20] {
            let (stat, mut reader) = open(&*root, "f");
            assert_eq!(read_all(&mut *reader, most_bytes).unwrap(), (content.clone(), vec![]));
            assert_eq!(reader.finish().unwrap().0, stat);
        }
    }
}

/// Counts the calls that read, as the kernel does.
#[test]
fn a_small_file_takes_one_read() {
    let calls = || -> u64 {
        let text = fs::read_to_string("/proc/thread-self/io").unwrap();
        text.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), [1; 5000]).unwrap();
    let source = here(dir.path());
    let root = source.root().unwrap();
    let (first, second) = (calls(), calls());
    let (_, mut reader) = open(&*root, "f");
    let mut buffer = Vec::with_capacity(1 << 20);
    assert_eq!(reader.read(1 << 20, &mut buffer).unwrap(), Part::Data(5000));
    assert_eq!(reader.read(1 << 20, &mut buffer).unwrap(), Part::End);
    assert_eq!(calls() - second, second - first + 1);
    assert_eq!(buffer.capacity(), 1 << 20);
}

#[test]
fn what_changes_between_two_looks() {
    let dir = tree(&["a", "b", "c", "d", "e", "f/x", "g/x", "h/x", "grows", "shrinks", "secret", "others/x"]);
    symlink("x", dir.path().join("link")).unwrap();
    let at = |name: &str| dir.path().join(name);
    let source = here(dir.path());
    let root = source.root().unwrap();
    let stats: BTreeMap<_, _> =
        root.names().unwrap().into_iter().map(|name| (name.clone(), root.entry(&name).unwrap().unwrap())).collect();
    let file = |text: &str| root.file(&name(text), &stats[&name(text)]);

    fs::remove_file(at("a")).unwrap();
    assert_eq!(file("a").err().unwrap().severity, Severity::Vanished);
    assert_eq!(root.entry(&name("a")).unwrap_err().severity, Severity::Vanished);

    fs::remove_file(at("b")).unwrap();
    symlink("secret", at("b")).unwrap();
    let error = file("b").err().unwrap();
    assert_eq!(error.severity, Severity::Entry);
    assert!(error.to_string().contains("replaced"), "{error}");

    // A pipe: opening does not wait, and what somebody else is to read from it stays there.
    fs::remove_file(at("c")).unwrap();
    mknodat(CWD, at("c"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let mut pipe = File::options().read(true).write(true).open(at("c")).unwrap();
    pipe.write_all(b"for somebody else").unwrap();
    let error = file("c").and_then(|mut file| read_all(&mut *file, 100)).unwrap_err();
    assert_eq!(error.severity, Severity::Entry);
    assert!(error.to_string().contains("no regular file"), "{error}");
    let mut rest = [0; 17];
    std::io::Read::read_exact(&mut pipe, &mut rest).unwrap();
    assert_eq!(&rest, b"for somebody else");

    // A directory, a socket.
    fs::remove_file(at("d")).unwrap();
    fs::create_dir(at("d")).unwrap();
    let error = file("d").and_then(|mut file| read_all(&mut *file, 100)).unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
    fs::remove_file(at("e")).unwrap();
    let _socket = UnixListener::bind(at("e")).unwrap();
    assert!(file("e").err().unwrap().to_string().contains("no regular file"));

    // Directories: gone, a file, a link to another directory.
    fs::remove_dir_all(at("f")).unwrap();
    assert_eq!(root.directory(&name("f")).err().unwrap().severity, Severity::Vanished);
    fs::remove_dir_all(at("g")).unwrap();
    fs::write(at("g"), "").unwrap();
    assert_eq!(root.directory(&name("g")).err().unwrap().severity, Severity::Entry);
    fs::remove_dir_all(at("h")).unwrap();
    symlink("others", at("h")).unwrap();
    let error = root.directory(&name("h")).err().unwrap();
    assert!(error.to_string().contains("replaced"), "{error}");
    // One that is removed while it is open has nothing in it any more.
    let open = root.directory(&name("others")).unwrap();
    fs::remove_dir_all(at("others")).unwrap();
    match open.names() {
        Ok(names) => assert!(names.is_empty()),
        Err(error) => assert_eq!(error.severity, Severity::Vanished),
    }

    fs::remove_file(at("link")).unwrap();
    fs::write(at("link"), "").unwrap();
    assert!(root.link_target(&name("link")).unwrap_err().to_string().contains("replaced"));

    // Other lengths: what is there is read, and the end tells.
    fs::write(at("grows"), vec![1; 10_000]).unwrap();
    let mut reader = file("grows").unwrap();
    assert_eq!(read_all(&mut *reader, 3000).unwrap().0.len(), 10_000);
    assert_eq!(reader.finish().unwrap().0.size_bytes, 10_000);
    fs::write(at("shrinks"), "s").unwrap();
    let mut reader = file("shrinks").unwrap();
    assert_eq!(read_all(&mut *reader, 3000).unwrap().0.len(), 1);
    assert_eq!(reader.finish().unwrap().0.size_bytes, 1);
}

/// While somebody keeps replacing an entry by other things, only the content of the file is ever read.
#[test]
fn a_race_for_every_look() {
    let dir = tree(&["keep/file", "keep/secret"]);
    let at = |name: &str| dir.path().join(name);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                let next = at("next");
                match turn % 4 {
                    0 => fs::hard_link(at("keep/file"), &next).unwrap(),
                    1 => symlink("keep/secret", &next).unwrap(),
                    2 => mknodat(CWD, &next, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
                    _ => drop(UnixListener::bind(&next).unwrap()),
                }
                fs::rename(&next, at("entry")).unwrap();
                turn += 1;
            }
        });
        let source = here(dir.path());
        let root = source.root().unwrap();
        let (mut read, mut refused, mut tries) = (0, 0, 0);
        while (read < 50 || refused < 50) && tries < 200_000 {
            tries += 1;
            let Ok(Some(stat)) = root.entry(&name("entry")) else { continue };
            if stat.file_type != FileType::File {
                continue;
            }
            let result = root.file(&name("entry"), &stat).and_then(|mut file| {
                let content = read_all(&mut *file, 100)?.0;
                file.finish().map(|_| content)
            });
            match result {
                Ok(content) => {
                    assert_eq!(content, b"keep/file");
                    read += 1;
                }
                Err(error) => {
                    assert!(error.severity != Severity::Fatal, "{error}");
                    refused += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(read > 0);
    });
}

#[test]
fn targets() {
    let dir = tree(&["a/b/c", "a/b/d", "a/e", "f/g", "x"]);
    let at = dir.path();
    let absolute = |path: &str| format!("{}/{path}", at.display());
    let find = |targets: &[&str]| walk(&source(at, targets, |_| {}));

    assert_eq!(find(&["a/b/c"]).paths(), ["a", "a/b", "a/b/c"]);
    assert_eq!(find(&["a/b", "x"]).paths(), ["a", "a/b", "a/b/c", "a/b/d", "x"]);
    assert_eq!(find(&["a", "a/b", "a/b/c", "./a/"]).paths(), ["a", "a/b", "a/b/c", "a/b/d", "a/e"]);
    let all = ["a", "a/b", "a/b/c", "a/b/d", "a/e", "f", "f/g", "x"];
    assert_eq!(find(&["."]).paths(), all);
    assert_eq!(find(&["a/.."]).paths(), all);
    assert_eq!(find(&[".", "f/g"]).paths(), all);
    assert_eq!(walk(&source(&at.join("a/b"), &["../../f", "../e"], |_| {})).paths(), ["e", "f", "f/g"]);
    assert_eq!(walk(&source(&at.join("a"), &[".."], |_| {})).paths(), all);

    // Directories on the way are what they are, and hold nothing else.
    let source_of_c = source(at, &["a/b/c"], |_| {});
    let seen = walk(&source_of_c);
    assert_eq!(seen.get("a/b").inode, fs::metadata(at.join("a/b")).unwrap().ino());
    assert_eq!(source_of_c.root().unwrap().stat().inode, fs::metadata(at).unwrap().ino());
    assert_eq!(source_of_c.targets(), ["a/b/c"]);
    assert_eq!(source_of_c.paths(), [absolute("a/b/c")]);

    // An absolute target under its whole path.
    let seen = find(&[&absolute("f")]);
    let below = absolute("f").trim_start_matches('/').to_owned();
    assert_eq!(seen.paths().last().unwrap(), &format!("{below}/g"));
    assert_eq!(seen.entries.len(), below.split('/').count() + 1);
    let root = source(at, &[&absolute("f")], |_| {}).root().unwrap();
    assert_eq!(root.stat().inode, fs::metadata("/").unwrap().ino());
    assert_eq!(root.names().unwrap().len(), 1);
}

#[test]
fn targets_of_the_same_name() {
    let dir = tree(&["in/f/one", "in/f-1/two", "f/three"]);
    let at = dir.path().join("in");
    let seen = walk(&source(&at, &["f", "../f"], |_| {}));
    assert_eq!(seen.paths(), ["f", "f-1", "f-1/three", "f/one"]);
    // Taken by an entry of the directory that is the root.
    let seen = walk(&source(&at, &["../f", "."], |_| {}));
    assert_eq!(seen.paths(), ["f", "f-1", "f-1/two", "f-2", "f-2/three", "f/one"]);
    let root = source(&at, &["../f", "."], |_| {}).root().unwrap();
    assert_eq!(root.path_of(&name("f-2")), dir.path().join("f").as_os_str().as_bytes());
    assert!(root.own_xattrs().is_ok());
    assert!(LocalSource::new(&named(&[".", ".."]), LocalOptions::new(&at)).is_err());
}

#[test]
fn links_as_targets_and_on_the_way() {
    let dir = tree(&["real/x", "real/y"]);
    symlink("real", dir.path().join("link")).unwrap();
    let find = |targets: &[&str]| walk(&source(dir.path(), targets, |_| {}));
    for target in ["link", "link/"] {
        let seen = find(&[target]);
        assert_eq!(seen.paths(), ["link"]);
        assert_eq!(seen.get("link").file_type, FileType::Symlink);
    }
    for targets in [&["link/x"][..], &["link", "link/x"]] {
        let seen = find(targets);
        assert!(seen.errors.is_empty());
        assert_eq!(seen.paths(), ["link", "link/x"], "{targets:?}");
        assert_eq!(seen.get("link").file_type, FileType::Directory);
    }
    let seen = find(&[".", "link/x"]);
    assert_eq!(seen.paths(), ["link", "link/x", "real", "real/x", "real/y"]);
}

#[test]
fn missing_targets() {
    let dir = tree(&["a/b"]);
    for targets in [&["a/b", "a/none"][..], &["a/b", "none"], &["a/b", "none/deeper"], &["a", "a/none"], &[".", "none"]]
    {
        let seen = walk(&source(dir.path(), targets, |_| {}));
        assert_eq!(seen.paths(), ["a", "a/b"], "{targets:?}");
        assert_eq!(seen.errors.len(), 1, "{targets:?}");
        assert_eq!(seen.errors[0].severity, Severity::Entry);
        assert!(seen.errors[0].to_string().contains("none"), "{}", seen.errors[0]);
    }
    // A file where a directory should be.
    for targets in [&["a/b", "a/b/c"][..], &["a/b/c", "a"], &[".", "a/b/c"]] {
        let seen = walk(&source(dir.path(), targets, |_| {}));
        assert_eq!(seen.paths(), ["a", "a/b"], "{targets:?}");
        assert_eq!(seen.errors.len(), 1, "{targets:?}");
        assert!(seen.errors[0].to_string().contains("a/b/c: Not a directory"), "{}", seen.errors[0]);
    }
    // Nothing at all.
    let error = source(dir.path(), &["none", "a/none"], |_| {}).root().err().unwrap();
    assert_eq!(error.severity, Severity::Fatal);
    let error = source(&dir.path().join("none"), &["."], |_| {}).root().err().unwrap();
    assert_eq!(error.severity, Severity::Fatal);
}

#[test]
fn rules_from_end_to_end() {
    let files = [
        "src/main.rs",
        "src/main.o",
        "src/keep.o",
        "src/Cache/x",
        "docs/a.TXT",
        "docs/b.txt",
        "cache/CACHEDIR.TAG",
        "cache/data",
        "cache/deep/data",
        "fake/CACHEDIR.TAG",
        "fake/data",
        "skip/.nobackup",
        "skip/data",
        "big",
        "vol/a/index",
        "vol/keep/index",
    ];
    let dir = tree(&files);
    fs::write(dir.path().join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n# by x").unwrap();
    fs::write(dir.path().join("big"), [0; 1000]).unwrap();
    let rules = |options: &mut LocalOptions| {
        let rules = &mut options.exclude;
        let list = b"# objects\n*.o\n!keep.o\nvol/*\n!vol/keep\n$DIR/src/Cache\n";
        let variable = |name: &[u8]| (name == b"DIR").then(|| dir.path().as_os_str().as_bytes().to_vec());
        for pattern in repo_core::source::exclude::parse_exclude_file(list, &variable).unwrap() {
            rules.pattern(&pattern).unwrap();
        }
        rules.pattern_ignoring_case(b"A.txt").unwrap();
        rules.caches();
        rules.if_present(b".nobackup").unwrap();
        rules.larger_than(999);
    };
    let seen = walk(&source(dir.path(), &["."], rules));
    assert!(seen.errors.is_empty());
    let want = "cache cache/CACHEDIR.TAG docs docs/b.txt fake fake/CACHEDIR.TAG fake/data skip skip/.nobackup src \
                src/keep.o src/main.rs vol vol/keep vol/keep/index";
    assert_eq!(seen.paths(), want.split_whitespace().collect::<Vec<_>>());

    // What the user names is there in any case, though not what is in it.
    let seen = walk(&source(dir.path(), &["src/main.o", "big", "skip/data", "vol/a", "src/Cache"], rules));
    let want = "big skip skip/data src src/Cache src/main.o vol vol/a";
    assert_eq!(seen.paths(), want.split_whitespace().collect::<Vec<_>>());
    let seen = walk(&source(dir.path(), &[".", "src/main.o", "skip/data", "cache/deep"], rules));
    let want = "cache cache/CACHEDIR.TAG cache/deep cache/deep/data docs docs/b.txt fake fake/CACHEDIR.TAG fake/data \
                skip skip/.nobackup skip/data src src/keep.o src/main.o src/main.rs vol vol/keep vol/keep/index";
    assert_eq!(seen.paths(), want.split_whitespace().collect::<Vec<_>>());

    // What a pattern of a list found is not named.
    let matches = files_from::from_patterns(b"src/*\nvol\nnone/*\n", dir.path()).unwrap();
    assert_eq!(matches.unmatched, [b"none/*"]);
    let mut options = LocalOptions::new(dir.path());
    rules(&mut options);
    let seen = walk(&LocalSource::new(&matches.targets, options).unwrap());
    assert!(seen.errors.is_empty());
    assert_eq!(seen.paths(), ["src", "src/keep.o", "src/main.rs", "vol", "vol/keep", "vol/keep/index"]);
}

/// A mounted file system, gone at the end of the test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        assert!(std::thread::panicking() || done.is_ok_and(|status| status.success()));
    }
}

#[test]
fn one_file_system() {
    let dir = tree(&["a/x", "a/mnt/", "b/y", "a/bound"]);
    let at = dir.path().join("a/mnt");
    let mounted = is_root()
        && Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&at).status().is_ok_and(|status| status.success());
    if !mounted {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let _mounted = Mounted(at.clone());
    fs::create_dir(at.join("inner")).unwrap();
    fs::write(at.join("inner/z"), "z").unwrap();
    fs::write(at.join("file"), "f").unwrap();
    let bound = dir.path().join("a/bound");
    let status = Command::new("mount").arg("--bind").arg(at.join("file")).arg(&bound).status().unwrap();
    let _bound = status.success().then(|| Mounted(bound));

    let find = |targets: &[&str], stay| walk(&source(dir.path(), targets, |options| options.one_file_system = stay));
    let all = ["a", "a/bound", "a/mnt", "a/mnt/file", "a/mnt/inner", "a/mnt/inner/z", "a/x"];
    assert_eq!(find(&["a"], false).paths(), all);
    let seen = find(&["a"], true);
    assert!(seen.errors.is_empty());
    assert_eq!(seen.paths(), ["a", "a/mnt", "a/x"]);
    // Each target has a file system of its own; what leads to one is no more than that.
    assert_eq!(find(&["a/mnt/inner"], true).paths(), ["a", "a/mnt", "a/mnt/inner", "a/mnt/inner/z"]);
    assert_eq!(find(&["a", "a/mnt/inner"], true).paths(), ["a", "a/mnt", "a/mnt/inner", "a/mnt/inner/z", "a/x"]);
    assert_eq!(
        find(&["a", "a/mnt"], true).paths(),
        ["a", "a/mnt", "a/mnt/file", "a/mnt/inner", "a/mnt/inner/z", "a/x"]
    );
    assert_eq!(find(&["a/bound"], true).paths(), ["a", "a/bound"]);
}

#[test]
fn what_may_not_be_read() {
    let dir = tree(&["open/f", "shut/f", "through/f", "file", "theirs"]);
    let at = |name: &str| dir.path().join(name);
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(at("shut"), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(at("through"), Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(at("file"), Permissions::from_mode(0o600)).unwrap();
    for path in ["theirs", "open/f", "through/f"] {
        fs::set_permissions(at(path), Permissions::from_mode(0o644)).unwrap();
    }
    if !is_root() {
        println!("skipped: only the super-user can become somebody else");
        return;
    }
    as_nobody(|| {
        let source = here(dir.path());
        let seen = walk(&source);
        assert_eq!(seen.paths(), ["file", "open", "open/f", "shut", "theirs", "through"]);
        let mut errors: Vec<String> = seen.errors.iter().map(ToString::to_string).collect();
        errors.sort();
        assert_eq!(errors.len(), 2);
        assert!(errors[0].contains("/shut: Permission denied"), "{errors:?}");
        assert!(errors[1].contains("/through: Permission denied"), "{errors:?}");
        assert!(seen.errors.iter().all(|error| error.severity == Severity::Entry));

        let root = source.root().unwrap();
        let error = root.file(&name("file"), seen.get("file")).err().unwrap();
        assert_eq!(error.severity, Severity::Entry);
        // Somebody else's file can be read, though not without a trace.
        for _ in 0..2 {
            let (_, mut reader) = open(&*root, "theirs");
            assert_eq!(read_all(&mut *reader, 100).unwrap().0, b"theirs");
        }
        // A directory on the way need not be listed.
        let seen = walk(&self::source(dir.path(), &["through/f"], |_| {}));
        assert!(seen.errors.is_empty());
        assert_eq!(seen.paths(), ["through", "through/f"]);
    });
}

#[test]
fn reading_leaves_no_trace() {
    let dir = tree(&["f", "d/x"]);
    let old = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH).set_modified(std::time::UNIX_EPOCH);
    for path in ["f", "d"] {
        File::open(dir.path().join(path)).unwrap().set_times(old).unwrap();
    }
    let source = here(dir.path());
    let seen = walk(&source);
    let (_, mut reader) = open(&*source.root().unwrap(), "f");
    read_all(&mut *reader, 100).unwrap();
    for path in ["f", "d"] {
        assert_eq!(seen.get(path).accessed.seconds(), 0);
        assert_eq!(fs::metadata(dir.path().join(path)).unwrap().atime(), 0, "{path}");
    }
}

/// Much deeper than a path may be long. One descriptor at a time is enough.
#[test]
fn a_deep_tree() {
    const DEPTH: usize = 1500;
    let dir = tempfile::tempdir().unwrap();
    let mut at = rustix::fs::open(dir.path(), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&at, "deeper", Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, "deeper", rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let mut last = File::from(
        rustix::fs::openat(
            &at,
            "end",
            rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY,
            Mode::from_raw_mode(0o644),
        )
        .unwrap(),
    );
    last.write_all(b"bottom").unwrap();

    let source = source(dir.path(), &["."], |options| {
        options.exclude.pattern(b"nothing/**/like/this").unwrap();
    });
    let mut directory = source.root().unwrap();
    for _ in 0..DEPTH {
        let names = directory.names().unwrap();
        assert_eq!(names, [name("deeper")]);
        assert_eq!(directory.entry(&names[0]).unwrap().unwrap().file_type, FileType::Directory);
        directory = directory.directory(&names[0]).unwrap();
    }
    let (_, mut reader) = open(&*directory, "end");
    assert_eq!(read_all(&mut *reader, 100).unwrap().0, b"bottom");
    assert!(directory.xattrs(&name("end")).is_ok());
    assert_eq!(directory.path_of(&name("end")).len(), dir.path().as_os_str().len() + DEPTH * 7 + 4);
}

/// More entries than one call lists, with names of all lengths.
#[test]
fn a_large_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut want: Vec<String> = (0..3000).map(|number| format!("{number}{}", "x".repeat(number % 250))).collect();
    for name in &want {
        File::create(dir.path().join(name)).unwrap();
    }
    want.sort();
    let source = here(dir.path());
    let root = source.root().unwrap();
    for _ in 0..2 {
        let names = root.names().unwrap();
        assert!(names.iter().map(Name::as_bytes).eq(want.iter().map(String::as_bytes)));
    }
}

/// Several threads at one directory.
#[test]
fn many_threads() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..500_u64 {
        File::create(dir.path().join(number.to_string())).unwrap().write_all_at(&number.to_le_bytes(), 0).unwrap();
    }
    let source = here(dir.path());
    let root = source.root().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let names = root.names().unwrap();
                assert_eq!(names.len(), 500);
                for name in &names {
                    let stat = root.entry(name).unwrap().unwrap();
                    let mut reader = root.file(name, &stat).unwrap();
                    let number: u64 = std::str::from_utf8(name.as_bytes()).unwrap().parse().unwrap();
                    assert_eq!(read_all(&mut *reader, 4096).unwrap().0, number.to_le_bytes());
                }
            });
        }
    });
}

/// Everything there is, relative to a directory.
fn everything(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![at.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            found.push(entry.path().strip_prefix(at).unwrap().to_path_buf());
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is found is what is a target, in a target, or on the way to one.
    #[test]
    fn any_tree_and_any_targets(
        files in proptest::collection::vec("[abc](/[abc]){0,3}", 1..12),
        targets in proptest::collection::vec("[abc](/[abc]){0,2}|\\.", 1..5),
    ) {
        let dir = tempfile::tempdir().unwrap();
        for file in &files {
            let path = dir.path().join(file);
            // Some names are wanted as files and as directories; the first one gets them.
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
                fs::write(path, "").unwrap();
            }
        }
        let all = everything(dir.path());
        let there: Vec<&Path> = targets
            .iter()
            .map(Path::new)
            .filter(|target| *target == Path::new(".") || all.iter().any(|path| path == target))
            .collect();
        let is_below = |path: &Path, target: &Path| target == Path::new(".") || path.starts_with(target);
        let mut want: Vec<&OsStr> = all
            .iter()
            .filter(|path| there.iter().any(|target| is_below(path, target) || target.starts_with(path)))
            .map(|path| path.as_os_str())
            .collect();
        want.sort();
        let targets: Vec<Target> = targets.iter().map(Target::named).collect();
        let source = LocalSource::new(&targets, LocalOptions::new(dir.path())).unwrap();
        if there.is_empty() {
            prop_assert!(source.root().is_err());
        } else {
            let seen = walk(&source);
            let mut found: Vec<&OsStr> = seen.entries.keys().map(|path| OsStr::from_bytes(path)).collect();
            // A directory that leads to missing targets only is there, and empty.
            found.retain(|path| want.contains(path) || !targets.iter().any(|target| target.path.starts_with(path)));
            found.sort();
            prop_assert_eq!(found, want);
        }
    }
}
