//! `forget` by rules and by ids, its refusals, its JSON, and the simulator; and what `snapshots` and `backup` have to do with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Sandbox, lines, stderr, stdout};
use serde_json::{Value, json};

/// A snapshot for each of these moments.
fn sandbox(times: &[&str]) -> Sandbox {
    let sandbox = Sandbox::with_repository();
    for time in times {
        back_up(&sandbox, time, &[]);
    }
    sandbox
}

fn back_up(sandbox: &Sandbox, time: &str, flags: &[&str]) {
    sandbox.coffer(&["backup", "src", "-q", "--time", time]).args(flags).assert().success();
}

/// Times of the snapshots that are there.
fn times(sandbox: &Sandbox) -> Vec<String> {
    let list = sandbox.json(&["snapshots"]);
    list.as_array().unwrap().iter().map(|snapshot| snapshot["time"].as_str().unwrap()[..16].to_owned()).collect()
}

fn id_of(sandbox: &Sandbox, at: usize) -> String {
    sandbox.json(&["snapshots"])[at]["id"].as_str().unwrap().to_owned()
}

const WEEK: [&str; 5] =
    ["2024-12-27 10:00", "2024-12-28 10:00", "2024-12-30 10:00", "2024-12-31 10:00", "2025-01-01 10:00"];

#[test]
fn rules_decide_and_say_why() {
    let sandbox = sandbox(&WEEK);
    let rules = ["forget", "-d", "2", "-w", "2", "--keep-tag", "x,y"];
    let dry = stdout(&sandbox.coffer(&rules).arg("--dry-run").assert().success());
    assert!(dry.starts_with("keep 2 daily, 2 weekly; all with tags [x, y]\n\nhost "), "{dry}");
    for text in [
        "keep 3 snapshots:\nID        Time                 Host",
        "2024-12-28 10:00:00",
        "remove 2 snapshots:\n",
        "weekly snapshot\n",
        "would forget 2 snapshots; 3 would remain\n",
    ] {
        assert!(dry.contains(text), "{text} in {dry}");
    }
    assert_eq!(times(&sandbox).len(), 5);
    let compact = stdout(&sandbox.coffer(&rules).args(["-n", "-c"]).assert().success());
    assert!(compact.contains("daily snapshot, weekly snapshot"), "{compact}");
    assert_eq!(stdout(&sandbox.coffer(&rules).args(["-n", "-q"]).assert().success()), "");

    let done = stdout(&sandbox.coffer(&rules).assert().success());
    assert!(done.ends_with("\nforgot 2 snapshots\n"), "{done}");
    // The week of 30 December goes on into January; the one before it is another one.
    assert_eq!(times(&sandbox), ["2024-12-28T10:00", "2024-12-31T10:00", "2025-01-01T10:00"]);
    let again = stdout(&sandbox.coffer(&rules).assert().success());
    assert!(again.ends_with("\nforgot 0 snapshots\n"), "{again}");
    sandbox.coffer(&["check"]).assert().success();
    sandbox.assert_restores();
}

#[test]
fn json_is_that_of_restic() {
    let sandbox = sandbox(&WEEK);
    let (first, last) = (id_of(&sandbox, 0), id_of(&sandbox, 4));
    let groups = sandbox.json(&["forget", "--keep-last", "3", "--keep-daily", "unlimited", "--dry-run"]);
    assert_eq!(groups[0]["remove"], json!([]));
    let groups = sandbox.json(&["forget", "--group-by", "host,paths", "--keep-last", "3", "--keep-yearly", "1"]);
    assert_eq!(groups.as_array().unwrap().len(), 1);
    let group = &groups[0];
    assert_eq!(group["tags"], Value::Null);
    assert!(group["host"].is_string() && group.get("source").is_none());
    assert_eq!(group["paths"], json!([sandbox.path("src")]));
    let ids = |name: &str| -> Vec<&str> {
        group[name].as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap()).collect()
    };
    assert_eq!((ids("keep").len(), ids("keep")[0], ids("remove").len(), ids("remove")[1]), (3, &*last, 2, &*first));
    let reasons = group["reasons"].as_array().unwrap();
    assert_eq!(reasons[0]["snapshot"]["id"], last);
    assert_eq!(reasons[0]["matches"], json!(["last snapshot", "yearly snapshot"]));
    assert_eq!(reasons[0]["counters"], json!({ "last": 2 }));
    assert_eq!(reasons[2]["matches"], json!(["last snapshot"]));
    assert_eq!(reasons[2]["counters"], json!({}));
    assert_eq!(times(&sandbox).len(), 3);
}

