//! Runs a program to its exit and captures its output: bounded in time and in memory.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{fs, io};

use process_wrap::std::{CommandWrap, ProcessGroup};
use rustix::io::Errno;
use rustix::process::{Pid, getpgid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use super::{ChildGuard, PidScope};
use crate::limits::{DAEMON_START_INTERVAL, DAEMON_START_TIMEOUT};

/// The output of a program so far.
#[derive(Debug, Default)]
pub struct Output {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// The output of a program and how it exited.
#[derive(Debug)]
pub struct Captured {
    /// Its exit status.
    pub status: ExitStatus,
    /// All of its output.
    pub output: Output,
}

/// How a program exited.
#[derive(Debug)]
pub struct Exit {
    /// Its exit status.
    pub status: ExitStatus,
    /// The processes that it left running and that have its output open; those of a group of its own were killed.
    pub left_running: Vec<u32>,
}

/// Why a program did not run to its exit.
#[derive(Debug)]
pub enum CaptureError {
    /// It could not be started.
    Spawn(io::Error),
    /// It did not exit in time.
    TimedOut,
    /// Its output exceeds the limit.
    OutputTooLarge,
    /// Its output could not be read.
    Io(io::Error),
}

/// The process group of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// A new one, so that its child processes are killed with it.
    New,
    /// That of maqet, so that Ctrl-C in a terminal interrupts it as well.
    Inherited,
}

/// Runs `command` to its exit, reading `input`; it is killed on every error and when the future is dropped.
///
/// Errors: every [`CaptureError`].
pub async fn capture(
    command: Command,
    input: Stdio,
    group: Group,
    timeout: Duration,
    max_bytes: usize,
) -> Result<Captured, CaptureError> {
    let mut output = Output::default();
    let Exit { status, .. } =
        wait_into(spawn_captured(command, input, group)?, timeout, max_bytes, &mut output).await?;
    Ok(Captured { status, output })
}

/// Starts `command`, reading `input`, for [`wait_into`].
///
/// Errors: `Spawn`.
pub fn spawn_captured(mut command: Command, input: Stdio, group: Group) -> Result<ChildGuard, CaptureError> {
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = CommandWrap::from(command);
    if group == Group::New {
        command.wrap(ProcessGroup::leader());
    }
    ChildGuard::spawn(&mut command).map_err(CaptureError::Spawn)
}

/// Waits for the exit of a program, which is killed on every error and when the future is dropped; its output is in
/// `output` also on an error.
///
/// Its output ends with its exit, even if processes that it left running keep it open.
///
/// Errors: `TimedOut`, `OutputTooLarge`, `Io`.
pub async fn wait_into(
    child: ChildGuard,
    timeout: Duration,
    max_bytes: usize,
    output: &mut Output,
) -> Result<Exit, CaptureError> {
    wait_observed(child, timeout, max_bytes, output, &mut |_| {}).await
}

/// Does the same, and calls `observe` with the standard output so far, whenever there is more of it.
///
/// Errors: `TimedOut`, `OutputTooLarge`, `Io`.
pub async fn wait_observed(
    mut child: ChildGuard,
    timeout: Duration,
    max_bytes: usize,
    output: &mut Output,
    observe: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<Exit, CaptureError> {
    let pid = child.pid();
    let stdout = child.inner().stdout().take().map(OwnedFd::from);
    let stderr = child.inner().stderr().take().map(OwnedFd::from);

    let run = async {
        let mut stdout = Capture::new(stdout, max_bytes, &mut output.stdout)?;
        let mut stderr = Capture::new(stderr, max_bytes, &mut output.stderr)?;
        {
            let mut ignore = |_: &[u8]| {};
            let read = async { tokio::try_join!(stdout.read(observe), stderr.read(&mut ignore)) };
            tokio::select! {
                exited = child.exited() => exited.map_err(CaptureError::Io)?,
                read = read => drop(read?),
            }
        }
        let pipes: Vec<PathBuf> = [stdout.finish()?, stderr.finish()?].into_iter().flatten().collect();
        if !pipes.is_empty() {
            wait_for_daemons(&pipes, pid).await;
        }
        let status = child.wait().await.map_err(CaptureError::Io)?;
        Ok(Exit { status, left_running: left_running(&pipes, pid) })
    };
    let result = tokio::time::timeout(timeout, run).await.unwrap_or(Err(CaptureError::TimedOut));
    if result.is_err() {
        child.kill().await;
    }
    result
}

/// A pipe from a program, and what was read of it.
struct Capture<'a> {
    pipe: Option<Receiver>,
    max_bytes: usize,
    output: &'a mut Vec<u8>,
}

impl<'a> Capture<'a> {
    fn new(pipe: Option<OwnedFd>, max_bytes: usize, output: &'a mut Vec<u8>) -> Result<Self, CaptureError> {
        let pipe = pipe.map(Receiver::from_owned_fd).transpose().map_err(CaptureError::Io)?;
        Ok(Self { pipe, max_bytes, output })
    }

    /// Reads until no process has the pipe open for writing, and calls `observe` with all that was read.
    async fn read(&mut self, observe: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), CaptureError> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        while pipe.read_buf(self.output).await.map_err(CaptureError::Io)? > 0 {
            observe(self.output);
            if self.output.len() > self.max_bytes {
                return Err(CaptureError::OutputTooLarge);
            }
        }
        self.pipe = None;
        Ok(())
    }

    /// Reads what the pipe holds after the program has exited; returns the pipe, as in `/proc/PID/fd`, if another process
    /// has it open for writing.
    fn finish(&mut self) -> Result<Option<PathBuf>, CaptureError> {
        let Some(pipe) = self.pipe.take() else { return Ok(None) };
        let mut buffer = [0; 4096];
        loop {
            // Not through the runtime, which may not know yet that there is something to read.
            match rustix::io::read(&pipe, &mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.output.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(CaptureError::Io(error.into())),
            }
            if self.output.len() > self.max_bytes {
                return Err(CaptureError::OutputTooLarge);
            }
        }
        let found = rustix::fs::fstat(&pipe).map_err(|error| CaptureError::Io(error.into()))?;
        Ok(Some(PathBuf::from(format!("pipe:[{}]", found.st_ino))))
    }
}

