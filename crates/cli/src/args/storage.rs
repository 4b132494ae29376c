//! `maqet storage`.

use clap::Subcommand;
use maqet::operation::{StorageCompact, StorageInfo, StorageLs, StorageResize, StorageVerify};

/// List, check, resize and convert the disk images of VMs
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet storage ls
  maqet storage info web hdd
  maqet storage resize web hdd +10G")]
pub(crate) enum StorageSubcommand {
    #[command(visible_alias = "list")]
    Ls(StorageLs),
    Info(StorageInfo),
    Verify(StorageVerify),
    Resize(StorageResize),
    Compact(StorageCompact),
}
