//! Real servers on this machine, for as long as a test runs. `.ci/install-test-servers`, which `test.sh` runs, installs them; a test that
//! finds one missing fails.
#![allow(dead_code, reason = "not every test file needs every server")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use repo_core::{
    progress::Cancel,
    store::{
        Store,
        retry::{RetryPolicy, RetryStore},
    },
};
use tempfile::TempDir;

#[cfg(feature = "b2")]
pub(crate) mod b2;
pub(crate) mod link;
pub(crate) mod proxy;
pub(crate) mod rest;
pub(crate) mod s3;
pub(crate) mod sftp;
pub(crate) mod webdav;

/// Longest time that a server may take to begin.
const READY: Duration = Duration::from_mins(1);

/// Tries again at once, as users' stores do after a pause, but not for ever: a server that is busy for a moment is no finding.
pub(crate) fn retrying<S: Store>(store: S) -> RetryStore<S> {
    let policy = RetryPolicy {
        budget: READY,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
        ..RetryPolicy::default()
    };
    RetryStore::new(store, policy, Cancel::default(), |_| ())
}

/// A server, which ends with this value.
pub(crate) struct Server {
    child: Child,
    /// Everything it keeps, and its log.
    pub(crate) folder: TempDir,
}

impl Server {
    /// Starts a program, whose output becomes a log in `folder`, and waits until `is_ready`.
    fn start(mut command: Command, folder: TempDir, is_ready: impl Fn() -> bool) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut server = Self { child, folder };
        let begin = Instant::now();
        while !is_ready() {
            let ended = server.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begin.elapsed() < READY,
                "{command:?} did not begin: {ended:?}\n{}",
                server.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// What it has written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            for line in tail.iter().rev() {
                eprintln!("server: {line}");
            }
        }
    }
}

/// The folder of installed servers.
fn installed() -> PathBuf {
    let folder = std::env::var_os("COFFER_TEST_SERVERS").map(PathBuf::from);
    folder.unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache");
        cache.unwrap_or_else(home).join("coffer-test-servers")
    })
}

/// An installed program.
pub(crate) fn program(name: &str) -> Command {
    let path = installed().join("bin").join(name);
    assert!(path.exists(), "{} is not there; run .ci/install-test-servers, as ./test.sh does", path.display());
    Command::new(path)
}

/// A port that nobody listens at, and that was not given to anybody else here.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        if given.insert(port) {
            return port;
        }
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn listens_at(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// Makes a certificate for 127.0.0.1 that is its own authority, and its key.
fn certificate(cert: &Path, key: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=coffer test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-out"])
        .arg(cert)
        .arg("-keyout")
        .arg(key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A line of a password file.
fn htpasswd(user: &str, password: &str) -> String {
    // Of the kinds that servers take, the SHA-1 one needs no further program.
    let sum = sha1_base64(password);
    format!("{user}:{{SHA}}{sum}\n")
}

fn sha1_base64(text: &str) -> String {
    let command = "printf %s \"$1\" | openssl dgst -sha1 -binary | openssl base64";
    let output = Command::new("sh").args(["-c", command, "sh", text]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
