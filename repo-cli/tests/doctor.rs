//! What is told of a repository's store, and kept.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Sandbox, stdout};
use serde_json::json;

#[test]
fn the_store_of_a_new_repository_is_tested_and_shown() {
    let sandbox = Sandbox::with_repository();
    let info = sandbox.json(&["info"]);
    let store = &info["store"];
    assert_eq!((&store["worst"], &store["thorough"]), (&json!("kept"), &json!(false)));
    assert_eq!(store["findings"].as_array().unwrap().len(), 7);
    assert_eq!(info["id"], sandbox.json(&["cat", "config"])["id"]);
    let text = stdout(&sandbox.coffer(&["info"]).assert().success());
    assert!(text.contains("visibility") && text.contains("chunks of"), "{text}");

    let report = sandbox.json(&["doctor"]);
    assert_eq!((&report["worst"], &report["thorough"]), (&json!("kept"), &json!(true)));
    assert_eq!(report["findings"].as_array().unwrap().len(), 8);
    assert_eq!(sandbox.json(&["info"])["store"], report);
    let text = stdout(&sandbox.coffer(&["doctor", "--short"]).assert().success());
    assert!(text.contains("races") && text.contains("good"), "{text}");
    sandbox.coffer(&["check"]).assert().success();
}

#[test]
fn nothing_is_learnt_without_the_password() {
    let sandbox = Sandbox::with_repository();
    for command in ["info", "doctor"] {
        sandbox.coffer(&[command]).env("COFFER_PASSWORD", "wrong").assert().code(12);
    }
}
