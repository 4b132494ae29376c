//! Commands that are run by ssh(1).
//!
//! What is run there is not part of a command line, neither of this host nor of the guest: both may show it to other
//! users. The command line only has a shell that reads one line, with a script in it.

use core::net::IpAddr;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::command::{ExecWay, GuestCommand, Nonce, PATH, TerminalSize};
use super::exit_record::ExitRecord;
use super::scripts::START;
use super::tool::GuestTool;
use crate::text::quote;

/// The user that may do everything.
const ROOT: &str = "root";

/// How long a server may take to send its version; where there is none, nothing answers at a port that QEMU forwards.
const GREETING_SECONDS: u8 = 15;

/// How often the guest is asked whether it still has the connection, which one that was reset denies.
const ALIVE_SECONDS: u8 = 5;

/// How often it may fail to answer: a VM that is paused does not end a command.
const MAX_ALIVE_FAILURES: u32 = 100_000;

/// How to log in to a guest by SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshLogin {
    /// The address of this host that is forwarded to the guest.
    pub address: IpAddr,
    /// The forwarded port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The file with the private key; those of the user's agent and home directory if there is none.
    pub key: Option<PathBuf>,
}

impl SshLogin {
    /// Returns the arguments with which ssh(1) logs in, and runs `command` by the shell of the user.
    ///
    /// It reads no configuration, asks nothing, forwards nothing, and writes its own messages to `log`. The host key is not
    /// checked, as the connection does not leave this host, and each new guest has another one.
    pub fn arguments(&self, log: &Path, command: &str) -> Vec<OsString> {
        let options = [
            "BatchMode=yes",
            "CheckHostIP=no",
            "ClearAllForwardings=yes",
            "ControlPath=none",
            "GlobalKnownHostsFile=/dev/null",
            "GSSAPIAuthentication=no",
            "LogLevel=ERROR",
            "PermitLocalCommand=no",
            "StrictHostKeyChecking=no",
            "UpdateHostKeys=no",
            "UserKnownHostsFile=/dev/null",
        ];
        let mut arguments: Vec<OsString> = ["-F", "none", "-T", "-a", "-x", "-E"].map(OsString::from).into();
        arguments.push(log.into());
        let numbers = [
            format!("ConnectTimeout={GREETING_SECONDS}"),
            format!("ServerAliveInterval={ALIVE_SECONDS}"),
            format!("ServerAliveCountMax={MAX_ALIVE_FAILURES}"),
        ];
        for option in options.into_iter().map(str::to_owned).chain(numbers) {
            arguments.extend(["-o".into(), option.into()]);
        }
        if let Some(key) = &self.key {
            // `%` begins a token.
            let key = key.to_string_lossy().replace('%', "%%");
            arguments.extend(["-o".into(), "IdentitiesOnly=yes".into(), "-i".into(), key.into()]);
        }
        let port = self.port.to_string();
        arguments.extend(["-p", &port, "-l", &self.user, "--", &self.address.to_string(), command].map(OsString::from));
        arguments
    }

    /// Returns the command by which the shell of the user runs the scripts of a command for `user`, root if `None`.
    ///
    /// Root runs it, unless it is for the user who logs in. It prints the nonce once it reads the script.
    pub fn receiver(&self, nonce: &Nonce, user: Option<&str>) -> String {
        let is_user = self.is_user(user);
        let sudo = if is_user || self.user == ROOT { "" } else { "sudo -n -- " };
        format!("exec {sudo}env -i {PATH} /bin/sh -c 'echo {nonce}; IFS= read -r s && eval \"$(printf %b \"$s\")\"'")
    }

    /// Returns whether a command for `user`, root if `None`, is for the user who logs in.
    pub fn is_user(&self, user: Option<&str>) -> bool {
        user.unwrap_or(ROOT) == self.user
    }
}

/// How the command that is run by ssh(1) is connected.
#[derive(Debug, Clone, Copy)]
pub struct SshStreams {
    /// Whether it has a standard input.
    pub has_input: bool,
    /// Whether its standard error goes where its standard output goes.
    pub is_merged: bool,
    /// The size of its terminal, if it has one.
    pub terminal: Option<TerminalSize>,
}

