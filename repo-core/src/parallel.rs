//! The same work on many items, by several threads.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::error::Result;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

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
