//! `coffer key`: the passwords that open the repository.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use repo_core::{crypto::kdf::KdfCost, repository::keys::KeyEntry};
use serde_json::{Value, json};

use crate::{
    context::{Context, machine, user_name},
    password::PasswordSource,
    report::{Ending, Failure, Result},
    table::{Align, Table},
    time,
};

/// List, add, remove and change passwords
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// List the keys: who made them and when
    List,
    /// Add a password
    Add(NewPassword),
    /// Remove a password; not the one that is used for this
    Remove {
        /// The key's id, or its beginning
        id: String,
    },
    /// Change the password that is used for this
    Passwd(NewPassword),
}

/// Where a new password comes from; the terminal if nothing is said.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "they are named like their flags")]
struct NewPassword {
    /// File with the new password
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,

    /// Command that prints the new password
    #[arg(long, value_name = "COMMAND")]
    new_password_command: Option<String>,

    /// Open file to read the new password from, as a number
    #[arg(long, value_name = "N")]
    new_password_fd: Option<u32>,

    /// The new password is empty
    #[arg(long)]
    new_insecure_no_password: bool,

    /// User to be shown in the list
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Host to be shown in the list
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

impl KeyArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        match self.command {
            KeyCommand::List => list(context),
            KeyCommand::Remove { id } => remove(context, &id),
            KeyCommand::Add(new) => new.add(context, false),
            KeyCommand::Passwd(new) => new.add(context, true),
        }
    }
}

fn list(context: &Context) -> Result<Ending> {
    let repository = context.open()?;
    let keys = repository.list_keys()?;
    if context.output.json() {
        context.output.document(&keys.iter().map(as_json).collect::<Vec<_>>())?;
        return Ok(Ending::Done);
    }
    let columns = ["", "ID", "User", "Host", "Created"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for key in &keys {
        let mark = if key.current { "*" } else { " " };
        let [user, host, created] = match &key.info {
            Some(info) => [info.user.clone(), info.host.clone(), time::local(info.created)],
            None => ["?".into(), "?".into(), "damaged".into()],
        };
        table.row(vec![mark.into(), key.id.short(), user, host, created]);
    }
    table.write(&context.output)?;
    Ok(Ending::Done)
}

fn as_json(key: &KeyEntry) -> Value {
    let info = key.info.as_ref();
    json!({
        "current": key.current,
        "id": key.id.to_string(),
        "userName": info.map_or("", |info| info.user.as_str()),
        "hostName": info.map_or("", |info| info.host.as_str()),
        "created": info.map_or_else(String::new, |info| time::rfc3339(info.created)),
    })
}

fn remove(context: &Context, id: &str) -> Result<Ending> {
    let repository = context.open()?;
    let key = repository.find_key(&id.to_ascii_lowercase())?;
    repository.remove_key(key)?;
    context.output.say(&format!("removed key {}", key.short()));
    context
        .output
        .detail("who has a copy of the removed key and its password can still read what they can get hold of");
    Ok(Ending::Done)
}

impl NewPassword {
    fn add(self, context: &Context, replace: bool) -> Result<Ending> {
        let source = PasswordSource::of_new(
            self.new_password_file,
            self.new_password_command,
            self.new_password_fd,
            self.new_insecure_no_password,
        )?;
        let generated = crate::settings::Access::resolve(&context.global, &context.environment)?.embedded;
        if replace && generated {
            return Err(Failure::new("the password in the data folder was made for this repository and stays").hint(
                "add a further one with \"coffer key add\"; to change this one, name repository and password file, \
                 and write the new password into that file afterwards",
            ));
        }
        let repository = context.open()?;
        let password = source.read("new password", true)?;
        let (host, user) = (self.host.unwrap_or_else(machine), self.user.unwrap_or_else(user_name));
        let output = &context.output;
        if replace {
            let key = repository.change_password(&password, host, user, KdfCost::RECOMMENDED)?;
            output.say(&format!("changed the password; the key is now {}", key.short()));
        } else {
            let key = repository.add_key(&password, host, user, KdfCost::RECOMMENDED)?;
            output.say(&format!("added key {}", key.short()));
        }
        Ok(Ending::Done)
    }
}
