//! Reads the snapshot table of an image, without `qemu-img`, also while QEMU has the image open.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use maqet_domain::port::ImageError;
use maqet_domain::snapshot::ImageSnapshot;
use maqet_domain::snapshot::table::{LOCATION_BYTES, SnapshotTable, SnapshotTableError};
use rustix::fs::{Mode, OFlags, open};

use super::tool::io_error;
use crate::limits::{MAX_SNAPSHOT_TABLE_BYTES, MAX_SNAPSHOT_TABLE_READS};

const ACTION: &str = "read the snapshots of";

/// Reads the snapshots of an image; again if the table changes meanwhile.
pub(super) fn snapshots(path: &Path) -> Result<Vec<ImageSnapshot>, ImageError> {
    // A FIFO would block.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()).map_err(io::Error::from) {
        Ok(file) => File::from(file),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(ImageError::NotFound { path: path.to_owned() });
        }
        Err(error) => return Err(io_error(ACTION, path, error)),
    };
    let read = read_stable(&file).map_err(|error| io_error(ACTION, path, error))?;
    read.map_err(|error| ImageError::Refused { action: ACTION, path: path.to_owned(), stderr: error.to_string() })
}

type Snapshots = Result<Vec<ImageSnapshot>, SnapshotTableError>;

/// Reads the table until it has not moved meanwhile.
fn read_stable(file: &File) -> io::Result<Snapshots> {
    let mut located = locate(file)?;
    let mut snapshots = Ok(Vec::new());
    for _ in 0..MAX_SNAPSHOT_TABLE_READS {
        let table = match located {
            Ok(table) if table.is_empty() => return Ok(Ok(Vec::new())),
            Ok(table) => table,
            Err(error) => return Ok(Err(error)),
        };
        snapshots = read(file, table)?;
        let before = located;
        located = locate(file)?;
        if located == before {
            break;
        }
    }
    Ok(snapshots)
}

fn read(file: &File, table: SnapshotTable) -> io::Result<Snapshots> {
    let mut length = table.expected_bytes();
    loop {
        let bytes = read_at_most(file, table.offset, length)?;
        let snapshots = table.parse(&bytes);
        if snapshots != Err(SnapshotTableError::Incomplete) || bytes.len() < length || length > MAX_SNAPSHOT_TABLE_BYTES
        {
            return Ok(snapshots);
        }
        length *= 4;
    }
}

fn locate(file: &File) -> io::Result<Result<SnapshotTable, SnapshotTableError>> {
    Ok(SnapshotTable::locate(&read_at_most(file, 0, LOCATION_BYTES)?))
}

/// Reads up to `length` bytes, fewer at the end of the file.
fn read_at_most(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    let mut reader = At { file, offset }.take(length as u64);
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(read as u64);
        Ok(read)
    }
}
