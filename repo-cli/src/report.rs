//! The one place that turns what went wrong into words, a hint and an exit code.

use std::fmt::Display;

use repo_core::error::{Error, StoreError, StoreErrorKind};
use serde::Serialize;

use crate::output::Output;

/// The program's exit codes: restic's where restic has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Success = 0,
    /// It failed, for any reason that has no code of its own.
    Fatal = 1,
    /// It was called wrongly.
    Usage = 2,
    /// It was done, but for some items.
    Partial = 3,
    NoRepository = 10,
    /// Somebody else is at work in a way that does not go together.
    Busy = 11,
    WrongPassword = 12,
    /// Stored data is damaged or missing.
    Damage = 13,
    /// No space, quota or inodes left.
    NoSpace = 14,
    /// Made by a newer version.
    NewerFormat = 15,
    /// It would do harm that was hardly meant.
    Refused = 16,
    /// The store does not permit it, or cannot do it.
    Denied = 17,
    CredentialsExpired = 18,
    /// It would take more than was allowed.
    OverBudget = 19,
    /// The store cannot be reached, or cannot answer now.
    Unreachable = 20,
    /// This machine's clock is wrong.
    WrongClock = 21,
    /// There can be no repository at this place.
    WrongPlace = 22,
    Interrupted = 130,
    /// Nobody reads what is written any more; what a shell shows for a program ended by SIGPIPE.
    ClosedOutput = 141,
}

impl Code {
    /// The same for programs: stable, and never used for anything else.
    const fn kind(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Fatal => "fatal",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::NoRepository => "no_repository",
            Self::Busy => "busy",
            Self::WrongPassword => "wrong_password",
            Self::Damage => "damage",
            Self::NoSpace => "no_space",
            Self::NewerFormat => "newer_format",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::CredentialsExpired => "credentials_expired",
            Self::OverBudget => "over_budget",
            Self::Unreachable => "unreachable",
            Self::WrongClock => "wrong_clock",
            Self::WrongPlace => "wrong_place",
            Self::Interrupted => "interrupted",
            Self::ClosedOutput => "closed_output",
        }
    }
}

/// How a command ended that did what it could.
#[derive(Debug)]
pub(crate) enum Ending {
    /// All is well.
    Done,
    /// All is done but for some items, which were told of.
    Partial(String),
    /// Damage was found, which was told of.
    Damage(String),
    /// Some of it was made by a newer version and passed over, which was told of.
    Newer(String),
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    cause: Cause,
    /// How things are now, in a sentence.
    state: Option<String>,
    /// What to do next, if it is not what the cause suggests.
    hint: Option<String>,
}

#[derive(Debug)]
enum Cause {
    Core(Box<Error>),
    Text(Code, String),
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { cause: Cause::Core(Box::new(error)), state: None, hint: None }
    }
}

impl Failure {
    /// A failure in words.
    pub(crate) fn new(message: impl Display) -> Self {
        Self::with_code(Code::Fatal, message)
    }

    /// A failure because the program was called wrongly, by a flag or a variable.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::with_code(Code::Usage, message)
    }

    pub(crate) fn with_code(code: Code, message: impl Display) -> Self {
        Self { cause: Cause::Text(code, message.to_string()), state: None, hint: None }
    }

    /// A file that is not the repository's failed.
    pub(crate) fn io(during: &str, path: impl Display, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::NoSpace,
            _ => Code::Fatal,
        };
        Self::with_code(code, format!("cannot {during} {path}: {}", plain(error)))
    }

    /// Writing to standard output failed.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::with_code(Code::ClosedOutput, "nobody reads the output any more");
        }
        Self::io("write to", "standard output", error)
    }

    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    pub(crate) fn state(mut self, state: impl Display) -> Self {
        self.state = Some(state.to_string());
        self
    }

    /// The error of the library, if it is one.
    pub(crate) const fn core(&self) -> Option<&Error> {
        match &self.cause {
            Cause::Core(error) => Some(error),
            Cause::Text(..) => None,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match &self.cause {
            Cause::Core(error) => code_of(error),
            Cause::Text(code, _) => *code,
        }
    }

    pub(crate) fn message(&self) -> String {
        match &self.cause {
            Cause::Core(error) => plain(error.chain()),
            Cause::Text(_, text) => text.clone(),
        }
    }

    fn hint_text(&self) -> Option<String> {
        self.hint.clone().or_else(|| match &self.cause {
            Cause::Core(error) => hint_of(error).map(str::to_owned),
            Cause::Text(..) => None,
        })
    }
}

