//! The terminal of this process, for a command in a guest.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, PoisonError};

use maqet::ErrorReport;
use maqet::domain::guest::TerminalSize;
use rustix::termios::tcgetwinsize;
use tokio::sync::Notify;

use crate::error::{terminal_failed, usage};
use crate::signal::{SignalKind, Signals};
use crate::terminal::{CONTINUED, RawTerminal};

/// The size that is passed on where a terminal has none, as on a serial line.
const DEFAULT_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// A terminal that is raw while a command runs, so that every key reaches the guest.
pub(super) struct CommandTerminal {
    raw: Mutex<Option<RawTerminal>>,
    changes: tokio::sync::Mutex<Signals>,
    keys: Mutex<EscapeKeys>,
    escaped: Notify,
}

impl CommandTerminal {
    /// Uses the terminal on standard input and output.
    ///
    /// Errors: there is none.
    pub(super) fn open() -> Result<Self, ErrorReport> {
        if !RawTerminal::is_available() || !io::stdout().is_terminal() {
            let report = usage("standard input and standard output are no terminal");
            return Err(report.hint("run the command without a terminal: `maqet exec -i VM -- COMMAND`"));
        }
        let changes = Signals::new(&[SignalKind::window_change(), CONTINUED]).map_err(terminal_failed)?;
        Ok(Self { raw: Mutex::default(), changes: changes.into(), keys: Mutex::default(), escaped: Notify::new() })
    }

    pub(super) fn size() -> TerminalSize {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => TerminalSize { rows: size.ws_row, columns: size.ws_col },
            Ok(_) | Err(_) => DEFAULT_SIZE,
        }
    }

    /// Waits until the size may have changed.
    pub(super) async fn resized(&self) -> TerminalSize {
        if self.changes.lock().await.next().await == CONTINUED
            && let Some(raw) = &*self.raw()
            && let Err(error) = raw.make_raw()
        {
            tracing::warn!(%error, "cannot make the terminal raw");
        }
        Self::size()
    }

    /// Makes the terminal raw; until the command has begun, Ctrl-C is a signal to us.
    pub(super) fn enter(&self) {
        let mut raw = self.raw();
        if raw.is_none() {
            *raw = RawTerminal::enter().unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot make the terminal raw");
                None
            });
        }
    }

    /// Returns the keys that are for the guest.
    pub(super) fn pass_on(&self, typed: &[u8]) -> Vec<u8> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (keys, has_escaped) = keys.take(typed);
        if has_escaped {
            self.escaped.notify_one();
        }
        keys
    }

    /// Waits until the user types what ends the command.
    pub(super) async fn escaped(&self) {
        self.escaped.notified().await;
    }

    /// Restores the terminal, and its modes of output if the command could not.
    pub(super) fn restore(&self, has_exited: bool) {
        match self.raw().take() {
            Some(raw) if has_exited => raw.leave(),
            raw => drop(raw),
        }
    }

    fn raw(&self) -> MutexGuard<'_, Option<RawTerminal>> {
        self.raw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds `~.` at the beginning of a line, as ssh(1) does; `~~` is a tilde.
#[derive(Debug)]
struct EscapeKeys {
    is_line_start: bool,
    has_tilde: bool,
}

impl Default for EscapeKeys {
    fn default() -> Self {
        Self { is_line_start: true, has_tilde: false }
    }
}

impl EscapeKeys {
    /// Returns the keys that are passed on, and whether the others end the command.
    fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut keys = Vec::with_capacity(typed.len() + 1);
        for key in typed {
            match (std::mem::take(&mut self.has_tilde), key) {
                (true, b'.') => return (keys, true),
                (true, b'~') => keys.push(b'~'),
                (true, _) => keys.extend([b'~', *key]),
                (false, b'~') if self.is_line_start => self.has_tilde = true,
                (false, _) => keys.push(*key),
            }
            self.is_line_start = [b'\r', b'\n'].contains(key);
        }
        (keys, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_escape_is_a_tilde_and_a_dot_at_the_beginning_of_a_line() {
        let take = |typed: &[&str]| {
            let mut keys = EscapeKeys::default();
            let taken: Vec<_> = typed.iter().map(|typed| keys.take(typed.as_bytes())).collect();
            let passed = taken.iter().flat_map(|(keys, _)| keys.clone()).collect();
            (String::from_utf8(passed).unwrap(), taken.iter().any(|(_, has_escaped)| *has_escaped))
        };

        assert_eq!(take(&["~."]), (String::new(), true));
        assert_eq!(take(&["ls\r", "~", "."]), ("ls\r".to_owned(), true));
        assert_eq!(take(&["ls ~.\r"]), ("ls ~.\r".to_owned(), false));
        assert_eq!(take(&["~~.\r~x"]), ("~.\r~x".to_owned(), false));
    }
}
