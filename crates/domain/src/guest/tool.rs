//! What is done to a command that runs, by short scripts in the guest.

use super::channel::PortSet;
use super::command::{Nonce, ProcessSignal, TerminalSize, shell};
use super::protocol::AgentCommand;
use super::scripts::{RESIZE, SIGNAL, SWEEP};
use super::status::ExitStatus;

/// A short script, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestTool {
    pub(super) script: &'static str,
    pub(super) args: Vec<String>,
}

impl GuestTool {
    /// Sends a signal to a command; with the nonce of one on a terminal, to what runs there.
    pub fn signal(signal: ProcessSignal, pid: i64, on_terminal: Option<&Nonce>) -> Self {
        let (signal, nonce) = match (signal, on_terminal) {
            // script(1) ignores SIGHUP. The kernel hangs the terminal up once that is gone.
            (ProcessSignal::Hup | ProcessSignal::Kill, Some(_)) => (ProcessSignal::Kill, String::new()),
            (signal, nonce) => (signal, nonce.map(ToString::to_string).unwrap_or_default()),
        };
        let signal: &str = signal.into();
        Self { script: SIGNAL, args: vec![signal.to_owned(), pid.to_string(), nonce] }
    }

    /// Sets the size of a command's terminal.
    pub fn resize(nonce: &Nonce, size: TerminalSize) -> Self {
        Self { script: RESIZE, args: vec![nonce.to_string(), size.rows.to_string(), size.columns.to_string()] }
    }

    /// Kills what is left of a command, and what has the output of its ports open.
    pub fn sweep(nonce: &Nonce, set: Option<PortSet>) -> Self {
        Self { script: SWEEP, args: vec![nonce.to_string(), set.map(|set| set.to_string()).unwrap_or_default()] }
    }

    /// Returns the request that has the agent run it.
    pub fn request(&self) -> AgentCommand {
        let args = ["-c", self.script, "maqet-tool"].into_iter().chain(self.args.iter().map(String::as_str));
        shell(args.collect())
    }
}

/// Returns whether a command had exited before it was signaled, according to how the tool that did so has exited.
pub fn had_exited(signaled: ExitStatus) -> bool {
    signaled == ExitStatus::Code(3)
}
