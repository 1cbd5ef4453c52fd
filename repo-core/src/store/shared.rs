//! Pointers to a store are stores, so that decorators stack over borrowed, boxed and shared ones alike.

use std::sync::Arc;

use super::{Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store};
use crate::error::StoreError;

macro_rules! store_pointers {
    ($($pointer:ty),+) => {$(
        impl<S: Store + ?Sized> Store for $pointer {
            fn create(&self) -> Result<(), StoreError> {
                (**self).create()
            }

            fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
                (**self).put(name, bytes)
            }

            fn get(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StoreError> {
                (**self).get(name, range, into)
            }

            fn list(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
                (**self).list(place, visit)
            }

            fn stat(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
                (**self).stat(name)
            }

            fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
                (**self).delete(name)
            }

            fn abilities(&self) -> Abilities {
                (**self).abilities()
            }

            fn location(&self) -> String {
                (**self).location()
            }
        }
    )+};
}

store_pointers!(&S, Box<S>, Arc<S>);
