//! What can be waited for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use maqet_domain::error::{Explain, Fault};
use maqet_domain::text::{did_you_mean, similar};
use maqet_domain::vm::Status;
use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use crate::HumanDuration;

/// Something about a VM that comes true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Condition {
    /// `qmp`: its command monitor answers.
    Qmp,
    /// `serial:REGEX`: what its guest wrote to the serial port since it was started matches.
    Serial(Pattern),
    /// `port:N`: a server in the guest takes connections at its TCP port N, or at the one that port N of the host leads
    /// to.
    Port(u16),
    /// `event:NAME`: an event of QEMU or of ours happened; `*` and `?` are wild.
    Event(String),
    /// `file:PATH`: there is something at a path of the host.
    File(PathBuf),
    /// `status=WORD`: it is in this state.
    Status(String),
    /// `stopped`: nothing of it runs.
    Stopped,
    /// `screen-stable=DURATION`: its screen did not change for that long, but for a cursor that blinks.
    ScreenStable(HumanDuration),
}

/// A regular expression, compared by its text.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Returns whether it matches somewhere in `text`.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// A text that is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is nothing that can be waited for{why}", given.escape_debug())]
pub struct InvalidCondition {
    /// What was given.
    pub given: String,
    /// What is wrong with it, with what leads there.
    pub why: String,
    similar: Option<String>,
}

/// The forms a condition has, as they are told.
const FORMS: [&str; 8] =
    ["qmp", "serial:REGEX", "port:N", "event:NAME", "file:PATH", "status=WORD", "stopped", "screen-stable=DURATION"];

impl Explain for InvalidCondition {
    fn code(&self) -> &'static str {
        "wait.condition-invalid"
    }

    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn hints(&self) -> Vec<String> {
        let forms = || format!("use one of {}", FORMS.map(|form| format!("`{form}`")).join(", "));
        vec![self.similar.clone().unwrap_or_else(forms)]
    }
}

impl FromStr for Condition {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why: String, similar: Option<String>| InvalidCondition { given: text.to_owned(), why, similar };
        let (word, value) = match text.find([':', '=']) {
            Some(at) => (&text[..=at], Some(&text[at + 1..]).filter(|value| !value.is_empty())),
            None => (text, None),
        };
        match (word, value) {
            ("qmp", None) => Ok(Self::Qmp),
            ("stopped", None) => Ok(Self::Stopped),
            ("serial:", Some(regex)) => match Regex::new(regex) {
                Ok(regex) => Ok(Self::Serial(Pattern(regex))),
                Err(error) => Err(invalid(format!(": not a regular expression: {error}"), None)),
            },
            ("port:", Some(port)) => match port.parse() {
                Ok(port) if port > 0 => Ok(Self::Port(port)),
                Ok(_) | Err(_) => Err(invalid(": a port is a number from 1 to 65535".to_owned(), None)),
            },
            ("event:", Some(name)) => Ok(Self::Event(name.to_owned())),
            ("file:", Some(path)) => Ok(Self::File(PathBuf::from(path))),
            ("status=", Some(word)) if Status::WORDS.contains(&word) => Ok(Self::Status(word.to_owned())),
            ("status=", Some(word)) => {
                let similar = did_you_mean(&similar(word, Status::WORDS));
                Err(invalid(format!(": no state is called `{}`", word.escape_debug()), similar))
            }
            ("screen-stable=", Some(duration)) => match duration.parse() {
                Ok(patience) => Ok(Self::ScreenStable(patience)),
                Err(error) => Err(invalid(format!(": {error}"), None)),
            },
            _ => {
                let begins = FORMS.map(|form| form.split_inclusive([':', '=']).next().unwrap_or_default());
                Err(invalid(String::new(), did_you_mean(&similar(word, begins))))
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qmp => f.write_str("qmp"),
            Self::Serial(pattern) => write!(f, "serial:{}", pattern.0.as_str()),
            Self::Port(port) => write!(f, "port:{port}"),
            Self::Event(name) => write!(f, "event:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Status(word) => write!(f, "status={word}"),
            Self::Stopped => f.write_str("stopped"),
            Self::ScreenStable(patience) => write!(f, "screen-stable={patience}"),
        }
    }
}

impl TryFrom<String> for Condition {
    type Error = InvalidCondition;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> Self {
        condition.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_condition_every_form_is_read_and_written_back() {
        for text in [
            "qmp",
            "serial:login: $",
            "port:22",
            "event:qemu.RESET",
            "file:/srv/a=b",
            "status=restore-failed",
            "stopped",
            "screen-stable=2s",
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str, hint: &str) {
        let error = text.parse::<Condition>().unwrap_err();

        assert_eq!(error.to_string(), expected);
        assert!(error.hints()[0].contains(hint), "{:?}", error.hints());
    }

    #[test]
    fn test_condition_nonsense_is_refused_with_what_helps() {
        let nothing = |given: &str| format!("`{given}` is nothing that can be waited for");
        check_refused("seriel:x", &nothing("seriel:x"), "serial:");
        check_refused("", &nothing(""), "`port:N`");
        check_refused("stopped:", &nothing("stopped:"), "stopped");
        check_refused("serial:", &nothing("serial:"), "serial:");
        check_refused("port:0", &(nothing("port:0") + ": a port is a number from 1 to 65535"), "`port:N`");
        check_refused("status=runing", &(nothing("status=runing") + ": no state is called `runing`"), "running");
        let pattern = "serial:(".parse::<Condition>().unwrap_err();
        assert!(pattern.to_string().contains("not a regular expression"), "{pattern}");
    }
}
