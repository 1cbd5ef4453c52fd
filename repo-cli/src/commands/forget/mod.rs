//! `coffer forget`: which snapshots stay, and which go.

use std::collections::BTreeSet;

use clap::Args;
use repo_core::{
    error::{Error, StoreErrorKind},
    forget::{Options, Plan, Report, forget},
    id::SnapshotId,
    retention::{
        calendar::Calendar,
        policy::Policy,
        simulate::{Rhythm, simulate},
        span::Span,
    },
    snapshot::{Listing, group::Grouping, select::Filter},
};

use crate::{
    choose::{FilterArgs, listing, listing_ending},
    commands::{
        forget::rules::RuleArgs,
        prune::{self, LimitArgs},
    },
    context::{Context, Opened, now},
    output::Output,
    report::{Ending, Failure, Result},
    size, time,
};

mod rules;
mod show;
mod simulated;

/// Forget snapshots by rules, or by their ids
///
/// Rules are applied to each group of snapshots that belong together. A snapshot that any rule keeps stays. What only forgotten
/// snapshots refer to stays in the repository until it is pruned.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Ids of snapshots to forget, or their beginnings, or latest; instead of rules
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,

    #[command(flatten)]
    rules: RuleArgs,

    /// Only snapshots of this host (may be given several times)
    #[arg(long, value_name = "HOST", alias = "hostname", help_heading = "Which snapshots")]
    host: Vec<String>,

    /// Only snapshots with all of these tags, separated by commas (several times: any of the lists)
    #[arg(long, value_name = "TAG,…", help_heading = "Which snapshots")]
    tag: Vec<String>,

    /// Only snapshots of this path (several times: all of them)
    #[arg(long, value_name = "PATH", help_heading = "Which snapshots")]
    path: Vec<String>,

    /// Apart by host, source, label, paths, tags, separated by commas; '' for all together. The source is the label if there is
    /// one, else the targets as they were named
    #[arg(short, long, value_name = "KEYS", default_value = "host,source", help_heading = "Which snapshots")]
    group_by: Grouping,

    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// One line for each snapshot
    #[arg(short, long)]
    compact: bool,

    /// Allow that a group loses all its snapshots; only with --host, --tag or --path
    #[arg(long, conflicts_with = "ids")]
    unsafe_allow_remove_all: bool,

    /// Forget the snapshots that are named even if they are protected
    #[arg(long, requires = "ids")]
    unsafe_remove_protected: bool,

    /// Give back the space of what is no longer needed, too (as "coffer prune" does)
    #[arg(long, conflicts_with = "simulate")]
    prune: bool,

    #[command(flatten)]
    limits: LimitArgs,

    /// Show what the rules would hold after this time (2y, 6m, 30d) of regular backups, and do nothing
    #[arg(long, value_name = "DURATION", help_heading = "Simulation")]
    simulate: Option<Span>,

    /// Time between two backups of the simulation: 1h, 6h, 1d, 1w
    #[arg(long, value_name = "DURATION", default_value = "1d", requires = "simulate", help_heading = "Simulation")]
    simulate_every: Span,
}

/// What is told when nothing was done.
const UNTOUCHED: &str = "nothing was forgotten";

