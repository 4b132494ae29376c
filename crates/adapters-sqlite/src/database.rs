//! One open database: opened with no more work than needed, tried again while others hold it, and read where it
//! cannot be written.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use maqet_domain::change::ChangeSet;
use maqet_domain::port::StoreError;
use maqet_fault_points::{FaultPoint, FaultPoints};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Result};

use crate::care::{BACKUPS, backup};
use crate::error::{explained, is_busy, is_hindrance};
use crate::place::{Finding, Place};
use crate::schema::Due;
use crate::write::Refusal;
use crate::{Options, birth, limits, schema, write};

/// A database of ours and how to get at it.
#[derive(Debug)]
pub(crate) struct Database {
    place: Place,
    patience: Duration,
    access: Access,
    faults: FaultPoints,
}

#[derive(Debug)]
enum Access {
    /// The usual way, with a write-ahead log and its index shared by all processes.
    Shared { connection: Connection, writes: bool },
    /// The log or its index cannot be made (no space, no right to write), so each read opens the database anew.
    Hindered,
}

impl Database {
    /// Opens the database at `path`, making it where nothing is.
    pub(crate) fn open(path: &Path, options: Options) -> std::result::Result<Self, StoreError> {
        safe_sqlite()?;
        let Options { patience, faults } = options;
        let place = Place::resolve(path)?;
        if place.look()? == Finding::Nothing {
            birth::create(&place)?;
            faults.reach(FaultPoint::StoreMade);
            place.look()?;
        }
        let explain = |error| explained(&place.given, "open the database", error);

        let mut connection = connect(&place).map_err(explain)?;
        let access = match patiently(patience, || schema::identity(&connection)) {
            Ok(found) => {
                if schema::judge(&place, found)? == Due::Migration {
                    backup::of_connection(&place, &connection, &place.folder.join(BACKUPS))?;
                    patiently(patience, || schema::migrate(&mut connection)).map_err(explain)?;
                }
                Access::Shared { connection, writes: false }
            }
            Err(error) if is_hindrance(&error) => {
                drop(connection);
                let reader = Reader::alone(&place, error).map_err(explain)?;
                schema::judge(&place, reader.found)?;
                Access::Hindered
            }
            Err(error) => return Err(explain(error)),
        };
        Ok(Self { place, patience, access, faults })
    }

    /// Returns whether every read opens the database anew, and may have to be done again.
    pub(crate) fn is_hindered(&self) -> bool {
        matches!(self.access, Access::Hindered)
    }

    /// Goes on as where nothing can be written.
    #[cfg(test)]
    pub(crate) fn hinder(&mut self) {
        self.access = Access::Hindered;
    }

    /// Reads with `work`, which may be called more than once.
    pub(crate) fn read<T>(
        &self,
        action: &'static str,
        work: impl Fn(&Connection) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        self.read_within(self.patience, action, work)
    }

    /// Does the same and waits for others no longer than `patience`.
    pub(crate) fn read_within<T>(
        &self,
        patience: Duration,
        action: &'static str,
        work: impl Fn(&Connection) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        match &self.access {
            Access::Shared { connection, .. } => patiently(patience, || work(connection)),
            Access::Hindered => patiently(patience, || self.read_anew(patience, &work)),
        }
        .map_err(|error| explained(&self.place.given, action, error))
    }

    /// Writes all of `changes` or nothing.
    pub(crate) fn commit(&mut self, changes: &ChangeSet) -> std::result::Result<(), StoreError> {
        let explain = |error| explained(&self.place.given, "write to the database", error);
        if self.is_hindered() {
            // The hindrance may be gone; if it is not, its error tells what it is.
            let connection = connect(&self.place).map_err(explain)?;
            patiently(self.patience, || schema::identity(&connection)).map_err(explain)?;
            self.access = Access::Shared { connection, writes: false };
        }
        let Access::Shared { connection, writes } = &mut self.access else { return Ok(()) };
        if !*writes {
            patiently(self.patience, || make_durable(connection)).map_err(explain)?;
            *writes = true;
        }
        let mut rule = None;
        let written = patiently(self.patience, || match write::apply(connection, changes, &self.faults) {
            Ok(()) => Ok(()),
            Err(Refusal::Sqlite(error)) => Err(error),
            Err(Refusal::Rule(broken)) => {
                rule = Some(broken);
                Ok(())
            }
        });
        written.map_err(explain)?;
        self.faults.reach(FaultPoint::StoreCommitted);
        rule.map_or(Ok(()), Err)
    }

