//! Resource usage of a running process.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::size::ByteSize;
use crate::vm::ProcessIdentity;

/// The resource usage of a process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessUsage {
    /// The program it runs, where that can be read.
    pub binary: Option<PathBuf>,
    /// Whether that program was removed or replaced since the process started.
    pub is_binary_deleted: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// The time since then, including time the host was suspended.
    pub uptime: Duration,
    /// The number of threads.
    pub threads: u32,
    /// The CPU time of all threads, in user and kernel mode.
    pub cpu_time: Duration,
    /// The resident set size: memory in RAM, shared pages counted in full.
    pub rss: ByteSize,
    /// What is in swap; what it has on a `tmpfs` is not counted.
    pub swapped: ByteSize,
    /// Huge pages, which the resident set size leaves out.
    pub huge_pages: ByteSize,
    /// The proportional set size: each shared page divided among its users; `None` where the kernel refuses to report it.
    pub pss: Option<ByteSize>,
}

impl ProcessUsage {
    /// Returns how much memory it has, wherever that is now.
    pub const fn memory(&self) -> ByteSize {
        ByteSize::from_bytes(
            self.rss.bytes().saturating_add(self.swapped.bytes()).saturating_add(self.huge_pages.bytes()),
        )
    }
}

/// Measures processes by their identity; another process with a reused pid is never measured.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait ProcessStats: Send + Sync {
    /// Returns the current usage of this process; `None` if it has exited.
    fn usage(&self, process: &ProcessIdentity) -> Option<ProcessUsage>;

    /// Returns the CPU time of this process; `None` if it has exited. Cheap enough to sample twice.
    fn cpu_time(&self, process: &ProcessIdentity) -> Option<Duration>;
}
