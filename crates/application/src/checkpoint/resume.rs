//! A QEMU that goes on from a checkpoint: the memory is a private mapping, and the state of the devices is loaded.

use std::time::Duration;

use maqet_domain::checkpoint::{CheckpointManifest, FrozenDisk, RAM_FILE, STATE_FILE, cpu_difference};
use maqet_domain::command_line::{CommandLine, MappedMemory};
use maqet_domain::machine::Machine;
use maqet_domain::port::{FoundCheckpoint, MonitorSession, PassedFor};
use maqet_domain::qmp::QmpCommand;
use maqet_domain::qmp::versions::Difference;
use maqet_domain::snapshot::{Fingerprint, FingerprintDifference};
use maqet_domain::vm::RunPaths;
use maqet_fault_points::FaultPoint;

use super::error::CheckpointError;
use crate::migration::wait_until_loaded;
use crate::{App, Error};

/// The name of the descriptor of the state in QEMU.
const DESCRIPTOR: &str = "maqet-state";

/// What goes on from a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum Purpose {
    /// A new VM.
    #[strum(to_string = "forked")]
    Fork,
    /// The VM itself.
    #[strum(to_string = "restored")]
    Restore,
}

/// A checkpoint that a start goes on from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumed<'a> {
    pub(crate) checkpoint: &'a FoundCheckpoint,
    pub(crate) purpose: Purpose,
    /// The IDs of network cards whose link is to be down.
    pub(crate) disconnected: &'a [String],
}

impl Resumed<'_> {
    /// Refuses a checkpoint that this host cannot go on from, with all reasons, those of the caller included; `machine` is
    /// that of its definition. Nothing was changed.
    pub(crate) async fn require_usable(&self, app: &App, machine: &Machine, more: Vec<String>) -> Result<(), Error> {
        let CheckpointManifest { qemu, added_devices, disks, .. } = &self.checkpoint.manifest;
        let mut reasons = Vec::new();
        let binary = app.ports.hypervisor.binary(&app.preflight().binary_name(machine)).await?;
        let path = binary.path.display();
        if binary.version != qemu.version {
            reasons.push(format!("it is of QEMU {}, and `{path}` is {}", qemu.version, binary.version));
        } else if binary.package != qemu.package {
            reasons.push(format!("it is of the QEMU build `{}`, and `{path}` is `{}`", qemu.package, binary.package));
        }
        let cpu = qemu.host_cpu_flags.as_ref().and_then(|saved| cpu_difference(saved, &app.ports.host.cpu_flags()));
        reasons.extend(cpu);
        if !added_devices.is_empty() {
            reasons.push(format!("devices were added while it ran: {}", added_devices.join(", ")));
        }
        if qemu.arguments.iter().any(|argument| argument.contains("memory-backend")) {
            reasons.push("its arguments have a memory backend".to_owned());
        }
        reasons.extend(more);
        for disk in disks {
            reasons.extend(disk_reason(app, disk).await);
        }
        if !reasons.is_empty() {
            return Err(self.refused(reasons));
        }
        Ok(app.ports.checkpoints.check(self.checkpoint, false, &|_| {}).await?)
    }

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
        // A connection that is lost is that of a QEMU that has ended.
        let loaded = wait_until_loaded(&mut *session, timeout).await;
        loaded.map_err(|error| self.failed(&error.to_string()))?;
        for card in self.disconnected {
            session
                .execute(&QmpCommand::new("set_link").with("name", card.as_str()).with("up", false), timeout)
                .await?;
        }
        app.faults.reach(FaultPoint::CheckpointLoaded);
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
        let (vm, name) = (vm.name.clone(), name.clone());
        CheckpointError::Refused { purpose: self.purpose, vm, name, reasons }.into()
    }

    fn failed(&self, reason: &str) -> Error {
        let name = self.checkpoint.manifest.name.clone();
        CheckpointError::LoadFailed { name, reason: reason.to_owned() }.into()
    }
}

/// Returns why a frozen image is not what it was.
async fn disk_reason(app: &App, disk: &FrozenDisk) -> Option<String> {
    let info = match app.ports.images.info(&disk.file).await {
        Ok(info) => info,
        Err(error) => return Some(format!("the image of drive `{}` cannot be used: {error}", disk.drive)),
    };
    let found = (info.format.as_str(), info.virtual_size.bytes());
    // A raw image can look like any other.
    if found.1 == disk.virtual_bytes && (found.0 == disk.format || disk.format == "raw") {
        return None;
    }
    Some(format!("the image of drive `{}` has another size or format than before", disk.drive))
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
