//! Every store of this crate keeps the obligations of the trait.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use repo_core::store::{
    count::CountingStore,
    local::LocalStore,
    memory::MemoryStore,
    testing::{FaultStore, RecordingStore, check_store},
};

#[test]
fn memory() {
    check_store(|| Box::new(MemoryStore::new()));
}

#[test]
fn local() {
    let base = tempfile::tempdir().unwrap();
    let made = AtomicUsize::new(0);
    check_store(|| {
        let number = made.fetch_add(1, Ordering::SeqCst);
        Box::new(LocalStore::new(base.path().join(format!("with/missing parents/{number}"))))
    });
}

#[test]
fn decorators_change_nothing() {
    check_store(|| {
        Box::new(CountingStore::new(Arc::new(FaultStore::new(Box::new(RecordingStore::new(MemoryStore::new()))))))
    });
}
