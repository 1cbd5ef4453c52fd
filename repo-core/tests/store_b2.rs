//! The store in buckets of Backblaze B2, against b2sdk's simulator of it.

#![cfg(feature = "b2")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "also the helpers of a test may fail it and speak")]

#[path = "common/servers/mod.rs"]
mod servers;

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use repo_core::{
    error::{StoreError, StoreErrorKind},
    progress::Cancel,
    runtime::{Runtime, SystemRuntime},
    store::{
        ByteRange, ObjectName, Place, Store,
        b2::{B2Options, B2Store},
        flow::Flow,
        retry::SystemPace,
        secret::Secret,
        testing::contract::{check_store, object},
        throttle::Throttle,
        tls::TlsOptions,
    },
};
use serde_json::{Value, json};
use servers::{
    b2::{B2Server, KEY, KEY_ID},
    free_port, retrying,
};

const ALL: ByteRange = ByteRange::WholeUpTo { limit_bytes: u64::MAX };

/// What a repository needs.
const RIGHTS: [&str; 4] = ["listFiles", "readFiles", "writeFiles", "deleteFiles"];

fn options(server: &B2Server, prefix: &str) -> B2Options {
    B2Options {
        authority: Some(server.url()),
        key_id: KEY_ID.to_owned(),
        key: Secret::from(KEY),
        bucket: "bucket".to_owned(),
        prefix: prefix.to_owned(),
        connections: 0,
        tls: TlsOptions::default(),
        system_proxy: false,
        flow: Flow::default(),
    }
}

fn store(server: &B2Server) -> B2Store {
    B2Store::new(options(server, "repo")).unwrap()
}

fn with_key(server: &B2Server, key: Value) -> B2Store {
    let (key_id, key) = server.key(key);
    B2Store::new(B2Options { key_id, key: key.into(), ..options(server, "repo") }).unwrap()
}

fn tell(error: StoreError) -> (StoreErrorKind, String) {
    (error.kind, format!("{error}: {}", error.source))
}

fn read(store: &dyn Store, name: &ObjectName) -> Result<Vec<u8>, (StoreErrorKind, String)> {
    let mut bytes = Vec::new();
    store.get(name, ALL, &mut bytes).map(|()| bytes).map_err(tell)
}

fn listed(store: &dyn Store, place: Place) -> Vec<ObjectName> {
    let mut names = Vec::new();
    store.list(place, &mut |info| names.push(info.name)).map_err(tell).unwrap();
    names
}

/// Every request that there is. None may answer "there is none", for then somebody would make a repository.
fn every_request(store: &dyn Store) -> Vec<(&'static str, Result<(), StoreError>)> {
    let name = object(Place::Locks, b"content");
    vec![
        ("create", store.create()),
        ("stat", store.stat(&ObjectName::CONFIG).map(|_| ())),
        ("get", store.get(&ObjectName::CONFIG, ALL, &mut Vec::new())),
        ("list", store.list(Place::Keys, &mut |_| ())),
        ("put", store.put(&name, b"content")),
        ("delete", store.delete(&name)),
    ]
}

#[test]
fn keeps_the_contract() {
    let server = B2Server::start();
    let number = AtomicUsize::new(0);
    check_store(|| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        Box::new(B2Store::new(options(&server, &format!("reposi täries/{number}"))).unwrap())
    });
    // What was deleted has left nothing behind.
    assert!(server.versions("").iter().all(|(name, action)| !name.contains("/locks/") || action == "upload"));
}

#[test]
fn a_bucket_without_a_prefix() {
    let server = B2Server::start();
    let store = B2Store::new(options(&server, "")).unwrap();
    assert_eq!(store.location(), "b2:bucket");
    store.put(&ObjectName::CONFIG, b"config").map_err(tell).unwrap();
    let name = object(Place::Data, b"content");
    store.put(&name, b"content").map_err(tell).unwrap();
    assert_eq!(listed(&store, Place::Data), [name]);
    assert_eq!(server.versions("").len(), 2);
    assert_eq!(server.versions("data/").len(), 1);
}

