//! Stores a tree of the file system the plainest way: no threads, chunks of one length, all metadata.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt, MetadataExt},
    },
    path::Path,
};

use repo_core::{
    blob::{BlobKind, WriteBlobs},
    id::BlobId,
    time::Timestamp,
    tree::{
        content::ContentWriter,
        directory::DirectoryWriter,
        name::{Bytes, Name},
        node::{Device, Entry, HardLinks, Metadata, Mode, Node, NodeKind, Piece, Totals, Xattr},
    },
};

use super::compare::{data_ranges, xattrs};

/// Stores everything below `path` and returns the root page of its tree.
pub fn snapshot_of(path: &Path, chunk_bytes: usize, blobs: &dyn WriteBlobs) -> (BlobId, Totals) {
    let mut names: BTreeMap<Vec<u8>, std::path::PathBuf> = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        names.insert(entry.file_name().as_bytes().to_vec(), entry.path());
    }
    let mut writer = DirectoryWriter::default();
    for (name, path) in names {
        let node = node_of(&path, chunk_bytes, blobs);
        writer.push(&Entry { name: Name::new(name).unwrap(), node }, blobs).unwrap();
    }
    writer.finish(blobs).unwrap()
}

/// Stores one entry.
pub fn node_of(path: &Path, chunk_bytes: usize, blobs: &dyn WriteBlobs) -> Node {
    let stat = fs::symlink_metadata(path).unwrap();
    let file_type = stat.file_type();
    let device = Device { major: rustix::fs::major(stat.rdev()), minor: rustix::fs::minor(stat.rdev()) };
    let kind = if file_type.is_dir() {
        let (tree, totals) = snapshot_of(path, chunk_bytes, blobs);
        NodeKind::Directory { tree, totals }
    } else if file_type.is_symlink() {
        NodeKind::Symlink { target: Bytes::new(fs::read_link(path).unwrap().as_os_str().as_bytes()).unwrap() }
    } else if file_type.is_block_device() {
        NodeKind::BlockDevice { device }
    } else if file_type.is_char_device() {
        NodeKind::CharacterDevice { device }
    } else if file_type.is_fifo() {
        NodeKind::Fifo
    } else if file_type.is_socket() {
        NodeKind::Socket
    } else {
        file_of(path, stat.len(), chunk_bytes, blobs)
    };
    let hard_links =
        (stat.nlink() > 1 && !file_type.is_dir()).then_some(HardLinks { device: stat.dev(), count: stat.nlink() });
    let time = |seconds, nanoseconds: i64| Timestamp::new(seconds, nanoseconds.try_into().unwrap()).unwrap();
    let xattrs = xattrs(path)
        .into_iter()
        .map(|(name, value)| Xattr { name: Bytes::new(name.into_bytes()).unwrap(), value: Bytes::new(value).unwrap() })
        .collect();
    let metadata = Metadata {
        mode: Mode::from_bits(stat.mode()),
        user: stat.uid(),
        group: stat.gid(),
        modified: time(stat.mtime(), stat.mtime_nsec()),
        changed: time(stat.ctime(), stat.ctime_nsec()),
        accessed: None,
        inode: stat.ino(),
        hard_links,
        xattrs,
        extensions: Vec::new(),
    };
    Node { kind, metadata }
}

fn file_of(path: &Path, size_bytes: u64, chunk_bytes: usize, blobs: &dyn WriteBlobs) -> NodeKind {
    let file = fs::File::open(path).unwrap();
    let mut writer = ContentWriter::default();
    let mut at = 0;
    for (from, until) in data_ranges(path, size_bytes) {
        if from > at {
            writer.push(Piece::Hole { length_bytes: from - at }, blobs).unwrap();
        }
        at = from;
        while at < until {
            let mut chunk = vec![0; usize::try_from(until - at).unwrap().min(chunk_bytes)];
            file.read_exact_at(&mut chunk, at).unwrap();
            let (blob, _) = blobs.write_blob(BlobKind::Data, &chunk).unwrap();
            writer.push(Piece::Data { blob, length_bytes: chunk.len().try_into().unwrap() }, blobs).unwrap();
            at += chunk.len() as u64;
        }
    }
    if size_bytes > at {
        writer.push(Piece::Hole { length_bytes: size_bytes - at }, blobs).unwrap();
    }
    let (content, size_bytes) = writer.finish(blobs).unwrap();
    NodeKind::File { size_bytes, content }
}
