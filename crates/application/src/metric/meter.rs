//! Measurements, which are written once an operation has ended.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use maqet_domain::metric::{Measurement, MetricKey};
use maqet_domain::port::{MetricStore, MetricsAdded};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::limits;

/// Collects measurements in memory, so that an operation writes them at once.
pub(crate) struct Meter {
    store: Arc<dyn MetricStore>,
    pending: Mutex<Vec<Measurement>>,
}

impl Meter {
    pub(crate) fn new(store: Arc<dyn MetricStore>) -> Self {
        Self { store, pending: Mutex::default() }
    }

    /// Begins to measure; if it is never ended, as when the work is canceled, that is a failure.
    pub(crate) fn begin(&self, key: MetricKey) -> Measured<'_> {
        Measured { meter: self, key: Some(key), began: Instant::now() }
    }

    /// Measures a step within `span`.
    pub(crate) async fn step<T, E>(
        &self,
        name: &'static str,
        span: Span,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let measured = self.begin(MetricKey::step(name));
        // A span that no one reads costs nothing then.
        let result = if span.is_disabled() { work.await } else { work.instrument(span).await };
        measured.end(result.is_err());
        result
    }

    /// Keeps a measurement until the next [`flush`](Self::flush).
    pub(crate) fn record(&self, key: MetricKey, failed: bool, duration: Duration) {
        self.pending().push(Measurement { key, failed, duration });
    }

    /// Writes the measurements; those that cannot be written yet are kept for the next time.
    pub(crate) async fn flush(&self) {
        let deadline = Instant::now() + limits::METRICS_TIMEOUT;
        while !self.try_flush() && Instant::now() < deadline {
            tokio::time::sleep(limits::METRICS_RETRY_INTERVAL).await;
        }
    }

    /// Writes the measurements unless another process is writing some; returns whether none are left.
    fn try_flush(&self) -> bool {
        let measurements = std::mem::take(&mut *self.pending());
        if measurements.is_empty() {
            return true;
        }
        match self.store.add(&measurements) {
            Ok(MetricsAdded::Done) => true,
            Ok(MetricsAdded::StartedOver) => {
                tracing::warn!("the metrics were damaged, and are started over");
                true
            }
            Ok(MetricsAdded::Busy) => {
                self.pending().splice(..0, measurements);
                false
            }
            // The work is done, and its metrics are worth no error.
            Err(error) => {
                tracing::debug!(%error, "could not keep the metrics");
                true
            }
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Vec<Measurement>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // What was canceled.
        self.try_flush();
    }
}

/// Something that is being measured.
pub(crate) struct Measured<'a> {
    meter: &'a Meter,
    key: Option<MetricKey>,
    began: Instant,
}

impl Measured<'_> {
    /// Records the end, and returns how long it took.
    pub(crate) fn end(mut self, failed: bool) -> Duration {
        self.record(failed)
    }

    fn record(&mut self, failed: bool) -> Duration {
        let elapsed = self.began.elapsed();
        if let Some(key) = self.key.take() {
            self.meter.record(key, failed, elapsed);
        }
        elapsed
    }
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.record(true);
    }
}
