//! The events that a reader asked for: only these are held, and not more than so many.

use crate::event::reader::ShownEvent;

/// Collects events in any order; the newest stay.
#[derive(Debug)]
pub(crate) struct EventWindow {
    events: Vec<ShownEvent>,
    most: usize,
    left_out: u64,
}

impl EventWindow {
    /// Makes one that holds `most` events.
    pub(crate) const fn holding(most: usize) -> Self {
        Self { events: Vec::new(), most, left_out: 0 }
    }

    pub(crate) fn push(&mut self, event: ShownEvent) {
        self.events.push(event);
        // Seldom, as it is sorting that costs.
        if self.events.len() >= self.most.saturating_mul(2) {
            self.sort_and_trim();
        }
    }

    /// Returns the events, the oldest first, and how many still older ones were left out.
    pub(crate) fn in_order(mut self) -> (Vec<ShownEvent>, u64) {
        self.sort_and_trim();
        (self.events, self.left_out)
    }

    /// Events of one source are in order already, and those of one moment stay as they are.
    fn sort_and_trim(&mut self) {
        self.events.sort_by_key(|event| event.at);
        let too_many = self.events.len().saturating_sub(self.most);
        self.events.drain(..too_many);
        self.left_out += too_many as u64;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;

    fn event(second: i64) -> ShownEvent {
        let at = Timestamp::from_second(second).unwrap();
        ShownEvent { at, kind: "qemu.RESET".to_owned(), vm: None, vm_id: None, boot: None, data: Value::Null }
    }

    #[test]
    fn test_heard_events_are_put_in_order_and_the_newest_stay() {
        let mut heard = EventWindow::holding(3);
        for second in [9, 1, 8, 2, 7, 3, 6, 4, 5] {
            heard.push(event(second));
        }

        let (events, left_out) = heard.in_order();

        assert_eq!(events, [event(7), event(8), event(9)]);
        assert_eq!(left_out, 6);
    }

    #[test]
    fn test_heard_events_that_fit_are_all_there() {
        let mut heard = EventWindow::holding(3);
        heard.push(event(2));
        heard.push(event(1));

        assert_eq!(heard.in_order(), (vec![event(1), event(2)], 0));
    }
}
