//! `coffer backup`: files, standard input or a command's output become a snapshot.

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::PathBuf};

use clap::Args;
use repo_core::{
    backup::{BackupOptions, BackupReport, Parent, backup},
    error::Error,
    id::SnapshotId,
    repository::Repository,
    retention::span::Span,
    snapshot::{Listing, Protection},
    source::{
        Source,
        local::{LocalOptions, LocalSource},
        stream::{StreamOptions, StreamSource},
    },
};
use serde_json::json;

use super::version::PROGRAM;
use crate::{
    child::{self, Stream},
    context::{Context, Opened, machine, now, session_note, user_name},
    json::{counters, message},
    progress::{Display, Work},
    report::{Ending, Failure, Result},
    settings, size,
    targets::{self, TargetArgs},
    time,
};

/// Save files, or what a command writes, in a new snapshot
///
/// Relative paths are stored as they are written, absolute ones from the root. What was in the last snapshot of the same host and the
/// same targets, and has the same size, times and inode, is not read again.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    targets: TargetArgs,

    /// Save standard input as a file
    #[arg(long, help_heading = "Streams", conflicts_with_all = ["stdin_from_command"])]
    stdin: bool,

    /// Save what a command writes, unless it fails; the command is written behind "--"
    #[arg(long, help_heading = "Streams")]
    stdin_from_command: bool,

    /// Path of that file in the snapshot
    #[arg(long, value_name = "PATH", default_value = "stdin", help_heading = "Streams")]
    stdin_filename: String,

    /// Tags, separated by commas
    #[arg(long, value_name = "TAG,…", help_heading = "The snapshot")]
    tag: Vec<String>,

    /// Host this is a backup of, if not this one
    #[arg(short = 'H', long, value_name = "HOST", help_heading = "The snapshot")]
    host: Option<String>,

    /// Time of the snapshot, if not now: "2026-01-31 23:59:59"
    #[arg(long, value_name = "TIME", help_heading = "The snapshot")]
    time: Option<String>,

    /// What this is a backup of; by default the targets. Snapshots with the same label belong together, whatever is in them
    #[arg(long, value_name = "NAME", help_heading = "The snapshot")]
    label: Option<String>,

    /// Never remove this snapshot by a rule
    #[arg(long, conflicts_with_all = ["protect_until", "delete_after"], help_heading = "The snapshot")]
    protect: bool,

    /// Do not remove this snapshot by a rule before this time
    #[arg(long, value_name = "TIME", help_heading = "The snapshot")]
    protect_until: Option<String>,

    /// Do not remove this snapshot by a rule before it is this old: 30d, 6m, 1y
    #[arg(long, value_name = "DURATION", conflicts_with = "protect_until", help_heading = "The snapshot")]
    delete_after: Option<Span>,

    /// Make no snapshot if nothing changed
    #[arg(long, help_heading = "The snapshot")]
    skip_if_unchanged: bool,

    /// Snapshot to look for changes against
    #[arg(long, value_name = "SNAPSHOT", help_heading = "Changes")]
    parent: Option<String>,

    /// Read all files, changed or not
    #[arg(short, long, conflicts_with = "parent", help_heading = "Changes")]
    force: bool,

    /// A change of a file's inode alone (mode, owner, links) is no reason to read it
    #[arg(long, help_heading = "Changes")]
    ignore_ctime: bool,

    /// Another inode number alone is no reason to read a file
    #[arg(long, help_heading = "Changes")]
    ignore_inode: bool,

    /// Note so often what is finished, so that the next backup goes on from there if this one is cut short: 90s, 10m, 1h; 0 for never
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = seconds)]
    checkpoint_every: u64,

    /// Store when files were read last
    #[arg(long)]
    with_atime: bool,

    /// Do all but store anything
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Threads that read and compute
    #[arg(long, value_name = "N")]
    read_concurrency: Option<usize>,

    /// Do not count beforehand; nobody can tell then how long it will take
    #[arg(long)]
    no_scan: bool,

    /// By what snapshots belong together: always host and label, or host and targets
    #[arg(short, long, value_name = "KEYS", hide = true)]
    group_by: Option<String>,
}

/// What is told when there is no snapshot.
const NO_SNAPSHOT: &str =
    "no snapshot was made; earlier ones are as they were, and what was stored is used by the next backup";

/// What is told when there is no snapshot, and a checkpoint.
const GOES_ON: &str = "no snapshot was made; earlier ones are as they were, and the next backup goes on from here";

/// A number of seconds, also written with a unit.
fn seconds(text: &str) -> std::result::Result<u64, String> {
    let (number, unit_seconds) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 24 * 3600),
        _ => (text, u64::from(text == "0")),
    };
    let number = number.parse::<u64>().ok().filter(|_| unit_seconds > 0);
    number.and_then(|number| number.checked_mul(unit_seconds)).ok_or_else(|| "write it as 90s, 10m or 1h, or 0".into())
}

