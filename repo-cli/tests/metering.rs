//! Requests are counted, and a run ends where it would take more than was allowed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;

use common::{Sandbox, lines, stderr, stdout};
use serde_json::Value;

/// Runs a command, and gives what it asked of the store: puts, gets, lists, looks, deletes.
fn requests(sandbox: &Sandbox, arguments: &[&str]) -> [u64; 5] {
    let assert = sandbox.coffer(arguments).args(["--json", "-v"]).assert().success();
    let told: Vec<Value> = lines(&assert.get_output().stderr);
    let told = told.iter().find(|line| line["message_type"] == "requests").unwrap();
    let counts = ["puts", "gets", "lists", "stats", "deletes"].map(|what| told[what].as_u64().unwrap());
    assert_eq!(told["requests"].as_u64().unwrap(), counts.iter().sum::<u64>());
    counts
}

/// What each job costs, on a repository of one pack of each kind. A change that needs more must have a reason.
#[test]
fn jobs_take_no_more_requests_than_they_have_to() {
    let sandbox = Sandbox::new();
    // Most of them is the doctor.
    let init = requests(&sandbox, &["init"]);
    assert!(init.iter().sum::<u64>() <= 42, "{init:?}");
    // Two packs, an index run, a body, a seal, and the note of the session, which goes again.
    let first = requests(&sandbox, &["backup", "src"]);
    assert!(first[0] == 6 && first[4] == 1 && first.iter().sum::<u64>() <= 32, "{first:?}");
    let again = requests(&sandbox, &["backup", "src"]);
    assert!(again[0] <= 3 && again.iter().sum::<u64>() <= 28, "{again:?}");
    let snapshots = requests(&sandbox, &["snapshots"]);
    assert!(snapshots.iter().sum::<u64>() <= 8, "{snapshots:?}");
    let target = tempfile::tempdir().unwrap();
    let target = target.path().to_str().unwrap();
    let restore = requests(&sandbox, &["restore", "latest", "--include", "a.txt", "--target", target]);
    // Of two snapshots.
    assert!(restore[0] == 0 && restore.iter().sum::<u64>() <= 12, "{restore:?}");
    let prune = requests(&sandbox, &["prune"]);
    assert!(prune.iter().sum::<u64>() <= 36, "{prune:?}");
}

/// However few requests are allowed: it ends with its own code, harms nothing, and goes on with the next run.
#[test]
fn a_run_ends_where_the_budget_ends() {
    let sandbox = Sandbox::with_repository();
    // Each run that is ended leaves something for the next one to look at, so that it needs a few requests more.
    let budgets = std::iter::successors(Some(0_u64), |allowed| Some(allowed + 1 + allowed / 5));
    let mut ended = 0;
    for allowed in budgets {
        fs::write(sandbox.path("src/new"), format!("{allowed}")).unwrap();
        let assert = sandbox.coffer(&["backup", "src", "--max-requests", &allowed.to_string()]).assert();
        match assert.get_output().status.code() {
            Some(0) => break,
            Some(19) => assert!(stderr(&assert).contains("--max-requests"), "{}", stderr(&assert)),
            code => panic!("{code:?} with {allowed} requests: {}", stderr(&assert)),
        }
        ended += 1;
    }
    assert!(ended > 10, "{ended}");
    // One that ended after its seal has made its snapshot, and could not tidy up.
    assert!((1..ended).contains(&sandbox.snapshots()));
    sandbox.coffer(&["check", "--read-data"]).assert().success();
    sandbox.assert_restores();
}

#[test]
fn prices_can_be_had_and_must_be_valid() {
    let sandbox = Sandbox::with_repository();
    let table = stdout(&sandbox.coffer(&["prices"]).assert().success());
    assert!(serde_json::from_str::<Value>(&table).unwrap()["stores"].is_array());
    // A folder costs nothing.
    sandbox.coffer(&["snapshots", "--max-cost", "0"]).assert().success();
    sandbox.coffer(&["snapshots", "--max-cost", "-1"]).assert().code(2);
}

/// What a dry run foretells, held against what the real one then takes.
#[test]
fn estimates_come_true() {
    let sandbox = Sandbox::with_repository();
    for number in 0..40_u32 {
        let noise: Vec<u8> = (0..30_000_u32).map(|at| at.wrapping_mul(number * 7919 + 13).to_le_bytes()[2]).collect();
        fs::write(sandbox.path(&format!("src/file{number}")), noise).unwrap();
    }
    sandbox.coffer(&["backup", "src"]).assert().success();
    let target = tempfile::tempdir().unwrap();
    let target = target.path().to_str().unwrap();
    let told = |arguments: &[&str], kind: &str| -> Value {
        let assert = sandbox.coffer(arguments).args(["--json", "-v"]).assert().success();
        let told = lines(&assert.get_output().stderr);
        told.into_iter().find(|line| line["message_type"] == kind).unwrap()
    };
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap();
    let restore = ["restore", "latest", "--target", target];
    let check = ["check", "--read-data"];
    for (arguments, overhead_requests) in [(&restore[..], 20), (&check[..], 20)] {
        let foretold = told(&[arguments, &["--dry-run"]].concat(), "estimate");
        let taken = told(arguments, "requests");
        let (few, many) = (number(&foretold, "requests"), number(&taken, "requests"));
        assert!(few <= many && many <= few + overhead_requests, "{arguments:?}: {foretold} {taken}");
        let (few, many) = (number(&foretold, "bytes_fetched"), number(&taken, "bytes_fetched"));
        assert!(few > 1_000 && many >= few / 2 && many <= few + 100_000, "{arguments:?}: {foretold} {taken}");
    }
}
