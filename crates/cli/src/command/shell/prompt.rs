//! The line that somebody types, edited on a thread of its own.

use std::io::{self, Write};
use std::sync::mpsc as std_mpsc;

use maqet::completions;
use maqet::domain::qmp::Schema;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter, Helper};
use tokio::sync::mpsc;

use super::history::History;

/// How many lines wait to be shown above the prompt: as many as a terminal shows at once.
const TOLD_AT_ONCE: usize = 64;

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
        let (told, to_tell) = mpsc::channel(TOLD_AT_ONCE);
        std::thread::spawn(move || tell(printer, to_tell));

        let (tell, typed) = mpsc::channel(1);
        let (again, asked) = std_mpsc::channel();
        let prompt = prompt.to_owned();
        std::thread::spawn(move || read(&mut editor, &prompt, &history, &tell, &asked));
        Ok(Self { typed, again, told, missed: 0 })
    }

    /// Waits for a line.
    pub(super) async fn next(&mut self) -> Option<Typed> {
        self.typed.recv().await
    }

    /// Shows the prompt again, after a line was taken.
    pub(super) fn show(&self) {
        // Where nobody asks any more, the next line is the end.
        let _ = self.again.send(());
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

/// Returns what is said of events that were not shown.
pub(super) fn too_fast(count: u64) -> String {
    format!("({count} events came too fast to be shown)")
}

type TypistsEditor = Editor<Typist, MemHistory>;

fn read(
    editor: &mut TypistsEditor,
    prompt: &str,
    history: &History,
    tell: &mpsc::Sender<Typed>,
    asked: &std_mpsc::Receiver<()>,
) {
    loop {
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
