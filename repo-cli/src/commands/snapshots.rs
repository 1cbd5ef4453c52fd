//! `coffer snapshots`: what there is.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use repo_core::{
    id::SnapshotId,
    snapshot::{
        Protection, Snapshot,
        group::{GroupKey, Grouping},
    },
    tree::name::escape,
};
use serde_json::{Value, json};

use crate::{
    choose::{FilterArgs, listing, listing_ending},
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

    /// Only the newest N of each group: of each host and source, unless --group-by says otherwise
    #[arg(long, value_name = "N")]
    latest: Option<usize>,

    /// Apart by host, source, label, paths, tags, separated by commas. The source is the label if there is one, else the targets as
    /// they were named
    #[arg(short, long, value_name = "KEYS")]
    group_by: Option<Grouping>,

    /// One line for each snapshot
    #[arg(short, long)]
    compact: bool,
}

type Listed<'a> = &'a (SnapshotId, Snapshot);

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
            let groups = self.group_by.unwrap_or_default().split(chosen.iter().copied());
            let kept: BTreeSet<SnapshotId> =
                groups.values().flat_map(|group| group.iter().rev().take(latest)).map(|(id, _)| *id).collect();
            chosen.retain(|(id, _)| kept.contains(id));
        }
        match self.group_by {
            Some(grouping) if output.json() => output.document(&grouped_json(&grouping.split(chosen)))?,
            None if output.json() => output.document(&array(&chosen))?,
            Some(grouping) => {
                for (number, (key, group)) in grouping.split(chosen).iter().enumerate() {
                    if number > 0 {
                        output.line("")?;
                    }
                    let key = key.to_string();
                    if !key.is_empty() {
                        output.line(&output.heading(&escape(key.as_bytes())))?;
                    }
                    self.table(output, group)?;
                }
            }
            None if chosen.is_empty() => output.say("no snapshots"),
            None => self.table(output, &chosen)?,
        }
        Ok(listing_ending(&listing))
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
                let list: Vec<_> = list.iter().map(|entry| escape(entry.as_bytes())).collect();
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

fn array(snapshots: &[Listed<'_>]) -> Vec<Value> {
    snapshots.iter().map(|(id, snapshot)| json::snapshot(id, snapshot)).collect()
}

fn grouped_json(groups: &BTreeMap<GroupKey, Vec<Listed<'_>>>) -> Vec<Value> {
    groups.iter().map(|(key, group)| json!({ "group_key": json::group_key(key), "snapshots": array(group) })).collect()
}
