//! The schema of QMP: which commands a QEMU has, and what each takes.
//!
//! QEMU reports it as some 190 KB of JSON (`query-qmp-schema`). [`Schema`] keeps a compact text of lines, small enough for
//! every command to load, of which only the needed lines are parsed.
//!
//! Arguments come as JSON or as `key=value`. The latter become JSON first ([`key_value`]), with values converted to the
//! types of the schema where they can be; then one checker ([`check`]) compares the JSON with the schema.

mod check;
mod complete;
mod error;
mod key_value;
mod reply;
mod text;
mod types;

pub use self::complete::Argument;
pub use self::error::{InvalidSchema, SchemaError};
pub(super) use self::key_value::parse_integer;
pub use self::text::Schema;

use serde_json::{Map, Value};

use self::types::Types;
use crate::qmp::QmpCommand;
use crate::text::similar;

/// The only command whose arguments are not all in the schema (`'gen': false` in `qapi/qdev.json`, 7.2): the others are
/// the properties of the device.
pub const OPEN_COMMAND: &str = "device_add";

impl Schema {
    /// Makes a command from arguments of the form `key=value`.
    ///
    /// A dot in a key leads into an object (`a.b=c`) or, before a number, into a list (`a.0=x`); the key of a list may
    /// also be repeated. Values are converted to the types of the schema.
    ///
    /// Errors: every variant of [`SchemaError`].
    pub fn command_from_args(&self, name: &str, args: &[impl AsRef<str>]) -> Result<QmpCommand, SchemaError> {
        let entry = self.require(name)?;
        if args.is_empty() {
            // The common case needs only the line of the command.
            let missing: Vec<String> = entry.required().map(str::to_owned).collect();
            if !missing.is_empty() {
                return Err(SchemaError::ArgumentsRequired { command: name.to_owned(), missing });
            }
            return Ok(QmpCommand::new(name));
        }
        let types = Types::new(self);
        let arguments = key_value::to_json(&types, name, entry.takes, args)?;
        check::check(&types, name, entry.takes, &arguments)?;
        Ok(QmpCommand { execute: name.to_owned(), arguments })
    }

    /// Makes a command from JSON arguments, whose types are kept.
    ///
    /// Errors: every variant of [`SchemaError`] except `DuplicateArgument` and `InvalidSyntax`.
    pub fn command_from_json(&self, name: &str, arguments: Map<String, Value>) -> Result<QmpCommand, SchemaError> {
        let entry = self.require(name)?;
        check::check(&Types::new(self), name, entry.takes, &arguments)?;
        Ok(QmpCommand { execute: name.to_owned(), arguments })
    }

    fn require(&self, name: &str) -> Result<text::Entry<'_>, SchemaError> {
        self.entry(name).ok_or_else(|| SchemaError::CommandNotFound {
            command: error::shortened(name),
            similar: similar(name, self.commands()),
        })
    }
}

#[cfg(test)]
mod tests;
