//! Waiting for a thing to become true, with a deadline that says what was awaited.

use std::thread;
use std::time::{Duration, Instant};

/// Pause between two looks: short against a boot, long against a look.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns the first `Some` of `look`, or `None` when `deadline` has passed.
pub fn try_until<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// Returns the first `Some` of `look`; panics with `what` when `deadline` has passed.
#[track_caller]
pub fn until<T>(deadline: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    match try_until(deadline, look) {
        Some(seen) => seen,
        None => panic!("waited {deadline:?} in vain for {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_until_third_check_succeeds_returns_value() {
        let mut looks = 0;

        let seen = until(Duration::from_secs(5), "the third look", || {
            looks += 1;
            (looks == 3).then_some(looks)
        });

        assert_eq!(seen, 3);
    }

    #[test]
    fn test_until_deadline_passed_panics_with_condition() {
        let outcome = std::panic::catch_unwind(|| until(Duration::ZERO, "godot", || None::<()>));

        let message = *outcome.unwrap_err().downcast::<String>().unwrap();
        assert!(message.ends_with("in vain for godot"), "{message}");
    }
}
