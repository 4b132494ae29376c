//! `maqet qmp shell`: QMP commands that are typed, or come from a script, in one session.

mod history;
mod prompt;
mod script;

use std::io;
use std::time::Duration;

use maqet::domain::port::SessionEvent;
use maqet::domain::qmp::{QmpError, SchemaError};
use maqet::{CommandError, Error, ErrorReport, Explain, Maqet, QmpLine, QmpShell};

use self::history::History;
pub(crate) use self::prompt::stop_only_the_editor;
use self::prompt::{Input, Prompt, missed_events};
use crate::args::QmpShellArgs;
use crate::error::terminal_failed;
use crate::exit_code;
use crate::render::{Output, QmpResponse, error, event_line, line};
use crate::signal::{SignalKind, Signals};
use crate::terminal::{RawTerminal, SavedTerminal};

/// The signals of a terminal and of other processes, which would otherwise end the process with a raw terminal.
///
/// SIGINT arrives here only while no line is edited; the editor takes Ctrl-C as a key, which clears the line.
const SIGNALS: [SignalKind; 4] =
    [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];

/// How long one call waits for events.
const EVENT_TIMEOUT: Duration = Duration::from_mins(1);

/// Runs the shell, with a prompt on a terminal.
pub(super) async fn run(maqet: &Maqet, args: QmpShellArgs, output: &Output) -> Result<u8, ErrorReport> {
    let QmpShellArgs { vm, timeout, allow_dangerous } = args;
    let message = format!("opening a session with `{vm}`");
    let shell = output.progress(&message, maqet.app().qmp_shell(&vm, timeout, allow_dangerous)).await?;
    if !is_interactive() {
        return script::run(shell).await;
    }
    let history = History::open(&maqet.settings().state_dir);
    InteractiveShell::new(shell, history, output)?.run().await
}

/// Returns whether standard input and output are terminals, so that there is a prompt and Ctrl-C is a key.
pub(crate) fn is_interactive() -> bool {
    RawTerminal::is_available() && io::IsTerminal::is_terminal(&io::stdout())
}

/// A shell on a terminal.
struct InteractiveShell<'a> {
    shell: QmpShell<'a>,
    prompt: Prompt,
    output: &'a Output,
    signals: Signals,
    /// Whether the last command was `quit`.
    quits: bool,
    // Dropped last, so that errors are written to a restored terminal.
    terminal: SavedTerminal,
}

/// What happens next in the session.
enum Next {
    Input(Option<Input>),
    SessionEvent(Result<Option<SessionEvent>, Error>),
    Interrupted,
}

/// Why the session ends.
enum End {
    Left,
    Interrupted,
    Disconnected(Error),
}

impl<'a> InteractiveShell<'a> {
    fn new(shell: QmpShell<'a>, history: History, output: &'a Output) -> Result<Self, ErrorReport> {
        let terminal = SavedTerminal::save().map_err(terminal_failed)?;
        let signals = Signals::new(&SIGNALS).map_err(terminal_failed)?;
        if output.is_text() {
            output.note(&format!("connected to QEMU of `{}`; Tab completes, Ctrl-D exits", shell.name()));
        }
        let prompt = Prompt::open(&format!("{}> ", shell.name()), shell.schema().clone(), history);
        Ok(Self { shell, prompt: prompt.map_err(terminal_failed)?, output, signals, quits: false, terminal })
    }

    async fn run(mut self) -> Result<u8, ErrorReport> {
        let end = self.run_session().await;
        self.prompt.end(&self.terminal).await;
        let end = end?;
        let (name, quits, output) = (self.shell.name().to_owned(), self.quits, self.output);
        // Restores the terminal before anything is written.
        drop(self);
        match end {
            End::Left => Ok(exit_code::DONE),
            End::Interrupted => {
                output.note_interrupted();
                Ok(exit_code::INTERRUPTED)
            }
            End::Disconnected(_) if quits => {
                output.note(&format!("QEMU of `{name}` has exited"));
                Ok(exit_code::DONE)
            }
            End::Disconnected(error) => Err(disconnected(&name, error)),
        }
    }

