//! `coffer copy`: snapshots to another repository.

use clap::Args;
use repo_core::{
    copy::{Copied, CopyOptions, CopyReport, Outcome, copy},
    error::Error,
};
use serde_json::{Value, json};

use crate::{
    choose::{FilterArgs, listing, listing_ending, several},
    context::{Context, session_note},
    from::FromArgs,
    json::{self, message},
    output::Output,
    progress::{Display, Work},
    report::{Ending, Failure, Result},
    settings, size, time,
};

/// Copy snapshots from another repository to this one
///
/// What this repository has is not stored again, and a snapshot that was copied before is passed over. To share data between copies and
/// backups of its own, make this repository with "coffer init --copy-chunker-params --from-repo …".
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Ids of snapshots, or their beginnings, or latest; without any, all that are meant by the flags
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,

    #[command(flatten)]
    from: FromArgs,

    #[command(flatten)]
    filter: FilterArgs,

    /// Do all but store anything
    #[arg(short = 'n', long)]
    dry_run: bool,
}

const STATE: &str = "copies that are complete stay; what else was stored is used by the next run";

impl CopyArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let filter = self.filter.filter(context)?;
        let level = settings::level(&context.global, &context.environment)?;
        let source = self.from.open(context)?;
        let destination = context.open()?;
        let output = &context.output;
        let listing = listing(&source, output)?;
        let ids = several(&listing, &self.ids, &filter)?;
        let options = CopyOptions {
            dry_run: self.dry_run,
            level,
            compress: context.global.compression.is_some(),
            note: (!self.dry_run).then(|| session_note("copy")),
            ..CopyOptions::default()
        };
        let display = Display::begin(Work::Copy, context);
        let result = copy(&source, &listing, &ids, &destination, &options, display.meter(), &context.cancel);
        let seconds = display.seconds();
        drop(display);
        let report = result.map_err(explained)?;
        self.tell(output, &report, seconds)?;
        Ok(match ending(output, &report) {
            Ending::Done => listing_ending(&listing),
            ending => ending,
        })
    }

    fn tell(&self, output: &Output, report: &CopyReport, seconds: f64) -> Result<()> {
        let added = &report.added;
        let copied = report.copies.iter().filter(|copied| matches!(copied.outcome, Outcome::Made(_))).count() as u64;
        let there = report.copies.iter().filter(|copied| matches!(copied.outcome, Outcome::WasThere(_))).count() as u64;
        if output.json() {
            for copied in &report.copies {
                output.document(&document(copied))?;
            }
            let value = json!({
                "dry_run": self.dry_run,
                "snapshots_copied": copied,
                "snapshots_skipped": there,
                "data_blobs": added.data_blobs,
                "tree_blobs": added.tree_blobs,
                "data_added": added.data_bytes + added.tree_bytes,
                "data_added_packed": added.data_packed_bytes + added.tree_packed_bytes,
                "total_duration": seconds,
            });
            return output.document(&message("summary", value));
        }
        for Copied { id, snapshot, outcome } in &report.copies {
            let what = format!("{} of {}", id.short(), time::local(snapshot.time));
            match outcome {
                Outcome::WasThere(copy) => {
                    output.detail(&format!("snapshot {what} is there already, as {}", copy.short()));
                }
                Outcome::Made(Some(copy)) => output.say(&format!("snapshot {what} is copied as {}", copy.short())),
                Outcome::Made(None) => output.say(&format!("snapshot {what} would be copied")),
                Outcome::Failed(_) => {}
            }
        }
        let would = if self.dry_run { "would copy" } else { "copied" };
        output.say(&format!(
            "{would} {} in {}, {} were there already; added {} ({} stored)",
            size::things(copied, "snapshot", "snapshots"),
            time::duration(seconds),
            size::count(there),
            size::bytes(added.data_bytes + added.tree_bytes),
            size::bytes(added.data_packed_bytes + added.tree_packed_bytes)
        ));
        Ok(())
    }
}

fn document(copied: &Copied) -> Value {
    let (action, copy) = match &copied.outcome {
        Outcome::WasThere(copy) => ("skipped", Some(*copy)),
        Outcome::Made(copy) => ("copied", *copy),
        Outcome::Failed(_) => ("failed", None),
    };
    let mut value = json!({
        "action": action,
        "source_snapshot_id": copied.id.to_string(),
        "snapshot_id": copy.map(|copy| copy.to_string()),
        "snapshot": json::snapshot(&copied.id, &copied.snapshot),
    });
    if let (Outcome::Failed(error), Some(object)) = (&copied.outcome, value.as_object_mut()) {
        object.insert("error".into(), json!(error.chain()));
    }
    message("snapshot", value)
}

fn explained(error: Error) -> Failure {
    match &error {
        Error::Invalid(_) => error.into(),
        _ => Failure::from(error).state(STATE),
    }
}

fn ending(output: &Output, report: &CopyReport) -> Ending {
    let mut failed = report.not_tried as u64;
    for copied in &report.copies {
        if let Outcome::Failed(error) = &copied.outcome {
            failed += 1;
            output.warning(&format!("snapshot {}: {}", copied.id.short(), error.chain()));
        }
    }
    match failed {
        0 => Ending::Done,
        failed => Ending::Partial(format!("{} could not be copied", size::things(failed, "snapshot", "snapshots"))),
    }
}
