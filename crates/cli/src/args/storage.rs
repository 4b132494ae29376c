//! `maqet storage`.

use clap::Subcommand;
use maqet::operation::{
    StorageAttach, StorageCompact, StorageConvert, StorageInfo, StorageLs, StorageOrphaned, StorageResize,
    StorageTrashEmpty, StorageTrashLs, StorageTrashRestore, StorageVerify,
};

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
    Orphaned(StorageOrphaned),
    #[command(after_help = "\
Examples:
  maqet storage attach web ~/old.qcow2
  maqet storage attach web disk.img --type raw --name data")]
    Attach(StorageAttach),
    #[command(subcommand)]
    Trash(StorageTrashSubcommand),
}

/// List, restore and delete the images of removed VMs
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet rm web --delete-storage
  maqet storage trash ls
  maqet storage trash restore web
  maqet storage trash empty --older-than 30d")]
pub(crate) enum StorageTrashSubcommand {
    #[command(visible_alias = "list")]
    Ls(StorageTrashLs),
    Restore(StorageTrashRestore),
    Empty(StorageTrashEmpty),
}
