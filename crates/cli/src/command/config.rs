//! `maqet config`.

use maqet::{Maqet, operation};

use super::add::{documents, warn};
use super::plain;
use crate::args::ConfigSubcommand;
use crate::exit_code;
use crate::failure::Failure;
use crate::render::Output;

/// Checks files, or shows keys, defaults and settings.
pub(crate) async fn run(maqet: &Maqet, args: ConfigSubcommand, output: &Output) -> Result<u8, Failure> {
    match args {
        ConfigSubcommand::Check(check) => {
            let operation = operation::ConfigCheck {
                documents: documents(maqet, &check.files, output).await?,
                lenient: check.lenient,
            };
            let checked = maqet.run(operation).await?;
            warn(&checked.warnings, output);
            output.show(&checked)?;
            Ok(exit_code::DONE)
        }
        ConfigSubcommand::Show(show) => plain(maqet, show, output, "reading the settings").await,
        ConfigSubcommand::Keys(keys) => plain(maqet, keys, output, "reading the keys").await,
        ConfigSubcommand::Defaults(defaults) => plain(maqet, defaults, output, "reading the defaults").await,
        ConfigSubcommand::Schema(schema) => {
            output.data(&maqet.run(schema).await?)?;
            Ok(exit_code::DONE)
        }
    }
}
