//! A shell without a terminal: a line of JSON for each command.

use std::io::{self, BufRead, Read};

use maqet::{ErrorReport, QmpLine, QmpShell, limits};
use serde_json::json;
use tokio::sync::mpsc;

use super::{EVENT_TIMEOUT, disconnected, is_disconnect};
use crate::command::input;
use crate::exit_code;
use crate::render::line;

/// Runs the commands on standard input, each after the response to the one before.
pub(super) async fn run(mut shell: QmpShell<'_>) -> Result<u8, ErrorReport> {
    let mut lines = read_lines();
    let mut code = exit_code::DONE;
    let mut quits = false;
    let mut is_connected = true;
    loop {
        let text = tokio::select! {
            text = lines.recv() => match text {
                Some(text) => text.map_err(|error| input::unreadable(input::STANDARD_INPUT, &error))?,
                None => return Ok(code),
            },
            // Events are not shown, but must be read so that they do not accumulate.
            event = shell.next_event(EVENT_TIMEOUT), if is_connected => match event {
                Ok(_) => continue,
                Err(_) if quits => {
                    is_connected = false;
                    continue;
                }
                Err(error) => return Err(disconnected(shell.name(), error)),
            },
        };
        let response = match QmpLine::read(&text) {
            Ok(None) => continue,
            Ok(Some(command)) => {
                quits = command.command == "quit";
                match shell.execute(&command).await {
                    Err(error) if is_disconnect(&error) => return Err(disconnected(shell.name(), error)),
                    response => response.map_err(ErrorReport::from),
                }
            }
            Err(invalid) => Err(ErrorReport::from_error(&invalid)),
        };
        let document = match response {
            Ok(value) => json!({ "return": value }),
            Err(report) => {
                code = if code == exit_code::DONE { exit_code::from_fault(report.fault) } else { code };
                report.to_document()
            }
        };
        let is_read = line(&document.to_string())?;
        if !is_read {
            return Ok(code);
        }
    }
}

/// Reads the lines of standard input on its own thread, which is never joined.
fn read_lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Some(line) = next_line(&mut stdin).transpose() {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

fn next_line(stdin: &mut impl BufRead) -> io::Result<Option<String>> {
    let limit = limits::MAX_QMP_ARGUMENTS_BYTES;
    let mut line = Vec::new();
    stdin.take(limit as u64 + 1).read_until(b'\n', &mut line)?;
    match line.len() {
        0 => Ok(None),
        length if length > limit => Err(io::Error::other(format!("a line is longer than {limit} bytes"))),
        _ => String::from_utf8(line).map(Some).map_err(|_| io::Error::other("a line is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_next_line_last_line_needs_no_line_break() {
        let mut text = b"a\n\nb".as_slice();

        let lines: Vec<String> = std::iter::from_fn(|| next_line(&mut text).unwrap()).collect();

        assert_eq!(lines, ["a\n", "\n", "b"]);
    }

    #[test]
    fn test_next_line_too_long_or_not_utf8_is_refused() {
        let long = vec![b'x'; limits::MAX_QMP_ARGUMENTS_BYTES + 1];

        assert!(next_line(&mut long.as_slice()).is_err());
        assert!(next_line(&mut b"\xff\n".as_slice()).is_err());
    }
}
