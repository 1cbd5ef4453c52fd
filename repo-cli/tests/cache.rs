//! The local cache by the command line, of a repository on a server.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use std::{fs, os::unix::fs::PermissionsExt};

use common::{Sandbox, stderr, stdout};
use servers::rest::{How, Kind, RestServer};

#[test]
fn a_repository_far_away_has_a_cache() {
    let sandbox = Sandbox::new();
    let server = RestServer::start(Kind::RestServer, How::default());
    let address = format!("rest:{}", server.url("repo"));
    let run = |arguments: &[&str]| {
        let mut command = sandbox.coffer(arguments);
        command.env("COFFER_REPOSITORY", &address);
        command.assert().success()
    };
    let caches = || sandbox.json(&["cache"]).as_array().unwrap().clone();
    run(&["init"]);
    run(&["--no-cache", "backup", "src"]);
    assert!(caches().is_empty() && !sandbox.path("home").exists());
    run(&["backup", "src"]);
    let [cache] = caches().try_into().unwrap_or_else(|caches| panic!("{caches:?}"));
    let folder = sandbox.path("home/.cache/coffer").join(cache["repository"].as_str().unwrap());
    assert_eq!(cache["path"], folder.to_str().unwrap());
    assert!(cache["files"].as_u64().unwrap() >= 3 && cache["size"].as_u64().unwrap() > 0, "{cache}");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(folder.parent().unwrap().join("CACHEDIR.TAG").exists());

    // Another folder, by a flag and by a variable.
    run(&["snapshots", "--cache-dir", sandbox.path("named").to_str().unwrap()]);
    assert!(sandbox.path("named/CACHEDIR.TAG").exists());
    // Nothing of it is believed.
    for part in ["tables", "snapshots", "trees"] {
        for file in fs::read_dir(folder.join(part)).unwrap() {
            fs::write(file.unwrap().path(), b"not what it was").unwrap();
        }
    }
    let target = sandbox.path("target");
    run(&["restore", "latest", "--target", target.to_str().unwrap()]);
    common::assert_same(&sandbox.path("src"), &target.join("src"));
    run(&["check", "--read-data"]);

    // One that is named and cannot be made is told of; one that nobody asked for is not.
    sandbox.write("file", "in the way");
    let told = stderr(&run(&["ls", "latest", "--cache-dir", sandbox.path("file").to_str().unwrap()]));
    assert!(told.contains("worked without the local cache: cannot write to "), "{told}");
    let home = sandbox.path("file");
    let ls = sandbox.coffer(&["ls", "latest"]).env("COFFER_REPOSITORY", &address).env("HOME", home).assert().success();
    assert!(!stderr(&ls).contains("cache"), "{}", stderr(&ls));

    sandbox.coffer(&["cache", "--cleanup"]).assert().success();
    assert_eq!(caches().len(), 1);
    let text = stdout(&sandbox.coffer(&["cache"]).assert().success());
    assert!(text.contains(&cache["repository"].as_str().unwrap()[..8]) && text.contains("\n1 cache in "), "{text}");
    let removed = sandbox.json(&["cache", "--clear"]);
    assert_eq!((removed.as_array().unwrap().len(), &removed[0]["removed"]), (1, &true.into()));
    assert!(caches().is_empty() && !folder.exists());
    run(&["snapshots", "--cleanup-cache"]);
}

#[test]
fn what_is_old_is_removed_when_asked_for() {
    let sandbox = Sandbox::with_snapshot();
    let base = sandbox.path("home/.cache/coffer");
    assert!(!base.exists(), "a small repository in a folder has no cache");
    let old = base.join("ab".repeat(32));
    fs::create_dir_all(&old).unwrap();
    let days = |days: u64| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(24 * days);
    fs::File::open(&old).unwrap().set_modified(days(1000)).unwrap();
    let young = base.join("cd".repeat(32));
    fs::create_dir_all(&young).unwrap();
    fs::create_dir_all(base.join("something else")).unwrap();
    sandbox.coffer(&["snapshots"]).assert().success();
    assert!(old.exists());
    sandbox.coffer(&["snapshots", "--cleanup-cache"]).assert().success();
    assert!(!old.exists() && young.exists() && base.join("something else").exists());
    fs::create_dir_all(&old).unwrap();
    fs::File::open(&old).unwrap().set_modified(days(1000)).unwrap();
    sandbox.coffer(&["cache", "--cleanup", "--max-age", "90000"]).assert().success();
    assert!(old.exists());
    sandbox.coffer(&["cache", "--cleanup", "--max-age", "100"]).assert().success();
    assert!(!old.exists() && young.exists());
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let sandbox = Sandbox::with_repository();
    for arguments in [["snapshots", "--cache-size", "much"], ["snapshots", "--cache-dir", ""]] {
        sandbox.coffer(&arguments).assert().code(2);
    }
    sandbox.coffer(&["snapshots"]).env("COFFER_CACHE_SIZE", "much").assert().code(2);
    sandbox.coffer(&["snapshots"]).env("RESTIC_CACHE_DIR", "/nowhere").assert().success();
}
