//! What each command does when all is well, and the shape of its JSON.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says why it is skipped"
)]

mod common;

use std::fs;

use common::{Sandbox, lines, stderr, stdout};

fn is_id(value: &serde_json::Value) -> bool {
    value.as_str().is_some_and(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[test]
fn init_tells_what_it_made() {
    let sandbox = Sandbox::new();
    let value = sandbox.json(&["init"]);
    assert_eq!(value["message_type"], "initialized");
    assert!(is_id(&value["id"]));
    assert_eq!(value["repository"], sandbox.path("repo").to_str().unwrap());
}

#[test]
fn backup_counts_what_it_saw() {
    let sandbox = Sandbox::with_repository();
    let first = sandbox.coffer(&["backup", "src"]).assert().success();
    let text = stdout(&first);
    assert!(text.contains("Files:          4 new,         0 changed,         0 unmodified"), "{text}");
    assert!(text.contains("processed 4 files, 313 KiB in "), "{text}");
    assert!(text.contains(" saved\n"), "{text}");
    assert_eq!(stderr(&first), "");

    sandbox.write("src/a.txt", "changed\n");
    sandbox.write("src/new.txt", "new\n");
    let messages = sandbox.json_lines(&["backup", "src"]);
    let summary = messages.last().unwrap();
    for (name, value) in [("files_new", 1), ("files_changed", 1), ("files_unmodified", 3), ("total_files_processed", 5)]
    {
        assert_eq!(summary[name], value, "{name}");
    }
    assert_eq!((&summary["message_type"], &summary["dry_run"]), (&"summary".into(), &false.into()));
    assert!(is_id(&summary["snapshot_id"]));
    for name in ["backup_start", "backup_end"] {
        assert!(summary[name].as_str().unwrap().ends_with("+00:00"));
    }
    for name in [
        "total_duration",
        "data_added",
        "data_added_packed",
        "data_blobs",
        "tree_blobs",
        "dirs_new",
        "dirs_changed",
        "dirs_unmodified",
        "total_bytes_processed",
    ] {
        assert!(summary[name].is_number(), "{name}");
    }
    sandbox.assert_restores();
}

#[test]
fn backup_tells_of_files_when_asked() {
    let sandbox = Sandbox::with_repository();
    let output = sandbox.coffer(&["backup", "-vv", "--json", "src"]).assert().success();
    let messages = lines(&output.get_output().stdout);
    let new: Vec<_> =
        messages.iter().filter(|message| message["action"] == "new").map(|message| &message["item"]).collect();
    assert!(new.iter().any(|item| item.as_str().unwrap().ends_with("/src/a.txt")), "{messages:?}");
    let scan: Vec<_> = messages.iter().filter(|message| message["action"] == "scan_finished").collect();
    // So small a backup may overtake the scan, which then is not told of.
    assert!(matches!(scan[..], []) || matches!(scan[..], [scan] if scan["total_files"] == 4), "{messages:?}");
    let text = stdout(&sandbox.coffer(&["backup", "src", "--verbose=2"]).assert().success());
    assert!(text.contains("unchanged  "), "{text}");
    let quiet = sandbox.coffer(&["backup", "src", "-q"]).assert().success();
    assert_eq!((stdout(&quiet), stderr(&quiet)), (String::new(), String::new()));
}

#[test]
fn backup_without_a_snapshot() {
    let sandbox = Sandbox::with_snapshot();
    let unchanged = stdout(&sandbox.coffer(&["backup", "src", "--skip-if-unchanged"]).assert().success());
    assert!(unchanged.contains("nothing changed: no snapshot was made"), "{unchanged}");
    let messages = sandbox.json_lines(&["backup", "src", "--skip-if-unchanged"]);
    assert!(messages.last().unwrap().get("snapshot_id").is_none());
    sandbox.write("src/new.txt", "new\n");
    let dry = stdout(&sandbox.coffer(&["backup", "src", "--dry-run"]).assert().success());
    assert!(dry.contains("dry run: no snapshot was made"), "{dry}");
    assert_eq!(sandbox.snapshots(), 1);
}

#[test]
fn the_flags_of_a_snapshot_are_kept() {
    let sandbox = Sandbox::with_repository();
    sandbox
        .coffer(&[
            "backup",
            "src",
            "--tag",
            "a,b",
            "--tag",
            "c",
            "--host",
            "other",
            "--label",
            "shop",
            "--exclude",
            "*.bin",
        ])
        .args(["--time", "2020-02-03 04:05:06", "--protect"])
        .assert()
        .success();
    let list = sandbox.json(&["snapshots"]);
    let snapshot = &list[0];
    assert_eq!(snapshot["tags"], serde_json::json!(["a", "b", "c"]));
    assert_eq!(snapshot["time"], "2020-02-03T04:05:06+00:00");
    assert_eq!((&snapshot["hostname"], &snapshot["label"]), (&"other".into(), &"shop".into()));
    assert_eq!((&snapshot["source"], &snapshot["protected"]), (&serde_json::json!(["shop"]), &"forever".into()));
    assert_eq!(snapshot["excludes"], serde_json::json!(["*.bin"]));
    assert_eq!(snapshot["paths"], serde_json::json!([sandbox.path("src")]));
    assert!(is_id(&snapshot["id"]) && is_id(&snapshot["tree"]));
    assert_eq!(snapshot["short_id"].as_str().unwrap().len(), 8);
    assert_eq!(snapshot["summary"]["total_files_processed"], 3);
}

#[test]
fn what_a_backup_is_of_does_not_depend_on_what_patterns_match() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("list", "# files\nsrc/*.txt\nsrc/none\n\nsrc/sub\n");
    let first = sandbox.coffer(&["backup", "src/link", "--files-from", "list"]).assert().success();
    assert!(stderr(&first).contains("the pattern \"src/none\" matches nothing"), "{}", stderr(&first));
    sandbox.write("src/z.txt", "another match\n");
    let messages = sandbox.json_lines(&["backup", "src/link", "--files-from=list"]);
    assert_eq!(messages.last().unwrap()["files_unmodified"], 4);
    let list = sandbox.json(&["snapshots"]);
    assert_eq!(list[0]["source"], list[1]["source"]);
    assert_ne!(list[0]["paths"], list[1]["paths"]);
    assert_eq!(list[1]["parent"], list[0]["id"]);
    sandbox.write("bad", "src/[x\n");
    sandbox.coffer(&["backup", "--files-from", "bad"]).assert().code(1);
}

#[test]
fn excludes() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("home/x", "");
    sandbox.write("src/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55 and more\n");
    sandbox.write("src/cache/junk", "junk");
    sandbox.write("src/KEEP.TMP", "tmp");
    sandbox.write("src/marked/.nobackup", "");
    sandbox.write("src/marked/secret", "secret");
    sandbox.write("rules", "# rules\n$WHAT/b.txt\n~/x\n");
    sandbox
        .coffer(&["backup", "src", "--exclude-caches", "--iexclude", "*.tmp", "--exclude-if-present", ".nobackup"])
        .args(["--exclude-file", "rules", "--exclude-larger-than", "100K"])
        .env("WHAT", "sub")
        .assert()
        .success();
    let listed = stdout(&sandbox.coffer(&["ls", "latest", "-q"]).assert().success());
    assert_eq!(
        listed,
        "/src\n/src/a.txt\n/src/cache\n/src/cache/CACHEDIR.TAG\n/src/link\n/src/marked\n/src/marked/.nobackup\n/src/sub\n/src/sub/deeper\n"
    );
}

