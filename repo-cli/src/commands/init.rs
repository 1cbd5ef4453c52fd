//! `coffer init`: a new repository.

use clap::Args;
use serde_json::json;

use crate::{
    context::Context,
    report::{Ending, Result},
};

/// Make a new repository
#[derive(Debug, Args)]
pub(crate) struct InitArgs {}

impl InitArgs {
    #[expect(clippy::unused_self, reason = "every command is run alike")]
    pub(crate) fn run(&self, context: &Context) -> Result<Ending> {
        let repository = context.init()?;
        let location = repository.store().location();
        let id = repository.id().to_string();
        let output = &context.output;
        if output.json() {
            output.document(&json!({ "message_type": "initialized", "id": id, "repository": location }))?;
        } else {
            output.say(&format!("created repository {} at {location}", &id[..10]));
            output.note("Without its password nothing in it can be read, by anybody: keep the password safe.");
        }
        Ok(Ending::Done)
    }
}
