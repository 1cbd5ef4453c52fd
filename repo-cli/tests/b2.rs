//! Repositories in buckets of Backblaze B2, by the command line.

#![cfg(feature = "b2")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use assert_cmd::Command;
use common::{Sandbox, stderr, stdout};
use serde_json::json;
use servers::b2::{B2Server, KEY, KEY_ID};

/// The binary, with a repository on a server and the master key.
fn coffer(sandbox: &Sandbox, server: &B2Server, arguments: &[&str]) -> Command {
    let mut command = bare(sandbox, server, arguments);
    command.env("B2_ACCOUNT_ID", KEY_ID).env("B2_ACCOUNT_KEY", KEY);
    command
}

/// The same without a key.
fn bare(sandbox: &Sandbox, server: &B2Server, arguments: &[&str]) -> Command {
    let mut command = sandbox.coffer(arguments);
    command.env("COFFER_REPOSITORY", "b2:bucket:path/to/repo");
    command.args(["-o", &format!("b2.authority={}", server.url())]);
    command
}

/// Everything a repository goes through, with tokens that expire all the time and addresses for uploads that fail.
#[test]
fn whole_life() {
    let sandbox = Sandbox::new();
    let server = B2Server::start();
    let run = |arguments: &[&str]| coffer(&sandbox, &server, arguments);
    let output = run(&["snapshots"]).assert().code(10);
    assert!(stderr(&output).contains("there is no repository at b2:bucket:path/to/repo"), "{}", stderr(&output));
    let expires = |skip: usize| json!({ "match": "", "skip": skip, "how": "expire" });
    server.fail(expires(9));
    run(&["init"]).assert().success();
    run(&["init"]).assert().code(1);
    server.fail(expires(12));
    run(&["backup", "src"]).assert().success();
    sandbox.write("src/new.txt", &"another file\n".repeat(100_000));
    std::fs::remove_file(sandbox.path("src/sub/deeper/c.bin")).unwrap();
    let faults = json!([
        { "match": "b2_upload_file", "skip": 1, "status": 503, "code": "service_unavailable", "count": 2 },
        { "match": "b2_upload_file", "skip": 2, "how": "lost" },
        { "match": "b2_get_upload_url", "status": 503 },
        { "match": "b2_list_file_names", "skip": 1, "status": 500 },
        { "match": "b2_download", "skip": 1, "how": "cut", "count": 2 },
        { "match": "", "skip": 25, "how": "expire" },
    ]);
    server.control(&json!({ "faults": faults }));
    run(&["backup", "src"]).assert().success();
    server.control(&json!({ "faults": faults }));
    run(&["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]).assert().success();
    run(&["check", "--read-data"]).assert().success();
    server.control(&json!({ "faults": faults }));
    run(&["restore", "latest", "--target", "target"]).assert().success();
    common::assert_same(&sandbox.path("src"), &sandbox.path("target/src"));
    let listed = run(&["snapshots", "--json"]).assert().success();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stdout(&listed)).unwrap().as_array().unwrap().len(), 1);
    assert_eq!(
        server.counts()("b2_authorize_account"),
        8 + 5,
        "once for each command, and for each time that tokens expired"
    );
    // Nothing is kept that is paid for and not needed: one version of each object, none hidden, and nobody at work. What the store
    // was found to be able to do is noted among the locks.
    let versions = server.versions("");
    let names: std::collections::BTreeSet<&String> = versions.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), versions.len(), "{versions:?}");
    assert!(versions.iter().all(|(_, action)| action == "upload"), "{versions:?}");
    assert_eq!(names.iter().filter(|name| name.contains("/locks/")).count(), 1, "{versions:?}");
    run(&["snapshots"]).env("COFFER_PASSWORD", "wrong").assert().code(12);
}

#[test]
fn doctor_is_content() {
    let sandbox = Sandbox::new();
    let server = B2Server::start();
    coffer(&sandbox, &server, &["init"]).assert().success();
    let output = coffer(&sandbox, &server, &["doctor"]).assert().success();
    assert!(stdout(&output).contains("gone as soon as they were deleted"), "{}", stdout(&output));
    assert_eq!(server.versions("path/to/repo/locks/").len(), 1, "its result");
}

/// All three spellings of the key's variables; and what is wrong is said in one sentence, with what to do.
#[test]
fn keys() {
    let sandbox = Sandbox::new();
    let server = B2Server::start();
    coffer(&sandbox, &server, &["init"]).assert().success();
    let spellings =
        [("B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"), ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"), ("B2_KEY_ID", "B2_KEY")];
    for (id, key) in spellings {
        bare(&sandbox, &server, &["snapshots"]).env(id, KEY_ID).env(key, KEY).assert().success();
        let output = bare(&sandbox, &server, &["snapshots"]).env(id, KEY_ID).env(key, "geheim").assert().code(17);
        let said = stderr(&output);
        assert!(said.contains("application key or its id is wrong") && !said.contains("geheim"), "{said}");
        assert!(said.contains("hint: check the user, password or keys"), "{said}");
        bare(&sandbox, &server, &["snapshots"]).env(id, KEY_ID).assert().code(2);
    }
    bare(&sandbox, &server, &["snapshots"]).assert().code(2);
    let rights = ["listFiles", "readFiles", "writeFiles"];
    let (id, key) = server.key(json!({ "capabilities": rights, "buckets": ["bucket"], "prefix": "path/to/" }));
    let with_key = |arguments: &[&str]| {
        let mut command = bare(&sandbox, &server, arguments);
        command.env("B2_KEY_ID", &id).env("B2_KEY", &key);
        command
    };
    with_key(&["snapshots"]).assert().success();
    let said = stderr(&with_key(&["prune"]).assert().code(17));
    assert!(said.contains("the application key lacks the right \"deleteFiles\""), "{said}");
    let mut elsewhere = with_key(&["snapshots"]);
    let said = stderr(&elsewhere.env("COFFER_REPOSITORY", "b2:bucket:elsewhere").assert().code(17));
    assert!(said.contains("only for names that begin with \"path/to/\""), "{said}");
    let mut nowhere = coffer(&sandbox, &server, &["init"]);
    let said = stderr(&nowhere.env("COFFER_REPOSITORY", "b2:nothing:repo").assert().code(22));
    assert!(said.contains("there is no bucket \"nothing\"") && said.contains("coffer makes none"), "{said}");
    server.fail(json!({ "match": "b2_upload_file", "status": 403, "code": "storage_cap_exceeded", "count": 1000 }));
    let said = stderr(&coffer(&sandbox, &server, &["backup", "src"]).assert().code(14));
    assert!(said.contains("the account's cap on storage is reached") && said.contains("raise the cap"), "{said}");
}
