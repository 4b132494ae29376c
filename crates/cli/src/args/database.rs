//! `maqet database`.

use clap::Subcommand;
use maqet::operation::{DatabaseBackup, DatabaseCheck, DatabaseMove, DatabaseReclaim};

/// Check, back up and move the database
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet database check
  maqet database backup maqet-backup.db
  maqet database move --to postgres://maqet@db.example/maqet
  maqet --database old.db database reclaim --force")]
pub(crate) enum DatabaseSubcommand {
    Check(DatabaseCheck),
    Backup(DatabaseBackup),
    Move(DatabaseMove),
    Reclaim(DatabaseReclaim),
}
