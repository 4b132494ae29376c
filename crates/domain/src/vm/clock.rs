//! How far the clock of a guest is behind: by the time during which QEMU did not run the guest.
//!
//! While a guest does not run, its virtual time does not pass, and neither does the clock of its operating system. Its
//! real-time clock goes on (`-rtc clock=host`, the default), but Linux and others read that one only when they boot or
//! wake. `rtc-reset-reinjection` changes neither (seen with Linux on 7.2 and 10.0): it only discards the interrupts of
//! the real-time clock that are due.

use std::time::Duration;

use jiff::Timestamp;

use crate::qmp::QmpEvent;

/// Adds up how long a guest that has booted did not run, from the events of its QEMU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoppedTime {
    total: Duration,
    since: Option<Timestamp>,
    is_suspended: bool,
}

impl StoppedTime {
    /// The events that count.
    pub const EVENTS: [&'static str; 5] = ["STOP", "RESUME", "RESET", "SUSPEND", "WAKEUP"];

    /// Takes the next event.
    pub fn push(&mut self, event: &QmpEvent) {
        match event.name.as_str() {
            // When it wakes, a guest adds the time of its sleep, by its real-time clock.
            "STOP" if !self.is_suspended => self.since = self.since.or(Some(event.at)),
            "RESUME" => *self = Self { total: self.until(event.at), since: None, ..*self },
            "RESET" => *self = Self::default(),
            "SUSPEND" => self.is_suspended = true,
            "WAKEUP" => self.is_suspended = false,
            _ => {}
        }
    }

    /// Returns the time until `now`.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Duration {
        let current = self.since.map(|since| now.duration_since(since));
        // The clock of the host may have been set back.
        self.total + current.and_then(|current| Duration::try_from(current).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Returns the time after events at these seconds, at second 100.
    fn stopped(events: &[(&str, i64)]) -> u64 {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut time = StoppedTime::default();
        for (name, second) in events {
            time.push(&QmpEvent { name: (*name).to_owned(), at: at(*second), data: Value::Null });
        }
        time.until(at(100)).as_secs()
    }

    #[test]
    fn test_stopped_time_adds_up_all_pauses() {
        assert_eq!(stopped(&[]), 0);
        assert_eq!(stopped(&[("STOP", 10), ("RESUME", 15), ("STOP", 20), ("RESUME", 40)]), 25);
        assert_eq!(stopped(&[("STOP", 10), ("RESUME", 15), ("STOP", 70)]), 35);
        assert_eq!(stopped(&[("RESUME", 15)]), 0);
    }

    #[test]
    fn test_stopped_time_ends_with_a_reset() {
        assert_eq!(stopped(&[("STOP", 10), ("RESUME", 15), ("RESET", 20)]), 0);
        assert_eq!(stopped(&[("STOP", 10), ("RESET", 20), ("RESUME", 50)]), 0);
    }

    #[test]
    fn test_stopped_time_of_suspended_guest_does_not_count() {
        assert_eq!(stopped(&[("SUSPEND", 5), ("STOP", 10), ("RESUME", 15), ("WAKEUP", 16)]), 0);
        assert_eq!(stopped(&[("SUSPEND", 5), ("WAKEUP", 6), ("STOP", 10), ("RESUME", 15)]), 5);
    }

    #[test]
    fn test_stopped_time_after_clock_was_set_back_is_zero() {
        assert_eq!(stopped(&[("STOP", 200), ("RESUME", 150)]), 0);
    }
}
