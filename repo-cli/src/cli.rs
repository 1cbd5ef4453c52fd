//! Flags as they are written; what they mean together is decided in `settings`.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::{
    backup::BackupArgs, cache::CacheArgs, cat::CatArgs, check::CheckArgs, completions::CompletionsArgs, copy::CopyArgs,
    doctor::DoctorArgs, dump::DumpArgs, forget::ForgetArgs, info::InfoArgs, init::InitArgs, key::KeyArgs, ls::LsArgs,
    man::ManArgs, prices::PricesArgs, prune::PruneArgs, repair::RepairArgs, restore::RestoreArgs, rewrite::RewriteArgs,
    snapshots::SnapshotsArgs, stats::StatsArgs, status::StatusArgs, tag::TagArgs, unlock::UnlockArgs,
    version::VersionArgs,
};

/// What stands below every help text.
const EXIT_CODES: &str = "\
Exit codes:
  0 done · 1 failed · 2 called wrongly · 3 done but for some items
  10 no repository · 11 somebody else is at work · 12 wrong password · 13 damage found
  14 no space left · 15 made by a newer version · 16 refused, since it would do harm
  17 not permitted · 18 credentials expired · 19 over the budget · 20 store out of reach
  130 interrupted
Any other code means that it failed.

Every flag that names the repository or a password has a variable: COFFER_REPOSITORY,
COFFER_REPOSITORY_FILE, COFFER_PASSWORD, COFFER_PASSWORD_FILE, COFFER_PASSWORD_COMMAND,
COFFER_PASSWORD_FD, COFFER_KEY_HINT; and COFFER_COMPRESSION, COFFER_HOST, COFFER_PROGRESS_FPS,
COFFER_CACHE_DIR, COFFER_CACHE_SIZE.
Where one is not set, RESTIC_… of the same name is taken. With neither repository nor password
named, a repository in your data folder is used, which the first backup makes.";

/// Deduplicating, encrypted backups.
#[derive(Debug, Parser)]
#[command(name = "coffer", version, about, after_long_help = EXIT_CODES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One file per command, in `commands`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(InitArgs),
    Backup(BackupArgs),
    Snapshots(SnapshotsArgs),
    Ls(LsArgs),
    Restore(RestoreArgs),
    Dump(DumpArgs),
    Forget(ForgetArgs),
    Tag(TagArgs),
    Rewrite(RewriteArgs),
    Copy(CopyArgs),
    Prune(PruneArgs),
    Check(CheckArgs),
    Doctor(DoctorArgs),
    Repair(RepairArgs),
    Status(StatusArgs),
    Info(InfoArgs),
    Stats(StatsArgs),
    Cat(CatArgs),
    Cache(CacheArgs),
    Key(KeyArgs),
    Prices(PricesArgs),
    Unlock(UnlockArgs),
    Version(VersionArgs),
    #[command(hide = true)]
    Completions(CompletionsArgs),
    #[command(hide = true)]
    Man(ManArgs),
}

/// Flags that every command takes, before or after its name.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Repository: a folder, or rest:https://HOST/PATH/, s3:HOST/BUCKET/PREFIX, b2:BUCKET:PATH, sftp:USER@HOST:/PATH,
    /// opendal:SERVICE:ROOT
    #[arg(short, long, global = true, value_name = "REPOSITORY")]
    pub(crate) repo: Option<OsString>,

    /// File that names the repository
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) repository_file: Option<PathBuf>,

    /// File with the password
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// Command that prints the password
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) password_command: Option<String>,

    /// Open file to read the password from, as a number
    #[arg(long, global = true, value_name = "N")]
    pub(crate) password_fd: Option<u32>,

    /// The password is empty. Anybody who can read the repository can read everything in it
    #[arg(long, global = true)]
    pub(crate) insecure_no_password: bool,

    /// Key to try first: the beginning of its id
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) key_hint: Option<String>,

    /// Setting of the store, as s3.region=eu-central-1; may be given several times
    #[arg(short, long = "option", global = true, value_name = "KEY=VALUE")]
    pub(crate) options: Vec<String>,

    /// Requests at once, whatever store it is
    #[arg(long, global = true, value_name = "N")]
    pub(crate) connections: Option<usize>,

    /// File of certificates (PEM): whom the store's certificate must come from
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,

    /// File with our own certificate and its private key (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_client_cert: Option<PathBuf>,

    /// Believe anybody to be the store. Whoever is between can then change all that is sent
    #[arg(long, global = true)]
    pub(crate) insecure_tls: bool,

    /// End before a request that would be one more than so many
    #[arg(long, global = true, value_name = "N")]
    pub(crate) max_requests: Option<u64>,

    /// End before a request by which the run would cost more, as far as the table of "coffer prices" tells
    #[arg(long, global = true, value_name = "AMOUNT")]
    pub(crate) max_cost: Option<f64>,

    /// Send at most so many KiB a second
    #[arg(long, global = true, value_name = "RATE")]
    pub(crate) limit_upload: Option<u64>,

    /// Fetch at most so many KiB a second
    #[arg(long, global = true, value_name = "RATE")]
    pub(crate) limit_download: Option<u64>,

    /// How hard to compress: off, fastest, auto, better, max, or a level of zstd
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) compression: Option<String>,

    /// Results and progress as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Write results and errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Write more; twice: every file
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Keep nothing on this machine, and read nothing that was kept
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,

    /// Folder for local caches
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Most that a repository's local cache may take
    #[arg(long, global = true, value_name = "SIZE")]
    pub(crate) cache_size: Option<String>,

    /// Remove local caches that were not used for 30 days
    #[arg(long, global = true)]
    pub(crate) cleanup_cache: bool,

    // Flags of restic that have nothing to switch here; scripts pass them.
    #[arg(long, global = true, hide = true)]
    pub(crate) no_lock: bool,
    #[arg(long, global = true, hide = true, value_name = "DURATION")]
    pub(crate) retry_lock: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub(crate) no_extra_verify: bool,
}

/// Rewrites `--verbose=2` of restic as `-vv`.
pub(crate) fn normalize(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut ended = false;
    let rewrite = |argument: OsString| {
        ended |= argument == "--";
        let level = argument.to_str().filter(|_| !ended).and_then(|text| text.strip_prefix("--verbose="));
        match level.map(str::parse::<u8>) {
            Some(Ok(level @ 1..=9)) => OsString::from(format!("-{}", "v".repeat(level.into()))),
            _ => argument,
        }
    };
    arguments.map(rewrite).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn levels_of_verbosity() {
        let rewritten =
            normalize(["coffer", "--verbose=2", "backup", "--", "--verbose=2"].map(OsString::from).into_iter());
        assert_eq!(rewritten, ["coffer", "-vv", "backup", "--", "--verbose=2"]);
    }
}
