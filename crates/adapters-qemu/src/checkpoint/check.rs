//! Checks the files of a checkpoint against its manifest.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use maqet_adapters_linux::private_file::open_regular;
use maqet_domain::checkpoint::{MemoryFile, PAGE_BYTES, RAM_FILE, STATE_FILE};
use maqet_domain::port::{ByteProgress, CheckpointFileError, FoundCheckpoint};
use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, pread};

use super::apart::modified_at;
use super::page_sums::{PageSums, is_zero};
use super::{io_error, read_some};
use crate::limits::CHECKPOINT_CHUNK_BYTES;

pub(super) async fn check(
    checkpoint: &FoundCheckpoint,
    is_thorough: bool,
    progress: ByteProgress<'_>,
) -> Result<(), CheckpointFileError> {
    let FoundCheckpoint { directory, manifest } = checkpoint;
    let damaged = |what: String| CheckpointFileError::Damaged { name: manifest.name.clone(), what };
    let copies = manifest.uefi_variables.iter().map(|copy| (copy.file.as_str(), copy.bytes, copy.crc32));
    let state = (STATE_FILE, manifest.state.bytes, manifest.state.crc32);
    for (file, bytes, crc32) in [state].into_iter().chain(copies) {
        let path = directory.join(file);
        let found = sum(&path).await.map_err(|error| unless_damaged(&path, error, &damaged))?;
        if found != (bytes, crc32) {
            return Err(damaged(format!("the content of `{file}` has changed")));
        }
    }
    let path = directory.join(RAM_FILE);
    match memory(&path, &manifest.ram, is_thorough, progress).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(damaged(format!("the content of `{RAM_FILE}` has changed"))),
        Err(error) => Err(unless_damaged(&path, error, &damaged)),
    }
}

fn unless_damaged(
    path: &Path,
    error: io::Error,
    damaged: &dyn Fn(String) -> CheckpointFileError,
) -> CheckpointFileError {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match error.kind() {
        ErrorKind::NotFound => damaged(format!("`{name}` is missing")),
        _ => io_error("read", path, error),
    }
}

/// Returns the length and the checksum of a file.
async fn sum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = open_regular(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHECKPOINT_CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let read = read_some(&mut file, &mut chunk)?;
        if read == 0 {
            return Ok((bytes, hasher.finalize()));
        }
        hasher.update(&chunk[..read]);
        bytes += read as u64;
        tokio::task::yield_now().await;
    }
}

/// Returns whether the memory is as recorded.
async fn memory(path: &Path, recorded: &MemoryFile, is_thorough: bool, progress: ByteProgress<'_>) -> io::Result<bool> {
    let file = open_regular(path)?;
    if file.metadata()?.len() != recorded.bytes {
        return Ok(false);
    }
    if !is_thorough && modified_at(&file)? == recorded.modified_at {
        return Ok(true);
    }
    let mut sums = PageSums::default();
    let mut chunk = vec![0; CHECKPOINT_CHUNK_BYTES];
    let mut at = 0;
    while let Some(data) = next_data(&file, at)? {
        at = data;
        let read = read_at(&file, &mut chunk, at)?;
        let pages = (at..).step_by(PAGE_BYTES).zip(chunk[..read].chunks(PAGE_BYTES));
        pages.filter(|(_, content)| !is_zero(content)).for_each(|(offset, content)| sums.set(offset, content));
        if read == 0 {
            break;
        }
        at += read as u64;
        progress(at);
        tokio::task::yield_now().await;
    }
    Ok(sums.finish() == (recorded.crc32, recorded.used_bytes))
}

/// Returns where the next page begins that is not in a hole; `None` at the end.
fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(data) => Ok(Some(data - data % PAGE_BYTES as u64)),
        Err(Errno::NXIO) => Ok(None),
        // File systems without holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok((from < file.metadata()?.len()).then_some(from)),
        Err(error) => Err(error.into()),
    }
}

/// Reads whole pages, unless the file ends before.
fn read_at(file: &File, chunk: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < chunk.len() {
        match pread(file, &mut chunk[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(length)
}
