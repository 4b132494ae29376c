//! The port [`StoreTransfer`]: reads and writes all that a database holds.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use maqet_adapters_linux::FileLocks;
use maqet_adapters_linux::atomic_file::AtomicFile;
use maqet_domain::port::{DatabaseLock, LockError, MoveMark, StoreContent, StoreError, StoreTransfer};
use maqet_fault_points::{FaultPoint, FaultPoints};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::database::{Reader, connect, migrate, require_safe_sqlite};
use crate::durability::make_durable;
use crate::maintenance::on_own_thread;
use crate::path::{DatabasePath, Presence};
use crate::retry::retry_while_busy;
use crate::write::WriteError;
use crate::{backup, create, limits, read, schema, write};

const ACTION: &str = "move the database";

/// Moves what the database at a path holds; each call opens the file again.
#[derive(Debug, Clone)]
pub struct SqliteTransfer {
    path: PathBuf,
    faults: FaultPoints,
}

impl SqliteTransfer {
    /// Moves to and from the database at `path`.
    pub fn new(path: impl Into<PathBuf>, faults: FaultPoints) -> Self {
        Self { path: path.into(), faults }
    }
}

#[async_trait]
impl StoreTransfer for SqliteTransfer {
    fn url(&self) -> String {
        let absolute = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        format!("sqlite:{}", absolute.display())
    }

    async fn lock(&self, operation: &str, timeout: Duration) -> Result<DatabaseLock, StoreError> {
        let file = DatabasePath::resolve(&self.path)?.beside("-move");
        match FileLocks::lock_database(file, operation, timeout).await {
            Ok(guard) => Ok(DatabaseLock::Taken(guard)),
            Err(LockError::DatabaseInUse { holder, .. }) => Ok(DatabaseLock::InUse(holder)),
            Err(error) => Err(StoreError::Failed { action: "lock the database", source: error.into() }),
        }
    }

    async fn mark(&self) -> Result<Option<MoveMark>, StoreError> {
        let path = self.path.clone();
        on_own_thread(ACTION, move || match existing(&path)? {
            Some(path) => Ok(open(&path)?.found.mark().cloned()),
            None => Ok(None),
        })
        .await
    }

    async fn export(&self, mark: Option<MoveMark>) -> Result<StoreContent, StoreError> {
        let (path, location) = (self.path.clone(), self.url());
        on_own_thread(ACTION, move || match existing(&path)? {
            Some(path) => export(&path, mark.as_ref()),
            None if mark.is_some() => Err(MoveMark::missing(None, &location)),
            None => Ok(StoreContent::default()),
        })
        .await
    }

    async fn import(
        &self,
        content: StoreContent,
        mark: MoveMark,
        replaced: Option<MoveMark>,
    ) -> Result<(), StoreError> {
        let Self { path, faults } = self.clone();
        on_own_thread(ACTION, move || {
            let path = DatabasePath::resolve(&path)?;
            let content = content.renumbered();
            if path.presence()? == Presence::Absent {
                match create_filled(&path, &content, Some(&mark), &faults) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    created => return created.map_err(|error| path.io_error(error)),
                }
            }
            replace(&path, &content, &mark, replaced.as_ref(), &faults)
        })
        .await
    }

    async fn leave(&self, content: StoreContent, mark: MoveMark) -> Result<bool, StoreError> {
        let path = self.path.clone();
        on_own_thread(ACTION, move || {
            let path = DatabasePath::resolve(&path)?;
            write(&path, |transaction| {
                if let Some(found) = schema::mark(transaction)? {
                    return Ok(Err(path.marked(&found)));
                }
                let is_same = read::content(transaction)? == content;
                if is_same {
                    schema::set_mark(transaction, Some(&mark))?;
                }
                Ok(Ok(is_same))
            })?
        })
        .await
    }

    async fn clear_mark(&self, mark: MoveMark) -> Result<(), StoreError> {
        let (path, location) = (self.path.clone(), self.url());
        on_own_thread(ACTION, move || {
            let path = DatabasePath::resolve(&path)?;
            write(&path, |transaction| match schema::mark(transaction)? {
                Some(found) if found == mark => schema::set_mark(transaction, None).map(Ok),
                found => Ok(Err(MoveMark::missing(found.as_ref(), &location))),
            })?
        })
        .await
    }

    async fn undo_import(&self, mark: MoveMark) -> Result<(), StoreError> {
        let path = self.path.clone();
        on_own_thread(ACTION, move || {
            let Some(path) = existing(&path)? else { return Ok(()) };
            write(&path, |transaction| {
                if schema::mark(transaction)?.is_some_and(|found| found == mark) {
                    write::clear(transaction)?;
                    schema::set_mark(transaction, None)?;
                }
                Ok(())
            })
        })
        .await
    }
}

