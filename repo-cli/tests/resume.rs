//! Backups that are ended by a signal, and what is told and kept of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{COFFER, Sandbox, noise, stderr, stdout};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_stream_that_is_ended_by_a_signal_is_kept_as_far_as_it_came() {
    let sandbox = Sandbox::with_repository();
    let mut command = Command::new(COFFER);
    command.args(["backup", "--stdin", "--stdin-filename", "dump.sql"]).current_dir(sandbox.dir.path());
    command.env_clear().env("HOME", sandbox.path("home")).env("TZ", "UTC");
    command.env("COFFER_REPOSITORY", sandbox.path("repo")).env("COFFER_PASSWORD", "correct horse");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let content = noise(12 << 20);
    let mut input = child.stdin.take().unwrap();
    // A pipe takes little: when this has returned, nearly all was read.
    input.write_all(&content).unwrap();
    thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(input);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains("the next backup goes on from here"), "{told}");

    assert_eq!(sandbox.snapshots(), 0, "no backup is made of it");
    let status = sandbox.json(&["status"]);
    let unfinished = status["unfinished"].as_array().unwrap();
    assert_eq!((unfinished.len(), &unfinished[0]["files"]), (1, &1.into()), "{status}");
    let id = unfinished[0]["id"].as_str().unwrap();
    let text = stdout(&sandbox.coffer(&["status"]).assert().success());
    assert!(text.contains(&id[..8]) && text.contains("dump.sql"), "{text}");

    let listed = sandbox.coffer(&["ls", &id[..8]]).assert().success();
    assert!(stderr(&listed).contains("UNFINISHED") && stdout(&listed).contains("dump.sql"));
    let dumped = sandbox.coffer(&["dump", id, "dump.sql"]).assert().success();
    assert!(stderr(&dumped).contains("UNFINISHED"));
    let kept = &dumped.get_output().stdout;
    assert!(kept.len() > 4 << 20 && content.starts_with(kept), "{}", kept.len());

    // What was stored is not stored again, and what is unfinished does not outlive its use for long.
    let whole = sandbox
        .coffer(&["backup", "--stdin", "--stdin-filename", "dump.sql", "--json"])
        .write_stdin(content)
        .assert()
        .success();
    let summary = common::lines(&whole.get_output().stdout).pop().unwrap();
    assert!(summary["data_added"].as_u64().unwrap() < 9 << 20, "{summary}");
    sandbox.coffer(&["check", "--read-data"]).assert().success();
    assert_eq!(sandbox.snapshots(), 1);
}

#[test]
fn how_often_is_written_with_a_unit() {
    let sandbox = Sandbox::with_repository();
    for every in ["0", "90s", "10m", "1h", "1d"] {
        sandbox.coffer(&["backup", "src", "--checkpoint-every", every]).assert().success();
    }
    for every in ["", "10", "m", "-1m", "1.5h", "99999999999999999999h", "ten"] {
        sandbox.coffer(&["backup", "src"]).arg(format!("--checkpoint-every={every}")).assert().code(2);
    }
}
