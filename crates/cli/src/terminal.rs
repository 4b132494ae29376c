//! The terminal on standard input: raw mode, and restoring it.

use std::io::{self, IsTerminal};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::signal::{SignalKind, Signals};

/// Resets the modes that a guest may have set: colors, a hidden cursor, the alternate screen, mouse and paste reports,
/// keypad and line-drawing modes; and starts a new line.
///
/// The alternate screen is left by mode 1047: 1049 would also move the cursor to the saved position, even if that screen
/// was never shown.
const RESET: &[u8] = b"\x1b[0m\x1b[?1047l\x1b[?25h\x1b[?1l\x1b>\x1b(B\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\
                       \x1b[?2004l\r\n";

/// The signal after a stop, during which a shell has restored the terminal.
pub(crate) const CONTINUED: SignalKind = SignalKind::from_raw(rustix::process::Signal::CONT.as_raw());

/// The signals that matter while a terminal is raw: those that would end the process; SIGINT and SIGTERM are handled for
/// all commands. Without a terminal, the process may have been started to outlive its own.
const SIGNALS: [SignalKind; 3] = [SignalKind::hangup(), SignalKind::quit(), CONTINUED];

/// A terminal in raw mode, which passes every key on; restored on drop.
pub(crate) struct RawTerminal {
    saved: Termios,
    signals: Signals,
    /// Whether what ran on it has reset its modes.
    is_reset: bool,
}

impl RawTerminal {
    /// Sets the terminal on standard input to raw mode, if there is one.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !Self::is_available() {
            return Ok(None);
        }
        // Signals are handled first: one that ended the process in between would leave the terminal raw.
        let terminal = Self { signals: Signals::new(&SIGNALS)?, saved: tcgetattr(io::stdin())?, is_reset: false };
        terminal.make_raw()?;
        Ok(Some(terminal))
    }

    /// Waits for a signal that is to end the process. Cancel-safe.
    pub(crate) async fn interrupted(&mut self) -> io::Result<()> {
        while self.signals.next().await == CONTINUED {
            self.make_raw()?;
        }
        Ok(())
    }

    /// Returns whether standard input is a terminal.
    pub(crate) fn is_available() -> bool {
        io::stdin().is_terminal()
    }

    /// Restores the terminal after a program that has ended and cleaned up, as an editor that has left the alternate screen.
    pub(crate) fn leave(mut self) {
        self.is_reset = true;
    }

    /// Makes it raw once more, as a shell has restored it during a stop.
    pub(crate) fn make_raw(&self) -> io::Result<()> {
        let mut raw = self.saved.clone();
        raw.make_raw();
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, &raw)?)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if self.is_reset {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.saved);
        } else {
            restore(&self.saved);
        }
    }
}

/// A terminal whose mode a library changes; restored on drop.
pub(crate) struct SavedTerminal {
    saved: Termios,
}

impl SavedTerminal {
    /// Saves the mode of the terminal on standard input.
    pub(crate) fn save() -> io::Result<Self> {
        Ok(Self { saved: tcgetattr(io::stdin())? })
    }

    /// Returns whether the mode was changed.
    pub(crate) fn is_changed(&self) -> bool {
        tcgetattr(io::stdin()).is_ok_and(|now| now.local_modes != self.saved.local_modes)
    }
}

impl Drop for SavedTerminal {
    fn drop(&mut self) {
        if self.is_changed() {
            restore(&self.saved);
        }
    }
}

fn restore(saved: &Termios) {
    // Not `Drain`, and no write that could block: a halted terminal would delay the exit forever.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, saved);
    let stdout = io::stdout();
    let mut writable = [PollFd::new(&stdout, PollFlags::OUT)];
    if stdout.is_terminal() && poll(&mut writable, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
        let _ = rustix::io::write(&stdout, RESET);
    }
}
