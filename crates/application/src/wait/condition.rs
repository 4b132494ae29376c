//! Conditions to wait for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::text::{did_you_mean, similar};
use maqet_domain::vm::{Status, StopReason};
use regex_lite::Regex;
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::HumanDuration;
use crate::event::filter;

/// A condition of a VM to wait for.
#[derive(Debug, Clone, PartialEq, Eq, DeserializeFromStr, SerializeDisplay)]
pub enum Condition {
    /// `qmp`: the command monitor answers.
    Qmp,
    /// `agent`: the guest agent answers.
    Agent,
    /// `boot`: the start of the guest is over, as systemd says.
    Boot,
    /// `cloud-init`: cloud-init has done its work in the guest; errors of it fail the wait.
    CloudInit,
    /// `address`: the guest has an address at which others reach it, as its agent says.
    Address,
    /// `ssh`: a server for SSH answers at the forwarded port 22 of the guest.
    Ssh,
    /// `serial:REGEX`: the output of the serial port since the start matches.
    Serial(Pattern),
    /// `port:N`: a server in the guest accepts connections at TCP port N, or at the port that port N of the host is
    /// forwarded to.
    Port(u16),
    /// `event:NAME`: an event of maqet or QEMU happened; `*` and `?` are wildcards.
    Event(String),
    /// `file:PATH`: a path of the host exists.
    File(PathBuf),
    /// `status=STATUS`: the VM has this status.
    Status(String),
    /// `stopped`: the VM is not running; `stopped=REASON`: and its run ended so.
    Stopped(ExpectedEnd),
    /// `screen-stable=DURATION`: the screen did not change for that long, except for a blinking cursor.
    ScreenStable(HumanDuration),
}

/// How a run is expected to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedEnd {
    /// As the guest or the host ended it on purpose; another end fails the wait. The default.
    Orderly,
    /// In any way.
    Any,
    /// For this reason; another one fails the wait.
    Reason(StopReason),
}

impl ExpectedEnd {
    /// Returns whether a VM in this state has ended as expected.
    pub const fn is_met(self, status: Status) -> bool {
        match (self, status) {
            (Self::Orderly, Status::Stopped(end)) => !end.reason.is_failure(),
            (Self::Reason(reason), Status::Stopped(end)) => reason as u8 == end.reason as u8,
            (Self::Reason(_), _) => false,
            (Self::Orderly | Self::Any, status) => !status.is_live(),
        }
    }
}

/// A regular expression, compared by its text.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Returns whether it matches anywhere in `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// A text that is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid wait condition `{}`{reason}", value.escape_debug())]
pub struct InvalidCondition {
    /// The text.
    pub value: String,
    /// The reason, after a colon; may be empty.
    pub reason: String,
    similar: Option<String>,
}

/// The forms of a condition.
const FORMS: [&str; 14] = [
    "qmp",
    "agent",
    "boot",
    "cloud-init",
    "address",
    "ssh",
    "serial:REGEX",
    "port:N",
    "event:NAME",
    "file:PATH",
    "status=STATUS",
    "stopped",
    "stopped=REASON",
    "screen-stable=DURATION",
];

/// The value of `stopped=` for every reason.
const ANY: &str = "any";

impl Explain for InvalidCondition {
    fn explain(&self) -> Explanation {
        let explanation = Explanation::new("wait.condition-invalid", Fault::Usage);
        match &self.similar {
            Some(similar) => explanation.hint(similar),
            None => explanation.hint(one_of(&FORMS)),
        }
    }
}

fn one_of(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("use one of {}", names.join(", "))
}

/// Returns a hint that names the known values similar to `text`, or all of them.
fn known_hint(text: &str, known: &[&str]) -> String {
    did_you_mean(&similar(text, known.iter().copied())).unwrap_or_else(|| one_of(known))
}

