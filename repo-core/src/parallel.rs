//! Work at the same time: two things, or the same on many items.

use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::error::{Error, Result};

/// Does two things, at the same time if there may be several `threads`, else one after the other; where both wait for answers from far away,
/// one waits beside the other.
pub fn both<A, B: Send>(threads: usize, first: impl FnOnce() -> A, second: impl FnOnce() -> B + Send) -> (A, B) {
    if threads < 2 {
        return (first(), second());
    }
    std::thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        (first, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Does `work` on every item, with no more than so many threads, which take the items in their order. After a failure no further item
/// is begun.
///
/// # Errors
/// The first failure.
pub fn for_each<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    for_each_with(items, threads, || (), |(), item| work(item), |()| Ok(()))
}

/// [`for_each`] where each thread has something of its own, which it ends with when no item is left for it, or after a failure of its own.
///
/// # Errors
/// The first failure.
pub fn for_each_with<T: Sync, S>(
    items: &[T],
    threads: usize,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> Result<()> + Sync,
    end: impl Fn(S) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let run = || {
        let mut own = begin();
        let mut result = Ok(());
        while result.is_ok()
            && !failed.load(Ordering::Relaxed)
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            result = work(&mut own, item);
        }
        if let Err(error) = result.and_then(|()| end(own)) {
            failed.store(true, Ordering::Relaxed);
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            scope.spawn(run);
        }
        run();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// The same work on items that lead to further items, such as the pages of a tree. Whichever was found last is taken first, so that few
/// are waiting and neighbours come one after the other. Each of so many threads has something of its own. After a failure no further item
/// is begun.
///
/// # Errors
/// The first failure.
pub fn for_each_found<T: Send, S>(
    first: Vec<T>,
    threads: usize,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T, &mut Vec<T>) -> Result<()> + Sync,
) -> Result<()> {
    let heap = Heap { state: Mutex::new(HeapState { items: first, busy: 0, failure: None }), wake: Condvar::new() };
    let run = || {
        let (mut own, mut found) = (begin(), Vec::new());
        while let Some(item) = heap.take() {
            let taken = Taken(&heap);
            let result = work(&mut own, item, &mut found);
            let mut state = heap.lock();
            state.items.append(&mut found);
            if let Err(error) = result {
                state.failure.get_or_insert(error);
            }
            drop(state);
            drop(taken);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    heap.state.into_inner().unwrap_or_else(PoisonError::into_inner).failure.map_or(Ok(()), Err)
}

struct Heap<T> {
    state: Mutex<HeapState<T>>,
    wake: Condvar,
}

struct HeapState<T> {
    items: Vec<T>,
    /// Threads that work on an item, and may find further ones.
    busy: usize,
    failure: Option<Error>,
}

impl<T> Heap<T> {
    fn lock(&self) -> MutexGuard<'_, HeapState<T>> {
        // A panic in a thread is passed on by the scope.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item; waits while others may find one.
    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        while state.failure.is_none() {
            if let Some(item) = state.items.pop() {
                state.busy += 1;
                return Some(item);
            }
            if state.busy == 0 {
                break;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

/// Counts a thread as idle again when dropped, whatever happened.
struct Taken<'a, T>(&'a Heap<T>);

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that lead to smaller ones, each of which is come by in one way only.
    #[test]
    fn everything_that_is_found_is_done_once() {
        for threads in 0..5 {
            let done: Vec<_> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
            let work = |sum: &mut usize, item: usize, found: &mut Vec<usize>| {
                *sum += done[item].fetch_add(1, Ordering::Relaxed);
                found.extend((2 * item..2 * item + 2).filter(|below| *below > 1 && *below < done.len()));
                Ok(())
            };
            for_each_found(vec![0, 1], threads, || 0, work).unwrap();
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            let fails = |(): &mut (), item: u32, found: &mut Vec<u32>| {
                found.extend([item + 1, item + 1]);
                if item == 20 { Err(Error::Cancelled) } else { Ok(()) }
            };
            assert!(matches!(for_each_found(vec![0], threads, || (), fails), Err(Error::Cancelled)));
        }
        for_each_found(Vec::<u8>::new(), 2, || (), |(), _, _| unreachable!()).unwrap();
    }

    #[test]
    fn both_are_done_and_at_once_where_that_may_be() {
        let done = AtomicUsize::new(0);
        let next = || done.fetch_add(1, Ordering::Relaxed);
        assert_eq!((both(0, next, next), both(1, next, next)), ((0, 1), (2, 3)));
        // Each waits for the other.
        let barrier = std::sync::Barrier::new(2);
        let (first, second) = both(2, || barrier.wait().is_leader(), || barrier.wait().is_leader());
        assert!(first != second);
    }

    #[test]
    fn every_item_once() {
        for threads in 0..5 {
            let done: Vec<_> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            let items: Vec<usize> = (0..100).collect();
            let add = |item: &usize| {
                done[*item].fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            for_each(&items, threads, add).unwrap();
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
        for_each(&[0_u8; 0], 2, |_| unreachable!()).unwrap();
    }

    #[test]
    fn a_failure_ends_it_and_nobody_forgets_to_end() {
        let (starts, ends) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let items: Vec<usize> = (0..1000).collect();
        let begin = || starts.fetch_add(1, Ordering::Relaxed);
        let work = |_: &mut usize, item: &usize| if *item == 10 { Err(Error::Cancelled) } else { Ok(()) };
        let end = |_| {
            ends.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        assert!(matches!(for_each_with(&items, 3, begin, work, end), Err(Error::Cancelled)));
        assert_eq!(starts.into_inner(), ends.into_inner() + 1, "all end but the one that failed");
        let at_the_end = for_each_with(&items, 2, || (), |(), _| Ok(()), |()| Err(Error::Poisoned));
        assert!(matches!(at_the_end, Err(Error::Poisoned)));
    }
}
