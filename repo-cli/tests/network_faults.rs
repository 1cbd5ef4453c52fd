//! Backups, prunes and restores over a network that loses, cuts and delays requests and answers, and servers that are busy.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use common::{Sandbox, assert_same, stderr};
use servers::{
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
