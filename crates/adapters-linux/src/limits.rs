//! Every time-out, retry and limit of this crate, each with its reason.

use std::time::Duration;

/// The shortest pause of a queue; a command takes about 1 ms.
pub const QUEUE_PAUSE: Duration = Duration::from_micros(500);

/// How much is added to [`QUEUE_PAUSE`] at most, at random, so that those who wait do not keep in step.
pub const QUEUE_JITTER: Duration = Duration::from_micros(1_500);

/// How long a lock is tried for even by those who will not wait: the copy that a child being spawned has of a lock's
/// file lives until its `exec`, some milliseconds.
pub const LOCK_LEAST_PATIENCE: Duration = Duration::from_millis(20);

/// How long a process of ours may take to die of SIGKILL before it is left to the kernel; only a process that hangs in
/// a device driver takes longer.
pub const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// How much of `/proc/cpuinfo` is searched for the flags of the first CPU.
pub const CPUINFO_BYTES: u64 = 64 << 10;

/// How many links of one path are followed before they are taken for a loop; as many as the kernel follows.
pub const LINKS_FOLLOWED: usize = 40;

/// The length of a path from which the kernel refuses it, in bytes (`PATH_MAX`).
pub const PATH_BYTES: usize = 4_096;

/// How large the log of what maqet did to a VM may become: some 2,000 lines; half of them stay when it does.
pub const JOURNAL_BYTES: u64 = 256 << 10;

/// How long is waited for another process that adds to the same log; it takes some 50 µs, and a log must hold nobody up.
pub const JOURNAL_PATIENCE: Duration = Duration::from_millis(500);

/// The largest copy of a VM that is read; a definition is at most 1 MiB of YAML.
pub const COPY_BYTES: u64 = 16 << 20;

/// The age from which a temporary file is stale if its writer cannot be checked: twice the timeout of the slowest write,
/// which is the creation of an image.
pub const STALE_FILE_AGE: Duration = Duration::from_mins(4);

/// How much a hook may print; it is a notification, and what it has to say at length belongs into files of its own.
pub const HOOK_OUTPUT_BYTES: usize = 64 << 10;

/// How large the log of hooks becomes before it begins anew; the one before is kept.
pub const HOOK_LOG_BYTES: u64 = 1 << 20;

/// Returns `time` as it is told to people: in milliseconds, and never as none.
pub fn in_millis(time: Duration) -> Duration {
    let millis = u64::try_from((time + Duration::from_micros(500)).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.max(1))
}
