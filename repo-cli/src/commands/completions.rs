//! `coffer completions`: for the user's shell.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{
    cli::Cli,
    context::Context,
    report::{Ending, Failure, Result},
};

/// Write completions for a shell
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "coffer", &mut script);
        context.output.bytes(&script).map_err(|error| Failure::output(&error))?;
        Ok(Ending::Done)
    }
}
