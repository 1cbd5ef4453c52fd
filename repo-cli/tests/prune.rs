//! `prune` and `forget --prune` as a user calls them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Sandbox, lines, stderr, stdout};

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> String {
    let mut state = 2 * seed + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state % 90) as u8)
    };
    (0..length).map(|_| next()).collect()
}

/// Three snapshots, each with a file of its own.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    for day in 1..=3 {
        sandbox.write("src/own.txt", &noise(day, 300_000));
        sandbox.coffer(&["backup", "src", "-q", "--time", &format!("2024-01-0{day} 10:00")]).assert().success();
    }
    sandbox
}

#[test]
fn forget_and_prune() {
    let sandbox = sandbox();
    let rules = ["forget", "--keep-last", "1", "--prune"];
    let dry = stdout(&sandbox.coffer(&rules).arg("--dry-run").assert().success());
    for text in ["would forget 2 snapshots; 1 would remain\n", "would delete ", "would free about "] {
        assert!(dry.contains(text), "{text} in {dry}");
    }
    assert_eq!(sandbox.snapshots(), 3);
    let nothing = stdout(&sandbox.coffer(&["prune"]).assert().success());
    assert!(nothing.ends_with("nothing to do\n"), "a dry run has changed something: {nothing}");

    let done = stdout(&sandbox.coffer(&rules).assert().success());
    for text in ["forgot 2 snapshots\n", "needed by 1 snapshot,", "freed about "] {
        assert!(done.contains(text), "{text} in {done}");
    }
    assert_eq!(sandbox.snapshots(), 1);
    sandbox.assert_restores();
    sandbox.coffer(&["check", "--read-data"]).assert().success();
    // Once more, and nothing is left to do.
    let again = stdout(&sandbox.coffer(&rules).assert().success());
    assert!(again.contains("\nnothing to do"), "{again}");
    assert_eq!(stdout(&sandbox.coffer(&["prune", "-q"]).assert().success()), "");
}

#[test]
fn prune_tells_programs() {
    let sandbox = sandbox();
    sandbox.coffer(&["forget", "--keep-last", "1", "-q"]).assert().success();
    let planned = sandbox.json_lines(&["prune", "--dry-run"]).pop().unwrap();
    let done = sandbox.json_lines(&["prune", "--max-unused", "0"]).pop().unwrap();
    assert_eq!(planned["dry_run"], true);
    assert_eq!(done["message_type"], "summary");
    for (group, name) in
        [("blobs", "used"), ("blobs", "unused"), ("bytes", "total"), ("bytes", "unused"), ("packfiles", "total")]
    {
        assert!(done[group][name].as_u64().unwrap() > 0, "{group}.{name}");
        assert_eq!(done[group][name], planned[group][name], "{group}.{name}");
    }
    assert!(done["bytes"]["freed"].as_u64().unwrap() > 300_000, "{done}");
    assert!(done["packfiles"]["deleted"].as_u64().unwrap() > 0);
    assert_eq!(planned["packfiles"]["deleted"], 0);
    let both = sandbox.coffer(&["forget", "--keep-last", "1", "--prune", "--json"]).assert().success();
    assert_eq!(lines(&both.get_output().stdout).len(), 2, "the groups, and the prune");
    let detailed = stdout(&sandbox.coffer(&["prune", "-vv"]).assert().success());
    assert!(detailed.contains("nothing to do"), "{detailed}");
}

#[test]
fn calls_that_are_wrong() {
    let sandbox = sandbox();
    for arguments in [
        &["prune", "--max-unused", "100%"][..],
        &["prune", "--max-unused", "x"],
        &["prune", "--max-repack-size", "-1"],
        &["prune", "extra"],
        &["forget", "--keep-last", "1", "--max-unused", "1%"],
        &["forget", "--keep-last", "1", "--prune", "--simulate", "1y"],
    ] {
        let output = sandbox.coffer(arguments).assert().code(2);
        assert!(!stderr(&output).is_empty());
    }
    assert_eq!(sandbox.snapshots(), 3);
}

#[test]
fn a_loss_stops_it_and_says_what_to_do() {
    let sandbox = sandbox();
    sandbox.coffer(&["forget", "--keep-last", "1", "-q"]).assert().success();
    let data = sandbox.path("repo/data");
    let mut packs: Vec<_> = walk(&data);
    packs.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
    std::fs::remove_file(packs.last().unwrap()).unwrap();
    let output = sandbox.coffer(&["prune"]).assert().code(16);
    let text = stderr(&output);
    assert!(text.contains("nothing was deleted") && text.contains("no snapshot has lost anything"), "{text}");
    assert_eq!(walk(&data).len(), packs.len() - 1);
}

fn walk(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
