//! Requests to a guest agent.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use maqet_adapters_linux::LockedFile;
use maqet_adapters_linux::private_file::private_file;
use maqet_adapters_linux::random_number;
use maqet_domain::guest::{AgentCommand, AgentDecoder, AgentReply};
use maqet_domain::port::{AgentError, AgentSession, GuestAgents};
use maqet_domain::vm::RunPaths;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{agent_lock, agent_queue, is_missing};
use crate::limits::{AGENT_QUEUE_TIMEOUT, AGENT_READ_BYTES, MIN_AGENT_BYTES_PER_SECOND};

/// The agents of guests, at the sockets of QEMU.
#[derive(Debug, Clone, Copy, Default)]
pub struct QemuGuestAgents;

/// A synchronized connection, which owns the lock of the socket.
struct QemuAgentSession {
    /// Closed before the lock is released, so that the next process finds the socket free.
    stream: UnixStream,
    decoder: AgentDecoder,
    buffer: Vec<u8>,
    queue: PathBuf,
    _lock: LockedFile,
}

#[async_trait]
impl GuestAgents for QemuGuestAgents {
    async fn session(&self, paths: &RunPaths, timeout: Duration) -> Result<Box<dyn AgentSession>, AgentError> {
        let socket = paths.agent_socket();
        // Before the lock, whose file must not be created for a VM without a channel.
        if socket.symlink_metadata().is_err() {
            return Err(AgentError::NoChannel);
        }
        let Some(lock) = lock(paths, Instant::now() + AGENT_QUEUE_TIMEOUT).await.map_err(failed)? else {
            return Err(AgentError::Busy);
        };
        let until = Instant::now() + timeout;
        let stream = match timeout_at(until, UnixStream::connect(&socket)).await {
            Ok(stream) => {
                stream.map_err(|error| if is_missing(&error) { AgentError::Closed } else { failed(error) })?
            }
            Err(_) => return Err(AgentError::Unresponsive { after: timeout }),
        };
        let id = random_number();
        let mut session = QemuAgentSession {
            stream,
            decoder: AgentDecoder::new(id),
            buffer: Vec::new(),
            queue: agent_queue(paths),
            _lock: lock,
        };
        session.exchange(&AgentCommand::sync(id), "guest-sync-delimited", timeout, until).await?;
        Ok(Box::new(session))
    }
}

#[async_trait]
impl AgentSession for QemuAgentSession {
    async fn execute(&mut self, command: &AgentCommand, limit: usize, timeout: Duration) -> Result<Value, AgentError> {
        self.decoder.expect_reply(limit);
        let request = command.line();
        let most = Instant::now() + timeout + transfer_time(request.len() + limit);
        match self.exchange(&request, command.execute, timeout, most).await? {
            AgentReply::Return(value) => Ok(value),
            AgentReply::Error { class, description } => {
                Err(AgentError::Refused { command: command.execute, class, description })
            }
            AgentReply::Synchronized => Err(AgentError::Unexpected { command: command.execute }),
        }
    }

    fn is_wanted(&self) -> bool {
        File::open(&self.queue).is_ok_and(|queue| matches!(queue.try_lock(), Err(TryLockError::WouldBlock)))
    }
}

impl QemuAgentSession {
    /// Sends a request and returns the reply to it.
    ///
    /// Without a byte in either direction for `timeout`, or at `deadline`, the agent counts as unresponsive.
    async fn exchange(
        &mut self,
        request: &[u8],
        command: &'static str,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<AgentReply, AgentError> {
        let mut unsent = request;
        loop {
            let until = deadline.min(Instant::now() + timeout);
            let (mut reader, mut writer) = self.stream.split();
            self.buffer.clear();
            self.buffer.reserve(AGENT_READ_BYTES);
            // A guest that does not read must not keep us from reading what it sends.
            tokio::select! {
                sent = writer.write(unsent), if !unsent.is_empty() => {
                    unsent = &unsent[sent.map_err(broken)?..];
                    continue;
                }
                received = reader.read_buf(&mut self.buffer) => {
                    if received.map_err(broken)? == 0 {
                        return Err(AgentError::Closed);
                    }
                }
                () = sleep_until(until) => return Err(AgentError::Unresponsive { after: timeout }),
            }
            let reply = self.decoder.push(&self.buffer);
            if let Some(reply) = reply.map_err(|source| AgentError::Invalid { command, source })? {
                return Ok(reply);
            }
        }
    }
}

/// Returns how long so many bytes may take.
fn transfer_time(bytes: usize) -> Duration {
    Duration::from_secs((bytes / MIN_AGENT_BYTES_PER_SECOND) as u64)
}

/// Locks the agent; `None` if it is still locked at `deadline`. A process that waits holds a shared lock of the queue.
async fn lock(paths: &RunPaths, deadline: Instant) -> io::Result<Option<LockedFile>> {
    let file = match LockedFile::try_lock(private_file(&agent_lock(paths))?)? {
        Ok(lock) => return Ok(Some(lock)),
        Err(file) => file,
    };
    let queue = private_file(&agent_queue(paths))?;
    queue.lock_shared()?;
    let lock = LockedFile::lock(file, deadline).await?;
    queue.unlock()?;
    Ok(lock.ok())
}

fn failed(error: io::Error) -> AgentError {
    AgentError::Failed { source: error.into() }
}

fn broken(error: io::Error) -> AgentError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => AgentError::Closed,
        _ => failed(error),
    }
}