#[test]
fn names_that_are_not_ours_are_passed_over() {
    let server = B2Server::start();
    let store = store(&server);
    let name = object(Place::Data, b"content");
    store.put(&name, b"content").map_err(tell).unwrap();
    for stray in ["repo/data/x", "repo/data/00/ab", "repo2/data/00/ab", "repo/database", &format!("repo/{name}x")] {
        server.control(&json!({ "upload": { "name": stray, "text": "stray" } }));
    }
    assert_eq!(listed(&store, Place::Data), [name]);
    let before = server.versions("").len();
    store.delete(&name).map_err(tell).unwrap();
    assert_eq!(server.versions("").len(), before - 1, "what begins with the same name stays");
}

/// What an object costs: one look and one upload, with an address for uploads that serves all.
#[test]
fn requests_are_few() {
    let server = B2Server::start();
    let store = store(&server);
    let contents: Vec<[u8; 2]> = (0..1_100_u16).map(u16::to_le_bytes).collect();
    for content in &contents {
        store.put(&object(Place::Data, content), content).map_err(tell).unwrap();
    }
    let counts = server.counts();
    assert_eq!(["b2_authorize_account", "b2_list_buckets", "b2_get_upload_url"].map(&counts), [1, 1, 1]);
    assert_eq!(["head", "b2_upload_file", "b2_list_file_names"].map(&counts), [1_100, 1_100, 0]);
    assert_eq!(listed(&store, Place::Data).len(), contents.len());
    assert_eq!(server.counts()("b2_list_file_names"), 2, "a page has a thousand");
    let name = object(Place::Data, &contents[0]);
    let parts = [
        ByteRange::Suffix { length_bytes: 1 },
        ByteRange::Exact { offset_bytes: 0, length_bytes: 2 },
        ByteRange::WholeUpTo { limit_bytes: 2 },
    ];
    for part in parts {
        store.get(&name, part, &mut Vec::new()).map_err(tell).unwrap();
    }
    let counts = server.counts();
    assert_eq!((counts("b2_download_file_by_name"), counts("head")), (3, 0), "a part is one request");
    store.delete(&name).map_err(tell).unwrap();
    let counts = server.counts();
    assert_eq!((counts("b2_list_file_versions"), counts("b2_delete_file_version")), (1, 1));
    let modified = store.stat(&object(Place::Data, &contents[1])).unwrap().unwrap().modified.unwrap();
    assert!((0..600).contains(&(SystemRuntime.now().seconds() - modified.seconds())));
}

#[test]
fn deleting_leaves_nothing_behind() {
    let server = B2Server::start();
    let store = store(&server);
    let name = object(Place::Snapshots, b"content");
    let path = format!("repo/{name}");
    let upload = json!({ "upload": { "name": path, "text": "content" } });
    let hide = json!({ "hide": path });
    for history in [&[&upload][..], &[&upload, &upload], &[&upload, &hide], &[&hide], &[&upload, &hide, &upload, &hide]]
    {
        for what in history {
            server.control(what);
        }
        assert_eq!(server.versions("repo/").len(), history.len());
        let is_there = **history.last().unwrap() != hide;
        assert_eq!(store.stat(&name).unwrap().is_some(), is_there, "{history:?}");
        assert_eq!(listed(&store, Place::Snapshots).len(), usize::from(is_there));
        match read(&store, &name) {
            Ok(bytes) => assert!(is_there && bytes == b"content"),
            Err((kind, _)) => assert!(!is_there && kind == StoreErrorKind::NotFound),
        }
        store.delete(&name).map_err(tell).unwrap();
        assert_eq!(server.versions("repo/"), [], "{history:?}");
        store.delete(&name).map_err(tell).unwrap();
    }
    // What somebody has hidden can be stored again, and then deleted for good.
    server.control(&upload);
    server.control(&hide);
    store.put(&name, b"content").map_err(tell).unwrap();
    assert_eq!(store.put(&name, b"content").unwrap_err().kind, StoreErrorKind::Exists);
    assert_eq!(server.versions("repo/").len(), 3);
    store.delete(&name).map_err(tell).unwrap();
    assert_eq!(server.versions("repo/"), []);
}

