//! The store on restic REST servers, against the real ones.

#![cfg(feature = "rest")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "also the helpers of a test may fail it and speak")]

#[path = "common/servers/mod.rs"]
mod servers;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use repo_core::{
    error::{StoreError, StoreErrorKind},
    progress::Cancel,
    store::{
        ByteRange, ObjectName, Place, Store,
        flow::Flow,
        rest::{RestOptions, RestStore},
        retry::SystemPace,
        testing::contract::{check_store, check_store_that_shows_parts, object},
        throttle::Throttle,
        tls::TlsOptions,
    },
};
use servers::{
    free_port,
    rest::{How, Kind, RestServer},
};

const KINDS: [Kind; 2] = [Kind::RestServer, Kind::Rclone];
const ALL: ByteRange = ByteRange::WholeUpTo { limit_bytes: u64::MAX };

fn store(server: &RestServer, repository: &str) -> RestStore {
    let socket = server.socket.clone();
    RestStore::new(RestOptions { url: server.url(repository), socket, ..RestOptions::default() }).unwrap()
}

fn made(server: &RestServer) -> RestStore {
    let store = store(server, "repo");
    store.create().unwrap();
    store
}

fn tell(error: StoreError) -> (StoreErrorKind, String) {
    (error.kind, format!("{error}: {}", error.source))
}

fn keeps_the_contract(kind: Kind, socket: bool) {
    let server = RestServer::start(kind, How { socket, ..How::default() });
    let number = AtomicUsize::new(0);
    let make = || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        Box::new(store(&server, &format!("repositories/{number}"))) as Box<dyn Store>
    };
    match kind {
        Kind::RestServer => check_store(make),
        // Into a local folder it writes under the final name.
        Kind::Rclone => check_store_that_shows_parts(make),
    }
}

#[test]
fn rest_server_keeps_the_contract() {
    keeps_the_contract(Kind::RestServer, false);
}

#[test]
fn rclone_keeps_the_contract() {
    keeps_the_contract(Kind::Rclone, false);
}

#[test]
fn rest_server_at_a_socket_keeps_the_contract() {
    keeps_the_contract(Kind::RestServer, true);
}

#[test]
fn rclone_at_a_socket_keeps_the_contract() {
    keeps_the_contract(Kind::Rclone, true);
}

#[test]
fn append_only_servers_take_and_keep() {
    for kind in KINDS {
        let server = RestServer::start(kind, How { append_only: true, ..How::default() });
        let store = made(&server);
        for place in Place::HASHED {
            let name = object(place, b"content");
            store.put(&name, b"content").map_err(tell).unwrap();
            assert_eq!(store.put(&name, b"content").unwrap_err().kind, StoreErrorKind::Exists, "{kind:?}");
            if place == Place::Locks {
                store.delete(&name).map_err(tell).unwrap();
                store.delete(&name).map_err(tell).unwrap();
                continue;
            }
            let (failed, text) = tell(store.delete(&name).unwrap_err());
            assert_eq!(failed, StoreErrorKind::Denied, "{kind:?}: {text}");
            assert!(text.contains("append-only") && text.contains(&name.to_string()), "{text}");
            assert!(store.stat(&name).unwrap().is_some());
        }
        store.put(&ObjectName::CONFIG, b"config").unwrap();
        assert_eq!(store.put(&ObjectName::CONFIG, b"other").unwrap_err().kind, StoreErrorKind::Exists);
        assert_eq!(store.delete(&ObjectName::CONFIG).unwrap_err().kind, StoreErrorKind::Denied);
    }
}

