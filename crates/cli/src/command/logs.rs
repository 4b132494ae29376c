//! `maqet logs`.

use std::io::{self, IsTerminal};

use maqet::operation::{LogKind, LogReader};
use maqet::{ErrorReport, Maqet, operation};
use serde_json::json;

use crate::args::{Format, LogsArgs};
use crate::error::output_failed;
use crate::exit_code;
use crate::render::Output;
use crate::render::sanitize::{TerminalSanitizer, complete_characters};
use crate::stream::Stdout;

pub(super) async fn run(maqet: &Maqet, args: LogsArgs, output: &Output) -> Result<u8, ErrorReport> {
    let operation = args.operation();
    if !args.follow && !output.is_text() {
        let log = maqet.run(operation).await?;
        output.show_data(&log)?;
        return Ok(exit_code::DONE);
    }
    let mut reader = operation.open(maqet.app()).await?;
    if reader.length() == 0 && output.is_text() {
        output.note(&empty_log(&operation, &reader));
    }
    let mut form = LogForm::new(output.format());
    let stdout = Stdout::open();
    while let Some(piece) = next(&mut reader, args.follow).await? {
        let is_read = stdout.write(form.push(&piece)).await;
        if !is_read {
            break;
        }
    }
    stdout.write(form.finish()).await;
    stdout.finish().await.map_err(output_failed)?;
    Ok(exit_code::DONE)
}

async fn next(reader: &mut LogReader<'_>, follow: bool) -> Result<Option<Vec<u8>>, maqet::Error> {
    if follow {
        return reader.follow().await;
    }
    Ok(Some(reader.read().await?).filter(|piece| !piece.is_empty()))
}

fn empty_log(logs: &operation::Logs, reader: &LogReader<'_>) -> String {
    let about = reader.about();
    let boot = about.boot.map(|boot| format!(" in boot {boot}")).unwrap_or_default();
    match logs.log {
        LogKind::Serial => format!("no serial output of `{}`{boot}", about.name),
        LogKind::Qemu => format!("no output of QEMU for `{}`{boot}", about.name),
        LogKind::Maqet => format!("no operations on `{}`", about.name),
    }
}

/// The form in which the pieces of a log are written.
pub(super) enum LogForm {
    /// Unchanged.
    Raw,
    /// Without control sequences.
    Terminal(TerminalSanitizer),
    /// One JSON object a line, each a YAML document if `separator` is `--- `.
    Objects { separator: &'static str, incomplete: Vec<u8> },
}

impl LogForm {
    pub(super) fn new(format: Format) -> Self {
        match format {
            Format::Table if io::stdout().is_terminal() => Self::Terminal(TerminalSanitizer::default()),
            Format::Table | Format::Prometheus => Self::Raw,
            Format::Json => Self::Objects { separator: "", incomplete: Vec::new() },
            // A line of JSON is also YAML.
            Format::Yaml => Self::Objects { separator: "--- ", incomplete: Vec::new() },
        }
    }

    /// Returns the output for the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        match self {
            Self::Raw => piece.to_vec(),
            Self::Terminal(sanitizer) => sanitizer.push(piece).into_bytes(),
            Self::Objects { separator, incomplete } => {
                incomplete.extend_from_slice(piece);
                let complete = incomplete.drain(..complete_characters(incomplete)).collect();
                object(separator, complete)
            }
        }
    }

    /// Returns the output for an incomplete character at the end.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        match self {
            Self::Raw => Vec::new(),
            Self::Terminal(sanitizer) => sanitizer.finish().into_bytes(),
            Self::Objects { separator, incomplete } => object(separator, std::mem::take(incomplete)),
        }
    }
}

fn object(separator: &str, bytes: Vec<u8>) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    format!("{separator}{}\n", json!({ "text": String::from_utf8_lossy(&bytes) })).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_objects_character_split_between_pieces_is_one() {
        let mut form = LogForm::new(Format::Json);

        let first = form.push(b"a\xc3");
        let second = form.push(b"\xb6\xffb");

        assert_eq!(String::from_utf8(first).unwrap(), "{\"text\":\"a\"}\n");
        assert_eq!(String::from_utf8(second).unwrap(), "{\"text\":\"ö\u{fffd}b\"}\n");
    }

    #[test]
    fn test_objects_incomplete_character_at_the_end_is_kept() {
        let mut form = LogForm::new(Format::Yaml);

        assert_eq!(form.push(b"\xc3"), b"");
        assert_eq!(String::from_utf8(form.finish()).unwrap(), "--- {\"text\":\"\u{fffd}\"}\n");
    }
}