impl BackupArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        // Everything that can be wrong with flags comes before anything is asked or done.
        let mut options = self.options(context)?;
        let streams = self.stdin || self.stdin_from_command;
        if streams && self.targets.has_lists() {
            return Err(Failure::usage("a stream and lists of files cannot be saved in one snapshot"));
        }
        if self.stdin && !self.targets.paths.is_empty() {
            return Err(Failure::usage("--stdin and paths cannot be saved in one snapshot"));
        }
        if self.stdin_from_command && self.targets.paths.is_empty() {
            return Err(Failure::usage("--stdin-from-command needs a command")
                .hint("write it after \"--\", as in: coffer backup --stdin-from-command -- pg_dump shop"));
        }
        let local = if streams { None } else { Some(targets::local(&self.targets, context)?) };
        let repository = context.open_or_make()?;
        if let Some(parent) = &self.parent {
            options.parent = Parent::Snapshot(find_parent(&repository, parent)?);
        }
        let source: Box<dyn Source> = match local {
            Some((paths, local)) => {
                options.excludes.clone_from(&paths.excludes);
                Box::new(files(context, &repository, paths, local)?)
            }
            None => Box::new(self.stream(context)?),
        };
        let display = Display::begin(Work::Backup, context);
        // To look at every file twice costs some 5 % of the time; nobody sees how much is left where nothing is shown.
        options.count_ahead &= display.is_shown();
        let result = backup(&repository, &*source, &options, display.meter(), &context.cancel);
        let (seconds, claimed) = (display.seconds(), display.meter().checkpoints() > 0);
        drop(display);
        // Ends a command that is still at work, before the user is told how it ended.
        drop(source);
        let report = match result {
            Ok(report) => report,
            // What ended a stream was the user.
            Err(_) if context.cancel.is_cancelled() => {
                let state = if claimed { GOES_ON } else { NO_SNAPSHOT };
                return Err(Failure::from(Error::Cancelled).state(state));
            }
            Err(error) => return Err(explained(error)),
        };
        self.tell(context, &report, seconds);
        Ok(match report.problem_count {
            0 => Ending::Done,
            1 => Ending::Partial("1 item could not be saved as it should; the snapshot holds everything else".into()),
            count => Ending::Partial(format!(
                "{} items could not be saved as they should; the snapshot holds everything else",
                size::count(count)
            )),
        })
    }

    fn options(&self, context: &Context) -> Result<BackupOptions> {
        let usage = |flag: &str| {
            let flag = flag.to_owned();
            move |reason: String| Failure::usage(format!("{flag}: {reason}"))
        };
        let now = now();
        let moment = self.time.as_deref().map(time::parse).transpose().map_err(usage("--time"))?;
        let until = self.protect_until.as_deref().map(time::parse).transpose().map_err(usage("--protect-until"))?;
        let until = match self.delete_after {
            Some(span) => Some(
                time::calendar()
                    .after(moment.unwrap_or(now), span)
                    .ok_or_else(|| Failure::usage("--delete-after: that is beyond the end of the calendar"))?,
            ),
            None => until,
        };
        if self.protect_until.is_some() && until.is_some_and(|until| until <= now) {
            return Err(Failure::usage("--protect-until: this time has passed"));
        }
        if self.read_concurrency == Some(0) {
            return Err(Failure::usage("--read-concurrency: at least 1"));
        }
        if self.label.as_deref() == Some("") {
            return Err(Failure::usage("--label is empty"));
        }
        let user = user_name();
        let host = context.named_host(self.host.as_deref())?.unwrap_or_else(machine);
        let tags = self.tag.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|tag| !tag.is_empty());
        let switch = |flag: bool, name: &str| Ok::<_, Failure>(flag || settings::switch(&context.environment, name)?);
        Ok(BackupOptions {
            time: moment,
            utc_offset_seconds: time::utc_offset_seconds(moment.unwrap_or(now)),
            user_number: rustix::process::getuid().as_raw(),
            group_number: rustix::process::getgid().as_raw(),
            label: self.label.clone(),
            tags: tags.map(str::to_owned).collect(),
            excludes: Vec::new(),
            program: PROGRAM.into(),
            protection: match until {
                _ if self.protect => Protection::Forever,
                Some(until) => Protection::Until(until),
                None => Protection::None,
            },
            parent: if self.force { Parent::None } else { Parent::Newest },
            ignore_ctime: switch(self.ignore_ctime, "IGNORE_CTIME")?,
            ignore_inode: switch(self.ignore_inode, "IGNORE_INODE")?,
            with_atime: self.with_atime,
            skip_if_unchanged: self.skip_if_unchanged,
            dry_run: self.dry_run,
            level: settings::level(&context.global, &context.environment)?,
            threads: match (self.read_concurrency, context.environment.get("READ_CONCURRENCY")) {
                (None, Some(variable)) => Some(variable.parse::<std::num::NonZeroUsize>()?.get()),
                (threads, _) => threads,
            },
            note: Some(session_note("backup")),
            checkpoint_every_seconds: self.checkpoint_every,
            checkpoints_beside: true,
            count_ahead: !(self.no_scan || self.stdin || self.stdin_from_command),
            host,
            user,
        })
    }

    fn stream(&self, context: &Context) -> Result<StreamSource> {
        let options = StreamOptions {
            path: self.stdin_filename.clone(),
            user: rustix::process::getuid().as_raw(),
            group: rustix::process::getgid().as_raw(),
            time: now(),
            named: None,
        };
        if self.stdin {
            return Ok(StreamSource::new(options, Box::new(Stream::stdin(&context.cancel)?), Box::new(|| Ok(())))?);
        }
        let command: &[OsString] = &self.targets.paths;
        let (running, stream) = child::start(command, &context.output, &context.cancel)?;
        Ok(StreamSource::new(options, Box::new(stream), Box::new(move || running.finish()))?)
    }

    fn tell(&self, context: &Context, report: &BackupReport, seconds: f64) {
        let output = &context.output;
        let (summary, totals) = (&report.summary, &report.totals);
        if output.json() {
            let mut value = message("summary", counters(summary, totals));
            if let Some(object) = value.as_object_mut() {
                object.insert("dry_run".into(), json!(self.dry_run));
                object.insert("backup_start".into(), json!(time::rfc3339(summary.started)));
                object.insert("backup_end".into(), json!(time::rfc3339(summary.ended)));
                object.insert("total_duration".into(), json!(seconds));
                object.insert("error_count".into(), json!(report.problem_count));
                if let Some(id) = &report.snapshot {
                    object.insert("snapshot_id".into(), json!(id.to_string()));
                }
                if let Some(parent) = &report.parent {
                    object.insert("parent_snapshot_id".into(), json!(parent.to_string()));
                }
            }
            output.message(&value);
            return;
        }
        match &report.parent {
            Some(parent) => output.detail(&format!("changes since snapshot {}", parent.short())),
            None if report.unfinished.is_empty() => output.detail("no earlier snapshot of this: everything was read"),
            None => {}
        }
        if !report.unfinished.is_empty() {
            output.say("went on from where a backup was cut short");
        }
        let line = |name: &str, new: u64, changed: u64, unmodified: u64| {
            let count = size::count;
            format!(
                "{name:<7} {:>9} new, {:>9} changed, {:>9} unmodified",
                count(new),
                count(changed),
                count(unmodified)
            )
        };
        output.say(&line("Files:", summary.files_new, summary.files_changed, summary.files_unmodified));
        output.say(&line(
            "Dirs:",
            summary.directories_new,
            summary.directories_changed,
            summary.directories_unmodified,
        ));
        let (would, stored) = if self.dry_run { ("Would add", "to be stored") } else { ("Added", "stored") };
        output.say(&format!(
            "{would} to the repository: {} ({} {stored})",
            size::bytes(summary.bytes_added),
            size::bytes(summary.bytes_added_packed)
        ));
        output.say("");
        output.say(&format!(
            "processed {}, {} in {}",
            size::things(totals.files, "file", "files"),
            size::bytes(totals.bytes),
            time::duration(seconds)
        ));
        match &report.snapshot {
            Some(id) => output.say(&format!("snapshot {} saved", id.short())),
            None if self.dry_run => output.say("dry run: no snapshot was made"),
            None => output.say("nothing changed: no snapshot was made"),
        }
    }
}

/// The source for files of this machine.
fn files(
    context: &Context,
    repository: &Repository,
    paths: targets::Local,
    mut options: LocalOptions,
) -> Result<LocalSource> {
    let output = &context.output;
    for pattern in &paths.unmatched {
        output.warning(&format!("the pattern \"{pattern}\" matches nothing; it is passed over"));
    }
    // A backup of the repository into itself would grow with every run.
    let own = PathBuf::from(repository.store().location());
    if paths.holds(&own) {
        options.exclude.pattern(&targets::literally(own.as_os_str().as_bytes())).map_err(Failure::new)?;
        output.note(&format!("leaving out the repository itself, {}", own.display()));
    }
    Ok(LocalSource::new(&paths.targets, options)?)
}

fn find_parent(repository: &Opened, query: &str) -> Result<SnapshotId> {
    let listing = Listing::read(repository)?;
    Ok(listing.find(query, &repo_core::snapshot::select::Filter::default())?.0)
}

fn explained(error: Error) -> Failure {
    let source = matches!(error, Error::Source(_));
    let failure = Failure::from(error).state(NO_SNAPSHOT);
    if source {
        failure.state("no snapshot was made, since it would not hold what it should; earlier ones are as they were")
    } else {
        failure
    }
}