#[test]
fn ids() {
    let sandbox = sandbox(&WEEK);
    let (first, second) = (id_of(&sandbox, 0), id_of(&sandbox, 1));
    let unknown = sandbox.coffer(&["forget", &first, "0000000000"]).assert().code(1);
    assert!(stderr(&unknown).contains("no snapshot matches \"0000000000\""), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("nothing was forgotten"), "{}", stderr(&unknown));
    assert_eq!(times(&sandbox).len(), 5);
    let dry = stdout(&sandbox.coffer(&["forget", "latest", "--dry-run"]).assert().success());
    assert_eq!(dry, "would forget 1 snapshot\n");
    let done = stdout(&sandbox.coffer(&["forget", &first[..12], "latest", "latest"]).assert().success());
    assert_eq!(done, "forgot 2 snapshots\n");
    assert_eq!(times(&sandbox), ["2024-12-28T10:00", "2024-12-30T10:00", "2024-12-31T10:00"]);
    let groups = sandbox.json(&["forget", &second]);
    assert_eq!((&groups[0]["remove"][0]["id"], &groups[0]["keep"]), (&json!(second), &json!([])));
    // One by one everything can be forgotten.
    sandbox.coffer(&["forget", "latest", "latest~1"]).assert().success();
    assert_eq!(sandbox.snapshots(), 0);
    let gone = sandbox.coffer(&["forget", &second, "--json"]).assert().code(1);
    let error = lines(&gone.get_output().stderr);
    assert_eq!((&error[0]["message_type"], &error[0]["code"]), (&json!("exit_error"), &json!(1)));
}

#[test]
fn calls_that_are_wrong() {
    let sandbox = sandbox(&WEEK[..2]);
    let first = id_of(&sandbox, 0);
    for arguments in [
        &["--dry-run"][..],
        &["--keep-last", "0"],
        &["--keep-within", "0d"],
        &["--keep-last", "-2"],
        &["--keep-last", "many"],
        &["--keep-within", "7"],
        &["--keep-within", "-7d"],
        &["--keep-id", "xyz"],
        &["-g", "colour", "-l", "1"],
        &["--unsafe-allow-remove-all"],
        &["--unsafe-allow-remove-all", "-l", "1"],
        &["--unsafe-remove-protected", "-l", "1"],
        &[&first, "-l", "1"],
        &[&first, "--simulate", "1y"],
        &["--simulate", "1y"],
        &["--simulate-every", "1d", "-l", "1"],
    ] {
        sandbox.coffer(&["forget"]).args(arguments).assert().code(2);
    }
    assert_eq!(times(&sandbox).len(), 2);
}

#[test]
fn nothing_is_left_only_on_request() {
    let sandbox = sandbox(&WEEK[..2]);
    back_up(&sandbox, WEEK[2], &["--host", "other", "--tag", "x"]);
    let refused = sandbox.coffer(&["forget", "--keep-tag", "typo", "--json"]).assert().code(16);
    let error = lines(&refused.get_output().stderr);
    assert_eq!((&error[0]["kind"], &error[0]["code"]), (&json!("refused"), &json!(16)));
    assert!(error[0]["hint"].as_str().unwrap().contains("--unsafe-allow-remove-all"));
    assert_eq!(stdout(&refused), "");
    assert_eq!(times(&sandbox).len(), 3);
    sandbox.coffer(&["forget", "--unsafe-allow-remove-all", "--keep-tag", "y", "--tag", "x"]).assert().success();
    assert_eq!(times(&sandbox).len(), 2);
    sandbox.coffer(&["forget", "--unsafe-allow-remove-all", "--path", "src"]).assert().success();
    assert_eq!(times(&sandbox).len(), 0);
    let nothing = stdout(&sandbox.coffer(&["forget", "-l", "1"]).assert().success());
    assert!(nothing.ends_with("forgot 0 snapshots\n"), "{nothing}");
}

