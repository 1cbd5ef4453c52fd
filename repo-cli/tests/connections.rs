//! A restore from afar keeps as many requests under way as the store may have connections, and never more.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use common::{Sandbox, assert_same, noise};
use servers::{
    proxy::{Fault, Proxy},
    rest::{How, Kind as RestKind, RestServer},
};

/// More runs of frames than there are connections, since one request reads no more than 4 MiB.
const FILE_BYTES: usize = 60 << 20;

/// A request for so much reads file contents.
const LONG_BYTES: u64 = 1 << 20;

/// Until all that are expected came.
const PATIENCE: Duration = Duration::from_secs(20);

/// After that, for those that should not come.
const PAUSE: Duration = Duration::from_millis(100);

/// Holds requests back until as many as expected wait at once. From then on each is held back for a moment only.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    wake: Condvar,
}

#[derive(Default)]
struct GateState {
    waiting: usize,
    most: usize,
    is_open: bool,
}

impl Gate {
    fn pass(&self, expected: usize) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        state.most = state.most.max(state.waiting);
        state.is_open |= state.most >= expected;
        self.wake.notify_all();
        let begin = Instant::now();
        while !state.is_open && begin.elapsed() < PATIENCE {
            state = self.wake.wait_timeout(state, PAUSE).unwrap().0;
        }
        // Nobody waits a second time for those that did not come.
        state.is_open = true;
        drop(state);
        thread::sleep(PAUSE);
        self.state.lock().unwrap().waiting -= 1;
    }
}

/// How many bytes a GET of a pack asks for.
fn asked_bytes(head: &str) -> Option<u64> {
    let is_of_pack = head.starts_with("GET ") && head.lines().next()?.contains("/data/");
    let range =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let (first, last) = range.as_ref()?.split_once('-')?;
    is_of_pack.then_some(last.trim().parse::<u64>().ok()? - first.parse::<u64>().ok()? + 1)
}

/// The most requests for file contents that a restore had under way.
fn most_in_flight(sandbox: &Sandbox, server: u16, target: &str, flags: &[&str], expected: usize) -> usize {
    let gate = Arc::new(Gate::default());
    let proxy = {
        let gate = Arc::clone(&gate);
        Proxy::reading(server, move |_, head| {
            if asked_bytes(head).is_some_and(|bytes| bytes > LONG_BYTES) {
                gate.pass(expected);
            }
            Fault::None
        })
    };
    let mut restore = sandbox.coffer(&["restore", "latest", "--target", target]);
    restore.args(flags).env("COFFER_REPOSITORY", format!("rest:http://127.0.0.1:{}/repo/", proxy.port));
    restore.assert().success();
    assert_same(&sandbox.path("src"), &sandbox.path(target).join("src"));
    gate.state.lock().unwrap().most
}

#[test]
fn a_restore_uses_all_connections_and_no_more() {
    let server = RestServer::start(RestKind::RestServer, How::default());
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("src/noise"), noise(FILE_BYTES)).unwrap();
    for command in [&["init"][..], &["backup", "src"]] {
        let mut command = sandbox.coffer(command);
        command.env("COFFER_REPOSITORY", format!("rest:{}", server.url("repo"))).assert().success();
    }
    // Five connections are what such a store has if nothing is said, and more than eight threads would be for nothing.
    for (target, flags, expected) in
        [("t5", &[][..], 5), ("t3", &["--connections", "3"], 3), ("t20", &["--connections", "20"], 8)]
    {
        assert_eq!(most_in_flight(&sandbox, server.port, target, flags, expected), expected, "{flags:?}");
    }
}
