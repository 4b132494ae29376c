//! The schema of QMP: which commands a QEMU has, and what each takes.
//!
//! QEMU tells it as some 190 KB of JSON. What is kept of it is a compact text of lines, which is small enough to be
//! read by every command, and of which only the lines that are needed are understood.

mod check;
mod complete;
mod error;
mod key_value;
mod reply;
mod text;
mod types;

pub use self::complete::Argument;
pub use self::error::{InvalidSchema, SchemaError};
pub(super) use self::key_value::whole_number;
pub use self::text::Schema;

use serde_json::{Map, Value};

use self::types::Types;
use crate::qmp::QmpCommand;
use crate::text::similar;

/// The one command whose arguments the schema tells in part only (`'gen': false` in `qapi/qdev.json`, 7.2): what else
/// it takes are the properties of the device.
pub const OPEN_COMMAND: &str = "device_add";

impl Schema {
    /// Makes a command of the words of a person, each `key=value`.
    ///
    /// A dot in a key goes into an object (`a.b=c`), or, with a number behind it, into a list (`a.0=x`); a key of a list
    /// may also be given several times. Values are typed by the schema. Without words nothing but the line of the command
    /// is looked at.
    ///
    /// Errors: every variant of [`SchemaError`].
    pub fn command_of_words(&self, name: &str, words: &[impl AsRef<str>]) -> Result<QmpCommand, SchemaError> {
        let entry = self.known(name)?;
        let arguments = if words.is_empty() {
            let missing: Vec<String> = entry.required().map(str::to_owned).collect();
            if !missing.is_empty() {
                return Err(SchemaError::MissingArguments { command: name.to_owned(), missing });
            }
            Map::new()
        } else {
            key_value::read(&Types::of(self), name, entry.takes, words)?
        };
        Ok(QmpCommand { execute: name.to_owned(), arguments })
    }

    /// Makes a command of arguments that are JSON, whose types stay as they are.
    ///
    /// Errors: every variant of [`SchemaError`] but `NotAnArgument`.
    pub fn command_of_json(&self, name: &str, arguments: Map<String, Value>) -> Result<QmpCommand, SchemaError> {
        let entry = self.known(name)?;
        check::arguments(&Types::of(self), name, entry.takes, &arguments)?;
        Ok(QmpCommand { execute: name.to_owned(), arguments })
    }

    /// Returns the line of a command, or what to answer where there is none.
    fn known(&self, name: &str) -> Result<text::Entry<'_>, SchemaError> {
        self.entry(name).ok_or_else(|| SchemaError::UnknownCommand {
            given: error::shortened(name),
            similar: similar(name, self.commands()),
        })
    }
}

#[cfg(test)]
mod tests;
