//! Snapshots that belong together: of one host, of the same source.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{id::SnapshotId, snapshot::Snapshot};

/// By what snapshots are told apart.
///
/// By default by host and source. The source is what the user named: unlike the paths that were saved, it does not change when a
/// pattern in a list matches one file more, so that no group is left behind with snapshots that no rule removes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// By the machine.
    pub host: bool,
    /// By the label if there is one, else by the targets as the user named them.
    pub source: bool,
    /// By the label; all without one belong together.
    pub label: bool,
    /// By the paths that were saved, in any order. With host, this is how restic does it.
    pub paths: bool,
    /// By the tags, in any order.
    pub tags: bool,
}

impl Grouping {
    /// All in one group.
    pub const NONE: Self = Self { host: false, source: false, label: false, paths: false, tags: false };
}

impl Default for Grouping {
    fn default() -> Self {
        Self { host: true, source: true, ..Self::NONE }
    }
}

impl FromStr for Grouping {
    type Err = String;

    /// `host`, `source`, `label`, `paths` and `tags`, separated by commas; nothing for a single group.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut grouping = Self::NONE;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "host" | "hosts" => grouping.host = true,
                "source" | "sources" => grouping.source = true,
                "label" | "labels" => grouping.label = true,
                "path" | "paths" => grouping.paths = true,
                "tag" | "tags" => grouping.tags = true,
                _ => return Err(format!("\"{word}\" is none of host, source, label, paths and tags")),
            }
        }
        Ok(grouping)
    }
}

/// What the snapshots of a group have in common; `None` is what they were not told apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupKey {
    /// The machine.
    pub host: Option<String>,
    /// The source.
    pub source: Option<Vec<String>>,
    /// The label, empty where there is none.
    pub label: Option<String>,
    /// The paths, sorted.
    pub paths: Option<Vec<String>>,
    /// The tags, sorted.
    pub tags: Option<Vec<String>>,
}

impl fmt::Display for GroupKey {
    /// `host a; source /home`. Nothing for the group of all.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |name: &str, list: &Option<Vec<String>>| {
            list.as_ref()
                .map(|list| if list.is_empty() { format!("no {name}") } else { format!("{name} {}", list.join(", ")) })
        };
        let parts = [
            self.host.as_ref().map(|host| format!("host {host}")),
            list("source", &self.source),
            self.label
                .as_ref()
                .map(|label| if label.is_empty() { "no label".into() } else { format!("label {label}") }),
            list("paths", &self.paths),
            list("tags", &self.tags),
        ];
        out.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

impl Grouping {
    /// The group a snapshot belongs to.
    #[must_use]
    pub fn key(self, snapshot: &Snapshot) -> GroupKey {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        GroupKey {
            host: self.host.then(|| snapshot.host.clone()),
            source: self.source.then(|| snapshot.source.clone()),
            label: self.label.then(|| snapshot.label.clone().unwrap_or_default()),
            paths: self.paths.then(|| sorted(&snapshot.paths)),
            tags: self.tags.then(|| sorted(&snapshot.tags)),
        }
    }

    /// Sorts snapshots into groups; within each, they stay in their order.
    #[must_use]
    pub fn split<'a>(
        self,
        snapshots: impl IntoIterator<Item = &'a (SnapshotId, Snapshot)>,
    ) -> BTreeMap<GroupKey, Vec<&'a (SnapshotId, Snapshot)>> {
        let mut groups: BTreeMap<GroupKey, Vec<_>> = BTreeMap::new();
        for listed in snapshots {
            groups.entry(self.key(&listed.1)).or_default().push(listed);
        }
        groups
    }
}