impl GuestCommand {
    /// Returns the line for the [receiver](SshLogin::receiver) that runs the command.
    ///
    /// Once it begins, a line with the nonce and the number of its process comes on standard error. The shell waits for it,
    /// since ssh(1) does not say which signal killed a command, and ends both streams with an [`ExitRecord`].
    pub fn line_by_ssh(&self, nonce: &Nonce, login: &SshLogin, streams: SshStreams) -> Vec<u8> {
        let user = self.user.as_ref().map(ToString::to_string);
        let SshStreams { has_input, is_merged, terminal } = streams;
        let way = ExecWay::Streams { is_user: login.is_user(user.as_deref()), has_input, is_merged, terminal };
        let arguments = quoted(&self.arguments(nonce, way));
        let record = ExitRecord::script(nonce);
        let script = format!(
            "(\nread -r pid _ </proc/self/stat\nset -- {arguments}\n{START}\n)\ncode=$?\n{record}exit \"$code\"\n"
        );
        line(&script)
    }
}

impl GuestTool {
    /// Returns the line for the [receiver](SshLogin::receiver) that runs it.
    pub fn line_by_ssh(&self) -> Vec<u8> {
        line(&format!("set -- {}\n{}", quoted(&self.args), self.script))
    }
}

/// Returns the number of the process, if a line says that the command has begun.
pub fn begun_process(nonce: &Nonce, line: &[u8]) -> Option<i64> {
    let number = std::str::from_utf8(line).ok()?.strip_prefix(&nonce.to_string())?.strip_prefix(' ')?;
    number.parse().ok().filter(|pid| *pid > 1)
}

fn quoted(args: &[String]) -> String {
    let args: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
    args.join(" ")
}

/// Returns a script as one line, which `printf %b` makes the script again.
fn line(script: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(script.len() * 5 / 4);
    for byte in script.bytes() {
        match byte {
            b'\\' | 0..0x20 | 0x7f.. => line.extend(format!("\\0{byte:03o}").into_bytes()),
            byte => line.push(byte),
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str) -> SshLogin {
        SshLogin { address: [127, 0, 0, 1].into(), port: 2222, user: user.to_owned(), key: Some("/k/100%".into()) }
    }

    fn nonce() -> Nonce {
        Nonce::new([0xab; 16])
    }

    #[test]
    fn test_ssh_arguments_end_with_host_and_command() {
        let arguments = login("alice").arguments(Path::new("/r/log"), "exec true");

        let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        let end = ["-i", "/k/100%%", "-p", "2222", "-l", "alice", "--", "127.0.0.1", "exec true"];
        assert!(arguments.ends_with(&end), "{arguments:?}");
        assert!(arguments.windows(2).any(|pair| pair == ["-E", "/r/log"]), "{arguments:?}");
    }

    #[test]
    fn test_ssh_receiver_is_root_unless_the_command_is_of_the_user() {
        let has_sudo = |user: &str, of| login(user).receiver(&nonce(), of).starts_with("exec sudo -n -- env -i PATH=");

        assert_eq!([has_sudo("alice", None), has_sudo("alice", Some("bob"))], [true, true]);
        assert_eq!([has_sudo("alice", Some("alice")), has_sudo("root", None)], [false, false]);
        assert!(!has_sudo("root", Some("alice")));
    }

    #[test]
    fn test_begun_process_is_that_of_the_nonce() {
        let begun = |line: &str| begun_process(&nonce(), line.as_bytes());

        assert_eq!(begun(&format!("{} 12", nonce())), Some(12));
        for line in [format!("{} 1", nonce()), format!("{}12", nonce()), format!("{} not-found", nonce())] {
            assert_eq!(begun(&line), None, "{line}");
        }
    }

    /// Decodes a line as `printf %b` does.
    fn decoded(line: &[u8]) -> String {
        let (mut bytes, mut rest) = (Vec::new(), line);
        while let [first, after @ ..] = rest {
            if let Some(octal) = after.strip_prefix(b"0").filter(|_| *first == b'\\') {
                let digits = std::str::from_utf8(&octal[..3]).unwrap();
                bytes.push(u8::from_str_radix(digits, 8).unwrap());
                rest = &octal[3..];
            } else {
                bytes.push(*first);
                rest = after;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn test_ssh_line_is_one_line_that_is_the_script_again() {
        let args = ["a b", "\\n\\\\011", "it's; $(c) `d`", "ä\n\ty\x7f", "%s", ""].map(str::to_owned).to_vec();
        let tool = GuestTool { script: "for a; do\n    printf '%s' \"$a\"\ndone\n", args };

        let line = tool.line_by_ssh();

        let (end, content) = line.split_last().unwrap();
        assert!(*end == b'\n' && content.iter().all(|byte| (b' '..0x7f).contains(byte)), "{line:?}");
        assert_eq!(decoded(content), format!("set -- {}\n{}", quoted(&tool.args), tool.script));
    }
}
