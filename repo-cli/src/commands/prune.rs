//! `coffer prune`: gives back the space of what no snapshot needs.

use std::collections::BTreeSet;

use clap::Args;
use repo_core::{
    error::{Error, StoreErrorKind},
    id::{PackId, SnapshotId},
    prune::{
        PruneOptions, PruneReport,
        plan::{MaxUnused, Plan, Reason, Victim},
        prune,
    },
    store::count::Counts,
};
use serde_json::{Value, json};

use crate::{
    context::{Context, Opened, session_note},
    metering::Estimate,
    output::Output,
    progress::{Display, Work},
    report::{Ending, Failure, Result},
    size,
    table::{Align, Table},
    time,
};

/// Give back the space of what no snapshot needs any more
///
/// Runs beside backups and other prunes, from any machine; nobody waits, and nobody is locked out. What an interrupted prune has
/// begun, the next one finishes.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    limits: LimitArgs,

    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// How much to do.
#[derive(Debug, Clone, Args)]
pub(crate) struct LimitArgs {
    /// How much that nobody needs may stay, so that less has to be moved: a size (500M), a share of the repository (5%), or unlimited
    /// [default: 2%]
    #[arg(long, value_name = "LIMIT", value_parser = max_unused, help_heading = "How much")]
    max_unused: Option<MaxUnused>,

    /// Read and store again no more than this (10G); what is left is for the next time
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "How much")]
    max_repack_size: Option<u64>,
}

impl LimitArgs {
    /// Whether any was given.
    pub(crate) const fn are_given(&self) -> bool {
        self.max_unused.is_some() || self.max_repack_size.is_some()
    }
}

/// Reads `5%`, `500M` or `unlimited`.
fn max_unused(text: &str) -> Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    let Some(percent) = text.strip_suffix('%') else {
        return size::parse(text).map(MaxUnused::Bytes);
    };
    match percent.trim().parse::<f64>() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(MaxUnused::Percent(percent)),
        _ => Err(format!("\"{text}\" is not a share; write a number from 0 to below 100, as in 5%")),
    }
}

impl PruneArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let repository = context.open()?;
        run(context, &repository, &self.limits, self.dry_run, BTreeSet::new())
    }
}

/// Prunes, and tells of it. A dry run may be told of snapshots that would be gone by then.
pub(crate) fn run(
    context: &Context,
    repository: &Opened,
    limits: &LimitArgs,
    dry_run: bool,
    gone: BTreeSet<SnapshotId>,
) -> Result<Ending> {
    let options = PruneOptions {
        max_unused: limits.max_unused.unwrap_or_default(),
        max_repack_bytes: limits.max_repack_size,
        dry_run,
        gone,
        threads: None,
        note: (!dry_run).then(|| session_note("prune")),
    };
    let display = Display::begin(Work::Prune, context);
    let result = prune(repository, &options, display.meter(), &context.cancel);
    let seconds = display.seconds();
    drop(display);
    let report = result.map_err(explained)?;
    let output = &context.output;
    if dry_run {
        let pack_bytes = repository.config().parameters.pack_bytes;
        context.meters.foretell(output, estimate(&report.plan, pack_bytes.into()));
    }
    if output.json() {
        output.message(&document(&report, dry_run));
        return Ok(ending(&report));
    }
    for snapshot in &report.expired {
        output.say(&format!("removed the unfinished snapshot {}, which is two weeks old", snapshot.short()));
    }
    if report.marks_finished > 0 {
        output.say("finished what an interrupted prune had begun");
    }
    if output.verbosity() >= 2 {
        packs(output, &report.plan)?;
    }
    tell(output, &report, dry_run, seconds);
    Ok(ending(&report))
}

/// Backups that are gone are told of once more, before nothing speaks of them any longer.
fn ending(report: &PruneReport) -> Ending {
    if report.lost.is_empty() {
        return Ending::Done;
    }
    let ids: Vec<_> = report.lost.iter().map(SnapshotId::short).collect();
    Ending::Damage(format!(
        "{} {} committed and {} not there any more ({}): its object was lost or deleted by hand, or it expired while it was made; what \
         had committed it was removed",
        size::things(report.lost.len() as u64, "snapshot", "snapshots"),
        if ids.len() == 1 { "was" } else { "were" },
        if ids.len() == 1 { "is" } else { "are" },
        ids.join(", ")
    ))
}

fn explained(error: Error) -> Failure {
    match &error {
        Error::Cancelled => {
            Failure::from(error).state("no snapshot has lost anything; the next prune goes on from here")
        }
        Error::Store(store) if store.kind == StoreErrorKind::Denied => Failure::from(error)
            .state("no snapshot has lost anything")
            .hint("to prune is to delete; run it from where that is allowed below data/, index/ and locks/"),
        _ => Failure::from(error).state("no snapshot has lost anything"),
    }
}

