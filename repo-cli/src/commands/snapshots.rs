//! `coffer snapshots`: what there is.

use std::collections::BTreeMap;

use clap::Args;
use repo_core::{
    id::SnapshotId,
    snapshot::{Listing, Protection, Snapshot},
};
use serde_json::{Value, json};

use crate::{
    choose::{FilterArgs, listing},
    context::Context,
    json,
    output::Output,
    report::{Ending, Result},
    size,
    table::{Align, Table},
    time,
};

/// List snapshots
#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    /// Ids, or their beginnings, or latest; all if none is given
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,

    #[command(flatten)]
    filter: FilterArgs,

    /// Only the newest N of each host and set of paths
    #[arg(long, value_name = "N")]
    latest: Option<usize>,

    /// Apart by host, paths and tags, separated by commas
    #[arg(short, long, value_name = "KEYS")]
    group_by: Option<Grouping>,

    /// One line for each snapshot
    #[arg(short, long)]
    compact: bool,
}

/// By what snapshots are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Grouping {
    host: bool,
    paths: bool,
    tags: bool,
}

impl std::str::FromStr for Grouping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut grouping = Self::default();
        for key in text.split(',').map(str::trim).filter(|key| !key.is_empty()) {
            match key {
                "host" | "hosts" => grouping.host = true,
                "path" | "paths" => grouping.paths = true,
                "tag" | "tags" => grouping.tags = true,
                _ => return Err(format!("\"{key}\" is neither host, paths nor tags")),
            }
        }
        Ok(grouping)
    }
}

/// Host, paths and tags, as far as they are told apart.
type GroupKey = (Option<String>, Option<Vec<String>>, Option<Vec<String>>);

type Listed<'a> = &'a (SnapshotId, Snapshot);

impl Grouping {
    fn key(self, snapshot: &Snapshot) -> GroupKey {
        (
            self.host.then(|| snapshot.host.clone()),
            self.paths.then(|| snapshot.paths.clone()),
            self.tags.then(|| snapshot.tags.clone()),
        )
    }

    fn group<'a>(self, snapshots: &[Listed<'a>]) -> BTreeMap<GroupKey, Vec<Listed<'a>>> {
        let mut groups: BTreeMap<GroupKey, Vec<Listed<'a>>> = BTreeMap::new();
        for listed in snapshots {
            groups.entry(self.key(&listed.1)).or_default().push(listed);
        }
        groups
    }
}

impl SnapshotsArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let filter = self.filter.filter(context)?;
        let repository = context.open()?;
        let output = &context.output;
        let listing = listing(&repository, output)?;
        let mut chosen: Vec<Listed<'_>> = if self.ids.is_empty() {
            listing.select(&filter).collect()
        } else {
            self.ids.iter().map(|id| listing.find(id, &filter)).collect::<Result<_, _>>()?
        };
        if let Some(latest) = self.latest {
            let groups = Grouping { host: true, paths: true, tags: false }.group(&chosen);
            let kept: Vec<SnapshotId> =
                groups.values().flat_map(|group| group.iter().rev().take(latest)).map(|(id, _)| *id).collect();
            chosen.retain(|(id, _)| kept.contains(id));
        }
        match self.group_by {
            Some(grouping) if output.json() => output.document(&grouped_json(&grouping.group(&chosen)))?,
            None if output.json() => output.document(&array(&chosen))?,
            Some(grouping) => {
                for (number, (key, group)) in grouping.group(&chosen).iter().enumerate() {
                    if number > 0 {
                        output.line("")?;
                    }
                    output.line(&heading(key))?;
                    self.table(output, group)?;
                }
            }
            None if chosen.is_empty() => output.say("no snapshots"),
            None => self.table(output, &chosen)?,
        }
        Ok(ending(&listing))
    }

    fn table(&self, output: &Output, snapshots: &[Listed<'_>]) -> Result<()> {
        let mut table = Table::new(&[
            ("ID", Align::Left),
            ("Time", Align::Left),
            ("Host", Align::Left),
            ("Label", Align::Left),
            ("Tags", Align::Left),
            ("Kept", Align::Left),
            ("Files", Align::Right),
            ("Size", Align::Right),
            ("Paths", Align::Left),
        ]);
        for (id, snapshot) in snapshots {
            let lines = |list: &[String]| {
                let list: Vec<_> = list.iter().map(|entry| repo_core::tree::name::escape(entry.as_bytes())).collect();
                if self.compact { list.join(", ") } else { list.join("\n") }
            };
            let kept = match snapshot.protection {
                Protection::None => String::new(),
                Protection::Forever => "for ever".into(),
                Protection::Until(until) => format!("until {}", time::local(until)),
            };
            table.row(vec![
                id.short(),
                time::local(snapshot.time),
                snapshot.host.clone(),
                snapshot.label.clone().unwrap_or_default(),
                lines(&snapshot.tags),
                kept,
                size::count(snapshot.totals.files),
                size::bytes(snapshot.totals.bytes),
                lines(&snapshot.paths),
            ]);
        }
        table.write(output)?;
        output.line(&size::things(snapshots.len() as u64, "snapshot", "snapshots"))
    }
}

/// Snapshots that cannot be read were told of, and must not pass for none.
fn ending(listing: &Listing) -> Ending {
    match listing.damaged.len() + listing.newer.len() {
        0 => Ending::Done,
        damaged => Ending::Damage(format!(
            "{} cannot be read",
            size::things(damaged as u64, "object of the snapshots", "objects of the snapshots")
        )),
    }
}

fn array(snapshots: &[Listed<'_>]) -> Vec<Value> {
    snapshots.iter().map(|(id, snapshot)| json::snapshot(id, snapshot)).collect()
}

fn grouped_json(groups: &BTreeMap<GroupKey, Vec<Listed<'_>>>) -> Vec<Value> {
    groups
        .iter()
        .map(|((host, paths, tags), group)| {
            json!({ "group_key": { "hostname": host.as_deref().unwrap_or(""), "paths": paths, "tags": tags }, "snapshots": array(group) })
        })
        .collect()
}

fn heading((host, paths, tags): &GroupKey) -> String {
    let mut parts = Vec::new();
    if let Some(host) = host {
        parts.push(format!("host {host}"));
    }
    if let Some(paths) = paths {
        parts.push(format!("paths {}", paths.join(", ")));
    }
    if let Some(tags) = tags {
        parts.push(if tags.is_empty() { "no tags".into() } else { format!("tags {}", tags.join(", ")) });
    }
    parts.join("; ")
}
