//! One open database: opened with as little work as possible, retried while other processes lock it, and read even
//! where it cannot be written.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_domain::change::ChangeSet;
use maqet_domain::port::StoreError;
use maqet_fault_points::{FaultPoint, FaultPoints};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Result};

use crate::durability::{self, Written, make_durable};
use crate::error::{is_busy, prevents_writing};
use crate::path::{DatabasePath, Presence};
use crate::retry::{Deadline, retry_while_busy};
use crate::write::WriteError;
use crate::{backup, create, limits, schema, write};

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a task waits for other processes before it fails as `Busy`.
    pub busy_timeout: Duration,
    /// Receives the fault points that are reached.
    pub faults: FaultPoints,
}

impl Default for Options {
    fn default() -> Self {
        Self { busy_timeout: limits::BUSY_TIMEOUT, faults: FaultPoints::default() }
    }
}

/// A database that is opened at its first use, and again after it was closed.
#[derive(Debug)]
pub(crate) struct LazyDatabase {
    path: PathBuf,
    options: Options,
    opened: Option<Database>,
}

impl LazyDatabase {
    /// Opens nothing yet.
    pub(crate) const fn new(path: PathBuf, options: Options) -> Self {
        Self { path, options, opened: None }
    }

    /// Returns whether the database is open.
    pub(crate) const fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    /// Returns the database, opened if it was not.
    pub(crate) fn get(&mut self) -> std::result::Result<&mut Database, StoreError> {
        let database = match self.opened.take() {
            Some(database) => database,
            None => Database::open(&self.path, self.options.clone())?,
        };
        Ok(self.opened.insert(database))
    }

    /// Returns the database if it is open or can be opened at once, as [`Database::open_at_once`] does.
    pub(crate) fn get_at_once(&mut self) -> Option<&mut Database> {
        if self.opened.is_none() {
            self.opened = Database::open_at_once(&self.path, &self.options);
        }
        self.opened.as_mut()
    }

    /// Closes the database.
    pub(crate) fn close(&mut self) {
        self.opened = None;
    }
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    path: DatabasePath,
    options: Options,
    access: Access,
}

#[derive(Debug)]
enum Access {
    /// The usual way: a write-ahead log and its index, shared by all processes.
    Shared {
        connection: Connection,
        /// Whether it has a write-ahead log; unknown before the first commit, which makes commits durable.
        has_log: Option<bool>,
        /// What the database says about itself, if its schema could not be migrated.
        unmigrated: Option<schema::Identity>,
    },
    /// The log or its index cannot be created (no space, no permission), so each read opens the database again.
    ReadOnly,
}

