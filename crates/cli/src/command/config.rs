//! `maqet config`.

use maqet::{Maqet, operation};

use super::add::{documents, warn};
use super::plain;
use crate::arguments::Config;
use crate::exit;
use crate::failure::Failure;
use crate::render::Output;

/// Checks files, or shows keys, defaults and settings.
pub(crate) async fn run(maqet: &Maqet, arguments: Config, output: &Output) -> Result<u8, Failure> {
    match arguments {
        Config::Check(check) => {
            let operation = operation::ConfigCheck {
                documents: documents(maqet, &check.files, output).await?,
                lenient: check.lenient,
            };
            let checked = maqet.run(operation).await?;
            warn(&checked.warnings, output);
            output.show(&checked)?;
            Ok(exit::DONE)
        }
        Config::Show(show) => plain(maqet, show, output, "reading the settings").await,
        Config::Keys(keys) => plain(maqet, keys, output, "reading the keys").await,
        Config::Defaults(defaults) => plain(maqet, defaults, output, "reading the defaults").await,
        Config::Schema(schema) => {
            output.data(&maqet.run(schema).await?)?;
            Ok(exit::DONE)
        }
    }
}
