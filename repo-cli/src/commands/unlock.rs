//! `coffer unlock`: there is nothing to unlock.

use clap::Args;
use repo_core::status::SessionState;
use serde_json::json;

use super::status;
use crate::{
    context::Context,
    report::{Ending, Result},
    size,
};

/// Say why nothing has to be unlocked
///
/// Backups, prunes and readers work at the same time, and nobody waits for anybody. This command is here for scripts that call it; it
/// changes nothing.
#[derive(Debug, Args)]
pub(crate) struct UnlockArgs {
    // As restic has it; there is nothing to be removed.
    #[arg(long, hide = true)]
    remove_all: bool,
}

impl UnlockArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let Self { remove_all: _ } = self;
        let repository = context.open()?;
        let status = status::of(&repository)?;
        let left = status.sessions.iter().filter(|session| session.state == SessionState::LeftBehind).count() as u64;
        let output = &context.output;
        if output.json() {
            output.document(&json!({ "message_type": "summary", "locks": 0, "removed": 0, "left_behind": left }))?;
            return Ok(Ending::Done);
        }
        output.say("nothing is locked: backups, prunes and readers work at the same time, and what was killed keeps nobody out");
        if left > 0 {
            output.say(&format!(
                "{}; by that the next backup finds what it had stored, and then removes it",
                size::things(left, "killed run left a note", "killed runs left notes")
            ));
        }
        Ok(Ending::Done)
    }
}
