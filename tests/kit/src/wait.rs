//! Waiting for a condition, with a deadline and a message that names it.

use std::thread;
use std::time::{Duration, Instant};

/// Pause between two checks: short compared with a boot, long compared with a check.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns the first `Some` of `check`, or `None` when `deadline` has passed.
pub fn try_until<T>(deadline: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(seen) = check() {
            return Some(seen);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// Returns the first `Some` of `check`; panics with `what` when `deadline` has passed.
#[track_caller]
pub fn until<T>(deadline: Duration, what: &str, check: impl FnMut() -> Option<T>) -> T {
    match try_until(deadline, check) {
        Some(seen) => seen,
        None => panic!("timed out after {deadline:?} waiting for {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_until_third_check_succeeds_returns_value() {
        let mut checks = 0;

        let seen = until(Duration::from_secs(5), "the third check", || {
            checks += 1;
            (checks == 3).then_some(checks)
        });

        assert_eq!(seen, 3);
    }

    #[test]
    fn test_until_deadline_passed_panics_with_condition() {
        let outcome = std::panic::catch_unwind(|| until(Duration::ZERO, "godot", || None::<()>));

        let message = *outcome.unwrap_err().downcast::<String>().unwrap();
        assert!(message.ends_with("waiting for godot"), "{message}");
    }
}