    async fn run_session(&mut self) -> Result<End, ErrorReport> {
        loop {
            let next = tokio::select! {
                input = self.prompt.next() => Next::Input(input),
                event = self.shell.next_event(EVENT_TIMEOUT) => Next::SessionEvent(event),
                _ = self.signals.next() => Next::Interrupted,
            };
            match next {
                Next::Input(Some(Input::Line(text))) => {
                    for command in commands(&text) {
                        if let Some(end) = self.execute(command).await? {
                            return Ok(end);
                        }
                    }
                    self.prompt.show();
                }
                Next::Input(Some(Input::Failed(error))) => return Err(terminal_failed(error)),
                Next::Input(Some(Input::End) | None) => return Ok(End::Left),
                Next::SessionEvent(Ok(Some(event))) => self.prompt.print(&session_event_line(&event)),
                Next::SessionEvent(Ok(None)) => {}
                Next::SessionEvent(Err(error)) => return Ok(End::Disconnected(error)),
                Next::Interrupted => return Ok(End::Interrupted),
            }
        }
    }

    /// Runs a command and shows its response; returns why the session ends, if it does.
    async fn execute(&mut self, text: &str) -> Result<Option<End>, ErrorReport> {
        let command = match QmpLine::read(text) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(None),
            Err(invalid) => {
                error::show(&ErrorReport::from_error(&invalid), self.output.format());
                return Ok(None);
            }
        };
        self.quits = command.command == "quit";
        let response = tokio::select! {
            response = self.shell.execute(&command) => response,
            signal = self.signals.next() => {
                if signal != SignalKind::interrupt() {
                    return Ok(Some(End::Interrupted));
                }
                self.output.note(&format!("no longer waiting for `{}`; it may still complete", command.command));
                return Ok(None);
            }
        };
        // Events that arrived in the meantime precede the response.
        while let Ok(Some(event)) = self.shell.next_event(Duration::ZERO).await {
            line(&session_event_line(&event))?;
        }
        match response {
            Ok(value) => self.output.show_response(&QmpResponse { command: &command.command, value: &value })?,
            Err(error) if is_disconnect(&error) => return Ok(Some(End::Disconnected(error))),
            Err(error) => error::show(&with_shell_hints(&command.command, error), self.output.format()),
        }
        Ok(None)
    }
}

/// Returns the commands of an input: a terminal passes on several pasted lines as one.
fn commands(text: &str) -> Vec<&str> {
    // A QMP message may extend over several lines.
    let is_message = text.trim_start().starts_with('{') && QmpLine::read(text).is_ok();
    if is_message { vec![text] } else { text.lines().collect() }
}

/// Returns the report of a command's error, with hints for the shell.
fn with_shell_hints(command: &str, error: Error) -> ErrorReport {
    let Error::Command { error: CommandError::Schema(unknown @ SchemaError::CommandNotFound { .. }), .. } = &error
    else {
        return error.into();
    };
    let hints = match command {
        "exit" | "bye" | "logout" | "q" | ":q" => {
            vec!["press Ctrl-D to exit; `quit` is a QMP command, which stops the VM".to_owned()]
        }
        "help" | "?" => vec!["press Tab for completions; run `query-commands` for a list of commands".to_owned()],
        _ => unknown.explain().hint("run `query-commands` for a list of commands").hints,
    };
    ErrorReport { hints, ..error.into() }
}

/// Returns whether an error ends the session.
fn is_disconnect(error: &Error) -> bool {
    matches!(error, Error::Ended(_) | Error::Qmp(QmpError::ConnectionClosed { .. } | QmpError::InvalidResponse { .. }))
}

/// Returns the report of a session that QEMU has ended.
fn disconnected(name: &str, error: Error) -> ErrorReport {
    match error {
        Error::Qmp(QmpError::ConnectionClosed { .. }) => ErrorReport {
            message: format!("QEMU of `{name}` has closed its monitor"),
            hints: vec![format!("check the reason with `maqet status {name}`")],
            ..error.into()
        },
        other => other.into(),
    }
}

fn session_event_line(event: &SessionEvent) -> String {
    match event {
        SessionEvent::Event(event) => event_line(event),
        SessionEvent::Missed(count) => missed_events(*count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_commands_splits_lines_unless_they_are_one_message() {
        let message = "{\"execute\":\n  \"query-name\"\n}";

        assert_eq!(commands("query-name"), ["query-name"]);
        assert_eq!(commands("stop\nquery-status\n"), ["stop", "query-status"]);
        assert_eq!(commands(message), [message]);
        assert_eq!(commands("{\"execute\":\"stop\"}\n{\"execute\":\"cont\"}").len(), 2);
    }
}
