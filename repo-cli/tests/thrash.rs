//! Real processes on a real folder, a bucket of `SeaweedFS` and a restic REST server: backups, prunes, forgets, restores and checks side by
//! side, and two in five of them killed at any moment.
//!
//! `COFFER_THRASH_SECONDS=3600` lets it run so long; `COFFER_THRASH_SEED` makes the same choices again, though not the same timing. One
//! store: `cargo test -p repo-cli --test thrash on_s3 -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and tells what it did"
)]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    process::{Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{COFFER, Sandbox, assert_same, document};
use servers::{
    rest::{How, Kind as RestKind, RestServer},
    s3::{Kind as S3Kind, S3Server, with_keys},
};

const WORKERS: u64 = 4;
const SECONDS: u64 = 15;

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Chance from a seed (`xorshift64*`).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What all workers know.
struct Thrash {
    sandbox: Sandbox,
    /// The repository's address.
    repository: String,
    end: Instant,
    /// Backups that were reported as done, by their tags, which are the folders they hold.
    done: Mutex<BTreeMap<String, bool>>,
    counts: [AtomicU64; 6],
}

const NAMES: [&str; 6] = ["backups", "prunes", "forgets", "restores", "checks", "kills"];

impl Thrash {
    fn count(&self, what: usize) {
        self.counts[what].fetch_add(1, Ordering::Relaxed);
    }

    /// A process.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(COFFER);
        command.args(arguments).current_dir(self.sandbox.dir.path()).env_clear();
        command.env("COFFER_REPOSITORY", &self.repository).env("COFFER_PASSWORD", "correct horse").env("TZ", "UTC");
        command.env("HOME", self.sandbox.path("home")).stdout(Stdio::piped()).stderr(Stdio::piped());
        with_keys(&mut command);
        command
    }

    /// Runs a process to its end, and it succeeds.
    fn succeeds(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?} fails: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs a process, and kills it after a while if so decided. Nothing if it was killed.
    fn run(&self, chance: &mut Chance, arguments: &[&str]) -> Option<Output> {
        let mut child = self.command(arguments).spawn().unwrap();
        if chance.below(100) < 40 {
            std::thread::sleep(Duration::from_millis(chance.below(900)));
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        if output.status.signal().is_some() {
            self.count(5);
            return None;
        }
        Some(output)
    }

    /// As [`Self::run`]; whatever is not killed must succeed.
    fn runs(&self, chance: &mut Chance, what: usize, arguments: &[&str]) -> bool {
        let Some(output) = self.run(chance, arguments) else { return false };
        let words = String::from_utf8_lossy(&output.stderr);
        // It says so where others work against it, and has done no harm.
        let in_vain = words.contains("run again") || words.contains("run it again");
        assert!(output.status.success() || in_vain, "{arguments:?} fails: {} {words}", output.status);
        if output.status.success() {
            self.count(what);
        }
        output.status.success()
    }

    fn work(&self, worker: u64, seed: u64) {
        let mut chance = Chance(seed.wrapping_mul(2 * worker + 3) | 1);
        let mut round = 0;
        while Instant::now() < self.end {
            match chance.below(10) {
                0..5 => {
                    round += 1;
                    let folder = format!("v-{worker}-{round}");
                    for file in 0..8 {
                        let text = format!("{file} {} ", chance.below(3)).repeat(2000);
                        self.sandbox.write(&format!("{folder}/{file}"), &text);
                    }
                    let label = format!("w{worker}");
                    if self.runs(&mut chance, 0, &["backup", &folder, "--tag", &folder, "--label", &label]) {
                        self.done.lock().unwrap().insert(folder, true);
                    }
                }
                5..7 => _ = self.runs(&mut chance, 1, &["prune", "--max-unused", "0"]),
                7 => {
                    // One of our own, so that nobody reads it.
                    let own = format!("v-{worker}-");
                    let chosen = self.done.lock().unwrap().keys().find(|tag| tag.starts_with(&own)).cloned();
                    if let Some(tag) = chosen
                        && let Some(id) = self.id_of(&tag)
                    {
                        self.done.lock().unwrap().insert(tag.clone(), false);
                        self.runs(&mut chance, 2, &["forget", &id]);
                        self.done.lock().unwrap().remove(&tag);
                    }
                }
                8 => {
                    let own = format!("v-{worker}-");
                    let chosen = self.done.lock().unwrap().keys().rfind(|tag| tag.starts_with(&own)).cloned();
                    if let Some(tag) = chosen {
                        let id = self.id_of(&tag).expect("it was reported as done");
                        self.restore(&mut chance, &tag, &id);
                    }
                }
                _ => _ = self.runs(&mut chance, 4, &["check", "--read-data"]),
            }
        }
    }

    fn restore(&self, chance: &mut Chance, tag: &str, id: &str) {
        let target = tempfile::tempdir().unwrap();
        let place = target.path().to_str().unwrap();
        if self.runs(chance, 3, &["restore", id, "--target", place]) {
            assert_same(&self.sandbox.path(tag), &target.path().join(tag));
        }
    }

    fn id_of(&self, tag: &str) -> Option<String> {
        self.snapshots().remove(tag)
    }

    /// All snapshots, by their tags.
    fn snapshots(&self) -> BTreeMap<String, String> {
        let all = document(&self.succeeds(&["snapshots", "--json"]).stdout);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        all.as_array().unwrap().iter().map(|one| (text(&one["tags"][0]), text(&one["id"]))).collect()
    }
}

/// Processes side by side, killed at any moment, in an empty place.
fn thrash(repository: &str) {
    let seed = number_of("COFFER_THRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
    let seconds = number_of("COFFER_THRASH_SECONDS").unwrap_or(SECONDS);
    println!("COFFER_THRASH_SEED={seed} {repository}");
    let thrash = Thrash {
        sandbox: Sandbox::new(),
        repository: repository.to_owned(),
        end: Instant::now() + Duration::from_secs(seconds),
        done: Mutex::default(),
        counts: Default::default(),
    };
    thrash.succeeds(&["init"]);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let thrash = &thrash;
            scope.spawn(move || thrash.work(worker, seed));
        }
    });
    // Nobody works any more: everything that was reported is there, and what was killed is in nobody's way.
    thrash.succeeds(&["check", "--read-data"]);
    thrash.succeeds(&["prune", "--max-unused", "0"]);
    thrash.succeeds(&["check", "--read-data"]);
    let status = document(&thrash.succeeds(&["status", "--json"]).stdout);
    for what in ["sessions", "marks", "expiring"] {
        assert_eq!(status[what], serde_json::json!([]), "{what}");
    }
    let there = thrash.snapshots();
    for tag in thrash.done.lock().unwrap().keys() {
        assert!(there.contains_key(tag), "{tag} was reported as done, and is gone");
    }
    for (tag, id) in &there {
        let target = tempfile::tempdir().unwrap();
        thrash.succeeds(&["restore", id, "--target", target.path().to_str().unwrap()]);
        assert_same(&thrash.sandbox.path(tag), &target.path().join(tag));
    }
    for (name, count) in NAMES.iter().zip(&thrash.counts) {
        println!("{:>8}  {name}", count.load(Ordering::Relaxed));
    }
    println!("{:>8}  snapshots restored at the end", there.len());
    let least = |at: usize| thrash.counts[at].load(Ordering::Relaxed);
    assert!(least(0) > 0 && least(5) > 0, "no backup, or no kill");
}

#[test]
fn on_a_folder() {
    thrash("repo");
}

#[test]
fn on_s3() {
    let server = S3Server::start(S3Kind::Seaweed);
    thrash(&format!("s3:{}/bucket/repo", server.endpoint()));
}

#[test]
fn on_a_rest_server() {
    let server = RestServer::start(RestKind::RestServer, How::default());
    thrash(&format!("rest:{}", server.url("repo")));
}