/// An interrupted delete must not bring to light what was hidden.
#[test]
fn the_oldest_version_goes_first() {
    let server = B2Server::start();
    let store = store(&server);
    let name = object(Place::Locks, b"content");
    let path = format!("repo/{name}");
    server.control(&json!({ "upload": { "name": path, "text": "content" } }));
    server.control(&json!({ "hide": path }));
    server.fail(json!({ "match": "b2_delete_file_version", "skip": 1, "status": 503 }));
    assert_eq!(store.delete(&name).unwrap_err().kind, StoreErrorKind::Retry);
    assert_eq!(server.versions("repo/"), [(path, "hide".to_owned())]);
    assert!(store.stat(&name).unwrap().is_none());
    store.delete(&name).map_err(tell).unwrap();
    assert_eq!(server.versions("repo/"), []);
}

#[test]
fn more_versions_than_a_page_has() {
    let server = B2Server::start();
    let store = store(&server);
    let name = object(Place::Locks, b"content");
    let hide = json!({ "hide": format!("repo/{name}") });
    for _ in 0..1_050 {
        server.control(&hide);
    }
    store.delete(&name).map_err(tell).unwrap();
    assert_eq!(server.versions("repo/"), []);
}

/// After a lost answer the object is there, and perhaps twice; either way one delete is enough.
#[test]
fn lost_answers_to_uploads() {
    let server = B2Server::start();
    let name = object(Place::Data, b"content");
    for how in ["lost", "cut"] {
        let store = retrying(store(&server));
        server.fail(json!({ "match": "b2_upload_file", "how": how, "count": 1 }));
        store.put(&name, b"content").map_err(tell).unwrap();
        assert_eq!(server.versions("repo/").len(), 1, "it is found, and not sent again");
        assert_eq!(read(&store, &name).unwrap(), b"content");
        // Two clients that both saw that there is none.
        server.control(&json!({ "upload": { "name": format!("repo/{name}"), "text": "content" } }));
        assert_eq!(listed(&store, Place::Data), [name]);
        store.delete(&name).map_err(tell).unwrap();
        assert_eq!(server.versions("repo/"), []);
    }
}

/// Whatever goes wrong at an address for uploads, the next attempt goes to another.
#[test]
fn an_address_that_fails_is_thrown_away() {
    let server = B2Server::start();
    let store = store(&server);
    let mut number = 0_u32;
    let mut put = || {
        number += 1;
        let content = number.to_le_bytes();
        store.put(&object(Place::Data, &content), &content).map_err(tell)
    };
    put().unwrap();
    put().unwrap();
    assert_eq!(server.counts()("b2_get_upload_url"), 1);
    for fault in [
        json!({ "status": 503, "code": "service_unavailable", "message": "no tomes available" }),
        json!({ "status": 500, "code": "internal_error" }),
        json!({ "status": 501 }),
        json!({ "status": 408, "code": "request_timeout" }),
        json!({ "status": 429, "code": "too_many_requests" }),
        json!({ "status": 401, "code": "expired_auth_token" }),
        json!({ "status": 401, "code": "bad_auth_token" }),
        json!({ "status": 400, "code": "auth_token_limit" }),
        json!({ "status": 400, "code": "bad_request", "message": "Sha1 did not match data received" }),
        json!({ "how": "lost" }),
        json!({ "how": "cut" }),
    ] {
        let mut told = fault.clone();
        told["match"] = json!("b2_upload_file");
        server.fail(told);
        let (kind, text) = put().unwrap_err();
        assert_eq!(kind, StoreErrorKind::Retry, "{fault}: {text}");
        put().unwrap();
        put().unwrap();
        assert_eq!(server.counts()("b2_get_upload_url"), 1, "{fault}");
    }
    // The temporary kind, so that it ends well where something tries again.
    let store = retrying(self::store(&server));
    server.fail(json!({ "match": "b2_upload_file", "status": 503, "count": 5 }));
    store.put(&object(Place::Data, b"content"), b"content").map_err(tell).unwrap();
    assert_eq!(server.counts()("b2_get_upload_url"), 6);
}

