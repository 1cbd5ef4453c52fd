//! The store in folders of other machines, against `sshd`.

#![cfg(feature = "sftp")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "also the helpers of a test may fail it and speak")]

#[path = "common/servers/mod.rs"]
mod servers;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use repo_core::{
    error::{StoreError, StoreErrorKind},
    store::{
        ByteRange, ObjectName, Place, Store,
        sftp::{Carrier, Pipe, SftpStore},
        testing::contract::{check_store, object},
    },
};
use servers::sftp::SshServer;

const ALL: ByteRange = ByteRange::WholeUpTo { limit_bytes: u64::MAX };

/// `ssh`, which ends with this.
struct Ssh(Child);

impl Carrier for Ssh {
    fn end(&mut self) {
        let _ = self.0.kill();
    }
    fn last_words(&mut self) -> String {
        let _ = self.0.wait();
        let mut said = String::new();
        self.0.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
        said
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn store_by(root: &str, ssh: impl Fn() -> Command + Send + Sync + 'static) -> SftpStore {
    SftpStore::new(
        root,
        "sftp:test".into(),
        0,
        Box::new(move || {
            let mut child = ssh().spawn()?;
            let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
            Ok(Pipe { reader: Box::new(reader), writer: Box::new(writer), carrier: Box::new(Ssh(child)) })
        }),
    )
}

fn store(server: &Arc<SshServer>, below: &str) -> SftpStore {
    let root = format!("{}/{below}", server.data().display());
    let server = Arc::clone(server);
    store_by(&root, move || server.ssh())
}

fn tell(error: StoreError) -> (StoreErrorKind, String) {
    (error.kind, format!("{error}: {}", error.source))
}

#[test]
fn sshd_keeps_the_contract() {
    keeps_the_contract(&Arc::new(SshServer::start()));
}

/// One to whom the server's other files are as strange as to us, in a folder of his own; in other folders he may do nothing.
#[test]
fn an_ordinary_user_keeps_the_contract() {
    let server = Arc::new(SshServer::start_for_ordinary_user());
    keeps_the_contract(&server);
    if uzers::get_effective_uid() != 0 {
        return; // nobody else could make the folder that is not his
    }
    let foreign = server.data().join("foreign");
    for folder in ["", "locks"] {
        fs::create_dir(foreign.join(folder)).unwrap();
    }
    let store = store(&server, "foreign");
    let bytes = b"a note".to_vec();
    let name = object(Place::Locks, &bytes);
    let (kind, text) = tell(store.put(&name, &bytes).unwrap_err());
    assert_eq!(kind, StoreErrorKind::Denied, "{text}");
    assert_eq!(fs::read_dir(foreign.join("locks")).unwrap().count(), 0);
    fs::write(foreign.join("locks").join(name.id().to_string()), &bytes).unwrap();
    assert_eq!(tell(store.delete(&name).unwrap_err()).0, StoreErrorKind::Denied);
    store.get(&name, ALL, &mut Vec::new()).unwrap();
}

fn keeps_the_contract(server: &Arc<SshServer>) {
    let number = AtomicUsize::new(0);
    check_store(|| Box::new(store(server, &format!("a/b{}", number.fetch_add(1, Ordering::Relaxed)))));
    // What is written leaves nothing else behind.
    for repository in fs::read_dir(server.data().join("a")).unwrap() {
        let repository = repository.unwrap().path();
        let output = Command::new("find").arg(&repository).args(["-name", ".tmp-*"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
}

#[test]
fn foreign_names_are_passed_over() {
    let server = Arc::new(SshServer::start());
    let store = store(&server, "repo");
    store.create().map_err(tell).unwrap();
    let name = object(Place::Data, b"content");
    store.put(&name, b"content").map_err(tell).unwrap();
    let data = server.data().join("repo/data");
    fs::write(data.join("notes"), "x").unwrap();
    fs::write(data.join("ff"), "x").unwrap();
    fs::create_dir(data.join("zz")).unwrap();
    fs::write(data.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    let folder = data.join(&name.to_string()[5..7]);
    fs::write(folder.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    fs::create_dir(folder.join(name.id().to_string().replace(['0', '1', '2'], "3"))).unwrap();
    let mut listed = Vec::new();
    store.list(Place::Data, &mut |info| listed.push(info.name)).map_err(tell).unwrap();
    assert_eq!(listed, [name]);
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    let server = Arc::new(SshServer::start());
    let store = store(&server, "not/mounted");
    let name = object(Place::Data, b"content");
    assert_eq!(store.get(&ObjectName::CONFIG, ALL, &mut Vec::new()).unwrap_err().kind, StoreErrorKind::NotFound);
    assert!(store.stat(&ObjectName::CONFIG).map_err(tell).unwrap().is_none());
    assert_eq!(store.list(Place::Keys, &mut |_| ()).unwrap_err().kind, StoreErrorKind::NotFound);
    for done in [store.put(&name, b"content"), store.get(&name, ALL, &mut Vec::new())] {
        let (failed, text) = tell(done.unwrap_err());
        assert_eq!(failed, StoreErrorKind::Permanent, "{text}");
        assert!(text.contains("mounted"), "{text}");
    }
    assert!(!server.data().join("not").exists());
}

#[test]
fn what_ssh_says_is_told() {
    let server = Arc::new(SshServer::start());
    let folder = server.server.folder.path().to_owned();
    let port = server.port.to_string();
    let with = |arguments: &[&str], port: &str| {
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        let (server, port) = (Arc::clone(&server), port.to_owned());
        store_by("/nonexistent", move || {
            let mut command = Command::new("ssh");
            command.args(&arguments).arg("-F").arg(server.ssh_config()).args(["-p", &port, "127.0.0.1", "-s", "sftp"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        })
    };
    let no_hosts = format!("-oUserKnownHostsFile={}", folder.join("no_hosts").display());
    let free = servers::free_port().to_string();
    for (arguments, port, kind, words) in [
        (&[no_hosts.as_str()][..], port.as_str(), StoreErrorKind::Permanent, "Host key verification failed"),
        (&["-oPubkeyAuthentication=no"], &port, StoreErrorKind::Denied, "Permission denied"),
        (&[], &free, StoreErrorKind::Retry, "Connection refused"),
        (&["-oNonsense=1"], &port, StoreErrorKind::Permanent, "Bad configuration option"),
    ] {
        let (failed, text) = tell(with(arguments, port).stat(&ObjectName::CONFIG).unwrap_err());
        assert_eq!(failed, kind, "{text}");
        assert!(text.contains(words), "{text}");
    }
}

/// A login that prints something and ends: whether that was before it was greeted or after, what it printed is the reason.
#[test]
fn a_login_that_prints_something_is_told() {
    let greeted = store_by("/x", || {
        let mut command = Command::new("sh");
        command.args(["-c", "head -c 1 >/dev/null; echo Welcome to this machine! Enjoy."]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    });
    let not_greeted = SftpStore::new(
        "/x",
        "sftp:test".into(),
        0,
        Box::new(|| {
            let reader = Box::new(&b"Welcome to this machine! Enjoy.\n"[..]);
            Ok(Pipe { reader, writer: Box::new(Deaf), carrier: Box::new(Deaf) })
        }),
    );
    for store in [greeted, not_greeted] {
        let (failed, text) = tell(store.stat(&ObjectName::CONFIG).unwrap_err());
        assert_eq!(failed, StoreErrorKind::Permanent, "{text}");
    }
}

/// Somebody who has hung up.
struct Deaf;

impl Write for Deaf {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Carrier for Deaf {
    fn end(&mut self) {}
    fn last_words(&mut self) -> String {
        String::new()
    }
}

/// The connection is lost in the middle: that request fails for a passing reason, and the next one connects again.
#[test]
fn a_lost_connection_is_made_anew() {
    let server = Arc::new(SshServer::start());
    let pids = Arc::new(Mutex::new(Vec::<u32>::new()));
    let root = server.data().join("repo").display().to_string();
    let (of_ssh, noted) = (Arc::clone(&server), Arc::clone(&pids));
    let store = SftpStore::new(
        &root,
        "sftp:test".into(),
        0,
        Box::new(move || {
            let mut child = of_ssh.ssh().spawn()?;
            noted.lock().unwrap().push(child.id());
            let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
            Ok(Pipe { reader: Box::new(reader), writer: Box::new(writer), carrier: Box::new(Ssh(child)) })
        }),
    );
    store.create().map_err(tell).unwrap();
    let content = vec![7; 60 << 20];
    let name = object(Place::Data, &content);
    let failed = std::thread::scope(|scope| {
        let writing = scope.spawn(|| store.put(&name, &content));
        let temporary = || {
            let output = Command::new("find").arg(&root).args(["-name", ".tmp-*", "-size", "+1M"]).output().unwrap();
            !output.stdout.is_empty()
        };
        while !temporary() && !writing.is_finished() {
            std::thread::yield_now();
        }
        let pid = pids.lock().unwrap()[0].to_string();
        Command::new("kill").args(["-9", &pid]).status().unwrap();
        writing.join().unwrap()
    });
    assert!(failed.is_ok() || failed.as_ref().unwrap_err().kind == StoreErrorKind::Retry, "{failed:?}");
    match store.put(&name, &content) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.kind, StoreErrorKind::Exists, "{error}: {}", error.source),
    }
    let mut found = Vec::new();
    store.get(&name, ALL, &mut found).map_err(tell).unwrap();
    assert!(found == content);
    assert_eq!(pids.lock().unwrap().len(), 2);
}
