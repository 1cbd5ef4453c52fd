//! `coffer repair`: making the index agree with the packs, and taking damaged packs out of use.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use repo_core::{
    error::{Error, StoreErrorKind},
    id::PackId,
    repair::{self, IndexOptions, IndexReport},
};
use serde_json::json;

use crate::{
    context::{Context, session_note},
    output::Output,
    progress::{Display, Work},
    report::{Ending, Failure, Result},
    size,
};

/// Mend what can be mended
///
/// "coffer check" says what is wrong, and which of these helps.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    #[command(subcommand)]
    command: RepairCommand,
}

#[derive(Debug, Subcommand)]
enum RepairCommand {
    Index(IndexArgs),
    Packs(PacksArgs),
}

/// Make the index agree with the packs, which say themselves what they hold
///
/// Packs that no index names are found again, packs that are gone are left out, and what cannot be read is made anew. A sound index is
/// left as it is. Backups may go on meanwhile.
#[derive(Debug, Args)]
struct IndexArgs {
    /// Ask every pack, not only those about which the index is in doubt
    #[arg(long)]
    read_all_packs: bool,

    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Take damaged packs out of use
///
/// The next backup stores anew what lay in them and is still at the source, the next prune moves the rest and deletes them. What can
/// still be read is restored from them until then. It cannot be taken back.
#[derive(Debug, Args)]
struct PacksArgs {
    /// Ids of packs, as "coffer check --read-data" tells them
    #[arg(value_name = "ID", required = true)]
    ids: Vec<PackId>,

    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl RepairArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        match self.command {
            RepairCommand::Index(args) => args.run(context),
            RepairCommand::Packs(args) => args.run(context),
        }
    }
}

fn explained(error: Error) -> Failure {
    match &error {
        Error::Store(store) if store.kind == StoreErrorKind::Denied => Failure::from(error)
            .state("nothing is worse than before")
            .hint("run it from where index/ may be written and deleted"),
        Error::Cancelled => Failure::from(error).state("nothing is worse than before; run it again"),
        _ => Failure::from(error).state("nothing is worse than before"),
    }
}

impl IndexArgs {
    fn run(self, context: &Context) -> Result<Ending> {
        let repository = context.open()?;
        let options = IndexOptions {
            read_all_packs: self.read_all_packs,
            dry_run: self.dry_run,
            note: (!self.dry_run).then(|| session_note("repair index")),
        };
        let display = Display::begin(Work::Check, context);
        let result = repair::index(&repository, &options, display.meter(), &context.cancel);
        drop(display);
        let report = result.map_err(explained)?;
        let output = &context.output;
        if output.json() {
            output.message(&self.document(&report));
        } else {
            self.tell(output, &report);
        }
        let unreadable = report.packs_unreadable.len() as u64;
        Ok(match (report.packs_missing.len() as u64, unreadable) {
            (0, 0) if report.runs_newer == 0 => Ending::Done,
            (0, 0) => Ending::Newer("parts of the index were made by a newer version and were left as they are".into()),
            (missing, 0) => Ending::Partial(format!(
                "{} gone, and the index says so now; run the backup again, it stores anew what is still at the source",
                size::things(missing, "pack is", "packs are")
            )),
            (_, unreadable) => Ending::Damage(format!(
                "{} not say what is in it; \"coffer check --read-data\" tells what is lost",
                size::things(unreadable, "pack does", "packs do")
            )),
        })
    }

    fn tell(&self, output: &Output, report: &IndexReport) {
        let would = if self.dry_run { "would have " } else { "" };
        for damage in &report.runs_damaged {
            output.warning(damage);
        }
        for (pack, reason) in &report.packs_unreadable {
            output.warning(&format!("pack {pack}: {reason}"));
        }
        for pack in &report.packs_missing {
            output.warning(&format!("pack {pack} is not there"));
        }
        let packs = |set: &BTreeSet<PackId>| size::things(set.len() as u64, "pack", "packs");
        if !report.packs_found.is_empty() {
            output.say(&format!("{would}found {} that no index named", packs(&report.packs_found)));
        }
        if !report.packs_mended.is_empty() {
            output.say(&format!("{would}mended the description of {}", packs(&report.packs_mended)));
        }
        if report.runs_replaced > 0 {
            output.say(&format!(
                "{would}replaced {}",
                size::things(report.runs_replaced, "part of the index", "parts of the index")
            ));
        }
        if report.is_sound() {
            output.say(&format!(
                "the index agrees with the {}; nothing had to be done",
                size::things(report.packs, "pack", "packs")
            ));
        }
    }

    fn document(&self, report: &IndexReport) -> serde_json::Value {
        let ids = |set: &BTreeSet<PackId>| set.iter().map(PackId::to_string).collect::<Vec<_>>();
        json!({
            "message_type": "summary",
            "dry_run": self.dry_run,
            "sound": report.is_sound(),
            "packs": report.packs,
            "index_files": report.runs,
            "index_files_damaged": report.runs_damaged.len(),
            "index_files_newer": report.runs_newer,
            "index_files_replaced": report.runs_replaced,
            "index_files_stored": report.runs_stored,
            "packs_found": ids(&report.packs_found),
            "packs_mended": ids(&report.packs_mended),
            "packs_missing": ids(&report.packs_missing),
            "packs_unreadable": report.packs_unreadable.keys().map(PackId::to_string).collect::<Vec<_>>(),
        })
    }
}

impl PacksArgs {
    fn run(self, context: &Context) -> Result<Ending> {
        let repository = context.open()?;
        let ids: BTreeSet<PackId> = self.ids.into_iter().collect();
        let report = repair::packs(&repository, &ids, self.dry_run).map_err(explained)?;
        let output = &context.output;
        if output.json() {
            output.message(&json!({
                "message_type": "summary",
                "dry_run": self.dry_run,
                "condemned": report.condemned.iter().map(PackId::to_string).collect::<Vec<_>>(),
                "condemned_before": report.before.iter().map(PackId::to_string).collect::<Vec<_>>(),
            }));
            return Ok(Ending::Done);
        }
        let would = if self.dry_run { "would take" } else { "took" };
        output.say(&format!("{would} {} out of use", size::things(report.condemned.len() as u64, "pack", "packs")));
        if !report.before.is_empty() {
            output.say(&format!(
                "{} out of use already",
                size::things(report.before.len() as u64, "pack was", "packs were")
            ));
        }
        output.say("now run the backups again, which store anew what is still at the source; then prune");
        Ok(Ending::Done)
    }
}
