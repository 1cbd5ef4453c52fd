//! Memory is bounded: every command that goes through all data does it under a limit of the operating system that the data would not
//! fit in; and where memory does run out, nothing is harmed.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and tells what it did")]

mod common;

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
    process::{Command, Output},
};

use common::{COFFER, Sandbox, assert_same};

/// What all of them get by on: writable private memory, stacks included. The password alone takes 64 MiB of it for a moment.
const LIMIT_MIB: usize = 128 + 32 * THREADS;
/// Commands have a thread for each processor, or one more; this many they may use.
const THREADS: usize = 2;
/// What there is to back up.
const LARGE_FILES: usize = 2;
const LARGE_MIB: usize = 100;
const SMALL_FILES: usize = 8000;

/// Chance from a seed (`xorshift64*`).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn write(&mut self, path: &Path, words: usize) {
        let mut file = BufWriter::new(fs::File::create(path).unwrap());
        for _ in 0..words {
            file.write_all(&self.next().to_le_bytes()).unwrap();
        }
        file.flush().unwrap();
    }
}

/// Runs the program where it can have so much memory, and `THREADS` processors.
fn limited(sandbox: &Sandbox, limit_mib: usize, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    let script = "ulimit -d \"$1\" && shift && exec \"$@\"";
    command.args(["-c", script, "sh"]).arg((limit_mib * 1024).to_string());
    let processors = (0..THREADS).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    command
        .args(["taskset", "-c", &processors])
        .arg(COFFER)
        .args(arguments)
        .current_dir(sandbox.dir.path())
        .env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", sandbox.path("home"));
    command.env("COFFER_REPOSITORY", sandbox.path("repo")).env("COFFER_PASSWORD", "correct horse");
    command.output().unwrap()
}

fn succeeds(sandbox: &Sandbox, limit_mib: usize, arguments: &[&str]) {
    let output = limited(sandbox, limit_mib, arguments);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} within {limit_mib} MiB: {} {words}", output.status);
}

#[test]
fn everything_gets_by_on_little_memory() {
    let sandbox = Sandbox::with_repository();
    let chance = &mut Chance(1);
    for number in 0..LARGE_FILES {
        chance.write(&sandbox.path(&format!("src/large-{number}")), LARGE_MIB << 17);
    }
    for number in 0..SMALL_FILES {
        let folder = sandbox.path(&format!("src/small/{}", number % 90));
        fs::create_dir_all(&folder).unwrap();
        let words = usize::try_from(chance.next() % 1500).unwrap();
        chance.write(&folder.join(number.to_string()), words);
    }

    // What is killed by it has harmed nothing: the same succeeds where there is enough.
    let starved = limited(&sandbox, 80, &["backup", "src"]);
    assert!(!starved.status.success(), "the limit is one: it is enforced");
    succeeds(&sandbox, LIMIT_MIB, &["check"]);

    succeeds(&sandbox, LIMIT_MIB, &["backup", "src"]);
    succeeds(&sandbox, LIMIT_MIB, &["check", "--read-data"]);
    succeeds(&sandbox, LIMIT_MIB, &["restore", "latest", "--target", "restored"]);
    assert_same(&sandbox.path("src"), &sandbox.path("restored/src"));
    fs::remove_dir_all(sandbox.path("restored")).unwrap();
    for folder in 0..45 {
        fs::remove_dir_all(sandbox.path(&format!("src/small/{folder}"))).unwrap();
    }
    succeeds(&sandbox, LIMIT_MIB, &["backup", "src"]);
    succeeds(&sandbox, LIMIT_MIB, &["rewrite", "latest", "--exclude", "large-1", "--forget"]);
    succeeds(&sandbox, LIMIT_MIB, &["forget", "--keep-last", "1"]);
    succeeds(&sandbox, LIMIT_MIB, &["prune", "--max-unused", "0"]);
    succeeds(&sandbox, LIMIT_MIB, &["repair", "index", "--read-all-packs"]);
    succeeds(&sandbox, LIMIT_MIB, &["check", "--read-data"]);
    println!("{} MiB of files within {LIMIT_MIB} MiB", LARGE_FILES * LARGE_MIB + SMALL_FILES * 6000 / (1 << 20));
}