#[test]
fn a_repository_within_its_source_is_left_out() {
    let sandbox = Sandbox::with_repository();
    let output = sandbox.coffer(&["backup", "."]).assert().success();
    assert!(stderr(&output).contains("leaving out the repository itself"), "{}", stderr(&output));
    let listed = stdout(&sandbox.coffer(&["ls", "latest"]).assert().success());
    assert!(listed.contains("/src/a.txt") && !listed.contains("/repo"), "{listed}");
}

#[test]
fn snapshots_are_chosen_and_shown() {
    let sandbox = Sandbox::with_repository();
    assert_eq!(stdout(&sandbox.coffer(&["snapshots"]).assert().success()), "no snapshots\n");
    assert_eq!(sandbox.json(&["snapshots"]), serde_json::json!([]));
    for (host, tag) in [("a", "x"), ("b", "x,y"), ("a", "y")] {
        sandbox.coffer(&["backup", "src", "-H", host, "--tag", tag]).assert().success();
    }
    let count = |arguments: &[&str]| sandbox.json(&[&["snapshots"], arguments].concat()).as_array().unwrap().len();
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&["--host", "a"]), 2);
    assert_eq!(count(&["--tag", "x,y"]), 1);
    assert_eq!(count(&["--tag", "x", "--tag", "y"]), 3);
    assert_eq!(count(&["--latest", "1"]), 2);
    assert_eq!(count(&["--path", "src"]), 3);
    assert_eq!(count(&["--path", "/nowhere"]), 0);
    assert_eq!(count(&["latest"]), 1);
    let table = stdout(&sandbox.coffer(&["snapshots"]).assert().success());
    assert!(table.starts_with("ID        Time                 Host  Tags  Files     Size  Paths\n"), "{table}");
    assert!(table.ends_with("\n3 snapshots\n"), "{table}");
    let groups = sandbox.json(&["snapshots", "--group-by", "host"]);
    assert_eq!(groups.as_array().unwrap().len(), 2);
    assert_eq!(groups[0]["group_key"]["hostname"], "a");
    sandbox.coffer(&["snapshots", "--group-by", "colour"]).assert().code(2);
}

