//! Results, notes, progress and errors, as text, JSON or YAML.

pub(crate) mod error;
mod progress;
pub(crate) mod sanitize;
mod snippet;
mod text;

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;

use maqet::{ErrorReport, ProgressStream};
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::text::{QmpResponse, TextOutput, event_line};

use self::progress::{ProgressStyle, Shown};
use crate::args::{Format, GlobalArgs};
use crate::error::output_failed;
use crate::exit_code;

/// Where results and notes go, and in which form.
pub(crate) struct Output {
    format: Format,
    is_format_given: bool,
    progress: ProgressStyle,
    is_quiet: bool,
    reports: ProgressStream,
    /// What was shown of the progress.
    shown: Shown,
    is_interrupted: Cell<bool>,
}

impl Output {
    /// Makes an output that shows the progress in `reports`.
    pub(crate) fn new(global: &GlobalArgs, reports: ProgressStream) -> Self {
        let progress = match global.format {
            _ if global.quiet || global.no_progress => ProgressStyle::Hidden,
            Format::Json => ProgressStyle::Json,
            Format::Table | Format::Yaml | Format::Prometheus => ProgressStyle::Text,
        };
        let GlobalArgs { format, is_format_given, quiet: is_quiet, .. } = *global;
        let (shown, is_interrupted) = (Shown::default(), Cell::default());
        Self { format, is_format_given, progress, is_quiet, reports, shown, is_interrupted }
    }

    /// Returns the form of results.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Returns whether results are text.
    pub(crate) fn is_text(&self) -> bool {
        self.format == Format::Table
    }

    /// Returns whether notes are not shown.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Waits for `work` and shows progress on standard error if it takes long.
    pub(crate) async fn progress<T>(&self, message: &str, work: impl Future<Output = T>) -> T {
        let mut value = None;
        {
            // Without its type, so that the program holds the code that shows progress once.
            let work = pin!(async { value = Some(work.await) });
            progress::show(self.progress, message, self.reports.resubscribe(), &self.shown, work).await;
        }
        let Some(value) = value else { unreachable!("the work is done") };
        value
    }

    /// Writes the response to a QMP command: a string unchanged, anything else as a table for a terminal, and as JSON
    /// for a pipe unless `--format` says otherwise.
    pub(crate) fn show_response(&self, response: &QmpResponse<'_>) -> Result<(), ErrorReport> {
        let is_text = self.is_format_given || io::stdout().is_terminal() || response.value.is_string();
        if is_text { self.show(response) } else { self.show_data(response) }
    }

    /// Writes a result: one document, or text.
    pub(crate) fn show<T: Serialize + TextOutput>(&self, result: &T) -> Result<(), ErrorReport> {
        match self.format {
            Format::Table | Format::Prometheus => write(|out| result.write(out)).map(drop),
            Format::Json | Format::Yaml => self.show_data(result),
        }
    }

    /// Writes the result of a command that succeeded, and returns its exit code.
    pub(crate) fn finish<T: Serialize + TextOutput>(&self, result: &T) -> Result<u8, ErrorReport> {
        self.show(result)?;
        Ok(exit_code::DONE)
    }

    /// Writes a result that has no text form.
    pub(crate) fn show_data<T: Serialize>(&self, result: &T) -> Result<(), ErrorReport> {
        let written = write(|out| match self.format {
            Format::Table | Format::Prometheus => {
                let mut text = Vec::new();
                write_json(&mut text, result)?;
                writeln!(out, "{}", sanitize::escape_for_json(&String::from_utf8_lossy(&text)))
            }
            Format::Json => {
                write_json(out, result)?;
                out.write_all(b"\n")
            }
            Format::Yaml => out.write_all(yaml(result)?.as_bytes()),
        });
        written.map(drop)
    }

    /// Writes one of many results: a line of text or JSON, or a YAML document.
    ///
    /// Returns whether standard output is still read.
    pub(crate) fn stream<T: Serialize + TextOutput>(&self, result: &T) -> Result<bool, ErrorReport> {
        write(|out| match self.format {
            Format::Table | Format::Prometheus => result.write(out),
            Format::Json => writeln!(out, "{}", json_value(result)?),
            Format::Yaml => write!(out, "---\n{}", yaml(result)?),
        })
    }

    /// Writes a result to standard error, in one line, as standard output belongs to a program.
    pub(crate) fn show_beside<T: Serialize>(&self, result: &T) {
        let text = match self.format {
            Format::Yaml => yaml(result),
            Format::Json | Format::Table | Format::Prometheus => json_value(result).map(|value| value.to_string()),
        };
        if let Ok(text) = text {
            anstream::eprintln!("{}", text.trim_end());
        }
    }

    /// Writes a note to standard error, unless `--quiet` is given.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_quiet {
            note(self.format, text);
        }
    }

    /// Records that the command was interrupted: work on further VMs does not start.
    pub(crate) fn interrupt(&self) {
        self.is_interrupted.set(true);
        // Whatever is written next would share the line of the spinner.
        self.shown.clear();
    }

    /// Returns whether the command was interrupted.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.is_interrupted.get()
    }

    /// Writes the note of an interrupted command.
    pub(crate) fn note_interrupted(&self) {
        match &*self.shown.done.borrow() {
            Some(done) => self.note(&format!("interrupted after {done}")),
            None => self.note("interrupted"),
        }
    }
}

// A type that is written as JSON, as a `Value` and as YAML has three copies of its code in the program. Only what may be
// long is written as JSON at once; the rest is a `Value` first, as for `App::call`.

/// Writes a result as indented JSON.
fn write_json<T: Serialize>(out: &mut dyn Write, result: &T) -> io::Result<()> {
    serde_json::to_writer_pretty(out, result).map_err(io::Error::from)
}

/// Returns a result as data, to be shown later.
pub(crate) fn data<T: Serialize>(result: &T) -> Result<Value, ErrorReport> {
    json_value(result).map_err(output_failed)
}

fn json_value<T: Serialize>(result: &T) -> io::Result<Value> {
    serde_json::to_value(result).map_err(io::Error::from)
}

fn yaml<T: Serialize>(result: &T) -> io::Result<String> {
    serde_yaml::to_string(&json_value(result)?).map_err(io::Error::other)
}

/// Writes a note to standard error.
pub(crate) fn note(format: Format, text: &str) {
    match format {
        Format::Json => anstream::eprintln!("{}", serde_json::json!({ "note": text })),
        Format::Table | Format::Yaml | Format::Prometheus => anstream::eprintln!("{}", sanitize::escape_control(text)),
    }
}

/// Writes a line that is the same in every format; returns whether standard output is still read.
pub(crate) fn line(text: &str) -> Result<bool, ErrorReport> {
    write(|out| writeln!(out, "{text}"))
}

/// Writes to standard output; returns whether it is still read, as a closed pipe is not a failure.
fn write(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<bool, ErrorReport> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(output_failed(error)),
    }
}

/// Returns whether results are colored, according to `--color`, the terminal and the environment.
fn is_coloured() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}
