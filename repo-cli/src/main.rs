//! The coffer command line: flags and variables in, words or JSON out. What is done is done by `repo-core`.

use std::{ffi::OsString, io::IsTerminal, process::ExitCode, sync::Arc};

use clap::Parser;
use repo_core::progress::Cancel;

mod caches;
mod child;
mod choose;
mod cli;
mod commands;
mod context;
mod embedded;
mod environment;
mod from;
mod json;
mod location;
mod metering;
mod output;
mod password;
mod prices;
mod progress;
mod report;
mod settings;
mod signals;
mod size;
mod stores;
mod table;
mod targets;
mod time;

use cli::{Cli, Command};
use context::Context;
use environment::Environment;
use output::Output;
use report::{Code, Ending, Failure, Result};

fn main() -> ExitCode {
    let arguments = cli::normalize(std::env::args_os());
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(explain(&error, &arguments) as u8),
    };
    let environment = Environment::of_process();
    let verbosity = if cli.global.quiet { -1 } else { i8::try_from(cli.global.verbose).unwrap_or(i8::MAX) };
    let output = Arc::new(Output::new(cli.global.json, verbosity, wants_colours(&environment)));
    let result = run(cli, environment, &output).and_then(|ending| output.flush().map(|()| ending));
    ExitCode::from(report::report(&output, &result) as u8)
}

fn run(cli: Cli, environment: Environment, output: &Arc<Output>) -> Result<Ending> {
    raise_file_limit();
    let cancel = Cancel::default();
    let questions = signals::listen(cancel.clone())
        .map_err(|error| Failure::new(format!("cannot listen to signals: {}", report::plain(error))))?;
    let progress_fps = settings::progress_fps(&environment)?;
    let caches = caches::Caches::resolve(&cli.global, &environment)?;
    let meters = metering::Meters::resolve(&cli.global)?;
    let context = Context {
        global: cli.global,
        environment,
        output: Arc::clone(output),
        cancel,
        questions,
        progress_fps,
        caches,
        meters,
    };
    let context = &context;
    let result = match cli.command {
        Command::Init(args) => args.run(context),
        Command::Backup(args) => args.run(context),
        Command::Snapshots(args) => args.run(context),
        Command::Ls(args) => args.run(context),
        Command::Restore(args) => args.run(context),
        Command::Dump(args) => args.run(context),
        Command::Forget(args) => args.run(context),
        Command::Tag(args) => args.run(context),
        Command::Rewrite(args) => args.run(context),
        Command::Copy(args) => args.run(context),
        Command::Prune(args) => args.run(context),
        Command::Stats(args) => args.run(context),
        Command::Doctor(args) => args.run(context),
        Command::Info(args) => args.run(context),
        Command::Check(args) => args.run(context),
        Command::Repair(args) => args.run(context),
        Command::Status(args) => args.run(context),
        Command::Unlock(args) => args.run(context),
        Command::Cat(args) => args.run(context),
        Command::Cache(args) => args.run(context),
        Command::Key(args) => args.run(context),
        Command::Prices(args) => args.run(context),
        Command::Version(args) => args.run(context),
        Command::Completions(args) => args.run(context),
        Command::Man(args) => args.run(context),
    };
    context.caches.finish(output);
    context.meters.report(output);
    result
}

/// What clap has to say: help, the version, or what is wrong with the flags.
fn explain(error: &clap::Error, arguments: &[OsString]) -> Code {
    let _ = error.print(); // nobody is left to be told
    if !error.use_stderr() {
        return Code::Success;
    }
    if arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json") {
        let message = error.kind().to_string();
        let output = Output::new(true, 0, false);
        return report::report(&output, &Err(Failure::usage(message)));
    }
    Code::Usage
}

fn wants_colours(environment: &Environment) -> bool {
    let dumb = environment.exact("TERM").is_none_or(|term| term.value == "dumb");
    !dumb && environment.exact("NO_COLOR").is_none() && std::io::stderr().is_terminal()
}

/// A deep tree with many threads needs more open files than most systems allow at first; all of them allow more when asked.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit); // then with as many as there are
    }
}
