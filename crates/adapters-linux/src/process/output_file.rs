//! Runs a program whose output goes to files in memory, so that what it leaves running can go on writing.
//!
//! The end of a pipe would close with this process, and the next write to it ends most programs (SIGPIPE).

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use process_wrap::std::{CommandWrap, ProcessGroup};
use rustix::fs::{FlockOperation, MemfdFlags, OFlags, SealFlags, fcntl_add_seals, flock, memfd_create};

use super::ChildGuard;
use super::capture::{CaptureError, Exit, Group, Output, left_running, wait_for_daemons};
use crate::limits::OUTPUT_CHECK_INTERVAL;

/// Runs `command` to its exit, reading `input`; it is killed on every error and when the future is dropped. Its output is
/// in `output` also on an error.
///
/// Its output ends with its exit. What it leaves running can write on until then, and gets an error for a later write.
///
/// Errors: every [`CaptureError`].
pub async fn run_into_files(
    mut command: Command,
    group: Group,
    timeout: Duration,
    max_bytes: usize,
    output: &mut Output,
) -> Result<Exit, CaptureError> {
    let (mut stdout, stdout_of_child) = OutputFile::new(max_bytes).map_err(CaptureError::Io)?;
    let (mut stderr, stderr_of_child) = OutputFile::new(max_bytes).map_err(CaptureError::Io)?;
    command.stdout(stdout_of_child).stderr(stderr_of_child);
    let mut child = spawn(command, group)?;
    let pid = child.pid();

    let run = async {
        let mut checks = tokio::time::interval(OUTPUT_CHECK_INTERVAL);
        loop {
            tokio::select! {
                exited = child.exited() => break exited.map_err(CaptureError::Io)?,
                _ = checks.tick() => {
                    stdout.read(&mut output.stdout)?;
                    stderr.read(&mut output.stderr)?;
                }
            }
        }
        let open: Vec<PathBuf> = [&stdout, &stderr].into_iter().filter_map(OutputFile::open_elsewhere).collect();
        if !open.is_empty() {
            wait_for_daemons(&open, pid).await;
        }
        stdout.end(&mut output.stdout)?;
        stderr.end(&mut output.stderr)?;
        let status = child.wait().await.map_err(CaptureError::Io)?;
        Ok(Exit { status, left_running: left_running(&open, pid) })
    };
    let result = tokio::time::timeout(timeout, run).await.unwrap_or(Err(CaptureError::TimedOut));
    if result.is_err() {
        child.kill().await;
    }
    result
}

/// Starts `command`; its ends of the files are closed here.
fn spawn(command: Command, group: Group) -> Result<ChildGuard, CaptureError> {
    let mut command = CommandWrap::from(command);
    if group == Group::New {
        command.wrap(ProcessGroup::leader());
    }
    ChildGuard::spawn(&mut command).map_err(CaptureError::Spawn)
}

/// A file in memory that a program writes to, and how much of it was read.
struct OutputFile {
    file: File,
    name: String,
    position: u64,
    max_bytes: usize,
}

impl OutputFile {
    /// Makes one, and opens it for the program.
    fn new(max_bytes: usize) -> io::Result<(Self, Stdio)> {
        let name = format!("maqet-output-{:016x}", RandomState::new().hash_one(0));
        let file = File::from(memfd_create(&name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let append = OFlags::APPEND.bits().cast_signed();
        let of_program = OpenOptions::new().write(true).custom_flags(append).open(path)?;
        // Released once every process has closed it.
        flock(&of_program, FlockOperation::NonBlockingLockExclusive)?;
        Ok((Self { file, name, position: 0, max_bytes }, of_program.into()))
    }

    /// Reads what was written since the last time.
    fn read(&mut self, output: &mut Vec<u8>) -> Result<(), CaptureError> {
        let length = self.file.metadata().map_err(CaptureError::Io)?.len();
        if length < self.position {
            // Opened again and truncated, as by `>/dev/stdout` in a shell.
            self.position = 0;
        }
        let mut buffer = [0; 4096];
        loop {
            match self.file.read_at(&mut buffer, self.position) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    output.extend_from_slice(&buffer[..count]);
                    self.position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CaptureError::Io(error)),
            }
            if output.len() > self.max_bytes {
                return Err(CaptureError::OutputTooLarge);
            }
        }
    }

    /// Reads the rest, and keeps the file from growing: it stays in memory as long as a process has it open.
    fn end(&mut self, output: &mut Vec<u8>) -> Result<(), CaptureError> {
        fcntl_add_seals(&self.file, SealFlags::GROW).map_err(|error| CaptureError::Io(error.into()))?;
        self.read(output)
    }

    /// Returns the file, as in `/proc/PID/fd`, if another process has it open.
    fn open_elsewhere(&self) -> Option<PathBuf> {
        let is_free = flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok();
        (!is_free).then(|| PathBuf::from(format!("/memfd:{} (deleted)", self.name)))
    }
}