fn code_of(error: &Error) -> Code {
    match error {
        Error::Store(error) => match error.kind {
            StoreErrorKind::NoSpace => Code::NoSpace,
            StoreErrorKind::Denied => Code::Denied,
            StoreErrorKind::Refresh => Code::CredentialsExpired,
            StoreErrorKind::Cancelled => Code::Interrupted,
            StoreErrorKind::OverBudget => Code::OverBudget,
            StoreErrorKind::Damage | StoreErrorKind::NotFound => Code::Damage,
            StoreErrorKind::Retry => Code::Unreachable,
            StoreErrorKind::Clock => Code::WrongClock,
            StoreErrorKind::Permanent if is_of_place(&error.source.to_string()) => Code::WrongPlace,
            StoreErrorKind::Exists | StoreErrorKind::Permanent => Code::Fatal,
        },
        Error::Damaged(_) | Error::MissingBlob { .. } | Error::Unreadable(_) => Code::Damage,
        Error::NoRepository { .. } => Code::NoRepository,
        Error::WrongPassword { .. } => Code::WrongPassword,
        Error::NewerFormat { .. } | Error::NewerExtension { .. } => Code::NewerFormat,
        Error::Refused(_) => Code::Refused,
        Error::PrunedAway | Error::Vanished { .. } => Code::Busy,
        Error::Cancelled => Code::Interrupted,
        Error::Io { source, .. }
            if matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) =>
        {
            Code::NoSpace
        }
        _ => Code::Fatal,
    }
}

fn hint_of(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NoRepository { .. } => {
            "check the path, and that its disk is mounted; to make a new repository there, run \"coffer init\""
        }
        Error::RepositoryExists { .. } => "use it as it is, or name another place",
        Error::NewerFormat { .. } | Error::NewerExtension { .. } => {
            "use the version of coffer that wrote it, or a newer one"
        }
        Error::NoSnapshot { .. } => "\"coffer snapshots\" lists what there is",
        Error::Ambiguous { .. } => "give more digits of the id",
        Error::NoSuchPath { .. } => "\"coffer ls SNAPSHOT\" lists what is in it",
        Error::MissingBlob { .. } | Error::Damaged(_) => "\"coffer check\" tells what else is concerned and what to do",
        Error::Unreadable(_) => {
            "run the backup again, which stores anew what is still at the source, and then this; \"coffer check\" tells what is lost"
        }
        Error::PrunedAway => "run it again",
        Error::Vanished { .. } => "run it again; if that happens while nobody prunes, test the store",
        Error::Store(error) => return hint_of_store(error),
        _ => return None,
    })
}

/// Kinds of stores on other machines, as their locations begin.
const REMOTE: [&str; 5] = ["rest:", "s3:", "b2:", "sftp:", "opendal:"];

