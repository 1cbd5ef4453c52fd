//! All ways to a password, and the repository that is made when none is named.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says why it is skipped"
)]

mod common;

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use common::{Sandbox, stderr, stdout};

#[test]
fn every_source_of_a_password_opens_the_repository() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("pw", "correct horse\n");
    sandbox.write("pw-crlf", "correct horse\r\n");
    sandbox.write("name", "repo\n");
    let open = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = sandbox.bare(&[&["snapshots"], arguments].concat());
        command.envs(variables.iter().copied());
        command.assert().success();
    };
    open(&["-r", "repo", "-p", "pw"], &[]);
    open(&["-r", "repo", "--password-file", "pw-crlf"], &[]);
    open(&["-r", "repo", "--password-command", "echo 'correct horse'"], &[]);
    open(&["-r", "local:repo"], &[("COFFER_PASSWORD", "correct horse")]);
    open(&[], &[("COFFER_REPOSITORY_FILE", "name"), ("COFFER_PASSWORD_FILE", "pw")]);
    open(&["--repository-file", "name"], &[("COFFER_PASSWORD_COMMAND", "cat pw")]);
    open(&[], &[("RESTIC_REPOSITORY", "repo"), ("RESTIC_PASSWORD", "correct horse")]);
    open(&[], &[("RESTIC_REPOSITORY_FILE", "name"), ("RESTIC_PASSWORD_COMMAND", "cat pw")]);
    open(&["-p", "pw"], &[("COFFER_REPOSITORY", "repo"), ("COFFER_PASSWORD", "not this one")]);
    // The first line of standard input, where that is no terminal.
    sandbox.bare(&["snapshots", "-r", "repo"]).write_stdin("correct horse\nmore\n").assert().success();
    let by_fd = |arguments: &str, variable: &str| {
        let script = format!("exec 9<pw; {variable} exec '{}' snapshots -r repo {arguments}", common::COFFER);
        let status = Command::new("sh").args(["-c", &script]).current_dir(sandbox.dir.path()).output().unwrap().status;
        assert!(status.success());
    };
    by_fd("--password-fd 9", "");
    by_fd("", "COFFER_PASSWORD_FD=9");
}

#[test]
fn passwords_that_cannot_be_had() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("empty", "\n");
    sandbox.write("large", &"x".repeat(20_000));
    for (arguments, code, words) in [
        (&["-p", "none"][..], 1, "No such file"),
        (&["-p", "empty"], 1, "the password from empty is empty"),
        (&["-p", "large"], 1, "longer than"),
        (&["--password-command", "false"], 1, "ended with status 1"),
        (&["--password-command", "no-such-program"], 1, "cannot start"),
        (&["--password-command", "echo 'x"], 2, "a quote is not closed"),
        (&["--password-fd", "77"], 1, "file descriptor 77"),
        (&["-p", "pw", "--password-fd", "7"], 2, "only one of"),
        (&[], 1, "the password from standard input is empty"),
        (&["--insecure-no-password"], 12, "opens with this password"),
    ] {
        let output = sandbox.bare(&[&["snapshots", "-r", "repo"], arguments].concat()).assert().code(code);
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
    sandbox.bare(&["snapshots"]).env("COFFER_PASSWORD", "x").assert().code(2);
}

#[test]
fn an_empty_password_must_be_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.bare(&["init", "-r", "repo"]).assert().code(1);
    assert!(!sandbox.path("repo").exists());
    sandbox.bare(&["init", "-r", "repo", "--insecure-no-password"]).assert().success();
    sandbox.bare(&["snapshots", "-r", "repo", "--insecure-no-password"]).assert().success();
}

#[test]
fn the_first_backup_makes_a_repository_where_none_is_named() {
    let sandbox = Sandbox::new();
    let data = sandbox.path("home/.local/share/coffer");
    let none = sandbox.bare(&["snapshots"]).assert().code(10);
    assert!(stderr(&none).contains("the first \"coffer backup\" makes this one"), "{}", stderr(&none));
    assert!(!data.exists());

    let first = sandbox.bare(&["backup", "src"]).assert().success();
    let said = stderr(&first);
    assert!(
        said.contains("made a repository in ") && said.contains("Keep a copy of that file somewhere else"),
        "{said}"
    );
    let password = fs::read_to_string(data.join("password")).unwrap();
    assert_eq!(password.trim_end().len(), 64);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(data.join("password")), mode(data.clone())), (0o600, 0o700));
    assert_eq!(fs::read_dir(&data).unwrap().count(), 2);

    assert_eq!(stderr(&sandbox.bare(&["backup", "src"]).assert().success()), "");
    let listed = stdout(&sandbox.bare(&["snapshots"]).assert().success());
    assert!(listed.ends_with("2 snapshots\n"), "{listed}");
    sandbox.bare(&["init"]).assert().code(1);
    assert_eq!(fs::read_to_string(data.join("password")).unwrap(), password);
    sandbox.bare(&["key", "passwd"]).assert().code(1);
    // It is an ordinary repository.
    let (repository, file) = (data.join("repository"), data.join("password"));
    let named = ["snapshots", "-r", repository.to_str().unwrap(), "-p", file.to_str().unwrap()];
    sandbox.bare(&named).assert().success();

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let open = sandbox.bare(&["snapshots"]).assert().code(1);
    assert!(stderr(&open).contains("others can read the password file"), "{}", stderr(&open));
    fs::remove_file(&file).unwrap();
    let lost = sandbox.bare(&["snapshots"]).assert().code(1);
    assert!(stderr(&lost).contains("is not there"), "{}", stderr(&lost));
    sandbox.bare(&["backup", "src"]).assert().code(1);
    assert!(!file.exists(), "a new password would not open what is there");
}

#[test]
fn the_data_folder_can_be_elsewhere() {
    let sandbox = Sandbox::new();
    sandbox.bare(&["init"]).env("COFFER_DATA_DIR", sandbox.path("data")).assert().success();
    assert!(sandbox.path("data/repository/config").exists());
    sandbox.bare(&["init"]).env("XDG_DATA_HOME", sandbox.path("xdg")).assert().success();
    assert!(sandbox.path("xdg/coffer/password").exists());
    sandbox.bare(&["init"]).env("COFFER_DATA_DIR", "relative").assert().code(2);
    let homeless = sandbox.bare(&["init"]).env_remove("HOME").assert().code(2);
    assert!(stderr(&homeless).contains("HOME"), "{}", stderr(&homeless));
}
