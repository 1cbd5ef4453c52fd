//! Credentials of S3 that expire while they are used: asked for once again, and then a clear stop.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "also the helpers of a test may fail it and speak")]

#[path = "common/servers/mod.rs"]
mod servers;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use repo_core::{
    error::{StoreError, StoreErrorKind},
    store::{
        ByteRange, ObjectName, Place, Store,
        opendal::{
            BucketStore,
            s3::{CredentialSource, S3Credentials, S3Options},
        },
        testing::contract::object,
    },
};
use servers::{
    proxy::{Fault, Proxy},
    s3::{Kind, REGION, S3Server, SECRET},
};

const ALL: ByteRange = ByteRange::WholeUpTo { limit_bytes: u64::MAX };

fn keys(id: &str) -> S3Credentials {
    let (access_key_id, session_token) = (id.to_owned(), Some("token".into()));
    S3Credentials::Keys { access_key_id, secret_access_key: SECRET.into(), session_token }
}

/// A store whose keys are refused from some request on, and a count of how often it asked for others. Every time it is told others,
/// of which only the last of `names` never expire.
fn store(
    server: &S3Server,
    names: &'static [&'static str],
    good: usize,
    code: &'static str,
) -> (BucketStore, Proxy, Arc<AtomicUsize>) {
    let answered = AtomicUsize::new(0);
    let proxy = Proxy::reading(server.port, move |_, head| {
        let is_old = !head.contains("Credential=lasting/");
        if is_old && answered.fetch_add(1, Ordering::SeqCst) >= good { Fault::Refuse(code) } else { Fault::None }
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let ask = move || Ok(keys(names[count.fetch_add(1, Ordering::SeqCst).min(names.len() - 1)]));
    let options = S3Options {
        endpoint: Some(format!("http://127.0.0.1:{}", proxy.port)),
        bucket: "bucket".into(),
        prefix: format!("{code}{good}"),
        region: REGION.into(),
        credentials: S3Credentials::Asked(CredentialSource::new(ask)),
        ..S3Options::default()
    };
    (BucketStore::s3(&options).unwrap(), proxy, asked)
}

/// Every kind of request, in an order in which each may be the first that is refused.
fn everything(store: &BucketStore) -> Result<(), StoreError> {
    let name = object(Place::Data, b"content");
    store.create()?;
    store.put(&name, b"content")?;
    let mut found = Vec::new();
    store.get(&name, ALL, &mut found)?;
    assert_eq!(found, b"content");
    store.get(&name, ByteRange::Exact { offset_bytes: 1, length_bytes: 2 }, &mut found)?;
    assert_eq!(found, b"on");
    assert_eq!(store.stat(&name)?.unwrap().size_bytes, 7);
    let mut listed = 0;
    store.list(Place::Data, &mut |_| listed += 1)?;
    assert_eq!(listed, 1);
    assert!(store.stat(&ObjectName::CONFIG)?.is_none());
    store.delete(&name)?;
    assert!(store.stat(&name)?.is_none());
    Ok(())
}

#[test]
fn wherever_they_expire_they_are_asked_for_again_once() {
    let server = S3Server::start(Kind::Moto);
    for code in ["ExpiredToken", "InvalidAccessKeyId"] {
        // Keys that were never right are not asked for again.
        for good in usize::from(code != "ExpiredToken")..12 {
            let (store, proxy, asked) = store(&server, &["passing", "lasting"], good, code);
            everything(&store).unwrap_or_else(|error| panic!("{code} after {good}: {error}: {}", error.source));
            let (requests, struck) = proxy.counts();
            let times = if struck == 0 { 1 } else { 2 };
            assert_eq!(asked.load(Ordering::SeqCst), times, "{code} after {good}: {struck} of {requests} refused");
            assert!(struck > 0 || good > 8, "{code} after {good}: {requests}");
        }
    }
}

#[test]
fn when_there_are_no_newer_ones_it_stops() {
    let server = S3Server::start(Kind::Moto);
    for (code, good) in [("ExpiredToken", 0), ("ExpiredToken", 3), ("InvalidAccessKeyId", 3)] {
        let (store, proxy, asked) = store(&server, &["passing"], good, code);
        let error = everything(&store).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Refresh, "{error}: {}", error.source);
        let text = error.source.to_string();
        assert!(text.contains("the credentials have expired") && text.contains(code), "{text}");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        // A request whose answer has no body is followed by one that has; both are tried twice.
        assert!(proxy.counts().1 <= 4, "{:?}", proxy.counts());
    }
    // Keys that are what they are are not asked for.
    let (store, _proxy, _) = store(&server, &["passing"], 0, "InvalidAccessKeyId");
    assert_eq!(everything(&store).unwrap_err().kind, StoreErrorKind::Denied);
}
