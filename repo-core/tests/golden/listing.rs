//! A repository as text, line for line what `.ci/read-repository.py` prints, which shares nothing with it but
//! `docs/format.md`.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use repo_core::{
    blob::{BlobKind, ReadBlobs},
    crypto::keys::ObjectKind,
    envelope::object::SEAL_BYTES,
    id::{BlobId, SnapshotId},
    index::set::IndexSet,
    pack::reader::directory_of,
    repository::{Repository, reader::BlobReader, seal::Seal},
    snapshot::{Protection, Snapshot},
    store::{ObjectName, Place},
    time::Timestamp,
    tree::{
        TreeBlob,
        content::Pieces,
        directory::DirectoryEntries,
        node::{Content, Entry, Extension, Metadata, NodeKind, Piece, Totals},
    },
};
use sha2::{Digest, Sha256};

use super::{hex, sha256};

/// Reads everything there is, verifies it, and tells of it.
pub fn listing(repository: &Arc<Repository>) -> String {
    let index = Arc::new(IndexSet::load(repository.store(), repository.keys(), None).unwrap());
    let reader = BlobReader::new(Arc::clone(repository), index, 1 << 20);
    let config = repository.config();
    let parameters = &config.parameters;
    let chunker = &parameters.chunker;
    let mut out = Lines::default();
    out.add(format!("repository {}", repository.id()));
    out.add(format!(
        "config {} {} {} {} {} {} {} {}",
        at(config.created),
        chunker.min_bytes,
        chunker.average_bytes,
        chunker.max_bytes,
        chunker.normalization,
        parameters.data_frame_bytes,
        parameters.tree_frame_bytes,
        parameters.pack_bytes
    ));
    out.add(format!("keys {}", repository.list_keys().unwrap().len()));
    out.add(format!("packs {}", packs(repository, &reader)));
    for (id, snapshot, committed) in snapshots(repository) {
        describe(&id, &snapshot, committed, &mut out);
        walk(&reader, &snapshot.tree, &[], &mut out);
    }
    let notes = repository.notes().unwrap();
    for (_, note) in notes.sessions {
        let words = some(&[note.operation, note.host, note.user]);
        out.add(format!("session {words} {} {}", note.process, at(note.started)));
    }
    for (_, note) in notes.marks {
        let packs: Vec<String> = note.packs.iter().map(ToString::to_string).collect();
        out.add(format!("mark {} {}", at(note.created), or_dash(packs.join(" "))));
    }
    for (_, note) in notes.expire_notes {
        out.add(format!("expire {} {}", at(note.created), note.body));
    }
    out.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }
}

/// How many packs, blobs, and tree blobs of each variant there are. Every pack opens, and every blob in it is found by the
/// index.
fn packs(repository: &Repository, reader: &BlobReader) -> String {
    let (mut packs, mut blobs, mut pages) = (0, 0, [0; 4]);
    for info in repository.list(Place::Data).unwrap() {
        let bytes = repository.load_bytes(&info.name).unwrap();
        let summary = directory_of(repository.keys(), info.name.id().into(), &bytes).unwrap();
        packs += 1;
        let mut plain = Vec::new();
        for (id, location) in summary.directory.blobs(info.name.id().into()) {
            blobs += 1;
            assert_eq!(reader.locate(summary.kind, &id).unwrap(), Some(location));
            reader.read_blob(summary.kind, &id, &mut plain).unwrap();
            if summary.kind == BlobKind::Tree {
                let variant = match TreeBlob::read(reader, &id, &mut plain).unwrap() {
                    TreeBlob::Entries(_) => 0,
                    TreeBlob::EntryPages(_) => 1,
                    TreeBlob::Pieces(_) => 2,
                    TreeBlob::PiecePages(_) => 3,
                };
                pages[variant] += 1;
            }
        }
    }
    format!("{packs} {blobs} {}", pages.map(|count: u32| count.to_string()).join(" "))
}

/// All bodies by time, and whether a seal names each.
fn snapshots(repository: &Repository) -> Vec<(SnapshotId, Snapshot, bool)> {
    let (mut bodies, mut sealed) = (Vec::new(), Vec::new());
    for info in repository.list(Place::Snapshots).unwrap() {
        if info.size_bytes == SEAL_BYTES {
            sealed.extend(repository.load::<Seal>(&info.name, ObjectKind::Seal).unwrap().bodies);
        } else {
            bodies.push(SnapshotId::from(info.name.id()));
        }
    }
    let load = |id: SnapshotId| {
        let name = ObjectName::new(Place::Snapshots, id);
        (id, repository.load(&name, ObjectKind::Snapshot).unwrap(), sealed.contains(&id))
    };
    let mut all: Vec<(SnapshotId, Snapshot, bool)> = bodies.into_iter().map(load).collect();
    all.sort_by_key(|(id, snapshot, _)| (snapshot.time, *id));
    all
}

