//! Starting a command in the guest: the script that prepares it, and what becomes of it.
//!
//! The agent starts a shell, which checks what was requested, connects the streams, and becomes the command in a session
//! of its own: the process that the agent started is the command, and its number that of its process group. What the
//! script finds wrong it says on the standard error that the agent captures, after the nonce of the command, so that
//! nothing which a command writes is taken for it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::channel::PortSet;
use super::detached::About;
use super::protocol::AgentCommand;
use super::scripts::{ON_TERMINAL, RUN_DETACHED, START};
use crate::text::quote;

/// Where programs are searched for.
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestCommand {
    /// The program and its arguments; none for the login shell of the user, which takes a terminal.
    pub args: Vec<String>,
    /// The user; root if `None`.
    pub user: Option<UserName>,
    /// The directory; that of the user if `None`.
    pub directory: Option<String>,
    /// Variables, besides those of the user.
    pub environment: Vec<EnvironmentVariable>,
}

/// What a command is connected with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecWay {
    /// The ports of a set.
    Ports {
        /// The set.
        set: PortSet,
        /// Whether it has a standard input.
        has_input: bool,
        /// Whether its standard error goes where its standard output goes.
        is_merged: bool,
        /// The size of its terminal, if it has one.
        terminal: Option<TerminalSize>,
    },
    /// The agent, which passes on a whole input, and the output at the end.
    Agent,
    /// The streams of the shell that runs the script.
    Streams {
        /// Whether that shell is of the user already.
        is_user: bool,
        /// Whether it has a standard input.
        has_input: bool,
        /// Whether its standard error goes where its standard output goes.
        is_merged: bool,
        /// The size of its terminal, if it has one.
        terminal: Option<TerminalSize>,
    },
    /// Files in the guest: the command is detached.
    Detached {
        /// Whether its standard error goes where its standard output goes.
        is_merged: bool,
        /// When it is started, for its record.
        started_at: Timestamp,
    },
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// The number of lines.
    pub rows: u16,
    /// The number of characters in a line.
    pub columns: u16,
}

impl GuestCommand {
    /// Returns the request that starts the command; `input` is its whole standard input, where the agent passes that on.
    pub fn start(&self, nonce: &Nonce, way: ExecWay, input: Option<&[u8]>) -> AgentCommand {
        let arguments = self.arguments(nonce, way);
        let args = ["-c", START, "maqet-exec"].into_iter().chain(arguments.iter().map(String::as_str));
        let request = shell(args.collect()).argument("capture-output", true).argument("env", vec![PATH]);
        match input {
            Some(input) => request.argument("input-data", STANDARD.encode(input)),
            None => request,
        }
    }

    /// Returns the arguments of the script that becomes the command.
    pub(super) fn arguments(&self, nonce: &Nonce, way: ExecWay) -> Vec<String> {
        let name = self.user.as_ref().map_or("root", |user| user.0.as_str());
        let mut about = String::new();
        let line_on = |terminal: Option<TerminalSize>| terminal.map(|size| self.line_on(size)).unwrap_or_default();
        let (set, how, line) = match way {
            ExecWay::Agent => (String::new(), String::new(), String::new()),
            ExecWay::Detached { is_merged, started_at } => {
                about = About::line(&self.args, name, started_at);
                (String::new(), if is_merged { "dm" } else { "d" }.to_owned(), RUN_DETACHED.to_owned())
            }
            ExecWay::Ports { set, has_input, is_merged, terminal } => {
                let how = [(has_input, 'i'), (is_merged, 'm'), (terminal.is_some(), 't')];
                (set.to_string(), letters(&how), line_on(terminal))
            }
            ExecWay::Streams { is_user, has_input, is_merged, terminal } => {
                let how = [(true, 's'), (is_user, 'u'), (has_input, 'i'), (is_merged, 'm'), (terminal.is_some(), 't')];
                (String::new(), letters(&how), line_on(terminal))
            }
        };
        let user = self.user.as_ref().map_or("", |user| user.0.as_str());
        let directory = self.directory.as_deref().unwrap_or_default();
        let path = self.environment.iter().rev().find(|variable| variable.name == "PATH");
        let path = path.map_or("", |path| path.value.as_str());
        let variables: String = self.environment.iter().map(EnvironmentVariable::export).collect();
        let arguments = [&nonce.0, &*set, user, directory, &how, path, &variables, &line, &about].map(str::to_owned);
        arguments.into_iter().chain(self.args.iter().cloned()).collect()
    }

