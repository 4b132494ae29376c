//! Much work in few threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does `work` on each of `items`, two at a time: as many as the smallest machine has cores.
///
/// Panics when one of them did; what is not begun by then is left.
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

/// Ends the work of the others when dropped by a panic.
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
    fn test_two_at_a_time_each_is_done_once() {
        let sum = AtomicUsize::new(0);

        two_at_a_time(&[1, 2, 3, 4, 5], |number| {
            sum.fetch_add(*number, Ordering::Relaxed);
        });

        assert_eq!(sum.into_inner(), 15);
    }

    #[test]
    fn test_two_at_a_time_panic_of_one_is_the_panic_of_all() {
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
