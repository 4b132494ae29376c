//! `maqet storage`.

use maqet::{ErrorReport, Maqet};

use super::simple;
use crate::args::StorageSubcommand;
use crate::render::Output;

pub(super) async fn run(maqet: &Maqet, command: StorageSubcommand, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        StorageSubcommand::Ls(ls) => simple(maqet, ls, output, "reading disk images").await,
        StorageSubcommand::Info(info) => simple(maqet, info, output, "reading the disk image").await,
    }
}