#[test]
fn users_and_passwords() {
    for kind in KINDS {
        let server = RestServer::start(kind, How { user: Some(("me", "ge:heim/ä")), ..How::default() });
        let with = |user: Option<(&str, &str)>| {
            let user = user.map(|(user, password)| (user.to_owned(), password.into()));
            RestStore::new(RestOptions { url: server.url("repo"), user, ..RestOptions::default() }).unwrap()
        };
        let store = with(Some(("me", "ge:heim/ä")));
        store.create().map_err(tell).unwrap();
        store.put(&ObjectName::CONFIG, b"config").map_err(tell).unwrap();
        for user in [None, Some(("me", "wrong")), Some(("you", "ge:heim/ä"))] {
            let store = with(user);
            let large = vec![1; 500_000];
            // Never "there is none": somebody would make one.
            for done in [
                store.stat(&ObjectName::CONFIG).map(|_| ()),
                store.get(&ObjectName::CONFIG, ALL, &mut Vec::new()),
                store.list(Place::Keys, &mut |_| ()),
                store.create(),
                store.put(&object(Place::Data, &large), &large),
                store.delete(&object(Place::Locks, b"x")),
            ] {
                let (failed, text) = tell(done.unwrap_err());
                assert_eq!(failed, StoreErrorKind::Denied, "{text}");
                assert!(!text.contains("wrong") && text.contains("401 Unauthorized"), "{text}");
            }
        }
        assert!(
            !format!("{:?}", RestOptions { user: Some(("me".into(), "geheim".into())), ..Default::default() })
                .contains("geheim")
        );
    }
}

#[test]
fn certificates() {
    for kind in KINDS {
        let server = RestServer::start(kind, How { tls: true, ..How::default() });
        let other = tempfile::tempdir().unwrap();
        let with = |tls: TlsOptions| {
            RestStore::new(RestOptions { url: server.url("repo"), tls, ..RestOptions::default() }).unwrap()
        };
        let trusted = with(TlsOptions { authorities_pem: Some(server.certificate()), ..TlsOptions::default() });
        trusted.create().map_err(tell).unwrap();
        let content = vec![7; 3 << 20];
        let name = object(Place::Data, &content);
        trusted.put(&name, &content).map_err(tell).unwrap();
        let mut found = Vec::new();
        with(TlsOptions { insecure: true, ..TlsOptions::default() }).get(&name, ALL, &mut found).map_err(tell).unwrap();
        assert!(found == content);
        let (failed, text) = tell(with(TlsOptions::default()).stat(&name).unwrap_err());
        assert_eq!(failed, StoreErrorKind::Permanent, "{text}");
        assert!(text.contains("does not prove who it is"), "{text}");
        drop(other);
        // Talking past each other.
        let plain = RestOptions { url: server.url("repo").replace("https", "http"), ..RestOptions::default() };
        let (failed, text) = tell(RestStore::new(plain).unwrap().stat(&name).unwrap_err());
        assert_eq!(failed, StoreErrorKind::Permanent, "{text}");
    }
    let server = RestServer::start(Kind::Rclone, How::default());
    let url = server.url("repo").replace("http", "https");
    let (failed, text) =
        tell(RestStore::new(RestOptions { url, ..RestOptions::default() }).unwrap().create().unwrap_err());
    assert_eq!(failed, StoreErrorKind::Permanent, "{text}");
    assert!(text.contains("http://"), "{text}");
    for pem in [&b""[..], b"x", b"-----BEGIN CERTIFICATE-----\n"] {
        let tls = TlsOptions { authorities_pem: Some(pem.to_vec()), ..TlsOptions::default() };
        assert!(RestStore::new(RestOptions { url: server.url("repo"), tls, ..RestOptions::default() }).is_err());
        let tls = TlsOptions { client_pem: Some(pem.to_vec().into()), ..TlsOptions::default() };
        assert!(RestStore::new(RestOptions { url: server.url("repo"), tls, ..RestOptions::default() }).is_err());
    }
}

#[test]
fn a_full_store_is_told_from_one_that_is_busy() {
    let server = RestServer::start(Kind::RestServer, How { quota_bytes: Some(3 << 20), ..How::default() });
    let store = made(&server);
    for content in [vec![1; 4 << 20], vec![2; 40 << 20]] {
        let (failed, text) = tell(store.put(&object(Place::Data, &content), &content).unwrap_err());
        assert_eq!(failed, StoreErrorKind::NoSpace, "{text}");
    }
    store.put(&object(Place::Data, b"small"), b"small").unwrap();
}

