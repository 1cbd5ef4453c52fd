//! `coffer stats`: how much there is.

use clap::{Args, ValueEnum};
use repo_core::{
    snapshot::Snapshot,
    stats::{Mode, Stats, stats},
};
use serde_json::{Map, Value, json};

use crate::{
    choose::{FilterArgs, listing},
    context::Context,
    progress::{Display, Work},
    report::{Ending, Result},
    size,
};

/// Count files and bytes of snapshots
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Ids, or their beginnings, or latest; all if none is given
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,

    /// What to count
    #[arg(long, value_enum, default_value = "restore-size")]
    mode: Counted,

    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Counted {
    /// What restoring each of the snapshots would write
    RestoreSize,
    /// Files with different contents
    FilesByContents,
    /// For each path, what its versions do not share
    BlobsPerFile,
    /// What they take in the repository
    RawData,
}

impl StatsArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let filter = self.filter.filter(context)?;
        let repository = context.open()?;
        let output = &context.output;
        let listing = listing(&repository, output)?;
        let snapshots: Vec<&Snapshot> = if self.ids.is_empty() {
            listing.select(&filter).map(|(_, snapshot)| snapshot).collect()
        } else {
            let find = |id: &String| listing.find(id, &filter).map(|(_, snapshot)| snapshot);
            self.ids.iter().map(find).collect::<Result<_, _>>()?
        };
        let reader = context.reader(&repository)?;
        let mode = match self.mode {
            Counted::RestoreSize => Mode::RestoreSize,
            Counted::FilesByContents => Mode::FilesByContents,
            Counted::BlobsPerFile => Mode::BlobsPerFile,
            Counted::RawData => Mode::RawData,
        };
        // One document is the result; nothing may come before it.
        let display = (!output.json()).then(|| Display::begin(Work::Check, context));
        let silent = repo_core::progress::Silent;
        let progress =
            display.as_ref().map_or(&silent as &dyn repo_core::progress::Progress, |display| display.meter());
        let counted = stats(&reader, snapshots.iter().copied(), mode, progress, &context.cancel)?;
        drop(display);
        if output.json() {
            output.document(&as_json(&counted))?;
        } else {
            tell(context, &counted)?;
        }
        // What cannot be read was told of, and is not in the numbers.
        Ok(match listing.damaged.len() as u64 {
            count if count > 0 && self.ids.is_empty() => Ending::Damage(format!(
                "{} cannot be read and not counted",
                size::things(count, "snapshot", "snapshots")
            )),
            _ => Ending::Done,
        })
    }
}

fn tell(context: &Context, stats: &Stats) -> Result<()> {
    let output = &context.output;
    let line = |name: &str, value: String| output.line(&format!("{name:<20} {value}"));
    line("snapshots", size::count(stats.snapshots))?;
    if stats.files > 0 {
        line("files", size::count(stats.files))?;
    }
    if stats.blobs > 0 {
        line("blobs", size::count(stats.blobs))?;
    }
    if stats.uncompressed_bytes > 0 {
        line("size, not compressed", size::bytes(stats.uncompressed_bytes))?;
    }
    line("size", size::bytes(stats.bytes))?;
    if let (Some(ratio), Some(saving)) = (stats.compression_ratio(), stats.compression_space_saving()) {
        line("compression", format!("{ratio:.2} times smaller, {saving:.1} % saved"))?;
    }
    Ok(())
}

fn as_json(stats: &Stats) -> Value {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| _ = object.insert(name.to_owned(), value);
    set("total_size", json!(stats.bytes));
    if stats.uncompressed_bytes > 0 {
        set("total_uncompressed_size", json!(stats.uncompressed_bytes));
        set("compression_ratio", json!(stats.compression_ratio()));
        // Everything is compressed that becomes smaller by it, in every repository.
        set("compression_progress", json!(100));
        set("compression_space_saving", json!(stats.compression_space_saving()));
    }
    set("total_file_count", json!(stats.files));
    if stats.blobs > 0 {
        set("total_blob_count", json!(stats.blobs));
    }
    set("snapshots_count", json!(stats.snapshots));
    Value::Object(object)
}
