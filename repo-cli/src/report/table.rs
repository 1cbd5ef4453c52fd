//! Holds `docs/errors.md` against the code: every error of the library with its words, exit code and hint.
//!
//! `COFFER_WRITE_ERRORS=1 cargo test -p repo-cli table` writes the tables anew.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use repo_core::{
    blob::BlobKind,
    error::{Damage, Error, StoreError, StoreErrorKind},
    id::BlobId,
};

use super::{Code, Failure};

const LIBRARY: &str = include_str!("../../../repo-core/src/error.rs");
const REPORT: &str = include_str!("../report.rs");

/// Names of the variants of an enum, by its source: it is not to be matched exhaustively outside of its crate.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let begin = source.find(&format!("enum {name} {{")).expect("it is there");
    let body = &source[begin..begin + source[begin..].find("\n}").expect("it ends")];
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|letter: char| letter.is_ascii_uppercase()));
    names
        .map(|line| line.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned())
        .collect()
}

fn store_error(kind: StoreErrorKind) -> Error {
    let (object, location) = ("OBJECT".into(), "LOCATION".into());
    StoreError { kind, operation: "read", object, location, source: "CAUSE".into() }.into()
}

/// One of each, with words in capitals for what differs.
fn samples() -> Vec<Error> {
    use StoreErrorKind as Kind;
    let stores = [
        Kind::Retry,
        Kind::Refresh,
        Kind::NotFound,
        Kind::Exists,
        Kind::NoSpace,
        Kind::Denied,
        Kind::Clock,
        Kind::OverBudget,
        Kind::Permanent,
        Kind::Damage,
    ];
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let mut samples: Vec<_> = stores.into_iter().map(store_error).collect();
    samples.extend([
        Error::Damaged(Damage::new("OBJECT", "REASON")),
        Error::MissingBlob { kind: BlobKind::Data, id: "0".repeat(64).parse::<BlobId>().expect("an id") },
        Error::NoRepository { location: "LOCATION".into() },
        Error::RepositoryExists { location: "LOCATION".into() },
        Error::WrongPassword { location: "LOCATION".into() },
        Error::NewerFormat { object: "OBJECT".into(), found: 9, known: 1 },
        Error::NewerExtension { object: "OBJECT".into(), tag: 9 },
        Error::NoSnapshot { query: "QUERY".into() },
        Error::Ambiguous { what: "snapshot", prefix: "PREFIX".into(), candidates: "CANDIDATES".into() },
        Error::NoSuchPath { path: "PATH".into(), snapshot: "SNAPSHOT".into() },
        Error::Io { during: "read", path: "PATH".into(), source: std::io::Error::other("CAUSE") },
        Error::Io { during: "write", path: "PATH".into(), source: full },
        Error::Source("CAUSE".into()),
        Error::PrunedAway,
        Error::Vanished { object: "OBJECT".into() },
        Error::Unreadable(Box::new(Damage::new("OBJECT", "REASON").into())),
        Error::Invalid("WHAT AND WHY".into()),
        Error::Refused("WHAT AND WHY".into()),
        Error::Cancelled,
        Error::Poisoned,
    ]);
    samples
}

/// The variant, with the kind of a store's error.
fn name_of(error: &Error) -> String {
    let debug = format!("{error:?}");
    let name = debug.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
    error.store_kind().map_or_else(|| name.to_owned(), |kind| format!("{name}, {kind:?}"))
}

const fn meaning(code: Code) -> &'static str {
    match code {
        Code::Success => "all was done",
        Code::Fatal => "it failed, for a reason that has no code of its own",
        Code::Usage => "it was called wrongly: a flag, a variable or a file of settings",
        Code::Partial => "it was done but for some items, each of which was told of",
        Code::NoRepository => "there is no repository there",
        Code::Busy => "somebody else is at work in a way that does not go together; it can be run again",
        Code::WrongPassword => "no key opens with this password",
        Code::Damage => "something stored is damaged or missing",
        Code::NoSpace => "no space, quota or inodes are left",
        Code::NewerFormat => "something was made by a newer version",
        Code::Refused => "it would do harm that was hardly meant",
        Code::Denied => "the store does not permit it, or cannot do it",
        Code::CredentialsExpired => "the store's credentials have expired",
        Code::OverBudget => "it would take more requests, or cost more, than was allowed",
        Code::WrongClock => "this machine's clock is wrong, and the store does not believe what was signed with it",
        Code::WrongPlace => "there can be no repository at this place: its path is a file, or there is no such bucket",
        Code::Unreachable => "the store cannot be reached, or cannot answer now",
        Code::Interrupted => "a signal ended it",
        Code::ClosedOutput => "nobody reads its output any more",
    }
}