fn describe(id: &SnapshotId, snapshot: &Snapshot, committed: bool, out: &mut Lines) {
    let did = &snapshot.summary;
    out.add(format!("snapshot {id} {}", if committed { "committed" } else { "tentative" }));
    out.add(format!(
        "  made {} {} {} {}:{}",
        at(snapshot.time),
        snapshot.utc_offset_seconds,
        some(&[&snapshot.host, &snapshot.user]),
        snapshot.user_number,
        snapshot.group_number
    ));
    let label: Vec<&String> = snapshot.label.iter().collect();
    out.add(format!("  of {} {} {}", some(&snapshot.source), some(&label), some(&snapshot.paths)));
    out.add(format!("  tags {} {}", some(&snapshot.tags), some(&snapshot.excludes)));
    let id_or_dash = |id: Option<SnapshotId>| or_dash(id.map(|id| id.to_string()).unwrap_or_default());
    out.add(format!("  from {} {}", id_or_dash(snapshot.parent), id_or_dash(snapshot.original)));
    out.add(format!("  by {}", some(&[&snapshot.program])));
    out.add(format!("  users {}", owners(&snapshot.users)));
    out.add(format!("  groups {}", owners(&snapshot.groups)));
    out.add(match snapshot.protection {
        Protection::None => "  protection 0 -".into(),
        Protection::Forever => "  protection 1 -".into(),
        Protection::Until(time) => format!("  protection 2 {}", at(time)),
    });
    let counters = [
        did.files_new,
        did.files_changed,
        did.files_unmodified,
        did.directories_new,
        did.directories_changed,
        did.directories_unmodified,
        did.bytes_read,
        did.data_blobs,
        did.tree_blobs,
        did.bytes_added,
        did.bytes_added_packed,
        did.problems,
    ];
    let counters = counters.map(|counter| counter.to_string()).join(" ");
    out.add(format!("  summary {} {} {counters}", at(did.started), at(did.ended)));
    out.add(format!("  extensions {}", later(&snapshot.extensions)));
    out.add(format!("  totals {}", sums(&snapshot.totals)));
    out.add(format!("  root {}", snapshot.root.as_ref().map_or("-".into(), words)));
}

fn walk(reader: &BlobReader, tree: &BlobId, above: &[u8], out: &mut Lines) {
    for entry in DirectoryEntries::open(reader, tree).unwrap() {
        let Entry { name, node } = entry.unwrap();
        let path = if above.is_empty() { name.as_bytes().to_vec() } else { [above, b"/", name.as_bytes()].concat() };
        let (what, holds) = match &node.kind {
            NodeKind::File { size_bytes, content } => {
                ("file", format!("{size_bytes} {}", content_hash(reader, content, *size_bytes)))
            }
            NodeKind::Directory { totals, .. } => ("directory", sums(totals)),
            NodeKind::Symlink { target } => ("symlink", escape(target.as_bytes())),
            NodeKind::BlockDevice { device } => ("block", format!("{}:{}", device.major, device.minor)),
            NodeKind::CharacterDevice { device } => ("character", format!("{}:{}", device.major, device.minor)),
            NodeKind::Fifo => ("fifo", "-".into()),
            NodeKind::Socket => ("socket", "-".into()),
        };
        out.add(format!("  {what} {} {holds} {}", escape(&path), words(&node.metadata)));
        if let NodeKind::Directory { tree, .. } = &node.kind {
            walk(reader, tree, &path, out);
        }
    }
}

fn content_hash(reader: &BlobReader, content: &Content, size_bytes: u64) -> String {
    let mut hasher = Sha256::new();
    let mut plain = Vec::new();
    for piece in Pieces::new(reader, content, size_bytes) {
        match piece.unwrap() {
            Piece::Data { blob, length_bytes } => {
                reader.read_blob(BlobKind::Data, &blob, &mut plain).unwrap();
                assert_eq!(plain.len(), length_bytes as usize);
                hasher.update(&plain);
            }
            Piece::Hole { length_bytes } => hasher.update(vec![0; usize::try_from(length_bytes).unwrap()]),
        }
    }
    hex(&hasher.finalize())
}

fn words(metadata: &Metadata) -> String {
    let links = metadata.hard_links.map(|links| format!("{}:{}", links.device, links.count));
    let xattrs: Vec<String> = metadata
        .xattrs
        .iter()
        .map(|xattr| format!("{}={}", escape(xattr.name.as_bytes()), short(xattr.value.as_bytes())))
        .collect();
    format!(
        "{:04o} {}:{} {} {} {} {} {} {} {}",
        metadata.mode.bits(),
        metadata.user,
        metadata.group,
        at(metadata.modified),
        at(metadata.changed),
        metadata.accessed.map_or("-".into(), at),
        metadata.inode,
        or_dash(links.unwrap_or_default()),
        or_dash(xattrs.join(",")),
        later(&metadata.extensions)
    )
}

fn later(extensions: &[Extension]) -> String {
    let one = |extension: &Extension| format!("{}={}", extension.tag, short(extension.value.as_bytes()));
    or_dash(extensions.iter().map(one).collect::<Vec<_>>().join(","))
}

fn short(value: &[u8]) -> String {
    if value.len() <= 32 { hex(value) } else { format!("sha256:{}", sha256(value)) }
}

fn owners(names: &BTreeMap<u32, String>) -> String {
    some(&names.iter().map(|(number, name)| format!("{number}={name}")).collect::<Vec<_>>())
}

fn sums(totals: &Totals) -> String {
    format!("{} {} {}", totals.files, totals.directories, totals.bytes)
}

fn at(time: Timestamp) -> String {
    format!("{}.{:09}", time.seconds(), time.nanoseconds())
}

fn some(items: &[impl Display]) -> String {
    or_dash(items.iter().map(|item| escape(item.to_string().as_bytes())).collect::<Vec<_>>().join(","))
}

/// Printable ASCII but for the backslash as it is, everything else as `\xNN`; nothing as a dash.
fn escape(bytes: &[u8]) -> String {
    let text = bytes.iter().map(|byte| match byte {
        0x21..=0x7e if *byte != b'\\' => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    });
    or_dash(text.collect())
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}