fn hint_of_store(error: &StoreError) -> Option<&'static str> {
    let is_remote = REMOTE.iter().any(|scheme| error.location.starts_with(scheme));
    Some(match error.kind {
        StoreErrorKind::NoSpace | StoreErrorKind::Denied
            if error.source.to_string().contains("the account's cap on") =>
        {
            "raise the cap in the account's settings at the store, or wait until it is counted anew"
        }
        StoreErrorKind::NoSpace => "free some space where the repository is, and run it again",
        StoreErrorKind::Denied if is_remote => "check the user, password or keys, and what they permit",
        StoreErrorKind::Denied => "check that this user may write there, and that the disk is not mounted read-only",
        StoreErrorKind::Refresh => {
            "renew the credentials and run it again; nothing is left half done, and what was stored is used then"
        }
        StoreErrorKind::OverBudget => {
            "what was done until then is not lost; run it again with a higher --max-requests or --max-cost"
        }
        StoreErrorKind::Retry if error.source.to_string().contains("answered 500") => {
            "the server is there and fails: look at its log; if it says that the path of the repository is a file, name another path, else run \
             it again later"
        }
        StoreErrorKind::Retry => {
            "check the address and the network; if the store is overloaded or down, run it again later"
        }
        StoreErrorKind::Clock => "set this machine's clock, and have it kept right (NTP), then run it again",
        StoreErrorKind::Damage | StoreErrorKind::NotFound => {
            "\"coffer check\" tells what else is concerned and what to do"
        }
        StoreErrorKind::Permanent if error.source.to_string().contains("does not prove who it is") => {
            "if the certificate is your own, name it, or who issued it, with --cacert FILE"
        }
        StoreErrorKind::Permanent if is_of_bucket(&error.source.to_string()) => {
            "check the name of the bucket; coffer makes none"
        }
        StoreErrorKind::Permanent if is_of_file(&error.source.to_string()) => {
            "the path of the repository is a file, or leads through one: name a folder"
        }
        StoreErrorKind::Cancelled | StoreErrorKind::Exists | StoreErrorKind::Permanent => return None,
    })
}

/// Whether a store says that there can be no repository.
fn is_of_place(text: &str) -> bool {
    is_of_bucket(text) || is_of_file(text)
}

/// Whether a store says that there is a file where a folder should be.
fn is_of_file(text: &str) -> bool {
    text.contains("Not a directory")
}

/// Whether a store says that there is no such bucket.
fn is_of_bucket(text: &str) -> bool {
    ["NoSuchBucket", "there is no bucket"].iter().any(|words| text.contains(words))
}

/// A message without the numbers the operating system gives its errors.
pub(crate) fn plain(message: impl Display) -> String {
    let mut text = message.to_string();
    while let Some(start) = text.find(" (os error ") {
        let Some(length) = text.get(start..).and_then(|rest| rest.find(')')) else { break };
        text.replace_range(start..=start + length, "");
    }
    text
}

/// The last line of standard error with `--json`.
#[derive(Serialize)]
struct ExitError<'a> {
    message_type: &'static str,
    code: u8,
    kind: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Tells how the program ended, and with which code.
pub(crate) fn report(output: &Output, result: &Result<Ending>) -> Code {
    let (code, message, state, hint) = match result {
        Ok(Ending::Done) => return Code::Success,
        Ok(Ending::Partial(message)) => (Code::Partial, message.clone(), None, None),
        Ok(Ending::Damage(message)) => (Code::Damage, message.clone(), None, None),
        Ok(Ending::Newer(message)) => (Code::NewerFormat, message.clone(), None, None),
        Err(failure) => (failure.code(), failure.message(), failure.state.as_deref(), failure.hint_text()),
    };
    if code == Code::ClosedOutput {
        return code;
    }
    if output.json() {
        output.json_error(&ExitError {
            message_type: "exit_error",
            code: code as u8,
            kind: code.kind(),
            message: &message,
            state,
            hint: hint.as_deref(),
        });
        return code;
    }
    if result.is_ok() {
        output.warning(&message);
    } else {
        output.error(&message, state, hint.as_deref());
    }
    code
}

#[cfg(test)]
mod table;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_are_taken_off() {
        assert_eq!(plain("a: No space left on device (os error 28)"), "a: No space left on device");
        assert_eq!(plain("x (os error 2): y (os error 3)"), "x: y");
        assert_eq!(plain("x (os error "), "x (os error ");
    }
}
