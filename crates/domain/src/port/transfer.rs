//! Moving what a database holds to another database.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Guard, Holder, StoreError};
use crate::change::StorageRecord;
use crate::event::RecordedEvent;
use crate::history::RecordedHistory;
use crate::snapshot::SnapshotRecord;
use crate::vm::Vm;

/// Everything that a database holds of one user of one host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoreContent {
    /// The VMs, ordered by ID.
    pub vms: Vec<Vm>,
    /// The records of images, oldest first; also those of removed VMs.
    pub storage: Vec<StorageRecord>,
    /// The records of snapshots, ordered by VM, drive and tag.
    pub snapshots: Vec<SnapshotRecord>,
    /// The history, oldest first.
    pub history: Vec<RecordedHistory>,
    /// The events, oldest first.
    pub events: Vec<RecordedEvent>,
}

impl StoreContent {
    /// Returns whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.vms.is_empty()
            && self.storage.is_empty()
            && self.snapshots.is_empty()
            && self.history.is_empty()
            && self.events.is_empty()
    }

    /// Numbers the history and the events from 1 on without gaps, as another database does; two databases hold the same if
    /// this returns the same.
    ///
    /// An entry that reverts one which is not kept any more reverts none.
    #[must_use]
    pub fn renumbered(mut self) -> Self {
        let numbers: HashMap<i64, i64> = self.history.iter().map(|entry| entry.sequence).zip(1..).collect();
        for (entry, sequence) in self.history.iter_mut().zip(1..) {
            entry.sequence = sequence;
            entry.entry.reverts = entry.entry.reverts.and_then(|reverted| numbers.get(&reverted).copied());
        }
        for (event, sequence) in self.events.iter_mut().zip(1..) {
            event.sequence = sequence;
            // All are of this host; a database that is not shared does not record it.
            event.host = None;
        }
        self
    }
}

/// Identifies a move: the marks of both databases have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MoveId(Uuid);

impl MoveId {
    /// Uses 16 random bytes.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(random))
    }
}

/// The part that a database has, or had, in a move; commands do not use a database with a mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveMark {
    /// Its content is in another database.
    To {
        /// The move.
        id: MoveId,
        /// The URL of that database, without secrets.
        url: String,
        /// When it was moved.
        at: Timestamp,
    },
    /// It is being filled from another database, or the process that did was killed.
    From {
        /// The move.
        id: MoveId,
        /// The URL of that database, without secrets.
        url: String,
        /// When the move began.
        at: Timestamp,
    },
}

impl MoveMark {
    /// Returns why the database at `location` is not used.
    pub fn error(&self, location: &str) -> StoreError {
        let location = location.to_owned();
        match self {
            Self::To { url, .. } => StoreError::Moved { location, to: url.clone() },
            Self::From { url, .. } => StoreError::MoveUnfinished { location, from: url.clone() },
        }
    }

    /// Returns why a database at `location` is not one with this mark; `found` is what it has instead.
    pub fn missing(found: Option<&Self>, location: &str) -> StoreError {
        match found {
            Some(found) => found.error(location),
            None => StoreError::NotVerified { location: location.to_owned() },
        }
    }

    /// Returns the URL of the other database.
    pub fn url(&self) -> &str {
        let (Self::To { url, .. } | Self::From { url, .. }) = self;
        url
    }

    /// Returns the move.
    pub const fn id(&self) -> MoveId {
        match self {
            Self::To { id, .. } | Self::From { id, .. } => *id,
        }
    }

    /// Returns whether what a database with this mark holds is replaced if `source` is moved to it: all of it is in
    /// `source`, or was.
    pub fn is_replaced_by(&self, source: &str) -> bool {
        without_tls(self.url()) == without_tls(source)
    }
}

/// Returns a URL without the parameters of TLS: with others, it is that of the same database.
fn without_tls(url: &str) -> String {
    let Some((address, parameters)) = url.split_once('?') else { return url.to_owned() };
    let others: Vec<&str> = parameters.split('&').filter(|parameter| !parameter.starts_with("ssl")).collect();
    if others.is_empty() { address.to_owned() } else { format!("{address}?{}", others.join("&")) }
}

/// What came of locking a database.
pub enum DatabaseLock {
    /// It is locked until this is dropped.
    Taken(Box<dyn Guard>),
    /// Another process had it locked all the time, which is named where that is known.
    InUse(Option<Holder>),
}

