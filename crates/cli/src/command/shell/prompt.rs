//! The line that somebody types, edited on a thread of its own.

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
use crate::terminal::KeptTerminal;

/// How many lines wait to be shown above the prompt: as many as a terminal shows at once.
const TOLD_AT_ONCE: usize = 64;

/// How long the editor may take from being asked for a line to having the terminal: microseconds, on a busy machine some
/// milliseconds; one that never does, as on a terminal that cannot be edited on, leaves it as it is.
const EDITOR_READY: Duration = Duration::from_millis(300);

/// How often is looked whether it has.
const EDITOR_LOOK: Duration = Duration::from_millis(1);

/// What came of a line that was asked for.
pub(super) enum Typed {
    /// A line.
    Line(String),
    /// Nothing more will be typed.
    End,
    /// The terminal cannot be read.
    Broken(io::Error),
}

/// A prompt; its thread is not waited for, as it ends with the process.
pub(super) struct Prompt {
    typed: mpsc::Receiver<Typed>,
    again: std_mpsc::Sender<()>,
    told: mpsc::Sender<String>,
    /// How many lines there was no room for.
    missed: u64,
    /// Whether a line is asked for.
    is_shown: bool,
    /// Whether no line is to be asked for any more.
    is_over: Arc<AtomicBool>,
}

impl Prompt {
    /// Shows the prompt, and takes what is typed from now on.
    pub(super) fn open(prompt: &str, schema: Schema, history: History) -> Result<Self, io::Error> {
        let config = Config::builder().completion_type(CompletionType::List).auto_add_history(false).build();
        let kept = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, kept).map_err(broken)?;
        editor.set_helper(Some(Typist { schema }));
        for line in history.lines() {
            editor.add_history_entry(line).map_err(broken)?;
        }
        // Terminals that cannot move the cursor have none.
        let printer = editor.create_external_printer().ok();
        let (tell, typed) = mpsc::channel(1);
        let (again, asked) = std_mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let (prompt, ends) = (prompt.to_owned(), Arc::clone(&is_over));
        std::thread::spawn(move || {
            if let Err(error) = SigSet::from(Signal::SIGTSTP).thread_unblock() {
                tracing::warn!(%error, "Ctrl-Z will not stop the shell");
            }
            read(&mut editor, &prompt, &history, &ends, &tell, &asked);
        });
        let (told, to_tell) = mpsc::channel(TOLD_AT_ONCE);
        std::thread::spawn(move || self::tell(printer, to_tell));
        Ok(Self { typed, again, told, missed: 0, is_shown: true, is_over })
    }

    /// Waits for a line.
    pub(super) async fn next(&mut self) -> Option<Typed> {
        let typed = self.typed.recv().await;
        self.is_shown = false;
        typed
    }

    /// Shows the prompt again, after a line was taken.
    pub(super) fn show(&mut self) {
        // Where nobody asks any more, the next line is the end.
        let _ = self.again.send(());
        self.is_shown = true;
    }

    /// Asks for no further line, and waits until the terminal is not changed any more but by who puts it back.
    ///
    /// Where a line is asked for, the editor has made the terminal raw, or does so now.
    pub(super) async fn end(&mut self, terminal: &KeptTerminal) {
        self.is_over.store(true, Ordering::SeqCst);
        let until = Instant::now() + EDITOR_READY;
        let is_gone = |typed: &mut mpsc::Receiver<Typed>| matches!(typed.try_recv(), Err(TryRecvError::Disconnected));
        while self.is_shown && !terminal.is_changed() && !is_gone(&mut self.typed) && Instant::now() < until {
            tokio::time::sleep(EDITOR_LOOK).await;
        }
    }

    /// Shows a line above the prompt; what is being typed stays.
    ///
    /// Where more come than a terminal shows, they are counted instead: nobody waits for it.
    pub(super) fn tell(&mut self, line: &str) {
        let lines = if self.missed == 0 { format!("{line}\n") } else { format!("{}\n{line}\n", too_fast(self.missed)) };
        match self.told.try_send(lines) {
            Ok(()) => self.missed = 0,
            Err(_) => self.missed += 1,
        }
    }
}

/// Has Ctrl-Z stop the thread that edits the line and none beside it; called before there are others.
///
/// Whichever thread the kernel gives the signal stops at once, and the one that edits has to be it: before the others
/// would stop it, it would make the terminal raw again, for the program that has it then.
pub(crate) fn stop_where_lines_are_edited() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGTSTP).thread_block()?)
}

/// Returns what is said of events that were not shown.
pub(super) fn too_fast(count: u64) -> String {
    format!("({count} events came too fast to be shown)")
}

type TypistsEditor = Editor<Typist, MemHistory>;

fn read(
    editor: &mut TypistsEditor,
    prompt: &str,
    history: &History,
    ends: &AtomicBool,
    tell: &mpsc::Sender<Typed>,
    asked: &std_mpsc::Receiver<()>,
) {
    while !ends.load(Ordering::SeqCst) {
        let typed = match editor.readline(prompt) {
            Ok(line) => Typed::Line(line),
            // A line that was given up, or a terminal that changed its size.
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => continue,
            Err(ReadlineError::Eof) => Typed::End,
            Err(why) => Typed::Broken(broken(why)),
        };
        if let Typed::Line(line) = &typed
            && history.keep(line)
        {
            let _is_bounded = editor.add_history_entry(line.as_str());
        }
        let is_last = !matches!(typed, Typed::Line(_));
        if tell.blocking_send(typed).is_err() || is_last || asked.recv().is_err() {
            return;
        }
    }
}

fn tell(mut printer: Option<impl ExternalPrinter>, mut to_tell: mpsc::Receiver<String>) {
    while let Some(line) = to_tell.blocking_recv() {
        let shown = match &mut printer {
            Some(printer) => printer.print(line).is_ok(),
            None => io::stdout().write_all(line.as_bytes()).is_ok(),
        };
        if !shown {
            return;
        }
    }
}

fn broken(why: ReadlineError) -> io::Error {
    match why {
        ReadlineError::Io(why) => why,
        other => io::Error::other(other),
    }
}

/// Completes what is typed.
struct Typist {
    schema: Schema,
}

impl Completer for Typist {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let found = completions(&self.schema, line.get(..at).unwrap_or_default());
        Ok((found.start, found.words))
    }
}

impl Hinter for Typist {
    type Hint = String;
}

impl Highlighter for Typist {}

impl Validator for Typist {}

impl Helper for Typist {}
