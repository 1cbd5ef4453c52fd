//! What stores over other stores do not change.

use std::sync::Arc;

use super::Store;

/// Inside an `impl Store for …`: the methods that only hand their request on to the store below, and its answer back.
///
/// They are named one by one, so that the compiler asks every such store when [`Store`](crate::store::Store) gets another
/// method: one that was handed on, and not counted, retried or recorded, would go unnoticed.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use repo_core::{
///     error::StoreError,
///     hand_on,
///     store::{ObjectName, Store, memory::MemoryStore},
/// };
///
/// /// Counts what is deleted.
/// struct Deletes<S> {
///     inner: S,
///     count: AtomicU64,
/// }
///
/// impl<S: Store> Store for Deletes<S> {
///     hand_on!(self.inner: create, put, get, list, stat, abilities, location);
///
///     fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
///         self.count.fetch_add(1, Ordering::Relaxed);
///         self.inner.delete(name)
///     }
/// }
///
/// let store = Deletes { inner: MemoryStore::new(), count: AtomicU64::new(0) };
/// store.delete(&ObjectName::CONFIG)?;
/// assert_eq!((store.location().as_str(), store.count.into_inner()), ("memory", 1));
/// # Ok::<(), StoreError>(())
/// ```
#[macro_export(local_inner_macros)]
macro_rules! hand_on {
    ($me:ident.$field:tt: $($method:ident),+) => {
        $(hand_on!(@$method $me, &$me.$field);)+
    };
    // All of them, to what a pointer points to, or to the same store in another role.
    (**$me:ident) => {
        hand_on!(@all $me, &**$me);
    };
    ($me:ident as $role:ty) => {
        hand_on!(@all $me, $me as $role);
    };
    (@all $me:ident, $below:expr) => {
        hand_on!(@create $me, $below);
        hand_on!(@put $me, $below);
        hand_on!(@get $me, $below);
        hand_on!(@list $me, $below);
        hand_on!(@stat $me, $below);
        hand_on!(@delete $me, $below);
        hand_on!(@abilities $me, $below);
        hand_on!(@location $me, $below);
    };
    (@create $me:ident, $below:expr) => {
        fn create(&$me) -> Result<(), $crate::error::StoreError> {
            $crate::store::Store::create($below)
        }
    };
    (@put $me:ident, $below:expr) => {
        fn put(&$me, name: &$crate::store::ObjectName, bytes: &[u8]) -> Result<(), $crate::error::StoreError> {
            $crate::store::Store::put($below, name, bytes)
        }
    };
    (@get $me:ident, $below:expr) => {
        fn get(
            &$me,
            name: &$crate::store::ObjectName,
            range: $crate::store::ByteRange,
            into: &mut Vec<u8>,
        ) -> Result<(), $crate::error::StoreError> {
            $crate::store::Store::get($below, name, range, into)
        }
    };
    (@list $me:ident, $below:expr) => {
        fn list(
            &$me,
            place: $crate::store::Place,
            visit: &mut dyn FnMut($crate::store::ObjectInfo),
        ) -> Result<(), $crate::error::StoreError> {
            $crate::store::Store::list($below, place, visit)
        }
    };
    (@stat $me:ident, $below:expr) => {
        fn stat(
            &$me,
            name: &$crate::store::ObjectName,
        ) -> Result<Option<$crate::store::ObjectInfo>, $crate::error::StoreError> {
            $crate::store::Store::stat($below, name)
        }
    };
    (@delete $me:ident, $below:expr) => {
        fn delete(&$me, name: &$crate::store::ObjectName) -> Result<(), $crate::error::StoreError> {
            $crate::store::Store::delete($below, name)
        }
    };
    (@abilities $me:ident, $below:expr) => {
        fn abilities(&$me) -> $crate::store::Abilities {
            $crate::store::Store::abilities($below)
        }
    };
    (@location $me:ident, $below:expr) => {
        fn location(&$me) -> String {
            $crate::store::Store::location($below)
        }
    };
}

// Pointers to a store are stores, so that such stores lie over borrowed, boxed and shared ones alike.

impl<S: Store + ?Sized> Store for &S {
    hand_on!(**self);
}

impl<S: Store + ?Sized> Store for Box<S> {
    hand_on!(**self);
}

impl<S: Store + ?Sized> Store for Arc<S> {
    hand_on!(**self);
}