impl Database {
    /// Opens the database at `path`, creating it if there is none.
    fn open(path: &Path, options: Options) -> std::result::Result<Self, StoreError> {
        require_safe_sqlite()?;
        let path = DatabasePath::resolve(path)?;
        if path.presence()? == Presence::Absent {
            create::create(&path)?;
            options.faults.reach(FaultPoint::StoreMade);
            path.presence()?;
        }
        let failed = |error| path.sqlite_error("open the database", error);

        let mut connection = connect(&path).map_err(failed)?;
        let access = match retry_while_busy(options.busy_timeout, || schema::identity(&connection)) {
            Ok(found) => {
                let unmigrated = match migrate(&path, &mut connection, &found, options.busy_timeout) {
                    Ok(()) => None,
                    // An older schema can be read; a commit tries again.
                    Err(StoreError::Full { .. } | StoreError::Unavailable { .. }) => Some(found),
                    Err(error) => return Err(error),
                };
                Access::Shared { connection, has_log: None, unmigrated }
            }
            Err(error) if prevents_writing(&error) => {
                drop(connection);
                let reader = Reader::open_read_only(&path, error).map_err(failed)?;
                schema::needs_migration(&path, &reader.found)?;
                Access::ReadOnly
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { path, options, access })
    }

    /// Opens the database at `path` if it exists, has the newest schema and is not locked: nothing is waited for
    /// or reported.
    fn open_at_once(path: &Path, options: &Options) -> Option<Self> {
        require_safe_sqlite().ok()?;
        let path = DatabasePath::resolve(path).ok()?;
        if path.presence().ok()? == Presence::Absent {
            return None;
        }
        let connection = connect(&path).ok()?;
        let found = schema::identity(&connection).ok()?;
        if schema::needs_migration(&path, &found).ok()? {
            return None;
        }
        let access = Access::Shared { connection, has_log: None, unmigrated: None };
        Some(Self { path, options: options.clone(), access })
    }

    /// Returns whether every read opens the database again, and may have to be repeated.
    pub(crate) const fn is_read_only(&self) -> bool {
        matches!(self.access, Access::ReadOnly)
    }

    /// Behaves as where the log cannot be created.
    #[cfg(test)]
    pub(crate) fn force_read_only(&mut self) {
        self.access = Access::ReadOnly;
    }

    /// Reads with `query`, which may be called more than once.
    pub(crate) fn read<T>(
        &self,
        action: &'static str,
        query: impl Fn(&Connection) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        self.read_within(self.options.busy_timeout, action, query)
    }

    /// Reads as [`read`](Self::read) does, and waits for other processes for at most `timeout`.
    pub(crate) fn read_within<T>(
        &self,
        timeout: Duration,
        action: &'static str,
        query: impl Fn(&Connection) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        // A database that is left keeps its content, so that what was read before the mark is what it had.
        let query = |connection: &Connection| Ok((query(connection)?, schema::refusal(connection)?));
        let read = match &self.access {
            Access::Shared { connection, .. } => retry_while_busy(timeout, || query(connection)),
            Access::ReadOnly => retry_while_busy(timeout, || self.read_reopened(timeout, query)),
        };
        match read.map_err(|error| self.path.sqlite_error(action, error))? {
            (_, Some(refusal)) => Err(refusal.error(&self.path)),
            (rows, None) => Ok(rows),
        }
    }

    /// Writes all of `changes` or nothing.
    pub(crate) fn commit(&mut self, changes: &ChangeSet) -> std::result::Result<(), StoreError> {
        let timeout = self.options.busy_timeout;
        let failed = |error| self.path.sqlite_error("write to the database", error);
        if matches!(self.access, Access::ReadOnly) {
            // The cause may be gone; if it is not, its error says what it is.
            let connection = connect(&self.path).map_err(failed)?;
            let found = retry_while_busy(timeout, || schema::identity(&connection)).map_err(failed)?;
            self.access = Access::Shared { connection, has_log: None, unmigrated: Some(found) };
        }
        let Access::Shared { connection, has_log, unmigrated } = &mut self.access else { return Ok(()) };
        if let Some(found) = unmigrated {
            migrate(&self.path, connection, found, timeout)?;
            *unmigrated = None;
        }
        let has_log = match *has_log {
            Some(known) => known,
            None => *has_log.insert(retry_while_busy(timeout, || make_durable(connection)).map_err(failed)?),
        };
        let mut violation = None;
        let faults = &self.options.faults;
        let written = retry_while_busy(timeout, || {
            let written = if has_log {
                durability::apply(connection, &self.path, changes, faults)
            } else {
                write::apply(connection, changes, faults, || true).map(|_| Written::Durably)
            };
            match written {
                Ok(written) => Ok(written),
                Err(WriteError::Sqlite(error)) => Err(error),
                Err(WriteError::Rule(error)) => {
                    violation = Some(error);
                    Ok(Written::Durably)
                }
                Err(WriteError::Refused(refusal)) => {
                    violation = Some(refusal.error(&self.path));
                    Ok(Written::Durably)
                }
            }
        });
        if written.map_err(failed)? == Written::Unsynced && !changes.is_mark() {
            durability::sync(connection, &self.path).map_err(|error| self.path.io_error(error))?;
        }
        self.options.faults.reach(FaultPoint::StoreCommitted);
        violation.map_or(Ok(()), Err)
    }

    /// Reads through a connection that is opened for this read.
    fn read_reopened<T>(&self, timeout: Duration, query: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        let deadline = Deadline::after(timeout);
        loop {
            let before = self.path.write_stamp();
            let reader = Reader::open(&self.path)?;
            let result = query(&reader.connection);
            // Without a lock the read may see half of a change, unless nothing was written meanwhile.
            if reader.is_locked || before == self.path.write_stamp() || deadline.is_over() {
                return result;
            }
        }
    }
}

/// Refuses an SQLite that loses commits; `LIBSQLITE3_SYS_USE_PKG_CONFIG` can link one at build time.
pub(crate) fn require_safe_sqlite() -> std::result::Result<(), StoreError> {
    if rusqlite::version_number() >= limits::MIN_SQLITE_VERSION {
        return Ok(());
    }
    let reason = format!("SQLite {} can lose commits; maqet needs 3.51.3 or later", rusqlite::version());
    Err(StoreError::Failed { action: "use this SQLite", source: io::Error::other(reason).into() })
}

/// Opens the database the usual way, without reading it yet.
pub(crate) fn connect(path: &DatabasePath) -> Result<Connection> {
    configure(Connection::open_with_flags(
        &path.file,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW,
    )?)
}

fn configure(connection: Connection) -> Result<Connection> {
    // `retry_while_busy` does all the waiting: SQLite's own does not cover every case, and has no jitter.
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    // The schema of a damaged or forged file must not run functions.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_prepared_statement_cache_capacity(limits::MAX_CACHED_STATEMENTS);
    Ok(connection)
}

/// A connection for one read.
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) found: schema::Identity,
    /// Whether SQLite's locks keep writers out while this reads.
    pub(crate) is_locked: bool,
}

