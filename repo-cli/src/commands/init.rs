//! `coffer init`: a new repository.

use clap::Args;
use serde_json::json;

use crate::{
    context::Context,
    from::FromArgs,
    report::{Ending, Failure, Result},
};

/// Make a new repository
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Cut files as the repository --from-repo does, so that copies from it and backups of the same files share what they store
    #[arg(long, alias = "copy-chunker-from")]
    copy_chunker_params: bool,

    #[command(flatten)]
    from: FromArgs,
}

impl InitArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Ending> {
        let like = match (self.copy_chunker_params, self.from.is_given()) {
            (true, _) => Some(self.from.open(context)?),
            (false, true) => return Err(Failure::usage("--from-repo has no use here without --copy-chunker-params")),
            (false, false) => None,
        };
        let repository = context.init(like.as_deref())?;
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
