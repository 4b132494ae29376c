//! `maqet backup`.

use std::path::PathBuf;

use maqet::{ErrorReport, Maqet};

use super::{absolute, simple};
use crate::args::BackupSubcommand;
use crate::render::Output;

pub(super) async fn run(maqet: &Maqet, command: BackupSubcommand, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        BackupSubcommand::Create(mut create) => {
            create.to = located(create.to)?;
            simple(maqet, create, output, "backing up").await
        }
        BackupSubcommand::Ls(mut ls) => {
            ls.from = located(ls.from)?;
            simple(maqet, ls, output, "reading backups").await
        }
        BackupSubcommand::Verify(mut verify) => {
            verify.from = located(verify.from)?;
            simple(maqet, verify, output, "verifying backups").await
        }
        BackupSubcommand::Restore(mut restore) => {
            restore.from = located(restore.from)?;
            restore.output = located(restore.output)?;
            simple(maqet, restore, output, "restoring disks").await
        }
        BackupSubcommand::Rm(mut rm) => {
            rm.from = located(rm.from)?;
            simple(maqet, rm, output, "removing backups").await
        }
    }
}

/// Returns the absolute path of a directory, if there is one.
fn located(directory: Option<PathBuf>) -> Result<Option<PathBuf>, ErrorReport> {
    directory.map(|directory| absolute(&directory)).transpose()
}
