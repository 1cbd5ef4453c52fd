//! The snapshot body of a backup, finished or not.

use crate::{
    backup::{BackupOptions, assembly::FinishedRoot},
    id::SnapshotId,
    snapshot::{Snapshot, Summary},
    source::{OwnerNames, Source},
};

/// What a backup is of: its label, or its targets.
pub(super) fn identity(source: &dyn Source, options: &BackupOptions) -> Vec<String> {
    options.label.as_ref().map_or_else(|| source.targets(), |label| vec![label.clone()])
}

pub(super) fn body(
    source: &dyn Source,
    options: &BackupOptions,
    parent: Option<SnapshotId>,
    root: FinishedRoot,
    owners: OwnerNames,
    summary: Summary,
) -> Snapshot {
    Snapshot {
        time: options.time.unwrap_or(summary.started),
        utc_offset_seconds: options.utc_offset_seconds,
        host: options.host.clone(),
        user: options.user.clone(),
        user_number: options.user_number,
        group_number: options.group_number,
        source: identity(source, options),
        label: options.label.clone(),
        paths: source.paths(),
        tags: sorted(&options.tags),
        excludes: options.excludes.clone(),
        tree: root.tree,
        totals: root.totals,
        root: Some(root.metadata),
        parent,
        original: None,
        program: options.program.clone(),
        users: owners.users,
        groups: owners.groups,
        protection: options.protection,
        summary,
        extensions: Vec::new(),
    }
}

fn sorted(tags: &[String]) -> Vec<String> {
    let mut tags = tags.to_vec();
    tags.sort();
    tags.dedup();
    tags
}
