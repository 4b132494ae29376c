//! A command that ssh(1) runs in the guest.
//!
//! A shell of the guest reads the command from its standard input, says when it begins, and waits for it: so nothing of
//! the command is on a command line, and its exit code is that of ssh(1). Signals are sent by other connections.

mod pump;

use maqet_domain::guest::{
    ExecFailure, ExitRecord, ExitStatus, GuestStream, GuestTool, Nonce, SshLogin, SshStreams, begun_process,
};
use maqet_domain::port::{SshClient, SshClients, SshEnd};
use maqet_domain::text::escaped;
use maqet_domain::vm::VmName;
use tokio::time::{Instant, sleep_until, timeout};

use self::pump::{Pump, PumpSetup};
use super::agent::HeldSession;
use super::by_agent::Ended;
use super::control::{Control, Started, Tools};
use super::error::ExecError;
use super::pump::Output;
use super::request::{ExecRequest, WayError};
use super::streams::ExecStreams;
use super::watch::Watch;
use crate::vm::monitor::Monitored;
use crate::{App, HumanDuration, limits};

/// The exit code of ssh(1) if the connection has failed.
const FAILED: u8 = 255;

/// How a guest is logged in to, for one command.
#[derive(Clone, Copy)]
pub(crate) struct Ssh<'a> {
    pub(crate) clients: &'a dyn SshClients,
    pub(crate) login: &'a SshLogin,
    pub(crate) request: &'a ExecRequest,
}

/// A shell of the guest that reads a script.
struct Connected {
    client: Box<dyn SshClient>,
    /// What came on standard error.
    errors: Preface,
}

/// The end of what came before something else.
#[derive(Debug, Default)]
struct Preface(Vec<u8>);

/// A command that has begun.
struct Begun {
    pid: i64,
    /// What followed on each stream.
    outputs: [Vec<u8>; 2],
}

/// Why a command has not begun.
enum NotBegun {
    /// The connection has ended.
    Ended(SshEnd),
    Failed(ExecError),
}

/// Runs a command.
pub(crate) async fn run(
    app: &App,
    vm: &Monitored<'_>,
    ssh: Ssh<'_>,
    streams: &dyn ExecStreams,
) -> Result<Ended, WayError> {
    let (name, request) = (&vm.entry.name, ssh.request);
    let watch = Watch::new(vm).of_resets(app).await;
    let mut connected = match request.before_start(streams, ssh.connect()).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(reason)) => return Err(WayError::NotReady(ExecError::SshUnavailable { vm: name.clone(), reason })),
        Err(end) => return Ok(Ended::without_output(end)),
    };
    let terminal = streams.terminal();
    let (has_input, is_merged) = (streams.has_input(), request.is_merged || terminal.is_some());
    let line = request.command.line_by_ssh(&request.nonce, ssh.login, SshStreams { has_input, is_merged, terminal });
    let begun = match request.before_start(streams, connected.begin(name, &request.nonce, &line, has_input)).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(NotBegun::Ended(end))) => return Err(connected.not_begun(name, request, &end).into()),
        Ok(Err(NotBegun::Failed(error))) => {
            ssh.sweep().await;
            return Err(error.into());
        }
        Err(end) => {
            // It may begin all the same.
            ssh.sweep().await;
            return Ok(Ended::without_output(end));
        }
    };
    let started = Started {
        tools: Tools::Ssh(ssh),
        pid: begun.pid,
        nonce: &request.nonce,
        set: None,
        has_terminal: terminal.is_some(),
        reply_limit: limits::MAX_AGENT_REPLY_BYTES,
    };
    let control = Control::new(started, HeldSession::default(), request);
    let setup = PumpSetup { client: &*connected.client, streams, nonce: &request.nonce, watch };
    let mut pump = Pump::new(setup, control, begun.outputs);
    let end = pump.run().await.map_err(|source| ExecError::Ssh { vm: name.clone(), source })?;
    Ok(Ended { end, bytes: pump.bytes(), is_truncated: false })
}

