//! The events of a session, until they are read.

use std::collections::VecDeque;

use maqet_domain::port::SessionEvent;
use maqet_domain::qmp::QmpEvent;

use crate::limits::{MAX_QMP_EVENT_BYTES, MAX_QMP_EVENTS};

/// Events in the order of arrival, in bounded memory; dropped ones are counted.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    missed: u64,
}

impl EventQueue {
    /// Adds an event, and drops the oldest ones if there are too many.
    pub(super) fn push(&mut self, line: Box<[u8]>) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > MAX_QMP_EVENTS || self.bytes > MAX_QMP_EVENT_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
            self.missed += 1;
        }
    }

    /// Takes the oldest event; the number of those dropped before it comes first.
    pub(super) fn take(&mut self) -> Option<SessionEvent> {
        if self.missed > 0 {
            return Some(SessionEvent::Missed(std::mem::take(&mut self.missed)));
        }
        while let Some(line) = self.lines.pop_front() {
            self.bytes -= line.len();
            // QEMU sends no event without a timestamp.
            if let Some(event) = QmpEvent::parse(&line) {
                return Some(SessionEvent::Event(event));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize, padding: usize) -> Box<[u8]> {
        let padding = "x".repeat(padding);
        let stamp = r#""timestamp": {"seconds": 1, "microseconds": 2}"#;
        format!(r#"{{{stamp}, "event": "E{number}", "data": {{"x": "{padding}"}}}}"#).into_bytes().into()
    }

    fn name(event: Option<SessionEvent>) -> String {
        match event {
            Some(SessionEvent::Event(event)) => event.name,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn test_event_queue_flood_keeps_newest_and_counts_others() {
        let mut queue = EventQueue::default();
        (0..MAX_QMP_EVENTS + 7).for_each(|number| queue.push(event(number, 0)));

        let first = queue.take();

        assert_eq!(first, Some(SessionEvent::Missed(7)));
        assert_eq!(name(queue.take()), "E7");
    }

    #[test]
    fn test_event_queue_is_bounded_by_size() {
        let mut queue = EventQueue::default();
        (0..5).for_each(|number| queue.push(event(number, MAX_QMP_EVENT_BYTES / 3)));

        assert_eq!(queue.take(), Some(SessionEvent::Missed(3)));
        assert_eq!([name(queue.take()), name(queue.take())], ["E3", "E4"]);
        assert_eq!((queue.take(), queue.bytes), (None, 0));
    }

    #[test]
    fn test_event_queue_skips_invalid_events() {
        let mut queue = EventQueue::default();
        queue.push(b"{\"event\": 7}".as_slice().into());
        queue.push(event(1, 0));

        assert_eq!(name(queue.take()), "E1");
    }
}