#[test]
fn ls_lists() {
    let sandbox = Sandbox::with_snapshot();
    let list = |arguments: &[&str]| stdout(&sandbox.coffer(&[&["ls", "-q"], arguments].concat()).assert().success());
    assert_eq!(list(&["latest", "/src"]), "/src\n/src/a.txt\n/src/link\n/src/sub\n");
    assert_eq!(
        list(&["latest", "src/sub", "--recursive"]),
        "/src/sub\n/src/sub/b.txt\n/src/sub/deeper\n/src/sub/deeper/c.bin\n"
    );
    assert_eq!(list(&["latest:src/sub"]), "/b.txt\n/deeper\n/deeper/c.bin\n");
    assert_eq!(list(&["latest", "/"]), "/src\n");
    assert_eq!(list(&["latest", "/src/a.txt"]), "/src/a.txt\n");
    let long = list(&["-l", "latest", "/src/link", "/src/a.txt"]);
    assert!(long.contains(" /src/link -> a.txt\n") && long.contains(" 11 ") && long.starts_with("-rw"), "{long}");
    let messages = sandbox.json_lines(&["ls", "latest"]);
    assert_eq!((&messages[0]["message_type"], &messages[0]["struct_type"]), (&"snapshot".into(), &"snapshot".into()));
    let file = messages.iter().find(|message| message["path"] == "/src/a.txt").unwrap();
    assert_eq!((&file["message_type"], &file["type"], &file["size"]), (&"node".into(), &"file".into(), &11.into()));
    assert_eq!((&file["name"], &file["permissions"].as_str().unwrap()[..3]), (&"a.txt".into(), "-rw"));
    for (arguments, code) in [
        (&["latest", "/none"][..], 1),
        (&["latest:none"], 1),
        (&["latest:src/a.txt"], 1),
        (&["nothing"], 1),
        (&["latest~1"], 1),
    ] {
        sandbox.coffer(&[&["ls"], arguments].concat()).assert().code(code);
    }
}

