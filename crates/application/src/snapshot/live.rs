//! Snapshots of a running VM, which QEMU itself creates, loads and removes.
//!
//! | module | holds |
//! | --- | --- |
//! | `check` | what keeps a VM from being saved with its memory |
//! | `error` | why a snapshot of a running VM cannot be created or loaded |
//! | `load` | loading memory and disks, and what becomes of a load that fails |
//! | `recover` | what becomes of work on a running VM whose maqet process was killed |
//! | `save` | saving memory and disks, or disks alone |
//!
//! The block node of a drive has the name of the drive, unless a checkpoint was taken or removed in this run; so drives are
//! found by the names of their nodes, and then by their images.

pub(crate) mod check;
pub(crate) mod error;
pub(crate) mod load;
pub(crate) mod recover;
pub(crate) mod save;

use std::path::{Path, PathBuf};

use maqet_domain::change::Change;
use maqet_domain::hotplug::{BootDevices, PluggedDevice};
use maqet_domain::machine::Machine;
use maqet_domain::port::{MonitorSession, PassedFor};
use maqet_domain::qemu::QemuVersion;
use maqet_domain::qmp::{BlockMedium, QmpCommand, QmpError, RunState, children};
use maqet_domain::snapshot::Fingerprint;
use maqet_domain::vm::{
    ImageTag, MonitorAnswer, PendingWork, ProcessIdentity, ProcessObservation, Run, RunPaths, Status, VmEntry,
};
use serde_json::Value;

use crate::device::session::PERIPHERAL;
use crate::qmp::run_state;
use crate::snapshot::recover::record_removals;
use crate::start::firmware::VARIABLES_NAME;
use crate::vm::monitor::Monitored;
use crate::{App, Error, limits};

/// A running VM whose lock the caller holds, and a session with its QEMU.
pub(crate) struct LiveVm<'a> {
    app: &'a App,
    monitored: Monitored<'a>,
    session: Box<dyn MonitorSession>,
    /// What went otherwise than one expects.
    pub(crate) warnings: Vec<String>,
}

/// A drive of a running VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveDisk {
    /// Its name, which is also that of its block node, unless a checkpoint has given it another one.
    pub(crate) name: String,
    /// Its image.
    pub(crate) path: PathBuf,
    /// The block node of that.
    pub(crate) node: String,
}

impl LiveDisk {
    /// Returns the snapshot `tag` of the image of this drive.
    pub(crate) fn tag(&self, tag: &str) -> ImageTag {
        ImageTag { drive: self.name.clone(), path: self.path.clone(), tag: tag.to_owned() }
    }
}

impl<'a> LiveVm<'a> {
    /// Opens a session with a VM; `None` if its QEMU is not running.
    ///
    /// Errors: QEMU does not respond, or is in another PID namespace.
    pub(crate) async fn open(app: &'a App, entry: &VmEntry) -> Result<Option<Self>, Error> {
        let Some(monitored) = Monitored::live(app, entry).await? else { return Ok(None) };
        // Its command line is part of the fingerprint, and it is ended after a load that failed.
        monitored.visible_process()?;
        match monitored.session().await {
            Ok(session) => Ok(Some(Self { app, monitored, session, warnings: Vec::new() })),
            // It may be exiting.
            Err(error) if error.is_connection_loss() && has_exited(app, monitored.visible_process()?).await => Ok(None),
            Err(error) => monitored.or_unresponsive(Err(error)),
        }
    }

    pub(crate) fn run(&self) -> &Run {
        &self.monitored.run
    }

    pub(crate) fn process(&self) -> Result<&ProcessIdentity, Error> {
        self.monitored.visible_process()
    }

    pub(crate) async fn query(&mut self, command: &QmpCommand) -> Result<Value, QmpError> {
        self.session.execute(command, self.app.timeouts().qmp).await
    }

    /// Runs a command, and passes a descriptor of a file with it, which QEMU writes to.
    pub(crate) async fn query_with_file(&mut self, command: &QmpCommand, file: &Path) -> Result<Value, QmpError> {
        self.session.execute_with_file(command, file, PassedFor::Writing, self.app.timeouts().qmp).await
    }

    pub(crate) fn session(&mut self) -> &mut dyn MonitorSession {
        &mut *self.session
    }

    /// Writes `changes`, the records of snapshots that are complete, then removes the snapshots `removed`; returns the
    /// entry of the VM as it is from then on, without pending work.
    async fn record(
        &mut self,
        operation: &'static str,
        entry: VmEntry,
        changes: Vec<Change>,
        removed: &[ImageTag],
    ) -> Result<VmEntry, Error> {
        if removed.is_empty() {
            return self.app.committer().end_work(&entry, changes).await;
        }
        let work = PendingWork::SnapshotRemove { removed: removed.to_vec() };
        let entry = self.app.committer().begin_work(&entry, operation, work, changes).await?;
        self.delete(removed).await?;
        self.app.committer().end_work(&entry, record_removals(&entry, removed)).await
    }

