//! The port [`SshClients`]: ssh(1) with its streams, and keys for it.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream as Pair;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use maqet_domain::guest::{GuestStream, SshLogin};
use maqet_domain::port::{SshClient, SshClients, SshEnd, SshError};
use maqet_domain::text::escaped;
use process_wrap::std::{CommandWrap, ProcessGroup};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{Shutdown, shutdown};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::environment::{ProcessEnvironment, ProgramError};
use crate::limits::{KEY_TIMEOUT, MAX_SSH_MESSAGE_BYTES, SSH_READ_BYTES};
use crate::private_file::private_folder;
use crate::process::{CaptureError, Captured, ChildGuard, Group, capture, display_status};

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
        let program = self.program("ssh")?;
        match self.spawn(&program, login, command) {
            Ok(client) => Ok(Box::new(client)),
            Err(error) => Err(SshError::Failed { program, source: error.into() }),
        }
    }

    async fn make_key(&self, path: &Path, comment: &str) -> Result<(), SshError> {
        let public = with_suffix(path, ".pub");
        if path.is_file() && public.is_file() {
            return Ok(());
        }
        let program = self.program("ssh-keygen")?;
        let failed = |error: io::Error| SshError::Failed { program: program.clone(), source: error.into() };
        private_folder(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        let new = with_suffix(path, ".new");
        let new_public = with_suffix(&new, ".pub");
        for left in [&new, &new_public] {
            // By a process that was killed; ssh-keygen would ask whether to replace it.
            let _ = fs::remove_file(left);
        }
        let mut command = self.environment.english_command(&program);
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(&new).current_dir("/");
        let made = capture(command, Stdio::null(), Group::Inherited, KEY_TIMEOUT, MAX_SSH_MESSAGE_BYTES).await;
        let reason = match made {
            Ok(Captured { status, .. }) if status.success() => {
                return put_key([&new, path], [&new_public, &public]).map_err(failed);
            }
            Ok(Captured { status, output }) => {
                let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                if text.is_empty() { display_status(status).to_string() } else { escaped(&text, MAX_SSH_MESSAGE_BYTES) }
            }
            Err(CaptureError::Spawn(error) | CaptureError::Io(error)) => return Err(failed(error)),
            Err(CaptureError::TimedOut) => format!("`ssh-keygen` has not ended within {} s", KEY_TIMEOUT.as_secs()),
            Err(CaptureError::OutputTooLarge) => "`ssh-keygen` writes without end".to_owned(),
        };
        Err(SshError::KeyFailed { reason })
    }
}

/// Puts a pair of keys in its place, the private one last: with it, the pair is complete.
fn put_key([new, path]: [&Path; 2], [new_public, public]: [&Path; 2]) -> io::Result<()> {
    fs::set_permissions(new, Permissions::from_mode(0o600))?;
    for (from, to) in [(new_public, public), (new, path)] {
        // The guest has the public key for good once it has booted.
        File::open(from)?.sync_all()?;
        fs::rename(from, to)?;
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

impl LocalSsh {
    fn program(&self, name: &'static str) -> Result<PathBuf, SshError> {
        self.environment.find(OsStr::new(name)).map_err(|error| match error {
            ProgramError::NotFound => SshError::NotFound { program: name },
            ProgramError::NotExecutable(program, error) => SshError::Failed { program, source: error.into() },
        })
    }

    fn spawn(&self, program: &Path, login: &SshLogin, command: &str) -> io::Result<LocalSshClient> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> LocalSsh {
        LocalSsh::new([("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())].into_iter().collect())
    }

    #[tokio::test]
    async fn test_key_is_private_and_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("vm/ssh-key");
        fs::create_dir(key.parent().unwrap()).unwrap();
        // As a killed process leaves them.
        fs::write(with_suffix(&key, ".new"), "").unwrap();
        fs::write(&key, "").unwrap();

        local().make_key(&key, "maqet-web").await.unwrap();
        let first = fs::read(&key).unwrap();
        local().make_key(&key, "maqet-web").await.unwrap();

        let public = fs::read_to_string(with_suffix(&key, ".pub")).unwrap();
        assert!(public.starts_with("ssh-ed25519 ") && public.ends_with(" maqet-web\n"), "{public}");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(first.starts_with(b"-----BEGIN") && fs::read(&key).unwrap() == first);
        assert_eq!(fs::read_dir(key.parent().unwrap()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn test_key_without_the_program_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let made = LocalSsh::new(ProcessEnvironment::default()).make_key(&folder.path().join("key"), "x").await;

        assert!(matches!(made, Err(SshError::NotFound { program: "ssh-keygen" })), "{made:?}");
    }
}
