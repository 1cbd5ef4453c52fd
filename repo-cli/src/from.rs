//! The second repository: the one that is copied from.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use crate::{
    cli::Global,
    context::{Context, Opened},
    report::{Failure, Result},
    settings::Access,
};

/// Which repository to copy from, and its password.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "The repository to copy from (each also as COFFER_FROM_… variable)")]
#[expect(clippy::struct_field_names, reason = "they are the names of the flags")]
pub(crate) struct FromArgs {
    /// Repository to copy from
    #[arg(long, value_name = "REPOSITORY", conflicts_with = "from_repository_file")]
    from_repo: Option<OsString>,

    /// File that names it
    #[arg(long, value_name = "FILE")]
    from_repository_file: Option<PathBuf>,

    /// File with its password
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from_password_command", "from_password_fd", "from_insecure_no_password"])]
    from_password_file: Option<PathBuf>,

    /// Command that prints its password
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["from_password_fd", "from_insecure_no_password"])]
    from_password_command: Option<String>,

    /// Open file to read its password from, as a number
    #[arg(long, value_name = "N", conflicts_with = "from_insecure_no_password")]
    from_password_fd: Option<u32>,

    /// Its password is empty
    #[arg(long)]
    from_insecure_no_password: bool,

    /// Key of it to try first: the beginning of its id
    #[arg(long, value_name = "ID")]
    from_key_hint: Option<String>,
}

impl FromArgs {
    /// Whether flags name a repository.
    pub(crate) const fn is_given(&self) -> bool {
        self.from_repo.is_some() || self.from_repository_file.is_some()
    }

    /// Opens the repository that these flags and the variables name.
    pub(crate) fn open(&self, context: &Context) -> Result<Opened> {
        let environment = context.environment.of_source();
        let is_named = ["REPOSITORY", "REPOSITORY_FILE"].iter().any(|name| environment.get(name).is_some());
        if !self.is_given() && !is_named {
            return Err(Failure::usage("nothing says which repository to copy from")
                .hint("name it with --from-repo or COFFER_FROM_REPOSITORY; --repo names the one to copy to"));
        }
        let flags = Global {
            repo: self.from_repo.clone(),
            repository_file: self.from_repository_file.clone(),
            password_file: self.from_password_file.clone(),
            password_command: self.from_password_command.clone(),
            password_fd: self.from_password_fd,
            insecure_no_password: self.from_insecure_no_password,
            key_hint: self.from_key_hint.clone(),
            options: context.global.options.clone(),
            cacert: context.global.cacert.clone(),
            tls_client_cert: context.global.tls_client_cert.clone(),
            insecure_tls: context.global.insecure_tls,
            ..Global::default()
        };
        let access = Access::resolve(&flags, &environment)?;
        context.open_with(&access, "password of the repository to copy from")
    }
}
