//! Why a command does not fit the schema.

use crate::error::{Explain, Explanation, Fault};
use crate::text::{quoted_list, truncated};

/// The maximum number of names in a hint.
const MAX_LISTED: usize = 40;

/// The maximum length of a value in a message, in characters.
const MAX_SHOWN: usize = 60;

/// An invalid schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid QMP schema: {reason}")]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidSchema {
    pub reason: String,
}

/// Why a command was not sent: it does not fit the schema of the QEMU it is for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum SchemaError {
    #[error("QEMU has no command `{command}`")]
    CommandNotFound { command: String, similar: Vec<String> },
    /// There is no such argument; `requires` is what would make it one, as in `driver=qcow2`.
    #[error("`{command}` has no argument `{argument}`")]
    ArgumentNotFound {
        command: String,
        argument: String,
        similar: Vec<String>,
        known: Vec<String>,
        requires: Option<String>,
    },
    #[error("`{command}` requires {}", quoted_list(missing))]
    ArgumentsRequired { command: String, missing: Vec<String> },
    #[error("invalid value `{value}` for `{argument}` of `{command}`: expected {expected}")]
    InvalidValue { command: String, argument: String, value: String, expected: String, similar: Vec<String> },
    #[error("`{argument}` of `{command}` is given more than once")]
    DuplicateArgument { command: String, argument: String },
    /// An argument is not `key=value`; it may be the value of `missing`, the first required argument that is not given.
    #[error("invalid argument `{arg}`: expected `key=value`")]
    InvalidSyntax { arg: String, missing: Option<String> },
}

impl Explain for SchemaError {
    fn explain(&self) -> Explanation {
        let usage = |code| Explanation::new(code, Fault::Usage);
        match self {
            Self::CommandNotFound { command, .. } if command.starts_with('{') => usage("qmp.command-not-found")
                .hint("pass the name of the command, and its arguments as `key=value` or with `--json '{…}'`"),
            Self::CommandNotFound { similar, .. } => usage("qmp.command-not-found").did_you_mean(similar),
            Self::ArgumentNotFound { similar, known, requires, .. } => {
                let mut explanation = usage("qmp.argument-not-found").did_you_mean(similar);
                if let Some(requires) = requires {
                    explanation = explanation.hint(format!("add `{requires}`, which it depends on"));
                }
                match known.len() {
                    0 => explanation.hint("remove it: the command takes no arguments"),
                    1..=MAX_LISTED => explanation.hint(format!("use one of {}", quoted_list(known))),
                    _ => explanation,
                }
            }
            Self::ArgumentsRequired { missing, .. } => {
                let args: Vec<String> = missing.iter().map(|name| format!("{name}=…")).collect();
                usage("qmp.argument-required").hint(format!("add `{}`", args.join(" ")))
            }
            Self::InvalidValue { similar, .. } => usage("qmp.argument-invalid").did_you_mean(similar),
            Self::DuplicateArgument { .. } => usage("qmp.argument-conflict").hint("pass it once: it is not a list"),
            Self::InvalidSyntax { missing: Some(key), .. } => {
                usage("qmp.argument-syntax-invalid").hint(format!("write it as `key=value`; `{key}=…` is required"))
            }
            Self::InvalidSyntax { missing: None, .. } => {
                usage("qmp.argument-syntax-invalid").hint("write it as `key=value`")
            }
        }
    }
}

/// Returns a value as messages show it.
pub(super) fn shortened(value: &str) -> String {
    truncated(value, MAX_SHOWN).into_owned()
}
