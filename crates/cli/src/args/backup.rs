//! `maqet backup`.

use clap::Subcommand;
use maqet::operation::{BackupCreate, BackupLs, BackupRestore, BackupRm, BackupVerify};

/// Create, list, verify, restore and remove backups of VMs' disks
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet backup create web
  maqet backup ls web
  maqet backup restore web latest")]
pub(crate) enum BackupSubcommand {
    Create(BackupCreate),
    #[command(visible_alias = "list")]
    Ls(BackupLs),
    Verify(BackupVerify),
    Restore(BackupRestore),
    Rm(BackupRm),
}
