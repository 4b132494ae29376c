//! How often a guest was reset.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::qmp::QmpEvent;

/// The resets within this time of the first one are one reset of the guest.
///
/// `SeaBIOS` resets the machine once more about 0.1 s after each reset, with one event (10.0) or two (7.2), also after a
/// reset by the host.
const ONE_RESET: SignedDuration = SignedDuration::from_secs(1);

/// Counts how often the guest reset itself; the events are those of a QMP log, oldest first.
#[derive(Debug, Clone, Default)]
pub struct ResetCounter {
    count: u64,
    began: Option<Timestamp>,
}

impl ResetCounter {
    /// Counts an event.
    pub fn push(&mut self, event: &QmpEvent) {
        let is_same = self.began.is_some_and(|began| event.at.duration_since(began) < ONE_RESET);
        if event.name != "RESET" || is_same {
            return;
        }
        self.began = Some(event.at);
        self.count += u64::from(event.data.get("guest").and_then(Value::as_bool).unwrap_or_default());
    }

    /// Returns how often the guest reset itself.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_reset_counter_firmware_resets_are_not_counted() {
        let reset = |at: i64, is_guest: bool| {
            let at = Timestamp::from_millisecond(at).unwrap();
            QmpEvent { name: "RESET".to_owned(), at, data: json!({ "guest": is_guest }) }
        };
        let mut counter = ResetCounter::default();

        // As seen of 7.2: by the guest, twice by SeaBIOS, by the host, twice by SeaBIOS, by the guest.
        for (at, is_guest) in [(0, true), (50, true), (51, true), (5_000, false), (5_080, true), (9_000, true)] {
            counter.push(&reset(at, is_guest));
        }

        assert_eq!(counter.count(), 2);
    }
}
