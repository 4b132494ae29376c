//! A shell without anybody at it: a line of JSON for each command.

use std::io::{self, BufRead, Read};

use maqet::{QmpLine, QmpShell, limits};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{TURN, gone, is_over};
use crate::command::input;
use crate::exit_code;
use crate::failure::Failure;
use crate::render::{failure, line};

/// What is written for each command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Return(Value),
    Error(Value),
}

/// Runs the commands on standard input, each once the one before was answered.
pub(super) async fn run(mut shell: QmpShell<'_>) -> Result<u8, Failure> {
    let mut lines = lines();
    let (mut code, mut quits, mut is_there) = (exit_code::DONE, false, true);
    loop {
        let typed = tokio::select! {
            typed = lines.recv() => match typed {
                Some(typed) => typed.map_err(|error| input::unreadable("standard input", &error))?,
                None => return Ok(code),
            },
            // Nobody is shown events, and they must not pile up.
            heard = shell.next_event(TURN), if is_there => match heard {
                Ok(_) => continue,
                Err(_) if quits => {
                    is_there = false;
                    continue;
                }
                Err(error) => return Err(gone(shell.name(), error)),
            },
        };
        let outcome = match QmpLine::read(&typed) {
            Ok(None) => continue,
            Ok(Some(asked)) => {
                quits = asked.command == "quit";
                match shell.execute(&asked).await {
                    Err(error) if is_over(&error) => return Err(gone(shell.name(), error)),
                    outcome => outcome.map_err(Failure::from),
                }
            }
            Err(invalid) => Err(Failure::explained(&invalid)),
        };
        let answer = outcome.map_or_else(
            |failed| {
                code = if code == exit_code::DONE { exit_code::code(failed.fault) } else { code };
                Answer::Error(failure::as_json(&failed)["error"].take())
            },
            Answer::Return,
        );
        // Whoever read us went away.
        if !line(&json!(answer).to_string())? {
            return Ok(code);
        }
    }
}

/// Reads the lines of standard input on a thread of its own, which is not waited for.
fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (tell, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Some(line) = next(&mut stdin).transpose() {
            let is_last = line.is_err();
            if tell.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

fn next(stdin: &mut impl BufRead) -> io::Result<Option<String>> {
    let most = limits::MAX_QMP_ARGUMENTS_BYTES;
    let mut line = Vec::new();
    stdin.take(most as u64 + 1).read_until(b'\n', &mut line)?;
    match line.len() {
        0 => Ok(None),
        length if length > most => Err(io::Error::other(format!("a line of more than {most} bytes"))),
        _ => String::from_utf8(line).map(Some).map_err(|_| io::Error::other("a line that is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_next_lines_come_one_by_one_and_the_last_needs_no_end() {
        let mut text = b"a\n\nb".as_slice();

        let lines: Vec<String> = std::iter::from_fn(|| next(&mut text).unwrap()).collect();

        assert_eq!(lines, ["a\n", "\n", "b"]);
    }

    #[test]
    fn test_next_line_too_long_or_no_text_is_refused() {
        let long = vec![b'x'; limits::MAX_QMP_ARGUMENTS_BYTES + 1];

        assert!(next(&mut long.as_slice()).is_err());
        assert!(next(&mut b"\xff\n".as_slice()).is_err());
    }
}
