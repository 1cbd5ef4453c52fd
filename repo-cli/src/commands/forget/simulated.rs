//! What a policy would come to, for people and for programs.

use repo_core::{
    retention::simulate::{Held, Rhythm, Simulation},
    snapshot::group::GroupKey,
    tree::name::escape,
};
use serde_json::{Value, json};

use super::show;
use crate::{
    json,
    output::Output,
    report::Result,
    size,
    table::{Align, Table},
    time,
};

/// Rows of the table of counts, about.
const ROWS: usize = 24;

/// Longest bar.
const BAR_WIDTH: usize = 50;

/// How many are held over time, and which at the end.
pub(super) fn tables(output: &Output, key: &GroupKey, simulation: &Simulation, rhythm: Rhythm) -> Result<()> {
    output.line("")?;
    let key = key.to_string();
    if !key.is_empty() {
        output.line(&output.heading(&escape(key.as_bytes())))?;
    }
    let most = simulation.most();
    let snapshots = |count: usize| size::things(count as u64, "snapshot", "snapshots");
    output.line(&format!(
        "{} in {}, one every {}: at most {} held at once",
        size::things(simulation.steps.len().saturating_sub(1) as u64, "backup", "backups"),
        rhythm.duration,
        rhythm.every,
        snapshots(most)
    ))?;
    let mut table = Table::new(&[("Time", Align::Left), ("Held", Align::Right), ("", Align::Left)]);
    let stride = simulation.steps.len().div_ceil(ROWS).max(1);
    let last = simulation.steps.len().saturating_sub(1);
    for (at, step) in simulation.steps.iter().enumerate() {
        if at % stride == 0 || at == last {
            let width = (step.count * BAR_WIDTH).div_ceil(most.max(1));
            table.row(vec![time::local(step.time), size::count(step.count as u64), "#".repeat(width)]);
        }
    }
    table.write(output)?;
    output.line("")?;
    output.line(&format!("held at the end: {}", snapshots(simulation.held.len())))?;
    let mut table = Table::new(&[("Time", Align::Left), ("ID", Align::Left), ("Reasons", Align::Left)]);
    for held in simulation.held.iter().rev() {
        let id = held.id.map_or("(to come)".into(), |id| id.short());
        table.row(vec![time::local(held.time), id, show::reasons(&held.reasons, true)]);
    }
    table.write(output)
}

/// An array of groups.
pub(super) fn document(output: &Output, simulations: &[(GroupKey, Simulation)]) -> Result<()> {
    let group = |(key, simulation): &(GroupKey, Simulation)| {
        let mut value = json::group(key);
        let steps = simulation.steps.iter().map(|step| json!({ "time": time::rfc3339(step.time), "held": step.count }));
        value.insert("most_held".into(), json!(simulation.most()));
        value.insert("steps".into(), steps.collect());
        value.insert("held".into(), simulation.held.iter().map(held).collect());
        Value::Object(value)
    };
    output.document(&simulations.iter().map(group).collect::<Vec<_>>())
}

fn held(held: &Held) -> Value {
    json!({
        "time": time::rfc3339(held.time),
        "id": held.id.map(|id| id.to_string()),
        "matches": held.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
