//! The event bus: events of this instance, for listeners and readers in the same process.
//!
//! Events of other processes and of QEMU are in the store and the QMP logs; the operation
//! [`Events`](crate::operation::Events) reads all of them.

use std::sync::{Arc, OnceLock};

use maqet_domain::event::Event;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::limits::EVENT_STREAM_CAPACITY;

/// Is called with every event of this instance, before the operation that made it returns.
///
/// The event is written by then. The call is on the thread of the operation: hand longer work to another one.
pub trait EventListener: Send + Sync {
    /// Receives an event.
    fn receive(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> EventListener for F {
    fn receive(&self, event: &Event) {
        self(event);
    }
}

/// What a reader of an [`EventStream`] receives.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// An event.
    Event(Arc<Event>),
    /// The reader was slow and missed this many events before the next one; they are in the store.
    Missed(u64),
}

/// The events of this instance since the stream was made, a bounded number of them waiting to be read.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<Arc<Event>>);

impl EventStream {
    /// Waits for the next one; `None` once the instance is dropped.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self.0.recv().await {
            Ok(event) => Some(Delivery::Event(event)),
            Err(RecvError::Lagged(missed)) => Some(Delivery::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Publishes events to listeners and streams.
#[derive(Default)]
pub(crate) struct Bus {
    listeners: Vec<Arc<dyn EventListener>>,
    /// Made for the first reader: most instances have none.
    sender: OnceLock<broadcast::Sender<Arc<Event>>>,
}

impl Bus {
    pub(crate) fn add(&mut self, listener: Arc<dyn EventListener>) {
        self.listeners.push(listener);
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        EventStream(self.sender.get_or_init(|| broadcast::channel(EVENT_STREAM_CAPACITY).0).subscribe())
    }

    pub(crate) fn publish(&self, event: &Event) {
        for listener in &self.listeners {
            listener.receive(event);
        }
        if let Some(sender) = self.sender.get() {
            // Without readers this fails, which is fine.
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
    async fn test_stream_slow_reader_gets_the_number_it_missed() {
        let bus = Bus::default();
        let mut stream = bus.subscribe();
        for _ in 0..EVENT_STREAM_CAPACITY + 3 {
            bus.publish(&event("vm.started"));
        }

        let first = stream.next().await;
        let second = stream.next().await;

        assert_eq!(first, Some(Delivery::Missed(3)));
        assert!(matches!(second, Some(Delivery::Event(_))), "{second:?}");
    }

    #[tokio::test]
    async fn test_stream_of_a_dropped_bus_ends() {
        let bus = Bus::default();
        let mut stream = bus.subscribe();
        bus.publish(&event("vm.stopped"));
        drop(bus);

        assert!(matches!(stream.next().await, Some(Delivery::Event(event)) if event.kind == "vm.stopped"));
        assert_eq!(stream.next().await, None);
    }

    #[test]
    fn test_listeners_receive_every_event_in_order() {
        let received = Arc::new(Mutex::new(Vec::new()));
        let mut bus = Bus::default();
        let log = Arc::clone(&received);
        bus.add(Arc::new(move |event: &Event| log.lock().unwrap().push(event.kind.clone())));

        bus.publish(&event("vm.started"));
        bus.publish(&event("vm.stopped"));

        assert_eq!(*received.lock().unwrap(), ["vm.started", "vm.stopped"]);
    }
}
