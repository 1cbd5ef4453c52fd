//! What others forget and prune while a check goes on is not damage.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod check_fixture;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use check_fixture::{check_all, small};
use repo_core::{
    check::FindingKind,
    error::StoreError,
    hand_on,
    repository::Repository,
    runtime::SystemRuntime,
    store::{ByteRange, ObjectInfo, ObjectName, Place, Store, memory::MemoryStore},
};

/// A store in which somebody forgets and prunes everything before a certain request of a check.
struct Pruned {
    store: MemoryStore,
    requests_left: AtomicUsize,
    with_snapshots: bool,
}

impl Pruned {
    fn before_request(&self) {
        if self.requests_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) != Ok(1) {
            return;
        }
        for name in self.store.names() {
            match name.place() {
                Place::Snapshots if !self.with_snapshots => {}
                Place::Snapshots | Place::Index | Place::Data => drop(self.store.remove(&name)),
                _ => {}
            }
        }
    }
}

impl Store for Pruned {
    hand_on!(self.store: create, put, delete, abilities, location);

    fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.before_request();
        self.store.get(name, range, into)
    }

    fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.before_request();
        self.store.list(place, visit)
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        self.before_request();
        self.store.stat(name)
    }
}

#[test]
fn a_prune_at_any_moment_is_no_damage() {
    let small = small();
    let mut request = 1;
    let mut emptied = 0;
    loop {
        let store = Pruned {
            store: small.store.fork(),
            // Counted from the first request of the check on.
            requests_left: AtomicUsize::new(0),
            with_snapshots: true,
        };
        let store = Arc::new(store);
        let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
        let repository = Arc::new(Repository::open(shared, Arc::new(SystemRuntime), b"secret", None).unwrap());
        store.requests_left.store(request, Ordering::SeqCst);
        let report = check_all(&repository);
        assert_eq!(report.errors(), 0, "before request {request}: {:#?}", report.findings);
        if store.requests_left.load(Ordering::SeqCst) > 0 {
            break;
        }
        emptied += usize::from(report.snapshots == 0);
        request += 1;
    }
    assert!(request > 20 && emptied > 5, "{request} {emptied}");
}

/// The same while the snapshots stay is damage, whenever it is seen.
#[test]
fn a_loss_at_any_moment_is_damage() {
    let small = small();
    for request in 1..12 {
        let store =
            Arc::new(Pruned { store: small.store.fork(), requests_left: AtomicUsize::new(0), with_snapshots: false });
        let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
        let repository = Arc::new(Repository::open(shared, Arc::new(SystemRuntime), b"secret", None).unwrap());
        store.requests_left.store(request, Ordering::SeqCst);
        let report = check_all(&repository);
        assert!(!report.is_clean(), "before request {request}");
        let is_loss = |what: &FindingKind| matches!(what, FindingKind::BlobMissing | FindingKind::PackMissing);
        assert!(report.findings.iter().any(|finding| is_loss(&finding.what)), "{:#?}", report.findings);
    }
}
