//! Which error of SQLite, or of the file system, is which of the port's.

use std::io;
use std::path::Path;

use maqet_domain::port::StoreError;
use rusqlite::ffi::{self, ErrorCode};

/// Returns the port's error for one of SQLite's.
pub(crate) fn explained(path: &Path, action: &'static str, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    if is_damage(&error) {
        return StoreError::Corrupt { path, detail: damage(&error) };
    }
    if error.sqlite_extended_error_code() == Some(ffi::SQLITE_IOERR_SHMSIZE) {
        return StoreError::Full { path };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            StoreError::Busy { path }
        }
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(
            ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure,
        ) => StoreError::Unavailable { path, source: error.into() },
        Some(_) | None => StoreError::Failed { action, source: error.into() },
    }
}

/// Returns the port's error for one of the file system's.
pub(crate) fn unusable(path: &Path, error: io::Error) -> StoreError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        _ => StoreError::Unavailable { path, source: error.into() },
    }
}

/// Returns whether trying again may help.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed))
}

/// Returns whether the database could not be used the usual way and may still be readable another one.
pub(crate) fn is_hindrance(error: &rusqlite::Error) -> bool {
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

/// Returns whether the file holds something that maqet never wrote.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) => true,
        E::SqlInputError { msg, .. } => misses_a_table(msg),
        E::SqliteFailure(failure, words) => {
            matches!(failure.code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
                || failure.extended_code == ffi::SQLITE_IOERR_CORRUPTFS
                || failure.extended_code == ffi::SQLITE_ERROR && words.as_deref().is_some_and(misses_a_table)
        }
        _ => false,
    }
}

/// The version said that all tables and columns are there, and SQLite has no code for this.
fn misses_a_table(words: &str) -> bool {
    words.starts_with("no such table") || words.starts_with("no such column")
}

fn damage(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "it is not an SQLite database".to_owned(),
        _ => match error {
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            _ => error.to_string(),
        },
    }
}
