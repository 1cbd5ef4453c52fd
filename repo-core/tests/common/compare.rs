//! Compares two trees of the file system: bytes, holes and all metadata. Shares no code with what it tests.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsStr,
    fmt::Write as _,
    fs,
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
};

/// What to compare besides names, types, contents and link targets.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    pub modes: bool,
    pub owners: bool,
    /// Modification times of everything but the root, to the nanosecond.
    pub times: bool,
    pub xattrs: bool,
    /// Which names are one file.
    pub hard_links: bool,
    /// Where holes are.
    pub holes: bool,
    /// Mode, owner, times and extended attributes of the two roots themselves.
    pub root: bool,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { modes: true, owners: true, times: true, xattrs: true, hard_links: true, holes: true, root: false }
    }
}

/// # Panics
/// When the trees differ, with a list of differences.
#[track_caller]
pub fn assert_same_tree(a: &Path, b: &Path, options: &CompareOptions) {
    let differences = differences(a, b, options);
    if !differences.is_empty() {
        let mut text = format!("{} and {} differ:\n", a.display(), b.display());
        for line in differences.iter().take(50) {
            let _ = writeln!(text, "  {line}");
        }
        if differences.len() > 50 {
            let _ = writeln!(text, "  and {} more", differences.len() - 50);
        }
        panic!("{text}");
    }
}

/// Every difference, as a line that begins with the path.
pub fn differences(a: &Path, b: &Path, options: &CompareOptions) -> Vec<String> {
    let mut out = Vec::new();
    let mut groups: [BTreeMap<PathBuf, (u64, u64)>; 2] = Default::default();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let [here, there] = [a, b].map(|root| if path.as_os_str().is_empty() { root.into() } else { root.join(&path) });
        let (one, two) = (fs::symlink_metadata(&here).unwrap(), fs::symlink_metadata(&there).unwrap());
        let mut differ = |what: &str, one: String, two: String| {
            if one != two {
                out.push(format!("{}: {what}: {one} and {two}", path.display()));
            }
        };
        differ("type", format!("{:?}", one.file_type()), format!("{:?}", two.file_type()));
        if one.file_type() != two.file_type() {
            continue;
        }
        let file_type = one.file_type();
        if options.root || !path.as_os_str().is_empty() {
            if options.modes && !file_type.is_symlink() {
                differ("mode", format!("{:o}", one.mode()), format!("{:o}", two.mode()));
            }
            if options.owners {
                differ("owner", format!("{}:{}", one.uid(), one.gid()), format!("{}:{}", two.uid(), two.gid()));
            }
            if options.times {
                let time = |of: &fs::Metadata| format!("{}.{:09}", of.mtime(), of.mtime_nsec());
                differ("modified", time(&one), time(&two));
            }
            if options.xattrs {
                differ("xattrs", format!("{:?}", xattrs(&here)), format!("{:?}", xattrs(&there)));
            }
        }
        if file_type.is_dir() {
            let [one, two] = [&here, &there].map(|directory| {
                fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
            });
            for name in one.symmetric_difference(&two) {
                let side = if one.contains(name) { a } else { b };
                out.push(format!("{}: only in {}", path.join(name).display(), side.display()));
            }
            pending.extend(one.intersection(&two).map(|name| path.join(name)));
            continue;
        }
        if one.nlink() > 1 || two.nlink() > 1 {
            groups[0].insert(path.clone(), (one.dev(), one.ino()));
            groups[1].insert(path.clone(), (two.dev(), two.ino()));
        }
        if file_type.is_symlink() {
            let [one, two] = [&here, &there]
                .map(|link| fs::read_link(link).unwrap().as_os_str().as_bytes().escape_ascii().to_string());
            differ("link target", one, two);
        } else if file_type.is_block_device() || file_type.is_char_device() {
            differ("device", one.rdev().to_string(), two.rdev().to_string());
        } else if file_type.is_file() {
            differ("length", one.len().to_string(), two.len().to_string());
            if one.len() == two.len() {
                out.extend(first_difference(&here, &there).map(|at| format!("{}: byte {at} differs", path.display())));
                if options.holes {
                    let (one, two) = (data_ranges(&here, one.len()), data_ranges(&there, two.len()));
                    if one != two {
                        out.push(format!("{}: data lies at {one:?} and {two:?}", path.display()));
                    }
                }
            }
        }
    }
    if options.hard_links {
        let [one, two] = groups.map(sets);
        for group in one.symmetric_difference(&two) {
            let side = if one.contains(group) { a } else { b };
            out.push(format!("{group:?}: one file only in {}", side.display()));
        }
    }
    out.sort();
    out
}

/// Names that are one file, as sets of more than one.
fn sets(of: BTreeMap<PathBuf, (u64, u64)>) -> BTreeSet<Vec<PathBuf>> {
    let mut files: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
    for (path, identity) in of {
        files.entry(identity).or_default().push(path);
    }
    files.into_values().filter(|names| names.len() > 1).collect()
}

fn first_difference(a: &Path, b: &Path) -> Option<u64> {
    use std::io::Read;
    let (mut a, mut b) = (fs::File::open(a).unwrap(), fs::File::open(b).unwrap());
    let (mut one, mut two) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0;
    loop {
        let count = a.read(&mut one).unwrap();
        if count == 0 {
            return None;
        }
        if b.read_exact(&mut two[..count]).is_err() {
            return Some(at);
        }
        if let Some(position) = one[..count].iter().zip(&two[..count]).position(|(a, b)| a != b) {
            return Some(at + position as u64);
        }
        at += count as u64;
    }
}

/// Where a file has data that takes space.
pub fn data_ranges(path: &Path, length: u64) -> Vec<(u64, u64)> {
    use rustix::fs::{SeekFrom, seek};
    let file = fs::File::open(path).unwrap();
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < length {
        let Ok(data) = seek(file.as_fd(), SeekFrom::Data(at)) else { break };
        let hole = seek(file.as_fd(), SeekFrom::Hole(data)).unwrap();
        ranges.push((data, hole));
        at = hole;
    }
    ranges
}

/// All extended attributes, but those a security module makes by itself.
pub fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    use rustix::fs::{lgetxattr, llistxattr};
    let mut list = vec![0; 1 << 16];
    let Ok(length) = llistxattr(path, &mut list[..]) else { return BTreeMap::new() };
    list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && *name != b"security.selinux")
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}
