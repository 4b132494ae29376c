//! `maqet logs`.

use std::io::{self, IsTerminal};

use maqet::operation::{LogKind, LogReader};
use maqet::{Maqet, operation};
use serde_json::json;

use crate::args::{Format, LogsArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::render::Output;
use crate::render::sanitize::{TerminalSanitizer, complete_characters};
use crate::stream::Stdout;

pub(crate) async fn logs(maqet: &Maqet, args: LogsArgs, output: &Output) -> Result<u8, Failure> {
    let operation = args.operation();
    if !args.follow && !output.is_for_people() {
        let log = maqet.run(operation).await?;
        output.data(&log)?;
        return Ok(exit_code::DONE);
    }
    let mut reader = maqet.app().open_log(&operation).await?;
    if reader.length() == 0 && output.is_for_people() {
        output.note(&nothing_yet(&operation, &reader));
    }
    let mut shape = Shape::of(output.format());
    let stdout = Stdout::open();
    while let Some(piece) = next(&mut reader, args.follow).await? {
        // Whoever reads us went away, which is no failure.
        if !stdout.write(shape.shaped(&piece)).await {
            break;
        }
    }
    stdout.write(shape.rest()).await;
    stdout.finish().await?;
    Ok(exit_code::DONE)
}

async fn next(reader: &mut LogReader<'_>, follow: bool) -> Result<Option<Vec<u8>>, maqet::Error> {
    if follow {
        return reader.follow().await;
    }
    Ok(Some(reader.read().await?).filter(|piece| !piece.is_empty()))
}

fn nothing_yet(wanted: &operation::Logs, reader: &LogReader<'_>) -> String {
    let about = reader.about();
    let boot = about.boot.map(|boot| format!(" in boot {boot}")).unwrap_or_default();
    match wanted.log {
        LogKind::Serial => format!("the guest of `{}` wrote nothing to its serial port{boot} so far", about.name),
        LogKind::Qemu => format!("the QEMU of `{}` wrote nothing{boot} so far", about.name),
        LogKind::Maqet => format!("maqet recorded nothing of `{}` so far", about.name),
    }
}

/// The form in which the pieces of a log are written.
pub(super) enum Shape {
    /// As they are.
    Raw,
    /// Without what a terminal would obey.
    Terminal(TerminalSanitizer),
    /// One JSON object a line; each a YAML document where YAML is wanted.
    Objects { before: &'static str, pending: Vec<u8> },
}

impl Shape {
    pub(super) fn of(format: Format) -> Self {
        match format {
            Format::Table if io::stdout().is_terminal() => Self::Terminal(TerminalSanitizer::default()),
            Format::Table => Self::Raw,
            Format::Json => Self::Objects { before: "", pending: Vec::new() },
            // JSON is YAML.
            Format::Yaml => Self::Objects { before: "--- ", pending: Vec::new() },
        }
    }

    pub(super) fn shaped(&mut self, piece: &[u8]) -> Vec<u8> {
        match self {
            Self::Raw => piece.to_vec(),
            Self::Terminal(sanitizer) => sanitizer.push(piece).into_bytes(),
            Self::Objects { before, pending } => {
                pending.extend_from_slice(piece);
                let whole = pending.drain(..complete_characters(pending)).collect();
                object(before, whole)
            }
        }
    }

    /// Returns what was held back, as it might have been half a character.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        match self {
            Self::Raw => Vec::new(),
            Self::Terminal(sanitizer) => sanitizer.finish().into_bytes(),
            Self::Objects { before, pending } => object(before, std::mem::take(pending)),
        }
    }
}

fn object(before: &str, bytes: Vec<u8>) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    format!("{before}{}\n", json!({ "text": String::from_utf8_lossy(&bytes) })).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_objects_character_torn_between_pieces_is_one() {
        let mut shape = Shape::of(Format::Json);

        let first = shape.shaped(b"a\xc3");
        let second = shape.shaped(b"\xb6\xffb");

        assert_eq!(String::from_utf8(first).unwrap(), "{\"text\":\"a\"}\n");
        assert_eq!(String::from_utf8(second).unwrap(), "{\"text\":\"ö\u{fffd}b\"}\n");
    }

    #[test]
    fn test_objects_half_a_character_at_the_end_is_not_lost() {
        let mut shape = Shape::of(Format::Yaml);

        assert_eq!(shape.shaped(b"\xc3"), b"");
        assert_eq!(String::from_utf8(shape.rest()).unwrap(), "--- {\"text\":\"\u{fffd}\"}\n");
    }
}
