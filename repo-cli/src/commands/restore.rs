//! `coffer restore`: from a snapshot into a folder.

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::PathBuf};

use clap::{Args, ValueEnum};
use repo_core::{
    error::Error,
    restore::{Everything, Overwrite, RestoreOptions, RestoreReport, Rules, Select, restore},
    sink::local::{LocalOptions, LocalSink},
    source::exclude::parse_exclude_file,
    store::count::Counts,
};
use serde_json::json;

use crate::{
    choose::{FilterArgs, choose_to_read},
    context::Context,
    metering::Estimate,
    progress::{Display, Work},
    report::{Ending, Failure, Result},
    size, targets, time,
};

/// Bring files back from a snapshot
///
/// What was interrupted goes on when it is run again: what is there already is compared, not fetched.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Snapshot: an id, its beginning, latest, latest~2; or SNAPSHOT:PATH for what is below a directory
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,

    /// Folder to restore into; made if it is not there
    #[arg(short, long, value_name = "FOLDER")]
    target: PathBuf,

    /// Restore only what matches this pattern (may be given several times)
    #[arg(short, long, value_name = "PATTERN", help_heading = "What to restore")]
    include: Vec<OsString>,

    /// The same, upper and lower case alike
    #[arg(long, value_name = "PATTERN", help_heading = "What to restore")]
    iinclude: Vec<OsString>,

    /// File with such patterns, one a line
    #[arg(long, value_name = "FILE", help_heading = "What to restore")]
    include_file: Vec<PathBuf>,

    /// The same, upper and lower case alike
    #[arg(long, value_name = "FILE", help_heading = "What to restore")]
    iinclude_file: Vec<PathBuf>,

    /// Leave out what matches this pattern (may be given several times)
    #[arg(short, long, value_name = "PATTERN", help_heading = "What to restore")]
    exclude: Vec<OsString>,

    /// The same, upper and lower case alike
    #[arg(long, value_name = "PATTERN", help_heading = "What to restore")]
    iexclude: Vec<OsString>,

    /// File with such patterns, one a line
    #[arg(long, value_name = "FILE", help_heading = "What to restore")]
    exclude_file: Vec<PathBuf>,

    /// The same, upper and lower case alike
    #[arg(long, value_name = "FILE", help_heading = "What to restore")]
    iexclude_file: Vec<PathBuf>,

    /// Leave extended attributes alone whose names match this pattern
    #[arg(long, value_name = "PATTERN", help_heading = "What to restore")]
    exclude_xattr: Vec<String>,

    /// Restore only extended attributes whose names match this pattern
    #[arg(long, value_name = "PATTERN", conflicts_with = "exclude_xattr", help_heading = "What to restore")]
    include_xattr: Vec<String>,

    /// What becomes of files that are there already
    #[arg(long, value_name = "WHEN", default_value = "always")]
    overwrite: When,

    /// Remove what is in restored folders and not in the snapshot
    #[arg(long)]
    delete: bool,

    /// Change nothing, tell what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Read back what was restored and compare it
    #[arg(long)]
    verify: bool,

    /// Files with holes are always restored with holes
    #[arg(long, hide = true)]
    sparse: bool,

    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// Where they differ from the snapshot; contents are compared
    Always,
    /// Where length or time of modification differ
    IfChanged,
    /// Where those in the snapshot are newer
    IfNewer,
    /// Not at all
    Never,
}

/// What is told when a restore ended early.
const UNFINISHED: &str = "what was restored until then is there, whole files only; run it again to go on with it";

