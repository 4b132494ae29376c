//! `maqet checkpoint`.

use maqet::operation::{CheckpointCheck, CheckpointRestore, Fork};
use maqet::{ErrorReport, Fault, Maqet};

use super::{note_irreversible, simple};
use crate::args::CheckpointSubcommand;
use crate::exit_code;
use crate::render::Output;

pub(super) async fn run(maqet: &Maqet, command: CheckpointSubcommand, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        CheckpointSubcommand::Create(create) => simple(maqet, create, output, "taking a checkpoint").await,
        CheckpointSubcommand::Ls(ls) => simple(maqet, ls, output, "reading checkpoints").await,
        CheckpointSubcommand::Info(info) => simple(maqet, info, output, "reading the checkpoint").await,
        CheckpointSubcommand::Check(check) => check_vm(maqet, check, output).await,
        CheckpointSubcommand::Cancel(cancel) => simple(maqet, cancel, output, "giving up the checkpoint").await,
        CheckpointSubcommand::Restore(restore) => self::restore(maqet, restore, output).await,
        CheckpointSubcommand::Rm(rm) => simple(maqet, rm, output, "removing checkpoints").await,
    }
}

/// Checks whether a checkpoint of a VM can be taken.
async fn check_vm(maqet: &Maqet, check: CheckpointCheck, output: &Output) -> Result<u8, ErrorReport> {
    let readiness = output.progress("checking the VM", maqet.run(check)).await?;
    output.show(&readiness)?;
    Ok(if readiness.ready { exit_code::DONE } else { exit_code::from_fault(Fault::Failed) })
}

/// Has a VM go back to a checkpoint.
async fn restore(maqet: &Maqet, restore: CheckpointRestore, output: &Output) -> Result<u8, ErrorReport> {
    note_irreversible(&restore, output);
    let restored = output.progress("going back to the checkpoint", maqet.run(restore)).await?;
    for warning in &restored.warnings {
        output.note(&format!("warning: {warning}"));
    }
    output.finish(&restored)
}

/// Starts VMs from a checkpoint.
pub(super) async fn fork(maqet: &Maqet, fork: Fork, output: &Output) -> Result<u8, ErrorReport> {
    let forked = output.progress("starting VMs from the checkpoint", maqet.run(fork)).await?;
    for warning in &forked.warnings {
        output.note(&format!("warning: {warning}"));
    }
    output.finish(&forked)
}
