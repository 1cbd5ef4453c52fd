//! Snapshots and nodes as JSON, with restic's names where the meaning is the same.

use repo_core::{
    id::SnapshotId,
    snapshot::{Protection, Snapshot, Summary, group::GroupKey},
    tree::{
        name::escape,
        node::{Entry, Metadata, Node, NodeKind, Totals},
    },
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::time::{rfc3339, rfc3339_at};

/// Bytes as text: what is not UTF-8 is escaped as on a terminal, so that no two names look alike.
pub(crate) fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| escape(bytes).into_owned(), str::to_owned)
}

/// An object as a message of a kind, which comes first.
pub(crate) fn message(message_type: &str, object: Value) -> Value {
    let mut message = Map::new();
    message.insert("message_type".into(), json!(message_type));
    if let Value::Object(fields) = object {
        message.extend(fields);
    }
    Value::Object(message)
}

/// A snapshot.
pub(crate) fn snapshot(id: &SnapshotId, snapshot: &Snapshot) -> Value {
    let mut value = json!({
        "time": rfc3339_at(snapshot.time, snapshot.utc_offset_seconds),
        "tree": snapshot.tree.to_string(),
        "paths": snapshot.paths,
        "hostname": snapshot.host,
        "username": snapshot.user,
        "uid": snapshot.user_number,
        "gid": snapshot.group_number,
        "source": snapshot.source,
        "program_version": snapshot.program,
        "summary": summary(snapshot),
        "id": id.to_string(),
        "short_id": id.short(),
    });
    let mut set =
        |name: &str, field: Value| _ = value.as_object_mut().map(|object| object.insert(name.to_owned(), field));
    if let Some(parent) = &snapshot.parent {
        set("parent", json!(parent.to_string()));
    }
    if let Some(original) = &snapshot.original {
        set("original", json!(original.to_string()));
    }
    if let Some(label) = &snapshot.label {
        set("label", json!(label));
    }
    if !snapshot.tags.is_empty() {
        set("tags", json!(snapshot.tags));
    }
    if !snapshot.excludes.is_empty() {
        set("excludes", json!(snapshot.excludes));
    }
    match snapshot.protection {
        Protection::None => {}
        Protection::Forever => set("protected", json!("forever")),
        Protection::Until(time) => set("protected", json!(rfc3339(time))),
    }
    value
}

/// What the snapshots of a group have in common, as restic's `forget` says it; source and label if they were told apart by them.
pub(crate) fn group(key: &GroupKey) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("tags".into(), json!(key.tags));
    value.insert("host".into(), json!(key.host.as_deref().unwrap_or("")));
    value.insert("paths".into(), json!(key.paths));
    extend_group(&mut value, key);
    value
}

/// The same as restic's `snapshots` says it.
pub(crate) fn group_key(key: &GroupKey) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("hostname".into(), json!(key.host.as_deref().unwrap_or("")));
    value.insert("paths".into(), json!(key.paths));
    value.insert("tags".into(), json!(key.tags));
    extend_group(&mut value, key);
    value
}

/// What restic does not tell apart by.
fn extend_group(value: &mut Map<String, Value>, key: &GroupKey) {
    if let Some(source) = &key.source {
        value.insert("source".into(), json!(source));
    }
    if let Some(label) = &key.label {
        value.insert("label".into(), json!(label));
    }
}

/// The counters of a backup, as they are in a snapshot.
fn summary(snapshot: &Snapshot) -> Value {
    let mut value = counters(&snapshot.summary, &snapshot.totals);
    if let Some(object) = value.as_object_mut() {
        let at = |time| json!(rfc3339_at(time, snapshot.utc_offset_seconds));
        object.insert("backup_start".into(), at(snapshot.summary.started));
        object.insert("backup_end".into(), at(snapshot.summary.ended));
        object.insert("error_count".into(), json!(snapshot.summary.problems));
    }
    value
}

/// What a backup counted.
pub(crate) fn counters(summary: &Summary, totals: &Totals) -> Value {
    json!({
        "files_new": summary.files_new,
        "files_changed": summary.files_changed,
        "files_unmodified": summary.files_unmodified,
        "dirs_new": summary.directories_new,
        "dirs_changed": summary.directories_changed,
        "dirs_unmodified": summary.directories_unmodified,
        "data_blobs": summary.data_blobs,
        "tree_blobs": summary.tree_blobs,
        "data_added": summary.bytes_added,
        "data_added_packed": summary.bytes_added_packed,
        "total_files_processed": totals.files,
        "total_bytes_processed": totals.bytes,
    })
}

/// A node as `ls` shows it.
#[derive(Serialize)]
pub(crate) struct LsNode {
    message_type: &'static str,
    struct_type: &'static str,
    name: String,
    r#type: &'static str,
    path: String,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    mode: u32,
    permissions: String,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    atime: Option<String>,
    ctime: String,
    inode: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    linktarget: Option<String>,
}

