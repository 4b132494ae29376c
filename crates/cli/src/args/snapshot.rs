//! `maqet snapshot`.

use clap::Subcommand;
use maqet::operation::{SnapshotCheck, SnapshotCreate, SnapshotLoad, SnapshotLs, SnapshotRm};

/// Create, list, load and remove snapshots of a VM's drives, and of its memory
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet snapshot create web hdd clean
  maqet snapshot ls web
  maqet snapshot load web hdd clean
  maqet snapshot create web all before-upgrade --live
  maqet snapshot load web all before-upgrade --live")]
pub(crate) enum SnapshotSubcommand {
    Create(SnapshotCreate),
    #[command(visible_alias = "list")]
    Ls(SnapshotLs),
    Load(SnapshotLoad),
    Rm(SnapshotRm),
    Check(SnapshotCheck),
}
