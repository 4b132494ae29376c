//! Metrics: how often operations and their steps ran, how often they failed, and how long they took.

mod histogram;

pub use self::histogram::{BUCKETS, Histogram, Quantile};

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricKind {
    /// An operation, by its name.
    Operation,
    /// A step of operations.
    Step,
}

/// The identity of a metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricKey {
    /// What is measured.
    pub kind: MetricKind,
    /// Its name.
    pub name: Cow<'static, str>,
}

impl MetricKey {
    /// An operation.
    pub const fn operation(name: &'static str) -> Self {
        Self { kind: MetricKind::Operation, name: Cow::Borrowed(name) }
    }

    /// A step of operations.
    pub const fn step(name: &'static str) -> Self {
        Self { kind: MetricKind::Step, name: Cow::Borrowed(name) }
    }
}

/// The steps that are measured.
pub mod step {
    /// From the start of QEMU until its monitor answers.
    pub const LAUNCH: &str = "start.launch";
    /// A QMP command, with the time in the queue of its monitor.
    pub const QMP: &str = "qmp.command";
    /// A commit of the store.
    pub const COMMIT: &str = "store.commit";
    /// A stop whose guest powered off.
    pub const STOP_POWER_DOWN: &str = "stop.power-down";
    /// A stop by `quit`.
    pub const STOP_QUIT: &str = "stop.quit";
    /// A stop by SIGTERM.
    pub const STOP_SIGTERM: &str = "stop.sigterm";
    /// A stop by SIGKILL.
    pub const STOP_SIGKILL: &str = "stop.sigkill";
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// What was measured.
    pub key: MetricKey,
    /// Whether it failed.
    pub failed: bool,
    /// How long it took.
    pub duration: Duration,
}

/// The measurements of one operation or step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// What was measured.
    pub key: MetricKey,
    /// How many of the measurements failed.
    pub failures: u64,
    /// The sum of all durations.
    pub total: Duration,
    /// The durations, also of those that failed.
    pub durations: Histogram,
}

impl Metric {
    /// Without a measurement.
    pub fn new(key: MetricKey) -> Self {
        Self { key, failures: 0, total: Duration::ZERO, durations: Histogram::default() }
    }

    /// Adds a measurement.
    pub fn add(&mut self, failed: bool, duration: Duration) {
        self.failures = self.failures.saturating_add(u64::from(failed));
        self.total = self.total.saturating_add(duration);
        self.durations.add(duration);
    }
}

/// All metrics that were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricRecord {
    /// Since when they are kept; `None` if there are none yet.
    pub since: Option<Timestamp>,
    /// Whether they were started over at that time because the file was damaged.
    pub started_over: bool,
    /// The metrics, ordered by key.
    pub metrics: Vec<Metric>,
}
