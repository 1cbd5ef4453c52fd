//! `coffer man`: manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::{
    cli::Cli,
    context::Context,
    report::{Ending, Failure, Result},
};

/// Write manual pages into a folder
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder
    folder: PathBuf,
}

impl ManArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        clap_mangen::generate_to(Cli::command(), &self.folder)
            .map_err(|error| Failure::io("write manual pages to", self.folder.display(), &error))?;
        context.output.say(&format!("wrote manual pages to {}", self.folder.display()));
        Ok(Ending::Done)
    }
}
