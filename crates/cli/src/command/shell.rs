//! `maqet qmp shell`: commands that somebody types, or a script brings, on one session.

mod history;
mod prompt;
mod script;

use std::io;
use std::time::Duration;

use maqet::domain::port::SessionEvent;
use maqet::domain::qmp::QmpError;
use maqet::domain::qmp::SchemaError;
use maqet::{CommandError, Error, Maqet, QmpLine};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::history::History;
pub(crate) use self::prompt::stop_where_lines_are_edited;
use self::prompt::{Prompt, Typed, too_fast};
use crate::args::QmpShellArgs;
use crate::exit_code;
use crate::failure::Failure;
use crate::render::progress;
use crate::render::{Output, QmpAnswer, failure, happened, line};
use crate::terminal::{KeptTerminal, RawTerminal};

/// How long one call listens for events before the next one does.
const TURN: Duration = Duration::from_mins(1);

/// Runs the shell: with a prompt where there is somebody to see it.
pub(crate) async fn run(maqet: &Maqet, args: QmpShellArgs, output: &Output) -> Result<u8, Failure> {
    let QmpShellArgs { vm, timeout, allow_dangerous } = args;
    let what = format!("opening a session with `{vm}`");
    let opened = maqet.app().qmp_shell(&vm, timeout, allow_dangerous);
    let shell = progress::shown(output.shows_progress, &what, opened).await?;
    if !is_for_somebody() {
        return script::run(shell).await;
    }
    let history = History::open(&maqet.settings().state_dir);
    Conversation::new(shell, history, output)?.run().await
}

/// Returns whether somebody sits at a terminal, who is asked with a prompt and presses Ctrl-C for the shell.
pub(crate) fn is_for_somebody() -> bool {
    RawTerminal::is_there() && io::IsTerminal::is_terminal(&io::stdout())
}

/// A shell with somebody at a terminal.
struct Conversation<'a> {
    shell: maqet::QmpShell<'a>,
    prompt: Prompt,
    output: &'a Output,
    signals: Signals,
    /// Whether QEMU was told to end.
    quits: bool,
    // Dropped last, so that what is said of an end is said on a terminal as it was.
    terminal: KeptTerminal,
}

/// What comes next.
enum Next {
    Typed(Option<Typed>),
    SessionEvent(Result<Option<SessionEvent>, Error>),
    Interrupted,
}

/// Why the conversation is over.
enum End {
    Left,
    Interrupted,
    Gone(Error),
}

impl<'a> Conversation<'a> {
    fn new(shell: maqet::QmpShell<'a>, history: History, output: &'a Output) -> Result<Self, Failure> {
        let terminal = KeptTerminal::keep()?;
        let signals = Signals::new()?;
        if output.is_for_people() {
            output.note(&format!("talking to the QEMU of `{}`; Tab completes, Ctrl-D leaves", shell.name()));
        }
        let prompt = Prompt::open(&format!("{}> ", shell.name()), shell.schema().clone(), history)?;
        Ok(Self { shell, prompt, output, signals, quits: false, terminal })
    }

    async fn run(mut self) -> Result<u8, Failure> {
        let end = self.converse().await;
        self.prompt.end(&self.terminal).await;
        let end = end?;
        let (name, quits, output) = (self.shell.name().to_owned(), self.quits, self.output);
        // Before anything is said.
        drop(self);
        match end {
            End::Left => Ok(exit_code::DONE),
            End::Interrupted => {
                output.note("interrupted");
                Ok(exit_code::INTERRUPTED)
            }
            End::Gone(_) if quits => {
                output.note(&format!("the QEMU of `{name}` has ended"));
                Ok(exit_code::DONE)
            }
            End::Gone(error) => Err(gone(&name, error)),
        }
    }

    async fn converse(&mut self) -> Result<End, Failure> {
        loop {
            let next = tokio::select! {
                typed = self.prompt.next() => Next::Typed(typed),
                heard = self.shell.next_event(TURN) => Next::SessionEvent(heard),
                () = self.signals.any() => Next::Interrupted,
            };
            match next {
                Next::Typed(Some(Typed::Line(typed))) => {
                    for one in commands(&typed) {
                        if let Some(end) = self.carry_out(one).await? {
                            return Ok(end);
                        }
                    }
                    self.prompt.show();
                }
                Next::Typed(Some(Typed::Broken(why))) => return Err(why.into()),
                Next::Typed(Some(Typed::End) | None) => return Ok(End::Left),
                Next::SessionEvent(Ok(Some(heard))) => self.prompt.tell(&told(&heard)),
                Next::SessionEvent(Ok(None)) => {}
                Next::SessionEvent(Err(error)) => return Ok(End::Gone(error)),
                Next::Interrupted => return Ok(End::Interrupted),
            }
        }
    }

