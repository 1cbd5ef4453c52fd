//! `coffer check`: is everything there, and what it was?

use clap::Args;
use repo_core::check::{CheckOptions, CheckReport, Finding, ReadData, Severity, check, foresee};
use serde_json::json;

use crate::{
    context::Context,
    json::text,
    metering::Estimate,
    output::Output,
    progress::{Display, Work},
    report::{Ending, Failure, Result, plain},
    size, time,
};

/// Check the repository for damage
///
/// Without --read-data, everything is checked but the contents of files: that all they need is there, and in its right size.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Read and check all data
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,

    /// Read and check part of it: 1/5 for the first fifth, 10% or 2G chosen at random
    #[arg(long, value_name = "N/T|P%|SIZE")]
    read_data_subset: Option<String>,

    /// Only tell what it would take of the store
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// No checks are made by a cache
    #[arg(long, hide = true)]
    with_cache: bool,
}

impl CheckArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let read_data = match &self.read_data_subset {
            Some(subset) => part(subset).map_err(|error| Failure::usage(format!("--read-data-subset: {error}")))?,
            None if self.read_data => ReadData::All,
            None => ReadData::None,
        };
        let repository = context.open()?;
        let output = &context.output;
        let options = CheckOptions { read_data, ..CheckOptions::default() };
        if self.dry_run {
            context.meters.foretell(output, Estimate(foresee(&repository, options)?));
            return Ok(Ending::Done);
        }
        let display = Display::begin(Work::Check, context);
        let result = check(&repository, options, display.meter(), &context.cancel);
        let seconds = display.seconds();
        drop(display);
        let report =
            result.map_err(|error| Failure::from(error).state("the check did not end; nothing was changed"))?;
        for finding in &report.findings {
            show(output, finding);
        }
        if output.json() {
            output.message(&json!({
                "message_type": "summary",
                "num_errors": report.errors(),
                "broken_packs": report.broken_packs().filter_map(|pack| pack.rsplit('/').next()).collect::<Vec<_>>(),
                "suggest_repair_index": report.suggests_repair_index(),
                "suggest_prune": report.suggests_prune(),
                "snapshots": report.snapshots,
                "packs": report.packs,
                "packs_bytes": report.packs_bytes,
                "packs_read": report.packs_read,
                "packs_read_bytes": report.packs_read_bytes,
            }));
        } else {
            tell(output, &report, seconds);
        }
        Ok(match report.errors() {
            0 => Ending::Done,
            newer if report.is_only_newer() => Ending::Newer(format!(
                "{} made by a newer version and could not be checked",
                size::things(newer, "object was", "objects were")
            )),
            errors => Ending::Damage(format!("the repository has {}", size::things(errors, "error", "errors"))),
        })
    }
}

fn show(output: &Output, finding: &Finding) {
    let is_error = finding.severity == Severity::Error;
    let advice = finding.what.advice();
    let suffering = &finding.suffering;
    if output.json() {
        let kind = if is_error { "error" } else { "hint" };
        let paths: Vec<_> = suffering
            .paths
            .iter()
            .map(|path| json!({ "snapshot": path.snapshot.to_string(), "path": format!("/{}", text(&path.path)) }))
            .collect();
        output.json_error(&json!({
            "message_type": kind,
            "error": { "message": plain(&finding.what) },
            "during": "check",
            "item": finding.object,
            "advice": advice,
            "paths": paths,
            "paths_total": suffering.total,
        }));
        return;
    }
    let mut message = plain(finding);
    if suffering.total > 0 {
        let more = if suffering.at_least { "at least " } else { "" };
        message.extend(["\n        concerned: ", more, &size::things(suffering.total, "path", "paths")]);
        for path in suffering.paths.iter().take(10) {
            message.extend(["\n          ", &path.to_string()]);
        }
        if suffering.total > 10 {
            message.push_str("\n          …");
        }
    }
    if is_error {
        output.error(&message, None, (!advice.is_empty()).then_some(advice));
    } else {
        output.detail(&format!("{message}: {advice}"));
    }
}

fn tell(output: &Output, report: &CheckReport, seconds: f64) {
    output.say(&format!(
        "checked {}, {} and {} ({}) in {}",
        size::things(report.snapshots, "snapshot", "snapshots"),
        size::things(report.tree_pages, "directory page", "directory pages"),
        size::things(report.packs, "pack", "packs"),
        size::bytes(report.packs_bytes),
        time::duration(seconds)
    ));
    if report.packs_read > 0 {
        output.say(&format!(
            "read {} of {} completely",
            size::bytes(report.packs_read_bytes),
            size::bytes(report.packs_bytes)
        ));
    }
    if report.packs_unindexed > 0 {
        output.say(&format!(
            "{} ({}) of unfinished backups belong to no snapshot; \"prune\" removes what stays so",
            size::things(report.packs_unindexed, "pack", "packs"),
            size::bytes(report.packs_unindexed_bytes)
        ));
    }
    if report.is_clean() {
        output.say("no errors were found");
    }
}

/// Reads restic's forms of a part.
fn part(text: &str) -> Result<ReadData, String> {
    let wrong = || format!("\"{text}\" is neither a part as 1/5, nor a share as 10%, nor a size as 2G");
    if let Some((n, t)) = text.split_once('/') {
        let (n, t): (u32, u32) = (n.trim().parse().map_err(|_| wrong())?, t.trim().parse().map_err(|_| wrong())?);
        return if n >= 1 && n <= t { Ok(ReadData::Part { n, t }) } else { Err(wrong()) };
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
        return if percent > 0.0 && percent <= 100.0 { Ok(ReadData::Percent(percent)) } else { Err(wrong()) };
    }
    match size::parse(text) {
        Ok(0) | Err(_) => Err(wrong()),
        Ok(bytes) => Ok(ReadData::Bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        assert_eq!(part("2/5"), Ok(ReadData::Part { n: 2, t: 5 }));
        assert_eq!(part("2.5%"), Ok(ReadData::Percent(2.5)));
        assert_eq!(part("2G"), Ok(ReadData::Bytes(2 << 30)));
        for text in ["", "0/5", "6/5", "1/0", "0%", "101%", "x", "0", "NaN%"] {
            assert!(part(text).is_err(), "{text}");
        }
    }
}
