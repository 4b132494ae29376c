//! What is answered to a command that no QEMU would take.

use super::types::quoted;
use crate::error::{Explain, Fault};
use crate::text::did_you_mean;

/// More names than this are no help in a hint.
const LISTED: usize = 40;

/// What was given is shown up to this many characters.
const SHOWN: usize = 60;

/// Something that is no schema of QMP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no schema of QMP: {why}")]
pub struct InvalidSchema {
    /// What is wrong with it.
    pub why: String,
}

/// Why a command was not sent: it does not fit the schema of the QEMU it is for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// There is no such command.
    #[error("QEMU has no command `{given}`")]
    UnknownCommand {
        /// What was given.
        given: String,
        /// Names that look like it.
        similar: Vec<String>,
    },
    /// The command has no such argument.
    #[error("`{command}` has no argument `{given}`")]
    UnknownArgument {
        /// The command.
        command: String,
        /// The argument, with dots where it is inside of another.
        given: String,
        /// Names that look like it.
        similar: Vec<String>,
        /// The names there are.
        known: Vec<String>,
        /// What would have to be given for it to be one, as in `driver=qcow2`.
        goes_with: Option<String>,
    },
    /// The command cannot go without these.
    #[error("`{command}` needs {}", quoted(missing))]
    MissingArguments {
        /// The command.
        command: String,
        /// The names of what is missing.
        missing: Vec<String>,
    },
    /// A value that is not what the argument takes.
    #[error("`{given}` does not go with `{argument}` of `{command}`, which takes {expected}")]
    WrongValue {
        /// The command.
        command: String,
        /// The argument.
        argument: String,
        /// What was given, shortened.
        given: String,
        /// What it takes, in words.
        expected: String,
        /// Values that look like it.
        similar: Vec<String>,
    },
    /// An argument that was given several times and takes one value.
    #[error("`{argument}` of `{command}` is given more than once")]
    Twice {
        /// The command.
        command: String,
        /// The argument.
        argument: String,
    },
    /// A word that is not `key=value`.
    #[error("`{given}` is not an argument of a QMP command")]
    NotAnArgument {
        /// What was given.
        given: String,
        /// What the command cannot go without and is not given: it may be the value of that.
        lacking: Option<String>,
    },
}

impl Explain for SchemaError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownCommand { .. } => "qmp.unknown-command",
            Self::UnknownArgument { .. } => "qmp.unknown-argument",
            Self::MissingArguments { .. } => "qmp.argument-missing",
            Self::WrongValue { .. } => "qmp.argument-invalid",
            Self::Twice { .. } => "qmp.argument-twice",
            Self::NotAnArgument { .. } => "qmp.argument-malformed",
        }
    }

    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::UnknownCommand { given, .. } if given.starts_with('{') => {
                vec!["write the command's name, and its arguments as `key=value` or with `--json '{…}'`".to_owned()]
            }
            Self::UnknownCommand { similar, .. } => did_you_mean(similar)
                .into_iter()
                .chain(["list the commands with `maqet qmp VM query-commands`".to_owned()])
                .collect(),
            Self::UnknownArgument { similar, known, goes_with, .. } => {
                let needs = goes_with.as_ref().map(|other| format!("give `{other}` for it to be one"));
                let all = match known.len() {
                    0 => Some("give none: it takes no arguments".to_owned()),
                    1..=LISTED => Some(format!("use one of {}", quoted(known))),
                    _ => None,
                };
                did_you_mean(similar).into_iter().chain(needs).chain(all).collect()
            }
            Self::WrongValue { similar, .. } => did_you_mean(similar).into_iter().collect(),
            Self::MissingArguments { missing, .. } => {
                let all: Vec<String> = missing.iter().map(|name| format!("{name}=…")).collect();
                vec![format!("add `{}`", all.join(" "))]
            }
            Self::Twice { .. } => vec!["give it once: it takes no list".to_owned()],
            Self::NotAnArgument { lacking: Some(key), .. } => {
                vec![format!("write it as `key=value`; `{key}=…` is needed")]
            }
            Self::NotAnArgument { lacking: None, .. } => vec!["write it as `key=value`".to_owned()],
        }
    }
}

/// Returns what was given as it can be shown.
pub(super) fn shortened(given: &str) -> String {
    let mut shown: String = given.chars().take(SHOWN).collect();
    if shown.len() < given.len() {
        shown.push('…');
    }
    shown
}
