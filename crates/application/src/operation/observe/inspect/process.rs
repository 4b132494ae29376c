//! The QEMU process, as the kernel reports it.

use std::time::Duration;

use jiff::Timestamp;
use maqet_domain::port::{ProcessStats, ProcessUsage};
use maqet_domain::size::ByteSize;
use maqet_domain::vm::ProcessIdentity;
use serde::Serialize;
use tokio::time::Instant;

use crate::app::shown;
use crate::limits;

/// A QEMU process that is alive.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InspectedProcess {
    /// The process ID.
    pub pid: u32,
    /// The executable, if it can be read.
    pub binary: Option<String>,
    /// Whether the executable was deleted or replaced since the process started.
    pub binary_deleted: bool,
    /// When the process started.
    pub started_at: Timestamp,
    /// The age of the process.
    pub uptime_seconds: f64,
    /// The number of threads.
    pub threads: u32,
    /// Its CPU usage.
    pub cpu: CpuUse,
    /// The resident memory, shared pages counted in full.
    pub rss_bytes: u64,
    /// The resident memory, shared pages divided by the number of their processes; omitted if the kernel denies it.
    pub pss_bytes: Option<u64>,
}

/// The CPU usage of a process; 100 percent is one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CpuUse {
    /// The usage during the sample.
    pub percent: f64,
    /// The duration of the sample.
    pub sample_seconds: f64,
    /// The average since the process started.
    pub percent_since_start: f64,
    /// The CPU time since the process started.
    pub seconds: f64,
}

/// A running sample of the CPU usage of a process.
pub(super) struct CpuSample<'a> {
    stats: &'a dyn ProcessStats,
    process: &'a ProcessIdentity,
    began: Instant,
    cpu_time: Duration,
}

impl<'a> CpuSample<'a> {
    /// Begins a sample; `None` if the process has exited.
    pub(super) fn begin(stats: &'a dyn ProcessStats, process: &'a ProcessIdentity) -> Option<Self> {
        let cpu_time = stats.cpu_time(process)?;
        Some(Self { stats, process, began: Instant::now(), cpu_time })
    }

    /// Waits until the sample is long enough, and returns the process; `None` if it has exited.
    pub(super) async fn end(self) -> Option<InspectedProcess> {
        tokio::time::sleep(limits::CPU_SAMPLE.saturating_sub(self.began.elapsed())).await;
        let duration = self.began.elapsed();
        let usage = self.stats.usage(self.process)?;
        let used = usage.cpu_time.saturating_sub(self.cpu_time);
        let cpu = CpuUse {
            percent: percent(used, duration),
            sample_seconds: rounded(duration.as_secs_f64()),
            percent_since_start: percent(usage.cpu_time, usage.uptime),
            seconds: rounded(usage.cpu_time.as_secs_f64()),
        };
        Some(InspectedProcess::new(self.process.pid, &usage, cpu))
    }
}

impl InspectedProcess {
    fn new(pid: u32, usage: &ProcessUsage, cpu: CpuUse) -> Self {
        Self {
            pid,
            binary: usage.binary.as_deref().map(shown),
            binary_deleted: usage.is_binary_deleted,
            started_at: usage.started_at,
            uptime_seconds: rounded(usage.uptime.as_secs_f64()),
            threads: usage.threads,
            cpu,
            rss_bytes: usage.rss.bytes(),
            pss_bytes: usage.pss.map(ByteSize::bytes),
        }
    }
}

/// Returns the share of `elapsed` that was used, in percent.
fn percent(used: Duration, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        return 0.0;
    }
    rounded(used.as_secs_f64() / elapsed.as_secs_f64() * 100.0)
}

/// Rounds to two decimals: the kernel counts in hundredths of a second.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_percent_of_one_busy_cpu_is_a_hundred() {
        let second = Duration::from_secs(1);

        assert!((percent(second, second) - 100.0).abs() < 0.001);
        assert!((percent(second, second * 3) - 33.33).abs() < 0.001);
        assert!((percent(second * 2, second) - 200.0).abs() < 0.001);
    }

    #[test]
    fn test_percent_of_no_time_is_zero() {
        assert!(percent(Duration::from_secs(1), Duration::ZERO).abs() < 0.001);
    }
}
