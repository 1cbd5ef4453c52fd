//! Stores at other services that `OpenDAL` knows, against real servers.

#![cfg(any(feature = "opendal-webdav", feature = "opendal-fs"))]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "also the helpers of a test may fail it and speak")]

#[path = "common/servers/mod.rs"]
mod servers;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use repo_core::{
    error::{StoreError, StoreErrorKind},
    store::{
        ByteRange, ObjectName, Place, Store,
        opendal::service::{ServiceOptions, open},
        secret::Secret,
        testing::contract::{check_store, object},
    },
};
use servers::retrying;
use servers::webdav::{PASSWORD, USER, WebdavServer};

const ALL: ByteRange = ByteRange::WholeUpTo { limit_bytes: u64::MAX };

fn tell(error: StoreError) -> (StoreErrorKind, String) {
    (error.kind, format!("{error}: {}", error.source))
}

fn webdav(server: &WebdavServer, below: &str, password: &str) -> Box<dyn Store> {
    let settings = [("username", USER), ("password", password)];
    let settings = settings.map(|(name, value)| (name.to_owned(), Secret::from(value)));
    let root = format!("{}/{below}", server.endpoint());
    open(&ServiceOptions { scheme: "webdav".into(), root, settings: settings.into(), ..ServiceOptions::default() })
        .unwrap()
}

/// Names of temporary files below a folder.
fn temporary(folder: &Path) -> String {
    let output = std::process::Command::new("find").arg(folder).args(["-name", ".tmp-*"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[cfg(feature = "opendal-webdav")]
fn webdav_keeps_the_contract() {
    let server = WebdavServer::start();
    let number = AtomicUsize::new(0);
    // For a moment, what several write to at once is locked.
    check_store(|| {
        Box::new(retrying(webdav(&server, &format!("a b/c{}", number.fetch_add(1, Ordering::Relaxed)), PASSWORD)))
    });
    assert_eq!(temporary(&server.data()), "");
}

/// A folder that is not there is not made by who writes, and not taken for an empty one by who reads.
#[test]
#[cfg(feature = "opendal-webdav")]
fn webdav_that_is_not_mounted() {
    let server = WebdavServer::start();
    let store = webdav(&server, "not/mounted", PASSWORD);
    let name = object(Place::Data, b"content");
    assert_eq!(store.get(&ObjectName::CONFIG, ALL, &mut Vec::new()).unwrap_err().kind, StoreErrorKind::NotFound);
    assert!(store.stat(&ObjectName::CONFIG).map_err(tell).unwrap().is_none());
    assert_eq!(store.list(Place::Data, &mut |_| ()).unwrap_err().kind, StoreErrorKind::NotFound);
    let (kind, text) = tell(store.put(&name, b"content").unwrap_err());
    assert_eq!((kind, text.contains("mounted")), (StoreErrorKind::Permanent, true), "{text}");
    assert!(!server.data().join("not").exists());
    // What one may not do is told as that.
    let store = webdav(&server, "not/mounted", "wrong");
    for error in [
        store.create().unwrap_err(),
        store.put(&name, b"content").unwrap_err(),
        store.stat(&ObjectName::CONFIG).unwrap_err(),
        store.list(Place::Keys, &mut |_| ()).unwrap_err(),
    ] {
        let (kind, text) = tell(error);
        assert_eq!(kind, StoreErrorKind::Denied, "{text}");
        assert!(!text.contains("wrong"), "{text}");
    }
}

/// What killed writers left goes when it is old; what others are writing stays.
#[test]
#[cfg(feature = "opendal-webdav")]
fn webdav_is_tidied() {
    let server = WebdavServer::start();
    let store = webdav(&server, "repo", PASSWORD);
    // Made before the server looks there: it remembers for minutes what it saw.
    for place in Place::HASHED {
        std::fs::create_dir_all(server.data().join("repo").join(place.name())).unwrap();
    }
    let temporary_folder = server.data().join("repo/tmp");
    std::fs::create_dir_all(&temporary_folder).unwrap();
    for days in [2, 4] {
        let file = std::fs::File::create(temporary_folder.join(format!(".tmp-{days}"))).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now.checked_sub(Duration::from_hours(days * 24)).unwrap()).unwrap();
    }
    let name = object(Place::Data, b"content");
    store.put(&name, b"content").map_err(tell).unwrap();
    assert_eq!(temporary(&server.data().join("repo")).trim().rsplit('/').next(), Some(".tmp-2"));
}

/// A listing that the server breaks off, since something goes meanwhile, is none.
#[test]
#[cfg(feature = "opendal-webdav")]
fn webdav_listings_are_whole() {
    let server = WebdavServer::start();
    let store = webdav(&server, "repo", PASSWORD);
    store.create().map_err(tell).unwrap();
    let lasting: Vec<_> = (0..40_u8).map(|number| object(Place::Index, &[number])).collect();
    for (number, name) in (0..).zip(&lasting) {
        store.put(name, &[number]).map_err(tell).unwrap();
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..150_u8 {
                let name = object(Place::Index, &[number, 1]);
                store.put(&name, &[number, 1]).map_err(tell).unwrap();
                store.delete(&name).map_err(tell).unwrap();
            }
            is_over.store(true, Ordering::SeqCst);
        });
        while !is_over.load(Ordering::SeqCst) {
            let mut found = Vec::new();
            match store.list(Place::Index, &mut |info| found.push(info.name)) {
                Ok(()) => assert!(lasting.iter().all(|name| found.contains(name)), "{}", found.len()),
                Err(error) => assert_eq!(error.kind, StoreErrorKind::Retry, "{error}: {}", error.source),
            }
        }
    });
}

#[test]
#[cfg(feature = "opendal-fs")]
fn folders_keep_the_contract() {
    let base = tempfile::tempdir().unwrap();
    let number = AtomicUsize::new(0);
    let options = |folder: &Path| ServiceOptions {
        scheme: "fs".into(),
        root: folder.display().to_string(),
        ..ServiceOptions::default()
    };
    assert!(open(&options(&base.path().join("not there"))).is_err());
    check_store(|| {
        let folder = base.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&folder).unwrap();
        open(&options(&folder)).unwrap()
    });
    assert_eq!(temporary(base.path()), "");
}
