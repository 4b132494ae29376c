//! Results on their way to standard output.

pub(crate) mod failure;
pub(crate) mod progress;
pub(crate) mod sanitize;
mod snippet;
mod text;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

pub(crate) use self::text::{QmpAnswer, TextOutput, happened};

use self::progress::ProgressStyle;
use crate::args::{Choice, Format, Global};
use crate::failure::Failure;

/// Where results go, and in which form.
pub(crate) struct Output {
    format: Format,
    format_choice: Choice,
    /// How signs of life are shown while something takes long.
    pub(crate) shows_progress: ProgressStyle,
    /// Whether anything but results and errors is said.
    pub(crate) is_quiet: bool,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let shows_progress = match global.format {
            _ if global.quiet || global.no_progress => ProgressStyle::None,
            Format::Json => ProgressStyle::Json,
            Format::Table | Format::Yaml => ProgressStyle::Words,
        };
        let Global { format, format_choice, quiet: is_quiet, .. } = *global;
        Self { format, format_choice, shows_progress, is_quiet }
    }

    /// Returns how results are written.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Returns whether results are for people.
    pub(crate) fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Writes what QEMU answered to a command: a text as it is, anything else as a table for people, and as JSON where
    /// nobody asked for a table and a program reads it.
    pub(crate) fn answer(&self, answer: &QmpAnswer<'_>) -> Result<(), Failure> {
        let is_asked_for = self.format_choice == Choice::Asked;
        let is_read_by_people = is_asked_for || io::stdout().is_terminal() || answer.value.is_string();
        if is_read_by_people { self.show(answer) } else { self.data(answer) }
    }

    /// Writes a result: one document, or words for people.
    pub(crate) fn show<T: Serialize + TextOutput>(&self, result: &T) -> Result<(), Failure> {
        match self.format {
            Format::Table => write(|out| result.write(out)),
            Format::Json | Format::Yaml => self.data(result),
        }
    }

    /// Writes a result that is data to people too.
    pub(crate) fn data<T: Serialize>(&self, result: &T) -> Result<(), Failure> {
        write(|out| match self.format {
            Format::Table => {
                let text = serde_json::to_string_pretty(result).map_err(io::Error::from)?;
                writeln!(out, "{}", sanitize::escape_for_json(&text))
            }
            Format::Json => {
                serde_json::to_writer_pretty(&mut *out, result).map_err(io::Error::from)?;
                out.write_all(b"\n")
            }
            Format::Yaml => {
                let text = serde_yaml::to_string(result).map_err(io::Error::other)?;
                out.write_all(text.as_bytes())
            }
        })
    }

    /// Writes one of many results as soon as it is there: a line for people and as JSON, a document of its own as YAML.
    ///
    /// Returns whether anybody still reads.
    pub(crate) fn stream<T: Serialize + TextOutput>(&self, result: &T) -> Result<bool, Failure> {
        try_write(|out| match self.format {
            Format::Table => result.write(out),
            Format::Json => {
                serde_json::to_writer(&mut *out, result).map_err(io::Error::from)?;
                out.write_all(b"\n")
            }
            Format::Yaml => {
                let text = serde_yaml::to_string(result).map_err(io::Error::other)?;
                write!(out, "---\n{text}")
            }
        })
    }

    /// Says something beside the results.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_quiet {
            note(self.format, text);
        }
    }
}

/// Says something on standard error that is no failure.
pub(crate) fn note(format: Format, text: &str) {
    match format {
        Format::Json => anstream::eprintln!("{}", serde_json::json!({ "note": text })),
        Format::Table | Format::Yaml => anstream::eprintln!("{}", sanitize::escape_control(text)),
    }
}

/// Writes a line that somebody reads as it comes, the same in every format; returns whether anybody still reads.
pub(crate) fn line(text: &str) -> Result<bool, Failure> {
    try_write(|out| writeln!(out, "{text}"))
}

/// Writes to standard output; a reader that went away is no failure.
fn write(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    try_write(write).map(drop)
}

/// The same; returns whether anybody still reads.
fn try_write(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<bool, Failure> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        outcome => Ok(outcome.map(|()| true)?),
    }
}

/// Returns whether results are in colour, by `--color`, the terminal and the variables that say so.
fn is_coloured() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}