/// An address is for one upload at a time: the server refuses a second one.
#[test]
fn threads_have_addresses_of_their_own() {
    const THREADS: u8 = 6;
    let server = B2Server::start();
    let store = store(&server);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for number in 0..30_u8 {
                    let content = [thread, number].repeat(20_000);
                    store.put(&object(Place::Data, &content), &content).map_err(tell).unwrap();
                }
            });
        }
    });
    assert_eq!(listed(&store, Place::Data).len(), usize::from(THREADS) * 30);
    let counts = server.counts();
    assert!((1..=u64::from(THREADS)).contains(&counts("b2_get_upload_url")), "{}", counts("b2_get_upload_url"));
    assert_eq!(counts("b2_authorize_account"), 1);
}

/// A request, and what it is.
type Request<'a> = (&'a str, Box<dyn Fn() + Sync + 'a>);

/// Every request goes on with a new token, which all threads share.
#[test]
fn tokens_expire() {
    const THREADS: usize = 8;
    let server = B2Server::start();
    let store = store(&server);
    let name = object(Place::Keys, b"content");
    store.put(&name, b"content").map_err(tell).unwrap();
    let requests: [Request<'_>; 5] = [
        ("stat", Box::new(|| assert!(store.stat(&name).map_err(tell).unwrap().is_some()))),
        ("get", Box::new(|| assert_eq!(read(&store, &name).unwrap(), b"content"))),
        ("list", Box::new(|| assert_eq!(listed(&store, Place::Keys), [name]))),
        ("delete", Box::new(|| store.delete(&object(Place::Locks, b"x")).map_err(tell).unwrap())),
        ("absent", Box::new(|| assert!(store.stat(&ObjectName::CONFIG).map_err(tell).unwrap().is_none()))),
    ];
    for (what, request) in &requests {
        server.control(&json!({ "expire": true }));
        let _ = server.counts();
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    request();
                });
            }
        });
        let counts = server.counts();
        assert_eq!(counts("b2_authorize_account"), 1, "{what}");
        assert_eq!(counts("b2_list_buckets"), 0, "the bucket is known");
    }
    drop(requests);
    // An upload's own token has expired as well: the next attempt gets another address with another token.
    server.control(&json!({ "expire": true }));
    let store = retrying(store);
    let content = object(Place::Data, b"more");
    store.put(&content, b"more").map_err(tell).unwrap();
    let counts = server.counts();
    assert_eq!((counts("b2_authorize_account"), counts("b2_get_upload_url")), (1, 1));
    // And again and again, in the middle of much.
    for round in 0..10_u8 {
        let contents: Vec<Vec<u8>> = (0..40_u8).map(|number| [round, number].repeat(1000)).collect();
        server.fail(json!({ "match": "", "skip": 11 * usize::from(round), "how": "expire" }));
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some(content) = contents.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let name = object(Place::Index, content);
                        store.put(&name, content).map_err(tell).unwrap();
                        assert_eq!(&read(&store, &name).unwrap(), content);
                    }
                });
            }
        });
        assert_eq!(server.counts()("b2_authorize_account"), 1, "round {round}");
    }
    assert_eq!(listed(&store, Place::Index).len(), 400);
}

/// A token that is refused as soon as it was given is an end, not a loop.
#[test]
fn tokens_that_are_never_good() {
    let server = B2Server::start();
    for (code, kind) in [("expired_auth_token", StoreErrorKind::Refresh), ("bad_auth_token", StoreErrorKind::Denied)] {
        let fault = |function: &str| json!({ "match": function, "status": 401, "code": code, "count": 1000 });
        let faults = ["head", "b2_download", "b2_list_file"].map(fault);
        server.control(&json!({ "faults": faults }));
        for (what, done) in every_request(&store(&server)).into_iter().skip(1) {
            let (failed, text) = tell(done.unwrap_err());
            assert_eq!(failed, kind, "{what}: {text}");
            assert!(text.contains(code), "{what}: {text}");
        }
        let counts = server.counts();
        assert!(counts("b2_authorize_account") <= 8, "{}", counts("b2_authorize_account"));
    }
}