    /// Returns the command line that a shell on a terminal runs.
    fn line_on(&self, TerminalSize { rows, columns }: TerminalSize) -> String {
        let args: Vec<String> = self.args.iter().map(|arg| quote(arg)).collect();
        let command = if args.is_empty() { "\"$SHELL\" -l".to_owned() } else { args.join(" ") };
        format!("{ON_TERMINAL} rows {rows} cols {columns}; exec {command}")
    }
}

/// Returns the letters of what is the case.
fn letters(claims: &[(bool, char)]) -> String {
    claims.iter().filter(|(is_so, _)| *is_so).map(|(_, letter)| *letter).collect()
}

pub(super) fn shell(args: Vec<&str>) -> AgentCommand {
    AgentCommand::new("guest-exec").argument("path", "/bin/sh").argument("arg", args)
}

/// Decodes what the agent has captured.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Returns the process that a reply to `guest-exec` names.
pub fn started_process(reply: &Value) -> Option<i64> {
    reply.get("pid").and_then(Value::as_i64).filter(|pid| *pid > 1)
}

/// A signal to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE")]
pub enum ProcessSignal {
    /// SIGHUP.
    Hup,
    /// SIGINT.
    Int,
    /// SIGPIPE: what it writes is no longer read.
    Pipe,
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

impl ProcessSignal {
    const ALL: [Self; 5] = [Self::Hup, Self::Int, Self::Pipe, Self::Term, Self::Kill];

    /// Returns its number on Linux (signal(7)).
    pub const fn number(self) -> u8 {
        match self {
            Self::Hup => 1,
            Self::Int => 2,
            Self::Kill => 9,
            Self::Pipe => 13,
            Self::Term => 15,
        }
    }

    /// Returns the signal with this number, if it is one of these.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.number() == number)
    }
}

/// A text that cannot be guessed, which tells one command from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// Makes it of random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(random)))
    }

    /// Reads one that was recorded.
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_valid.then(|| Self(text.to_owned()))
    }

    /// Returns the line with which the output on each port begins.
    pub fn first_line(&self) -> Vec<u8> {
        format!("{}\n", self.0).into_bytes()
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a command was not started, as the script says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "kebab-case")]
pub enum ExecFailure {
    /// There is no such user.
    NoUser,
    /// The directory does not exist, or is not one.
    NoDirectory,
    /// The guest does not have the ports.
    NoPort,
    /// The guest does not have script(1), which makes terminals.
    NoTerminal,
    /// The guest has no room for the record of a detached command.
    NoRecord,
    /// There is no such program.
    NotFound,
    /// The program cannot be executed.
    NotExecutable,
}

impl ExecFailure {
    /// Returns why the command `nonce` was not started, if that is what its captured standard error says.
    pub fn from_stderr(nonce: &Nonce, stderr: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(stderr).ok()?;
        text.lines().find_map(|line| line.strip_prefix(&nonce.0)?.trim().parse().ok())
    }
}

/// The name of a user of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserName(String);

/// A text that is not the name of a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid user name `{}`: expected letters, digits and `._-`", value.escape_debug())]
pub struct InvalidUserName {
    /// The text.
    pub value: String,
}

impl FromStr for UserName {
    type Err = InvalidUserName;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = !value.is_empty() && value.len() <= 32 && value.bytes().all(is_valid);
        if !is_name || value.starts_with(['-', '.']) || value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidUserName { value: value.to_owned() });
        }
        Ok(Self(value.to_owned()))
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A variable of a command's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentVariable {
    name: String,
    value: String,
}

/// A text that is not a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid variable `{}`: expected `NAME=VALUE`, with letters, digits and `_` in the name", value.escape_debug())]
pub struct InvalidEnvironmentVariable {
    /// The text.
    pub value: String,
}

impl EnvironmentVariable {
    /// Returns whether `name` can be that of a variable: the script has the shell export it.
    pub fn is_name(name: &str) -> bool {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !name.is_empty() && !name.starts_with(|char: char| char.is_ascii_digit()) && name.bytes().all(is_valid)
    }

    /// Returns the line of a shell that sets it.
    fn export(&self) -> String {
        format!("export {}={}\n", self.name, quote(&self.value))
    }
}

impl FromStr for EnvironmentVariable {
    type Err = InvalidEnvironmentVariable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').filter(|(name, value)| Self::is_name(name) && !value.contains('\0'));
        let (name, value) = parts.ok_or_else(|| InvalidEnvironmentVariable { value: text.to_owned() })?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for EnvironmentVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nonce() -> Nonce {
        Nonce::new([0xab; 16])
    }

