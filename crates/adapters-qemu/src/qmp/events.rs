//! The events of a session, until somebody takes them.

use std::collections::VecDeque;

use maqet_domain::port::SessionEvent;
use maqet_domain::qmp::QmpEvent;

use crate::limits::{MAX_QMP_EVENT_BYTES, MAX_QMP_EVENTS};

/// Events in the order they came, in bounded memory; what was dropped is counted.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    missed: u64,
}

impl EventQueue {
    /// Adds an event; the oldest ones make room.
    pub(super) fn push(&mut self, line: Box<[u8]>) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > MAX_QMP_EVENTS || self.bytes > MAX_QMP_EVENT_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
            self.missed += 1;
        }
    }

    /// Takes the oldest; how many are missing before it comes first.
    pub(super) fn take(&mut self) -> Option<SessionEvent> {
        if self.missed > 0 {
            return Some(SessionEvent::Missed(std::mem::take(&mut self.missed)));
        }
        while let Some(line) = self.lines.pop_front() {
            self.bytes -= line.len();
            // What calls itself an event and has no time is none of QEMU's.
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

    fn name(heard: Option<SessionEvent>) -> String {
        match heard {
            Some(SessionEvent::Event(event)) => event.name,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn test_event_queue_flood_keeps_the_newest_and_counts_the_others() {
        let mut queue = EventQueue::default();
        (0..MAX_QMP_EVENTS + 7).for_each(|number| queue.push(event(number, 0)));

        let first = queue.take();

        assert_eq!(first, Some(SessionEvent::Missed(7)));
        assert_eq!(name(queue.take()), "E7");
    }

    #[test]
    fn test_event_queue_large_events_are_bounded_by_their_size() {
        let mut queue = EventQueue::default();
        (0..5).for_each(|number| queue.push(event(number, MAX_QMP_EVENT_BYTES / 3)));

        assert_eq!(queue.take(), Some(SessionEvent::Missed(3)));
        assert_eq!([name(queue.take()), name(queue.take())], ["E3", "E4"]);
        assert_eq!((queue.take(), queue.bytes), (None, 0));
    }

    #[test]
    fn test_event_queue_what_is_no_event_of_qemu_is_passed_over() {
        let mut queue = EventQueue::default();
        queue.push(b"{\"event\": 7}".as_slice().into());
        queue.push(event(1, 0));

        assert_eq!(name(queue.take()), "E1");
    }
}
