//! Choosing snapshots: by id, by the beginning of an id, `latest`, `latest~2`, and by host, tag and path.

use crate::{
    error::{Error, Result},
    id::SnapshotId,
    snapshot::{Listing, Snapshot},
};

/// Which snapshots are meant. An empty list asks for nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of one of these hosts.
    pub hosts: Vec<String>,
    /// With all tags of one of these lists; a list that is one empty tag means "without any tag".
    pub tags: Vec<Vec<String>>,
    /// With all of these paths.
    pub paths: Vec<String>,
}

impl Filter {
    /// Whether it asks for nothing, so that every snapshot is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.tags.is_empty() && self.paths.is_empty()
    }

    /// Whether a snapshot is meant.
    #[must_use]
    pub fn accepts(&self, snapshot: &Snapshot) -> bool {
        let has = |tag: &String| snapshot.tags.contains(tag);
        let tagged = |list: &Vec<String>| match list.as_slice() {
            [only] if only.is_empty() => snapshot.tags.is_empty(),
            tags => tags.iter().all(has),
        };
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && (self.tags.is_empty() || self.tags.iter().any(tagged))
            && self.paths.iter().all(|path| snapshot.paths.contains(path))
    }
}

impl Listing {
    /// Those that `filter` accepts, oldest first.
    pub fn select<'a, 'f>(
        &'a self,
        filter: &'f Filter,
    ) -> impl DoubleEndedIterator<Item = &'a (SnapshotId, Snapshot)> + use<'a, 'f> {
        self.snapshots.iter().filter(move |(_, snapshot)| filter.accepts(snapshot))
    }

    /// The unfinished snapshot whose id begins so, if there is just one. Two letters or digits could be meant for anything.
    #[must_use]
    pub fn find_unfinished(&self, query: &str) -> Option<SnapshotId> {
        let query_hex = query.to_ascii_lowercase();
        let mut matches = self.tentative.iter().filter(|id| query.len() > 3 && id.to_string().starts_with(&query_hex));
        matches.next().filter(|_| matches.next().is_none()).copied()
    }

    /// Finds one committed snapshot: `latest` (by time, among those the filter accepts), `latest~N` for the N-th before it, or an id
    /// or the beginning of one.
    ///
    /// # Errors
    /// When none or several fit.
    pub fn find(&self, query: &str, filter: &Filter) -> Result<&(SnapshotId, Snapshot)> {
        let none = || Error::NoSnapshot { query: query.to_owned() };
        if let Some(rest) = query.strip_prefix("latest") {
            let back = match rest.strip_prefix('~') {
                Some(number) => number.parse().map_err(|_| none())?,
                None if rest.is_empty() => 0,
                None => return Err(none()),
            };
            return self.select(filter).rev().nth(back).ok_or_else(none);
        }
        let is_prefix = !query.is_empty() && query.len() <= 64 && query.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_prefix {
            return Err(none());
        }
        let query_hex = query.to_ascii_lowercase();
        let mut matches = self.snapshots.iter().filter(|(id, _)| id.to_string().starts_with(&query_hex));
        match (matches.next(), matches.next()) {
            (Some(found), None) => Ok(found),
            (Some((first, _)), Some((second, _))) => Err(Error::Ambiguous {
                what: "snapshot id",
                prefix: query.to_owned(),
                candidates: format!("{first}, {second}"),
            }),
            (None, _) => Err(none()),
        }
    }
}
