//! Every command on a real folder, of which one system call fails or is the last: input or output error, full disk, `kill -9`. Afterwards
//! it has succeeded or told of an error; `check --read-data` is clean, nothing is lost, and the same command succeeds.
//!
//! `strace` injects the faults, and only into calls on the repository. By default each command meets some of them;
//! `COFFER_SWEEP=full` tries every call with every fault, which takes an hour; `COFFER_SWEEP=7` seven times as many as by default.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and tells what it did")]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::COFFER;
use repo_core::{
    crypto::kdf::KdfCost,
    repository::{InitOptions, Repository, config::Parameters},
    runtime::SystemRuntime,
    store::local::LocalStore,
};

/// Faults that each command meets by default.
const FAULTS: usize = 4;

/// A command, and what is right after it.
struct Case {
    arguments: &'static [&'static str],
    /// Snapshots that there must be at least, whatever happened.
    snapshots_min: usize,
    /// What it says where it was done by the run that did not say so.
    done: Option<&'static str>,
}

const fn case(arguments: &'static [&'static str], snapshots_min: usize) -> Case {
    Case { arguments, snapshots_min, done: None }
}

/// `{pack}`, `{key}` and `{snapshot}` stand for ids, `{other}` for another repository.
const CASES: &[Case] = &[
    Case { arguments: &["init"], snapshots_min: 0, done: Some("there is already a repository") },
    case(&["backup", "src"], 3),
    case(&["backup", "src", "--force", "--tag", "again"], 3),
    Case { arguments: &["forget", "{snapshot}"], snapshots_min: 2, done: Some("no snapshot matches") },
    case(&["forget", "--keep-last", "1"], 1),
    case(&["prune", "--max-unused", "0"], 3),
    case(&["tag", "--set", "x"], 3),
    case(&["rewrite", "--exclude", "b", "--forget"], 3),
    case(&["copy", "--from-repo", "{other}", "--from-password-file", "password"], 3),
    case(&["repair", "index"], 3),
    case(&["repair", "packs", "{pack}"], 3),
    case(&["key", "add", "--new-password-file", "new"], 3),
    Case { arguments: &["key", "remove", "{key}"], snapshots_min: 3, done: Some("no key") },
    Case {
        arguments: &["key", "passwd", "--new-password-file", "new"],
        snapshots_min: 3,
        done: Some("opens with this password"),
    },
    case(&["unlock"], 3),
    Case { arguments: &["check", "--read-data"], snapshots_min: 3, done: None },
    Case { arguments: &["restore", "latest", "--target", "target"], snapshots_min: 3, done: None },
];

/// Calls that change something, and those that do not.
const CHANGING: [&str; 7] = ["write", "pwrite64", "fsync", "renameat2", "unlinkat", "mkdir", "linkat"];
const READING: [&str; 6] = ["openat", "read", "pread64", "getdents64", "statx", "newfstatat"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Io,
    Full,
    Killed,
}

/// A fault at one call: the how manieth of a thread.
#[derive(Debug, Clone, Copy)]
struct At {
    call: &'static str,
    number: usize,
    fault: Fault,
}

impl At {
    fn expression(self) -> String {
        let what = match self.fault {
            Fault::Io => "error=EIO",
            Fault::Full => "error=ENOSPC",
            Fault::Killed => "signal=KILL",
        };
        format!("inject={}:{what}:when={}", self.call, self.number)
    }
}

