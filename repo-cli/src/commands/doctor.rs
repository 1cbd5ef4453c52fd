//! `coffer doctor`: does the store keep what coffer relies on?

use std::fmt::Write as _;

use clap::Args;
use repo_core::{
    doctor::{Answer, Extent, Question, Report, examine},
    repository::Repository,
};
use serde_json::{Value, json};

use crate::{
    commands::version::PROGRAM,
    context::{Context, session_note},
    output::Output,
    report::{Code, Ending, Failure, Result},
    table::{Align, Table},
    time,
};

/// Test whether the store keeps what coffer relies on
///
/// Stores small objects below locks/, looks at them in every way, lets several clients race for one name, and deletes them again. Some
/// thousand requests; "coffer init" does a short form of it. The result is kept in the repository, and shown by "coffer info".
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// About forty requests only
    #[arg(long)]
    short: bool,
}

impl DoctorArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Ending> {
        let repository = context.open()?;
        let report = ask(context, &repository, if self.short { Extent::Short } else { Extent::Long })?;
        repository.keep_store_report(&report)?;
        let output = &context.output;
        if output.json() {
            output.document(&document(&report))?;
        } else {
            show(output, &report)?;
        }
        Ok(match report.worst() {
            Answer::Kept | Answer::Weak => Ending::Done,
            Answer::Broken => return Err(unfit(&report)),
        })
    }
}

/// Examines the store.
pub(crate) fn ask(context: &Context, repository: &Repository, extent: Extent) -> Result<Report> {
    Ok(examine(repository, &session_note("doctor"), PROGRAM, extent, &context.cancel)?)
}

/// The failure that a store is which loses or changes what it is given.
pub(crate) fn unfit(report: &Report) -> Failure {
    let mut text = format!("{} does not keep what coffer relies on", report.location);
    for finding in report.findings.iter().filter(|finding| finding.answer == Answer::Broken) {
        let _ = write!(text, "; {}: {}", name(finding.question), finding.detail); // a text takes everything
    }
    Failure::with_code(Code::Denied, text).hint("use another store; backups in this one may be lost")
}

/// Writes what was asked and answered.
pub(crate) fn show(output: &Output, report: &Report) -> Result<()> {
    let mut table = Table::new(&[("Question", Align::Left), ("Answer", Align::Left), ("Seen", Align::Left)]);
    for finding in &report.findings {
        table.row(vec![name(finding.question).into(), in_words(finding.answer).into(), finding.detail.clone()]);
    }
    table.write(output)
}

/// The report as JSON.
pub(crate) fn document(report: &Report) -> Value {
    let findings = report.findings.iter().map(|finding| {
        json!({ "question": name(finding.question), "answer": key(finding.answer), "detail": finding.detail })
    });
    json!({
        "program": report.program,
        "location": report.location,
        "time": time::rfc3339(report.made),
        "thorough": report.extent == Extent::Long,
        "clock_ahead_seconds": report.clock_ahead_seconds,
        "worst": key(report.worst()),
        "findings": findings.collect::<Vec<_>>(),
    })
}

/// What was asked, in a word.
pub(crate) const fn name(question: Question) -> &'static str {
    match question {
        Question::Visibility => "visibility",
        Question::Deleting => "deleting",
        Question::Ranges => "ranges",
        Question::Replacing => "replacing",
        Question::Races => "races",
        Question::Clock => "clock",
        Question::Paging => "paging",
        Question::Rights => "rights",
    }
}

const fn in_words(answer: Answer) -> &'static str {
    match answer {
        Answer::Kept => "good",
        Answer::Weak => "with care",
        Answer::Broken => "NOT SAFE",
    }
}

const fn key(answer: Answer) -> &'static str {
    match answer {
        Answer::Kept => "kept",
        Answer::Weak => "weak",
        Answer::Broken => "broken",
    }
}
