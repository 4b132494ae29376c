//! Converts errors of SQLite and of the file system into those of the port.

use std::io;

use maqet_domain::port::StoreError;
use rusqlite::ffi::{self, ErrorCode};

/// Converts an error of SQLite, met while doing `action`.
pub(crate) fn from_sqlite(location: &str, action: &'static str, error: rusqlite::Error) -> StoreError {
    let location = location.to_owned();
    if is_damage(&error) {
        return StoreError::Corrupt { location, detail: damage(&error) };
    }
    if error.sqlite_extended_error_code() == Some(ffi::SQLITE_IOERR_SHMSIZE) {
        return StoreError::Full { location };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            StoreError::Busy { location }
        }
        Some(ErrorCode::DiskFull) => StoreError::Full { location },
        _ if prevents_writing(&error) => StoreError::Unavailable { location, source: error.into() },
        Some(_) | None => StoreError::Failed { action, source: error.into() },
    }
}

/// Converts an error of the file system.
pub(crate) fn from_io(location: &str, error: io::Error) -> StoreError {
    let location = location.to_owned();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { location },
        _ => StoreError::Unavailable { location, source: error.into() },
    }
}

/// Returns whether a retry may help.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed))
}

/// Returns whether the database cannot be opened for writing, and may still be readable in another way.
pub(crate) fn prevents_writing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull
        )
    )
}

/// Returns whether the file holds something that maqet never writes.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) => true,
        E::SqlInputError { msg, .. } => is_missing_table(msg),
        E::SqliteFailure(failure, message) => {
            matches!(failure.code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
                || failure.extended_code == ffi::SQLITE_IOERR_CORRUPTFS
                || failure.extended_code == ffi::SQLITE_ERROR && message.as_deref().is_some_and(is_missing_table)
        }
        _ => false,
    }
}

/// The schema version promises all tables and columns, and SQLite has no error code for a missing one.
fn is_missing_table(message: &str) -> bool {
    message.starts_with("no such table") || message.starts_with("no such column")
}

fn damage(error: &rusqlite::Error) -> String {
    match (error.sqlite_error_code(), error) {
        (Some(ErrorCode::NotADatabase), _) => "it is not an SQLite database".to_owned(),
        (_, rusqlite::Error::SqlInputError { msg, .. }) => msg.clone(),
        _ => error.to_string(),
    }
}
