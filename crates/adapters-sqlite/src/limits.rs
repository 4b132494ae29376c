//! Every timeout, retry and limit of this crate, each with its reason.

use std::time::Duration;

/// How long a task waits for other processes before it fails as `Busy`: a commit holds the lock for about 2 ms, so this
/// is a queue of thousands; a longer wait means that a process hangs.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The shortest pause between two attempts to get a lock; about one commit on a fast disk.
pub const MIN_RETRY_INTERVAL: Duration = Duration::from_micros(300);

/// The longest pause between two attempts: a few commits, so that a free lock is not left unused for long.
pub const MAX_RETRY_INTERVAL: Duration = Duration::from_millis(6);

/// How many tasks may wait for the worker thread; further callers wait for a slot in the queue.
pub const MAX_QUEUED_TASKS: usize = 64;

/// How many rows of a list are read at a time: about a millisecond, after which other async tasks get a turn.
pub const LIST_CHUNK: u32 = 1_000;

/// How many VMs are read at a time with their definitions, which take longer than the rows of a list.
pub const VM_CHUNK: u32 = 100;

/// How many prepared statements are cached; there are fewer different ones.
pub const MAX_CACHED_STATEMENTS: usize = 32;

/// How often the path is checked while other processes create or remove files there.
pub const MAX_PATH_CHECKS: u32 = 8;

/// How many names are tried for a backup of the same millisecond.
pub const MAX_BACKUP_NAMES: u32 = 8;

/// The oldest safe SQLite: up to 3.51.2 two concurrent writers could lose commits of a write-ahead log.
pub const MIN_SQLITE_VERSION: i32 = 3_051_003;

/// How many backups are kept; each is as large as the database, some megabytes at most.
pub const MAX_BACKUPS: usize = 10;

/// How many of SQLite's findings about a damaged database are reported; the first ones name the cause.
pub const MAX_REPORTED_PROBLEMS: u32 = 5;

/// The largest step, in rows, of the search for the end of a damaged part of a table.
pub const MAX_SKIP: i64 = 4096;

/// How many entries of the history one commit removes at most, so that none takes long; each adds only one.
pub(crate) const PRUNED_AT_ONCE: u32 = 100;
