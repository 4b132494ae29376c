//! `maqet checkpoint`.

use clap::Subcommand;
use maqet::operation::{
    CheckpointCancel, CheckpointCheck, CheckpointCreate, CheckpointInfo, CheckpointLs, CheckpointRestore, CheckpointRm,
};

/// Take checkpoints of running VMs, go back to them, list, show and remove them
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet checkpoint check web
  maqet checkpoint create web booted
  maqet checkpoint ls web
  maqet checkpoint restore web booted
  maqet checkpoint rm web booted")]
pub(crate) enum CheckpointSubcommand {
    Create(CheckpointCreate),
    #[command(visible_alias = "list")]
    Ls(CheckpointLs),
    Info(CheckpointInfo),
    Check(CheckpointCheck),
    Cancel(CheckpointCancel),
    Restore(CheckpointRestore),
    Rm(CheckpointRm),
}