/// Folders in which everything is as each run finds it.
struct Stage {
    dir: tempfile::TempDir,
    snapshot: String,
    pack: String,
    key: String,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        for (name, text) in [("password", "one"), ("new", "two"), ("src/a", "first"), ("src/d/c", "third")] {
            fs::create_dir_all(at.join(name).parent().unwrap()).unwrap();
            fs::write(at.join(name), text).unwrap();
        }
        let mut stage = Self { dir, snapshot: String::new(), pack: String::new(), key: String::new() };
        stage.init("repo");
        stage.init("other");
        for (number, text) in ["second", "another second", "second again"].iter().enumerate() {
            fs::write(stage.path("src/b"), text.repeat(2000)).unwrap();
            fs::write(
                stage.path("src/many"),
                (0..9000_u32).map(|at| (at * at >> (7 + number)).to_le_bytes()[0]).collect::<Vec<_>>(),
            )
            .unwrap();
            stage.succeeds(&["backup", "src"]);
            stage.succeeds(&["backup", "src", "--repo", "other", "--host", "else"]);
        }
        // One that is forgotten, so that there is something to prune, and a key that can be removed.
        fs::write(stage.path("src/b"), "gone").unwrap();
        stage.succeeds(&["backup", "src"]);
        stage.succeeds(&["forget", "latest"]);
        stage.json(&["snapshots"])[0]["id"].as_str().unwrap().clone_into(&mut stage.snapshot);
        let first = fs::read_dir(stage.path("repo/keys")).unwrap().next().unwrap().unwrap().file_name();
        stage.succeeds(&["key", "add", "--new-password-file", "new"]);
        let keys = fs::read_dir(stage.path("repo/keys")).unwrap().map(|entry| entry.unwrap().file_name());
        stage.key = keys.filter(|name| *name != first).map(|name| name.into_string().unwrap()).next().unwrap();
        fs::write(stage.path("new"), "three").unwrap();
        files_below(&stage.path("repo/data"))[0].file_name().unwrap().to_str().unwrap().clone_into(&mut stage.pack);
        fs::write(stage.path("src/b"), "changed").unwrap();
        stage
    }

    /// A repository whose password costs nothing.
    fn init(&self, name: &str) {
        let options = InitOptions {
            password: b"one",
            host: "host".into(),
            user: "user".into(),
            kdf_cost: KdfCost { memory_kib: 8, passes: 1, lanes: 1 },
            parameters: Parameters::default(),
        };
        let store = LocalStore::new(self.path(name));
        Repository::init(Arc::new(store), Arc::new(SystemRuntime), &options).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn succeeds(&self, arguments: &[&str]) {
        let output = Command::new(COFFER);
        let output = surroundings(output, self.dir.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", words(&output));
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output =
            surroundings(Command::new(COFFER), self.dir.path()).args(arguments).arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A copy of everything for one run.
    fn copy(&self, case: &Case) -> Room<'_> {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new("cp").arg("-a").arg(self.path(".")).arg(dir.path()).status().unwrap();
        assert!(status.success());
        if case.arguments == ["init"] {
            fs::remove_dir_all(dir.path().join("repo")).unwrap();
        }
        Room { stage: self, dir }
    }
}

fn surroundings(mut command: Command, at: &Path) -> Command {
    command.current_dir(at).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("COFFER_REPOSITORY", at.join("repo")).env("COFFER_PASSWORD", "one").env("TZ", "UTC");
    command.env("HOME", at.join("home")).env("COFFER_HOST", "host");
    command
}

fn words(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// The place of one run.
struct Room<'a> {
    stage: &'a Stage,
    dir: tempfile::TempDir,
}

impl Room<'_> {
    fn arguments(&self, case: &Case) -> Vec<String> {
        let stage = self.stage;
        let other = self.dir.path().join("other");
        let fill = |text: &&str| match *text {
            "{pack}" => stage.pack.clone(),
            "{key}" => stage.key.clone(),
            "{snapshot}" => stage.snapshot.clone(),
            "{other}" => other.to_str().unwrap().to_owned(),
            text => text.to_owned(),
        };
        case.arguments.iter().map(fill).collect()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        surroundings(Command::new(COFFER), self.dir.path()).args(arguments).output().unwrap()
    }

    fn run_case(&self, case: &Case) -> Output {
        let arguments = self.arguments(case);
        self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs it under `strace`. Returns how it ended and what each thread called.
    fn trace(&self, case: &Case, at: Option<At>) -> (Output, Vec<Vec<String>>) {
        let calls: Vec<_> = CHANGING.iter().chain(&READING).copied().collect();
        let traces = self.dir.path().join("traces");
        fs::create_dir(&traces).unwrap();
        let mut command = surroundings(Command::new("strace"), self.dir.path());
        command.args(["-ff", "-y", "-qq", "-s", "0", "-o"]).arg(traces.join("t"));
        command.arg("-e").arg(format!("trace={}", calls.join(",")));
        if let Some(at) = at {
            command.arg("-e").arg(at.expression());
        }
        command.arg(COFFER).args(self.arguments(case));
        let output = command.output().expect("strace is there (Debian package strace)");
        let mut threads = files_below(&traces);
        threads.sort();
        let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
        (output, threads.iter().map(lines).collect())
    }

    /// Whether a line of a trace is of a call on the repository.
    fn is_ours(&self, line: &str) -> bool {
        line.contains(&format!("{}/repo", self.dir.path().display()))
    }

    /// How many snapshots there are by the first password that opens.
    fn snapshots(&self) -> Result<usize, String> {
        let output = self.with_any_password(&["snapshots", "--json"]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| words(&output))?;
        Ok(value.as_array().map_or(0, Vec::len))
    }

    fn with_any_password(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        if output.status.code() != Some(12) {
            return output;
        }
        let mut command = surroundings(Command::new(COFFER), self.dir.path());
        command.env("COFFER_PASSWORD", "three").args(arguments).output().unwrap()
    }
}

/// All places at which faults can be put into a command.
fn places(stage: &Stage, case: &Case) -> Vec<At> {
    let room = stage.copy(case);
    let (output, threads) = room.trace(case, None);
    assert!(output.status.success(), "{:?} fails by itself: {}", case.arguments, words(&output));
    let mut places = Vec::new();
    for call in CHANGING.into_iter().chain(READING) {
        let mut numbers = BTreeSet::new();
        for lines in &threads {
            let of_call = lines.iter().filter(|line| line.starts_with(&format!("{call}(")));
            numbers.extend(of_call.enumerate().filter(|(_, line)| room.is_ours(line)).map(|(before, _)| before + 1));
        }
        let faults: &[Fault] = match call {
            "write" | "pwrite64" | "mkdir" => &[Fault::Io, Fault::Full, Fault::Killed],
            _ if CHANGING.contains(&call) => &[Fault::Io, Fault::Killed],
            // A reader that is killed is nothing.
            _ => &[Fault::Io],
        };
        for fault in faults {
            places.extend(numbers.iter().map(|number| At { call, number: *number, fault: *fault }));
        }
    }
    places
}

/// What became of it.
#[derive(Debug, Clone, Copy)]
enum Came {
    Succeeded,
    Failed,
    Died,
    /// The fault met something else than the repository, or nothing: threads do not go the same way each time.
    Missed,
}

fn try_one(stage: &Stage, case: &Case, at: At) -> Result<Came, String> {
    let room = stage.copy(case);
    let (output, threads) = room.trace(case, Some(at));
    let hits: Vec<_> = match at.fault {
        Fault::Killed => {
            threads.iter().filter_map(|lines| lines.iter().rfind(|line| line.starts_with(at.call))).collect()
        }
        _ => threads.iter().flatten().filter(|line| line.contains("(INJECTED)")).collect(),
    };
    let is_ours = |line: &&String| room.is_ours(line);
    // Where a fault also meets what is written to the terminal, nobody can be told.
    let meant = if at.fault == Fault::Killed { hits.iter().any(is_ours) } else { hits.iter().all(is_ours) };
    if hits.is_empty() || !meant {
        return Ok(Came::Missed);
    }
    let stderr = words(&output);
    if stderr.contains("panicked") {
        return Err(format!("it panics: {stderr}"));
    }
    let ending = match (output.status.code(), at.fault) {
        (Some(0), _) => Came::Succeeded,
        // strace dies of what its child dies of.
        (None, Fault::Killed) if output.status.signal() == Some(9) => Came::Died,
        (Some(137), Fault::Killed) => Came::Died,
        (Some(1 | 3 | 10..=18), Fault::Io | Fault::Full)
            if stderr.contains("error: ") || stderr.contains("warning: ") =>
        {
            Came::Failed
        }
        _ => return Err(format!("it ends so: {stderr}")),
    };
    let snapshots = if case.snapshots_min == 0 { Ok(0) } else { room.snapshots() };
    if snapshots.as_ref().map_or(true, |count| *count < case.snapshots_min) {
        return Err(format!("snapshots are lost, there are {snapshots:?}; it ended so: {stderr}"));
    }
    let check = room.with_any_password(&["check", "--read-data"]);
    let none_was_made = case.snapshots_min == 0 && check.status.code() == Some(10);
    if !check.status.success() && !none_was_made {
        return Err(format!("check finds something: {}; it ended so: {stderr}", words(&check)));
    }
    let again = room.run_case(case);
    let was_done = |done: &str| words(&again).contains(done);
    if !again.status.success() && !case.done.is_some_and(was_done) {
        return Err(format!("the same again fails: {}; the first ended so: {stderr}", words(&again)));
    }
    Ok(ending)
}

#[test]
fn every_system_call_fails_or_is_the_last() {
    let stage = Stage::new();
    let how = std::env::var("COFFER_SWEEP").unwrap_or_else(|_| "1".into());
    let mut tasks = Vec::new();
    let mut all = 0;
    for (number, case) in CASES.iter().enumerate() {
        let places = places(&stage, case);
        all += places.len();
        let count = how.parse().map_or(places.len(), |times: usize| (FAULTS * times).min(places.len()));
        // Spread over all of them, and beginning elsewhere for each command.
        tasks.extend(
            (0..count)
                .map(|task| (case, places[(task * places.len() + number * 7 % places.len()) / count % places.len()])),
        );
    }
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let came = [const { AtomicUsize::new(0) }; 4];
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some((case, at)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match try_one(&stage, case, *at) {
                        Ok(what) => _ = came[what as usize].fetch_add(1, Ordering::Relaxed),
                        Err(failure) => {
                            let failure = format!("{:?} with {at:?}: {failure}", case.arguments);
                            println!("{failure}");
                            failures.lock().unwrap().push(failure);
                        }
                    }
                }
            });
        }
    });
    let names = ["succeeded all the same", "told of an error", "killed", "missed"];
    println!("{:>8}  commands\n{all:>8}  places for faults\n{:>8}  faults", CASES.len(), tasks.len());
    for (name, count) in names.iter().zip(&came) {
        println!("{:>8}  {name}", count.load(Ordering::Relaxed));
    }
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let missed = came[Came::Missed as usize].load(Ordering::Relaxed);
    assert!(missed * 3 < tasks.len(), "most faults must meet what they are meant for: {missed} did not");
}
