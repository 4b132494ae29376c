//! Takes the state apart that QEMU saved: memory here, devices there.

use std::fs::File;
use std::io::{self, BufWriter, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use maqet_adapters_linux::private_file::open_regular;
use maqet_domain::checkpoint::{
    MemoryFile, PAGE_BYTES, Piece, RAM_FILE, STATE_FILE, STREAM_FILE, StateFile, StreamReader,
};
use maqet_domain::port::{ByteProgress, CheckpointFileError, TakenApart};
use rustix::io::{Errno, pwritev};

use super::page_sums::{PageSums, is_zero};
use super::{fresh_file, io_error, read_only, read_some};
use crate::limits::CHECKPOINT_CHUNK_BYTES;

/// How many pages are written at once (`IOV_MAX` of Linux is 1,024): those of a chunk.
const MAX_RUN_PAGES: usize = 1_024;

pub(super) async fn take_apart(
    unfinished: &Path,
    memory: &str,
    progress: ByteProgress<'_>,
) -> Result<TakenApart, CheckpointFileError> {
    let path = unfinished.join(STREAM_FILE);
    let mut stream = open_regular(&path).map_err(|error| io_error("read", &path, error))?;
    let mut parts = Parts::create(unfinished, memory)?;
    let mut chunk = vec![0; CHECKPOINT_CHUNK_BYTES];
    let (mut held, mut done) = (0, 0);
    loop {
        let read = read_some(&mut stream, &mut chunk[held..]).map_err(|error| io_error("read", &path, error))?;
        if read == 0 {
            break;
        }
        let end = held + read;
        let taken = parts.take(&chunk[..end])?;
        chunk.copy_within(taken..end, 0);
        held = end - taken;
        done += read as u64;
        progress(done);
        // So that the operation can be canceled.
        tokio::task::yield_now().await;
    }
    parts.finish(memory)
}

/// The files that a stream becomes.
struct Parts {
    reader: StreamReader,
    ram: Ram,
    state: State,
}

struct Ram {
    path: PathBuf,
    file: File,
    sums: PageSums,
}

struct State {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: crc32fast::Hasher,
    bytes: u64,
}

impl Parts {
    fn create(unfinished: &Path, memory: &str) -> Result<Self, CheckpointFileError> {
        let (ram, state) = (unfinished.join(RAM_FILE), unfinished.join(STATE_FILE));
        let file = BufWriter::with_capacity(CHECKPOINT_CHUNK_BYTES, fresh_file(&state)?);
        Ok(Self {
            reader: StreamReader::new(memory),
            ram: Ram { file: fresh_file(&ram)?, path: ram, sums: PageSums::default() },
            state: State { path: state, file, hasher: crc32fast::Hasher::new(), bytes: 0 },
        })
    }

    /// Takes whole pieces; returns how many bytes they have.
    fn take(&mut self, chunk: &[u8]) -> Result<usize, CheckpointFileError> {
        let mut taken = 0;
        let mut run = Run::default();
        while let Some((piece, length)) = self.reader.take(&chunk[taken..])? {
            taken += length;
            match piece {
                Piece::State(bytes) => self.state.write(bytes)?,
                Piece::Page { offset, content } if !is_zero(content) => {
                    self.ram.sums.set(offset, content);
                    if !run.is_before(offset) {
                        self.ram.write(&mut run)?;
                    }
                    run.push(offset, content);
                }
                Piece::Page { offset, .. } | Piece::ZeroPage { offset } => {
                    if self.ram.sums.clear(offset) {
                        self.ram.write(&mut run)?;
                        run.push(offset, &[0; PAGE_BYTES]);
                        self.ram.write(&mut run)?;
                    }
                }
            }
        }
        self.ram.write(&mut run)?;
        Ok(taken)
    }

    fn finish(self, block: &str) -> Result<TakenApart, CheckpointFileError> {
        let facts = self.reader.finish()?;
        let Ram { path, file, sums } = self.ram;
        let (crc32, used_bytes) = sums.finish();
        let complete = || {
            file.set_len(facts.memory.bytes)?;
            // It keeps the permission to be written: QEMU before 8.2 opens it so, although it writes nothing.
            modified_at(&file)
        };
        let modified_at = complete().map_err(|error| io_error("write", &path, error))?;
        let ram = MemoryFile { block: block.to_owned(), bytes: facts.memory.bytes, used_bytes, crc32, modified_at };
        Ok(TakenApart { machine_type: facts.machine_type, ram, state: self.state.finish()? })
    }
}

impl Ram {
    /// Writes the pages of a run, which is empty then.
    fn write(&mut self, run: &mut Run<'_>) -> Result<(), CheckpointFileError> {
        let mut write = || {
            let mut pages = run.pages.as_mut_slice();
            let mut offset = run.start;
            while !pages.is_empty() {
                match pwritev(&self.file, pages, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        offset += written as u64;
                        IoSlice::advance_slices(&mut pages, written);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok::<_, io::Error>(())
        };
        write().map_err(|error| io_error("write", &self.path, error))?;
        run.pages.clear();
        Ok(())
    }
}

impl State {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointFileError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| io_error("write", &self.path, error))
    }

    fn finish(self) -> Result<StateFile, CheckpointFileError> {
        let written = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        let complete = written.and_then(|file| read_only(&file));
        complete.map_err(|error| io_error("write", &self.path, error))?;
        Ok(StateFile { bytes: self.bytes, crc32: self.hasher.finalize() })
    }
}

/// Pages that follow each other in the memory.
#[derive(Default)]
struct Run<'c> {
    start: u64,
    pages: Vec<IoSlice<'c>>,
}

impl<'c> Run<'c> {
    /// Returns whether the page at `offset` can be added.
    fn is_before(&self, offset: u64) -> bool {
        let end = self.start + (self.pages.len() * PAGE_BYTES) as u64;
        self.pages.is_empty() || (end == offset && self.pages.len() < MAX_RUN_PAGES)
    }

    fn push(&mut self, offset: u64, content: &'c [u8]) {
        if self.pages.is_empty() {
            self.start = offset;
        }
        self.pages.push(IoSlice::new(content));
    }
}

/// Returns when a file was last modified.
pub(super) fn modified_at(file: &File) -> io::Result<Timestamp> {
    let modified = file.metadata()?.modified()?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = since.try_into().ok().and_then(|since: jiff::SignedDuration| Timestamp::from_duration(since).ok());
    Ok(at.unwrap_or(Timestamp::MAX))
}
