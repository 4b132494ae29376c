//! A handle for one VM: the everyday operations as methods.

use serde_json::{Map, Value};

use crate::operation::{
    Info, Pause, PowerChanged, QmpRun, Removed, Reset, Restart, Restarted, Resume, Rm, SnapshotCreate, SnapshotDone,
    SnapshotInfo, SnapshotLoad, SnapshotLs, SnapshotRm, Start, Started, Status, Stop, Stopped, VmInfo, Wait, Waited,
};
use crate::{Condition, Error, Maqet, QmpArguments, VmStatus};

/// One VM of an instance, made by [`Maqet::vm`].
///
/// Each method runs the operation of its name with its defaults and returns the output and the errors of that
/// operation; to set anything else, pass the operation to [`Maqet::run`]. The handle holds no lock and no connection, and
/// the VM is looked up by every call, so it need not exist yet.
///
/// ```no_run
/// # async fn example(maqet: &maqet::Maqet) -> Result<(), maqet::Error> {
/// let web = maqet.vm("web");
/// web.start().await?;
/// web.wait_for([maqet::Condition::Port(22)]).await?;
/// println!("{}", web.qmp("query-status", serde_json::Map::new()).await?);
/// web.stop().await?;
/// web.snapshot_create("hdd", "clean").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct VmHandle<'a> {
    maqet: &'a Maqet,
    vm: String,
}

impl Maqet {
    /// Returns a handle for a VM: a name, an ID, or a unique prefix of an ID.
    pub fn vm(&self, vm: impl Into<String>) -> VmHandle<'_> {
        VmHandle { maqet: self, vm: vm.into() }
    }
}

impl VmHandle<'_> {
    /// Starts the VM, and returns once its monitor answers.
    pub async fn start(&self) -> Result<Started, Error> {
        self.maqet.run(Start::new(&self.vm)).await
    }

    /// Stops the VM: power-down first, then `quit`, SIGTERM and SIGKILL.
    pub async fn stop(&self) -> Result<Stopped, Error> {
        self.maqet.run(Stop::new(&self.vm)).await
    }

    /// Stops the VM and starts it again.
    pub async fn restart(&self) -> Result<Restarted, Error> {
        self.maqet.run(Restart::new(&self.vm)).await
    }

    /// Pauses the VM.
    pub async fn pause(&self) -> Result<PowerChanged, Error> {
        self.maqet.run(Pause::new(&self.vm)).await
    }

    /// Resumes the VM.
    pub async fn resume(&self) -> Result<PowerChanged, Error> {
        self.maqet.run(Resume::new(&self.vm)).await
    }

    /// Resets the VM, as the reset button of a PC does.
    pub async fn reset(&self) -> Result<PowerChanged, Error> {
        self.maqet.run(Reset::new(&self.vm)).await
    }

    /// Removes the VM, which must be stopped; its disks stay.
    pub async fn rm(&self) -> Result<Removed, Error> {
        self.maqet.run(Rm::new(&self.vm)).await
    }

    /// Returns the state of the VM.
    pub async fn status(&self) -> Result<VmStatus, Error> {
        self.maqet.run(Status::new(&self.vm)).await
    }

    /// Returns the definition of the VM.
    pub async fn info(&self) -> Result<VmInfo, Error> {
        self.maqet.run(Info::new(self.vm.clone())).await
    }

    /// Waits until all `conditions` are met, for at most the timeout of the settings.
    pub async fn wait_for(&self, conditions: impl IntoIterator<Item = Condition>) -> Result<Waited, Error> {
        let conditions = conditions.into_iter().collect();
        self.maqet.run(Wait::new(self.vm.clone(), conditions)).await
    }

    /// Runs a QMP command, whose arguments are checked with the schema of this QEMU, and returns its result.
    pub async fn qmp(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        self.maqet.run(QmpRun::new(&self.vm, command).arguments(QmpArguments::Json(arguments))).await
    }

    /// Creates a snapshot of a drive; the VM must be stopped.
    pub async fn snapshot_create(&self, drive: &str, name: &str) -> Result<SnapshotDone, Error> {
        self.maqet.run(SnapshotCreate::new(&self.vm, drive, name)).await
    }

    /// Restores a drive from a snapshot; the VM must be stopped.
    pub async fn snapshot_load(&self, drive: &str, name: &str) -> Result<SnapshotDone, Error> {
        self.maqet.run(SnapshotLoad::new(&self.vm, drive, name)).await
    }

    /// Removes a snapshot of a drive; the VM must be stopped.
    pub async fn snapshot_rm(&self, drive: &str, name: &str) -> Result<SnapshotDone, Error> {
        self.maqet.run(SnapshotRm::new(&self.vm, drive, name)).await
    }

    /// Returns the snapshots of all drives.
    pub async fn snapshot_ls(&self) -> Result<Vec<SnapshotInfo>, Error> {
        self.maqet.run(SnapshotLs::new(&self.vm)).await
    }
}
