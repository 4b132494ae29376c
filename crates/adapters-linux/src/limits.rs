//! Timeouts, intervals and limits of this crate, each with its reason.

use std::time::Duration;

/// The shortest pause between two tries; a QMP command takes about 1 ms.
pub const RETRY_INTERVAL: Duration = Duration::from_micros(500);

/// The largest random addition to [`RETRY_INTERVAL`], so that waiting processes do not retry in step.
pub const RETRY_JITTER: Duration = Duration::from_micros(1_500);

/// How long a lock is tried for even without a timeout: a child that is being spawned has a copy of the file of a
/// released lock until its `exec`, a few milliseconds.
pub const MIN_LOCK_TIMEOUT: Duration = Duration::from_millis(20);

/// How long to wait for a child process to die from SIGKILL; only one that hangs in a device driver takes longer.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a process that a program left running may take to leave its process group, before it is killed with it: a
/// daemon that starts takes less than 1 ms, on a busy host some more.
pub const DAEMON_START_TIMEOUT: Duration = Duration::from_millis(500);

/// How often the output of a hook is read, so that one that writes without end is stopped: it may write some megabytes
/// meanwhile.
pub const OUTPUT_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The pause between two looks at a daemon that starts.
pub const DAEMON_START_INTERVAL: Duration = Duration::from_millis(5);

/// How much of `/proc/cpuinfo` is searched for the flags of the first CPU.
pub const MAX_CPUINFO_BYTES: u64 = 64 << 10;

/// The longest record of the kernel's log (`PRINTKRB_RECORD_MAX` and its header, 8 KiB).
pub const MAX_KERNEL_RECORD_BYTES: usize = 8 << 10;

/// How many records of the kernel's log are searched: more than its usual buffers hold; each takes about 1 µs.
pub const MAX_KERNEL_RECORDS: usize = 100_000;

/// How deep maqet's directories are checked: those of VMs and runs are two below the data, state and runtime directory.
pub const CHECKED_DEPTH: u32 = 2;

/// How many directories in one are checked; more VMs than anyone has.
pub const MAX_CHECKED_DIRECTORIES: usize = 10_000;

/// How many symbolic links of a path are followed before it is considered a loop; as many as the kernel follows.
pub const MAX_SYMLINKS: usize = 40;

/// The length of a path from which the kernel refuses it (`PATH_MAX`).
pub const MAX_PATH_BYTES: usize = 4_096;

/// How long to wait for a process that writes to the same journal; it takes about 50 µs, and a journal must not delay an
/// operation.
pub const JOURNAL_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// The largest copy of a VM definition that is read; a definition has at most 1 MiB of YAML.
pub const MAX_COPY_BYTES: u64 = 16 << 20;

/// The age from which a temporary file is stale if its writer cannot be checked: twice the timeout of the slowest write,
/// which is the creation of an image.
pub const STALE_FILE_AGE: Duration = Duration::from_mins(4);

/// The largest output of a hook; longer reports belong in a file that the hook writes.
pub const MAX_HOOK_OUTPUT_BYTES: usize = 64 << 10;

/// How often a lock of the file of metrics is tried, each time after other processes could run: one that writes takes some
/// microseconds.
pub const METRIC_LOCK_TRIES: u32 = 50;

/// How often the file of metrics is read before a checksum that does not match is taken for damage: another process may be
/// writing a block, which takes less than 1 µs.
pub const METRIC_READS: u32 = 10;

/// Rounds a duration to milliseconds for a message, but not to zero.
pub fn round_to_millis(time: Duration) -> Duration {
    let millis = u64::try_from((time + Duration::from_micros(500)).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.max(1))
}

/// How much of an image is read at once for its checksum: some hundred microseconds, after which other work goes on.
pub const CHECKSUM_CHUNK_BYTES: usize = 1 << 20;

/// How much is read from ssh(1) in one call.
pub const SSH_READ_BYTES: usize = 64 << 10;

/// How much of what ssh(1) says about a connection is read; one message has a line or two.
pub const MAX_SSH_MESSAGE_BYTES: usize = 4 << 10;

/// How long ssh-keygen may take, which needs a few milliseconds, and random numbers of the kernel.
pub const KEY_TIMEOUT: Duration = Duration::from_secs(30);
