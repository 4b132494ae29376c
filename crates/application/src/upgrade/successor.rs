//! The QEMU that is to take over.

use std::path::PathBuf;
use std::time::Duration;

use maqet_domain::port::{Launch, Launched, MonitorSession};
use maqet_domain::qmp::{BlockMedium, QmpCommand, QmpError, children};
use maqet_domain::upgrade::CpuFeatures;
use maqet_domain::vm::{RunPaths, VmEntry};
use serde_json::Value;

use super::error::UpgradeError;
use super::plan::Plan;
use crate::device::session::PERIPHERAL;
use crate::migration::{migration_capabilities, wait_until_loaded};
use crate::{App, Error};

/// The capability by which QEMU does not send memory that both have mapped.
const IGNORE_SHARED: &str = "x-ignore-shared";

/// The capability by which QEMU uses its images only once its guest is to run.
const LATE_ACTIVATION: &str = "late-block-activate";

/// Where the devices without an ID are in QEMU's object model.
const UNNAMED_DEVICES: &str = "/machine/peripheral-anon";

/// A disk, as far as a guest knows it; the file is `None` if it is one of the run.
type GuestDisk = (Option<PathBuf>, String, u64, bool);

/// What two QEMUs have to have in common.
#[derive(Debug, PartialEq)]
struct GuestMachine {
    disks: Vec<GuestDisk>,
    devices: Vec<String>,
    memory: Value,
    processors: usize,
    features: Option<CpuFeatures>,
}

/// A QEMU that waits for a guest.
pub(super) struct Successor<'a> {
    app: &'a App,
    paths: &'a RunPaths,
    pub(super) launched: Launched,
    pub(super) session: Box<dyn MonitorSession>,
}

impl<'a> Successor<'a> {
    /// Starts it; the guest is where it was.
    pub(super) async fn start(app: &'a App, entry: &VmEntry, plan: &'a Plan) -> Result<Self, Error> {
        let launch = Launch {
            command_line: plan.command_line.clone(),
            paths: plan.paths.clone(),
            files: plan.files.clone(),
            timeout: app.timeouts().start,
            is_foreground: false,
            is_successor: true,
        };
        let launched = app.ports.hypervisor.launch(&launch).await;
        let launched = launched.map_err(|source| Error::Launch { vm: entry.name.clone(), source })?;
        let session = app.ports.monitors.session(&plan.paths, app.timeouts().qmp).await?;
        Ok(Self { app, paths: &plan.paths, launched, session })
    }

    pub(super) async fn query(&mut self, command: &QmpCommand) -> Result<Value, QmpError> {
        self.session.execute(command, self.app.timeouts().qmp).await
    }

    /// Refuses it unless its machine is that of the QEMU that the guest is in.
    pub(super) async fn require_same(
        &mut self,
        entry: &VmEntry,
        plan: &Plan,
        source: &mut dyn MonitorSession,
    ) -> Result<(), Error> {
        let timeout = self.app.timeouts().qmp;
        let sockets = entry.run.as_ref().map(|run| run.paths.clone());
        let here = read_machine(source, sockets.as_ref(), timeout).await?;
        let there = read_machine(&mut *self.session, Some(self.paths), timeout).await?;
        let mut reasons = here.differences(&there);
        if let Some(file) = &plan.memory_file
            && !self.app.ports.processes.maps_file(&self.launched.process, file)
        {
            reasons.push(format!("its memory is not in `{}`", file.display()));
        }
        if reasons.is_empty() {
            return Ok(());
        }
        Err(UpgradeError::OtherMachine { vm: entry.name.clone(), binary: plan.binary.path.clone(), reasons }.into())
    }

    /// Has it wait for the state of the guest; returns where that is to be sent to.
    pub(super) async fn listen(&mut self, shares_memory: bool) -> Result<String, QmpError> {
        self.query(&migration_capabilities(&[(LATE_ACTIVATION, true), (IGNORE_SHARED, shares_memory)])).await?;
        let uri = format!("unix:{}", self.paths.takeover_socket().display());
        self.query(&QmpCommand::new("migrate-incoming").with("uri", uri.as_str())).await?;
        Ok(uri)
    }

