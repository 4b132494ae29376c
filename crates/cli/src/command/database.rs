//! `maqet database`.

use maqet::{ErrorReport, Fault, Maqet};

use super::{absolute, simple};
use crate::args::DatabaseSubcommand;
use crate::exit_code;
use crate::render::Output;

/// Runs a command; a check of a database that needs a repair ends with exit code 1.
pub(super) async fn run(maqet: &Maqet, command: DatabaseSubcommand, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        DatabaseSubcommand::Check(check) => {
            let state = output.progress("checking the database", maqet.run(check)).await?;
            output.show(&state)?;
            Ok(if state.is_healthy() { exit_code::DONE } else { exit_code::from_fault(Fault::Failed) })
        }
        DatabaseSubcommand::Backup(mut backup) => {
            backup.file = backup.file.as_deref().map(absolute).transpose()?;
            simple(maqet, backup, output, "backing up the database").await
        }
        DatabaseSubcommand::Move(to) => simple(maqet, to, output, "moving the database").await,
        DatabaseSubcommand::Reclaim(reclaim) => simple(maqet, reclaim, output, "changing the database").await,
    }
}
