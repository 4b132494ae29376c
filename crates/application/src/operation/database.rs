//! The database itself: checks, backups, and moves.

mod backup;
mod check;
mod moving;

pub use self::backup::{DatabaseBackedUp, DatabaseBackup};
pub use self::check::{DatabaseCheck, DatabaseState};
pub use self::moving::{DatabaseMove, DatabaseMoved};