    /// Waits until it has loaded the state of the guest, which was sent.
    pub(super) async fn loaded(&mut self) -> Result<(), QmpError> {
        wait_until_loaded(&mut *self.session, self.app.timeouts().qmp).await
    }
}

/// Leaves nothing of the preparation in the QEMU that has taken over.
pub(super) async fn end_incoming(session: &mut dyn MonitorSession, app: &App) -> Result<(), QmpError> {
    let command = migration_capabilities(&[(LATE_ACTIVATION, false), (IGNORE_SHARED, false)]);
    session.execute(&command, app.timeouts().qmp).await.map(drop)
}

/// The command that makes QEMU send memory that is shared, or not.
pub(super) fn ignore_shared(state: bool) -> QmpCommand {
    migration_capabilities(&[(IGNORE_SHARED, state)])
}

/// Reads what a QEMU has in common with one that can take its guest over; `paths` are those of its run.
async fn read_machine(
    session: &mut dyn MonitorSession,
    paths: Option<&RunPaths>,
    timeout: Duration,
) -> Result<GuestMachine, QmpError> {
    let disks = session.execute(&QmpCommand::new("query-block"), timeout).await?;
    let is_of_run = |medium: &BlockMedium| paths.is_some_and(|paths| medium.file.starts_with(&paths.sockets));
    let disk = |medium: BlockMedium| {
        let file = if is_of_run(&medium) { None } else { Some(medium.file) };
        (file, medium.format, medium.virtual_bytes, medium.is_read_only)
    };
    let mut disks: Vec<GuestDisk> = BlockMedium::from_reply(&disks).into_iter().map(disk).collect();
    disks.sort_unstable();
    let devices = session.execute(&QmpCommand::new("qom-list").with("path", PERIPHERAL), timeout).await?;
    let mut devices: Vec<String> =
        children(&devices).into_iter().map(|(id, driver)| format!("{id} ({driver})")).collect();
    let unnamed = session.execute(&QmpCommand::new("qom-list").with("path", UNNAMED_DEVICES), timeout).await?;
    devices.extend(children(&unnamed).into_iter().map(|(_, driver)| driver));
    devices.sort_unstable();
    let memory = session.execute(&QmpCommand::new("query-memory-size-summary"), timeout).await?;
    let processors = session.execute(&QmpCommand::new("query-cpus-fast"), timeout).await?;
    let path = processors[0]["qom-path"].as_str().unwrap_or_default();
    let words = QmpCommand::new("qom-get").with("path", path).with("property", "feature-words");
    let features = match session.execute(&words, timeout).await {
        Ok(words) => Some(CpuFeatures::from_reply(&words)),
        // Of another architecture, whose models do not change with QEMU.
        Err(QmpError::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    let processors = processors.as_array().map_or(0, Vec::len);
    Ok(GuestMachine { disks, devices, memory, processors, features })
}

impl GuestMachine {
    /// Returns in what another one differs.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut all = Vec::new();
        if self.disks != other.disks {
            all.push("its disks are others than those that the guest has".to_owned());
        }
        if self.devices != other.devices {
            all.push("its devices are others than those that the guest has".to_owned());
        }
        if self.memory != other.memory {
            all.push("it has another amount of memory".to_owned());
        }
        if self.processors != other.processors {
            all.push(format!("it has {} processors, and the guest has {}", other.processors, self.processors));
        }
        let (features, others) =
            (self.features.clone().unwrap_or_default(), other.features.clone().unwrap_or_default());
        let differences = features.differences(&others);
        if !differences.is_empty() {
            all.push(format!("its processors have other features (CPUID {})", differences.join("; ")));
        }
        all
    }
}
