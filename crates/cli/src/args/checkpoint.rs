//! `maqet checkpoint`.

use clap::Subcommand;
use maqet::operation::{
    CheckpointCancel, CheckpointCheck, CheckpointCreate, CheckpointInfo, CheckpointLs, CheckpointRm,
};

/// Take checkpoints of running VMs, list, show and remove them
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet checkpoint check web
  maqet checkpoint create web booted
  maqet checkpoint ls web
  maqet checkpoint rm web booted")]
pub(crate) enum CheckpointSubcommand {
    Create(CheckpointCreate),
    #[command(visible_alias = "list")]
    Ls(CheckpointLs),
    Info(CheckpointInfo),
    Check(CheckpointCheck),
    Cancel(CheckpointCancel),
    Rm(CheckpointRm),
}
