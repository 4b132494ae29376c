//! Requests to a guest agent.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use maqet_adapters_linux::random_number;
use maqet_domain::guest::{AgentCommand, AgentDecoder, AgentReply};
use maqet_domain::port::{AgentError, AgentSession, GuestAgents};
use maqet_domain::vm::RunPaths;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::handover::{self, Turn, Wait};
use super::is_missing;
use crate::limits::{AGENT_QUEUE_TIMEOUT, AGENT_READ_BYTES, MIN_AGENT_BYTES_PER_SECOND};

/// The agents of guests, at the sockets of QEMU.
#[derive(Debug, Clone, Copy, Default)]
pub struct QemuGuestAgents;

/// A synchronized connection, which owns the lock of the socket.
struct QemuAgentSession {
    turn: Turn,
    decoder: AgentDecoder,
    buffer: Vec<u8>,
}

#[async_trait]
impl GuestAgents for QemuGuestAgents {
    async fn session(&self, paths: &RunPaths, timeout: Duration) -> Result<Box<dyn AgentSession>, AgentError> {
        let socket = paths.agent_socket();
        // Before the lock, whose file must not be created for a VM without a channel.
        if socket.symlink_metadata().is_err() {
            return Err(AgentError::NoChannel);
        }
        let lock = match handover::acquire(paths, Instant::now() + AGENT_QUEUE_TIMEOUT).await.map_err(failed)? {
            Wait::Over(lock) => lock,
            Wait::TimedOut => return Err(AgentError::Busy),
            Wait::Stopped { pid } => return Err(AgentError::UserStopped { pid }),
        };
        let until = Instant::now() + timeout;
        let turn = match timeout_at(until, lock.connect(&socket)).await {
            Ok(turn) => turn.map_err(|error| if is_missing(&error) { AgentError::Closed } else { failed(error) })?,
            Err(_) => return Err(AgentError::Unresponsive { after: timeout }),
        };
        let id = random_number();
        let mut session = QemuAgentSession { turn, decoder: AgentDecoder::new(id), buffer: Vec::new() };
        // One that was passed on has nothing stale in it: all that was requested on it was answered.
        if !session.turn.is_passed_on {
            session.exchange(&AgentCommand::sync(id), "guest-sync-delimited", timeout, until).await?;
        }
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
        self.turn.is_wanted()
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
        self.turn.is_idle = false;
        loop {
            let until = deadline.min(Instant::now() + timeout);
            let (mut reader, mut writer) = self.turn.stream.split();
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
                self.turn.is_idle = unsent.is_empty();
                return Ok(reply);
            }
        }
    }
}

/// Returns how long so many bytes may take.
fn transfer_time(bytes: usize) -> Duration {
    Duration::from_secs((bytes / MIN_AGENT_BYTES_PER_SECOND) as u64)
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
