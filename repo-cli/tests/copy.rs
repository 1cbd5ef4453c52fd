//! `copy` and `init --copy-chunker-params`: two repositories, two passwords, JSON, wrong calls, a damaged source.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;

use assert_cmd::Command;
use common::{Sandbox, assert_same, lines, stderr, stdout};
use serde_json::{Value, json};

/// A sandbox with a snapshot in `repo`, and a second, empty repository in `second`.
fn sandbox(init: &[&str]) -> Sandbox {
    let sandbox = Sandbox::with_snapshot();
    second(&sandbox, &[&["init"], init].concat()).assert().success();
    sandbox
}

/// The binary with the second repository as the one it works on, and the first one to copy from.
fn second(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.bare(arguments);
    command.env("COFFER_REPOSITORY", sandbox.path("second")).env("RESTIC_PASSWORD", "battery staple");
    command.env("COFFER_FROM_REPOSITORY", sandbox.path("repo")).env("RESTIC_FROM_PASSWORD", "correct horse");
    command
}

fn json_of(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let output = second(sandbox, arguments).arg("--json").assert().success();
    common::document(&output.get_output().stdout)
}

#[test]
fn copies_restore_to_the_same() {
    let sandbox = sandbox(&[]);
    sandbox.write("src/later.txt", "later\n");
    sandbox.coffer(&["backup", "src", "-q", "--tag", "x"]).assert().success();
    let dry = stdout(&second(&sandbox, &["copy", "--dry-run"]).assert().success());
    assert!(dry.contains("would copy 2 snapshots"), "{dry}");
    let said = stdout(&second(&sandbox, &["copy", "--tag", "x"]).assert().success());
    assert!(said.contains("is copied as") && said.contains("copied 1 snapshot in"), "{said}");
    let messages: Vec<_> = lines(&second(&sandbox, &["copy", "--json"]).assert().success().get_output().stdout)
        .into_iter()
        .filter(|message| message["message_type"] != "status")
        .collect();
    let actions: Vec<_> = messages[..2].iter().map(|message| message["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["copied", "skipped"]);
    assert_eq!((&messages[2]["snapshots_copied"], &messages[2]["snapshots_skipped"]), (&json!(1), &json!(1)));
    let (originals, copies) = (sandbox.json(&["snapshots"]), json_of(&sandbox, &["snapshots"]));
    for (original, copy) in originals.as_array().unwrap().iter().zip(copies.as_array().unwrap()) {
        for same in ["time", "hostname", "paths", "tags", "summary"] {
            assert_eq!(original[same], copy[same]);
        }
        assert_eq!(original["id"], copy["original"]);
        assert_ne!(original["tree"], copy["tree"]);
    }
    second(&sandbox, &["check", "--read-data"]).assert().success();
    let target = tempfile::tempdir().unwrap();
    second(&sandbox, &["restore", "latest", "--target"]).arg(target.path()).assert().success();
    assert_same(&sandbox.path("src"), &target.path().join("src"));
}

#[test]
fn what_is_cut_alike_is_shared() {
    for (flags, shared) in [(&["--copy-chunker-params"][..], true), (&[], false)] {
        let sandbox = sandbox(flags);
        // Without a period, or it would be cut at the largest size everywhere, whatever the parameters.
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'a' + (state % 26) as u8)
        };
        let noise: String = (0..400_000).map(|_| next()).collect();
        sandbox.write("src/large", &noise);
        sandbox.coffer(&["backup", "src", "-q"]).assert().success();
        second(&sandbox, &["copy", "-q"]).assert().success();
        let backup =
            lines(&second(&sandbox, &["backup", "src", "--json", "--force"]).assert().success().get_output().stdout);
        let blobs = backup.last().unwrap()["data_blobs"].as_u64().unwrap();
        assert_eq!(blobs == 0, shared, "{blobs}");
    }
}

#[test]
fn calls_that_are_wrong() {
    let sandbox = sandbox(&[]);
    let repo = sandbox.path("repo");
    let repo = repo.to_str().unwrap();
    for arguments in [
        &["copy", "--from-repo", repo, "--from-repository-file", "x"][..],
        &["copy", "--from-password-file", "a", "--from-password-command", "b"],
        &["copy", "--from-password-fd", "x"],
        &["copy", "--from-repo", "s3:host/bucket"],
    ] {
        let assert = second(&sandbox, arguments).assert();
        assert!(assert.get_output().status.code() == Some(2) || stderr(&assert).contains("s3"), "{arguments:?}");
    }
    let unnamed = second(&sandbox, &["copy"]).env_remove("COFFER_FROM_REPOSITORY").assert().code(2);
    assert!(stderr(&unnamed).contains("--from-repo"), "{}", stderr(&unnamed));
    let lonely = second(&sandbox, &["init", "--repo", "third", "--from-repo", repo]).assert().code(2);
    assert!(stderr(&lonely).contains("--copy-chunker-params"));
    second(&sandbox, &["copy", "--from-repo", "nowhere"]).assert().code(10);
    second(&sandbox, &["copy", "--repo", "nowhere"]).assert().code(10);
    let wrong = second(&sandbox, &["copy"]).env("COFFER_FROM_PASSWORD", "wrong").assert().code(12);
    assert!(stderr(&wrong).contains("COFFER_FROM_PASSWORD"), "{}", stderr(&wrong));
    second(&sandbox, &["copy", "0000"]).assert().code(1);
    let mut same = second(&sandbox, &["copy", "--from-repo", "second"]);
    let same = same.env("COFFER_FROM_PASSWORD", "battery staple").assert().code(1);
    assert!(stderr(&same).contains("the same repository"), "{}", stderr(&same));
    assert_eq!(json_of(&sandbox, &["snapshots"]), json!([]));
}

#[test]
fn a_damaged_source() {
    let sandbox = sandbox(&[]);
    let mut damaged = 0;
    for folder in fs::read_dir(sandbox.path("repo/data")).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = pack.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            bytes[100] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let failed = second(&sandbox, &["copy"]).assert().code(13);
    assert!(stderr(&failed).contains("data/"), "{}", stderr(&failed));
    assert_eq!(json_of(&sandbox, &["snapshots"]), json!([]));
}
