//! What goes wrong: exit codes, words, and that nothing is lost by it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says why it is skipped"
)]

mod common;

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use common::{Sandbox, lines, stderr, stdout};

/// The last line of standard error with `--json`.
fn exit_error(sandbox: &Sandbox, arguments: &[&str]) -> (i32, serde_json::Value) {
    let output = sandbox.coffer(arguments).arg("--json").output().unwrap();
    let value = lines(&output.stderr).pop().unwrap();
    assert_eq!(value["message_type"], "exit_error");
    (output.status.code().unwrap(), value)
}

#[test]
fn no_repository() {
    let sandbox = Sandbox::new();
    for arguments in
        [&["snapshots"][..], &["backup", "src"], &["restore", "latest", "-t", "x"], &["check"], &["key", "list"]]
    {
        let output = sandbox.coffer(arguments).assert().code(10);
        assert!(stderr(&output).starts_with("error: there is no repository at "), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    let (code, value) = exit_error(&sandbox, &["snapshots"]);
    assert_eq!((code, &value["code"], &value["kind"]), (10, &10.into(), &"no_repository".into()));
    assert!(!sandbox.path("repo").exists());
}

/// A disk that is not mounted: the folder is there, and empty.
#[test]
fn an_empty_folder_is_no_empty_repository() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("repo")).unwrap();
    for arguments in [
        &["snapshots"][..],
        &["backup", "src"],
        &["forget", "--keep-last", "1"],
        &["prune"],
        &["check"],
        &["restore", "latest", "-t", "x"],
        &["key", "list"],
    ] {
        let output = sandbox.coffer(arguments).assert().code(10);
        assert!(stderr(&output).starts_with("error: there is no repository at "), "{}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert_eq!(fs::read_dir(sandbox.path("repo")).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn a_repository_is_not_made_twice() {
    let sandbox = Sandbox::with_snapshot();
    let output = sandbox.coffer(&["init"]).assert().code(1);
    assert!(stderr(&output).contains("there is already a repository at"), "{}", stderr(&output));
    sandbox.assert_restores();
    assert_eq!(fs::read_dir(sandbox.path("repo/keys")).unwrap().count(), 1);
}

#[test]
fn wrong_password() {
    let sandbox = Sandbox::with_snapshot();
    let output = sandbox.coffer(&["snapshots"]).env("COFFER_PASSWORD", "wrong").assert().code(12);
    assert!(stderr(&output).contains("the password came from COFFER_PASSWORD"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("wrong\n"));
}

#[test]
fn damage_is_found_and_told() {
    let sandbox = Sandbox::with_snapshot();
    let mut packs = Vec::new();
    for folder in fs::read_dir(sandbox.path("repo/data")).unwrap() {
        packs.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    for pack in &packs {
        let mut bytes = fs::read(pack).unwrap();
        let middle = bytes.len() / 4;
        bytes[middle] ^= 1;
        fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(pack, bytes).unwrap();
    }
    let output = sandbox.coffer(&["check", "--read-data"]).assert().code(13);
    let text = stderr(&output);
    assert!(text.contains("error: data/") && text.contains("  hint: "), "{text}");
    let output = sandbox.coffer(&["check", "--read-data", "--json"]).assert().code(13);
    let summary = lines(&output.get_output().stdout).pop().unwrap();
    assert!(summary["num_errors"].as_u64().unwrap() >= 1);
    assert!(!summary["broken_packs"].as_array().unwrap().is_empty());
    let errors = lines(&output.get_output().stderr);
    assert_eq!((&errors[0]["message_type"], &errors.last().unwrap()["code"]), (&"error".into(), &13.into()));
    sandbox.coffer(&["dump", "latest", "/"]).assert().code(13);
}

#[test]
fn an_unreadable_file_makes_a_partial_snapshot() {
    let sandbox = Sandbox::with_repository();
    // The memory of this process: a regular file that fails when it is read from its beginning, for root as well.
    let memory = format!("/proc/{}/mem", std::process::id());
    let output = sandbox.coffer(&["backup", "src", &memory]).assert().code(3);
    assert!(stderr(&output).contains(&format!("warning: cannot read {memory}: ")), "{}", stderr(&output));
    assert!(
        stderr(&output)
            .ends_with("warning: 1 item could not be saved as it should; the snapshot holds everything else\n")
    );
    assert!(stdout(&output).contains(" saved\n"));
    let output = sandbox.coffer(&["backup", "src", &memory, "--json"]).assert().code(3);
    let messages = lines(&output.get_output().stderr);
    assert_eq!((&messages[0]["message_type"], &messages[0]["item"]), (&"error".into(), &memory.as_str().into()));
    assert!(messages[0]["error"]["message"].is_string() && messages[0]["during"].is_string());
    assert_eq!(messages.last().unwrap()["code"], 3);
    sandbox.assert_restores();
}

#[test]
fn targets_that_are_not_there() {
    let sandbox = Sandbox::with_repository();
    let some = sandbox.coffer(&["backup", "src", "missing"]).assert().code(3);
    assert!(stderr(&some).contains("missing: No such file or directory\n"), "{}", stderr(&some));
    sandbox.coffer(&["backup", "missing"]).assert().code(1);
    sandbox.coffer(&["backup"]).assert().code(1);
    assert_eq!(sandbox.snapshots(), 1);
}

#[test]
fn other_kinds_of_stores() {
    let sandbox = Sandbox::new();
    let output = sandbox.coffer(&["init", "-r", "rclone:a:b"]).assert().code(2);
    assert!(stderr(&output).contains("rclone serve restic"), "{}", stderr(&output));
    sandbox.coffer(&["init", "-r", "foo:bar"]).assert().code(2);
    assert_eq!(fs::read_dir(sandbox.dir.path()).unwrap().count(), 1);
    for repository in ["local:x", "file:x"] {
        sandbox.coffer(&["init", "-r", repository]).assert().code(i32::from(repository == "file:x"));
    }
    assert!(sandbox.path("x/config").exists());
}

#[test]
fn wrong_calls() {
    let sandbox = Sandbox::with_repository();
    for (arguments, variable) in [
        (&["nonsense"][..], None),
        (&["backup", "src", "--nonsense"], None),
        (&["backup", "src", "--time", "yesterday"], None),
        (&["backup", "src", "--protect-until", "2001-01-01"], None),
        (&["backup", "src", "--exclude", "[a"], None),
        (&["backup", "src", "--exclude-larger-than", "much"], None),
        (&["backup", "src", "--compression", "tight"], None),
        (&["backup", "src", "--stdin"], None),
        (&["backup", "--stdin-from-command"], None),
        (&["snapshots", "--repository-file", "x"], Some(("COFFER_PROGRESS_FPS", "often"))),
        (&["backup", "src"], Some(("COFFER_COMPRESSION", "tight"))),
        (&["backup", "src"], Some(("RESTIC_READ_CONCURRENCY", "0"))),
        (&["snapshots"], Some(("COFFER_PASSWORD_FD", "x"))),
    ] {
        let mut command = sandbox.coffer(arguments);
        if let Some((name, value)) = variable {
            command.env(name, value);
        }
        let output = command.assert().code(2);
        assert!(variable.is_none_or(|(name, _)| stderr(&output).contains(name)), "{arguments:?}: {}", stderr(&output));
    }
    let output = sandbox.coffer(&["backup", "--json", "--nonsense"]).assert().code(2);
    let text = stderr(&output);
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["message_type"], &last["code"]), (&"exit_error".into(), &2.into()));
    assert_eq!(sandbox.snapshots(), 0);
}

#[test]
fn global_flags_stand_before_and_after_the_verb() {
    let sandbox = Sandbox::with_snapshot();
    sandbox.write("pw", "correct horse\n");
    let before = sandbox
        .bare(&["-r", "repo", "-p", "pw", "--json", "--no-cache", "--retry-lock", "5m", "snapshots"])
        .assert()
        .success();
    let after = sandbox
        .bare(&["snapshots", "--repo", "repo", "--password-file", "pw", "--json", "--no-lock"])
        .assert()
        .success();
    assert_eq!(stdout(&before), stdout(&after));
    sandbox.bare(&["key", "-r", "repo", "list", "-p", "pw"]).assert().success();
}

/// Runs a shell script where mounts are its own, or tells that this machine does not allow it.
fn with_mounts(sandbox: &Sandbox, script: &str) -> Option<(String, String)> {
    let allowed = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("skipped: mounting is not allowed here");
        return None;
    }
    let output = Command::new("unshare")
        .args(["-m", "sh", "-ec", script])
        .current_dir(sandbox.dir.path())
        .env("COFFER", common::COFFER)
        .env("COFFER_REPOSITORY", sandbox.path("repo"))
        .env("COFFER_PASSWORD", "correct horse")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Some((text(&output.stdout), text(&output.stderr)))
}

#[test]
fn a_full_disk_costs_only_the_backup_that_filled_it() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("repo")).unwrap();
    let script = r#"
        mount -t tmpfs -o size=8m tmpfs repo
        "$COFFER" init && "$COFFER" backup src
        head -c 20000000 /dev/urandom >big
        code=0; "$COFFER" backup big || code=$?; echo "code $code"
        "$COFFER" snapshots
        "$COFFER" check --read-data
        head -c 1000000 /dev/urandom >src/small
        code=0; "$COFFER" backup src || code=$?; echo "next $code"
        "$COFFER" restore latest --target out && diff -r --no-dereference src out/src && echo same
        "$COFFER" check --read-data
    "#;
    let Some((out, err)) = with_mounts(&sandbox, script) else { return };
    assert!(out.contains("code 14\n") && out.contains("\n1 snapshot\n"), "{out}{err}");
    assert!(err.contains("No space left on device") && err.contains(" state: no snapshot was made"), "{err}");
    assert!(out.contains("next 0\n") && out.contains("same\n"), "{out}{err}");
}

