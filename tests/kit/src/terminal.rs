//! A pseudo-terminal for a program, and what a user would see and type there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::wait;

/// Longer than any output takes on a busy host.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    keys: File,
    /// Held open, so that its modes can be read after the program has ended.
    line: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Opens a terminal with the modes a new one has.
    #[must_use]
    pub fn new() -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("there are terminals");
        grantpt(&keys).expect("our own terminal can be had");
        unlockpt(&keys).expect("our own terminal can be unlocked");
        let name = ptsname(&keys, Vec::new()).expect("a terminal has a name");
        let line = rustix::fs::open(
            name.as_c_str(),
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let (keys, line) = (File::from(keys), File::from(line.expect("the terminal opens")));
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, kept) = (keys.try_clone().expect("a descriptor can be copied"), Arc::clone(&shown));
        // Ends when the last open handle is closed.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut bytes) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..length]);
            }
        });
        Self { keys, line, shown }
    }

    /// Returns the terminal as the input or output of a program.
    #[must_use]
    pub fn stdio(&self) -> Stdio {
        self.line.try_clone().expect("a descriptor can be copied").into()
    }

    /// Sets the size, without a signal to anything.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.line, size).expect("a terminal takes a size");
    }

    /// Types.
    pub fn type_keys(&self, keys: impl AsRef<[u8]>) {
        (&self.keys).write_all(keys.as_ref()).expect("a terminal takes keys");
    }

    /// Returns all output so far, with control sequences.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until the output after the first `past` bytes contains `text`; panics with the output otherwise.
    #[track_caller]
    pub fn wait_for(&self, past: usize, text: &str) {
        let seen =
            wait::try_until(TIMEOUT, || self.shown().get(past..).is_some_and(|new| new.contains(text)).then_some(()));
        assert!(seen.is_some(), "`{text}` was not shown:\n{}", self.shown());
    }

    /// Waits until a program has made the terminal raw.
    #[track_caller]
    pub fn wait_until_raw(&self) {
        wait::until(TIMEOUT, "the terminal to be raw", || (!self.is_cooked()).then_some(()));
    }

    /// Returns whether the terminal is in canonical mode and handles Ctrl-C, as a new one.
    #[must_use]
    pub fn is_cooked(&self) -> bool {
        self.termios().local_modes.contains(LocalModes::ICANON | LocalModes::ISIG | LocalModes::ECHO)
    }

    /// Returns all modes of the terminal, to be compared.
    #[must_use]
    pub fn modes(&self) -> String {
        format!("{:?}", self.termios())
    }

    fn termios(&self) -> Termios {
        tcgetattr(self.line.as_fd()).expect("a terminal has modes")
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn test_terminal_of_program_shows_output_and_sends_keys() {
        let terminal = Terminal::new();
        let script = "test -t 0 && test -t 1 && stty raw && read -r key && echo got-$key";
        let before = terminal.modes();
        let mut program =
            Command::new("sh").args(["-c", script]).stdin(terminal.stdio()).stdout(terminal.stdio()).spawn();
        terminal.wait_until_raw();

        terminal.type_keys("a\n");
        terminal.wait_for(0, "got-a");

        program.as_mut().unwrap().wait().unwrap();
        assert!(!terminal.is_cooked());
        assert_ne!(terminal.modes(), before);
    }
}
