//! A bounded window of events: the newest ones, in order.

use super::reader::ShownEvent;

/// Events in order, the oldest first.
#[derive(Debug, PartialEq)]
pub(crate) struct EventBatch {
    pub(crate) events: Vec<ShownEvent>,
    /// How many older ones were omitted.
    pub(crate) omitted: u64,
}

/// Collects events in any order, and keeps the newest.
#[derive(Debug)]
pub(crate) struct EventWindow {
    events: Vec<ShownEvent>,
    max: usize,
    omitted: u64,
}

impl EventWindow {
    /// Makes a window of at most `max` events.
    pub(crate) const fn new(max: usize) -> Self {
        Self { events: Vec::new(), max, omitted: 0 }
    }

    pub(crate) fn push(&mut self, event: ShownEvent) {
        self.events.push(event);
        // Seldom, because sorting is what costs.
        if self.events.len() >= self.max.saturating_mul(2) {
            self.sort_and_trim();
        }
    }

    pub(crate) fn into_batch(mut self) -> EventBatch {
        self.sort_and_trim();
        EventBatch { events: self.events, omitted: self.omitted }
    }

    /// Sorts stably: the events of one source are in order already.
    fn sort_and_trim(&mut self) {
        self.events.sort_by_key(|event| event.at);
        let excess = self.events.len().saturating_sub(self.max);
        self.events.drain(..excess);
        self.omitted += excess as u64;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;

    fn event(second: i64) -> ShownEvent {
        let at = Timestamp::from_second(second).unwrap();
        ShownEvent {
            at,
            kind: "qemu.RESET".to_owned(),
            vm: None,
            vm_id: None,
            boot: None,
            host: None,
            data: Value::Null,
        }
    }

    #[test]
    fn test_window_sorts_events_and_keeps_the_newest() {
        let mut window = EventWindow::new(3);
        for second in [9, 1, 8, 2, 7, 3, 6, 4, 5] {
            window.push(event(second));
        }

        let EventBatch { events, omitted } = window.into_batch();

        assert_eq!(events, [event(7), event(8), event(9)]);
        assert_eq!(omitted, 6);
    }

    #[test]
    fn test_window_keeps_all_events_that_fit() {
        let mut window = EventWindow::new(3);
        window.push(event(2));
        window.push(event(1));

        assert_eq!(window.into_batch(), EventBatch { events: vec![event(1), event(2)], omitted: 0 });
    }
}