#[test]
fn a_repository_that_cannot_be_written_can_be_read() {
    let sandbox = Sandbox::with_snapshot();
    let script = r#"
        mount --bind repo repo && mount -o remount,bind,ro repo
        for command in "backup src" "key add --new-password-file src/a.txt"; do
            code=0; "$COFFER" $command || code=$?; echo "code $code"
        done
        "$COFFER" snapshots && "$COFFER" check --read-data && "$COFFER" restore latest --target out && echo fine
    "#;
    let Some((out, err)) = with_mounts(&sandbox, script) else { return };
    assert_eq!(out.matches("code 17\n").count(), 2, "{out}{err}");
    assert!(out.contains("fine\n") && err.contains("mounted read-only"), "{out}{err}");
}

#[test]
fn a_full_target_is_told_apart_from_a_full_repository() {
    let sandbox = Sandbox::with_snapshot();
    fs::create_dir(sandbox.path("out")).unwrap();
    let script = r#"
        head -c 3000000 /dev/urandom >src/big && "$COFFER" backup src
        mount -t tmpfs -o size=1m tmpfs out
        code=0; "$COFFER" restore latest --target out || code=$?; echo "code $code"
    "#;
    let Some((out, err)) = with_mounts(&sandbox, script) else { return };
    assert!(out.contains("code 14\n") && err.contains("where the target is"), "{out}{err}");
}

