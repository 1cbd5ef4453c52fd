//! `tag` and `rewrite`: what they change, what they say, wrong calls and exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Sandbox, lines, stderr, stdout};
use serde_json::{Value, json};

fn snapshots(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.json(&["snapshots"]).as_array().unwrap().clone()
}

fn id(snapshot: &Value) -> String {
    snapshot["id"].as_str().unwrap().to_owned()
}

fn paths(sandbox: &Sandbox, snapshot: &str) -> String {
    stdout(&sandbox.coffer(&["ls", snapshot]).assert().success())
}

#[test]
fn tags() {
    let sandbox = Sandbox::with_snapshot();
    sandbox.coffer(&["backup", "src/sub", "-q", "--host", "other"]).assert().success();
    let before = snapshots(&sandbox);
    let said = stdout(&sandbox.coffer(&["tag", "--add", "a,b", "--add", "c"]).assert().success());
    assert_eq!(said, "changed the tags of 2 snapshots\n");
    let after = snapshots(&sandbox);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&after["tags"], &after["original"]), (&json!(["a", "b", "c"]), &before["id"]));
        assert_eq!((&after["time"], &after["tree"]), (&before["time"], &before["tree"]));
    }
    // Of one host, by its id, by a tag.
    sandbox.coffer(&["tag", "--remove", "a,b", "--host", "other"]).assert().success();
    sandbox.coffer(&["tag", "--set", "z", &id(&after[0])[..12]]).assert().success();
    let tags = || snapshots(&sandbox).iter().map(|snapshot| snapshot["tags"].clone()).collect::<Vec<_>>();
    assert_eq!(tags(), [json!(["z"]), json!(["c"])]);
    let messages = sandbox.json_lines(&["tag", "--set", "", "--tag", "z"]);
    assert_eq!(messages[0]["message_type"], "changed");
    assert_eq!(messages[0]["new_snapshot_id"], snapshots(&sandbox)[0]["id"]);
    assert_eq!(messages[1], json!({ "message_type": "summary", "changed_snapshots": 1 }));
    assert_eq!(tags(), [Value::Null, json!(["c"])]);
    let none = stdout(&sandbox.coffer(&["tag", "--add", "c", "--tag", "c"]).assert().success());
    assert_eq!(none, "no snapshot was changed\n");
    assert_eq!(snapshots(&sandbox)[0]["original"], before[0]["id"], "the first original is told");
    sandbox.coffer(&["check", "--read-data"]).assert().success();
    sandbox.coffer(&["prune"]).assert().success();
    assert_eq!(sandbox.snapshots(), 2);
}

#[test]
fn rewriting() {
    let sandbox = Sandbox::with_snapshot();
    let before = snapshots(&sandbox);
    let old = id(&before[0]);
    let dry = stdout(&sandbox.coffer(&["rewrite", "-n", "-e", "c.bin"]).assert().success());
    assert!(dry.contains(&format!("snapshot {} would be made anew, without 1 file (312 KiB)\n", &old[..8])), "{dry}");
    assert!(dry.ends_with("would rewrite 1 snapshot\n"), "{dry}");
    assert_eq!(snapshots(&sandbox), before);

    let said = stdout(&sandbox.coffer(&["rewrite", "--iexclude", "C.BIN", "latest"]).assert().success());
    assert!(said.contains("is also there as"), "{said}");
    let both = snapshots(&sandbox);
    let new = both.iter().find(|snapshot| id(snapshot) != old).unwrap();
    assert_eq!((both.len(), &new["original"], &new["tags"]), (2, &json!(old), &json!(["rewrite"])));
    assert_eq!((&new["excludes"], &new["time"]), (&json!(["C.BIN"]), &before[0]["time"]));
    assert!(!paths(&sandbox, &id(new)).contains("c.bin") && paths(&sandbox, &old).contains("c.bin"));
    assert_eq!(new["summary"]["total_files_processed"], json!(3));

    sandbox.write("patterns", "# no\n/src/sub/deeper\n");
    let messages = sandbox.json_lines(&[
        "rewrite",
        "--forget",
        "--exclude-file",
        "patterns",
        "--new-host",
        "h",
        "--new-time",
        "2020-02-02 02:02:02",
        "--new-label",
        "shop",
        "--add-tag",
        "x",
        &old,
    ]);
    let messages: Vec<_> = messages.into_iter().filter(|message| message["message_type"] != "status").collect();
    assert_eq!((&messages[0]["old_snapshot_id"], &messages[0]["removed_files"]), (&json!(old), &json!(1)));
    assert_eq!(messages[1]["changed_snapshots"], 1);
    let newest = snapshots(&sandbox).into_iter().find(|snapshot| snapshot["hostname"] == "h").unwrap();
    assert_eq!(newest["id"], messages[0]["new_snapshot_id"]);
    assert_eq!(
        (&newest["time"], &newest["label"], &newest["tags"]),
        (&json!("2020-02-02T02:02:02+00:00"), &json!("shop"), &json!(["x"]))
    );
    assert_eq!(sandbox.snapshots(), 2);
    assert!(!paths(&sandbox, &id(&newest)).contains("deeper"));
    sandbox.coffer(&["prune"]).assert().success();
    sandbox.coffer(&["check", "--read-data"]).assert().success();
}