impl ForgetArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let policy = self.rules.policy()?;
        let filter = FilterArgs::new(&self.host, &self.tag, &self.path).filter(context)?;
        self.check(&policy, &filter)?;
        let repository = context.open()?;
        let output = &context.output;
        let listing = listing(&repository, output)?;
        let calendar = time::calendar();
        if let Some(duration) = self.simulate {
            self.simulate(output, &listing, &policy, &filter, duration, &calendar)?;
            return Ok(listing_ending(&listing));
        }
        let plan = if self.ids.is_empty() {
            self.plan_by_rules(output, &listing, policy, filter, &calendar)?
        } else {
            self.plan_by_ids(&listing, &filter)?
        };
        let ending = self.carry_out(context, &repository, &plan)?;
        if output.json() {
            show::document(output, &plan)?;
        }
        if self.prune {
            prune::run(context, &repository, &self.limits, self.dry_run, plan.removed().collect())?;
        }
        Ok(match ending {
            Ending::Done => listing_ending(&listing),
            ending => ending,
        })
    }

    fn check(&self, policy: &Policy, filter: &Filter) -> Result<()> {
        if !self.ids.is_empty() && (!policy.is_empty() || self.simulate.is_some()) {
            return Err(
                Failure::usage("snapshots are forgotten by their ids or by rules, not by both").state(UNTOUCHED)
            );
        }
        if self.limits.are_given() && !self.prune {
            return Err(Failure::usage("--max-unused and --max-repack-size are for --prune").state(UNTOUCHED));
        }
        if self.unsafe_allow_remove_all && filter.is_empty() {
            return Err(Failure::usage("--unsafe-allow-remove-all needs one of --host, --tag and --path")
                .hint("snapshots can also be forgotten by their ids"));
        }
        if self.ids.is_empty() && policy.is_empty() && !self.unsafe_allow_remove_all {
            return Err(Failure::usage("nothing says what to forget: no id is given, and no rule about what to keep")
                .state(UNTOUCHED)
                .hint("try: coffer forget --dry-run --keep-daily 7 --keep-weekly 5 --keep-monthly 12"));
        }
        Ok(())
    }

    fn plan_by_rules(
        &self,
        output: &Output,
        listing: &Listing,
        policy: Policy,
        filter: Filter,
        calendar: &Calendar,
    ) -> Result<Plan> {
        output.say(&policy.to_string());
        let options =
            Options { policy, grouping: self.group_by, filter, allow_remove_all: self.unsafe_allow_remove_all };
        let plan = Plan::by_policy(listing, &options, now(), calendar).map_err(|error| {
            let failure = Failure::from(error).state(UNTOUCHED);
            failure.hint("look at the rules and at \"coffer snapshots\"; if it is meant, add --unsafe-allow-remove-all and one of --host, --tag and --path")
        })?;
        if !output.json() && !output.is_quiet() {
            show::tables(output, &plan, self.compact)?;
        }
        Ok(plan)
    }

    fn plan_by_ids(&self, listing: &Listing, filter: &Filter) -> Result<Plan> {
        let find = |query: &String| -> Result<SnapshotId> {
            listing.find(query, filter).map(|(id, _)| *id).map_err(|error| Failure::from(error).state(UNTOUCHED))
        };
        let ids: BTreeSet<SnapshotId> = self.ids.iter().map(find).collect::<Result<_>>()?;
        Plan::by_ids(listing, &ids, self.unsafe_remove_protected, now()).map_err(|error| {
            Failure::from(error)
                .state(UNTOUCHED)
                .hint("a protected snapshot is forgotten with --unsafe-remove-protected only")
        })
    }

    /// Forgets, and says so.
    fn carry_out(&self, context: &Context, repository: &Opened, plan: &Plan) -> Result<Ending> {
        let output = &context.output;
        let (removed, kept) = (plan.removed_count() as u64, plan.kept_count() as u64);
        let snapshots = |count| size::things(count, "snapshot", "snapshots");
        let remain = if self.ids.is_empty() { format!("; {} would remain", size::count(kept)) } else { String::new() };
        if self.dry_run {
            output.say(&format!("would forget {}{remain}", snapshots(removed)));
            return Ok(Ending::Done);
        }
        let report = forget(repository, plan, &context.cancel).map_err(explained)?;
        output.say(&format!("forgot {}", snapshots(report.forgotten.len() as u64)));
        Ok(ending(output, &report))
    }

    fn simulate(
        &self,
        output: &Output,
        listing: &Listing,
        policy: &Policy,
        filter: &Filter,
        duration: Span,
        calendar: &Calendar,
    ) -> Result<()> {
        let now = now();
        let rhythm = Rhythm { every: self.simulate_every, duration };
        let mut groups = self.group_by.split(listing.select(filter).rev());
        if groups.is_empty() {
            groups.insert(repo_core::snapshot::group::GroupKey::default(), Vec::new());
        }
        let mut simulations = Vec::new();
        for (key, existing) in groups {
            simulations.push((key, simulate(&existing, policy, rhythm, now, calendar)?));
        }
        if output.json() {
            return simulated::document(output, &simulations);
        }
        output.say(&policy.to_string());
        for (key, simulation) in &simulations {
            simulated::tables(output, key, simulation, rhythm)?;
        }
        Ok(())
    }
}

fn explained(error: Error) -> Failure {
    match &error {
        Error::Cancelled => Failure::from(error).state("what was forgotten by then stays forgotten"),
        Error::Store(store) if store.kind == StoreErrorKind::Denied => Failure::from(error).state(UNTOUCHED).hint(
            "this store lets nothing be deleted with these rights; if it is append-only, forget from where deleting is allowed",
        ),
        _ => error.into(),
    }
}

/// Tells what could not be forgotten.
fn ending(output: &Output, report: &Report) -> Ending {
    for (id, error) in &report.failed {
        output.warning(&format!("snapshot {}: {}", id.short(), error.chain()));
    }
    for (id, error) in &report.left_behind {
        output.warning(&format!(
            "snapshot {} is forgotten, but not all of it is deleted: {}",
            id.short(),
            error.chain()
        ));
    }
    let failed = (report.failed.len() + report.not_tried) as u64;
    match (failed, report.left_behind.len()) {
        (0, 0) => Ending::Done,
        (0, _) => Ending::Partial("what is left of forgotten snapshots keeps their data for some time".into()),
        (failed, _) => {
            Ending::Partial(format!("{} could not be forgotten", size::things(failed, "snapshot", "snapshots")))
        }
    }
}