#[test]
fn names_that_could_deceive_are_escaped() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/\u{1b}[31mred\nline", "");
    sandbox.coffer(&["backup", "src"]).assert().success();
    let listed = stdout(&sandbox.coffer(&["ls", "latest"]).assert().success());
    assert!(listed.contains("/src/\\u{1b}[31mred\\nline\n"), "{listed}");
    sandbox.assert_restores();
}

#[test]
fn restore_brings_back_what_is_asked_for() {
    let sandbox = Sandbox::with_snapshot();
    let restore = |arguments: &[&str]| sandbox.coffer(&[&["restore"], arguments].concat()).assert().success();
    let text = stdout(&restore(&["latest", "-t", "all"]));
    assert!(text.starts_with("restored 4 files (313 KiB) and 3 new folders in "), "{text}");
    common::assert_same(&sandbox.path("src"), &sandbox.path("all/src"));

    restore(&["latest:src/sub", "-t", "part"]);
    common::assert_same(&sandbox.path("src/sub"), &sandbox.path("part"));

    restore(&["latest", "-t", "included", "--include", "/src/sub/*.txt"]);
    assert!(sandbox.path("included/src/sub/b.txt").exists() && !sandbox.path("included/src/a.txt").exists());

    sandbox.write("rules", "*.BIN\n");
    restore(&["latest", "-t", "excluded", "--iexclude-file", "rules", "-e", "src/a.txt"]);
    assert!(sandbox.path("excluded/src/sub/b.txt").exists());
    assert!(!sandbox.path("excluded/src/sub/deeper/c.bin").exists() && !sandbox.path("excluded/src/a.txt").exists());

    fs::write(sandbox.path("all/src/a.txt"), "mine").unwrap();
    fs::write(sandbox.path("all/src/extra"), "mine").unwrap();
    restore(&["latest", "-t", "all", "--overwrite", "never"]);
    assert_eq!(fs::read(sandbox.path("all/src/a.txt")).unwrap(), b"mine");
    let dry = stdout(&restore(&["latest", "-t", "all", "--delete", "--dry-run"]));
    assert!(dry.contains("would restore 1 file") && dry.contains("would remove 1 item"), "{dry}");
    assert!(sandbox.path("all/src/extra").exists());

    let output =
        sandbox.coffer(&["restore", "latest", "-t", "all", "--delete", "--verify", "--json"]).assert().success();
    let messages = lines(&output.get_output().stdout);
    let summary = messages.last().unwrap();
    assert_eq!(
        (&summary["message_type"], &summary["files_deleted"], &summary["files_restored"]),
        (&"summary".into(), &1.into(), &1.into())
    );
    for name in ["seconds_elapsed", "total_files", "files_skipped", "total_bytes", "bytes_restored", "bytes_skipped"] {
        assert!(summary[name].is_number(), "{name}");
    }
    common::assert_same(&sandbox.path("src"), &sandbox.path("all/src"));
}

#[test]
fn restore_refuses_what_makes_no_sense() {
    let sandbox = Sandbox::with_snapshot();
    let of_nothing = sandbox.coffer(&["restore", "latest", "-t", "out", "--include", ""]).assert().code(2);
    assert!(stderr(&of_nothing).contains("--include: the pattern is empty"), "{}", stderr(&of_nothing));
    assert!(!sandbox.path("out").exists());
    let to_file = sandbox.coffer(&["restore", "latest:src/a.txt", "-t", "out"]).assert().code(1);
    assert!(stderr(&to_file).contains("coffer dump"), "{}", stderr(&to_file));
    sandbox.coffer(&["restore", "latest"]).assert().code(2);
    sandbox.coffer(&["restore", "latest", "-t", "/", "--delete"]).assert().code(2);
    sandbox.coffer(&["restore", "latest", "-t", "out", "-i", "["]).assert().code(2);
    sandbox.coffer(&["restore", "latest", "-t", "out", "--exclude-xattr", "security.*"]).assert().success();
}