impl Reader {
    /// Opens the database the usual way, or else in a way that needs no new file.
    pub(crate) fn open(path: &DatabasePath) -> Result<Self> {
        match connect(path).and_then(|connection| Self::new(connection, true)) {
            Err(error) if prevents_writing(&error) => Self::open_read_only(path, error),
            result => result,
        }
    }

    /// Opens a database whose log or index cannot be shared because of `cause`.
    fn open_read_only(path: &DatabasePath, cause: rusqlite::Error) -> Result<Self> {
        // With exclusive access, which SQLite ensures by a lock, the index is kept in memory.
        match connect_exclusive(path).and_then(|connection| Self::new(connection, true)) {
            Err(error) if is_busy(&error) => Err(error),
            // Without a log everything is in the file itself.
            Err(_) if !path.has_log() => {
                connect_immutable(path).and_then(|connection| Self::new(connection, false)).map_err(|_| cause)
            }
            Err(_) => Err(cause),
            Ok(reader) => Ok(reader),
        }
    }

    fn new(connection: Connection, is_locked: bool) -> Result<Self> {
        Ok(Self { found: schema::identity(&connection)?, connection, is_locked })
    }
}

fn connect_exclusive(path: &DatabasePath) -> Result<Connection> {
    let connection = connect(path)?;
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    // A read must not change the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn connect_immutable(path: &DatabasePath) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    configure(Connection::open_with_flags(path.immutable_uri(), flags)?)
}

/// Migrates a database of an older schema, after a backup.
pub(crate) fn migrate(
    path: &DatabasePath,
    connection: &mut Connection,
    found: &schema::Identity,
    timeout: Duration,
) -> std::result::Result<(), StoreError> {
    if !schema::needs_migration(path, found)? {
        return Ok(());
    }
    backup::create(path, connection)?;
    retry_while_busy(timeout, || schema::migrate(connection))
        .map_err(|error| path.sqlite_error("migrate the database", error))
}