impl Ssh<'_> {
    /// Logs in, and waits until a shell reads; the error says why none does.
    async fn connect(self) -> Result<Connected, String> {
        let nonce = &self.request.nonce;
        let user = self.request.command.user.as_ref().map(ToString::to_string);
        let command = self.login.receiver(nonce, user.as_deref());
        let client = self.clients.start(self.login, &command).await.map_err(|error| error.to_string())?;
        let mut connected = Connected { client, errors: Preface::default() };
        let until = Instant::now() + limits::SSH_LOGIN_TIMEOUT;
        let mut output = Output::default();
        let mut has_errors = true;
        while !output.has_begun {
            tokio::select! {
                bytes = connected.client.read(GuestStream::Out) => {
                    let bytes = bytes.map_err(|error| error.to_string())?;
                    if bytes.is_empty() {
                        let end = connected.end().await.map_err(|error| error.to_string())?;
                        return Err(connected.errors.reason(&end));
                    }
                    // Nothing is read before it is written to.
                    let _ = output.after_head(bytes, &nonce.first_line());
                }
                bytes = connected.client.read(GuestStream::Err), if has_errors => {
                    let bytes = bytes.map_err(|error| error.to_string())?;
                    has_errors = !bytes.is_empty();
                    connected.errors.push(&bytes);
                }
                () = sleep_until(until) => {
                    return Err(format!("it did not answer within {}", HumanDuration::new(limits::SSH_LOGIN_TIMEOUT)));
                }
            }
        }
        Ok(connected)
    }

    /// Runs a tool by a connection of its own; returns how it exited.
    pub(crate) async fn run_tool(self, tool: &GuestTool) -> Result<ExitStatus, String> {
        let mut connected = self.connect().await?;
        connected.send(&tool.line_by_ssh()).await.map_err(|error| error.to_string())?;
        connected.client.end_input();
        let end = timeout(limits::SSH_LOGIN_TIMEOUT, connected.end()).await;
        let end = end.map_err(|_| "the guest does not answer".to_owned())?.map_err(|error| error.to_string())?;
        match end.code {
            Some(code) if code != FAILED => Ok(ExitStatus::Code(code)),
            _ => Err(connected.errors.reason(&end)),
        }
    }

    /// Kills what belongs to a command of which it is not known whether it has begun.
    async fn sweep(self) {
        let sweep = GuestTool::sweep(&self.request.nonce, None);
        match timeout(limits::SSH_GIVE_UP, self.run_tool(&sweep)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(error, "cannot end the command in the guest"),
            Err(_) => tracing::warn!("cannot end the command in the guest: it does not answer"),
        }
    }
}

impl Connected {
    /// Sends the line with a command, and waits until that has begun.
    async fn begin(&mut self, vm: &VmName, nonce: &Nonce, line: &[u8], has_input: bool) -> Result<Begun, NotBegun> {
        let failed = |source| NotBegun::Failed(ExecError::Ssh { vm: vm.clone(), source });
        self.send(line).await.map_err(failed)?;
        if !has_input {
            self.client.end_input();
        }
        let until = Instant::now() + limits::EXEC_START_TIMEOUT;
        let (mut out, mut reads_out) = (Vec::new(), true);
        loop {
            if let Some((pid, rest)) = self.errors.begun(nonce) {
                return Ok(Begun { pid, outputs: [out, rest] });
            }
            tokio::select! {
                // A command that has ended already has begun before.
                bytes = self.client.read(GuestStream::Out), if reads_out => {
                    (out, reads_out) = (bytes.map_err(failed)?, false);
                }
                bytes = self.client.read(GuestStream::Err) => {
                    let bytes = bytes.map_err(failed)?;
                    if bytes.is_empty() {
                        return Err(NotBegun::Ended(self.end().await.map_err(failed)?));
                    }
                    self.errors.push(&bytes);
                }
                () = sleep_until(until) => {
                    let after = HumanDuration::new(limits::EXEC_START_TIMEOUT);
                    return Err(NotBegun::Failed(ExecError::TimedOut { vm: vm.clone(), after }));
                }
            }
        }
    }

    async fn send(&self, mut line: &[u8]) -> Result<(), maqet_domain::port::SshError> {
        while !line.is_empty() {
            match self.client.write(line).await? {
                // Its end says why.
                0 => break,
                length => line = &line[length..],
            }
        }
        Ok(())
    }

    /// Waits until the connection has ended, reading what still comes on standard error.
    async fn end(&mut self) -> Result<SshEnd, maqet_domain::port::SshError> {
        loop {
            let bytes = self.client.read(GuestStream::Err).await?;
            if bytes.is_empty() {
                return self.client.end().await;
            }
            self.errors.push(&bytes);
        }
    }

