//! The port [`Journal`]: one bounded file for each VM, which all processes append to.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use async_trait::async_trait;
use maqet_domain::port::{Journal, RecordError};
use tokio::time::Instant;

use crate::atomic_file::replace_unsynced;
use crate::limits::JOURNAL_LOCK_TIMEOUT;
use crate::locked_file::{LockedFile, is_at};
use crate::private_file::{private_log, read_tail, with_folder};

/// Journals in files.
///
/// A line is appended under a lock of the file, so that none is lost while another process removes the older half.
#[derive(Debug, Clone, Copy)]
pub struct FileJournal {
    max_bytes: u64,
}

impl FileJournal {
    /// Keeps every journal at `max_bytes` at most.
    pub const fn new(max_bytes: u64) -> Self {
        Self { max_bytes }
    }
}

#[async_trait]
impl Journal for FileJournal {
    async fn append(&self, file: &Path, line: &str) -> Result<(), RecordError> {
        append(file, line, self.max_bytes)
            .await
            .map_err(|error| RecordError::Failed { path: file.to_owned(), source: error.into() })
    }
}

async fn append(path: &Path, line: &str, max_bytes: u64) -> io::Result<()> {
    let deadline = Instant::now() + JOURNAL_LOCK_TIMEOUT;
    let line = format!("{line}\n");
    loop {
        match LockedFile::lock(with_folder(path, private_log)?, deadline).await? {
            // The previous holder of the lock may have replaced the file.
            Ok(file) if !is_at(&file, path) && Instant::now() < deadline => {}
            Ok(file) => return write(path, &file, &line, max_bytes),
            // A process that hangs with the lock must not prevent a VM from being stopped.
            Err(file) => return write(path, &file, &line, max_bytes),
        }
    }
}

fn write(path: &Path, mut file: &File, line: &str, max_bytes: u64) -> io::Result<()> {
    file.write_all(line.as_bytes())?;
    let length = file.metadata()?.len();
    if length > max_bytes { remove_older_half(path, max_bytes) } else { Ok(()) }
}

/// Replaces the journal by a file with the newer half of its lines.
fn remove_older_half(path: &Path, max_bytes: u64) -> io::Result<()> {
    let kept = read_tail(path, usize::try_from(max_bytes / 2).unwrap_or(usize::MAX))?;
    let first_line = kept.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    replace_unsynced(path, kept.get(first_line..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const MAX_JOURNAL_BYTES: u64 = 256 << 10;
    const JOURNAL: FileJournal = FileJournal::new(MAX_JOURNAL_BYTES);

    #[tokio::test]
    async fn test_append_creates_private_file_and_folder() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("vm/maqet.log");

        JOURNAL.append(&log, "one").await.unwrap();
        JOURNAL.append(&log, "two").await.unwrap();

        assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&log), mode(log.parent().unwrap())), (0o600, 0o700));
    }

    #[tokio::test]
    async fn test_append_symbolic_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (log, target) = (root.path().join("maqet.log"), root.path().join("target"));
        std::os::unix::fs::symlink(&target, &log).unwrap();

        let refused = JOURNAL.append(&log, "one").await;

        assert!(matches!(refused, Err(RecordError::Failed { .. })));
        assert!(!target.exists());
    }

    #[test]
    fn test_append_concurrent_loses_no_line_and_is_bounded() {
        const WRITERS: usize = 4;
        const LINES: usize = 300;
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("maqet.log");
        let filler = "x".repeat(1000);

        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (log, filler) = (&log, &filler);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    for number in 0..LINES {
                        runtime
                            .block_on(append(log, &format!("{writer} {number} {filler}"), MAX_JOURNAL_BYTES))
                            .unwrap();
                    }
                });
            }
        });

        let text = fs::read_to_string(&log).unwrap();
        assert!(text.len() as u64 <= MAX_JOURNAL_BYTES, "{}", text.len());
        assert!(text.len() as u64 >= MAX_JOURNAL_BYTES / 2 - 2000, "{}", text.len());
        // The kept lines of each writer have no gap and end with its last.
        for writer in 0..WRITERS {
            let mine = |line: &&str| line.starts_with(&format!("{writer} "));
            let numbers: Vec<usize> =
                text.lines().filter(mine).map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
            let first = *numbers.first().unwrap_or(&LINES);
            assert_eq!(numbers, (first..LINES).collect::<Vec<_>>(), "writer {writer}");
        }
    }
}
