//! Repositories on restic REST servers, by the command line.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use assert_cmd::Command;
use common::{Sandbox, stderr, stdout};
use servers::rest::{How, Kind, RestServer};

/// The binary, with a repository on a server.
fn coffer(sandbox: &Sandbox, server: &RestServer, arguments: &[&str]) -> Command {
    let mut command = sandbox.coffer(arguments);
    let address = match &server.socket {
        Some(socket) => format!("rest:http+unix://{}:/a/repo/", socket.display()),
        None => format!("rest:{}", server.url("a/repo")),
    };
    command.env("COFFER_REPOSITORY", address);
    command
}

fn whole_life(kind: Kind, how: How) {
    let sandbox = Sandbox::new();
    let server = RestServer::start(kind, how);
    let run = |arguments: &[&str]| {
        let mut command = coffer(&sandbox, &server, arguments);
        if let Some((user, password)) = how.user {
            command.env("RESTIC_REST_USERNAME", user).env("RESTIC_REST_PASSWORD", password);
        }
        if how.tls {
            command.env("RESTIC_CACERT", server.server.folder.path().join("cert.pem"));
        }
        command
    };
    let output = run(&["snapshots"]).assert().code(10);
    assert!(stderr(&output).contains("there is no repository at rest:http"), "{}", stderr(&output));
    run(&["backup", "src"]).assert().code(10);
    run(&["init"]).assert().success();
    let output = run(&["init"]).assert().code(1);
    assert!(stderr(&output).contains("there is already a repository at rest:http"), "{}", stderr(&output));
    run(&["backup", "src"]).assert().success();
    sandbox.write("src/new.txt", &"another file\n".repeat(100_000));
    run(&["backup", "src"]).assert().success();
    run(&["check", "--read-data"]).assert().success();
    let target = sandbox.path("target");
    run(&["restore", "latest", "--target"]).arg(&target).assert().success();
    common::assert_same(&sandbox.path("src"), &target.join("src"));
    let forget = run(&["forget", "--keep-last", "1", "--prune"]).assert();
    if how.append_only {
        let told = stderr(&forget.code(17));
        assert!(told.contains("append-only"), "{told}");
        run(&["snapshots"]).assert().success();
    } else {
        forget.success();
        let listed = run(&["snapshots", "--json"]).assert().success();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&stdout(&listed)).unwrap().as_array().unwrap().len(), 1);
    }
    run(&["check", "--read-data"]).assert().success();
    let output = run(&["snapshots"]).env("COFFER_PASSWORD", "wrong").assert().code(12);
    assert!(!stderr(&output).contains("wrong\n"));
}

#[test]
fn rest_server() {
    whole_life(Kind::RestServer, How { user: Some(("me", "geheim")), ..How::default() });
}

#[test]
fn rest_server_append_only() {
    whole_life(Kind::RestServer, How { append_only: true, tls: true, ..How::default() });
}

#[test]
fn rclone() {
    whole_life(Kind::Rclone, How { socket: true, ..How::default() });
}

#[test]
fn rclone_append_only() {
    whole_life(Kind::Rclone, How { append_only: true, user: Some(("me", "geheim")), ..How::default() });
}