fn tell(output: &Output, report: &PruneReport, dry_run: bool, seconds: f64) {
    let totals = &report.plan.totals;
    output.say(&format!(
        "{} needed by {}, {} not{}; {} in {}, of which nobody needs {}",
        size::things(report.blobs.used, "blob is", "blobs are"),
        size::things(report.bodies, "snapshot", "snapshots"),
        size::count(report.blobs.unused),
        match report.blobs.duplicate {
            0 => String::new(),
            copies => format!(", {} there twice", size::count(copies)),
        },
        size::bytes(totals.bytes),
        size::things(totals.packs, "pack", "packs"),
        size::bytes(totals.unused_bytes)
    ));
    if report.plan.victims.is_empty() {
        let rest = if totals.unused_bytes > 0 { ": what nobody needs is too little to move the rest for" } else { "" };
        output.say(&format!("nothing to do{rest}"));
        return;
    }
    let would = if dry_run { "would " } else { "" };
    let verb = |present: &'static str, past: &'static str| if dry_run { present } else { past };
    if totals.delete_packs > 0 {
        output.say(&format!(
            "{would}{} {} ({})",
            verb("delete", "deleted"),
            size::things(totals.delete_packs, "pack of which nothing is needed", "packs of which nothing is needed"),
            size::bytes(totals.delete_bytes)
        ));
    }
    if totals.repack_packs > 0 {
        output.say(&format!(
            "{would}{} what is needed out of {} ({}): {} as it is, {} packed anew",
            verb("move", "moved"),
            size::things(totals.repack_packs, "pack", "packs"),
            size::bytes(totals.repack_bytes),
            size::bytes(totals.move_bytes),
            size::bytes(totals.rewrite_plain_bytes)
        ));
    }
    let end = if dry_run { String::new() } else { format!(" in {}", time::duration(seconds)) };
    output.say(&format!(
        "{would}{} about {}; about {} that nobody needs {}{end}",
        verb("free", "freed"),
        size::bytes(totals.freed_bytes()),
        size::bytes(totals.remaining_unused_bytes),
        verb("would stay", "stay"),
    ));
}

/// What a prune asks of the store when it carries out a plan, beside what planning takes.
fn estimate(plan: &Plan, pack_bytes: u64) -> Estimate {
    let totals = &plan.totals;
    if plan.victims.is_empty() {
        return Estimate(Counts::default());
    }
    let stored_bytes = (totals.delete_bytes + totals.repack_bytes).saturating_sub(totals.freed_bytes());
    let stored_packs = stored_bytes.div_ceil(pack_bytes.max(1));
    Estimate(Counts {
        // The packs, an index run, the mark, and the note of the session.
        puts: stored_packs + 3,
        // What is moved is read, and read back.
        gets: totals.repack_packs + stored_packs + 1,
        // Before and after the mark it is looked who else is at work.
        lists: 8,
        stats: 0,
        deletes: plan.victims.len() as u64 + 3,
        written_bytes: stored_bytes,
        read_bytes: totals.repack_bytes + stored_bytes,
        listed_entries: totals.packs,
    })
}

/// Every pack that goes, with the reason.
fn packs(output: &Output, plan: &Plan) -> Result<()> {
    let mut table = Table::new(&[("Pack", Align::Left), ("Size", Align::Right), ("Why it goes", Align::Left)]);
    for Victim { pack, size_bytes, reason, .. } in &plan.victims {
        table.row(vec![pack.to_string(), size::bytes(*size_bytes), in_words(*reason).into()]);
    }
    table.write(output)
}

const fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Unused => "nothing in it is needed",
        Reason::Unindexed => "an interrupted run left it, and no index names it",
        Reason::PartlyUsed => "part of it is needed, which is moved",
        Reason::Absent => "the index names it, and it is not there; nothing in it is needed",
        Reason::Small => "it is small, and one of many",
    }
}

/// For programs, with the names restic uses where it has one.
fn document(report: &PruneReport, dry_run: bool) -> Value {
    let totals = &report.plan.totals;
    let of = |reason: Reason| report.plan.victims.iter().filter(move |victim| victim.reason == reason);
    let ids: Vec<_> = report.plan.victims.iter().map(|victim| PackId::to_string(&victim.pack)).collect();
    json!({
        "message_type": "summary",
        "dry_run": dry_run,
        "snapshots": report.bodies,
        "blobs": {
            "used": report.blobs.used,
            "unused": report.blobs.unused,
            "duplicate": report.blobs.duplicate,
        },
        "bytes": {
            "total": totals.bytes,
            "unused": totals.unused_bytes,
            "remove": totals.delete_bytes,
            "repack": totals.repack_bytes,
            "unref": of(Reason::Unindexed).map(|victim| victim.size_bytes).sum::<u64>(),
            "freed": totals.freed_bytes(),
            "remain": totals.remaining_unused_bytes,
        },
        "packfiles": {
            "total": totals.packs,
            "keep": totals.packs.saturating_sub(totals.delete_packs + totals.repack_packs),
            "repack": totals.repack_packs,
            "remove": totals.delete_packs,
            "unref": of(Reason::Unindexed).count(),
            "absent": of(Reason::Absent).count(),
            "stored": report.packs_stored,
            "deleted": report.packs_deleted,
        },
        "removed_packs": ids,
        "expired_snapshots": report.expired.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lost_snapshots": report.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "finished_marks": report.marks_finished,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!(max_unused("unlimited"), Ok(MaxUnused::Unlimited));
        assert_eq!(max_unused("0"), Ok(MaxUnused::Bytes(0)));
        assert_eq!(max_unused("2.5%"), Ok(MaxUnused::Percent(2.5)));
        assert_eq!(max_unused("5G"), Ok(MaxUnused::Bytes(5 << 30)));
        for text in ["", "%", "-1%", "100%", "NaN%", "x"] {
            assert!(max_unused(text).is_err(), "{text}");
        }
    }
}
