//! A copy by the agent alone: a file in the guest stands for the stream.

use std::sync::{Mutex, PoisonError};

use maqet_domain::guest::AgentCommand;
use maqet_domain::guest::file::{FileHandle, open_command, read_bytes, written_count};
use maqet_domain::port::{AgentError, AgentSession};
use serde_json::Value;

use super::streams::CopyStreams;
use crate::guest::agent::Agent;
use crate::guest::streams::ExecStreams;
use crate::limits;

/// The file that the agent has open for a copy, if any; it is kept outside of the work with it, which may be canceled.
#[derive(Default)]
pub(crate) struct StagedFile {
    handle: Mutex<Option<FileHandle>>,
}

impl StagedFile {
    fn opened(&self, handle: FileHandle) {
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }

    fn take(&self) -> Option<FileHandle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Closes the file if it is open, after work that failed: the agent would keep its space until the guest is off.
    pub(crate) async fn close(&self, agent: Agent<'_>) -> Result<(), AgentError> {
        let Some(handle) = self.take() else { return Ok(()) };
        let mut session = agent.session(limits::AGENT_TIMEOUT).await?;
        session.execute(&handle.close_command(), limits::MAX_AGENT_REPLY_BYTES, limits::AGENT_TIMEOUT).await.map(drop)
    }
}

/// A file of the guest that its agent has open.
struct OpenFile<'a> {
    agent: Agent<'a>,
    session: Option<Box<dyn AgentSession>>,
    handle: FileHandle,
    staged: &'a StagedFile,
}

impl<'a> OpenFile<'a> {
    async fn open(
        agent: Agent<'a>,
        path: &str,
        mode: &'static str,
        staged: &'a StagedFile,
    ) -> Result<Self, AgentError> {
        let mut session = agent.session(limits::AGENT_TIMEOUT).await?;
        let command = open_command(path, mode);
        let reply = session.execute(&command, limits::MAX_AGENT_REPLY_BYTES, limits::AGENT_TIMEOUT).await?;
        let handle = FileHandle::from_reply(&reply).ok_or(AgentError::Unexpected { command: command.execute })?;
        staged.opened(handle);
        Ok(Self { agent, session: Some(session), handle, staged })
    }

    /// Runs a command, on the same session unless another process waits for the agent.
    async fn execute(&mut self, command: &AgentCommand) -> Result<Value, AgentError> {
        let mut session = match self.session.take().filter(|session| !session.is_wanted()) {
            Some(session) => session,
            None => self.agent.session(limits::AGENT_TIMEOUT).await?,
        };
        let reply = session.execute(command, limits::MAX_STAGED_REPLY_BYTES, limits::AGENT_TIMEOUT).await?;
        self.session = Some(session);
        Ok(reply)
    }

    async fn close(mut self) -> Result<(), AgentError> {
        self.execute(&self.handle.close_command()).await?;
        self.staged.take();
        Ok(())
    }
}

/// Writes what is sent to a file of the guest.
pub(crate) async fn write(
    agent: Agent<'_>,
    path: &str,
    streams: &CopyStreams,
    staged: &StagedFile,
) -> Result<(), AgentError> {
    let mut file = OpenFile::open(agent, path, "w", staged).await?;
    loop {
        let bytes = streams.read().await;
        if bytes.is_empty() {
            return file.close().await;
        }
        for piece in bytes.chunks(limits::STAGED_PIECE_BYTES) {
            let mut left = piece;
            while !left.is_empty() {
                let command = file.handle.write_command(left);
                let reply = file.execute(&command).await?;
                let count = written_count(&reply).filter(|count| (1..=left.len()).contains(count));
                left = &left[count.ok_or(AgentError::Unexpected { command: command.execute })?..];
            }
        }
    }
}

/// Reads a file of the guest, and passes it on.
pub(crate) async fn read(
    agent: Agent<'_>,
    path: &str,
    streams: &CopyStreams,
    staged: &StagedFile,
) -> Result<(), AgentError> {
    let mut file = OpenFile::open(agent, path, "r", staged).await?;
    loop {
        let command = file.handle.read_command(limits::STAGED_PIECE_BYTES);
        let reply = file.execute(&command).await?;
        let (bytes, is_over) = read_bytes(&reply).ok_or(AgentError::Unexpected { command: command.execute })?;
        // A guest that neither sends nor ends would keep us for ever.
        if bytes.is_empty() && !is_over {
            return Err(AgentError::Unexpected { command: command.execute });
        }
        if !bytes.is_empty() && !streams.pass_on(bytes).await || is_over {
            return file.close().await;
        }
    }
}
