//! Every timeout, retry and limit of this crate, each with its reason.

use std::time::Duration;

/// How long a connection may take, with TLS and the password: a server on another continent needs less than a second.
/// The parameter `connect_timeout` of the URL replaces it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a statement waits for other processes, and for its execution: a commit takes a few milliseconds, so this is a
/// queue of thousands. The parameter `options` of the URL can replace it.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a statement waits for a lock: less than its execution may take, so that the server says that another process has
/// the lock. The parameter `options` of the URL can replace it.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(8);

const _: () = assert!(
    LOCK_TIMEOUT.as_millis() < STATEMENT_TIMEOUT.as_millis(),
    "else a wait is no different from a slow statement"
);

/// How long the server keeps a transaction whose process does not go on: longer than the process waits for its replies.
pub const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a reply may take: longer than a statement, so that the server reports a slow statement as such.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a server that restarts, or that accepts no more connections, is asked again.
pub const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The shortest pause between two attempts to connect.
pub const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The longest pause between two attempts to connect; a server restarts in about a second.
pub const MAX_RETRY_INTERVAL: Duration = Duration::from_millis(300);

/// How often a transaction is repeated that the server rolled back because of a deadlock.
pub const MAX_ATTEMPTS: u32 = 5;

/// How many connections a store keeps; a command uses one, and a program with many tasks waits for a free one.
pub const MAX_CONNECTIONS: usize = 4;

/// How many statements are sent before a reply is awaited.
pub const MAX_PIPELINED: usize = 24;

/// How long the result of a commit is awaited whose connection was lost: until the server has noticed that.
pub const OUTCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the server is asked for it.
pub const OUTCOME_INTERVAL: Duration = Duration::from_millis(50);

/// How long a silent connection is idle before the kernel checks whether the server still exists.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// How often a reader that waits for events asks the server although no notification came: those of a pooler are lost.
pub const LISTEN_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How often a store that is used records that its host is there: a host is away only after many times that.
pub const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_mins(1);

/// How long a store waits; see the constants for the reasons of the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a reply of the server.
    pub reply: Duration,
    /// For a server that restarts, or that accepts no more connections.
    pub reconnect: Duration,
    /// For the outcome of a commit whose connection was lost.
    pub outcome: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { reply: REPLY_TIMEOUT, reconnect: RECONNECT_TIMEOUT, outcome: OUTCOME_TIMEOUT }
    }
}

/// How many entries of the history one commit removes at most, so that none takes long; each adds only one.
pub(crate) const PRUNED_AT_ONCE: u32 = 100;

/// Which commits remove old entries: every one of so many, as it takes a millisecond to find the oldest of 10,000.
pub(crate) const PRUNING_INTERVAL: u32 = 16;

/// How many entries of the history, or events, one statement adds when a database is filled: a few megabytes.
pub(crate) const MAX_FILLED_AT_ONCE: usize = 5_000;

/// How many statements are sent in the time of one reply when a database is filled: much less than a second of work.
pub(crate) const MAX_STATEMENTS_PER_REPLY: usize = 500;
