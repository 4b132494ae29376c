//! Reading a serial log while the guest still writes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::iter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use crate::{TestHome, wait};

/// How much of a log the messages of this kit show.
const SHOWN_LINES: usize = 30;

/// How long a read of a [`Line`] waits for output.
const READ_TIMEOUT: Duration = Duration::from_millis(200);

/// The serial line of a VM that maqet started: what is written goes to the guest, and what is read comes from its log.
#[derive(Debug)]
pub struct Line {
    input: File,
    log: File,
}

impl Line {
    /// Opens the line of the only running VM of `home`, at the end of its log.
    ///
    /// # Panics
    ///
    /// If there is no VM with a serial console.
    #[must_use]
    #[track_caller]
    pub fn of(home: &TestHome) -> Self {
        Self::try_of(home).expect("a VM with a serial console runs")
    }

    /// Does the same; `None` if no VM runs.
    #[must_use]
    #[track_caller]
    pub fn try_of(home: &TestHome) -> Option<Self> {
        let files = home.files();
        let input = files.iter().find(|path| path.ends_with("serial.in"))?;
        let boot =
            input.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("its boot has a name");
        let log = format!("{}/serial.log", boot.replacen('b', "boot-", 1));
        let log = files.iter().find(|path| path.ends_with(&log)).expect("the console has a log");
        // Without NONBLOCK, this would wait for a QEMU that is gone.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let input = OpenOptions::new().write(true).custom_flags(flags).open(input).ok()?;
        let mut log = File::open(log).expect("the log can be read");
        log.seek(SeekFrom::End(0)).expect("a log has an end");
        Some(Self { input, log })
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Line {
    /// Fails with `WouldBlock` if there is no output for a while.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = wait::try_until(READ_TIMEOUT, || match self.log.read(bytes) {
            Ok(0) => None,
            other => Some(other),
        });
        read.unwrap_or(Err(ErrorKind::WouldBlock.into()))
    }
}

/// Returns what the log holds so far, as text without carriage returns and escape sequences; nothing if it is missing.
#[must_use]
pub fn text(log: &Path) -> String {
    plain(&String::from_utf8_lossy(&fs::read(log).unwrap_or_default()))
}

/// Returns the last `lines` lines of the log.
#[must_use]
pub fn tail(log: &Path, lines: usize) -> String {
    let text = text(log);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Waits until the log holds a whole line with `marker`, and returns it; panics with the log's tail otherwise.
#[track_caller]
pub fn wait_for(log: &Path, marker: &str, deadline: Duration) -> String {
    match try_wait_for(log, marker, deadline) {
        Some(line) => line,
        None => panic!(
            "timed out after {deadline:?} waiting for `{marker}` on the serial line; {} ends with:\n{}",
            log.display(),
            tail(log, SHOWN_LINES),
        ),
    }
}

/// Waits until the log holds a whole line with `marker`, and returns it, or `None` after `deadline`.
///
/// The guest may be about to print the rest of a line that is not ended.
#[must_use]
pub fn try_wait_for(log: &Path, marker: &str, deadline: Duration) -> Option<String> {
    let whole = |line: &str| line.strip_suffix('\n').filter(|line| line.contains(marker)).map(str::to_owned);
    wait::try_until(deadline, || text(log).split_inclusive('\n').find_map(whole))
}

/// Waits until the log holds `prompt`, which may be in a line that is not ended; panics with the log's tail otherwise.
#[track_caller]
pub fn wait_for_prompt(log: &Path, prompt: &str, deadline: Duration) {
    let seen = wait::try_until(deadline, || text(log).contains(prompt).then_some(()));
    assert!(seen.is_some(), "no `{prompt}` on the serial line:\n{}", tail(log, SHOWN_LINES));
}

/// Drops control sequences: carriage returns, and `ESC [ … letter` as firmware and kernels send it.
fn plain(raw: &str) -> String {
    let mut rest = raw.chars();
    iter::from_fn(move || {
        loop {
            match rest.next()? {
                '\x1b' => skip_sequence(&mut rest),
                '\n' => return Some('\n'),
                '\t' => return Some('\t'),
                other if other.is_control() => {}
                other => return Some(other),
            }
        }
    })
    .collect()
}

fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    if rest.next() == Some('[') {
        let _last = rest.find(|one| ('@'..='~').contains(one));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_plain_firmware_output_keeps_only_text() {
        assert_eq!(plain("\x1bc\x1b[?7l\x1b[2JSeaBIOS\r\nBooting…\r\n"), "SeaBIOS\nBooting…\n");
    }

    #[test]
    fn test_wait_for_ignores_a_line_that_is_not_ended() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("serial.log");
        fs::write(&log, "ready or n").unwrap();

        let half = try_wait_for(&log, "ready", Duration::ZERO);
        fs::write(&log, "ready or not\r\n").unwrap();

        assert_eq!((half, wait_for(&log, "ready", Duration::ZERO).as_str()), (None, "ready or not"));
    }

    #[test]
    fn test_tail_long_log_returns_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("serial.log");
        fs::write(&log, "one\r\ntwo\r\nthree\r\n").unwrap();

        assert_eq!(tail(&log, 2), "two\nthree");
    }

    #[test]
    fn test_tail_missing_log_is_empty() {
        assert_eq!(tail(Path::new("/nowhere/serial.log"), 5), "");
    }
}
