//! An interactive session with a VM's QEMU.

use std::time::Duration;

use maqet_domain::port::{MonitorSession, SessionEvent};
use maqet_domain::qmp::{QmpCommand, Schema};
use serde_json::Value;
use tokio::time::Instant;

use super::QmpRun;
use crate::event::journal::{Subject, write_journal};
use crate::qmp::{QmpArguments, QmpLine, read_command, read_reply, refuse_abort, schema_of, with_properties};
use crate::vm::ended::or_ended;
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration};

/// A session that runs commands as `qmp run` does, and receives QEMU's events in between; closed on drop.
pub struct QmpShell<'a> {
    app: &'a App,
    vm: Monitored<'a>,
    schema: Schema,
    session: Box<dyn MonitorSession>,
    timeout: Option<HumanDuration>,
    allow_dangerous: bool,
}

impl App {
    /// Opens a session whose commands take at most `timeout` each, and may reach the host with `allow_dangerous`.
    ///
    /// Errors: those of [`App::monitor_session`], and those of reading the schema.
    pub async fn qmp_shell(
        &self,
        vm: &str,
        timeout: Option<HumanDuration>,
        allow_dangerous: bool,
    ) -> Result<QmpShell<'_>, Error> {
        let vm = Monitored::find(self, vm).await?;
        let schema = schema_of(self, &vm, self.timeouts().qmp).await?;
        let session = vm.or_unresponsive(vm.session().await)?;
        Ok(QmpShell { app: self, vm, schema, session, timeout, allow_dangerous })
    }
}

impl QmpShell<'_> {
    /// Returns the name of the VM.
    pub fn name(&self) -> &str {
        self.vm.entry.name.as_str()
    }

    /// Returns the schema of the VM's QEMU.
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Runs a command and returns QEMU's reply; cancel safe, as [`MonitorSession`] is.
    ///
    /// It is recorded in the log of the VM as `qmp run` is.
    pub async fn execute(&mut self, line: &QmpLine) -> Result<Value, Error> {
        let started = Instant::now();
        let QmpLine { command, arguments } = line.clone();
        let operation = QmpRun::new(self.vm.entry.id.to_string(), command)
            .arguments(arguments)
            .timeout(self.timeout)
            .allow_dangerous(self.allow_dangerous);
        let outcome = self.run(&operation).await;
        let touched = outcome.as_ref().map(|_| Subject::Vm(self.vm.entry.id));
        write_journal(self.app, &operation, touched, started.elapsed()).await;
        outcome
    }

    /// Returns the next event, waiting at most `timeout` for one; those received during commands come first.
    ///
    /// Errors: [`Error::Ended`] or [`Error::Qmp`] once the session is closed.
    pub async fn next_event(&mut self, timeout: Duration) -> Result<Option<SessionEvent>, Error> {
        match self.session.next_event(timeout).await {
            Ok(event) => Ok(event),
            Err(error) => Err(self.or_ended(error.into()).await),
        }
    }

    /// Returns an error; that the VM ended meanwhile, if that is the cause.
    async fn or_ended(&self, error: Error) -> Error {
        or_ended(self.app, &self.vm.entry.id.to_string(), error).await
    }

    async fn run(&mut self, operation: &QmpRun) -> Result<Value, Error> {
        let QmpRun { command, arguments, timeout, allow_dangerous, .. } = operation;
        let command = read_command(&self.schema, command, arguments, *allow_dangerous)
            .map_err(|error| Error::command(&self.vm.entry.name, error))?;
        self.vm.refuse_programs(&command)?;
        refuse_abort(&self.vm, &command).await?;
        let timeout = timeout.map_or(self.app.timeouts().qmp, HumanDuration::duration);
        let outcome = self.send(command, arguments, Instant::now() + timeout).await;
        let outcome = outcome.map_err(|error| error.of_timeout(timeout));
        match self.vm.or_unresponsive(outcome) {
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.or_ended(error).await),
        }
    }

    async fn send(&mut self, command: QmpCommand, arguments: &QmpArguments, until: Instant) -> Result<Value, Error> {
        let left = || until.saturating_duration_since(Instant::now());
        let name = &self.vm.entry.name;
        let command = with_properties(&self.vm, command, arguments).await?;
        let reply = self.session.execute(&command, left()).await?;
        read_reply(&command, reply).map_err(|error| Error::command(name, error))
    }
}