#[test]
fn protected_snapshots() {
    let sandbox = sandbox(&["2024-05-03 10:00"]);
    back_up(&sandbox, "2024-05-01 10:00", &["--protect"]);
    back_up(&sandbox, "2024-05-02 10:00", &["--delete-after", "500y"]);
    back_up(&sandbox, "2024-04-30 10:00", &["--delete-after", "1m"]);
    sandbox.coffer(&["backup", "src", "--delete-after", "9000y"]).assert().code(2);
    sandbox.coffer(&["backup", "src", "--delete-after", "soon"]).assert().code(2);
    sandbox.coffer(&["backup", "src", "--delete-after", "1d", "--protect"]).assert().code(2);
    let list = sandbox.json(&["snapshots"]);
    assert_eq!(list[0]["protected"], "2024-05-30T10:00:00+00:00");
    assert_eq!(list[1]["protected"], "forever");
    let table = stdout(&sandbox.coffer(&["snapshots"]).assert().success());
    assert!(table.contains("until 2524-05-02 10:00:00") && table.contains("for ever"), "{table}");
    let done = stdout(&sandbox.coffer(&["forget", "-l", "1"]).assert().success());
    assert!(done.contains("protected until 2524-05-02 10:00:00"), "{done}");
    assert_eq!(times(&sandbox), ["2024-05-01T10:00", "2024-05-02T10:00", "2024-05-03T10:00"]);
    let id = id_of(&sandbox, 0);
    let refused = sandbox.coffer(&["forget", &id]).assert().code(16);
    assert!(stderr(&refused).contains("--unsafe-remove-protected"), "{}", stderr(&refused));
    sandbox.coffer(&["forget", &id, "--unsafe-remove-protected"]).assert().success();
    assert_eq!(times(&sandbox).len(), 2);
}

#[test]
fn a_clock_that_ran_ahead_pushes_nothing_out() {
    let sandbox = sandbox(&[WEEK[0], "2999-01-01 10:00", "2999-01-02 10:00"]);
    let refused = sandbox.coffer(&["forget", "-l", "2"]).assert().code(16);
    assert!(stderr(&refused).contains("dated in the future"), "{}", stderr(&refused));
    let groups = sandbox.json(&["forget", "--keep-within", "1d", "--dry-run"]);
    assert_eq!(groups[0]["keep"].as_array().unwrap().len(), 3);
    assert_eq!(times(&sandbox).len(), 3);
}

#[test]
fn groups() {
    let sandbox = Sandbox::with_repository();
    for (day, flags) in [
        ("01", &["--host", "a", "--label", "shop"][..]),
        ("02", &["--host", "b", "--label", "shop"]),
        ("03", &["--host", "b", "src/a.txt", "--label", "shop"]),
        ("04", &["--host", "b"]),
    ] {
        back_up(&sandbox, &format!("2024-05-{day} 10:00"), flags);
    }
    let removed = |group_by: &str| -> usize {
        let groups = sandbox.json(&["forget", "-l", "1", "--dry-run", "--group-by", group_by]);
        groups.as_array().unwrap().iter().map(|group| group["remove"].as_array().unwrap().len()).sum()
    };
    let by_default = sandbox.json(&["forget", "-l", "1", "-n"]);
    assert_eq!(by_default.as_array().unwrap().len(), 3);
    assert_eq!(by_default[0]["source"], json!(["shop"]));
    for (group_by, count) in
        [("host,source", 1), ("host,paths", 1), ("source", 2), ("label", 2), ("", 3), ("host", 2), ("paths,label", 1)]
    {
        assert_eq!(removed(group_by), count, "{group_by}");
    }
    assert_eq!(sandbox.json(&["forget", "-l", "1", "-n", "--host", "b"]).as_array().unwrap().len(), 2);

    let groups = sandbox.json(&["snapshots", "-g", "label"]);
    assert_eq!((&groups[0]["group_key"]["label"], &groups[1]["group_key"]["label"]), (&json!(""), &json!("shop")));
    let latest = |flags: &[&str]| sandbox.json(&[&["snapshots", "--latest", "1"], flags].concat());
    assert_eq!(latest(&[]).as_array().unwrap().len(), 3);
    assert_eq!(latest(&["--group-by", "source"]).as_array().unwrap().len(), 2);
    let table = stdout(&sandbox.coffer(&["snapshots", "-g", "host,label"]).assert().success());
    assert!(table.starts_with("host a; label shop\n") && table.contains("\nhost b; no label\n"), "{table}");
}

