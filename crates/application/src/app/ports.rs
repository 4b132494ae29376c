//! What the application needs from the outside world, and where files of VMs are.

use std::path::PathBuf;
use std::sync::Arc;

use maqet_domain::port::{
    BackupImages, BackupStore, Builds, CheckpointFiles, Clock, Consoles, Databases, Dialer, DiskImages,
    FirmwareCatalog, GuestAgents, GuestPorts, Hooks, Host, HostFiles, Hypervisor, IdSource, ImageTools, Journal, Locks,
    MetricStore, Monitors, Paths, Pictures, ProcessStats, Processes, Records, Schemas, SshClients, Store, Trash,
};
use maqet_domain::vm::{BootNumber, RunPaths, VmEntry, VmId, VmName};

use crate::maintenance::Maintenance;

/// The ports, each implemented by an adapter.
#[derive(Clone)]
pub struct Ports {
    /// Stores VMs, history and events.
    pub store: Arc<dyn Store>,
    /// Finds other databases.
    pub databases: Arc<dyn Databases>,
    /// Starts QEMU.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Sends QMP commands to running VMs.
    pub monitors: Arc<dyn Monitors>,
    /// Caches QMP schemas by QEMU build.
    pub schemas: Arc<dyn Schemas>,
    /// Lists the device types of QEMU builds.
    pub builds: Arc<dyn Builds>,
    /// Identifies and signals processes.
    pub processes: Arc<dyn Processes>,
    /// Resolves paths.
    pub paths: Arc<dyn Paths>,
    /// Finds installed firmware.
    pub firmware: Arc<dyn FirmwareCatalog>,
    /// Reads logs and records of runs.
    pub records: Arc<dyn Records>,
    /// Reads and converts pictures of screens.
    pub pictures: Arc<dyn Pictures>,
    /// Attaches to serial consoles.
    pub consoles: Arc<dyn Consoles>,
    /// Talks with the agents of guests.
    pub agents: Arc<dyn GuestAgents>,
    /// Connects to the streams of commands in guests.
    pub guest_ports: Arc<dyn GuestPorts>,
    /// Runs commands in guests by SSH.
    pub ssh: Arc<dyn SshClients>,
    /// Reads and writes what is copied into guests and from there.
    pub host_files: Arc<dyn HostFiles>,
    /// Appends to the log of each VM.
    pub journal: Arc<dyn Journal>,
    /// Keeps metrics.
    pub metrics: Arc<dyn MetricStore>,
    /// Measures processes.
    pub stats: Arc<dyn ProcessStats>,
    /// Connects to servers in guests.
    pub dialer: Arc<dyn Dialer>,
    /// Runs the user's hooks.
    pub hooks: Arc<dyn Hooks>,
    /// Creates and reads disk images.
    pub images: Arc<dyn DiskImages>,
    /// Keeps images of removed VMs.
    pub trash: Arc<dyn Trash>,
    /// Checks, copies, converts and resizes disk images.
    pub image_tools: Arc<dyn ImageTools>,
    /// Keeps backups.
    pub backups: Arc<dyn BackupStore>,
    /// Keeps checkpoints.
    pub checkpoints: Arc<dyn CheckpointFiles>,
    /// Creates images of backups, and changes bitmaps of disks.
    pub backup_images: Arc<dyn BackupImages>,
    /// Locks across processes.
    pub locks: Arc<dyn Locks>,
    /// Returns the date.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub ids: Arc<dyn IdSource>,
    /// Describes the host.
    pub host: Arc<dyn Host>,
    /// What `doctor` and `cleanup` need.
    pub maintenance: Maintenance,
}

/// Where files of VMs are; absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Disks without a path in their definition, one directory per VM.
    pub storage: PathBuf,
    /// Backups without another directory, one directory per VM.
    pub backups: PathBuf,
    /// Checkpoints of running VMs, one directory per VM.
    pub checkpoints: PathBuf,
    /// Sockets of running VMs; private, with a short path.
    pub runtime: PathBuf,
    /// Logs and records of runs.
    pub state: PathBuf,
    /// What can be made again.
    pub cache: PathBuf,
}

impl Directories {
    /// Returns the directory of the disks of a VM that have no path in its definition.
    pub fn vm_storage(&self, name: &VmName) -> PathBuf {
        self.storage.join(name.as_str())
    }

    /// Returns the directory of the checkpoints of a VM.
    pub fn vm_checkpoints(&self, id: &VmId) -> PathBuf {
        self.checkpoints.join(id.to_string())
    }

    /// Returns the directory of a VM's sockets.
    pub fn vm_sockets(&self, id: &VmId) -> PathBuf {
        self.runtime.join(id.short())
    }

    /// Returns the directory of a VM's records.
    pub fn vm_records(&self, id: &VmId) -> PathBuf {
        self.state.join(id.to_string())
    }

    /// Returns the private key for SSH that was made for a VM; its public key is beside it.
    pub fn vm_key(&self, id: &VmId) -> PathBuf {
        self.vm_records(id).join("ssh-key")
    }

    /// Returns the paths of one run of a VM.
    pub fn run(&self, id: &VmId, boot: BootNumber) -> RunPaths {
        RunPaths::new(&self.vm_sockets(id), &self.vm_records(id), boot)
    }

    /// Returns the number and the paths of the VM's next run.
    pub fn next_run(&self, entry: &VmEntry) -> (BootNumber, RunPaths) {
        let boot = BootNumber::after(entry.run.as_ref().map(|run| run.boot));
        (boot, self.run(&entry.id, boot))
    }
}