    #[test]
    fn test_start_passes_everything_as_arguments() {
        let command = GuestCommand {
            args: vec!["echo".to_owned(), "a b; $(c)".to_owned(), "--".to_owned()],
            user: Some("www-data".parse().unwrap()),
            directory: Some("/tmp/x y".to_owned()),
            environment: vec!["A=b=c d".parse().unwrap(), "PATH=/bin".parse().unwrap()],
        };
        let set = PortSet::all().nth(1).unwrap();

        let request =
            command.start(&nonce(), ExecWay::Ports { set, has_input: true, is_merged: true, terminal: None }, None);

        assert_eq!(request.arguments["path"], "/bin/sh");
        let args: Vec<&str> = request.arguments["arg"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let id = "ab".repeat(16);
        let exports = "export A='b=c d'\nexport PATH=/bin\n";
        let expected =
            ["maqet-exec", &id, "2", "www-data", "/tmp/x y", "im", "/bin", exports, "", "", "echo", "a b; $(c)", "--"];
        assert_eq!(args[2..], expected);
        assert_eq!(request.arguments.get("input-data"), None);
    }

    #[test]
    fn test_start_on_a_terminal_has_its_size_and_the_login_shell() {
        let line = |args: &[&str]| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            let command = GuestCommand { args, user: None, directory: None, environment: Vec::new() };
            let terminal = Some(TerminalSize { rows: 24, columns: 80 });
            let set = PortSet::all().next().unwrap();
            let way = ExecWay::Ports { set, has_input: true, is_merged: true, terminal };
            let request = command.start(&nonce(), way, None);
            assert_eq!(request.arguments["arg"][7], "imt");
            request.arguments["arg"][10].as_str().unwrap().to_owned()
        };

        assert!(line(&["echo", "a b"]).ends_with("; stty rows 24 cols 80; exec echo 'a b'"), "{}", line(&["echo"]));
        assert!(line(&[]).ends_with("; exec \"$SHELL\" -l"));
    }

    #[test]
    fn test_start_by_the_agent_has_the_input() {
        let command =
            GuestCommand { args: vec!["cat".to_owned()], user: None, directory: None, environment: Vec::new() };

        let request = command.start(&nonce(), ExecWay::Agent, Some(b"hi\n"));

        assert_eq!(request.arguments["input-data"], "aGkK");
        assert_eq!(request.arguments["capture-output"], true);
        assert_eq!(request.arguments["arg"][4], "");
    }

    #[test]
    fn test_failure_is_that_of_the_nonce() {
        let failure = |stderr: &str| ExecFailure::from_stderr(&nonce(), stderr.as_bytes());
        let id = nonce();

        assert_eq!(failure(&format!("{id} not-found\n")), Some(ExecFailure::NotFound));
        assert_eq!(failure(&format!("sh: warning\n{id} no-directory\n")), Some(ExecFailure::NoDirectory));
        assert_eq!(failure("not-found\n"), None);
        assert_eq!(failure(&format!("{id} hello\n")), None);
    }

    #[test]
    fn test_user_and_variable_names_are_those_a_shell_takes() {
        for name in ["root", "www-data", "a.b", "_apt"] {
            assert!(name.parse::<UserName>().is_ok(), "{name}");
        }
        for name in ["", "-x", "a b", "$(x)", "1000", "a/b", "~", "ä"] {
            assert!(name.parse::<UserName>().is_err(), "{name}");
        }
        for text in ["A=", "_a1=b=c", "PATH=/bin"] {
            assert_eq!(text.parse::<EnvironmentVariable>().unwrap().to_string(), text);
        }
        for text in ["A", "=x", "1A=x", "A B=x", "A-B=x", "--=x", "A=\0"] {
            assert!(text.parse::<EnvironmentVariable>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn test_nonce_is_read_back() {
        assert_eq!(Nonce::parse(&nonce().to_string()), Some(nonce()));
        assert_eq!(Nonce::parse("abc"), None);
        assert_eq!(Nonce::parse(&"x".repeat(32)), None);
    }

    #[test]
    fn test_started_process_is_a_number_above_one() {
        assert_eq!(started_process(&json!({"pid": 1234})), Some(1234));
        for reply in [json!({}), json!({"pid": 1}), json!({"pid": -5}), json!({"pid": "7"})] {
            assert_eq!(started_process(&reply), None, "{reply}");
        }
    }
}
