//! Notifications of new events, so that a reader that asks again and again does not ask the server each time.
//!
//! A commit with events sends a notification, which the server delivers once they are visible. A notification can be lost
//! with its connection, or in a pooler; so the server is asked at least every second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::time::Instant;
use tokio_postgres::Client;

use crate::limits;

/// What is known about the events after a number.
#[derive(Default)]
pub(crate) struct Listener(Mutex<State>);

#[derive(Default)]
struct State {
    /// The last number after which there were no events, and when.
    seen: Option<(i64, Instant)>,
    subscription: Option<Subscription>,
}

/// Whether events were announced.
#[derive(Debug, Default)]
pub(crate) struct News {
    has_come: AtomicBool,
    /// The schema of the store; a database can hold several, which announce all of their events.
    schema: OnceLock<String>,
}

impl News {
    /// Ignores the events of other schemas from here on.
    pub(crate) fn only_of(&self, schema: String) {
        let _set_once = self.schema.set(schema);
    }

    /// Records a notification.
    pub(crate) fn announce(&self, schema: &str) {
        if self.schema.get().is_none_or(|ours| ours == schema) {
            self.has_come.store(true, Ordering::SeqCst);
        }
    }
}

/// A connection that receives notifications.
struct Subscription {
    news: Arc<News>,
    client: Client,
}

/// How a read of events begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// There are no new events.
    Unneeded,
    /// The server has to be asked.
    Needed,
    /// The server has to be asked again; a subscription would spare that.
    Repeated,
}

impl Listener {
    /// Returns whether the server has to be asked for events after `sequence`; to be called before it is.
    pub(crate) fn begin(&self, sequence: i64) -> Reading {
        let mut state = self.lock();
        let Some((_, at)) = state.seen.filter(|(seen, _)| *seen == sequence) else { return Reading::Needed };
        state.subscription.take_if(|subscription| subscription.client.is_closed());
        let Some(subscription) = &state.subscription else { return Reading::Repeated };
        // Reset before the server is asked: what is announced from here on is asked for again.
        let has_news = subscription.news.has_come.swap(false, Ordering::SeqCst);
        if has_news || at.elapsed() >= limits::LISTEN_REFRESH_INTERVAL { Reading::Needed } else { Reading::Unneeded }
    }

    /// Records that the server had no events after `sequence`.
    pub(crate) fn found_none(&self, sequence: i64) {
        self.lock().seen = Some((sequence, Instant::now()));
    }

    /// Records that this store wrote events, whose notification may come later than they are read.
    pub(crate) fn wrote(&self) {
        self.lock().seen = None;
    }

    /// Uses a connection that records notifications as `news`.
    pub(crate) fn subscribe(&self, client: Client, news: Arc<News>) {
        self.lock().subscription = Some(Subscription { news, client });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