    /// Reads through a connection that is opened for it.
    fn read_anew<T>(&self, patience: Duration, work: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let before = self.place.stamp();
            let reader = Reader::open(&self.place)?;
            let result = work(&reader.connection);
            // Without a lock half of a change could be seen, so nobody may have written meanwhile.
            if reader.is_locked || before == self.place.stamp() || Instant::now() > deadline {
                return result;
            }
        }
    }
}

/// Refuses an SQLite that loses commits; `LIBSQLITE3_SYS_USE_PKG_CONFIG` can bring one in at build time.
pub(crate) fn safe_sqlite() -> std::result::Result<(), StoreError> {
    if rusqlite::version_number() >= limits::SQLITE_OLDEST {
        return Ok(());
    }
    let why = format!("SQLite {} loses commits; 3.51.3 and later do not", rusqlite::version());
    Err(StoreError::Failed { action: "use this SQLite", source: io::Error::other(why).into() })
}

/// Opens the database the usual way, without looking into it yet.
fn connect(place: &Place) -> Result<Connection> {
    set_up(Connection::open_with_flags(
        &place.file,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW,
    )?)
}

fn set_up(connection: Connection) -> Result<Connection> {
    // All waiting is done by `patiently`: SQLite's own does not cover everything, and has no jitter.
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    // What stands in a damaged or doctored file is not to be run.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_prepared_statement_cache_capacity(limits::STATEMENTS);
    Ok(connection)
}

/// A connection for one read.
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) found: schema::Identity,
    /// Whether SQLite's locks keep writers away from what is read.
    pub(crate) is_locked: bool,
}

impl Reader {
    /// Opens the database the usual way, or one of those that need no new file.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        match connect(place).and_then(|connection| Self::on(connection, true)) {
            Err(error) if is_hindrance(&error) => Self::alone(place, error),
            result => result,
        }
    }

    /// Opens a database whose log or index cannot be shared because of `hindrance`.
    fn alone(place: &Place, hindrance: rusqlite::Error) -> Result<Self> {
        // The index fits in memory if nobody else is there: SQLite makes sure by a lock.
        match connect_exclusive(place).and_then(|connection| Self::on(connection, true)) {
            Err(error) if is_busy(&error) => Err(error),
            // Nobody has written since the last checkpoint, so the file itself is all there is.
            Err(_) if !place.has_log() => {
                connect_immutable(place).and_then(|connection| Self::on(connection, false)).map_err(|_| hindrance)
            }
            Err(_) => Err(hindrance),
            Ok(reader) => Ok(reader),
        }
    }

    fn on(connection: Connection, is_locked: bool) -> Result<Self> {
        Ok(Self { found: schema::identity(&connection)?, connection, is_locked })
    }
}

fn connect_exclusive(place: &Place) -> Result<Connection> {
    let connection = connect(place)?;
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    // Who came to read leaves the file as it is.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn connect_immutable(place: &Place) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    set_up(Connection::open_with_flags(place.immutable_uri(), flags)?)
}

/// Makes commits durable: what SQLite was built with, or who restored the file, may have chosen otherwise.
fn make_durable(connection: &Connection) -> Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    }
    Ok(())
}

/// Calls `attempt` until it does not fail for a lock of others, or patience ends; the pauses grow and vary.
pub(crate) fn patiently<T>(patience: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    let mut longest = limits::PAUSE_SHORTEST;
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                thread::sleep(pause(longest));
                longest = (longest * 2).min(limits::PAUSE_LONGEST);
            }
            result => return result,
        }
    }
}

/// Returns a pause up to `longest`; those who began to wait together do not wake together.
fn pause(longest: Duration) -> Duration {
    let chance = RandomState::new().hash_one(()) % 1024;
    let span = longest.saturating_sub(limits::PAUSE_SHORTEST);
    limits::PAUSE_SHORTEST + span * u32::try_from(chance).unwrap_or(0) / 1024
}
