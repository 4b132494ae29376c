//! Work for all cores: in several threads, and one test at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

static HEAVY: Mutex<()> = Mutex::new(());

/// Waits until no other test of this process that calls this is running, which ends when the guard is dropped.
///
/// For a test that keeps all cores busy: two of them would only slow each other down, up to the deadline of a command.
pub fn heavy_turn() -> MutexGuard<'static, ()> {
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` on each of `items` in this many threads: two, as many as the smallest machine has cores, or more for work
/// that mostly waits.
///
/// Panics if `work` does; the remaining items are skipped.
pub fn in_threads<T: Sync>(threads: usize, items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut stop = Stop { next: &next, after: items.len(), is_done: false };
                    work(item);
                    stop.is_done = true;
                }
            });
        }
    });
}

/// Skips the remaining items when dropped by a panic.
struct Stop<'a> {
    next: &'a AtomicUsize,
    after: usize,
    is_done: bool,
}

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.next.store(self.after, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn test_in_threads_runs_each_once() {
        let sum = AtomicUsize::new(0);

        in_threads(2, &[1, 2, 3, 4, 5], |number| {
            sum.fetch_add(*number, Ordering::Relaxed);
        });

        assert_eq!(sum.into_inner(), 15);
    }

    #[test]
    fn test_in_threads_propagates_panic() {
        let begun = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();

        let outcome = catch_unwind(|| {
            in_threads(2, &items, |number| {
                begun.fetch_add(1, Ordering::Relaxed);
                assert!(*number != 3, "three");
            });
        });

        assert!(outcome.is_err());
    }
}
