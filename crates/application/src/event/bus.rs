//! The event bus: whoever lives in this process hears of what its operations did.
//!
//! What other processes did, and what QEMU did by itself, is in the records; the operation
//! [`Events`](crate::operation::Events) reads it all.

use std::sync::{Arc, OnceLock};

use maqet_domain::event::Event;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::limits::EVENTS_HELD;

/// Hears of every event of this instance, before the operation that made it returns.
///
/// Called once the event is written, on the thread of the operation: whoever has much to do with it hands it on.
pub trait Observer: Send + Sync {
    /// Hears of an event.
    fn observe(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn observe(&self, event: &Event) {
        self(event);
    }
}

/// What a reader of an [`EventStream`] is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// This happened.
    Event(Arc<Event>),
    /// The reader was slow, and that many events before the next one are lost to it; they are in the store.
    Missed(u64),
}

/// The events of this instance from the moment it was made, a bounded number of them waiting to be read.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<Arc<Event>>);

impl EventStream {
    /// Waits for what is next; `None` once the instance is gone.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self.0.recv().await {
            Ok(event) => Some(Delivery::Event(event)),
            Err(RecvError::Lagged(missed)) => Some(Delivery::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Tells events to those who want to hear of them.
#[derive(Default)]
pub(crate) struct Bus {
    observers: Vec<Arc<dyn Observer>>,
    /// Made with the first reader: most instances have none.
    sender: OnceLock<broadcast::Sender<Arc<Event>>>,
}

impl Bus {
    pub(crate) fn add(&mut self, observer: Arc<dyn Observer>) {
        self.observers.push(observer);
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        EventStream(self.sender.get_or_init(|| broadcast::channel(EVENTS_HELD).0).subscribe())
    }

    pub(crate) fn tell(&self, event: &Event) {
        for observer in &self.observers {
            observer.observe(event);
        }
        if let Some(sender) = self.sender.get() {
            // Nobody reads any more: that is no failure.
            let _ = sender.send(Arc::new(event.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use maqet_domain::Timestamp;
    use serde_json::Value;

    use super::*;

    fn event(kind: &str) -> Event {
        Event { at: Timestamp::UNIX_EPOCH, kind: kind.to_owned(), vm: None, vm_name: None, data: Value::Null }
    }

    #[tokio::test]
    async fn test_stream_slow_reader_is_told_how_many_it_missed() {
        let bus = Bus::default();
        let mut stream = bus.subscribe();
        for _ in 0..EVENTS_HELD + 3 {
            bus.tell(&event("vm.started"));
        }

        let first = stream.next().await;
        let second = stream.next().await;

        assert_eq!(first, Some(Delivery::Missed(3)));
        assert!(matches!(second, Some(Delivery::Event(_))), "{second:?}");
    }

    #[tokio::test]
    async fn test_stream_of_a_bus_that_is_gone_ends() {
        let bus = Bus::default();
        let mut stream = bus.subscribe();
        bus.tell(&event("vm.stopped"));
        drop(bus);

        assert!(matches!(stream.next().await, Some(Delivery::Event(told)) if told.kind == "vm.stopped"));
        assert_eq!(stream.next().await, None);
    }

    #[test]
    fn test_observers_hear_of_every_event_in_order() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut bus = Bus::default();
        let ear = Arc::clone(&heard);
        bus.add(Arc::new(move |event: &Event| ear.lock().unwrap().push(event.kind.clone())));

        bus.tell(&event("vm.started"));
        bus.tell(&event("vm.stopped"));

        assert_eq!(*heard.lock().unwrap(), ["vm.started", "vm.stopped"]);
    }
}
