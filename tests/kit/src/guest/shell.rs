//! The shell of a Linux guest on its serial line.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crate::TestHome;
use crate::serial::Line;

/// How long a command may take; software emulation on a busy host is slow.
const ANSWER: Duration = Duration::from_secs(90);

/// A shell, and the only connection to its serial line.
#[derive(Debug)]
pub struct Shell {
    console: Line,
    commands: u32,
}

impl Shell {
    /// Opens the serial line of the only VM of `home`, where the guest serves a shell.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn of(home: &TestHome) -> Self {
        Self { console: Line::of(home), commands: 0 }
    }

    /// Runs lines in the shell, and returns the output until the last one is done.
    ///
    /// # Panics
    ///
    /// If the guest is not done in time.
    #[track_caller]
    pub fn run(&mut self, lines: &[&str]) -> String {
        self.commands += 1;
        let number = self.commands;
        // Quotes, so that the echoed line differs from its output.
        let text = format!("{}\necho; echo all-do'ne-{number}'\n", lines.join("\n"));
        self.console.write_all(text.as_bytes()).expect("the guest's serial line takes what is typed");
        let until = Instant::now() + ANSWER;
        let (mut output, mut some) = (Vec::new(), [0; 4096]);
        while Instant::now() < until {
            match self.console.read(&mut some) {
                Ok(0) => break,
                Ok(length) => output.extend_from_slice(&some[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("the guest's serial line failed: {error}"),
            }
            let text = String::from_utf8_lossy(&output);
            if text.lines().any(|line| line.trim() == format!("all-done-{number}")) {
                return text.into_owned();
            }
        }
        panic!("the guest did not finish: {}", String::from_utf8_lossy(&output));
    }
}
