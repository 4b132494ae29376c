//! Runs a program to its end and keeps what it printed: bounded in time and in memory.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use process_wrap::std::{CommandWrap, ProcessGroup};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::Leashed;

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Captured {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// What a program printed so far.
#[derive(Debug, Default)]
pub struct Printed {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Why a program was not run to its end.
#[derive(Debug)]
pub enum CaptureError {
    /// It could not be started.
    Spawn(io::Error),
    /// It did not end in time.
    TimedOut,
    /// It printed more than allowed.
    TooMuch,
    /// Its output could not be read.
    Io(io::Error),
}

/// Which process group a program belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Its own, so that whatever it starts ends with it.
    Own,
    /// Ours, so that Ctrl-C in a terminal ends it as well.
    Ours,
}

/// Runs `command` to its end, with `input` to read from; it is killed on every error and when the future is dropped.
pub async fn capture(
    command: Command,
    input: Stdio,
    group: Group,
    deadline: Duration,
    limit: usize,
) -> Result<Captured, CaptureError> {
    finish(begin(command, input, group)?, deadline, limit).await
}

/// Starts `command`, with `input` to read from, whose output is to be read by [`finish`].
pub fn begin(mut command: Command, input: Stdio, group: Group) -> Result<Leashed, CaptureError> {
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = CommandWrap::from(command);
    if group == Group::Own {
        command.wrap(ProcessGroup::leader());
    }
    Leashed::spawn(&mut command).map_err(CaptureError::Spawn)
}

/// Waits for the end of a program; it is killed on every error and when the future is dropped.
pub async fn finish(child: Leashed, deadline: Duration, limit: usize) -> Result<Captured, CaptureError> {
    let mut printed = Printed::default();
    let status = finish_into(child, deadline, limit, &mut printed).await?;
    Ok(Captured { status, stdout: printed.stdout, stderr: printed.stderr })
}

/// The same for one who wants to know what was printed whatever comes of it.
pub async fn finish_into(
    mut child: Leashed,
    deadline: Duration,
    limit: usize,
    printed: &mut Printed,
) -> Result<ExitStatus, CaptureError> {
    let stdout = child.child().stdout().take().map(OwnedFd::from);
    let stderr = child.child().stderr().take().map(OwnedFd::from);

    let to_the_end = async {
        let ended = async { child.ended().await.map_err(CaptureError::Io) };
        let stdout = read(stdout, limit, &mut printed.stdout);
        let stderr = read(stderr, limit, &mut printed.stderr);
        let ((), (), status) = tokio::try_join!(stdout, stderr, ended)?;
        Ok(status)
    };
    match tokio::time::timeout(deadline, to_the_end).await {
        Ok(status) => status,
        Err(_) => Err(CaptureError::TimedOut),
    }
}

async fn read(pipe: Option<OwnedFd>, limit: usize, output: &mut Vec<u8>) -> Result<(), CaptureError> {
    let Some(pipe) = pipe else { return Ok(()) };
    let mut pipe = Receiver::from_owned_fd(pipe).map_err(CaptureError::Io)?;
    while pipe.read_buf(output).await.map_err(CaptureError::Io)? > 0 {
        if output.len() > limit {
            return Err(CaptureError::TooMuch);
        }
    }
    Ok(())
}
