//! `maqet storage`.

use clap::Subcommand;
use maqet::operation::{StorageCompact, StorageConvert, StorageInfo, StorageLs, StorageResize, StorageVerify};

/// List, check, resize and convert the disk images of VMs
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet storage ls
  maqet storage info web hdd
  maqet storage resize web hdd +10G
  maqet storage convert web hdd raw
  maqet storage compact web hdd")]
pub(crate) enum StorageSubcommand {
    #[command(visible_alias = "list")]
    Ls(StorageLs),
    Info(StorageInfo),
    Verify(StorageVerify),
    Resize(StorageResize),
    Convert(StorageConvert),
    Compact(StorageCompact),
}