#[test]
fn days_are_those_of_the_zone() {
    let sandbox = sandbox(&["2024-01-10T23:30:00Z", "2024-01-11T00:30:00Z"]);
    let matches = |zone: &str| -> Value {
        let output = sandbox.coffer(&["forget", "-d", "2", "-n", "--json"]).env("TZ", zone).assert().success();
        serde_json::from_slice::<Value>(&output.get_output().stdout).unwrap()[0]["reasons"][1]["matches"].clone()
    };
    assert_eq!(matches("UTC"), json!(["daily snapshot"]));
    assert_eq!(matches("EST5EDT,M3.2.0,M11.1.0"), json!(["oldest daily snapshot"]));
}

#[test]
fn short_flags_are_those_of_restic() {
    let sandbox = sandbox(&WEEK);
    let keep = |flags: &[&str]| -> String {
        let text = stdout(&sandbox.coffer(&["forget", "-n"]).args(flags).assert().success());
        text.lines().next().unwrap().to_owned()
    };
    assert_eq!(
        keep(&["-l", "1", "-H", "2", "-d", "3", "-w", "4", "-m", "5", "-y", "-1"]),
        "keep 1 last, 2 hourly, 3 daily, 4 weekly, 5 monthly, all yearly"
    );
    assert_eq!(
        keep(&["--keep-minutely=1", "--keep-quarter-yearly=2", "--keep-half-yearly=unlimited"]),
        "keep 1 minutely, 2 quarter-yearly, all half-yearly"
    );
    assert_eq!(
        keep(&["--keep-within", "1y5m7d2h", "--keep-within-weekly=3w", "--keep-tag", "", "--keep-id", "AB"]),
        "keep weekly within 3w; all within 1y5m7d2h; all without tags; ids ab"
    );
}

#[test]
fn what_a_policy_would_come_to() {
    let sandbox = sandbox(&WEEK);
    let rules = ["forget", "--simulate", "1y", "-d", "7", "-w", "5", "-m", "12"];
    let text = stdout(&sandbox.coffer(&rules).assert().success());
    for part in ["in 1y, one every 1d: at most ", "held at the end: ", "(to come)", "monthly snapshot", "####"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let groups = sandbox.json(&[&rules[..], &["--simulate-every", "1w"]].concat());
    let steps = groups[0]["steps"].as_array().unwrap();
    assert!((53..=54).contains(&steps.len()), "{}", steps.len());
    let held = groups[0]["held"].as_array().unwrap();
    assert_eq!(steps.last().unwrap()["held"], held.len());
    assert!(held.iter().all(|held| held["time"].is_string() && !held["matches"].as_array().unwrap().is_empty()));
    assert!(groups[0]["most_held"].as_u64().unwrap() >= held.len() as u64);
    let far = sandbox.coffer(&["forget", "--simulate", "50y", "--simulate-every", "1h", "-l", "1"]).assert().code(1);
    assert!(stderr(&far).contains("at most 20000 snapshots"), "{}", stderr(&far));
    assert_eq!(times(&sandbox).len(), 5, "nothing was forgotten");
}

#[test]
fn damaged_snapshots_are_not_counted_and_told_of() {
    let sandbox = sandbox(&WEEK);
    // So much is said of it that its seal has no room for a copy.
    let letter = |at: u64| char::from(b'a' + u8::try_from((at.pow(3).wrapping_mul(0x9E37_79B9) >> 7) % 26).unwrap());
    let tag: String = (0..600).map(letter).collect();
    sandbox.coffer(&["tag", "--add", &tag, &id_of(&sandbox, 4)]).assert().success();
    let path = sandbox.path("repo/snapshots").join(id_of(&sandbox, 4));
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let done = sandbox.coffer(&["forget", "-l", "2"]).assert().code(13);
    assert!(stdout(&done).ends_with("forgot 2 snapshots\n"), "{}", stdout(&done));
    assert!(stderr(&done).contains("cannot be read"), "{}", stderr(&done));
    assert!(path.exists());
}
