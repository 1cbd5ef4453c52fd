//! What jobs ask of stores over the network: by what the program tells, and by what a proxy on the way to a real server sees, so that a
//! library that asks more than it was told to would be seen.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use common::{Sandbox, lines};
use serde_json::Value;
use servers::{
    proxy::{Fault, Proxy},
    rest::{How, Kind as RestKind, RestServer},
    s3::{KEY, Kind as S3Kind, S3Server, SECRET},
};

/// Puts, gets, lists, looks, deletes.
type Requests = [u64; 5];

const CLASSES: [&str; 5] = ["puts", "gets", "lists", "stats", "deletes"];

/// What a request is, by its first line.
fn class(line: &str) -> usize {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let is_listing = path.contains("list-type=") || path.ends_with('/');
    match method {
        "PUT" | "POST" => 0,
        "GET" if is_listing => 2,
        "GET" => 1,
        "HEAD" => 3,
        "DELETE" => 4,
        _ => panic!("{line}"),
    }
}

/// What a job has asked for.
#[derive(Debug)]
struct Asked {
    job: &'static str,
    /// By what the program says.
    told: Requests,
    /// By what came along.
    seen: Requests,
    /// What came back, by what the program says.
    fetched_bytes: u64,
    lines: Vec<String>,
}

impl Asked {
    fn sum(&self) -> u64 {
        self.seen.iter().sum()
    }
}

/// Does every job once.
fn jobs(server: u16, address: impl Fn(u16) -> String) -> Vec<Asked> {
    let sandbox = Sandbox::new();
    let proxy = Proxy::start(server, |_| Fault::None);
    let mut all = Vec::new();
    let mut run = |job: &'static str, arguments: &[&str]| {
        let mut command = sandbox.coffer(arguments);
        command.args(["--json", "-v"]).env("COFFER_REPOSITORY", address(proxy.port));
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        let assert = command.assert().success();
        let told: Vec<Value> = lines(&assert.get_output().stderr);
        let told = told.iter().find(|line| line["message_type"] == "requests").unwrap();
        let lines = proxy.take_lines();
        let mut seen = [0; 5];
        for line in &lines {
            seen[class(line)] += 1;
        }
        all.push(Asked {
            job,
            told: CLASSES.map(|class| told[class].as_u64().unwrap()),
            seen,
            fetched_bytes: told["bytes_fetched"].as_u64().unwrap(),
            lines,
        });
    };
    let restore = |target| ["restore", "latest", "--include", "a.txt", "--target", target];
    let cold = |arguments: &[&'static str], folder: &'static str| [arguments, &["--cache-dir", folder]].concat();
    run("init", &["init"]);
    run("first backup", &["backup", "src"]);
    run("snapshots, cold", &cold(&["snapshots"], "cold1"));
    run("snapshots, warm", &["snapshots"]);
    run("restore, cold", &cold(&restore("target"), "cold2"));
    run("restore, warm", &cold(&restore("again"), "cold2"));
    run("unchanged backup", &["backup", "src"]);
    run("prune", &["prune"]);
    assert!(["target", "again"].iter().all(|target| sandbox.path(target).join("src/a.txt").exists()));
    for asked in &all {
        eprintln!("{:>16}: told {:?}, seen {:?}, {} bytes", asked.job, asked.told, asked.seen, asked.fetched_bytes);
    }
    all
}

/// Holds jobs against the most that they may ask for.
fn hold(asked: &[Asked], most: &[(&str, Requests)]) {
    assert_eq!(asked.len(), most.len());
    for (asked, (job, most)) in asked.iter().zip(most) {
        assert_eq!(asked.job, *job);
        let is_more = asked.seen.iter().zip(most).any(|(seen, most)| seen > most);
        assert!(!is_more, "{job}: {:?}, more than {most:?}:\n{}", asked.seen, asked.lines.join("\n"));
    }
}

/// What reading takes is the same on every store: config, list of keys, key, list of snapshots, seal with body, and for a file list of the index,
/// run, trees, data.
fn hold_readers(asked: &[Asked]) {
    let reading = |job: &str| asked.iter().find(|asked| asked.job == job).unwrap();
    for (job, seen) in [
        ("snapshots, cold", [0, 3, 2, 0, 0]),
        ("snapshots, warm", [0, 2, 2, 0, 0]),
        ("restore, cold", [0, 6, 3, 0, 0]),
        ("restore, warm", [0, 3, 3, 0, 0]),
    ] {
        let asked = reading(job);
        assert_eq!((asked.told, asked.seen), (seen, seen), "{job}:\n{}", asked.lines.join("\n"));
    }
    assert!(reading("restore, cold").sum() <= 9);
    assert!(reading("restore, cold").fetched_bytes < 20_000);
}

#[test]
fn rest_server() {
    let server = RestServer::start(RestKind::RestServer, How::default());
    let asked = jobs(server.port, |port| format!("rest:http://127.0.0.1:{port}/repo/"));
    hold_readers(&asked);
    for asked in &asked[1..] {
        // An object is asked for before it is written, since such servers may replace what is there. Nothing else is hidden.
        let [puts, gets, lists, stats, deletes] = asked.told;
        assert_eq!(asked.seen, [puts, gets, lists, stats + puts, deletes], "{}", asked.job);
    }
    hold(
        &asked,
        &[
            // Most of it is the doctor. Of the eight who race for an object, the seven who lose look at it once more, if they came so far.
            ("init", [15, 13, 2, 27, 5]),
            ("first backup", [6, 3, 7, 10, 1]),
            ("snapshots, cold", [0, 3, 2, 0, 0]),
            ("snapshots, warm", [0, 2, 2, 0, 0]),
            ("restore, cold", [0, 6, 3, 0, 0]),
            ("restore, warm", [0, 3, 3, 0, 0]),
            ("unchanged backup", [3, 3, 7, 6, 1]),
            ("prune", [1, 9, 13, 1, 2]),
        ],
    );
}

#[test]
fn seaweed() {
    let server = S3Server::start(S3Kind::Seaweed);
    let asked = jobs(server.port, |port| format!("s3:http://127.0.0.1:{port}/bucket/repo"));
    hold_readers(&asked);
    for asked in &asked[1..] {
        assert_eq!(asked.seen, asked.told, "{}: the library asks for nothing else", asked.job);
    }
    hold(
        &asked,
        &[
            ("init", [15, 15, 3, 8, 5]),
            ("first backup", [6, 3, 7, 4, 1]),
            ("snapshots, cold", [0, 3, 2, 0, 0]),
            ("snapshots, warm", [0, 2, 2, 0, 0]),
            ("restore, cold", [0, 6, 3, 0, 0]),
            ("restore, warm", [0, 3, 3, 0, 0]),
            ("unchanged backup", [3, 3, 7, 3, 1]),
            ("prune", [1, 9, 13, 0, 2]),
        ],
    );
}
