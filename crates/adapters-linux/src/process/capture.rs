//! Runs a program to its exit and captures its output: bounded in time and in memory.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use process_wrap::std::{CommandWrap, ProcessGroup};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::ChildGuard;

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
    let status = wait_into(spawn_captured(command, input, group)?, timeout, max_bytes, &mut output).await?;
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
/// Errors: `TimedOut`, `OutputTooLarge`, `Io`.
pub async fn wait_into(
    mut child: ChildGuard,
    timeout: Duration,
    max_bytes: usize,
    output: &mut Output,
) -> Result<ExitStatus, CaptureError> {
    let stdout = child.inner().stdout().take().map(OwnedFd::from);
    let stderr = child.inner().stderr().take().map(OwnedFd::from);

    let run = async {
        let exit = async { child.wait().await.map_err(CaptureError::Io) };
        let stdout = read(stdout, max_bytes, &mut output.stdout);
        let stderr = read(stderr, max_bytes, &mut output.stderr);
        let ((), (), status) = tokio::try_join!(stdout, stderr, exit)?;
        Ok(status)
    };
    let result = tokio::time::timeout(timeout, run).await.unwrap_or(Err(CaptureError::TimedOut));
    if result.is_err() {
        child.kill().await;
    }
    result
}

async fn read(pipe: Option<OwnedFd>, max_bytes: usize, output: &mut Vec<u8>) -> Result<(), CaptureError> {
    let Some(pipe) = pipe else { return Ok(()) };
    let mut pipe = Receiver::from_owned_fd(pipe).map_err(CaptureError::Io)?;
    while pipe.read_buf(output).await.map_err(CaptureError::Io)? > 0 {
        if output.len() > max_bytes {
            return Err(CaptureError::OutputTooLarge);
        }
    }
    Ok(())
}