    /// Returns why a command has not begun.
    fn not_begun(&self, vm: &VmName, request: &ExecRequest, end: &SshEnd) -> ExecError {
        match ExecFailure::from_stderr(&request.nonce, &self.errors.0) {
            Some(failure) => ExecError::of(failure, vm, &request.command),
            None => ExecError::Failed { vm: vm.clone(), reason: self.errors.reason(end) },
        }
    }
}

impl Preface {
    /// Adds bytes, and keeps them and the last of what was there.
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(limits::MAX_PREFACE_BYTES + bytes.len());
        self.0.drain(..excess);
    }

    /// Returns the process of a command, and what followed, once the line is there that says so.
    fn begun(&self, nonce: &Nonce) -> Option<(i64, Vec<u8>)> {
        let mut start = 0;
        while let Some(length) = self.0[start..].iter().position(|byte| *byte == b'\n') {
            let end = start + length;
            if let Some(pid) = begun_process(nonce, &self.0[start..end]) {
                return Some((pid, self.0[end + 1..].to_vec()));
            }
            start = end + 1;
        }
        None
    }

    /// Returns why a connection has ended: what ssh(1) says, else the last line of the guest.
    fn reason(&self, end: &SshEnd) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let mut lines = text.lines().chain(end.message.lines()).map(str::trim);
        match lines.rfind(|line| !line.is_empty() && !ExitRecord::is_record(line)) {
            Some(line) => escaped(line, limits::MAX_REASON_CHARS),
            None => format!("`ssh` has ended with exit code {}", end.code.unwrap_or(u8::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use maqet_domain::port::MockSshClient;

    use super::*;

    /// Begins a command whose output has ended, and whose standard error is this.
    async fn begin(nonce: &Nonce, errors: &str) -> Result<Begun, NotBegun> {
        let errors = Mutex::new(errors.as_bytes().to_vec());
        let mut client = MockSshClient::new();
        client.expect_write().returning(|bytes| Ok(bytes.len()));
        client.expect_end_input().return_const(());
        client.expect_end().returning(|| Ok(SshEnd { code: Some(0), message: String::new() }));
        client.expect_read().returning(move |stream| match stream {
            GuestStream::Err => Ok(std::mem::take(&mut *errors.lock().unwrap())),
            GuestStream::In | GuestStream::Out => Ok(Vec::new()),
        });
        let mut connected = Connected { client: Box::new(client), errors: Preface::default() };
        connected.begin(&"web".parse().unwrap(), nonce, b"script\n", false).await
    }

    /// Whichever stream is read first.
    #[tokio::test]
    async fn test_begin_of_a_command_that_has_ended_is_seen() {
        let nonce = Nonce::new([7; 16]);

        for _ in 0..64 {
            let begun = begin(&nonce, &format!("{nonce} 42\nerror")).await;
            let refused = begin(&nonce, &format!("{nonce} not-found\n")).await;

            assert!(begun.is_ok_and(|begun| begun.pid == 42 && begun.outputs[1] == b"error"));
            assert!(matches!(refused, Err(NotBegun::Ended(SshEnd { code: Some(0), .. }))));
        }
    }

    #[test]
    fn test_preface_has_the_line_that_the_command_has_begun() {
        let nonce = Nonce::new([7; 16]);
        let mut preface = Preface::default();

        preface.push(format!("bash: warning\n{nonce} 4").as_bytes());
        let before = preface.begun(&nonce);
        preface.push(b"2\nerror\nof it");

        assert_eq!(before, None);
        assert_eq!(preface.begun(&nonce), Some((42, b"error\nof it".to_vec())));
    }

    #[test]
    fn test_preface_of_a_guest_that_floods_takes_no_memory() {
        let mut preface = Preface::default();

        for _ in 0..100 {
            preface.push(&[b'x'; 1000]);
        }

        assert_eq!(preface.0.len(), limits::MAX_PREFACE_BYTES + 1000);
    }

    #[test]
    fn test_preface_reason_is_what_ssh_says_or_the_last_line() {
        let mut preface = Preface::default();
        let end = |message: &str| SshEnd { code: Some(255), message: message.to_owned() };
        let nothing = preface.reason(&end(""));
        preface.push(b"motd\nsudo: a password is required\n\n");

        preface.push(b"\x1907 126\n");

        assert_eq!(nothing, "`ssh` has ended with exit code 255");
        assert_eq!(preface.reason(&end("")), "sudo: a password is required");
        assert_eq!(preface.reason(&end("a\nPermission denied\n")), "Permission denied");
    }
}