    /// Returns the state of the VM.
    pub(crate) async fn status(&mut self) -> Result<Status, QmpError> {
        let state = self.run_state().await?;
        Ok(self.status_in(state))
    }

    /// Returns the state of the VM in a run state.
    pub(crate) fn status_in(&self, state: RunState) -> Status {
        Status::from_run(Some(self.run()), ProcessObservation::Answered(MonitorAnswer::State(state)), false)
    }

    /// Returns the run state of QEMU.
    pub(crate) async fn run_state(&mut self) -> Result<RunState, QmpError> {
        run_state(&mut *self.session, self.app.timeouts().qmp).await
    }

    /// Returns the drives and other block devices that have a medium.
    pub(crate) async fn media(&mut self) -> Result<Vec<BlockMedium>, QmpError> {
        Ok(BlockMedium::from_reply(&self.query(&QmpCommand::new("query-block")).await?))
    }

    async fn version(&mut self) -> Result<QemuVersion, QmpError> {
        self.version_and_package().await.map(|(version, _)| version)
    }

    /// Returns the version of QEMU, and its build as it says itself.
    pub(crate) async fn version_and_package(&mut self) -> Result<(QemuVersion, String), QmpError> {
        let reply = self.query(&QmpCommand::new("query-version")).await?;
        let invalid = || QmpError::InvalidResponse { detail: format!("not a version: {reply}") };
        let version = QemuVersion::from_reply(&reply).ok_or_else(invalid)?;
        Ok((version, reply["package"].as_str().unwrap_or_default().to_owned()))
    }

    /// Returns the IDs of the devices that were hot-plugged.
    pub(crate) async fn added_devices(&mut self) -> Result<Vec<String>, Error> {
        let reply = self.query(&QmpCommand::new("qom-list").with("path", PERIPHERAL)).await?;
        let boot = BootDevices::from_args(&self.app.ports.processes.args(self.process()?));
        let added = children(&reply).into_iter().map(|(id, _)| id).filter(|id| !boot.has_device(id));
        Ok(added.collect())
    }

    /// Returns what the memory of the VM depends on.
    pub(crate) async fn fingerprint(&mut self) -> Result<Fingerprint, Error> {
        let version = self.version().await?;
        let reply = self.query(&QmpCommand::new("qom-list").with("path", PERIPHERAL)).await?;
        let devices = children(&reply).into_iter().map(|(id, driver)| PluggedDevice { id, driver });
        let args = self.app.ports.processes.args(self.process()?);
        Ok(Fingerprint::new(version, args.get(1..).unwrap_or_default(), &devices.collect::<Vec<_>>()))
    }

    /// Returns whether a medium is the image of a drive: that of a layer which was added while the VM runs, and the image
    /// into which one was merged, do not have the node of the drive until the next start.
    pub(crate) fn is_of_drive(&self, medium: &BlockMedium, machine: &Machine, drive: &str) -> bool {
        let storage = self.app.folders.vm_storage(&self.monitored.entry.name);
        machine.drive(drive).is_some_and(|spec| spec.path(&storage) == medium.file)
    }

    /// Returns the block nodes of the images of drives.
    async fn nodes_of(&mut self, tags: &[ImageTag]) -> Result<Vec<String>, QmpError> {
        let media = self.media().await?;
        let node = |tag: &ImageTag| {
            let is_named = media.iter().any(|medium| medium.node == tag.drive);
            let medium = media.iter().find(|medium| medium.file == tag.path && !is_named);
            medium.map_or_else(|| tag.drive.clone(), |medium| medium.node.clone())
        };
        Ok(tags.iter().map(node).collect())
    }

    /// Returns the writable drives that are qcow2 images and have a name that lasts: those of the definition, in its
    /// order, then the variables of UEFI.
    pub(crate) fn disks(&self, media: &[BlockMedium], machine: &Machine) -> Vec<LiveDisk> {
        let names = machine.storage.iter().map(|drive| drive.name.as_str()).chain([VARIABLES_NAME]);
        let disk = |name: &str| {
            let is_it = |medium: &&BlockMedium| self.is_of_drive(medium, machine, name);
            let medium = media.iter().find(|medium| medium.node == name).or_else(|| media.iter().find(is_it))?;
            // An overlay is lost at the end of the run, whatever the definition says by now.
            let is_usable = !medium.is_read_only && medium.format == "qcow2" && !RunPaths::is_overlay(&medium.file);
            is_usable.then(|| LiveDisk { name: name.to_owned(), path: medium.file.clone(), node: medium.node.clone() })
        };
        names.filter_map(disk).collect()
    }
}

async fn has_exited(app: &App, process: &ProcessIdentity) -> bool {
    app.ports.processes.wait_for_exit(process, limits::EXIT_GRACE).await
}

/// Returns the names of the block nodes of drives.
fn nodes(disks: &[LiveDisk]) -> Vec<Value> {
    disks.iter().map(|disk| Value::from(disk.node.as_str())).collect()
}