#[test]
fn wrong_keys() {
    let server = B2Server::start();
    for (key_id, key) in [(KEY_ID, "geheim"), ("nobody", KEY), ("", "")] {
        let store = B2Store::new(B2Options { key_id: key_id.into(), key: key.into(), ..options(&server, "repo") });
        for (what, done) in every_request(&store.unwrap()) {
            let (kind, text) = tell(done.unwrap_err());
            assert_eq!(kind, StoreErrorKind::Denied, "{what}: {text}");
            assert!(text.contains("application key") && text.contains("unauthorized"), "{what}: {text}");
            assert!(!text.contains("geheim") && !text.contains(KEY), "{what}: {text}");
        }
    }
    assert!(!format!("{:?}", options(&server, "repo")).contains(KEY));
}

#[test]
fn keys_for_one_bucket_or_some_names() {
    let server = B2Server::start();
    server.control(&json!({ "make_bucket": "other" }));
    server.control(&json!({ "make_bucket": "third" }));
    // Without the right to list buckets: its own ones are told of.
    for key in [
        json!({ "capabilities": RIGHTS, "buckets": ["bucket"] }),
        json!({ "capabilities": RIGHTS, "buckets": ["other", "bucket"] }),
        json!({ "capabilities": RIGHTS, "buckets": ["bucket"], "prefix": "repo/" }),
        json!({ "capabilities": RIGHTS, "buckets": ["bucket"], "prefix": "re" }),
    ] {
        let store = with_key(&server, key);
        store.create().map_err(tell).unwrap();
        let name = object(Place::Data, b"content");
        store.put(&name, b"content").map_err(tell).unwrap();
        assert_eq!(listed(&store, Place::Data), [name]);
        assert_eq!(read(&store, &name).unwrap(), b"content");
        store.delete(&name).map_err(tell).unwrap();
        assert!(store.stat(&ObjectName::CONFIG).map_err(tell).unwrap().is_none());
    }
    assert_eq!(server.counts()("b2_list_buckets"), 0);
    let all: Vec<&str> = RIGHTS.into_iter().chain(["listBuckets"]).collect();
    for (key, kind, words) in [
        (json!({ "capabilities": all, "buckets": ["other"] }), StoreErrorKind::Denied, "only for the bucket other"),
        (json!({ "capabilities": all, "buckets": ["bucket"], "prefix": "x/" }), StoreErrorKind::Denied, "\"x/\""),
        (
            json!({ "capabilities": all, "buckets": ["bucket"], "prefix": "repo/x" }),
            StoreErrorKind::Denied,
            "\"repo/x\"",
        ),
        (json!({ "capabilities": RIGHTS }), StoreErrorKind::Denied, "\"listBuckets\""),
    ] {
        for (what, done) in every_request(&with_key(&server, key.clone())) {
            let (failed, text) = tell(done.unwrap_err());
            assert_eq!(failed, kind, "{key} {what}: {text}");
            assert!(text.contains(words), "{key} {what}: {text}");
        }
    }
}

#[test]
fn rights_that_are_missing_are_named() {
    let server = B2Server::start();
    // Which requests each right is needed for.
    for (missing, needed) in [
        ("listFiles", &["create", "stat", "list", "delete"][..]),
        ("readFiles", &["create", "stat", "get", "put"]),
        ("writeFiles", &["create", "put"]),
        ("deleteFiles", &["create", "delete"]),
    ] {
        let rights: Vec<&str> = RIGHTS.into_iter().filter(|right| *right != missing).collect();
        let store = with_key(&server, json!({ "capabilities": rights, "buckets": ["bucket"] }));
        for (what, done) in every_request(&store) {
            match done {
                Err(error) if needed.contains(&what) => {
                    let (kind, text) = tell(error);
                    assert_eq!(kind, StoreErrorKind::Denied, "{what}: {text}");
                    assert!(text.ends_with(&format!("the application key lacks the right \"{missing}\"")), "{text}");
                }
                Err(error) => assert_eq!(error.kind, StoreErrorKind::NotFound, "{missing} {what}"),
                Ok(()) => assert!(!needed.contains(&what), "{missing} {what}"),
            }
        }
        server.control(&json!({ "upload": { "name": "repo/config", "text": "" } }));
        store.delete(&ObjectName::CONFIG).ok();
        B2Store::new(options(&server, "repo")).unwrap().delete(&ObjectName::CONFIG).unwrap();
        store_without_trace(&server);
    }
}