const CODES: &[Code] = &[
    Code::Success,
    Code::Fatal,
    Code::Usage,
    Code::Partial,
    Code::NoRepository,
    Code::Busy,
    Code::WrongPassword,
    Code::Damage,
    Code::NoSpace,
    Code::NewerFormat,
    Code::Refused,
    Code::Denied,
    Code::CredentialsExpired,
    Code::OverBudget,
    Code::Unreachable,
    Code::WrongClock,
    Code::WrongPlace,
    Code::Interrupted,
    Code::ClosedOutput,
];

fn tables() -> String {
    let mut text = "| exit code | `kind` in JSON | means |\n|---:|---|---|\n".to_owned();
    for code in CODES {
        let _ = writeln!(text, "| {} | `{}` | {} |", *code as u8, code.kind(), meaning(*code));
    }
    text.push_str("\n| error | words | exit code | hint |\n|---|---|---:|---|\n");
    for error in samples() {
        let name = name_of(&error);
        let failure = Failure::from(error);
        let words = failure.message().replace(&"0".repeat(64), "ID");
        let hint = failure.hint_text().unwrap_or_default();
        let _ = writeln!(text, "| `{name}` | {words} | {} | {hint} |", failure.code() as u8);
    }
    text
}

#[test]
fn every_error_is_in_the_table() {
    let named = |samples: Vec<Error>| -> BTreeSet<_> {
        samples.iter().map(|error| name_of(error).split(',').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(named(samples()), variants(LIBRARY, "Error"), "samples of all errors of repo_core::error::Error");
    let mut kinds: BTreeSet<_> =
        samples().iter().filter_map(Error::store_kind).map(|kind| format!("{kind:?}")).collect();
    // What was cut by the end of the operation is told of as that end.
    assert!(matches!(store_error(StoreErrorKind::Cancelled), Error::Cancelled));
    kinds.insert("Cancelled".into());
    assert_eq!(kinds, variants(LIBRARY, "StoreErrorKind"), "samples of all kinds of store errors");
    let codes: BTreeSet<_> = CODES.iter().map(|code| format!("{code:?}")).collect();
    assert_eq!(codes, variants(REPORT, "Code"), "all exit codes");
}

#[test]
fn the_document_has_the_tables() {
    const MARK: &str = "<!-- from here on written by a test -->\n\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let text = std::fs::read_to_string(&path).expect("docs/errors.md is there");
    let (before, _) = text.split_once(MARK).expect("it has the mark");
    let right = format!("{before}{MARK}{}", tables());
    if std::env::var_os("COFFER_WRITE_ERRORS").is_some() {
        std::fs::write(&path, &right).expect("it can be written");
    }
    assert!(
        text == right || std::env::var_os("COFFER_WRITE_ERRORS").is_some(),
        "docs/errors.md is not what the program says; COFFER_WRITE_ERRORS=1 cargo test -p repo-cli table"
    );
}

/// Whoever meets an error is told what to do: by the hint, or by the words.
#[test]
fn every_error_says_what_to_do() {
    // Their words say it, or name a cause that does; or there is nothing to do.
    let without = [
        "Invalid",
        "Refused",
        "Source",
        "Io",
        "Cancelled",
        "Poisoned",
        "WrongPassword",
        "Store, Exists",
        "Store, Permanent",
    ];
    for error in samples() {
        let (name, failure) = (name_of(&error), Failure::from(error));
        let has_hint = failure.hint_text().is_some();
        assert_eq!(has_hint, !without.contains(&name.as_str()), "{name}");
    }
}
