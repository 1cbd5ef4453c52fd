//! Ctrl-C while much is on its way over a slow network: the end comes soon, and nothing is worse than before.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{COFFER, Sandbox, assert_same, lines, noise};
use rustix::process::{Pid, Signal, kill_process};
use servers::{
    link::Link,
    proxy::{Fault, Proxy},
    rest::{How, Kind as RestKind, RestServer},
    s3::{KEY, Kind as S3Kind, S3Server, SECRET},
    sftp::SshServer,
};

/// At this rate a pack takes more than a minute.
const RATE_BYTES: usize = 512 << 10;

/// Ends a backup, and a restore, in the middle. `arguments` say where the repository is, by a port.
fn ends_soon(server: u16, arguments: impl Fn(u16) -> Vec<String>) {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("src/noise"), noise(40 << 20)).unwrap();
    let slow = Link::start(server, Some(RATE_BYTES));
    let command = |port: u16, words: &[&str]| {
        let mut command = Command::new(COFFER);
        command.args(words).args(arguments(port)).current_dir(sandbox.dir.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", sandbox.path("home")).env("TZ", "UTC");
        command
            .env("COFFER_PASSWORD", "correct horse")
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let run = |words: &[&str]| {
        let output = command(server, words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let interrupt = |words: &[&str], is_under_way: &dyn Fn() -> bool| {
        let child = command(slow.port, words).spawn().unwrap();
        let begin = Instant::now();
        while !is_under_way() {
            assert!(begin.elapsed() < Duration::from_mins(1), "{words:?} does not begin");
            thread::sleep(Duration::from_millis(20));
        }
        // What is between takes some of it at once.
        thread::sleep(Duration::from_secs(1));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let begin = Instant::now();
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{words:?}: {told}");
        assert!(begin.elapsed() < Duration::from_secs(6), "{words:?}: it took {:?}: {told}", begin.elapsed());
    };
    run(&["init"]);
    interrupt(&["backup", "src"], &|| slow.sent_bytes() > 1 << 20);
    run(&["backup", "src"]);
    let before = slow.came_bytes();
    interrupt(&["restore", "latest", "--target", "target"], &|| slow.came_bytes() > before + (1 << 20));
    run(&["restore", "latest", "--target", "target"]);
    assert_same(&sandbox.path("src"), &sandbox.path("target/src"));
    run(&["check", "--read-data"]);
}

/// More than two packs.
const FILE_BYTES: usize = 80 << 20;

/// No pack is larger, and the first one is almost that large.
const PACK_BYTES: u64 = 32 << 20;

/// Ends a backup whose second pack does not get through, as on a slow line. From the Ctrl-C on nothing at all gets through, or everything but
/// that pack. What the next backup sends.
fn sent_after_interrupt(is_line_dead: bool) -> u64 {
    let server = RestServer::start(RestKind::RestServer, How::default());
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("src/noise"), noise(FILE_BYTES)).unwrap();
    let address = |port: u16| format!("rest:http://127.0.0.1:{port}/repo/");
    sandbox.coffer(&["init"]).env("COFFER_REPOSITORY", address(server.port)).assert().success();

    let (packs, is_dead) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let proxy = {
        let (packs, is_dead) = (Arc::clone(&packs), Arc::clone(&is_dead));
        Proxy::reading(server.port, move |_, head| {
            if head.starts_with("POST ") && head.contains("/data/") && packs.fetch_add(1, Ordering::SeqCst) > 0 {
                thread::sleep(Duration::from_mins(1));
            }
            if is_dead.load(Ordering::SeqCst) { Fault::Reset } else { Fault::None }
        })
    };
    let mut backup = Command::new(COFFER);
    backup.args(["backup", "src"]).current_dir(sandbox.dir.path()).env_clear();
    backup.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", sandbox.path("home"));
    backup.env("COFFER_PASSWORD", "correct horse").env("COFFER_REPOSITORY", address(proxy.port));
    let child = backup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while packs.load(Ordering::SeqCst) < 2 {
        assert!(begin.elapsed() < Duration::from_mins(1), "there is no second pack");
        thread::sleep(Duration::from_millis(20));
    }
    is_dead.store(is_line_dead, Ordering::SeqCst);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));

    let mut again = sandbox.coffer(&["backup", "src", "--json", "-v"]);
    let again = again.env("COFFER_REPOSITORY", address(server.port)).assert().success();
    let told = lines(&again.get_output().stderr);
    for command in [&["restore", "latest", "--target", "target"][..], &["check", "--read-data"]] {
        sandbox.coffer(command).env("COFFER_REPOSITORY", address(server.port)).assert().success();
    }
    assert_same(&sandbox.path("src"), &sandbox.path("target/src"));
    told.iter().find(|line| line["message_type"] == "requests").unwrap()["bytes_sent"].as_u64().unwrap()
}

/// The pack that was stored is made known at the end, or where that was not possible any more, found by the next backup.
#[test]
fn what_was_stored_is_not_sent_again() {
    for is_line_dead in [false, true] {
        let sent_bytes = sent_after_interrupt(is_line_dead);
        let left_bytes = FILE_BYTES as u64 - PACK_BYTES;
        assert!(sent_bytes < left_bytes + (2 << 20), "{is_line_dead}: {sent_bytes} of {left_bytes}");
    }
}

#[test]
fn rest() {
    let server = RestServer::start(RestKind::RestServer, How::default());
    ends_soon(server.port, |port| vec!["--repo".into(), format!("rest:http://127.0.0.1:{port}/repo/")]);
}

#[test]
fn s3() {
    let server = S3Server::start(S3Kind::Moto);
    ends_soon(server.port, |port| vec!["--repo".into(), format!("s3:http://127.0.0.1:{port}/bucket/repo")]);
}

#[test]
fn sftp() {
    let server = SshServer::start();
    let config = format!("sftp.args=-F {} -oHostKeyAlias={}", server.ssh_config().display(), server.key_alias());
    let data = server.data().display().to_string();
    ends_soon(server.port, |port| {
        ["--repo".into(), format!("sftp://127.0.0.1:{port}/{data}/repo"), "-o".into(), config.clone()].into()
    });
}
