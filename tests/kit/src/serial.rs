//! Reading a serial log while the guest still writes it.

use std::path::Path;
use std::time::Duration;
use std::{fs, iter};

use crate::wait;

/// How much of a log the messages of this kit show.
const SHOWN_LINES: usize = 30;

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

/// Waits until the log holds `marker` and returns the line that holds it; panics with the log's tail otherwise.
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

/// Waits until the log holds `marker` and returns the line that holds it, or `None` after `deadline`.
#[must_use]
pub fn try_wait_for(log: &Path, marker: &str, deadline: Duration) -> Option<String> {
    wait::try_until(deadline, || text(log).lines().find(|line| line.contains(marker)).map(str::to_owned))
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
