//! The store in buckets of S3 services, against real servers.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "also the helpers of a test may fail it and speak")]

#[path = "common/servers/mod.rs"]
mod servers;

use std::sync::atomic::{AtomicUsize, Ordering};

use repo_core::{
    error::{StoreError, StoreErrorKind},
    store::{
        ByteRange, ObjectName, Place, Store,
        opendal::{
            BucketStore,
            s3::{S3Credentials, S3Options},
        },
        testing::contract::{check_store, object},
        tls::TlsOptions,
    },
};
use servers::s3::{KEY, Kind, REGION, S3Server, SECRET};

const ALL: ByteRange = ByteRange::WholeUpTo { limit_bytes: u64::MAX };

fn options(server: &S3Server, prefix: &str) -> S3Options {
    S3Options {
        endpoint: Some(server.endpoint()),
        bucket: "bucket".into(),
        prefix: prefix.into(),
        region: REGION.into(),
        checksum: Some("crc32c".into()),
        credentials: keys(KEY, SECRET),
        ..S3Options::default()
    }
}

fn keys(key: &str, secret: &str) -> S3Credentials {
    S3Credentials::Keys { access_key_id: key.into(), secret_access_key: secret.into(), session_token: None }
}

fn tell(error: StoreError) -> (StoreErrorKind, String) {
    (error.kind, format!("{error}: {}", error.source))
}

fn keeps_the_contract(kind: Kind, change: fn(&mut S3Options)) {
    let server = S3Server::start(kind);
    let number = AtomicUsize::new(0);
    check_store(|| {
        let mut options = options(&server, &format!("repositories/{}", number.fetch_add(1, Ordering::Relaxed)));
        change(&mut options);
        Box::new(BucketStore::s3(&options).unwrap())
    });
}

#[test]
fn seaweed_keeps_the_contract() {
    keeps_the_contract(Kind::Seaweed, |_| ());
}

#[test]
fn moto_keeps_the_contract() {
    keeps_the_contract(Kind::Moto, |options| options.storage_class = Some("STANDARD_IA".into()));
}

/// A server that replaces what is there, conditions or not: the config is safe all the same, and nothing is lost.
#[test]
fn a_server_without_conditions() {
    let server = S3Server::start(Kind::Rclone);
    let store = BucketStore::s3(&options(&server, "a/b")).unwrap();
    store.create().map_err(tell).unwrap();
    store.put(&ObjectName::CONFIG, b"config").map_err(tell).unwrap();
    assert_eq!(store.put(&ObjectName::CONFIG, b"other").unwrap_err().kind, StoreErrorKind::Exists);
    for place in Place::HASHED {
        let name = object(place, b"content");
        store.put(&name, b"content").map_err(tell).unwrap();
        let mut found = Vec::new();
        store.get(&name, ByteRange::Suffix { length_bytes: 4 }, &mut found).map_err(tell).unwrap();
        assert_eq!(found, b"tent");
        let mut listed = Vec::new();
        store.list(place, &mut |info| listed.push((info.name, info.size_bytes))).map_err(tell).unwrap();
        assert_eq!(listed, [(name, 7)]);
        store.delete(&name).map_err(tell).unwrap();
        assert!(store.stat(&name).map_err(tell).unwrap().is_none());
    }
}

/// What is wrong is told as what it is, by every request, and never as "there is none".
#[test]
fn wrong_keys_wrong_bucket_and_no_server() {
    let server = S3Server::start(Kind::Seaweed);
    let right = options(&server, "repo");
    let gone = S3Options { endpoint: Some(format!("http://127.0.0.1:{}", servers::free_port())), ..right.clone() };
    let untrusted = S3Options { endpoint: Some(server.endpoint().replace("http", "https")), ..right.clone() };
    for (options, kind, words) in [
        (
            S3Options { credentials: keys(KEY, "wrong"), ..right.clone() },
            StoreErrorKind::Denied,
            "SignatureDoesNotMatch",
        ),
        (
            S3Options { credentials: keys("nobody", SECRET), ..right.clone() },
            StoreErrorKind::Denied,
            "InvalidAccessKeyId",
        ),
        (S3Options { bucket: "no-bucket".into(), ..right.clone() }, StoreErrorKind::Permanent, "NoSuchBucket"),
        (gone, StoreErrorKind::Retry, "refused"),
        (untrusted, StoreErrorKind::Permanent, "http://"),
    ] {
        let store = BucketStore::s3(&options).unwrap();
        for (number, done) in [
            store.get(&ObjectName::CONFIG, ALL, &mut Vec::new()),
            store.stat(&ObjectName::CONFIG).map(|_| ()),
            store.list(Place::Keys, &mut |_| ()),
            store.create(),
            store.put(&ObjectName::CONFIG, b"content"),
        ]
        .into_iter()
        .enumerate()
        {
            let Err(error) = done else { panic!("{number} of {options:?} succeeded") };
            let (failed, text) = tell(error);
            assert_eq!(failed, kind, "{number}: {text}");
            // A request without a body is answered without one.
            assert!(text.contains(words) || number == 1 || kind == StoreErrorKind::Denied, "{number}: {text}");
            assert!(!text.contains(SECRET) && !text.contains("wrong") && !text.contains("Signature="), "{text}");
        }
    }
    let store = BucketStore::s3(&right).unwrap();
    assert!(store.stat(&ObjectName::CONFIG).map_err(tell).unwrap().is_none());
    assert_eq!(store.get(&ObjectName::CONFIG, ALL, &mut Vec::new()).unwrap_err().kind, StoreErrorKind::NotFound);
    let bad = TlsOptions { authorities_pem: Some(b"x".to_vec()), ..TlsOptions::default() };
    assert!(BucketStore::s3(&S3Options { endpoint: Some("https://x".into()), tls: bad, ..right }).is_err());
}
