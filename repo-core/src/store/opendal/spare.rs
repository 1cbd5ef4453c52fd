//! Memory for what is being sent: a request has to own its body, and what is stored is only lent. Packs are large and nearly equal, so
//! that the memory of the last one serves the next, and no allocator keeps several of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use opendal::Buffer;

/// Memory that nobody uses just now.
#[derive(Default)]
pub(super) struct Spare(Arc<Mutex<Vec<u8>>>);

impl Spare {
    /// The same bytes, for a request to keep. Their memory comes back when the last who has them is done.
    pub(super) fn copy(&self, bytes: &[u8]) -> Buffer {
        let mut memory = std::mem::take(&mut *lock(&self.0));
        memory.clear();
        memory.extend_from_slice(bytes);
        Bytes::from_owner(Lent { memory, home: Arc::clone(&self.0) }).into()
    }
}

struct Lent {
    memory: Vec<u8>,
    home: Arc<Mutex<Vec<u8>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

/// The larger one is kept.
impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = lock(&self.home);
        if spare.capacity() < self.memory.capacity() {
            *spare = std::mem::take(&mut self.memory);
        }
    }
}

fn lock(spare: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let spare = Spare::default();
        let first = spare.copy(&[1; 1000]);
        let place = first.to_bytes().as_ptr();
        // While the first is away there is other memory.
        let second = spare.copy(&[2; 10]);
        assert_eq!((first.to_vec(), second.to_vec()), (vec![1; 1000], vec![2; 10]));
        let other = first.clone();
        drop(first);
        assert_eq!(lock(&spare.0).capacity(), 0, "somebody still has it");
        drop((other, second));
        let third = spare.copy(&[3; 500]);
        assert_eq!((third.to_bytes().as_ptr(), third.to_vec()), (place, vec![3; 500]));
    }
}