/// What `ls` says of the node at an absolute path in a snapshot.
pub(crate) fn ls_node(name: &[u8], path: &[u8], node: &Node) -> LsNode {
    LsNode {
        message_type: "node",
        struct_type: "node",
        name: text(name),
        r#type: type_name(&node.kind),
        path: text(path),
        uid: node.metadata.user,
        gid: node.metadata.group,
        size: match &node.kind {
            NodeKind::File { size_bytes, .. } => Some(*size_bytes),
            _ => None,
        },
        mode: go_mode(node),
        permissions: permissions(node),
        mtime: rfc3339(node.metadata.modified),
        atime: node.metadata.accessed.map(rfc3339),
        ctime: rfc3339(node.metadata.changed),
        inode: node.metadata.inode,
        linktarget: link_target(&node.kind).map(text),
    }
}

/// restic's words for what a node is.
pub(crate) const fn type_name(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::File { .. } => "file",
        NodeKind::Directory { .. } => "dir",
        NodeKind::Symlink { .. } => "symlink",
        NodeKind::BlockDevice { .. } => "dev",
        NodeKind::CharacterDevice { .. } => "chardev",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
    }
}

/// Where a symbolic link points to.
pub(crate) fn link_target(kind: &NodeKind) -> Option<&[u8]> {
    match kind {
        NodeKind::Symlink { target } => Some(target.as_bytes()),
        _ => None,
    }
}

/// Mode bits as Go numbers them, since that is what programs that read restic's output expect.
fn go_mode(node: &Node) -> u32 {
    let kind = match node.kind {
        NodeKind::File { .. } => 0,
        NodeKind::Directory { .. } => 1 << 31,
        NodeKind::Symlink { .. } => 1 << 27,
        NodeKind::BlockDevice { .. } => 1 << 26,
        NodeKind::CharacterDevice { .. } => 1 << 26 | 1 << 21,
        NodeKind::Fifo => 1 << 25,
        NodeKind::Socket => 1 << 24,
    };
    let bits = node.metadata.mode.bits();
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    special.iter().filter(|(bit, _)| bits & bit != 0).fold(kind | bits & 0o777, |mode, (_, go)| mode | go)
}

/// As `ls -l` shows them: `drwxr-sr-x`.
pub(crate) fn permissions(node: &Node) -> String {
    let kind = match node.kind {
        NodeKind::File { .. } => '-',
        NodeKind::Directory { .. } => 'd',
        NodeKind::Symlink { .. } => 'l',
        NodeKind::BlockDevice { .. } => 'b',
        NodeKind::CharacterDevice { .. } => 'c',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
    };
    let bits = node.metadata.mode.bits();
    let mut out = String::from(kind);
    for (shift, special, with, without) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bit = |mask: u32, letter| if bits >> shift & mask != 0 { letter } else { '-' };
        out.push(bit(4, 'r'));
        out.push(bit(2, 'w'));
        out.push(match (bits & special != 0, bits >> shift & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// A node with all that the tree holds of it, for `cat tree`.
pub(crate) fn full_entry(entry: &Entry) -> Value {
    let mut value = metadata(&entry.node.metadata);
    let mut set =
        |name: &str, field: Value| _ = value.as_object_mut().map(|object| object.insert(name.to_owned(), field));
    set("name", json!(text(entry.name.as_bytes())));
    set("type", json!(type_name(&entry.node.kind)));
    match &entry.node.kind {
        NodeKind::File { size_bytes, content } => {
            set("size", json!(size_bytes));
            set("content", content_of(content));
        }
        NodeKind::Directory { tree, totals } => {
            set("subtree", json!(tree.to_string()));
            set("totals", json!({ "files": totals.files, "directories": totals.directories, "bytes": totals.bytes }));
        }
        NodeKind::Symlink { target } => set("linktarget", json!(text(target.as_bytes()))),
        NodeKind::BlockDevice { device } | NodeKind::CharacterDevice { device } => {
            set("device", json!({ "major": device.major, "minor": device.minor }));
        }
        NodeKind::Fifo | NodeKind::Socket => {}
    }
    value
}

fn content_of(content: &repo_core::tree::node::Content) -> Value {
    use repo_core::tree::node::{Content, Piece};
    match content {
        Content::Empty => json!([]),
        Content::Blob(blob) => json!([blob.to_string()]),
        Content::Pieces(pieces) => pieces
            .iter()
            .map(|piece| match piece {
                Piece::Data { blob, length_bytes } => json!({ "blob": blob.to_string(), "length": length_bytes }),
                Piece::Hole { length_bytes } => json!({ "hole": length_bytes }),
            })
            .collect(),
        Content::List(page) => json!({ "list": page.to_string() }),
    }
}

fn metadata(metadata: &Metadata) -> Value {
    json!({
        "mode": format!("{:04o}", metadata.mode.bits()),
        "uid": metadata.user,
        "gid": metadata.group,
        "mtime": rfc3339(metadata.modified),
        "ctime": rfc3339(metadata.changed),
        "atime": metadata.accessed.map(rfc3339),
        "inode": metadata.inode,
        "hard_links": metadata.hard_links.map(|links| json!({ "device": links.device, "count": links.count })),
        "xattrs": metadata
            .xattrs
            .iter()
            .map(|xattr| json!({ "name": text(xattr.name.as_bytes()), "value": escape(xattr.value.as_bytes()) }))
            .collect::<Vec<_>>(),
    })
}
