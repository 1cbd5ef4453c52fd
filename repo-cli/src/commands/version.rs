//! `coffer version`.

use clap::Args;
use serde_json::json;

use crate::{
    context::Context,
    report::{Ending, Result},
};

/// Tell the version
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {}

/// Name and version, as snapshots remember them.
pub(crate) const PROGRAM: &str = concat!("coffer ", env!("CARGO_PKG_VERSION"));

impl VersionArgs {
    #[expect(clippy::unused_self, reason = "every command is run alike")]
    pub(crate) fn run(&self, context: &Context) -> Result<Ending> {
        let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
        if context.output.json() {
            context.output.document(&json!({
                "message_type": "version",
                "name": "coffer",
                "version": env!("CARGO_PKG_VERSION"),
                "os": system,
                "arch": machine,
            }))?;
        } else {
            context.output.line(&format!("{PROGRAM} on {system}/{machine}"))?;
        }
        Ok(Ending::Done)
    }
}
