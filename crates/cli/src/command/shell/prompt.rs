//! The line editor, on its own thread.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use maqet::completions;
use maqet::domain::qmp::Schema;
use nix::sys::signal::{SigSet, Signal};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter, Helper};
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::time::Instant;

use super::history::History;
use crate::terminal::SavedTerminal;

/// How many lines wait to be printed above the prompt: about as many as a terminal shows.
const MAX_QUEUED_LINES: usize = 64;

/// How long the editor may take to set up the terminal: microseconds, on a busy host some milliseconds. Where it cannot
/// edit, it never changes the terminal.
const EDITOR_READY_TIMEOUT: Duration = Duration::from_millis(300);

/// How often the terminal is checked for that.
const EDITOR_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The outcome of a prompt.
pub(super) enum Input {
    Line(String),
    /// The end of the input, by Ctrl-D.
    End,
    /// The terminal cannot be read.
    Failed(io::Error),
}

/// A prompt; its threads are never joined, as they end with the process.
pub(super) struct Prompt {
    inputs: mpsc::Receiver<Input>,
    requests: std_mpsc::Sender<()>,
    lines: mpsc::Sender<String>,
    /// How many lines were dropped since the last one that was printed.
    dropped_lines: u64,
    /// Whether the editor waits for a line.
    is_shown: bool,
    /// Whether the editor must not start another line.
    is_over: Arc<AtomicBool>,
}

impl Prompt {
    /// Shows the prompt and starts to read lines.
    pub(super) fn open(prompt: &str, schema: Schema, history: History) -> Result<Self, io::Error> {
        let config = Config::builder().completion_type(CompletionType::List).auto_add_history(false).build();
        let entries = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, entries).map_err(to_io_error)?;
        editor.set_helper(Some(SchemaHelper { schema }));
        for line in history.lines() {
            editor.add_history_entry(line).map_err(to_io_error)?;
        }
        // A terminal that cannot move the cursor has no printer.
        let printer = editor.create_external_printer().ok();
        let (input_sender, inputs) = mpsc::channel(1);
        let (requests, request_receiver) = std_mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let (prompt, ends) = (prompt.to_owned(), Arc::clone(&is_over));
        std::thread::spawn(move || {
            if let Err(error) = SigSet::from(Signal::SIGTSTP).thread_unblock() {
                tracing::warn!(%error, "Ctrl-Z does not stop the shell");
            }
            read_lines(&mut editor, &prompt, &history, &ends, &input_sender, &request_receiver);
        });
        let (lines, line_receiver) = mpsc::channel(MAX_QUEUED_LINES);
        std::thread::spawn(move || print_lines(printer, line_receiver));
        Ok(Self { inputs, requests, lines, dropped_lines: 0, is_shown: true, is_over })
    }

    /// Waits for a line.
    pub(super) async fn next(&mut self) -> Option<Input> {
        let input = self.inputs.recv().await;
        self.is_shown = false;
        input
    }

    /// Shows the prompt again after a line.
    pub(super) fn show(&mut self) {
        // If the editor has ended, `next` returns `None`.
        let _ = self.requests.send(());
        self.is_shown = true;
    }

    /// Stops reading lines, and waits until the editor no longer changes the terminal except to restore it.
    ///
    /// An editor that waits for a line has set the terminal to raw mode, or is about to.
    pub(super) async fn end(&mut self, terminal: &SavedTerminal) {
        self.is_over.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + EDITOR_READY_TIMEOUT;
        let has_ended =
            |inputs: &mut mpsc::Receiver<Input>| matches!(inputs.try_recv(), Err(TryRecvError::Disconnected));
        while self.is_shown && !terminal.is_changed() && !has_ended(&mut self.inputs) && Instant::now() < deadline {
            tokio::time::sleep(EDITOR_POLL_INTERVAL).await;
        }
    }

    /// Prints a line above the prompt and keeps the text that is being edited.
    ///
    /// Lines that arrive faster than the terminal shows them are counted instead, so that nothing waits for it.
    pub(super) fn print(&mut self, line: &str) {
        let lines = match self.dropped_lines {
            0 => format!("{line}\n"),
            dropped => format!("{}\n{line}\n", missed_events(dropped)),
        };
        match self.lines.try_send(lines) {
            Ok(()) => self.dropped_lines = 0,
            Err(_) => self.dropped_lines += 1,
        }
    }
}

/// Has Ctrl-Z stop the thread of the editor and no other; called before there are other threads.
///
/// The kernel delivers SIGTSTP to any thread, which then stops all of them. The editor has to be the one: it restores the
/// terminal first. Were another thread stopped, the editor would set raw mode again while a shell uses the terminal.
pub(crate) fn stop_only_the_editor() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGTSTP).thread_block()?)
}

/// Returns the line that stands for events which are not shown.
pub(super) fn missed_events(count: u64) -> String {
    format!("({count} events omitted: they arrived too fast)")
}

fn read_lines(
    editor: &mut Editor<SchemaHelper, MemHistory>,
    prompt: &str,
    history: &History,
    ends: &AtomicBool,
    inputs: &mpsc::Sender<Input>,
    requests: &std_mpsc::Receiver<()>,
) {
    while !ends.load(Ordering::SeqCst) {
        let input = match editor.readline(prompt) {
            Ok(line) => Input::Line(line),
            // Ctrl-C, or a resized terminal.
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => continue,
            Err(ReadlineError::Eof) => Input::End,
            Err(error) => Input::Failed(to_io_error(error)),
        };
        if let Input::Line(line) = &input
            && history.append(line)
        {
            // The history is bounded, so it does not matter whether an entry was dropped.
            let _ = editor.add_history_entry(line.as_str());
        }
        let is_last = !matches!(input, Input::Line(_));
        if inputs.blocking_send(input).is_err() || is_last || requests.recv().is_err() {
            return;
        }
    }
}

fn print_lines(mut printer: Option<impl ExternalPrinter>, mut lines: mpsc::Receiver<String>) {
    while let Some(line) = lines.blocking_recv() {
        let is_printed = match &mut printer {
            Some(printer) => printer.print(line).is_ok(),
            None => io::stdout().write_all(line.as_bytes()).is_ok(),
        };
        if !is_printed {
            return;
        }
    }
}

fn to_io_error(error: ReadlineError) -> io::Error {
    match error {
        ReadlineError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Completes commands and arguments from QEMU's schema.
struct SchemaHelper {
    schema: Schema,
}

impl Completer for SchemaHelper {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let found = completions(&self.schema, line.get(..at).unwrap_or_default());
        Ok((found.start, found.candidates))
    }
}

impl Hinter for SchemaHelper {
    type Hint = String;
}

impl Highlighter for SchemaHelper {}

impl Validator for SchemaHelper {}

impl Helper for SchemaHelper {}
