//! `maqet database`.

use clap::Subcommand;
use maqet::operation::{DatabaseBackup, DatabaseCheck};

/// Check and back up the database
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet database check
  maqet database backup maqet-backup.db")]
pub(crate) enum DatabaseSubcommand {
    Check(DatabaseCheck),
    Backup(DatabaseBackup),
}
