//! What a living process costs the host.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::size::ByteSize;
use crate::vm::ProcessIdentity;

/// What a process costs the host, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessUsage {
    /// The program it runs, where that may be seen.
    pub binary: Option<PathBuf>,
    /// Whether that program was removed or replaced since the process started.
    pub is_binary_gone: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// How long it has been there; time the host slept counts.
    pub uptime: Duration,
    /// How many threads it has.
    pub threads: u32,
    /// How long CPUs have worked for it, in its own code and in the kernel, all threads together.
    pub cpu_time: Duration,
    /// The memory it has in RAM, shared pages counted in full.
    pub rss: ByteSize,
    /// The same with each shared page divided among those who share it; `None` where the kernel refuses to tell.
    pub pss: Option<ByteSize>,
}

/// Measures processes; a stranger that got a recorded pid is never measured.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait ProcessStats: Send + Sync {
    /// Returns what exactly this process costs now; `None` if it is gone.
    fn usage(&self, process: &ProcessIdentity) -> Option<ProcessUsage>;

    /// Returns how long CPUs have worked for exactly this process; `None` if it is gone. Cheap: to be asked twice.
    fn cpu_time(&self, process: &ProcessIdentity) -> Option<Duration>;
}
