//! `coffer status`: who works in the repository, and what was begun and not finished.

use clap::Args;
use repo_core::{
    repository::Repository,
    status::{SessionState, Status, status},
    time::Timestamp,
};
use serde_json::{Value, json};

use crate::{
    context::{Context, session_note},
    output::Output,
    report::{Ending, Result},
    size,
    table::{Align, Table},
    time,
};

/// Show who works in the repository, and what was begun and not finished
///
/// Nothing of it has to be cleared away: backups and prunes work beside each other, and go on from what others left.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {}

impl StatusArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let Self {} = self;
        let repository = context.open()?;
        let status = status(&repository, &session_note("status"))?;
        let output = &context.output;
        let now = repository.runtime().now();
        if output.json() {
            output.document(&document(&status, now))?;
            return Ok(Ending::Done);
        }
        show(output, &status, now)?;
        Ok(Ending::Done)
    }
}

/// What there is at the moment, for `unlock`.
pub(crate) fn of(repository: &Repository) -> Result<Status> {
    Ok(status(repository, &session_note("unlock"))?)
}

const fn in_words(state: SessionState) -> &'static str {
    match state {
        SessionState::Working => "at work",
        SessionState::LeftBehind => "was killed",
        SessionState::Unknown => "at work, or was killed",
    }
}

const fn key(state: SessionState) -> &'static str {
    match state {
        SessionState::Working => "working",
        SessionState::LeftBehind => "left_behind",
        SessionState::Unknown => "unknown",
    }
}

fn age_seconds(since: Timestamp, now: Timestamp) -> i64 {
    now.seconds().saturating_sub(since.seconds()).max(0)
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn age(since: Timestamp, now: Timestamp) -> String {
    time::rounded(age_seconds(since, now) as f64)
}

fn show(output: &Output, status: &Status, now: Timestamp) -> Result<()> {
    if !status.sessions.is_empty() {
        let mut table = Table::new(&[
            ("Session", Align::Left),
            ("Host", Align::Left),
            ("User", Align::Left),
            ("Process", Align::Right),
            ("Since", Align::Left),
            ("Age", Align::Right),
            ("Seems", Align::Left),
        ]);
        for found in &status.sessions {
            let session = &found.session;
            table.row(vec![
                session.operation.clone(),
                session.host.clone(),
                session.user.clone(),
                session.process.to_string(),
                time::local(found.since),
                age(found.since, now),
                in_words(found.state).into(),
            ]);
        }
        table.write(output)?;
        if status.sessions.iter().any(|session| session.state == SessionState::LeftBehind) {
            output.say("what was killed locks nobody out; the next backup goes on from there, and removes the note");
        }
        output.line("")?;
    }
    if !status.unfinished.is_empty() {
        let mut table = Table::new(&[
            ("Unfinished", Align::Left),
            ("Host", Align::Left),
            ("User", Align::Left),
            ("Put", Align::Left),
            ("Age", Align::Right),
            ("Files", Align::Right),
            ("Size", Align::Right),
            ("Of", Align::Left),
        ]);
        for found in &status.unfinished {
            let snapshot = found.snapshot.as_ref();
            table.row(vec![
                found.id.short(),
                snapshot.map_or("cannot be read".into(), |snapshot| snapshot.host.clone()),
                snapshot.map(|snapshot| snapshot.user.clone()).unwrap_or_default(),
                time::local(found.since),
                age(found.since, now),
                snapshot.map(|snapshot| size::count(snapshot.totals.files)).unwrap_or_default(),
                snapshot.map(|snapshot| size::bytes(snapshot.totals.bytes)).unwrap_or_default(),
                snapshot.map(|snapshot| snapshot.source.join(", ")).unwrap_or_default(),
            ]);
        }
        table.write(output)?;
        output.say(
            "no backups, but checkpoints of backups at work or cut short; the next backup of the same goes on from there, and they \
             go away after 14 days",
        );
        output.line("")?;
    }
    for mark in &status.marks {
        output.line(&format!(
            "{} of {} to be deleted since {}: a prune is at work or was cut short, or damaged packs were taken out of use; the next \
             prune finishes it",
            size::count(mark.packs_left),
            size::things(mark.packs, "pack", "packs"),
            time::local(mark.created)
        ))?;
    }
    if !status.expiring.is_empty() {
        output.line(&size::things(
            status.expiring.len() as u64,
            "unfinished snapshot is being removed",
            "unfinished snapshots are being removed",
        ))?;
    }
    let nothing = status.sessions.is_empty()
        && status.unfinished.is_empty()
        && status.marks.is_empty()
        && status.expiring.is_empty();
    if nothing {
        output.line("nobody is at work, and nothing is unfinished")?;
    }
    Ok(())
}

fn document(status: &Status, now: Timestamp) -> Value {
    let sessions = status.sessions.iter().map(|found| {
        json!({
            "id": found.note.to_string(),
            "operation": found.session.operation,
            "hostname": found.session.host,
            "username": found.session.user,
            "process": found.session.process,
            "since": time::rfc3339(found.since),
            "age_seconds": age_seconds(found.since, now),
            "state": key(found.state),
        })
    });
    let unfinished = status.unfinished.iter().map(|found| {
        let mut value = json!({
            "id": found.id.to_string(),
            "short_id": found.id.short(),
            "since": time::rfc3339(found.since),
            "age_seconds": age_seconds(found.since, now),
            "expires": found.is_old,
        });
        if let (Some(snapshot), Some(object)) = (&found.snapshot, value.as_object_mut()) {
            object.insert("hostname".into(), json!(snapshot.host));
            object.insert("username".into(), json!(snapshot.user));
            object.insert("source".into(), json!(snapshot.source));
            object.insert("paths".into(), json!(snapshot.paths));
            object.insert("files".into(), json!(snapshot.totals.files));
            object.insert("bytes".into(), json!(snapshot.totals.bytes));
        }
        value
    });
    let marks = status.marks.iter().map(|mark| {
        json!({
            "id": mark.note.to_string(),
            "since": time::rfc3339(mark.created),
            "age_seconds": age_seconds(mark.created, now),
            "packs": mark.packs,
            "packs_left": mark.packs_left,
        })
    });
    let expiring = status.expiring.iter().map(|(id, note)| {
        json!({ "id": id.to_string(), "snapshot": note.body.to_string(), "since": time::rfc3339(note.created) })
    });
    json!({
        "sessions": sessions.collect::<Vec<_>>(),
        "unfinished": unfinished.collect::<Vec<_>>(),
        "marks": marks.collect::<Vec<_>>(),
        "expiring": expiring.collect::<Vec<_>>(),
    })
}
