//! The database itself: checks, backups, and moves.

mod backup;
mod check;
mod moving;
mod reclaim;

pub use self::backup::{DatabaseBackedUp, DatabaseBackup};
pub use self::check::{DatabaseCheck, DatabaseState};
pub use self::moving::{DatabaseMove, DatabaseMoved};
pub use self::reclaim::{DatabaseReclaim, DatabaseReclaimed};
