//! The database itself: checks and backups.

mod backup;
mod check;

pub use self::backup::{DatabaseBackedUp, DatabaseBackup};
pub use self::check::{DatabaseCheck, DatabaseState};
