//! What an edit says of a snapshot.

use crate::{id::SnapshotId, snapshot::Snapshot, time::Timestamp};

/// Another thing to say of a snapshot. By default nothing changes.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Another host.
    pub host: Option<String>,
    /// Another time, and how many seconds east of UTC that is shown.
    pub time: Option<(Timestamp, i32)>,
    /// Another label; an empty one takes the label away.
    pub label: Option<String>,
    /// Other tags.
    pub tags: TagChange,
}

/// Other tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TagChange {
    /// The same.
    #[default]
    None,
    /// These instead.
    Set(Vec<String>),
    /// Some more, and some less; what is in both is taken away.
    Change {
        /// Tags that it gets.
        add: Vec<String>,
        /// Tags that it loses.
        remove: Vec<String>,
    },
}

impl TagChange {
    /// What becomes of tags, sorted, each once.
    #[must_use]
    pub fn apply(&self, tags: &[String]) -> Vec<String> {
        let mut tags = match self {
            Self::None => tags.to_vec(),
            Self::Set(tags) => tags.clone(),
            Self::Change { add, remove } => {
                tags.iter().chain(add).filter(|tag| !remove.contains(tag)).cloned().collect()
            }
        };
        tags.sort();
        tags.dedup();
        tags
    }
}

impl Changes {
    /// The same snapshot with these changes.
    #[must_use]
    pub fn apply(&self, snapshot: &Snapshot) -> Snapshot {
        let mut changed = Snapshot { tags: self.tags.apply(&snapshot.tags), ..snapshot.clone() };
        if let Some(host) = &self.host {
            changed.host.clone_from(host);
        }
        if let Some((time, utc_offset_seconds)) = self.time {
            (changed.time, changed.utc_offset_seconds) = (time, utc_offset_seconds);
        }
        match self.label.as_deref() {
            // What the user named is not known any more where there was a label; the paths come nearest.
            Some("") if changed.label.is_some() => (changed.label, changed.source) = (None, changed.paths.clone()),
            None | Some("") => {}
            Some(label) => (changed.label, changed.source) = (Some(label.to_owned()), vec![label.to_owned()]),
        }
        changed
    }
}

/// What an edited snapshot tells as its original: the first one of a chain of edits.
pub(super) fn original_of(id: &SnapshotId, snapshot: &Snapshot) -> SnapshotId {
    snapshot.original.unwrap_or(*id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    #[test]
    fn tags() {
        let before = list(&["a", "c"]);
        assert_eq!(TagChange::None.apply(&before), before);
        assert_eq!(TagChange::Set(list(&["z", "b", "z"])).apply(&before), list(&["b", "z"]));
        assert_eq!(TagChange::Set(vec![]).apply(&before), list(&[]));
        let change = TagChange::Change { add: list(&["b", "a", "x"]), remove: list(&["c", "x", "y"]) };
        assert_eq!(change.apply(&before), list(&["a", "b"]));
    }
}
