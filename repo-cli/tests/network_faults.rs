//! Backups, prunes and restores over a network that loses, cuts and delays requests and answers, and servers that are busy.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use std::time::Duration;

use common::{Sandbox, assert_same, stderr, stdout};
use servers::{
    b2::{self, B2Server},
    proxy::{FAULTS, Fault, Proxy},
    rest::{How, Kind as RestKind, RestServer},
    s3::{KEY, Kind as S3Kind, S3Server, SECRET},
};

/// One request in so many has a fault.
const EVERY: usize = 4;

/// Everything, by requests of which every fourth meets the next of all faults. `address` makes an address of a port.
fn everything(server: u16, phases: std::ops::Range<usize>, address: impl Fn(u16, usize) -> String) {
    for phase in phases {
        let sandbox = Sandbox::new();
        let proxy = Proxy::start(server, move |number| match (number + phase) % EVERY {
            0 => FAULTS[((number + phase) / EVERY + phase * 3) % FAULTS.len()],
            _ => Fault::None,
        });
        let run = |port: u16, arguments: &[&str]| {
            let mut command = sandbox.coffer(arguments);
            command.env("COFFER_REPOSITORY", address(port, phase));
            command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
            command.env("B2_KEY_ID", b2::KEY_ID).env("B2_KEY", b2::KEY);
            command.args(["-o", &format!("b2.authority=http://127.0.0.1:{port}")]);
            let output = command.assert();
            let said = stderr(&output);
            assert_eq!(output.get_output().status.code(), Some(0), "phase {phase}: {arguments:?}: {said}");
        };
        run(proxy.port, &["init"]);
        run(proxy.port, &["backup", "src"]);
        sandbox.write("src/more.txt", &"more and more\n".repeat(200_000));
        std::fs::remove_file(sandbox.path("src/sub/deeper/c.bin")).unwrap();
        run(proxy.port, &["backup", "src"]);
        run(proxy.port, &["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]);
        run(proxy.port, &["restore", "latest", "--target", "target"]);
        assert_same(&sandbox.path("src"), &sandbox.path("target/src"));
        let (requests, struck) = proxy.counts();
        assert!(struck >= requests / EVERY && struck >= FAULTS.len(), "{struck} faults in {requests} requests");
        // Looked at without faults: nothing is damaged, and nothing is left but what is needed.
        run(server, &["check", "--read-data"]);
    }
}

/// A store between which and us something gives old answers again: old listings, and that there is nothing where there is something by now.
///
/// Nobody can tell old answers from new ones, so that a command may fail; it says why, can be run again, and nothing is lost.
fn old_answers(server: u16, address: impl Fn(u16) -> String) {
    let sandbox = Sandbox::new();
    let proxy = Proxy::start(server, |_| Fault::Stale);
    let run = |port: u16, arguments: &[&str]| {
        let mut command = sandbox.coffer(arguments);
        command
            .env("COFFER_REPOSITORY", address(port))
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.assert()
    };
    let succeeds_in_the_end = |arguments: &[&str]| {
        let mut said = Vec::new();
        for _ in 0..4 {
            let output = run(proxy.port, arguments);
            if output.get_output().status.success() {
                return;
            }
            said.push(stderr(&output));
            assert!(!said[0].contains("panicked") && said[0].contains("error: "), "{arguments:?}: {said:?}");
        }
        panic!("{arguments:?}: {said:#?}");
    };
    let check = || run(server, &["check", "--read-data"]).success();
    let newest = || {
        let listed = stdout(&run(server, &["snapshots", "--json"]).success());
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // One that exists already is what may come of an `init` of which nobody heard.
    if !run(proxy.port, &["init"]).get_output().status.success() {
        run(server, &["snapshots"]).success();
    }
    for round in 0..3 {
        sandbox.write("src/more.txt", &format!("more and more {round}\n").repeat(20_000));
        sandbox.write(&format!("src/new-{round}.txt"), &format!("new {round}\n").repeat(2_000));
        succeeds_in_the_end(&["backup", "src"]);
        check();
        succeeds_in_the_end(&["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]);
        check();
        succeeds_in_the_end(&["prune", "--max-unused", "0"]);
        check();
        let ids = newest();
        let target = format!("target-{round}");
        succeeds_in_the_end(&["restore", ids.last().unwrap(), "--target", &target]);
        assert_same(&sandbox.path("src"), &sandbox.path(&target).join("src"));
    }
    let (requests, old) = proxy.counts();
    assert!(old > 20, "{old} old answers to {requests} requests");
}

#[test]
fn old_answers_of_a_rest_server() {
    let server = RestServer::start(RestKind::RestServer, How::default());
    old_answers(server.port, |port| format!("rest:http://127.0.0.1:{port}/repo/"));
}

#[test]
fn old_answers_of_s3() {
    let server = S3Server::start(S3Kind::Seaweed);
    old_answers(server.port, |port| format!("s3:http://127.0.0.1:{port}/bucket/repo"));
}

/// A server that says how long it wants to be left alone is.
#[test]
fn a_busy_server_is_left_alone() {
    let rest = RestServer::start(RestKind::RestServer, How::default());
    let s3 = S3Server::start(S3Kind::Seaweed);
    for status in [429, 503] {
        for (server, begin, end) in
            [(rest.port, "rest:http://127.0.0.1:", "/"), (s3.port, "s3:http://127.0.0.1:", "/bucket/")]
        {
            let sandbox = Sandbox::new();
            let run = |port: u16, arguments: &[&str]| {
                let mut command = sandbox.coffer(arguments);
                command.env("COFFER_REPOSITORY", format!("{begin}{port}{end}repo{status}/"));
                command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
                command.assert().success();
            };
            run(server, &["init"]);
            let busy = Fault::Busy(status, 3);
            // The third is for the key; the first two, for config and list of keys, go out at the same time.
            let proxy = Proxy::start(server, move |number| if number == 2 { busy } else { Fault::None });
            run(proxy.port, &["snapshots"]);
            let [pause] = proxy.pauses_after(busy)[..] else { panic!("it was not asked again") };
            assert!(pause >= Duration::from_secs(3) && pause < Duration::from_secs(20), "{begin}{status}: {pause:?}");
        }
    }
}

#[test]
fn rest_server() {
    let server = RestServer::start(RestKind::RestServer, How::default());
    everything(server.port, 0..3, |port, phase| format!("rest:http://127.0.0.1:{port}/repo{phase}/"));
}

#[test]
fn rclone() {
    let server = RestServer::start(RestKind::Rclone, How::default());
    everything(server.port, 1..3, |port, phase| format!("rest:http://127.0.0.1:{port}/repo{phase}/"));
}

#[test]
fn s3() {
    let server = S3Server::start(S3Kind::Seaweed);
    everything(server.port, 0..3, |port, phase| format!("s3:http://127.0.0.1:{port}/bucket/repo{phase}"));
}

/// Its addresses, those for uploads too, are those that it was asked at: all goes through the proxy.
#[test]
fn b2() {
    let server = B2Server::start();
    everything(server.port, 0..3, |_, phase| format!("b2:bucket:repo{phase}"));
}