#[test]
fn protected_snapshots() {
    let sandbox = Sandbox::with_repository();
    sandbox.coffer(&["backup", "src", "-q", "--protect"]).assert().success();
    let before = snapshots(&sandbox);
    let refused = sandbox.coffer(&["rewrite", "--forget", "--exclude", "c.bin"]).assert().code(16);
    assert!(stderr(&refused).contains("is protected") && stderr(&refused).contains("--unsafe-remove-protected"));
    assert_eq!(snapshots(&sandbox), before);
    sandbox.coffer(&["rewrite", "--exclude", "c.bin"]).assert().success();
    sandbox.coffer(&["rewrite", "--forget", "--unsafe-remove-protected", "--exclude", "c.bin"]).assert().success();
    sandbox.coffer(&["tag", "--add", "x"]).assert().success();
    assert!(snapshots(&sandbox).iter().all(|snapshot| snapshot["protected"] == "forever"));
}

#[test]
fn calls_that_are_wrong() {
    let sandbox = Sandbox::with_snapshot();
    let before = snapshots(&sandbox);
    for arguments in [
        &["tag"][..],
        &["tag", "latest"],
        &["tag", "--add", ","],
        &["tag", "--set", "a", "--add", "b"],
        &["tag", "--set", "a", "--remove", "b"],
        &["rewrite"],
        &["rewrite", "latest", "--forget"],
        &["rewrite", "--exclude", "["],
        &["rewrite", "--new-time", "yesterday"],
        &["rewrite", "--new-host", ""],
        &["rewrite", "--set-tag", "a", "--add-tag", "b"],
        &["rewrite", "--exclude", "x", "--unsafe-remove-protected"],
    ] {
        let assert = sandbox.coffer(arguments).assert().code(2);
        assert!(!stderr(&assert).is_empty(), "{arguments:?}");
    }
    for arguments in [&["tag", "--add", "x", "0000"][..], &["rewrite", "--exclude", "x", "0000"]] {
        let assert = sandbox.coffer(arguments).assert().code(1);
        assert!(stderr(&assert).contains("no snapshot matches"), "{}", stderr(&assert));
        let error = lines(&sandbox.coffer(arguments).arg("--json").assert().code(1).get_output().stderr);
        assert_eq!(error.last().unwrap()["code"], 1);
    }
    sandbox.coffer(&["rewrite", "--exclude-file", "missing"]).assert().code(1);
    assert_eq!(snapshots(&sandbox), before);
    let nowhere = sandbox.bare(&["tag", "--add", "x", "-r", "nowhere"]).env("COFFER_PASSWORD", "x").assert().code(10);
    assert!(!stderr(&nowhere).is_empty());
}