impl FromStr for Condition {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid =
            |reason: String, similar: Option<String>| InvalidCondition { value: text.to_owned(), reason, similar };
        let (form, value) = match text.find([':', '=']) {
            Some(at) => (&text[..=at], Some(&text[at + 1..]).filter(|value| !value.is_empty())),
            None => (text, None),
        };
        match (form, value) {
            ("qmp", None) => Ok(Self::Qmp),
            ("agent", None) => Ok(Self::Agent),
            ("boot", None) => Ok(Self::Boot),
            ("cloud-init", None) => Ok(Self::CloudInit),
            ("address", None) => Ok(Self::Address),
            ("ssh", None) => Ok(Self::Ssh),
            ("stopped", None) => Ok(Self::Stopped(ExpectedEnd::Orderly)),
            ("stopped=", Some(ANY)) => Ok(Self::Stopped(ExpectedEnd::Any)),
            ("stopped=", Some(text)) => {
                let reason = text.parse().map_err(|_| {
                    let reasons = StopReason::ALL.iter().map(|reason| reason.as_str());
                    let reasons: Vec<&str> = reasons.chain([ANY]).collect();
                    invalid(format!(": unknown reason `{}`", text.escape_debug()), Some(known_hint(text, &reasons)))
                })?;
                Ok(Self::Stopped(ExpectedEnd::Reason(reason)))
            }
            ("serial:", Some(regex)) => match Regex::new(regex) {
                Ok(regex) => Ok(Self::Serial(Pattern(regex))),
                Err(error) => Err(invalid(format!(": not a regular expression: {error}"), None)),
            },
            ("port:", Some(port)) => match port.parse() {
                Ok(port) if port > 0 => Ok(Self::Port(port)),
                Ok(_) | Err(_) => Err(invalid(": expected a port from 1 to 65535".to_owned(), None)),
            },
            ("event:", Some(name)) => match filter::check_name(name) {
                Ok(()) => Ok(Self::Event(name.to_owned())),
                Err(unknown) => Err(invalid(format!(": {unknown}"), Some(unknown.hints().join("; ")))),
            },
            ("file:", Some(path)) => Ok(Self::File(PathBuf::from(path))),
            ("status=", Some(status)) if Status::NAMES.contains(&status) => Ok(Self::Status(status.to_owned())),
            ("status=", Some(status)) => {
                let hint = known_hint(status, Status::NAMES);
                Err(invalid(format!(": unknown status `{}`", status.escape_debug()), Some(hint)))
            }
            ("screen-stable=", Some(duration)) => match duration.parse() {
                Ok(duration) => Ok(Self::ScreenStable(duration)),
                Err(error) => Err(invalid(format!(": {error}"), None)),
            },
            _ => {
                let begins = FORMS.map(|form| form.split_inclusive([':', '=']).next().unwrap_or_default());
                Err(invalid(String::new(), did_you_mean(&similar(form, begins))))
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qmp => f.write_str("qmp"),
            Self::Agent => f.write_str("agent"),
            Self::Boot => f.write_str("boot"),
            Self::CloudInit => f.write_str("cloud-init"),
            Self::Address => f.write_str("address"),
            Self::Ssh => f.write_str("ssh"),
            Self::Serial(pattern) => write!(f, "serial:{}", pattern.0.as_str()),
            Self::Port(port) => write!(f, "port:{port}"),
            Self::Event(name) => write!(f, "event:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Status(status) => write!(f, "status={status}"),
            Self::Stopped(ExpectedEnd::Orderly) => f.write_str("stopped"),
            Self::Stopped(ExpectedEnd::Any) => write!(f, "stopped={ANY}"),
            Self::Stopped(ExpectedEnd::Reason(reason)) => write!(f, "stopped={}", reason.as_str()),
            Self::ScreenStable(duration) => write!(f, "screen-stable={duration}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_condition_every_form_is_read_and_written_back() {
        for text in [
            "qmp",
            "agent",
            "boot",
            "cloud-init",
            "address",
            "ssh",
            "serial:login: $",
            "port:22",
            "event:qemu.RESET",
            "file:/srv/a=b",
            "status=restore-failed",
            "stopped",
            "stopped=any",
            "stopped=guest-panic",
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
    fn test_condition_invalid_is_refused_with_hint() {
        let invalid = |value: &str| format!("invalid wait condition `{value}`");
        check_refused("seriel:x", &invalid("seriel:x"), "serial:");
        check_refused("", &invalid(""), "`port:N`");
        check_refused("stopped:", &invalid("stopped:"), "stopped");
        check_refused("stopped=panic", &(invalid("stopped=panic") + ": unknown reason `panic`"), "guest-panic");
        check_refused("serial:", &invalid("serial:"), "serial:");
        check_refused("port:0", &(invalid("port:0") + ": expected a port from 1 to 65535"), "`port:N`");
        check_refused("event:RESTE", &(invalid("event:RESTE") + ": unknown event type `RESTE`"), "`RESET`");
        check_refused("status=runing", &(invalid("status=runing") + ": unknown status `runing`"), "running");
        let pattern = "serial:(".parse::<Condition>().unwrap_err();
        assert!(pattern.to_string().contains("not a regular expression"), "{pattern}");
    }
}
