//! What stays and what goes, for people and for programs.

use repo_core::{
    forget::{GroupPlan, Kept, Plan},
    id::SnapshotId,
    retention::{
        apply::{Reason, Verdict},
        calendar::Period,
        policy::Count,
    },
    snapshot::Snapshot,
    tree::name::escape,
};
use serde_json::{Map, Value, json};

use crate::{
    json,
    output::Output,
    report::Result,
    size,
    table::{Align, Table},
    time,
};

/// A reason for people. Times are local ones.
pub(super) fn reason(reason: &Reason) -> String {
    match reason {
        Reason::ProtectedUntil(until) => format!("protected until {}", time::local(*until)),
        reason => reason.to_string(),
    }
}

/// Several in one cell of a table.
pub(super) fn reasons(reasons: &[Reason], compact: bool) -> String {
    reasons.iter().map(reason).collect::<Vec<_>>().join(if compact { ", " } else { "\n" })
}

/// For each group what stays, with the reasons, and what goes; the newest last.
pub(super) fn tables(output: &Output, plan: &Plan, compact: bool) -> Result<()> {
    for group in plan.groups() {
        output.line("")?;
        let key = group.key.to_string();
        if !key.is_empty() {
            output.line(&output.heading(&escape(key.as_bytes())))?;
        }
        let kept = group.keep.iter().rev().map(|kept| (&kept.id, &kept.snapshot, Some(&kept.verdict)));
        table(output, "keep", kept.collect(), compact)?;
        let removed = group.remove.iter().rev().map(|(id, snapshot)| (id, snapshot, None));
        table(output, "remove", removed.collect(), compact)?;
    }
    if !plan.groups().is_empty() {
        output.line("")?;
    }
    Ok(())
}

type Row<'a> = (&'a SnapshotId, &'a Snapshot, Option<&'a Verdict>);

fn table(output: &Output, verb: &str, rows: Vec<Row<'_>>, compact: bool) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    output.line(&format!("{verb} {}:", size::things(rows.len() as u64, "snapshot", "snapshots")))?;
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Host", Align::Left),
        ("Tags", Align::Left),
        ("Reasons", Align::Left),
        ("Size", Align::Right),
        ("Paths", Align::Left),
    ]);
    for (id, snapshot, verdict) in rows {
        let list = |list: &[String]| {
            let list: Vec<_> = list.iter().map(|entry| escape(entry.as_bytes())).collect();
            list.join(if compact { ", " } else { "\n" })
        };
        table.row(vec![
            id.short(),
            time::local(snapshot.time),
            escape(snapshot.host.as_bytes()).into_owned(),
            list(&snapshot.tags),
            verdict.map_or(String::new(), |verdict| reasons(&verdict.reasons, compact)),
            size::bytes(snapshot.totals.bytes),
            list(&snapshot.paths),
        ]);
    }
    table.write(output)
}

/// The same as restic's document: an array of groups.
pub(super) fn document(output: &Output, plan: &Plan) -> Result<()> {
    output.document(&plan.groups().iter().map(group).collect::<Vec<_>>())
}

fn group(group: &GroupPlan) -> Value {
    let mut value = json::group(&group.key);
    let snapshot = |(id, snapshot): &(SnapshotId, Snapshot)| json::snapshot(id, snapshot);
    value.insert("keep".into(), group.keep.iter().map(|kept| json::snapshot(&kept.id, &kept.snapshot)).collect());
    value.insert("remove".into(), group.remove.iter().map(snapshot).collect());
    value.insert("reasons".into(), group.keep.iter().map(kept).collect());
    Value::Object(value)
}

fn kept(kept: &Kept) -> Value {
    json!({
        "snapshot": json::snapshot(&kept.id, &kept.snapshot),
        "matches": kept.verdict.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "counters": counters(&kept.verdict),
    })
}

/// What the rules may still keep after this one; those that are off or used up are left out.
fn counters(verdict: &Verdict) -> Map<String, Value> {
    let name = |period| match period {
        Period::Quarter => "quarter_yearly",
        Period::HalfYear => "half_yearly",
        period => period.adverb(),
    };
    let periods = verdict.periods_left.iter().map(|(period, left)| (name(period), left));
    std::iter::once(("last", verdict.last_left))
        .chain(periods)
        .filter(|(_, left)| !left.is_zero())
        .map(|(name, left)| {
            let left = match left {
                Count::Newest(left) => i64::from(left),
                Count::All => -1,
            };
            (name.to_owned(), json!(left))
        })
        .collect()
}