impl RestoreArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let filter = self.filter.filter(context)?;
        let rules = self.rules(context)?;
        if self.delete && rules.is_empty() && self.target.as_os_str() == "/" {
            return Err(Failure::usage(
                "--delete with \"/\" as target would remove everything that is not in the snapshot",
            )
            .hint("name what is meant with --include"));
        }
        let options = LocalOptions {
            exclude_xattrs: self.exclude_xattr.clone(),
            include_xattrs: self.include_xattr.clone(),
            ..LocalOptions::default()
        };
        let sink = LocalSink::new(&self.target, &options)?;
        let repository = context.open()?;
        let output = &context.output;
        let (chosen, reader) = choose_to_read(context, &repository, &self.snapshot, &filter)?;
        let tree = chosen.tree(&reader)?;
        let options = RestoreOptions {
            overwrite: match self.overwrite {
                When::Always => Overwrite::Always,
                When::IfChanged => Overwrite::IfChanged,
                When::IfNewer => Overwrite::IfNewer,
                When::Never => Overwrite::Never,
            },
            delete: self.delete,
            dry_run: self.dry_run,
            verify: self.verify,
            threads: context.reading_threads(&repository)?,
            ..RestoreOptions::default()
        };
        output.note(&format!("restoring snapshot {} to {sink}", chosen.id.short()));
        let display = Display::begin(Work::Restore, context);
        let select: &dyn Select = if rules.is_empty() { &Everything } else { &rules };
        let result = restore(&reader, &tree, &sink, select, &options, display.meter(), &context.cancel);
        let seconds = display.seconds();
        drop(display);
        let report = result.map_err(|error| {
            let full = matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull);
            let failure = Failure::from(error).state(UNFINISHED);
            if full { failure.hint("free some space where the target is, and run it again") } else { failure }
        })?;
        if self.dry_run {
            let counts = Counts { gets: report.requests, read_bytes: report.bytes_fetched, ..Counts::default() };
            context.meters.foretell(output, Estimate(counts));
        }
        self.tell(context, &report, seconds);
        Ok(match report.problem_count {
            0 => Ending::Done,
            1 => Ending::Partial("1 item could not be restored as it should; everything else was restored".into()),
            count => Ending::Partial(format!(
                "{} items could not be restored as they should; everything else was restored",
                size::count(count)
            )),
        })
    }

    fn rules(&self, context: &Context) -> Result<Rules> {
        let mut rules = Rules::default();
        let usage = |flag: &str, error: &dyn std::fmt::Display| Failure::usage(format!("{flag}: {error}"));
        for (flag, patterns, ignore_case) in [("--include", &self.include, false), ("--iinclude", &self.iinclude, true)]
        {
            for pattern in patterns {
                // Mostly a variable that is not set. Without a pattern, everything would be restored.
                if pattern.is_empty() {
                    return Err(Failure::usage(format!("{flag}: the pattern is empty")));
                }
                rules.include(pattern.as_bytes(), ignore_case).map_err(|error| usage(flag, &error))?;
            }
        }
        for (flag, patterns, ignore_case) in [("--exclude", &self.exclude, false), ("--iexclude", &self.iexclude, true)]
        {
            for pattern in patterns {
                rules.exclude(pattern.as_bytes(), ignore_case).map_err(|error| usage(flag, &error))?;
            }
        }
        for (files, ignore_case) in [(&self.include_file, false), (&self.iinclude_file, true)] {
            for (file, pattern) in patterns_in(files, context)? {
                rules.include(&pattern, ignore_case).map_err(|error| usage(&file, &error))?;
            }
        }
        for (files, ignore_case) in [(&self.exclude_file, false), (&self.iexclude_file, true)] {
            for (file, pattern) in patterns_in(files, context)? {
                rules.exclude(&pattern, ignore_case).map_err(|error| usage(&file, &error))?;
            }
        }
        Ok(rules)
    }

    fn tell(&self, context: &Context, report: &RestoreReport, seconds: f64) {
        let output = &context.output;
        for note in &report.notes {
            if output.json() {
                output.message(&json!({ "message_type": "note", "message": note }));
            } else {
                output.note(&format!("note: {note}"));
            }
        }
        let restored = report.files_new + report.files_changed;
        if output.json() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a run")]
            output.message(&json!({
                "message_type": "summary",
                "dry_run": self.dry_run,
                "seconds_elapsed": seconds as u64,
                "total_files": report.files_found + report.directories_found,
                "files_restored": restored + report.directories_new,
                "files_skipped": report.files_unchanged,
                "files_deleted": report.deleted,
                "files_failed": report.files_failed,
                "total_bytes": report.bytes_found,
                "bytes_restored": report.bytes_written,
                "bytes_skipped": report.bytes_unchanged,
                "bytes_verified": report.bytes_verified,
                "error_count": report.problem_count,
            }));
            return;
        }
        let done = if self.dry_run { "would restore" } else { "restored" };
        output.say(&format!(
            "{done} {} ({}) and {} in {}",
            size::things(restored, "file", "files"),
            size::bytes(report.bytes_written),
            size::things(report.directories_new, "new folder", "new folders"),
            time::duration(seconds)
        ));
        if report.files_unchanged > 0 {
            output.say(&format!(
                "left {} ({}) as they were",
                size::things(report.files_unchanged, "file", "files"),
                size::bytes(report.bytes_unchanged)
            ));
        }
        if report.deleted > 0 {
            let done = if self.dry_run { "would remove" } else { "removed" };
            output.say(&format!(
                "{done} {} that the snapshot does not have",
                size::things(report.deleted, "item", "items")
            ));
        }
        if self.verify && !self.dry_run {
            output.say(&format!("read back and compared {}", size::bytes(report.bytes_verified)));
        }
    }
}

/// The patterns of files, each with the file it is in.
fn patterns_in(files: &[PathBuf], context: &Context) -> Result<Vec<(String, Vec<u8>)>> {
    use std::os::unix::ffi::OsStringExt;
    let variable = |name: &[u8]| {
        let name = std::str::from_utf8(name).ok()?;
        context.environment.exact(name).map(|variable| variable.value.into_vec())
    };
    let mut patterns = Vec::new();
    for file in files {
        let shown = file.display().to_string();
        let list = parse_exclude_file(&targets::read_list(file)?, &variable);
        let list = list.map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
        patterns.extend(list.into_iter().map(|pattern| (shown.clone(), pattern)));
    }
    Ok(patterns)
}
