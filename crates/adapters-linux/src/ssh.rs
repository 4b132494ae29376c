//! The port [`SshClients`]: ssh(1), with its streams.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream as Pair;
use std::path::PathBuf;

use async_trait::async_trait;
use maqet_domain::guest::{GuestStream, SshLogin};
use maqet_domain::port::{SshClient, SshClients, SshEnd, SshError};
use process_wrap::std::{CommandWrap, ProcessGroup};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{Shutdown, shutdown};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::environment::{ProcessEnvironment, ProgramError};
use crate::limits::{MAX_SSH_MESSAGE_BYTES, SSH_READ_BYTES};
use crate::process::ChildGuard;

/// Runs ssh(1) of the host.
#[derive(Debug)]
pub struct LocalSsh {
    environment: ProcessEnvironment,
}

/// A running ssh(1).
struct LocalSshClient {
    program: PathBuf,
    child: Mutex<ChildGuard>,
    /// Standard input, output and error.
    streams: [UnixStream; 3],
    log: File,
}

impl LocalSsh {
    /// Runs the program in `environment`.
    pub const fn new(environment: ProcessEnvironment) -> Self {
        Self { environment }
    }
}

#[async_trait]
impl SshClients for LocalSsh {
    async fn start(&self, login: &SshLogin, command: &str) -> Result<Box<dyn SshClient>, SshError> {
        let program = match self.environment.find(OsStr::new("ssh")) {
            Ok(program) => program,
            Err(ProgramError::NotFound) => return Err(SshError::NotFound),
            Err(ProgramError::NotExecutable(program, error)) => {
                return Err(SshError::Failed { program, source: error.into() });
            }
        };
        match self.spawn(&program, login, command) {
            Ok(client) => Ok(Box::new(client)),
            Err(error) => Err(SshError::Failed { program, source: error.into() }),
        }
    }
}

impl LocalSsh {
    fn spawn(&self, program: &std::path::Path, login: &SshLogin, command: &str) -> io::Result<LocalSshClient> {
        // Without a name, so that nothing of it is left.
        let log = File::from(memfd_create("maqet-ssh", MemfdFlags::CLOEXEC)?);
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), log.as_raw_fd()));
        let pairs = [Pair::pair()?, Pair::pair()?, Pair::pair()?];
        let [(stdin, child_stdin), (stdout, child_stdout), (stderr, child_stderr)] = pairs;
        let mut ssh = self.environment.command(program);
        ssh.args(login.arguments(&path, command)).current_dir("/");
        ssh.stdin(OwnedFd::from(child_stdin)).stdout(OwnedFd::from(child_stdout)).stderr(OwnedFd::from(child_stderr));
        let mut ssh = CommandWrap::from(ssh);
        // What a terminal sends to this process is not for that one.
        ssh.wrap(ProcessGroup::leader());
        let child = ChildGuard::spawn(&mut ssh)?;
        let stream = |pair: Pair| {
            pair.set_nonblocking(true)?;
            UnixStream::from_std(pair)
        };
        let streams = [stream(stdin)?, stream(stdout)?, stream(stderr)?];
        Ok(LocalSshClient { program: program.to_owned(), child: Mutex::new(child), streams, log })
    }
}

impl LocalSshClient {
    fn failed(&self, error: io::Error) -> SshError {
        SshError::Failed { program: self.program.clone(), source: error.into() }
    }

    fn message(&self) -> io::Result<String> {
        let mut message = vec![0; MAX_SSH_MESSAGE_BYTES];
        let length = self.log.read_at(&mut message, 0)?;
        Ok(String::from_utf8_lossy(&message[..length]).trim().to_owned())
    }
}

#[async_trait]
impl SshClient for LocalSshClient {
    async fn read(&self, stream: GuestStream) -> Result<Vec<u8>, SshError> {
        let socket = &self.streams[stream as usize];
        let mut bytes = Vec::with_capacity(SSH_READ_BYTES);
        loop {
            socket.readable().await.map_err(|error| self.failed(error))?;
            match socket.try_read_buf(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_closed(&error) => return Ok(Vec::new()),
                read => return read.map(|_| bytes).map_err(|error| self.failed(error)),
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, SshError> {
        let socket = &self.streams[GuestStream::In as usize];
        loop {
            socket.writable().await.map_err(|error| self.failed(error))?;
            match socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_closed(&error) => return Ok(0),
                written => return written.map_err(|error| self.failed(error)),
            }
        }
    }

    fn end_input(&self) {
        let _ = shutdown(&self.streams[GuestStream::In as usize], Shutdown::Write);
    }

    async fn end(&self) -> Result<SshEnd, SshError> {
        let status = self.child.lock().await.wait().await.map_err(|error| self.failed(error))?;
        let message = self.message().map_err(|error| self.failed(error))?;
        Ok(SshEnd { code: status.code().and_then(|code| u8::try_from(code).ok()), message })
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