#[test]
fn dump_writes_files_and_archives() {
    let sandbox = Sandbox::with_snapshot();
    let file = sandbox.coffer(&["dump", "latest", "src/a.txt"]).assert().success();
    assert_eq!(stdout(&file), "first file\n");
    assert_eq!(stdout(&sandbox.coffer(&["dump", "latest:src", "/a.txt"]).assert().success()), "first file\n");
    let said = sandbox.coffer(&["dump", "latest", "/src/sub/deeper/c.bin", "--target", "c.bin"]).assert().success();
    assert_eq!(stdout(&said), "wrote 312 KiB to c.bin\n");
    assert_eq!(fs::read(sandbox.path("c.bin")).unwrap(), fs::read(sandbox.path("src/sub/deeper/c.bin")).unwrap());

    let tar = sandbox.coffer(&["dump", "latest", "/"]).assert().success().get_output().stdout.clone();
    fs::create_dir(sandbox.path("untarred")).unwrap();
    assert_cmd::Command::new("tar")
        .args(["-x", "-C"])
        .arg(sandbox.path("untarred"))
        .write_stdin(tar)
        .assert()
        .success();
    common::assert_same(&sandbox.path("src"), &sandbox.path("untarred/src"));

    for (arguments, code) in
        [(&["latest", "/none"][..], 1), (&["latest", "src/link"], 1), (&["latest", "/", "-a", "zip"], 2)]
    {
        sandbox.coffer(&[&["dump"], arguments].concat()).assert().code(code);
    }
    sandbox.coffer(&["dump", "latest", "/none", "--target", "none"]).assert().code(1);
    let left: Vec<_> = fs::read_dir(sandbox.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("none")), "{left:?}");
}

#[test]
fn check_finds_nothing_where_nothing_is() {
    let sandbox = Sandbox::with_snapshot();
    let text = stdout(&sandbox.coffer(&["check", "--read-data"]).assert().success());
    assert!(text.ends_with("no errors were found\n"), "{text}");
    let messages = sandbox.json_lines(&["check", "--read-data-subset", "1/2"]);
    let summary = messages.last().unwrap();
    assert_eq!((&summary["message_type"], &summary["num_errors"]), (&"summary".into(), &0.into()));
    assert_eq!(summary["broken_packs"], serde_json::json!([]));
    assert_eq!((&summary["suggest_repair_index"], &summary["suggest_prune"]), (&false.into(), &false.into()));
    sandbox.coffer(&["check", "--read-data-subset", "3/2"]).assert().code(2);
}

