//! Standard input and commands as sources; signals.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says why it is skipped"
)]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Sandbox, stderr, stdout};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn standard_input() {
    let sandbox = Sandbox::with_repository();
    sandbox
        .coffer(&["backup", "--stdin", "--stdin-filename", "db/dump.sql"])
        .write_stdin("select 1")
        .assert()
        .success();
    assert_eq!(stdout(&sandbox.coffer(&["dump", "latest", "/db/dump.sql"]).assert().success()), "select 1");
    sandbox.coffer(&["backup", "--stdin"]).write_stdin("").assert().success();
    assert_eq!(stdout(&sandbox.coffer(&["dump", "latest", "stdin"]).assert().success()), "");
    assert_eq!(sandbox.snapshots(), 2);
}

#[test]
fn what_a_command_writes() {
    let sandbox = Sandbox::with_repository();
    let command = ["backup", "--stdin-filename", "out", "--stdin-from-command", "--", "sh", "-c"];
    // printenv fails where the variable is not set: a password is not handed on.
    let failed = sandbox.coffer(&command).arg("echo result; printenv COFFER_PASSWORD").assert().code(1);
    assert!(stderr(&failed).contains("\"sh\" ended with status 1"), "{}", stderr(&failed));
    let output = sandbox.coffer(&command).arg("echo working >&2; echo result").assert().success();
    assert!(stderr(&output).contains("sh: working\n"), "{}", stderr(&output));
    assert_eq!(stdout(&sandbox.coffer(&["dump", "latest", "out"]).assert().success()), "result\n");
    assert_eq!(sandbox.snapshots(), 1);
}

#[test]
fn a_command_that_fails_makes_no_snapshot() {
    let sandbox = Sandbox::with_repository();
    for (command, words) in [
        (&["sh", "-c", "echo half; exit 7"][..], "\"sh\" ended with status 7"),
        (&["sh", "-c", "echo half; kill -9 $$"], "\"sh\" was ended by signal 9"),
        (&["no-such-program", "x"], "cannot start \"no-such-program\": No such file or directory"),
    ] {
        let arguments = [&["backup", "--stdin-from-command", "--"], command].concat();
        let output = sandbox.coffer(&arguments).assert().code(1);
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    assert_eq!(sandbox.snapshots(), 0);
}

/// Starts the binary with pipes.
fn start(sandbox: &Sandbox, arguments: &[&str]) -> Child {
    Command::new(common::COFFER)
        .args(arguments)
        .current_dir(sandbox.dir.path())
        .env("COFFER_REPOSITORY", sandbox.path("repo"))
        .env("COFFER_PASSWORD", "correct horse")
        .env("COFFER_PROGRESS_FPS", "100")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for the first status message that tells of bytes.
fn wait_for_bytes(child: &mut Child) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref() {
        let value: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if value["bytes_done"].as_u64().is_some_and(|bytes| bytes > 0) {
            break;
        }
    }
    // The rest is read, so that the program does not wait for us.
    std::thread::spawn(move || lines.count());
}

#[test]
fn interrupted_while_waiting_for_input() {
    let sandbox = Sandbox::with_repository();
    let mut child = start(&sandbox, &["backup", "--stdin", "--json"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![7; 3_000_000]).unwrap();
    wait_for_bytes(&mut child);
    signal(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let last = common::lines(&output.stderr).pop().unwrap();
    assert_eq!(
        (&last["message_type"], &last["code"], &last["message"]),
        (&"exit_error".into(), &130.into(), &"interrupted".into())
    );
    assert!(last["state"].as_str().unwrap().starts_with("no snapshot was made"));
    drop(stdin);
    assert_eq!(sandbox.snapshots(), 0);
    sandbox.coffer(&["backup", "src"]).assert().success();
    sandbox.coffer(&["check", "--read-data"]).assert().success();
}

#[test]
fn what_was_killed_is_told_by_status_and_taken_up_by_the_next_backup() {
    let sandbox = Sandbox::with_repository();
    let mut child = start(&sandbox, &["backup", "--stdin", "--json"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![7; 3_000_000]).unwrap();
    wait_for_bytes(&mut child);
    let process = child.id();
    let session = |state: &str| {
        let value = sandbox.json(&["status"]);
        let sessions = value["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 1, "{value}");
        let seen = (&sessions[0]["operation"], &sessions[0]["process"], &sessions[0]["state"]);
        assert_eq!(seen, (&"backup".into(), &process.into(), &state.into()), "{value}");
    };
    session("working");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    session("left_behind");
    let text = stdout(&sandbox.coffer(&["status"]).assert().success());
    assert!(text.contains("was killed") && text.contains("locks nobody out"), "{text}");
    // It is in nobody's way, and the next backup removes its note.
    sandbox.coffer(&["check"]).assert().success();
    sandbox.coffer(&["backup", "src"]).assert().success();
    let text = stdout(&sandbox.coffer(&["status"]).assert().success());
    assert!(text.contains("nobody is at work"), "{text}");
    sandbox.assert_restores();
}

#[test]
fn interrupted_while_reading_files() {
    let sandbox = Sandbox::with_snapshot();
    let mut seed = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    })
    .take(120_000_000)
    .collect();
    std::fs::write(sandbox.path("src/noise"), noise).unwrap();
    let mut child = start(&sandbox, &["backup", "src", "--json"]);
    wait_for_bytes(&mut child);
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(sandbox.snapshots(), 1);
    sandbox.coffer(&["check", "--read-data"]).assert().success();
    sandbox.coffer(&["backup", "src"]).assert().success();
    sandbox.assert_restores();
    assert_eq!(sandbox.json(&["status"])["sessions"], serde_json::json!([]), "sessions that ended leave no note");
}

#[test]
fn a_command_is_ended_with_the_backup_and_a_second_signal_does_not_wait_for_it() {
    let sandbox = Sandbox::with_repository();
    let script = "trap '' TERM; echo $$ >pid; head -c 3000000 /dev/zero; exec 1>&-; while :; do sleep 0.1; done";
    let mut child = start(&sandbox, &["backup", "--json", "--stdin-from-command", "--", "sh", "-c", script]);
    wait_for_bytes(&mut child);
    let begun = Instant::now();
    signal(&child, Signal::INT);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(child.try_wait().unwrap(), None, "the command has some time to end by itself");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(2));
    let pid: i32 = std::fs::read_to_string(sandbox.path("pid")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();

    // With patience, it is gone.
    let mut child = start(&sandbox, &["backup", "--json", "--stdin-from-command", "--", "sh", "-c", script]);
    wait_for_bytes(&mut child);
    let pid: i32 = std::fs::read_to_string(sandbox.path("pid")).unwrap().trim().parse().unwrap();
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).is_err());
    assert_eq!(sandbox.snapshots(), 0);
}

#[test]
fn a_signal_asks_for_progress() {
    let sandbox = Sandbox::with_repository();
    let mut child = start(&sandbox, &["backup", "--stdin"]);
    // Plain lines are asked for by the variable; the next one is the sign that signals are listened to.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![7; 1_000_000]).unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while !line.contains(" so far") {
        line.clear();
        lines.read_line(&mut line).unwrap();
    }
    signal(&child, Signal::USR1);
    drop(stdin);
    std::thread::spawn(move || lines.lines().count());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