#[test]
fn nobody_reads_the_output() {
    let sandbox = Sandbox::with_snapshot();
    for number in 0..3000 {
        sandbox.write(&format!("src/many/{number:0200}"), "");
    }
    sandbox.coffer(&["backup", "src", "-q"]).assert().success();
    let run = |script: &str| {
        let output = Command::new("bash")
            .args(["-c", script])
            .current_dir(sandbox.dir.path())
            .env("COFFER", common::COFFER)
            .env("COFFER_REPOSITORY", sandbox.path("repo"))
            .env("COFFER_PASSWORD", "correct horse")
            .output()
            .unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (out, err) = run(r#""$COFFER" -q ls latest | head -n 1; echo "${PIPESTATUS[0]}""#);
    assert_eq!((out.as_str(), err.as_str()), ("/src\n141\n", ""));
    let (out, err) = run(r#""$COFFER" dump latest / | head -c 1 >/dev/null; echo "${PIPESTATUS[0]}""#);
    assert_eq!((out.as_str(), err.as_str()), ("141\n", ""));
    // A backup is done even so.
    let (out, _) = run(r#""$COFFER" backup -vv src --force | head -n 1 >/dev/null; echo "${PIPESTATUS[0]}""#);
    assert_eq!(out, "0\n");
    assert_eq!(sandbox.snapshots(), 3);
    let (out, err) = run(r#""$COFFER" snapshots >/dev/full; echo "$?""#);
    assert!(out == "14\n" && err.contains("cannot write to standard output: No space left on device"), "{out}{err}");
}

/// The repository of a sandbox, opened by the library.
fn open_library(sandbox: &Sandbox) -> repo_core::repository::Repository {
    let store = repo_core::store::local::LocalStore::new(sandbox.path("repo"));
    let runtime = repo_core::runtime::SystemRuntime;
    repo_core::repository::Repository::open(
        std::sync::Arc::new(store),
        std::sync::Arc::new(runtime),
        b"correct horse",
        None,
    )
    .unwrap()
}

#[test]
fn a_snapshot_that_one_has_to_know_more_to_use() {
    use repo_core::{
        crypto::keys::ObjectKind,
        id::SnapshotId,
        repository::seal::Seal,
        snapshot::Listing,
        store::Place,
        tree::{name::Bytes, node::Extension},
    };
    let sandbox = Sandbox::with_snapshot();
    let repository = open_library(&sandbox);
    let (_, mut snapshot) = Listing::read(&repository).unwrap().snapshots.remove(0);
    snapshot.extensions.push(Extension { tag: 7, value: Bytes::new([1, 2, 3]).unwrap() });
    let newer: SnapshotId = repository.save(Place::Snapshots, ObjectKind::Snapshot, &snapshot).unwrap().into();
    repository.save(Place::Snapshots, ObjectKind::Seal, &Seal::new(vec![newer])).unwrap();
    let name = newer.to_string();
    for arguments in
        [&["restore", &name, "-t", "x"][..], &["ls", &name], &["dump", &name, "/src/a.txt"], &["dump", &name, "/"]]
    {
        let output = sandbox.coffer(arguments).assert().code(15);
        assert!(stderr(&output).contains("newer version"), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    let output = sandbox.coffer(&["check"]).assert().code(15);
    assert!(stderr(&output).contains("it has extension 7"), "{}", stderr(&output));
    assert_eq!(sandbox.snapshots(), 2, "both are listed");
    assert!(!sandbox.path("x").exists());
}
