//! `coffer rewrite`: snapshots without some of their files, or of another host, time or label.

use clap::Args;
use repo_core::{
    edit::{Changes, Edit, EditOptions, EditReport, Exclude, Outcome, TagChange, edit},
    progress::Progress,
};
use serde_json::{Value, json};

use crate::{
    choose::{FilterArgs, listing, listing_ending, several},
    commands::tag::{UNTOUCHED, ending, explained, list, made},
    context::{Context, session_note},
    json::message,
    output::Output,
    progress::{Display, Work},
    report::{Ending, Failure, Result},
    settings, size,
    targets::{ExcludeArgs, patterns},
    time,
};

/// Make snapshots anew without some files, or of another host, time or label
///
/// A snapshot never changes: without these files it is a new one, with a new id, which tells its original. Both are there then, unless
/// the old one is forgotten with --forget; what only it refers to stays in the repository until it is pruned. Patterns are held against
/// paths as "coffer ls" shows them.
#[derive(Debug, Args)]
pub(crate) struct RewriteArgs {
    /// Ids of snapshots, or their beginnings, or latest; without any, all that are meant by the flags
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,

    #[command(flatten)]
    excludes: ExcludeArgs,

    /// Another host
    #[arg(long, value_name = "HOST", help_heading = "What to change")]
    new_host: Option<String>,

    /// Another time: "2026-01-31 23:59:59"
    #[arg(long, value_name = "TIME", help_heading = "What to change")]
    new_time: Option<String>,

    /// Another label; '' for none
    #[arg(long, value_name = "NAME", help_heading = "What to change")]
    new_label: Option<String>,

    /// Tags to give, separated by commas
    #[arg(long, value_name = "TAG,…", help_heading = "What to change")]
    add_tag: Vec<String>,

    /// Tags to take away
    #[arg(long, value_name = "TAG,…", help_heading = "What to change")]
    remove_tag: Vec<String>,

    /// Tags in place of those that are there; '' for none
    #[arg(long, value_name = "TAG,…", conflicts_with_all = ["add_tag", "remove_tag"], help_heading = "What to change")]
    set_tag: Option<Vec<String>>,

    /// Forget the old snapshots. Without this, the new ones are there beside them, with the tag "rewrite"
    #[arg(long)]
    forget: bool,

    /// Forget them even if they are protected. The new ones are protected in the same way
    #[arg(long, requires = "forget")]
    unsafe_remove_protected: bool,

    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    filter: FilterArgs,

    // The sums of a snapshot are always right.
    #[arg(short = 's', long, hide = true)]
    snapshot_summary: bool,
}

/// The tag of snapshots that are there beside their originals, as with restic.
const TAG: &str = "rewrite";