/// Creates a database with `content` as a backup at `file`, whole or not at all; without a file, as one of the backups of
/// the database at `database`, of which the oldest are removed if it `rotates`. Returns its path.
///
/// Errors: `BackupExists`, and those of the file system.
pub async fn back_up_content(
    database: PathBuf,
    content: StoreContent,
    file: Option<PathBuf>,
    rotates: bool,
) -> Result<PathBuf, StoreError> {
    on_own_thread("back up the database", move || {
        let content = content.renumbered();
        match file {
            Some(file) => create_backup(&content, &file).map(|()| file),
            None => backup::create_named(&backup::folder_of(&database), rotates, |file| create_backup(&content, file)),
        }
    })
    .await
}

fn create_backup(content: &StoreContent, file: &Path) -> Result<(), StoreError> {
    let exists = || StoreError::BackupExists { path: file.to_owned() };
    if file.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let path = DatabasePath::resolve(file)?;
    create_filled(&path, content, None, &FaultPoints::default()).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(),
        _ => path.io_error(error),
    })
}

/// Returns the database at `path` if there is a file.
fn existing(path: &Path) -> Result<Option<DatabasePath>, StoreError> {
    let path = DatabasePath::resolve(path)?;
    Ok((path.presence()? == Presence::Present).then_some(path))
}

/// Opens a database for reads, whatever its mark is.
fn open(path: &DatabasePath) -> Result<Reader, StoreError> {
    require_safe_sqlite()?;
    let opened = retry_while_busy(limits::BUSY_TIMEOUT, || Reader::open(path));
    let reader = opened.map_err(|error| path.sqlite_error(ACTION, error))?;
    if reader.found.mark().is_none() {
        schema::needs_migration(path, &reader.found)?;
    }
    Ok(reader)
}

fn export(path: &DatabasePath, mark: Option<&MoveMark>) -> Result<StoreContent, StoreError> {
    let mut connection = open(path)?.connection;
    let mut read = || {
        // A transaction sees the database as it is at its first read.
        let transaction = connection.transaction()?;
        let found = schema::mark(&transaction)?;
        if found.as_ref() != mark {
            return Ok(Err(MoveMark::missing(found.as_ref(), &path.location)));
        }
        read::content(&transaction).map(Ok)
    };
    retry_while_busy(limits::BUSY_TIMEOUT, &mut read).map_err(|error| path.sqlite_error(ACTION, error))?
}

/// Creates a database that holds `content`, as a whole.
fn create_filled(
    path: &DatabasePath,
    content: &StoreContent,
    mark: Option<&MoveMark>,
    faults: &FaultPoints,
) -> io::Result<()> {
    let bytes = filled(content, mark).map_err(io::Error::other)?;
    let file = create::new_file(path, &bytes)?;
    faults.reach(FaultPoint::StoreWritten);
    AtomicFile::publish(file)
}

/// Returns the bytes of a database that holds `content`.
fn filled(content: &StoreContent, mark: Option<&MoveMark>) -> Result<Vec<u8>, rusqlite::Error> {
    let mut connection = Connection::open_in_memory()?;
    schema::migrate(&mut connection)?;
    let transaction = connection.transaction()?;
    write::fill(&transaction, content).map_err(sqlite_cause)?;
    schema::set_mark(&transaction, mark)?;
    transaction.commit()?;
    create::content_of(&mut connection)
}

/// Writes `content` to a database that is empty, or that has the mark `replaced`.
fn replace(
    path: &DatabasePath,
    content: &StoreContent,
    mark: &MoveMark,
    replaced: Option<&MoveMark>,
    faults: &FaultPoints,
) -> Result<(), StoreError> {
    let is_written = write(path, |transaction| {
        let is_free = match schema::mark(transaction)? {
            Some(found) => replaced == Some(&found),
            None => read::content(transaction)?.is_empty(),
        };
        if !is_free {
            return Ok(false);
        }
        write::clear(transaction)?;
        write::fill(transaction, content).map_err(sqlite_cause)?;
        schema::set_mark(transaction, Some(mark))?;
        faults.reach(FaultPoint::StoreWritten);
        Ok(true)
    })?;
    if is_written { Ok(()) } else { Err(path.not_empty()) }
}

/// Writes in one durable transaction, whatever the mark is.
fn write<T>(path: &DatabasePath, work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
    let failed = |error| path.sqlite_error(ACTION, error);
    let found = open(path)?.found;
    let mut connection = connect(path).map_err(failed)?;
    if found.mark().is_none() {
        migrate(path, &mut connection, &found, limits::BUSY_TIMEOUT)?;
    }
    retry_while_busy(limits::BUSY_TIMEOUT, || make_durable(&connection)).map_err(failed)?;
    let mut transact = || {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    };
    retry_while_busy(limits::BUSY_TIMEOUT, &mut transact).map_err(failed)
}

/// Returns the error of SQLite; a rule of the port is never violated by what another store held.
fn sqlite_cause(error: WriteError) -> rusqlite::Error {
    match error {
        WriteError::Sqlite(error) => error,
        WriteError::Rule(error) => rusqlite::Error::ToSqlConversionFailure(error.into()),
        WriteError::Refused(_) => unreachable!("only a commit of changes is refused"),
    }
}