fn store_without_trace(server: &B2Server) {
    store(server).delete(&object(Place::Locks, b"content")).map_err(tell).unwrap();
    assert_eq!(server.versions("repo/"), []);
}

#[test]
fn no_bucket_is_not_no_repository() {
    let server = B2Server::start();
    let missing = B2Store::new(B2Options { bucket: "nothing".into(), ..options(&server, "repo") }).unwrap();
    for (what, done) in every_request(&missing) {
        let (kind, text) = tell(done.unwrap_err());
        assert_eq!(kind, StoreErrorKind::Permanent, "{what}: {text}");
        assert!(text.contains("there is no bucket \"nothing\""), "{what}: {text}");
    }
    // One that goes while we are at it.
    server.control(&json!({ "make_bucket": "gone" }));
    let gone = B2Store::new(B2Options { bucket: "gone".into(), ..options(&server, "repo") }).unwrap();
    assert!(gone.stat(&ObjectName::CONFIG).map_err(tell).unwrap().is_none());
    let (key_id, key) = server.key(json!({ "capabilities": RIGHTS, "buckets": ["gone"] }));
    server.control(&json!({ "delete_bucket": "gone" }));
    for (what, done) in every_request(&gone).into_iter().skip(1) {
        let (kind, text) = tell(done.unwrap_err());
        assert_eq!(kind, StoreErrorKind::Permanent, "{what}: {text}");
        assert!(text.contains("there is no bucket"), "{what}: {text}");
    }
    let bucket = "gone".into();
    let of_key = B2Store::new(B2Options { bucket, key_id, key: key.into(), ..options(&server, "repo") }).unwrap();
    for (what, done) in every_request(&of_key) {
        let (kind, text) = tell(done.unwrap_err());
        assert_eq!(kind, StoreErrorKind::Permanent, "{what}: {text}");
        assert!(text.contains("there is no bucket any more"), "{what}: {text}");
    }
}

#[test]
fn caps_are_a_clear_stop() {
    let server = B2Server::start();
    let name = object(Place::Data, b"content");
    for (function, code, kind, words) in [
        ("b2_upload_file", "storage_cap_exceeded", StoreErrorKind::NoSpace, "cap on storage"),
        ("b2_upload_file", "cap_exceeded", StoreErrorKind::NoSpace, "cap on storage"),
        ("b2_get_upload_url", "storage_cap_exceeded", StoreErrorKind::NoSpace, "cap on storage"),
        ("b2_list_file_names", "transaction_cap_exceeded", StoreErrorKind::Denied, "cap on transactions"),
        ("b2_download", "download_cap_exceeded", StoreErrorKind::Denied, "cap on downloads"),
        ("", "transaction_cap_exceeded", StoreErrorKind::Denied, "cap on transactions"),
    ] {
        let store = store(&server);
        server
            .fail(json!({ "match": function, "status": 403, "code": code, "message": "Cap exceeded.", "count": 1000 }));
        let done = match function {
            "b2_list_file_names" => store.list(Place::Data, &mut |_| ()),
            "b2_download" => store.get(&name, ALL, &mut Vec::new()),
            "" => store.stat(&name).map(|_| ()), // also where the first answer has no words
            _ => store.put(&name, b"content"),
        };
        let (failed, text) = tell(done.unwrap_err());
        assert_eq!(failed, kind, "{function} {code}: {text}");
        assert!(text.contains(words) && text.contains(code), "{text}");
    }
}

