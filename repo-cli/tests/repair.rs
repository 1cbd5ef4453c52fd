//! Repairing the index, replacing damaged packs, and what `status` and `unlock` say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{fs, path::PathBuf};

use common::{Sandbox, stderr, stdout};

/// Files in one place of the repository.
fn objects(sandbox: &Sandbox, place: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![sandbox.path("repo").join(place)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

fn damage(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_index_that_is_lost_is_made_anew() {
    let sandbox = Sandbox::with_repository();
    sandbox.coffer(&["backup", "src"]).assert().success();
    let text = stdout(&sandbox.coffer(&["repair", "index"]).assert().success());
    assert!(text.contains("nothing had to be done"), "{text}");
    let before = objects(&sandbox, "index");
    for run in &before {
        fs::remove_file(run).unwrap();
    }
    let check = sandbox.coffer(&["check"]).assert().code(13);
    assert!(stderr(&check).contains("repair index"), "{}", stderr(&check));
    let text = stdout(&sandbox.coffer(&["repair", "index", "--dry-run"]).assert().success());
    assert!(text.contains("would have found 2 packs"), "{text}");
    assert_eq!(objects(&sandbox, "index"), Vec::<PathBuf>::new());
    let value = sandbox.json(&["repair", "index", "--read-all-packs"]);
    assert_eq!(value["packs_found"].as_array().unwrap().len(), 2);
    assert_eq!((&value["sound"], &value["index_files_stored"]), (&false.into(), &1.into()));
    sandbox.coffer(&["check", "--read-data"]).assert().success();
    sandbox.assert_restores();
}

/// One part of the index is damaged: what the others name is read, and what is missing is told of.
#[test]
fn what_a_damaged_part_of_the_index_does_not_concern_is_read() {
    let sandbox = Sandbox::with_repository();
    for number in 0..30 {
        sandbox.write(&format!("src/many/{number}"), &format!("file {number}\n"));
    }
    sandbox.coffer(&["backup", "src"]).assert().success();
    let first = objects(&sandbox, "index");
    let old = sandbox.json(&["snapshots"])[0]["id"].as_str().unwrap().to_owned();
    sandbox.write("src/late.txt", "late\n");
    sandbox.coffer(&["backup", "src"]).assert().success();
    let runs = objects(&sandbox, "index");
    let late = runs.iter().find(|run| !first.contains(run)).unwrap();
    assert_eq!(runs.len(), 2, "the larger run is not merged");
    damage(late);
    let run = late.file_name().unwrap().to_str().unwrap();
    for arguments in
        [&["ls", &old][..], &["restore", &old, "--target", "out"], &["dump", &old, "src/a.txt"], &["stats", &old]]
    {
        let told = stderr(&sandbox.coffer(arguments).assert().success());
        assert!(
            told.contains(&format!("index/{run}")) && told.contains("coffer repair index"),
            "{arguments:?}: {told}"
        );
    }
    std::fs::remove_file(sandbox.path("src/late.txt")).unwrap();
    common::assert_same(&sandbox.path("src"), &sandbox.path("out/src"));
    // The directories of the newest one are what is missing.
    let told = stderr(&sandbox.coffer(&["restore", "latest", "--target", "out2"]).assert().code(3));
    assert!(told.contains("is in no index") && told.contains("coffer repair index"), "{told}");
    sandbox.coffer(&["ls", "latest"]).assert().code(13);
    sandbox.coffer(&["repair", "index"]).assert().success();
    sandbox.write("src/late.txt", "late\n");
    sandbox.assert_restores();
}

/// Tags for a snapshot that is damaged, when check has had its packs taken out of use.
#[test]
fn what_cannot_be_edited_for_being_damaged_is_not_blamed_on_a_prune() {
    let sandbox = Sandbox::with_snapshot();
    let packs = objects(&sandbox, "data");
    packs.iter().for_each(damage);
    for pack in &packs {
        let id = pack.file_name().unwrap().to_str().unwrap();
        sandbox.coffer(&["repair", "packs", id]).assert().success();
    }
    let told = stderr(&sandbox.coffer(&["tag", "--add", "x"]).assert().code(13));
    assert!(told.contains("out of use") && told.contains("run the backup again"), "{told}");
    assert!(!told.contains("pruned"), "{told}");
    sandbox.coffer(&["backup", "src"]).assert().success();
    sandbox.coffer(&["tag", "--add", "x"]).assert().success();
    sandbox.assert_restores();
}

#[test]
fn a_pack_that_is_gone_is_stored_again() {
    let sandbox = Sandbox::with_repository();
    sandbox.coffer(&["backup", "src"]).assert().success();
    for pack in objects(&sandbox, "data") {
        let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
        fs::remove_file(&pack).unwrap();
        let repair = sandbox.coffer(&["repair", "index"]).assert().code(3);
        assert!(stderr(&repair).contains(&name), "{}", stderr(&repair));
        sandbox.coffer(&["backup", "src"]).assert().success();
        sandbox.coffer(&["check", "--read-data"]).assert().success();
        sandbox.assert_restores();
    }
}

/// What check says, done step by step.
#[test]
fn a_damaged_pack_is_replaced() {
    let sandbox = Sandbox::with_repository();
    sandbox.coffer(&["backup", "src"]).assert().success();
    for pack in objects(&sandbox, "data") {
        damage(&pack);
        let output = sandbox.coffer(&["check", "--read-data", "--json"]).assert().code(13);
        let summary = common::lines(&output.get_output().stdout).pop().unwrap();
        let broken = summary["broken_packs"].as_array().unwrap();
        let id = broken[0].as_str().unwrap();
        assert_eq!((broken.len(), id), (1, pack.file_name().unwrap().to_str().unwrap()));
        sandbox.coffer(&["repair", "packs", "--dry-run", id]).assert().success();
        let text = stdout(&sandbox.coffer(&["repair", "packs", id]).assert().success());
        assert!(text.contains("took 1 pack out of use"), "{text}");
        let text = stdout(&sandbox.coffer(&["status"]).assert().success());
        assert!(text.contains("1 of 1 pack to be deleted"), "{text}");
        sandbox.coffer(&["backup", "src"]).assert().success();
        sandbox.assert_restores();
        sandbox.coffer(&["prune"]).assert().success();
        assert!(!pack.exists());
        sandbox.coffer(&["check", "--read-data"]).assert().success();
    }
    sandbox.coffer(&["repair", "packs", "nonsense"]).assert().code(2);
    sandbox.coffer(&["repair", "packs", &"7".repeat(64)]).assert().code(1);
}

#[test]
fn nothing_is_locked() {
    let sandbox = Sandbox::with_repository();
    let text = stdout(&sandbox.coffer(&["status"]).assert().success());
    assert!(text.contains("nobody is at work"), "{text}");
    for arguments in [&["unlock"][..], &["unlock", "--remove-all"]] {
        let text = stdout(&sandbox.coffer(arguments).assert().success());
        assert!(text.contains("nothing is locked"), "{text}");
    }
    let value = sandbox.json(&["status"]);
    for list in ["sessions", "unfinished", "marks", "expiring"] {
        assert_eq!(value[list].as_array().unwrap().len(), 0, "{list}");
    }
    assert_eq!(sandbox.json(&["unlock"])["removed"], 0);
}
