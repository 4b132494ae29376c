//! Converts errors of the server and of the connection into those of the port.

use std::time::Duration;

use maqet_domain::error::Cause;
use maqet_domain::port::StoreError;
use tokio_postgres::error::SqlState;

/// Why a task of the store failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A rule of the port is violated, or the error is complete.
    Store(StoreError),
    /// The server reported an error, or the connection was lost.
    Server(tokio_postgres::Error),
    /// The server did not respond.
    TimedOut(Duration),
    /// A row holds something that maqet never writes.
    Damage(String),
    /// A value cannot be stored.
    Value(Cause),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    pub(crate) fn damage(column: usize, error: &dyn std::error::Error) -> Self {
        Self::Damage(format!("column {}: {error}", column + 1))
    }

    /// Returns the code of the server's error.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Server(error) => error.code(),
            Self::Store(_) | Self::TimedOut(_) | Self::Damage(_) | Self::Value(_) => None,
        }
    }

    /// Returns the constraint that the statement violates.
    pub(crate) fn constraint(&self) -> Option<&str> {
        match self {
            Self::Server(error) => error.as_db_error().and_then(|error| error.constraint()),
            Self::Store(_) | Self::TimedOut(_) | Self::Damage(_) | Self::Value(_) => None,
        }
    }

    /// Returns whether the connection is gone, so that another one may work.
    pub(crate) fn is_lost_connection(&self) -> bool {
        let Self::Server(error) = self else { return false };
        match error.code() {
            Some(code) => is_shutdown(code),
            // Without a code, the error is one of the connection, of TLS, or of the conversion of a value.
            None => error.is_closed() || is_io(error),
        }
    }

    /// Returns whether the server rolled back the transaction because of others, so that a repetition may succeed.
    pub(crate) fn is_rolled_back(&self) -> bool {
        matches!(self.code(), Some(&(SqlState::T_R_DEADLOCK_DETECTED | SqlState::T_R_SERIALIZATION_FAILURE)))
    }

    /// Converts it, met while doing `action`.
    pub(crate) fn into_store(self, location: &str, action: &'static str) -> StoreError {
        let location = location.to_owned();
        match self {
            Self::Store(error) => error,
            Self::TimedOut(waited) => StoreError::TimedOut { location, waited },
            Self::Damage(detail) => StoreError::ServerCorrupt { location, detail },
            Self::Value(source) => StoreError::Failed { action, source },
            Self::Server(error) => from_server(location, action, error),
        }
    }
}

fn from_server(location: String, action: &'static str, error: tokio_postgres::Error) -> StoreError {
    let Some(code) = error.code().cloned() else {
        let is_connection = error.is_closed() || is_io(&error);
        let source = cause(error);
        return if is_connection {
            StoreError::Unreachable { location, source }
        } else {
            StoreError::Failed { action, source }
        };
    };
    let source = cause(error);
    match code {
        SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::LOCK_NOT_AVAILABLE
        | SqlState::OBJECT_IN_USE => StoreError::Busy { location },
        SqlState::QUERY_CANCELED => StoreError::TimedOut { location, waited: crate::limits::STATEMENT_TIMEOUT },
        SqlState::TOO_MANY_CONNECTIONS => StoreError::TooManyConnections { location },
        SqlState::DISK_FULL => StoreError::Full { location },
        SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::ReadOnly { location },
        SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_COLUMN
        | SqlState::DATA_CORRUPTED
        | SqlState::INDEX_CORRUPTED => StoreError::ServerCorrupt { location, detail: source.to_string() },
        SqlState::INVALID_PASSWORD
        | SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        | SqlState::INSUFFICIENT_PRIVILEGE => StoreError::AccessRefused { location, source },
        SqlState::INVALID_CATALOG_NAME | SqlState::INVALID_SCHEMA_NAME => StoreError::Unreachable { location, source },
        ref code if is_shutdown(code) => StoreError::Unreachable { location, source },
        _ => StoreError::Failed { action, source },
    }
}

/// Returns whether the server ends or is not up yet.
pub(crate) fn is_shutdown(code: &SqlState) -> bool {
    *code == SqlState::ADMIN_SHUTDOWN
        || *code == SqlState::CRASH_SHUTDOWN
        || *code == SqlState::CANNOT_CONNECT_NOW
        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        || code.code().starts_with("08")
}

/// Returns whether an error has one of the system as its source.
pub(crate) fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Returns the error without the words around it that only say that the server reported it.
pub(crate) fn cause(error: tokio_postgres::Error) -> Cause {
    match error.as_db_error() {
        Some(reported) => reported.message().to_owned().into(),
        None => match error.into_source() {
            Some(source) => source,
            None => "the server closed the connection".into(),
        },
    }
}
