//! `maqet storage`.

use clap::Subcommand;
use maqet::operation::{StorageInfo, StorageLs};

/// List, check, resize and convert the disk images of VMs
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet storage ls
  maqet storage info web hdd")]
pub(crate) enum StorageSubcommand {
    #[command(visible_alias = "list")]
    Ls(StorageLs),
    Info(StorageInfo),
}