    /// Runs a line, shows what came of it, and says whether that is the end.
    async fn carry_out(&mut self, typed: &str) -> Result<Option<End>, Failure> {
        let asked = match QmpLine::read(typed) {
            Ok(Some(asked)) => asked,
            Ok(None) => return Ok(None),
            Err(invalid) => {
                failure::show(&Failure::explained(&invalid), self.output.format());
                return Ok(None);
            }
        };
        self.quits = asked.command == "quit";
        let outcome = tokio::select! {
            outcome = self.shell.execute(&asked) => outcome,
            is_key = self.signals.first() => {
                if !is_key {
                    return Ok(Some(End::Interrupted));
                }
                self.output.note(&format!("no longer waiting for `{}`; it may still complete", asked.command));
                return Ok(None);
            }
        };
        // What happened meanwhile happened before the answer.
        while let Ok(Some(heard)) = self.shell.next_event(Duration::ZERO).await {
            line(&told(&heard))?;
        }
        match outcome {
            Ok(answer) => self.output.answer(&QmpAnswer { command: &asked.command, value: &answer })?,
            Err(error) if is_over(&error) => return Ok(Some(End::Gone(error))),
            Err(error) => failure::show(&refused(&asked.command, error), self.output.format()),
        }
        Ok(None)
    }
}

/// Returns the commands in what was typed: terminals hand over several lines that are pasted as one.
fn commands(typed: &str) -> Vec<&str> {
    // A message of QMP may be laid out over several lines.
    let is_message = typed.trim_start().starts_with('{') && QmpLine::read(typed).is_ok();
    if is_message { vec![typed] } else { typed.lines().collect() }
}

/// Returns the failure of a command, with hints for somebody who is in the shell already.
fn refused(command: &str, error: Error) -> Failure {
    let is_unknown = matches!(error, Error::Command(CommandError::Schema(SchemaError::CommandNotFound { .. })));
    let failure = Failure::from(error);
    if !is_unknown {
        return failure;
    }
    let hints = match command {
        "exit" | "bye" | "logout" | "q" | ":q" => {
            vec!["leave with Ctrl-D; `quit` is a command of QEMU's, which ends the machine".to_owned()]
        }
        "help" | "?" => vec!["press Tab for what may come next; `query-commands` lists the commands".to_owned()],
        _ => failure.hints.iter().map(|hint| hint.replace("maqet qmp VM query-commands", "query-commands")).collect(),
    };
    Failure { hints, ..failure }
}

/// Returns whether nothing can be said any more.
fn is_over(error: &Error) -> bool {
    matches!(error, Error::Qmp(QmpError::ConnectionClosed { .. } | QmpError::InvalidResponse { .. }))
}

/// Returns the failure of a session whose other side went away.
fn gone(name: &str, error: Error) -> Failure {
    match error {
        Error::Qmp(QmpError::ConnectionClosed { .. }) => Failure {
            message: format!("the QEMU of `{name}` has ended, or closed its monitor"),
            hints: vec![format!("see what it was with `maqet status {name}`")],
            ..error.into()
        },
        other => other.into(),
    }
}

/// Returns what was heard as a line for people.
fn told(heard: &SessionEvent) -> String {
    match heard {
        SessionEvent::Event(event) => happened(event),
        SessionEvent::Missed(count) => too_fast(*count),
    }
}

/// What a terminal and others send: all of it ends a program that does not listen, with the terminal as it was left.
///
/// SIGINT comes here while no line is edited; whoever edits it takes that for Ctrl-C, which clears the line.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn any(&mut self) {
        self.first().await;
    }

    /// Waits for one, and returns whether it is that of Ctrl-C.
    async fn first(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => false,
            _ = self.hangup.recv() => false,
            _ = self.quit.recv() => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_commands_of_several_lines_are_several_unless_they_are_one_message() {
        let message = "{\"execute\":\n  \"query-name\"\n}";

        assert_eq!(commands("query-name"), ["query-name"]);
        assert_eq!(commands("stop\nquery-status\n"), ["stop", "query-status"]);
        assert_eq!(commands(message), [message]);
        assert_eq!(commands("{\"execute\":\"stop\"}\n{\"execute\":\"cont\"}").len(), 2);
    }
}
