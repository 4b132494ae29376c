//! Every time-out, retry and limit of this crate, each with its reason.

use std::time::Duration;

/// How long a job waits for other processes before it is `Busy`: a commit holds the lock for about 2 ms, so that this
/// is a queue of thousands; who waits longer waits for somebody who hangs.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The shortest pause between two tries for a lock; a commit on a fast disk takes about this long.
pub const PAUSE_SHORTEST: Duration = Duration::from_micros(300);

/// The longest pause between two tries: a few commits, so that nobody sleeps while the lock is free for long.
pub const PAUSE_LONGEST: Duration = Duration::from_millis(6);

/// How many jobs may wait for the thread that owns the connection; more callers wait for a place.
pub const QUEUE: usize = 64;

/// How many rows of a list are read at a time: about a millisecond of a thread that has other things to do, too.
pub const PIECE: u32 = 1_000;

/// How many prepared statements are kept; there are fewer different ones.
pub const STATEMENTS: usize = 32;

/// How often the place of the database is looked at while others create or remove files there.
pub const LOOKS: u32 = 8;

/// The oldest SQLite that is safe: up to 3.51.2 two writers at once could lose commits of a write-ahead log.
pub const SQLITE_OLDEST: i32 = 3_051_003;

/// How many backups are kept; each is as large as the database, some megabytes at most.
pub const BACKUPS_KEPT: usize = 10;

/// How many of SQLite's findings about a damaged database are told; the first ones say what it is about.
pub const PROBLEMS_TOLD: u32 = 5;

/// How far the search for the end of a damaged part of a table goes in one step at most, in rows.
pub const SKIP_LONGEST: i64 = 4096;
