//! `maqet storage`.

use maqet::operation::StorageVerify;
use maqet::{ErrorReport, Fault, Maqet};

use super::{absolute, simple};
use crate::args::{StorageSubcommand, StorageTrashSubcommand};
use crate::exit_code;
use crate::render::Output;

pub(super) async fn run(maqet: &Maqet, command: StorageSubcommand, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        StorageSubcommand::Ls(ls) => simple(maqet, ls, output, "reading disk images").await,
        StorageSubcommand::Resize(resize) => simple(maqet, resize, output, "changing the size of the drive").await,
        StorageSubcommand::Compact(compact) => simple(maqet, compact, output, "compacting the drive").await,
        StorageSubcommand::Convert(mut convert) => {
            convert.file = convert.file.as_deref().map(absolute).transpose()?;
            simple(maqet, convert, output, "converting the drive").await
        }
        StorageSubcommand::Verify(verify) => self::verify(maqet, verify, output).await,
        StorageSubcommand::Info(info) => simple(maqet, info, output, "reading the disk image").await,
        StorageSubcommand::Orphaned(orphaned) => simple(maqet, orphaned, output, "reading disk images").await,
        StorageSubcommand::Attach(mut attach) => {
            attach.image = absolute(&attach.image)?;
            simple(maqet, attach, output, "attaching the disk image").await
        }
        StorageSubcommand::Trash(StorageTrashSubcommand::Ls(ls)) => {
            simple(maqet, ls, output, "reading the trash").await
        }
        StorageSubcommand::Trash(StorageTrashSubcommand::Restore(restore)) => {
            simple(maqet, restore, output, "restoring the disk images").await
        }
        StorageSubcommand::Trash(StorageTrashSubcommand::Empty(empty)) => {
            simple(maqet, empty, output, "deleting disk images").await
        }
    }
}

/// Shows what was found; exit code 1 if an error remains.
async fn verify(maqet: &Maqet, verify: StorageVerify, output: &Output) -> Result<u8, ErrorReport> {
    let verified = output.progress("checking the drive", maqet.run(verify)).await?;
    output.show(&verified)?;
    Ok(if verified.sound { exit_code::DONE } else { exit_code::from_fault(Fault::Failed) })
}
