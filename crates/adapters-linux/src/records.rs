//! The port [`Records`]: files of runs, read from an offset.

use std::fs;
use std::io;
use std::path::Path;

use async_trait::async_trait;
use maqet_domain::port::{Chunk, RecordError, Records};
use maqet_domain::vm::{BootNumber, RunPaths};

use crate::log_file;
use crate::private_file::{open_regular, unless_missing};

/// Reads the records of runs from the local file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalRecords;

#[async_trait]
impl Records for LocalRecords {
    async fn read(&self, file: &Path, offset: u64, limit: usize) -> Result<Chunk, RecordError> {
        open_regular(file).and_then(|record| log_file::read_part(&record, offset, limit)).map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound => RecordError::NotFound { path: file.to_owned() },
                _ => failed(file, error),
            }
        })
    }

    async fn boots(&self, vm_records: &Path) -> Vec<BootNumber> {
        let entries = fs::read_dir(vm_records).into_iter().flatten().flatten();
        let mut boots: Vec<BootNumber> = entries.filter_map(|entry| RunPaths::boot_of(&entry.path())).collect();
        boots.sort_unstable();
        boots
    }

    async fn bound(&self, file: &Path, max_bytes: u64) -> Result<(), RecordError> {
        unless_missing(log_file::bound(file, max_bytes)).map_err(|error| failed(file, error))
    }

    async fn exceeds(&self, file: &Path, max_bytes: u64) -> bool {
        log_file::exceeds(file, max_bytes).unwrap_or_default()
    }

    async fn reserve(&self, file: &Path, bytes: u64) -> Result<(), RecordError> {
        unless_missing(log_file::reserve(file, bytes)).map_err(|error| failed(file, error))
    }
}

fn failed(file: &Path, error: io::Error) -> RecordError {
    RecordError::Failed { path: file.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(path: &Path, offset: u64, limit: usize) -> Result<Chunk, RecordError> {
        LocalRecords.read(path, offset, limit).await
    }

    #[tokio::test]
    async fn test_read_from_offset_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("serial.log");
        fs::write(&log, "0123456789").unwrap();

        let middle = read(&log, 3, 4).await.unwrap();
        let beyond = read(&log, 99, 4).await.unwrap();

        assert_eq!(middle, Chunk { offset: 3, bytes: b"3456".to_vec(), length: 10 });
        assert_eq!(beyond, Chunk { offset: 99, bytes: Vec::new(), length: 10 });
    }

    #[tokio::test]
    async fn test_read_missing_file_is_reported() {
        let missing = read(Path::new("/nonexistent/serial.log"), 0, 1).await;

        assert!(matches!(missing, Err(RecordError::NotFound { .. })));
    }

    #[tokio::test]
    async fn test_read_link_or_fifo_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (link, fifo) = (folder.path().join("link"), folder.path().join("fifo"));
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();

        for path in [link, fifo] {
            assert!(matches!(read(&path, 0, 1).await, Err(RecordError::Failed { .. })), "{}", path.display());
        }
    }

    #[tokio::test]
    async fn test_boots_are_sorted_numbers() {
        let vm = tempfile::tempdir().unwrap();
        for name in ["boot-10", "boot-9", "boot-x", "notes"] {
            fs::create_dir(vm.path().join(name)).unwrap();
        }

        let boots = LocalRecords.boots(vm.path()).await;

        assert_eq!(boots, [BootNumber(9), BootNumber(10)]);
        assert_eq!(LocalRecords.boots(Path::new("/nonexistent")).await, []);
    }
}