#[test]
fn cat_shows_objects() {
    let sandbox = Sandbox::with_snapshot();
    let cat = |arguments: &[&str]| -> serde_json::Value {
        let output = sandbox.coffer(&[&["cat"], arguments].concat()).assert().success();
        common::document(&output.get_output().stdout)
    };
    assert!(is_id(&cat(&["config"])["id"]));
    assert_eq!(cat(&["snapshot", "latest"])["paths"], serde_json::json!([sandbox.path("src")]));
    let tree = cat(&["tree", "latest:src"]);
    let file = tree["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "a.txt").unwrap();
    let blob = file["content"][0].as_str().unwrap();
    assert_eq!(stdout(&sandbox.coffer(&["cat", "blob", blob]).assert().success()), "first file\n");
    let name_in = |folder: &str| {
        let entry = fs::read_dir(sandbox.path(folder)).unwrap().next().unwrap().unwrap();
        entry.file_name().into_string().unwrap()
    };
    assert_eq!(cat(&["key", &name_in("repo/keys")[..6]])["current"], true);
    let index = cat(&["index", &name_in("repo/index")]);
    let pack = index["packs"][0]["id"].as_str().unwrap();
    assert_eq!(cat(&["pack", pack])["frames"], index["packs"][0]["frames"]);
    for arguments in [&["cat", "blob"][..], &["cat", "blob", "xyz"], &["cat", "cat"]] {
        sandbox.coffer(arguments).assert().code(2);
    }
    for arguments in [&["cat", "masterkey"][..], &["cat", "pack", "0000000000"], &["cat", "index", "zz"]] {
        sandbox.coffer(arguments).assert().code(1);
    }
}

#[test]
fn keys_come_and_go() {
    let sandbox = Sandbox::with_snapshot();
    sandbox.write("new", "second\n");
    sandbox.coffer(&["key", "add", "--new-password-file", "new", "--user", "eve", "--host", "moon"]).assert().success();
    let keys = sandbox.json(&["key", "list"]);
    let eve = keys.as_array().unwrap().iter().find(|key| key["userName"] == "eve").unwrap();
    assert_eq!((&eve["hostName"], &eve["current"]), (&"moon".into(), &false.into()));
    assert!(is_id(&eve["id"]) && eve["created"].is_string());
    let as_second = || {
        let mut command = sandbox.coffer(&["snapshots"]);
        command.env("COFFER_PASSWORD", "second");
        command
    };
    as_second().assert().success();
    let current = keys.as_array().unwrap().iter().find(|key| key["current"] == true).unwrap();
    let own = sandbox.coffer(&["key", "remove", current["id"].as_str().unwrap()]).assert().code(1);
    assert!(stderr(&own).contains("key in use"), "{}", stderr(&own));
    sandbox.coffer(&["key", "remove", &eve["id"].as_str().unwrap()[..8]]).assert().success();
    as_second().assert().code(12);

    sandbox.coffer(&["key", "passwd", "--new-password-command", "echo 'third word'"]).assert().success();
    sandbox.coffer(&["snapshots"]).assert().code(12);
    sandbox.coffer(&["snapshots"]).env("COFFER_PASSWORD", "third word").assert().success();
    let table = stdout(&sandbox.coffer(&["key", "list"]).env("COFFER_PASSWORD", "third word").assert().success());
    assert_eq!(table.lines().count(), 2, "{table}");
}

#[test]
fn stats_count() {
    let sandbox = Sandbox::with_snapshot();
    let stats = sandbox.json(&["stats", "latest"]);
    assert_eq!((&stats["snapshots_count"], &stats["total_size"]), (&1.into(), &320_023.into()));
    assert_eq!(stats["total_file_count"], 7);
    let raw = sandbox.json(&["stats", "--mode", "raw-data"]);
    for name in [
        "total_size",
        "total_uncompressed_size",
        "compression_ratio",
        "compression_space_saving",
        "compression_progress",
        "total_blob_count",
    ] {
        assert!(raw[name].is_number(), "{name}");
    }
    for mode in ["files-by-contents", "blobs-per-file"] {
        let text = stdout(&sandbox.coffer(&["stats", "--mode", mode]).assert().success());
        assert!(text.contains("snapshots            1\n"), "{text}");
    }
}

#[test]
fn version_and_help() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.json(&["version"])["message_type"], "version");
    for command in [
        "init",
        "backup",
        "snapshots",
        "ls",
        "restore",
        "dump",
        "forget",
        "check",
        "cat",
        "key",
        "stats",
        "version",
        "completions",
        "man",
    ] {
        let help = stdout(&sandbox.bare(&[command, "--help"]).assert().success());
        assert!(help.contains("Usage: coffer "), "{command}: {help}");
        assert!(stdout(&sandbox.bare(&["help", command]).assert().success()).contains("Usage: coffer "));
    }
    let long = stdout(&sandbox.bare(&["--help"]).assert().success());
    assert!(long.contains("Exit codes:") && long.contains("COFFER_REPOSITORY"), "{long}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&sandbox.bare(&["completions", shell]).assert().success()).contains("coffer"));
    }
    fs::create_dir(sandbox.path("man")).unwrap();
    sandbox.bare(&["man", "man"]).assert().success();
    assert!(sandbox.path("man/coffer-backup.1").exists());
}
