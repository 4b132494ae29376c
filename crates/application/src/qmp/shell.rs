//! A session with a VM's QEMU for commands that somebody types.

use std::time::{Duration, Instant};

use maqet_domain::port::{MonitorSession, SessionEvent};
use maqet_domain::qmp::QmpCommand;
use maqet_domain::qmp::{DeviceProperties, Schema};
use maqet_domain::vm::{ProcessIdentity, VmEntry};
use serde_json::Value;

use super::{QmpArguments, QmpLine, read_answer, read_command, with_properties};
use crate::event::journal::Touched;
use crate::operation::QmpRun;
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration};

/// A session that reads commands as `qmp run` does, and hears QEMU's events between them; it is closed when dropped.
pub struct QmpShell<'a> {
    app: &'a App,
    entry: VmEntry,
    process: ProcessIdentity,
    schema: Schema,
    session: Box<dyn MonitorSession>,
    timeout: Option<HumanDuration>,
    allow_dangerous: bool,
}

impl App {
    /// Opens a session for commands that somebody types, each at most `timeout` long and, with `allow_dangerous`, also
    /// such as reach the host.
    ///
    /// Errors: those of [`App::monitor_session`] and of [`App::qmp_schema`].
    pub async fn qmp_shell(
        &self,
        vm: &str,
        timeout: Option<HumanDuration>,
        allow_dangerous: bool,
    ) -> Result<QmpShell<'_>, Error> {
        let monitored = self.monitored(vm).await?;
        let patience = self.timeouts().qmp;
        let schema = self.schema_of(&monitored, patience).await?;
        let session = self.ports.monitors.session(&monitored.run.paths, patience).await?;
        let Monitored { entry, process, .. } = monitored;
        Ok(QmpShell { app: self, entry, process, schema, session, timeout, allow_dangerous })
    }
}

impl QmpShell<'_> {
    /// Returns the VM's name.
    pub fn name(&self) -> &str {
        self.entry.name.as_str()
    }

    /// Returns what the VM's QEMU tells of its commands.
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Runs a command and returns QEMU's answer; may be given up at any moment, as those of [`MonitorSession`].
    ///
    /// It is written down in the log of the VM as `qmp run` is.
    pub async fn execute(&mut self, line: &QmpLine) -> Result<Value, Error> {
        let started = Instant::now();
        let QmpLine { command, arguments } = line.clone();
        let (vm, allow_dangerous) = (self.entry.id.to_string(), self.allow_dangerous);
        let asked = QmpRun { vm, command, arguments, timeout: self.timeout, allow_dangerous };
        let outcome = self.ask(&asked).await;
        let touched = outcome.as_ref().map(|_| Touched::Vm(self.entry.id));
        self.app.note(&asked, touched, started.elapsed()).await;
        outcome
    }

    /// Returns the next event, waiting at most `patience` for one; those that came during commands are first.
    ///
    /// Errors: [`Error::Qmp`] once the session is over.
    pub async fn heard(&mut self, patience: Duration) -> Result<Option<SessionEvent>, Error> {
        Ok(self.session.heard(patience).await?)
    }

    async fn ask(&mut self, asked: &QmpRun) -> Result<Value, Error> {
        let command = read_command(&self.schema, &asked.command, &asked.arguments, asked.allow_dangerous)?;
        self.app.refuse_programs(&self.entry.name, &self.process, &command)?;
        let until = Instant::now() + asked.timeout.map_or(self.app.timeouts().qmp, HumanDuration::duration);
        let outcome = self.tell(command, &asked.arguments, until).await;
        if let Err(Error::Qmp(_)) = &outcome {
            // It may have been stopped while it was asked, and then nothing else tells why.
            self.app.ensure_responsive(&self.entry.name, &self.process)?;
        }
        outcome
    }

    async fn tell(&mut self, command: QmpCommand, arguments: &QmpArguments, until: Instant) -> Result<Value, Error> {
        let left = || until.saturating_duration_since(Instant::now());
        let command = match DeviceProperties::asked_for(&command) {
            Some(asking) => with_properties(command, arguments, self.session.execute(&asking, left()).await)?,
            None => command,
        };
        let answer = self.session.execute(&command, left()).await?;
        Ok(read_answer(&command, answer)?)
    }
}
