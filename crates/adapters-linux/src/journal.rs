//! The port [`Journal`]: one file a VM, added to by all processes, and kept small.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use async_trait::async_trait;
use maqet_domain::port::{Journal, RecordError};
use tokio::time::Instant;

use crate::atomic_file::replace_unsynced;
use crate::jitter::pause;
use crate::limits::{JOURNAL_BYTES, JOURNAL_PATIENCE};
use crate::private_file::{private_folder, private_log};

/// Keeps logs as files of the local file system.
///
/// Whoever adds a line holds the kernel's lock on the file, so that no line is lost while another process halves it.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileJournal;

#[async_trait]
impl Journal for FileJournal {
    async fn append(&self, file: &Path, line: &str) -> Result<(), RecordError> {
        append(file, line).await.map_err(|why| RecordError::Failed { path: file.to_owned(), source: why.into() })
    }
}

async fn append(path: &Path, line: &str) -> io::Result<()> {
    let until = Instant::now() + JOURNAL_PATIENCE;
    let line = format!("{line}\n");
    loop {
        let mut log = open(path)?;
        // Whoever hangs with the lock must not stop a VM from being stopped: after the patience the line goes in so.
        while !try_lock(&log)? && Instant::now() < until {
            pause().await;
        }
        // Whoever had the lock before may have put another file in its place.
        if is_still_at(&log, path) || Instant::now() >= until {
            log.write_all(line.as_bytes())?;
            let length = log.metadata()?.len();
            let done = if length > JOURNAL_BYTES { halve(path, length) } else { Ok(()) };
            // Closing is not enough: a child being spawned right now has a copy of the file until its `exec`.
            let _ = log.unlock();
            return done;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    match private_log(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            private_folder(path.parent().unwrap_or(path))?;
            private_log(path)
        }
        opened => opened,
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(why)) => Err(why),
    }
}

/// Returns whether the open file is the one at `path`, and not one that was replaced there.
fn is_still_at(file: &File, path: &Path) -> bool {
    let place = |found: std::fs::Metadata| (found.dev(), found.ino());
    file.metadata().is_ok_and(|open| path.symlink_metadata().is_ok_and(|there| place(open) == place(there)))
}

/// Puts a file with the newer half of the lines in the place of the log.
fn halve(path: &Path, length: u64) -> io::Result<()> {
    let mut log = File::open(path)?;
    log.seek(SeekFrom::Start(length.saturating_sub(JOURNAL_BYTES / 2)))?;
    let mut kept = Vec::new();
    log.take(JOURNAL_BYTES).read_to_end(&mut kept)?;
    let begins = kept.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    replace_unsynced(path, kept.get(begins..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn test_append_makes_a_private_file_in_a_private_folder() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("vm/maqet.log");

        FileJournal.append(&log, "one").await.unwrap();
        FileJournal.append(&log, "two").await.unwrap();

        assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&log), mode(log.parent().unwrap())), (0o600, 0o700));
    }

    #[tokio::test]
    async fn test_append_link_in_the_place_of_the_log_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (log, target) = (root.path().join("maqet.log"), root.path().join("target"));
        std::os::unix::fs::symlink(&target, &log).unwrap();

        let refused = FileJournal.append(&log, "one").await;

        assert!(matches!(refused, Err(RecordError::Failed { .. })));
        assert!(!target.exists());
    }

    #[test]
    fn test_append_by_many_at_once_loses_no_line_and_stays_bounded() {
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
                        runtime.block_on(append(log, &format!("{writer} {number} {filler}"))).unwrap();
                    }
                });
            }
        });

        let text = fs::read_to_string(&log).unwrap();
        assert!(text.len() as u64 <= JOURNAL_BYTES, "{}", text.len());
        assert!(text.len() as u64 >= JOURNAL_BYTES / 2 - 2000, "{}", text.len());
        // Of each writer a run of lines without a gap is left, up to its last.
        for writer in 0..WRITERS {
            let mine = |line: &&str| line.starts_with(&format!("{writer} "));
            let numbers: Vec<usize> =
                text.lines().filter(mine).map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
            let first = *numbers.first().unwrap_or(&LINES);
            assert_eq!(numbers, (first..LINES).collect::<Vec<_>>(), "writer {writer}");
        }
    }
}
