//! The terminal at standard input, made raw and put back.

use std::io::{self, IsTerminal};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// What a guest may have left behind on a terminal, undone: colours, a hidden cursor, the other screen, mouse and paste
/// reports, keypad and line-drawing modes; and a line of its own for what comes next.
///
/// The other screen is left by 1047: 1049 would put the cursor where it was saved, also if that screen was never shown.
const PUT_BACK: &[u8] = b"\x1b[0m\x1b[?1047l\x1b[?25h\x1b[?1l\x1b>\x1b(B\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\
                          \x1b[?2004l\r\n";

/// A terminal that passes every key on; dropped, it is as it was.
pub(crate) struct RawTerminal {
    saved: Termios,
}

impl RawTerminal {
    /// Makes the terminal at standard input raw; nothing if there is none.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !Self::is_there() {
            return Ok(None);
        }
        let terminal = Self { saved: tcgetattr(io::stdin())? };
        terminal.make_raw()?;
        Ok(Some(terminal))
    }

    /// Returns whether standard input is a terminal.
    pub(crate) fn is_there() -> bool {
        io::stdin().is_terminal()
    }

    /// Makes it raw, again if a shell has put it back while we were stopped.
    pub(crate) fn make_raw(&self) -> io::Result<()> {
        let mut raw = self.saved.clone();
        raw.make_raw();
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, &raw)?)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        put_back(&self.saved);
    }
}

/// A terminal that others make raw; dropped, it is as it was, whatever they left of it.
pub(crate) struct KeptTerminal {
    saved: Termios,
}

impl KeptTerminal {
    /// Takes down how the terminal at standard input is.
    pub(crate) fn keep() -> io::Result<Self> {
        Ok(Self { saved: tcgetattr(io::stdin())? })
    }

    /// Returns whether somebody has changed it.
    pub(crate) fn is_changed(&self) -> bool {
        tcgetattr(io::stdin()).is_ok_and(|now| now.local_modes != self.saved.local_modes)
    }
}

impl Drop for KeptTerminal {
    fn drop(&mut self) {
        if self.is_changed() {
            put_back(&self.saved);
        }
    }
}

fn put_back(saved: &Termios) {
    // Not `Drain`: a terminal that was halted would hold us for ever. The same goes for the writing.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, saved);
    let stdout = io::stdout();
    let mut waiting = [PollFd::new(&stdout, PollFlags::OUT)];
    if stdout.is_terminal() && poll(&mut waiting, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
        let _ = rustix::io::write(&stdout, PUT_BACK);
    }
}
