//! `coffer tag`: other tags for snapshots.

use clap::Args;
use repo_core::{
    edit::{Edit, EditOptions, EditReport, Outcome, TagChange, edit},
    error::{Error, StoreErrorKind},
    progress::Silent,
};
use serde_json::json;

use crate::{
    choose::{FilterArgs, listing, listing_ending, several},
    context::{Context, session_note},
    json::message,
    output::Output,
    report::{Ending, Failure, Result},
    size,
};

/// Give snapshots tags, or take tags away
///
/// A snapshot never changes: with other tags it is a new one, with a new id, and the old one is forgotten.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Ids of snapshots, or their beginnings, or latest; without any, all that are meant by the flags
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,

    /// Tags to give, separated by commas (may be given several times)
    #[arg(long, value_name = "TAG,…")]
    add: Vec<String>,

    /// Tags to take away
    #[arg(long, value_name = "TAG,…")]
    remove: Vec<String>,

    /// Tags in place of those that are there; '' for none
    #[arg(long, value_name = "TAG,…", conflicts_with_all = ["add", "remove"])]
    set: Option<Vec<String>>,

    #[command(flatten)]
    filter: FilterArgs,
}

/// What is told when nothing was done.
pub(super) const UNTOUCHED: &str = "the snapshots are as they were";

impl TagArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let change = self.change()?;
        let filter = self.filter.filter(context)?;
        let repository = context.open()?;
        let output = &context.output;
        let listing = listing(&repository, output)?;
        let ids = several(&listing, &self.ids, &filter).map_err(|failure| failure.state(UNTOUCHED))?;
        let options = EditOptions { note: Some(session_note("tag")), ..EditOptions::tags(change) };
        let report = edit(&repository, &listing, &ids, &options, &Silent, &context.cancel).map_err(explained)?;
        tell(output, &report)?;
        Ok(match ending(output, &report) {
            Ending::Done => listing_ending(&listing),
            ending => ending,
        })
    }

    fn change(&self) -> Result<TagChange> {
        let change = match &self.set {
            Some(tags) => TagChange::Set(list(tags)),
            None => TagChange::Change { add: list(&self.add), remove: list(&self.remove) },
        };
        if change == (TagChange::Change { add: Vec::new(), remove: Vec::new() }) {
            return Err(Failure::usage("nothing says what to do: give --add, --remove or --set"));
        }
        Ok(change)
    }
}

/// Tags of lists separated by commas.
pub(super) fn list(lists: &[String]) -> Vec<String> {
    let tags = lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|tag| !tag.is_empty());
    tags.map(str::to_owned).collect()
}

/// The same as restic's messages: one for each snapshot that changed, and a summary.
fn tell(output: &Output, report: &EditReport) -> Result<()> {
    let mut changed: u64 = 0;
    for edit in &report.edits {
        let Some(new) = made(edit) else { continue };
        changed += 1;
        if output.json() {
            let value = json!({ "old_snapshot_id": edit.id.to_string(), "new_snapshot_id": new });
            output.document(&message("changed", value))?;
        } else {
            output.detail(&format!("snapshot {} is {} now", edit.id.short(), &new[..8]));
        }
    }
    if output.json() {
        output.document(&message("summary", json!({ "changed_snapshots": changed })))?;
    } else if changed == 0 {
        output.say("no snapshot was changed");
    } else {
        output.say(&format!("changed the tags of {}", size::things(changed, "snapshot", "snapshots")));
    }
    Ok(())
}

/// The id of the new snapshot, if there is one.
pub(super) fn made(edit: &Edit) -> Option<String> {
    match &edit.outcome {
        Outcome::Made(Some(new)) | Outcome::WasMade(new) | Outcome::Doubled(new, _) => Some(new.to_string()),
        Outcome::Made(None) | Outcome::Unchanged | Outcome::Failed(_) => None,
    }
}

/// Why nothing could be done.
pub(super) fn explained(error: Error) -> Failure {
    match &error {
        Error::NoSnapshot { .. } => Failure::from(error)
            .state("somebody else has forgotten or changed it meanwhile; nothing was done to it")
            .hint("\"coffer snapshots\" lists what there is; run it again"),
        Error::Cancelled => Failure::from(error).state("what was changed by then stays changed"),
        Error::Refused(_) => Failure::from(error)
            .state(UNTOUCHED)
            .hint("a protected snapshot is forgotten with --unsafe-remove-protected only; without --forget it stays"),
        Error::Store(_) => Failure::from(error).state("no snapshot is lost; there may be one too many"),
        _ => Failure::from(error).state(UNTOUCHED),
    }
}

/// Tells what could not be done.
pub(super) fn ending(output: &Output, report: &EditReport) -> Ending {
    let (mut failed, mut doubled) = (report.not_tried as u64, 0);
    for edit in &report.edits {
        let id = edit.id.short();
        match &edit.outcome {
            Outcome::Failed(Error::NoSnapshot { .. }) => {
                failed += 1;
                output.warning(&format!("snapshot {id} was forgotten or changed by somebody else meanwhile"));
            }
            Outcome::Failed(error) => {
                failed += 1;
                output.warning(&format!("snapshot {id}: {}", error.chain()));
            }
            Outcome::Doubled(new, error) => {
                doubled += 1;
                let hint = match error.store_kind() {
                    Some(StoreErrorKind::Denied) => "; this store lets nothing be deleted with these rights",
                    _ => "; running this again forgets it",
                };
                output.warning(&format!(
                    "snapshot {id} is {} now, but is still there, too: {}{hint}",
                    new.short(),
                    error.chain()
                ));
            }
            _ => {}
        }
    }
    match (failed, doubled) {
        (0, 0) => Ending::Done,
        (0, _) => Ending::Partial("a snapshot is there twice: as it was, and as it was to be".into()),
        _ => Ending::Partial(format!("{} could not be changed", size::things(failed, "snapshot", "snapshots"))),
    }
}