/// Waits until no process of the group `group` has one of the pipes open, for a short time: a daemon leaves the group
/// only after the program that started it may have exited (`setsid --fork`), and would be killed with the group.
pub(super) async fn wait_for_daemons(pipes: &[PathBuf], group: u32) {
    let deadline = Instant::now() + DAEMON_START_TIMEOUT;
    while Instant::now() < deadline && with_open(pipes).any(|pid| is_of_group(pid, group)) {
        tokio::time::sleep(DAEMON_START_INTERVAL).await;
    }
}

/// Returns the processes that have one of the pipes open, without those of the process group `group`: they were killed
/// with its leader.
pub(super) fn left_running(pipes: &[PathBuf], group: u32) -> Vec<u32> {
    if pipes.is_empty() { Vec::new() } else { with_open(pipes).filter(|pid| !is_of_group(*pid, group)).collect() }
}

/// Returns the other processes that have one of the pipes open.
fn with_open(pipes: &[PathBuf]) -> impl Iterator<Item = u32> {
    let has_open = |pid: u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| pipes.contains(&target))
    };
    PidScope::current().pids().filter(move |pid| *pid != std::process::id() && has_open(*pid))
}

/// Returns whether a process is of a process group, or gone.
fn is_of_group(pid: u32, group: u32) -> bool {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let found = raw.and_then(|pid| getpgid(Some(pid)).ok());
    found.is_none_or(|found| found.as_raw_nonzero().get().cast_unsigned() == group)
}