/// A server in trouble is one to try again, and never one without a repository.
#[test]
fn trouble_is_told_from_absence() {
    let server = B2Server::start();
    for status in [429, 500, 502, 503, 504] {
        server.fail(json!({ "match": "", "status": status, "count": 1000 }));
        for (what, done) in every_request(&store(&server)) {
            let (kind, text) = tell(done.unwrap_err());
            assert_eq!(kind, StoreErrorKind::Retry, "{what}: {text}");
            assert!(text.contains(&status.to_string()), "{what}: {text}");
        }
    }
    server.control(&json!({ "faults": [] }));
    let opened = store(&server);
    opened.create().map_err(tell).unwrap();
    server.fail(json!({ "match": "", "status": 503, "count": 1000 }));
    for (what, done) in every_request(&opened).into_iter().skip(1) {
        let (kind, text) = tell(done.unwrap_err());
        assert_eq!(kind, StoreErrorKind::Retry, "{what}: {text}");
    }
    let gone = B2Options { authority: Some(format!("http://127.0.0.1:{}", free_port())), ..options(&server, "repo") };
    for (what, done) in every_request(&B2Store::new(gone).unwrap()) {
        let (kind, text) = tell(done.unwrap_err());
        assert_eq!(kind, StoreErrorKind::Retry, "{what}: {text}");
    }
    for authority in ["", "api.backblazeb2.com", "ftp://x"] {
        let options = B2Options { authority: Some(authority.into()), ..options(&server, "repo") };
        assert!(B2Store::new(options).is_err(), "{authority}");
    }
}

/// Answers that end before their end are not taken for whole ones.
#[test]
fn answers_that_are_cut() {
    let server = B2Server::start();
    let store = store(&server);
    let content = vec![7; 300_000];
    let name = object(Place::Data, &content);
    store.put(&name, &content).map_err(tell).unwrap();
    for how in ["cut", "lost"] {
        for function in ["b2_download", "b2_list_file_names", "b2_list_file_versions"] {
            server.fail(json!({ "match": function, "how": how }));
            let done = match function {
                "b2_download" => read(&store, &name).map(|_| ()),
                "b2_list_file_names" => store.list(Place::Data, &mut |_| ()).map_err(tell),
                _ => store.delete(&name).map_err(tell),
            };
            let (kind, text) = done.unwrap_err();
            assert_eq!(kind, StoreErrorKind::Retry, "{function} {how}: {text}");
        }
    }
    assert_eq!(read(&store, &name).unwrap(), content);
    // A deletion whose answer is lost was one; the next attempt finds nothing to do.
    let store = retrying(store);
    server.fail(json!({ "match": "b2_delete_file_version", "how": "lost" }));
    store.delete(&name).map_err(tell).unwrap();
    assert_eq!(server.versions("repo/"), []);
}

/// Limits of transfer hold for what goes over all connections together, in small pieces.
#[test]
fn transfers_keep_to_their_limits() {
    let server = B2Server::start();
    let rate = std::num::NonZeroU64::new(1 << 20);
    let pace = Arc::new(SystemPace::new(Cancel::default()));
    let throttle = Some(Arc::new(Throttle::new(rate, rate, pace)));
    let store =
        B2Store::new(B2Options { flow: Flow { throttle, ..Flow::default() }, ..options(&server, "repo") }).unwrap();
    let contents: Vec<Vec<u8>> = (0..3_u8).map(|number| vec![number; 700 << 10]).collect();
    let begin = Instant::now();
    thread::scope(|scope| {
        for content in &contents {
            scope.spawn(|| store.put(&object(Place::Data, content), content).map_err(tell).unwrap());
        }
    });
    let sent = begin.elapsed();
    // 2.05 MiB at a MiB a second; the last piece, of up to 256 KiB, begins at the end of its slot.
    assert!(sent >= Duration::from_millis(1_700), "{sent:?}");
    let begin = Instant::now();
    for content in &contents {
        assert_eq!(&read(&store, &object(Place::Data, content)).unwrap(), content);
    }
    let fetched = begin.elapsed();
    assert!(fetched >= Duration::from_millis(1_700), "{fetched:?}");
}