impl RewriteArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let options = self.options(context)?;
        let filter = self.filter.filter(context)?;
        let repository = context.open()?;
        let output = &context.output;
        let listing = listing(&repository, output)?;
        let ids = several(&listing, &self.ids, &filter).map_err(|failure| failure.state(UNTOUCHED))?;
        let display = Display::begin(Work::Rewrite, context);
        let meter: &dyn Progress = display.meter();
        let result = edit(&repository, &listing, &ids, &options, meter, &context.cancel);
        drop(display);
        let report = result.map_err(explained)?;
        self.tell(output, &report)?;
        Ok(match ending(output, &report) {
            Ending::Done => listing_ending(&listing),
            ending => ending,
        })
    }

    fn options(&self, context: &Context) -> Result<EditOptions> {
        let (rules, patterns) = patterns(&self.excludes, context)?;
        if self.new_host.as_deref() == Some("") {
            return Err(Failure::usage("--new-host is empty"));
        }
        let new_time = self.new_time.as_deref().map(time::parse).transpose();
        let new_time = new_time.map_err(|reason| Failure::usage(format!("--new-time: {reason}")))?;
        let tags = match &self.set_tag {
            Some(tags) => TagChange::Set(list(tags)),
            None if self.add_tag.is_empty() && self.remove_tag.is_empty() => TagChange::None,
            None => TagChange::Change { add: list(&self.add_tag), remove: list(&self.remove_tag) },
        };
        let nothing = patterns.is_empty()
            && self.new_host.is_none()
            && new_time.is_none()
            && self.new_label.is_none()
            && tags == TagChange::None;
        if nothing {
            return Err(Failure::usage(
                "nothing says what to change: give --exclude, --new-host, --new-time, --new-label or tags",
            )
            .hint("try: coffer rewrite --dry-run --exclude PATTERN"));
        }
        let mark = (!self.forget).then(|| TAG.to_owned());
        Ok(EditOptions {
            changes: Changes {
                host: self.new_host.clone(),
                time: new_time.map(|time| (time, time::utc_offset_seconds(time))),
                label: self.new_label.clone(),
                tags,
            },
            exclude: Exclude { rules, patterns },
            mark,
            forget: self.forget,
            even_protected: self.unsafe_remove_protected,
            dry_run: self.dry_run,
            level: settings::level(&context.global, &context.environment)?,
            note: (!self.dry_run).then(|| session_note("rewrite")),
        })
    }

    fn tell(&self, output: &Output, report: &EditReport) -> Result<()> {
        let mut changed: u64 = 0;
        for edit in &report.edits {
            changed += u64::from(!matches!(edit.outcome, Outcome::Unchanged | Outcome::Failed(_)));
            if output.json() {
                output.document(&message("snapshot", document(edit)))?;
            } else {
                self.line(output, edit);
            }
        }
        if output.json() {
            let value = json!({
                "dry_run": self.dry_run,
                "snapshots": report.edits.len() + report.not_tried,
                "changed_snapshots": changed,
            });
            return output.document(&message("summary", value));
        }
        let count = size::things(changed, "snapshot", "snapshots");
        output.say(&match (changed, self.dry_run) {
            (0, _) => "no snapshot was changed".to_owned(),
            (_, true) => format!("would rewrite {count}"),
            (_, false) => format!("rewrote {count}"),
        });
        Ok(())
    }

    fn line(&self, output: &Output, edit: &Edit) {
        let id = edit.id.short();
        let (files, bytes) = left_out(edit);
        let less = if (files, bytes) == (0, 0) {
            String::new()
        } else {
            format!(", without {} ({})", size::things(files, "file", "files"), size::bytes(bytes))
        };
        match (&edit.outcome, made(edit)) {
            (Outcome::Unchanged, _) => output.detail(&format!("snapshot {id} stays as it is")),
            (Outcome::Made(None), _) => output.say(&format!("snapshot {id} would be made anew{less}")),
            (Outcome::WasMade(new), _) => {
                output.say(&format!("snapshot {id} was made anew already, as {}", new.short()));
            }
            (_, Some(new)) => {
                let old = if self.forget { "is now" } else { "is also there as" };
                output.say(&format!("snapshot {id} {old} {}{less}", &new[..8]));
            }
            (_, None) => {}
        }
    }
}

/// Files and bytes that are not in the new snapshot.
const fn left_out(edit: &Edit) -> (u64, u64) {
    (edit.before.files.saturating_sub(edit.after.files), edit.before.bytes.saturating_sub(edit.after.bytes))
}

fn document(edit: &Edit) -> Value {
    let (files, bytes) = left_out(edit);
    let mut value = json!({
        "old_snapshot_id": edit.id.to_string(),
        "new_snapshot_id": made(edit),
        "changed": !matches!(edit.outcome, Outcome::Unchanged | Outcome::Failed(_)),
        "removed_files": files,
        "removed_bytes": bytes,
        "total_files": edit.after.files,
        "total_bytes": edit.after.bytes,
    });
    if let (Outcome::Failed(error) | Outcome::Doubled(_, error), Some(object)) = (&edit.outcome, value.as_object_mut())
    {
        object.insert("error".into(), json!(error.chain()));
    }
    value
}
