//! `maqet config`.

use maqet::{ErrorReport, Maqet, operation};

use super::define::{documents, warn};
use super::simple;
use crate::args::ConfigSubcommand;
use crate::exit_code;
use crate::render::Output;

pub(super) async fn run(maqet: &Maqet, command: ConfigSubcommand, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        ConfigSubcommand::Check(check) => {
            let documents = documents(maqet, &check.files, output).await?;
            let checked = maqet.run(operation::ConfigCheck::new(documents).lenient(check.lenient)).await?;
            warn(&checked.warnings, output);
            output.finish(&checked)
        }
        ConfigSubcommand::Show(show) => simple(maqet, show, output, "reading the settings").await,
        ConfigSubcommand::Keys(keys) => simple(maqet, keys, output, "reading the keys").await,
        ConfigSubcommand::Defaults(defaults) => simple(maqet, defaults, output, "reading the defaults").await,
        ConfigSubcommand::Schema(schema) => {
            output.show_data(&maqet.run(schema).await?)?;
            Ok(exit_code::DONE)
        }
    }
}
