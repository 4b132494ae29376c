//! A QEMU that goes on from a checkpoint: the memory is a private mapping, and the state of the devices is loaded.

use std::time::Duration;

use maqet_domain::checkpoint::{CheckpointManifest, RAM_FILE, STATE_FILE};
use maqet_domain::command_line::{CommandLine, MappedMemory};
use maqet_domain::port::{FoundCheckpoint, MonitorSession, PassedFor};
use maqet_domain::qmp::versions::Difference;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::snapshot::{Fingerprint, FingerprintDifference};
use maqet_domain::vm::RunPaths;
use maqet_fault_points::FaultPoint;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::error::CheckpointError;
use crate::{App, Error, limits};

/// The name of the descriptor of the state in QEMU.
const DESCRIPTOR: &str = "maqet-state";

/// A checkpoint that a start goes on from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumed<'a> {
    pub(crate) checkpoint: &'a FoundCheckpoint,
    /// The IDs of network cards whose link is to be down.
    pub(crate) disconnected: &'a [String],
}

impl Resumed<'_> {
    /// Returns the command line of the QEMU, which has the same devices as that of the checkpoint.
    ///
    /// QEMU itself refuses only some of the differences, and loads the memory of one machine into another one otherwise.
    pub(crate) fn command_line(&self, computed: CommandLine) -> Result<CommandLine, Error> {
        let CheckpointManifest { qemu, ram, .. } = &self.checkpoint.manifest;
        let saved = Fingerprint::new(qemu.version, &qemu.arguments, &[]);
        let now = Fingerprint::new(qemu.version, computed.args(), &[]);
        let differences = saved.differences(&now);
        if !differences.is_empty() {
            return Err(self.refused(differences.iter().map(reason).collect()));
        }
        let file = self.checkpoint.directory.join(RAM_FILE);
        let memory = MappedMemory {
            machine_type: &qemu.machine_type,
            block: &ram.block,
            bytes: ram.bytes,
            file: &file,
            is_read_only: Difference::ReadOnlyMemoryFile.is_in(qemu.version),
        };
        Ok(computed.resuming(&memory)?)
    }

    /// Loads the state of the devices into a QEMU that was just started; lets the guest run, unless it stays paused.
    ///
    /// QEMU ends if it cannot load it.
    pub(crate) async fn load(&self, app: &App, paths: &RunPaths, stays_paused: bool) -> Result<(), Error> {
        let timeout = app.timeouts().qmp;
        let mut session = app.ports.monitors.session(paths, timeout).await?;
        self.require_same_build(&mut *session, timeout).await?;
        let state = self.checkpoint.directory.join(STATE_FILE);
        let pass = QmpCommand::new("getfd").with("fdname", DESCRIPTOR);
        session.execute_with_file(&pass, &state, PassedFor::Reading, timeout).await?;
        if !self.disconnected.is_empty() {
            // What QEMU tells the network where the guest is, once it has loaded the state.
            let quiet = QmpCommand::new("migrate-set-parameters").with("announce-rounds", 0);
            session.execute(&quiet, timeout).await?;
        }
        let load = QmpCommand::new("migrate-incoming").with("uri", format!("fd:{DESCRIPTOR}"));
        session.execute(&load, timeout).await?;
        let loaded = loaded(&mut *session, timeout).await;
        loaded.map_err(|error| self.failed(&error.to_string()))?;
        for card in self.disconnected {
            session
                .execute(&QmpCommand::new("set_link").with("name", card.as_str()).with("up", false), timeout)
                .await?;
        }
        app.faults.reach(FaultPoint::ForkLoaded);
        if !stays_paused {
            session.execute(&QmpCommand::new("cont"), timeout).await?;
        }
        Ok(())
    }

    async fn require_same_build(&self, session: &mut dyn MonitorSession, timeout: Duration) -> Result<(), Error> {
        let reply = session.execute(&QmpCommand::new("query-version"), timeout).await?;
        let (package, saved) = (reply["package"].as_str().unwrap_or_default(), &self.checkpoint.manifest.qemu.package);
        if package == saved {
            return Ok(());
        }
        Err(self.refused(vec![format!("it is of the QEMU build `{saved}`, and this one is `{package}`")]))
    }

    fn refused(&self, reasons: Vec<String>) -> Error {
        let CheckpointManifest { vm, name, .. } = &self.checkpoint.manifest;
        CheckpointError::NotForkable { vm: vm.name.clone(), name: name.clone(), reasons }.into()
    }

    fn failed(&self, reason: &str) -> Error {
        let name = self.checkpoint.manifest.name.clone();
        CheckpointError::LoadFailed { name, reason: reason.to_owned() }.into()
    }
}

/// Returns in what the machine that would be started is another one.
fn reason(difference: &FingerprintDifference) -> String {
    match (&difference.snapshot, &difference.vm) {
        (Some(saved), Some(now)) => format!("it has `{saved}`, and QEMU would be started with `{now}`"),
        (Some(saved), None) => format!("it has `{saved}`, and QEMU would be started without that"),
        (None, Some(now)) => format!("it lacks `{now}`, and QEMU would be started with that"),
        (None, None) => "its devices have another order".to_owned(),
    }
}

/// Waits until the state was loaded; a connection that is lost is that of a QEMU that has ended.
async fn loaded(session: &mut dyn MonitorSession, timeout: Duration) -> Result<(), QmpError> {
    let deadline = Instant::now() + timeout;
    loop {
        let reply: Value = session.execute(&QmpCommand::new("query-status"), timeout).await?;
        if reply["status"] != "inmigrate" {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(QmpError::Unresponsive { command: "migrate-incoming".to_owned(), after: timeout });
        }
        sleep(limits::CHECKPOINT_MOMENT_INTERVAL).await;
    }
}