/// Reads and writes all that a database holds of one user of one host.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait StoreTransfer: Send + Sync {
    /// Returns the URL of the database without user and password; it is that of [`MoveMark`]s.
    fn url(&self) -> String;

    /// Locks the database for `operation`, so that no other process moves it; waits for another one for at most `timeout`.
    ///
    /// Errors: those of reads.
    async fn lock(&self, operation: &str, timeout: Duration) -> Result<DatabaseLock, StoreError>;

    /// Returns the mark of the database; none if it does not exist.
    ///
    /// Errors: those of reads.
    async fn mark(&self) -> Result<Option<MoveMark>, StoreError>;

    /// Reads everything, as it is at one moment, at which the database has this mark, or none.
    ///
    /// Errors: `Moved` and `MoveUnfinished` for another mark, `NotVerified` if the mark is gone; those of reads.
    async fn export(&self, mark: Option<MoveMark>) -> Result<StoreContent, StoreError>;

    /// Sets `mark`, and writes all of `content` or nothing.
    ///
    /// If the mark is set and the content is not written, the next import replaces what there is. A database that does not
    /// exist is created. One with the mark `replaced` loses what it holds. Errors: `NotEmpty` for
    /// any other that is not empty; those of commits.
    async fn import(&self, content: StoreContent, mark: MoveMark, replaced: Option<MoveMark>)
    -> Result<(), StoreError>;

    /// Marks the database as moved, unless it holds something else than `content` by now; returns whether it did. From then
    /// on no process can read or write it, not even one that has it open.
    ///
    /// A database that others share drops what it held. Errors: `Moved` and `MoveUnfinished` for one with a mark; those of
    /// commits.
    async fn leave(&self, content: StoreContent, mark: MoveMark) -> Result<bool, StoreError>;

    /// Removes this mark.
    ///
    /// Errors: `Moved` and `MoveUnfinished` for another mark, `NotVerified` if there is none; those of commits.
    async fn clear_mark(&self, mark: MoveMark) -> Result<(), StoreError>;

    /// Removes this mark with all that the database holds; does nothing if it does not have the mark.
    ///
    /// Errors: those of commits.
    async fn undo_import(&self, mark: MoveMark) -> Result<(), StoreError>;
}

/// A database that is not the one in use.
#[derive(Clone)]
pub struct OtherDatabase {
    /// Identifies the database in directories that several share.
    pub name: String,
    /// Reads and writes it.
    pub transfer: Arc<dyn StoreTransfer>,
}

/// Finds databases by their URL.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Databases: Send + Sync {
    /// Returns the database in use.
    ///
    /// Errors: `MoveUnsupported`.
    fn current(&self) -> Result<OtherDatabase, StoreError>;

    /// Returns the database of a URL, which may not exist yet.
    ///
    /// Errors: `InvalidUrl`, `MoveUnsupported`, and those of opening a store.
    async fn find(&self, url: &str) -> Result<OtherDatabase, StoreError>;

    /// Creates a file with `content`, whole or not at all, which can be used as a database; returns its path.
    ///
    /// Without a path, it is one of the backups in the data directory, of which the oldest are removed. Errors:
    /// `BackupExists`, `Full`, `Unavailable`, `Failed`.
    async fn back_up(&self, content: StoreContent, file: Option<PathBuf>) -> Result<PathBuf, StoreError>;
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::error::Explain;
    use crate::event::Event;
    use crate::history::{Actor, Call, EntryKind, HistoryEntry};

    fn entry(sequence: i64, reverts: Option<i64>) -> RecordedHistory {
        let entry = HistoryEntry {
            at: Timestamp::UNIX_EPOCH,
            actor: Actor { user: "u".to_owned(), host: "h".to_owned(), pid: 1 },
            vm: None,
            vm_name: None,
            kind: EntryKind::Work,
            call: Call { operation: "x".to_owned(), arguments: Value::Null },
            inverse: None,
            irreversible: None,
            reverts,
        };
        RecordedHistory { sequence, entry }
    }

    #[test]
    fn test_renumbered_keeps_what_entries_revert() {
        let event =
            Event { at: Timestamp::UNIX_EPOCH, kind: "x".to_owned(), vm: None, vm_name: None, data: Value::Null };
        let content = StoreContent {
            history: vec![entry(7, None), entry(9, Some(7)), entry(12, Some(3)), entry(13, Some(9))],
            events: vec![RecordedEvent { sequence: 5, host: Some("h".to_owned()), event: event.clone() }],
            ..StoreContent::default()
        };

        let renumbered = content.renumbered();

        assert_eq!(renumbered.history, [entry(1, None), entry(2, Some(1)), entry(3, None), entry(4, Some(2))]);
        assert_eq!(renumbered.events, [RecordedEvent { sequence: 1, host: None, event }]);
    }

    #[test]
    fn test_mark_is_replaced_by_its_own_source_only() {
        let (id, url, at) = (MoveId::new([1; 16]), "sqlite:/d/a.db".to_owned(), Timestamp::UNIX_EPOCH);
        let marks = [MoveMark::To { id, url: url.clone(), at }, MoveMark::From { id, url, at }];

        assert!(marks.iter().all(|mark| mark.is_replaced_by("sqlite:/d/a.db")));
        assert!(!marks.iter().any(|mark| mark.is_replaced_by("sqlite:/d/b.db")));
        let mark = MoveMark::From { id, url: "postgres://db/a?sslmode=require".to_owned(), at };
        assert!(mark.is_replaced_by("postgres://db/a") && !mark.is_replaced_by("postgres://db/b?sslmode=require"));
    }

    /// URLs are recorded without the user.
    #[test]
    fn test_hints_of_an_unfinished_move_add_the_user_of_a_server() {
        let hints = |url: &str, location: &str| {
            let mark = MoveMark::From { id: MoveId::new([1; 16]), url: url.to_owned(), at: Timestamp::UNIX_EPOCH };
            mark.error(location).explain().hints
        };
        let user = "add the user, unless it has your name: `postgres://USER@HOST/DATABASE`";

        let from_server = hints("postgres://db/maqet", "/d/a.db");
        let to_server = hints("sqlite:/d/a.db", "postgres://db/maqet");

        assert_eq!(
            from_server,
            ["run `maqet --database postgres://db/maqet database move --to /d/a.db` to finish it", user]
        );
        assert_eq!(to_server.last().map(String::as_str), Some(user));
        assert_eq!(hints("sqlite:/d/a.db", "/d/b.db").len(), 1);
    }
}