#[test]
fn no_repository_is_told_from_no_server() {
    for kind in KINDS {
        let server = RestServer::start(kind, How::default());
        let store = store(&server, "nothing");
        assert!(store.stat(&ObjectName::CONFIG).map_err(tell).unwrap().is_none());
        assert_eq!(store.get(&ObjectName::CONFIG, ALL, &mut Vec::new()).unwrap_err().kind, StoreErrorKind::NotFound);
        let url = server.url("nothing");
        drop(server);
        let store = RestStore::new(RestOptions { url, ..RestOptions::default() }).unwrap();
        assert_eq!(store.stat(&ObjectName::CONFIG).unwrap_err().kind, StoreErrorKind::Retry);
    }
    for url in [format!("http://127.0.0.1:{}/", free_port()), "http://no-such-host.invalid/".to_owned()] {
        let store = RestStore::new(RestOptions { url, ..RestOptions::default() }).unwrap();
        let (failed, text) = tell(store.stat(&ObjectName::CONFIG).unwrap_err());
        assert_eq!(failed, StoreErrorKind::Retry, "{text}");
    }
    let gone = RestOptions {
        url: "http://localhost/".into(),
        socket: Some("/nonexistent/socket".into()),
        ..Default::default()
    };
    let (failed, text) = tell(RestStore::new(gone).unwrap().stat(&ObjectName::CONFIG).unwrap_err());
    assert_eq!(failed, StoreErrorKind::Permanent, "{text}");
}

/// A server whose disk fails must not look like one without a repository.
#[test]
fn a_broken_server_is_not_an_empty_one() {
    let server = RestServer::start(Kind::RestServer, How::default());
    let store = made(&server);
    store.put(&ObjectName::CONFIG, b"config").unwrap();
    // A loop of links: the system fails to look, for root as well.
    for place in ["config", "keys"] {
        let path = server.data("repo").join(place);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        std::os::unix::fs::symlink(place, &path).unwrap();
    }
    let _ = fs::set_permissions(server.data("repo"), fs::Permissions::from_mode(0o700));
    for done in [
        store.stat(&ObjectName::CONFIG).map(|_| ()),
        store.get(&ObjectName::CONFIG, ALL, &mut Vec::new()),
        store.list(Place::Keys, &mut |_| ()),
    ] {
        let (failed, text) = tell(done.unwrap_err());
        assert_eq!(failed, StoreErrorKind::Retry, "{text}");
    }
}

/// Limits of transfer hold for what goes over all connections together, in small pieces.
#[test]
fn transfers_keep_to_their_limits() {
    let server = RestServer::start(Kind::RestServer, How::default());
    made(&server);
    let rate = std::num::NonZeroU64::new(1 << 20);
    let pace = Arc::new(SystemPace::new(Cancel::default()));
    let flow = Flow { throttle: Some(Arc::new(Throttle::new(rate, rate, pace))), ..Flow::default() };
    let store = RestStore::new(RestOptions { url: server.url("repo"), flow, ..RestOptions::default() }).unwrap();
    let contents: Vec<Vec<u8>> = (0..3_u8).map(|number| vec![number; 700 << 10]).collect();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for content in &contents {
            scope.spawn(|| store.put(&object(Place::Data, content), content).unwrap());
        }
    });
    let sent = begin.elapsed();
    // 2.05 MiB at a MiB a second; the last piece, of up to 256 KiB, begins at the end of its slot.
    assert!(sent >= Duration::from_millis(1_700), "{sent:?}");
    let begin = Instant::now();
    let mut bytes = Vec::new();
    for content in &contents {
        store.get(&object(Place::Data, content), ALL, &mut bytes).unwrap();
        assert_eq!(&bytes, content);
    }
    let fetched = begin.elapsed();
    assert!(fetched >= Duration::from_millis(1_700), "{fetched:?}");
}
