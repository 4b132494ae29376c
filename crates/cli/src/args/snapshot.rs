//! `snapshot`.

use clap::Subcommand;
use maqet::operation::{SnapshotCreate, SnapshotLoad, SnapshotLs, SnapshotRm};

/// Make, list, load and remove snapshots of a stopped VM's drives
#[derive(Debug, Subcommand)]
#[command(defer = true)]
#[command(after_help = "\
Examples:
  maqet snapshot create web hdd clean
  maqet snapshot ls web
  maqet snapshot load web hdd clean")]
pub(crate) enum SnapshotSubcommand {
    /// Create a snapshot of a drive
    Create(SnapshotCreate),
    /// List snapshots
    #[command(visible_alias = "list")]
    Ls(SnapshotLs),
    /// Restore a drive to a snapshot
    Load(SnapshotLoad),
    /// Remove a snapshot
    Rm(SnapshotRm),
}
