//! Work for all cores: in two threads, and one test at a time.

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

/// Does `work` on each of `items`, two at a time: as many as the smallest machine has cores.
///
/// Panics if `work` does; the remaining items are skipped.
pub fn two_at_a_time<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
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
    fn test_two_at_a_time_runs_each_once() {
        let sum = AtomicUsize::new(0);

        two_at_a_time(&[1, 2, 3, 4, 5], |number| {
            sum.fetch_add(*number, Ordering::Relaxed);
        });

        assert_eq!(sum.into_inner(), 15);
    }

    #[test]
    fn test_two_at_a_time_propagates_panic() {
        let begun = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();

        let outcome = catch_unwind(|| {
            two_at_a_time(&items, |number| {
                begun.fetch_add(1, Ordering::Relaxed);
                assert!(*number != 3, "three");
            });
        });

        assert!(outcome.is_err());
    }
}
